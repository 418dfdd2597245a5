//! The `siltstone` program (feature `cli`): one file per verb.
//!
//! What all verbs have in common:
//!
//! - Exit code 0: all is well. 1: the answer is no (the key is absent, damage was found). 2: wrong
//!   use, or something failed; one line on standard error says what, where, and what to do.
//!   130: stopped by Ctrl-C, with everything that was reported on disk.
//! - `--json` prints for machines; nothing but the answer is written to standard output, and what
//!   JSON has no form for, NaN and the infinities, is null.
//! - Those that change a store are `ingest`, `import`, `compact`, `repair`, `restore`, and of
//!   `snapshots` those that record, drop and roll back. All others open it for reading only, so
//!   they work beside a writer and see the state at the time of the open.
//! - A reader of standard output that goes away (`siltstone dump DIR | head`) ends the program
//!   quietly.

mod backup;
mod bar;
mod chat;
mod check;
mod compact;
mod dump;
mod export;
mod failure;
mod file_names;
mod get;
mod graph;
mod import;
mod ingest;
mod inspect;
mod list;
mod output;
mod query;
mod repair;
mod restore;
mod snapshots;
mod stats;
mod tail;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::ErrorKind;

use crate::engine::{Db, Options};
use crate::kv::LogKv;
use crate::transfer::{refuse_persisted, undo_cut_import};
use failure::{Failure, warn};
use output::Output;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "siltstone", version, about = "Turns text into a durable document store")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Put files, directories, JSONL records or standard input into a store
    Ingest(ingest::Args),
    /// Put what LlamaIndex persisted into a store, all of it or nothing
    Import(import::Args),
    /// Write a directory that LlamaIndex loads; exit code 1 if no file can be named after a vector
    /// store, which is left out
    Export(export::Args),
    /// Print the value of a key; exit code 1 if it is absent
    Get(get::Args),
    /// Print the collections, or the keys of one
    List(list::Args),
    /// Print the messages of a conversation, or the conversations; exit code 1 if there is none
    Chat(chat::Args),
    /// Print keys and values as JSON, one per line, in the order of the log
    Dump(dump::Args),
    /// Print the rows of a vector store that are nearest to an embedding; exit code 1 if it is not
    /// there or has no rows
    Query(query::Args),
    /// Print what is reached from a node of the graph and of the property graph
    Graph(graph::Args),
    /// List, record, drop and compare durable snapshots, and go back to one
    Snapshots(snapshots::Args),
    /// Print what the store holds and what it costs
    Stats(stats::Args),
    /// Show segments, frames and records as they stand in the files, damaged or not
    Inspect(inspect::Args),
    /// Make a damaged store one that opens; exit code 1 if something is lost
    Repair(repair::Args),
    /// Verify every byte; exit code 1 if there is damage
    Check(check::Args),
    /// Give back the space of what was overwritten and deleted
    Compact(compact::Args),
    /// Back up a store, also while it is written to; later ones into the same target move what is
    /// new
    Backup(backup::Args),
    /// Make a store out of a backup, and verify every byte of it; exit code 1 if there is damage
    Restore(restore::Args),
    /// Print the batches that were committed, in their order
    Tail(tail::Args),
}

/// The store that a verb reads.
#[derive(Debug, clap::Args)]
struct StoreArg {
    /// The store's directory
    #[arg(value_name = "DIR", value_parser = directory())]
    dir: PathBuf,
}

/// Takes a path that is, or may become, a directory.
fn directory() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.is_file() {
        true => Err("a file, not the directory of a store"),
        false => Ok(path),
    })
}

/// The store that a verb reads records of, and when.
#[derive(Debug, clap::Args)]
struct ReadArg {
    #[command(flatten)]
    store: StoreArg,
    /// The time now, in the unit of the store's expiring records: what has expired by then is not
    /// shown; default: the time that the store was last told of
    #[arg(long, value_name = "T", default_value_t = 0, hide_default_value = true)]
    time: u64,
}

impl ReadArg {
    /// Opens the store beside whoever may be writing it.
    fn open(&self) -> Result<Db, Failure> {
        open_whole(read_only().time(self.time), &self.store.dir)
    }
}

/// How a verb ended, if it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is well.
    Yes,
    /// The answer is no.
    No,
    /// Stopped by Ctrl-C.
    Interrupted,
}

/// Runs the program on the arguments of the process; prints, and returns the exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Nobody is left to tell that the help could not be printed.
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            Failure::usage(&e).report();
            return ExitCode::from(2);
        }
    };
    let mut out = Output::new(cli.json);
    let done = match &cli.verb {
        Verb::Ingest(args) => ingest::run(args, &mut out),
        Verb::Import(args) => import::run(args, &mut out),
        Verb::Export(args) => export::run(args, &mut out),
        Verb::Get(args) => get::run(args, &mut out),
        Verb::List(args) => list::run(args, &mut out),
        Verb::Chat(args) => chat::run(args, &mut out),
        Verb::Dump(args) => dump::run(args, &mut out),
        Verb::Query(args) => query::run(args, &mut out),
        Verb::Graph(args) => graph::run(args, &mut out),
        Verb::Snapshots(args) => snapshots::run(args, &mut out),
        Verb::Stats(args) => stats::run(args, &mut out),
        Verb::Inspect(args) => inspect::run(args, &mut out),
        Verb::Repair(args) => repair::run(args, &mut out),
        Verb::Check(args) => check::run(args, &mut out),
        Verb::Compact(args) => compact::run(args, &mut out),
        Verb::Backup(args) => backup::run(args, &mut out),
        Verb::Restore(args) => restore::run(args, &mut out),
        Verb::Tail(args) => tail::run(args, &mut out),
    };
    match done.and_then(|outcome| out.finish().map(|()| outcome)) {
        Ok(Outcome::Yes) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(failure) => {
            failure.report();
            ExitCode::from(2)
        }
    }
}

/// Opens a store beside whoever may be writing it.
fn open_read_only(dir: &Path) -> Result<Db, Failure> {
    open(read_only(), dir)
}

fn read_only() -> Options {
    Options::new().read_only(true).create(false)
}

/// As [`open`], for verbs that read or write records: what an import that was cut off left is
/// undone, with a remark, or refused if the store is opened for reading only.
fn open_whole(options: Options, dir: &Path) -> Result<Db, Failure> {
    let db = open(options, dir)?;
    let undone = undo_cut_import(&LogKv::new(db.clone()));
    if let Some(undone) = undone.map_err(|e| Failure::of(dir.display(), e))? {
        let (dir, part) = (dir.display(), undone.part);
        warn(&format!(
            "an import into {dir} that was cut off was undone; its part is in snapshot {part}, \
             until `siltstone snapshots drop {dir} {part}`"
        ));
    }
    Ok(db)
}

/// Opens a store, and says so if LlamaIndex's files are there instead of one.
fn open(options: Options, dir: &Path) -> Result<Db, Failure> {
    refuse_persisted(dir, &options)?;
    Ok(options.open(dir)?)
}

/// The failure of a verb that was asked for a collection that is not there. The answer is no.
fn no_such_collection(db: &Db, name: &str, dir: &Path) -> Outcome {
    let names: Vec<String> =
        db.collections().iter().map(|(name, _)| format!("\"{}\"", name.escape_debug())).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let (name, dir) = (name.escape_debug(), dir.display());
    warn(&format!("there is no collection \"{name}\" in {dir}; there are: {there}"));
    Outcome::No
}
