//! `siltstone repair DIR`.

use super::bar::Bar;
use super::check::defect_to_json;
use super::failure::Failure;
use super::output::{Output, key_field, object, plural};
use super::{Outcome, StoreArg};
use crate::engine::{
    After, LostKey, LostRange, LostRecord, RepairOptions, RepairReport, UnsureRecord, repair,
};
use crate::kv::{Map, Value};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Say what would be done and lost, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The name of a collection whose name may be lost, as ID=NAME; can be given several times
    #[arg(long, value_name = "ID=NAME", value_parser = parse_name)]
    name: Vec<(u32, String)>,
}

fn parse_name(text: &str) -> Result<(u32, String), String> {
    let (id, name) = text.split_once('=').ok_or("written ID=NAME")?;
    let id = id.parse().map_err(|e| format!("ID {id:?}: {e}"))?;
    Ok((id, name.to_owned()))
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let mut options = RepairOptions::new().dry_run(args.dry_run);
    for (id, name) in &args.name {
        options = options.collection_name(*id, name.as_str());
    }
    let report = repair(&args.store.dir, &with_bar(options))?;
    if out.is_json() {
        out.value(&to_json(&report, args.dry_run).into())?;
    } else {
        print(&report, args.dry_run, out)?;
    }
    let is_sure = report.is_lossless() && !report.may_miss_segments;
    Ok(if is_sure { Outcome::Yes } else { Outcome::No })
}

/// Options that show how far the work is, on a terminal.
pub(super) fn with_bar(options: RepairOptions) -> RepairOptions {
    let bar = Bar::new(0);
    options.progress(move |done| {
        bar.show(done.bytes_done, done.bytes_total, || match done.is_proving {
            false => "read".to_owned(),
            true => "checked".to_owned(),
        });
    })
}

fn print(report: &RepairReport, dry_run: bool, out: &mut Output) -> Result<(), Failure> {
    for line in report.to_string().lines() {
        out.line(line)?;
    }
    for earlier in &report.earlier_reports {
        out.line(&format!("note: an earlier repair has left {}", earlier.display()))?;
    }
    let done = match (report.is_changed, dry_run) {
        (false, _) => "ok: nothing to repair".to_owned(),
        (true, true) => format!("would be repaired: {}", losses(report)),
        (true, false) => format!("repaired: {}", losses(report)),
    };
    out.line(&done)
}

fn losses(report: &RepairReport) -> String {
    match (report.is_lossless(), report.may_miss_segments) {
        (true, false) => return "nothing is lost".to_owned(),
        (true, true) => return "nothing is known to be lost, see the note".to_owned(),
        (false, _) => {}
    }
    let records = plural(report.lost.len() as u64, "record");
    let ranges = plural(report.lost_ranges.len() as u64, "range");
    let unsure = plural(report.unsure.len() as u64, "record");
    format!("{records} and {ranges} of sequence numbers lost, {unsure} unsure")
}

fn to_json(report: &RepairReport, dry_run: bool) -> Map {
    let paths = |paths: &[std::path::PathBuf]| {
        Value::from(paths.iter().map(|p| p.display().to_string().into()).collect::<Vec<_>>())
    };
    let batches = report.incomplete_batches.iter().map(|batch| {
        let fields = [("first", batch.first), ("next", batch.next), ("lost", batch.lost)];
        Value::from(object(fields.map(|(name, number)| (name, number.into()))))
    });
    let notes: Vec<Value> = report.notes.iter().map(|note| note.as_str().into()).collect();
    let mut shown = object([
        ("ok", report.is_ok().into()),
        ("changed", (report.is_changed && !dry_run).into()),
        ("lossless", report.is_lossless().into()),
        ("may_miss_segments", report.may_miss_segments.into()),
        ("kept_records", report.kept_records.into()),
        ("damage", report.damage.iter().map(defect_to_json).collect::<Vec<_>>().into()),
        ("lost", report.lost.iter().map(lost_to_json).collect::<Vec<_>>().into()),
        ("lost_ranges", report.lost_ranges.iter().map(range_to_json).collect::<Vec<_>>().into()),
        ("unsure", report.unsure.iter().map(unsure_to_json).collect::<Vec<_>>().into()),
        ("incomplete_batches", batches.collect::<Vec<_>>().into()),
        ("notes", notes.into()),
        ("quarantined", paths(&report.quarantined)),
        ("written", paths(&report.written)),
        ("earlier_reports", paths(&report.earlier_reports)),
    ]);
    if let Some(from) = report.cut_from {
        shown.set("cut_from", from);
    }
    if let Some(path) = &report.report_file {
        shown.set("report_file", path.display().to_string());
    }
    shown
}

fn lost_to_json(lost: &LostRecord) -> Value {
    let mut shown = object([
        ("seqno", lost.seqno.into()),
        ("kind", lost.kind.to_string().into()),
        ("collection", lost.collection.as_str().into()),
        ("file", lost.file.display().to_string().into()),
        ("offset", lost.offset.into()),
    ]);
    if let LostKey::Sure(key) | LostKey::Unsure(key) = &lost.key {
        let (name, value) = key_field("key", key);
        shown.insert(name, value);
        shown.set("key_is_sure", matches!(lost.key, LostKey::Sure(_)));
    }
    if let Some(system) = &lost.system {
        shown.set("system", system.as_str());
    }
    let after = match lost.after {
        After::Same => "same",
        After::Absent => "absent",
        After::Older(seqno) => {
            shown.set("older_seqno", seqno);
            "older"
        }
        After::Unknown => "unknown",
    };
    shown.set("after", after);
    shown.into()
}

fn range_to_json(range: &LostRange) -> Value {
    let mut shown = object([("first", range.first.into()), ("what", range.what.as_str().into())]);
    if let Some(next) = range.next {
        shown.set("next", next);
    }
    if let Some(max) = range.records_max {
        shown.set("records_max", max);
    }
    shown.into()
}

fn unsure_to_json(unsure: &UnsureRecord) -> Value {
    let mut shown = object([
        ("seqno", unsure.seqno.into()),
        ("collection", unsure.collection.as_str().into()),
        ("what", unsure.what.as_str().into()),
    ]);
    let (name, value) = key_field("key", &unsure.key);
    shown.insert(name, value);
    if let Some(system) = &unsure.system {
        shown.set("system", system.as_str());
    }
    shown.into()
}
