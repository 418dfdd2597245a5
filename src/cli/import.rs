//! `siltstone import LLAMA_DIR --store DIR`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::bar::Bar;
use super::failure::{Failure, warn};
use super::file_names::NamesArgs;
use super::output::{Output, count, object, one_line, plural};
use super::snapshots::keeping_all;
use super::{Outcome, directory, open_whole};
use crate::kv::{LogKv, Map, Value};
use crate::transfer::{
    DirSource, FileReport, Ignored, Import, ImportOptions, ImportReport, Left, Listed, Problem,
    TransferError,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A directory that LlamaIndex persisted into, or one of its files
    #[arg(value_name = "LLAMA_DIR")]
    from: PathBuf,
    /// The store's directory; made if it is not there
    #[arg(long, value_name = "DIR", value_parser = directory())]
    store: PathBuf,
    /// Take what is whole of files that are not, and report the rest; exit code 1 if there is any
    #[arg(long)]
    salvage: bool,
    /// Replace what the store holds of the same stores and namespaces
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    names: NamesArgs,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let what = args.from.display();
    let single = args.from.file_name().and_then(OsStr::to_str).filter(|_| args.from.is_file());
    let failed_with = |words: &str| {
        // A file that is imported alone is named by its path.
        let rest = single.and_then(|name| words.strip_prefix(name)?.strip_prefix(": "));
        Failure::of(&what, rest.unwrap_or(words))
    };
    let failed = |e: TransferError| failed_with(&e.for_program());
    let source = DirSource::new(&args.from);
    let options = ImportOptions::new().salvage(args.salvage).replace(args.replace);
    let options = options.names(args.names.names());
    let bar = Bar::new(0);
    let mut show = |done, total| bar.show(done, total, String::new);
    // Before the store is opened: if nothing can be imported, none is made.
    let import = Import::check(&source, options, &mut show).map_err(failed)?;
    let is_new = !is_there(&args.store);
    let db = open_whole(keeping_all(), &args.store)?;
    let written = import.write_to_log(&LogKv::new(db.clone()), &mut show);
    let report = written.map_err(|e| match e {
        TransferError::Broken { left: Left::AsItWas, .. } if is_new => {
            let words = e.for_program();
            let words = words.strip_suffix(&Left::AsItWas.to_string()).unwrap_or(&words);
            failed_with(&format!("{words}the store that was made for it is empty"))
        }
        e => failed(e),
    })?;
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
    for file in &report.files {
        for line in lines(&file.problems) {
            warn(&format!("{}: not taken: {line}", file.name));
        }
        if file.unread > 0 {
            let (all, rest) = (count(file.len), count(file.unread));
            warn(&format!("{}: not taken: the last {rest} of {all} bytes", file.name));
        }
    }
    Ok(Outcome::No)
}

/// True if there is something in the directory.
fn is_there(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn in_words(report: &ImportReport, out: &mut Output) -> Result<(), Failure> {
    let (records, files) = (report.records(), report.files.len() as u64);
    let all = format!("imported {} of {}", plural(records, "record"), plural(files, "file"));
    out.line(&all)?;
    for FileReport { name, kind, records, .. } in &report.files {
        out.line(&format!("{:>12}  {kind:<22} {}", count(*records), one_line(name)))?;
    }
    for FileReport { name, left_out, .. } in &report.files {
        for line in lines(left_out) {
            out.line(&format!("not imported: {}: {line}", one_line(name)))?;
        }
    }
    for Ignored { name, why } in &report.ignored {
        out.line(&format!("not imported: {}: {why}", one_line(name)))?;
    }
    Ok(())
}

/// What is listed, a line for each, and how much more there is.
fn lines(listed: &Listed) -> impl Iterator<Item = String> {
    let line = |problem: &Problem| format!("byte {}: {}", problem.byte, problem.what);
    let others = Some(listed.others()).filter(|others| *others > 0);
    let more = others.map(|others| format!("{} more", count(others)));
    listed.first.iter().map(line).chain(more)
}

fn to_json(report: &ImportReport) -> Map {
    let file = |file: &FileReport| -> Value {
        let listed = |listed: &Listed| -> Value {
            let problem = |problem: &Problem| -> Value {
                let what = problem.what.as_str();
                object([("byte", problem.byte.into()), ("what", what.into())]).into()
            };
            listed.first.iter().map(problem).collect::<Vec<_>>().into()
        };
        object([
            ("name", file.name.as_str().into()),
            ("kind", file.kind.into()),
            ("bytes", file.len.into()),
            ("records", file.records.into()),
            ("problems", listed(&file.problems)),
            ("problems_count", file.problems.count.into()),
            ("unread_bytes", file.unread.into()),
            ("left_out", listed(&file.left_out)),
            ("left_out_count", file.left_out.count.into()),
        ])
        .into()
    };
    let ignored = report.ignored.iter().map(|Ignored { name, why }| -> Value {
        object([("name", name.as_str().into()), ("why", why.as_str().into())]).into()
    });
    object([
        ("records", report.records().into()),
        ("complete", report.is_whole().into()),
        ("files", report.files.iter().map(file).collect::<Vec<_>>().into()),
        ("ignored", ignored.collect::<Vec<_>>().into()),
    ])
}
