//! `siltstone export DIR LLAMA_DIR`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bar::Bar;
use super::failure::Failure;
use super::file_names::NamesArgs;
use super::output::{Output, bytes, count, object, one_line, plural};
use super::{Outcome, StoreArg, open_whole, read_only};
use crate::kv::{KvStore, LogKv, Value};
use crate::transfer::{DirTarget, ExportReport, ExportedFile, Ignored, export, refuse_store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// The directory for LlamaIndex to load, not one of a store; made if it is not there
    #[arg(value_name = "LLAMA_DIR")]
    target: PathBuf,
    /// Write into a directory that is not empty: files that LlamaIndex would load are replaced, or
    /// removed if the store has nothing for them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    names: NamesArgs,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let shown = args.target.display();
    let names = args.names.names();
    names.check().map_err(|e| Failure::of(&shown, e))?;
    refuse_store(&args.target).map_err(|e| Failure::of(&shown, e))?;
    if !args.force && !is_empty(&args.target)? {
        return Err(Failure::new(format!(
            "{shown} is not empty; nothing was written; --force replaces the files in it"
        )));
    }
    let kv: Arc<dyn KvStore> = Arc::new(LogKv::new(open_whole(read_only(), &args.store.dir)?));
    let mut target = DirTarget::new(&args.target).map_err(|e| Failure::of(&shown, e))?;
    let bar = Bar::of_records(0);
    let mut show = |done, total| bar.show(done, total, String::new);
    let report = export(&kv, &mut target, &names, &mut show).map_err(|e| Failure::of(&shown, e))?;
    drop(bar);
    if out.is_json() {
        let records: u64 = report.files.iter().map(|file| file.records).sum();
        let left_out = report.left_out.iter().map(|Ignored { name, why }| -> Value {
            object([("name", name.as_str().into()), ("why", why.as_str().into())]).into()
        });
        let answer = object([
            ("records", records.into()),
            ("complete", report.is_whole().into()),
            ("files", to_json(&report)),
            ("left_out", left_out.collect::<Vec<_>>().into()),
            ("warnings", texts(&report.warnings)),
            ("removed", texts(&report.removed)),
        ]);
        out.value(&answer.into())?;
    } else {
        in_words(&report, out)?;
    }
    Ok(if report.is_whole() { Outcome::Yes } else { Outcome::No })
}

/// True if the directory holds nothing, or is not there.
fn is_empty(dir: &Path) -> Result<bool, Failure> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Failure::of(dir.display(), e)),
    }
}

fn in_words(report: &ExportReport, out: &mut Output) -> Result<(), Failure> {
    let records: u64 = report.files.iter().map(|file| file.records).sum();
    let files = plural(report.files.len() as u64, "file");
    out.line(&format!("exported {} into {files}", plural(records, "record")))?;
    for ExportedFile { name, records, len, .. } in &report.files {
        let (records, len) = (count(*records), bytes(*len));
        out.line(&format!("{records:>12}  {len:>10}  {}", one_line(name)))?;
    }
    for Ignored { name, why } in &report.left_out {
        out.line(&format!("not exported: {}: {}", one_line(name), one_line(why)))?;
    }
    for name in &report.removed {
        let why = "LlamaIndex would load it, and the store has nothing for it";
        out.line(&format!("removed: {}: {why}", one_line(name)))?;
    }
    for warning in &report.warnings {
        out.line(&format!("warning: {warning}"))?;
    }
    Ok(())
}

fn texts(texts: &[String]) -> Value {
    texts.iter().map(|text| text.as_str().into()).collect::<Vec<Value>>().into()
}

fn to_json(report: &ExportReport) -> Value {
    let file = |file: &ExportedFile| -> Value {
        object([
            ("name", file.name.as_str().into()),
            ("bytes", file.len.into()),
            ("records", file.records.into()),
        ])
        .into()
    };
    report.files.iter().map(file).collect::<Vec<Value>>().into()
}
