//! `siltstone check DIR`.

use super::failure::Failure;
use super::output::{Output, bytes, object, plural};
use super::{Outcome, StoreArg};
use crate::engine::{CheckReport, Corruption, OpenError, Options};
use crate::kv::{Map, Value};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let opened = Options::new().read_only(true).create(false).open(&args.store.dir);
    let (report, notes) = match opened {
        Ok(db) => (db.check()?, db.recovery_report().notes.clone()),
        // Damage so bad that the open refuses is what was asked for.
        Err(OpenError::Corrupt(defect)) => (damaged(defect), Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    if out.is_json() {
        out.value(&to_json(&report, &notes).into())?;
    } else {
        print(&report, &notes, out)?;
    }
    Ok(if report.is_ok() { Outcome::Yes } else { Outcome::No })
}

/// The report on a store that cannot be opened.
fn damaged(defect: Corruption) -> CheckReport {
    CheckReport { defect_count: 1, defects: vec![defect], ..CheckReport::default() }
}

fn print(report: &CheckReport, notes: &[String], out: &mut Output) -> Result<(), Failure> {
    for defect in &report.defects {
        out.line(&format!("damage: {defect}"))?;
    }
    let unlisted = report.defect_count - report.defects.len() as u64;
    if unlisted > 0 {
        out.line(&format!("damage: {} more", plural(unlisted, "place")))?;
    }
    for note in notes {
        out.line(&format!("note: {note}"))?;
    }
    let verdict = match report.defect_count {
        0 => "ok".to_owned(),
        n => plural(n, "place").to_string() + " damaged",
    };
    out.line(&format!(
        "{verdict}: verified {} in {}: {}, {}, {}",
        bytes(report.bytes),
        plural(report.segments, "segment"),
        plural(report.frames, "frame"),
        plural(report.records, "record"),
        plural(report.keys, "key"),
    ))
}

fn to_json(report: &CheckReport, notes: &[String]) -> Map {
    let defect = |defect: &Corruption| {
        Value::from(object([
            ("file", defect.file.display().to_string().into()),
            ("offset", defect.offset.into()),
            ("what", defect.what.as_str().into()),
        ]))
    };
    let notes: Vec<Value> = notes.iter().map(|note| note.as_str().into()).collect();
    object([
        ("ok", report.is_ok().into()),
        ("segments", report.segments.into()),
        ("frames", report.frames.into()),
        ("records", report.records.into()),
        ("keys", report.keys.into()),
        ("bytes", report.bytes.into()),
        ("defect_count", report.defect_count.into()),
        ("defects", report.defects.iter().map(defect).collect::<Vec<_>>().into()),
        ("notes", notes.into()),
    ])
}
