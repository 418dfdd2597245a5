//! `siltstone ingest PATH... --store DIR`: text becomes a document store.
//!
//! ```text
//! walk      what is there: sorted, so that a tree always gives the same store
//! source    one thread: groups files and records            (group.rs says what a group is)
//! stage     many threads: read, hash, judge, split, encode  (nodes.rs, split.rs, records.rs)
//! pipeline  one thread: commits group after group in order, counts what is acknowledged
//! report    what was done
//! ```
//!
//! **What is stored.** Each file or record is a document, replaced as a whole in one atomic batch:
//! the document itself under its id, and its chunks as text nodes `id#0000`, `id#0001` ... with
//! their source, their neighbours, and where they start and end in the text, in characters. A
//! file's id is its path as given, without `.` and doubled slashes.
//!
//! **What counts as changed.** The document's hash, which LlamaIndex computes of its text and
//! metadata. A file's document carries no metadata of its own: path, size and modification time
//! stand with its chunks and its ref doc. So the hash is one of the content alone, a file that is
//! only touched is unchanged, and `duplicates-only` finds equal files under other names. A record's
//! metadata is part of its document, and counts.
//!
//! **Killed at any moment** a run can be repeated: documents are whole or not there, those that
//! are there are unchanged and skipped.

mod group;
mod nodes;
mod pipeline;
mod progress;
mod records;
mod report;
mod source;
mod split;
mod stage;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::failure::{Failure, warn};
use super::output::{Output, plural};
use super::snapshots::{keeping_all, persist_unnamed};
use super::{Outcome, directory, open_whole};
use crate::engine::Durability;
use crate::kv::LogKv;
use crate::stores::{Deduplicator, DocstoreStrategy, DocumentStore};

use pipeline::Pipeline;
use progress::Progress;
use report::Report;
use split::Splitter;
pub(in crate::cli) use walk::rfc3339;

#[derive(Debug, clap::Args)]
#[command(after_help = walk::KINDS_HELP)]
pub(super) struct Args {
    /// Files and directories; - is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The store's directory; made if it is not there
    #[arg(long, value_name = "DIR", value_parser = directory())]
    store: PathBuf,
    /// What becomes of documents that are in the store already
    #[arg(long, value_enum, default_value_t)]
    strategy: Strategy,
    /// Most characters in a chunk
    #[arg(long, value_name = "CHARS", default_value_t = 1024)]
    chunk_size: usize,
    /// Characters that a chunk shares with the one before it
    #[arg(long, value_name = "CHARS", default_value_t = 128)]
    chunk_overlap: usize,
    /// When a document counts as stored
    #[arg(long, value_enum, default_value_t)]
    durability: Safety,
    /// Threads that read and split; default: one per core
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Most documents in one batch; a batch ends at 1 MiB of text too
    #[arg(long, value_name = "DOCUMENTS", default_value_t = 128)]
    batch: usize,
    /// What - holds: one text, or one JSON record per line
    #[arg(long, value_enum, default_value_t)]
    stdin_format: StdinFormat,
    /// Also read hidden files and those that .gitignore and .ignore leave out
    #[arg(long)]
    no_ignore: bool,
    /// Write unchanged documents again: after a change of --chunk-size or --chunk-overlap
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Strategy {
    /// Unchanged ones are skipped by their hash, changed ones replaced
    #[default]
    Upserts,
    /// As upserts; new ones whose content is stored under another id are skipped
    DuplicatesOnly,
    /// As upserts; documents of the store that are not in the input are deleted
    UpsertsAndDelete,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Safety {
    /// When its batch is on the device
    Sync,
    /// When its batch is handed to the system; all is on the device at the end
    #[default]
    Buffered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum StdinFormat {
    #[default]
    Text,
    Jsonl,
}

/// What all parts of a run share.
struct Run {
    store: DocumentStore,
    dedup: Deduplicator,
    splitter: Splitter,
    force: bool,
    batch: usize,
    durability: Durability,
    stop: Stop,
}

/// Set when the run is to end early: by Ctrl-C or by a failure.
#[derive(Clone, Default)]
struct Stop {
    interrupted: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.is_interrupted() || self.failed.load(Ordering::Relaxed)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Ctrl-C asks for an end; asked again, the process ends at once, which is safe too.
    fn on_ctrl_c(&self) -> Result<(), Failure> {
        let interrupted = Arc::clone(&self.interrupted);
        Ok(ctrlc::set_handler(move || {
            if interrupted.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })?)
    }
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let splitter = Splitter::new(args.chunk_size, args.chunk_overlap)?;
    if args.batch == 0 || args.jobs == Some(0) {
        return Err(Failure::new("--batch and --jobs must be at least 1"));
    }
    let walked = walk::walk(&args.paths, &args.store, args.no_ignore)?;
    let db = open_whole(keeping_all(), &args.store)?;
    let kv = LogKv::new(db.clone());
    let store = DocumentStore::new(Arc::new(kv));
    let strategy = match args.strategy {
        Strategy::Upserts => DocstoreStrategy::Upserts,
        Strategy::DuplicatesOnly => DocstoreStrategy::DuplicatesOnly,
        Strategy::UpsertsAndDelete => DocstoreStrategy::UpsertsAndDelete,
    };
    let stop = Stop::default();
    stop.on_ctrl_c()?;
    let run = Run {
        dedup: Deduplicator::new(&store, strategy)?,
        store,
        splitter,
        force: args.force,
        batch: args.batch,
        durability: match args.durability {
            Safety::Sync => Durability::Sync,
            Safety::Buffered => Durability::Buffered,
        },
        stop,
    };
    let jobs = args.jobs.or_else(|| Some(std::thread::available_parallelism().ok()?.get()));
    let pipeline = Pipeline {
        run: &run,
        db: &db,
        jobs: jobs.unwrap_or(1),
        stdin_format: args.stdin_format,
        progress: Progress::new(&walked),
    };
    let mut counts = walked.skipped.clone();
    let mut done = pipeline.run(&walked, &mut counts);
    if done.is_ok() && strategy == DocstoreStrategy::UpsertsAndDelete && !run.stop.is_set() {
        if walked.incomplete || counts.bad_records() > 0 {
            warn("nothing is deleted, since a part of the input could not be read");
        } else {
            done = pipeline.delete_vanished(&mut counts);
        }
    }
    pipeline.progress.finish();

    // Also after a failure: what was stored before it is to stay.
    let asked = Instant::now();
    // A run that has written nothing leaves no snapshot of its own.
    let persisted = match db.stats().appended_bytes {
        0 => db.sync(),
        _ => persist_unnamed(&db),
    };
    let report = Report {
        counts,
        store: args.store.display().to_string(),
        interrupted: run.stop.is_interrupted(),
        complete: done.is_ok(),
        persist: asked.elapsed(),
        elapsed: started.elapsed(),
        appended_bytes: db.stats().appended_bytes,
        syncs: db.stats().syncs,
    };
    drop(run);
    persisted?;
    db.close()?;
    report.print(out)?;
    // The summary comes first, then what went wrong.
    out.finish()?;
    done?;
    if report.interrupted {
        return Ok(Outcome::Interrupted);
    }
    let unread = [(report.counts.unreadable(), "file"), (report.counts.bad_records(), "record")];
    let unread: Vec<String> =
        unread.iter().filter(|(n, _)| *n > 0).map(|(n, noun)| plural(*n, noun)).collect();
    if unread.is_empty() {
        return Ok(Outcome::Yes);
    }
    Err(Failure::new(format!(
        "{} could not be read, see above; all else is stored, mend what is wrong and run again",
        unread.join(" and ")
    )))
}
