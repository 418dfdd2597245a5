//! `siltstone import LLAMA_DIR --store DIR`.

use std::path::PathBuf;

use super::Outcome;
use super::bar::Bar;
use super::failure::{Failure, warn};
use super::llama_dir::DirSource;
use super::output::{Output, count, object, plural};
use crate::engine::Options;
use crate::kv::{LogKv, Map, Value};
use crate::transfer::{FileReport, Import, ImportOptions, ImportReport};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A directory that LlamaIndex persisted into, or one of its files
    #[arg(value_name = "LLAMA_DIR")]
    from: PathBuf,
    /// The store's directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Take what is whole of files that are not, and report the rest; exit code 1 if there is any
    #[arg(long)]
    salvage: bool,
    /// Replace what the store holds of the same stores and namespaces
    #[arg(long)]
    replace: bool,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let what = args.from.display();
    let failed = |e| Failure::of(&what, e);
    let source = DirSource::new(&args.from);
    let options = ImportOptions::new().salvage(args.salvage).replace(args.replace);
    let bar = Bar::new(0);
    let mut show = |done, total| bar.show(done, total, String::new);
    // Before the store is opened: if nothing can be imported, none is made.
    let import = Import::check(&source, options, &mut show).map_err(failed)?;
    let db = Options::new().open(&args.store)?;
    let report = import.write_to_log(&LogKv::new(db.clone()), &mut show).map_err(failed)?;
    db.close()?;
    drop(bar);
    if out.is_json() {
        out.value(&to_json(&report).into())?;
    } else {
        in_words(&report, out)?;
    }
    if report.is_whole() {
        return Ok(Outcome::Yes);
    }
    for file in report.files.iter().filter(|file| file.problems_count > 0) {
        for problem in &file.problems {
            warn(&format!("{}: not taken: byte {}: {}", file.name, problem.byte, problem.what));
        }
        let rest = file.problems_count - file.problems.len() as u64;
        if rest > 0 {
            warn(&format!("{}: not taken: {} more", file.name, plural(rest, "record")));
        }
    }
    Ok(Outcome::No)
}

fn in_words(report: &ImportReport, out: &mut Output) -> Result<(), Failure> {
    let (records, files) = (report.records(), report.files.len() as u64);
    let all = format!("imported {} of {}", plural(records, "record"), plural(files, "file"));
    out.line(&all)?;
    for FileReport { name, kind, records, .. } in &report.files {
        out.line(&format!("{:>12}  {kind:<22} {}", count(*records), name.escape_debug()))?;
    }
    if !report.ignored.is_empty() {
        let names: Vec<String> =
            report.ignored.iter().map(|name| name.escape_debug().to_string()).collect();
        out.line(&format!("not imported: {}", names.join(", ")))?;
    }
    Ok(())
}

fn to_json(report: &ImportReport) -> Map {
    let file = |file: &FileReport| -> Value {
        let problems = file.problems.iter().map(|problem| {
            Value::from(object([
                ("byte", problem.byte.into()),
                ("what", problem.what.as_str().into()),
            ]))
        });
        object([
            ("name", file.name.as_str().into()),
            ("kind", file.kind.into()),
            ("bytes", file.len.into()),
            ("records", file.records.into()),
            ("problems", problems.collect::<Vec<_>>().into()),
            ("problems_count", file.problems_count.into()),
        ])
        .into()
    };
    let ignored = report.ignored.iter().map(|name| Value::from(name.as_str()));
    object([
        ("records", report.records().into()),
        ("complete", report.is_whole().into()),
        ("files", report.files.iter().map(file).collect::<Vec<_>>().into()),
        ("ignored", ignored.collect::<Vec<_>>().into()),
    ])
}
