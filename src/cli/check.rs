//! `siltstone check DIR`.

use std::ops::ControlFlow;
use std::path::Path;

use super::bar::Bar;
use super::failure::Failure;
use super::output::{Output, bytes, key_field, object, plural};
use super::repair::with_bar;
use super::{Outcome, StoreArg};
use crate::engine::{
    CheckOptions, CheckReport, Db, Defect, OpenError, Options, RepairOptions, repair,
};
use crate::kv::{Map, Value};
use crate::transfer::refuse_persisted;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Read at most this many MiB a second, to leave the disk to others
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    rate: Option<u64>,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let (report, notes) = look(&args.store.dir, args.rate)?;
    if out.is_json() {
        out.value(&to_json(&report, &notes).into())?;
    } else {
        print(&report, &notes, out)?;
    }
    Ok(if report.is_ok() { Outcome::Yes } else { Outcome::No })
}

/// Opens a store and checks it; returns the notes of the open as well.
pub(super) fn look(dir: &Path, rate: Option<u64>) -> Result<(CheckReport, Vec<String>), Failure> {
    let options = Options::new().read_only(true).create(false);
    refuse_persisted(dir, &options)?;
    let opened = options.open(dir);
    let (report, notes) = match opened {
        Ok(db) => (check(&db, rate)?, db.recovery_report().notes.clone()),
        // Damage so bad that the open refuses is what was asked for.
        Err(OpenError::Corrupt(defect)) => (damaged(dir, Some(defect.into())), Vec::new()),
        Err(e @ OpenError::Missing { .. }) => match damaged(dir, None) {
            found if found.is_ok() => return Err(e.into()),
            // All but its manifest is there.
            found => (found, Vec::new()),
        },
        Err(e) => return Err(e.into()),
    };
    Ok((report, notes.iter().map(ToString::to_string).collect()))
}

/// Checks an open store, with a bar on a terminal.
fn check(db: &Db, rate: Option<u64>) -> Result<CheckReport, Failure> {
    let bar = Bar::new(0);
    let mut options = CheckOptions::new().progress(|done| {
        bar.show(done.bytes, done.total_bytes, || match done.defects {
            0 => String::new(),
            n => plural(n, "place") + " damaged",
        });
        ControlFlow::Continue(())
    });
    if let Some(rate) = rate {
        options = options.bytes_per_second(rate << 20);
    }
    Ok(db.check_with(options)?)
}

/// The report on a store that cannot be opened: what the open refused, and everything else that a
/// repair would find.
fn damaged(dir: &Path, refused: Option<Defect>) -> CheckReport {
    let found = repair(dir, &with_bar(RepairOptions::new().dry_run(true)));
    let mut defects = found.map(|report| report.damage).unwrap_or_default();
    // The repair looks at everything, and knows more of each place than the open that gave up.
    if defects.is_empty() {
        defects.extend(refused);
    }
    CheckReport { defect_count: defects.len() as u64, defects, ..CheckReport::default() }
}

pub(super) fn print(
    report: &CheckReport,
    notes: &[String],
    out: &mut Output,
) -> Result<(), Failure> {
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
    if !report.is_complete && !report.is_ok() {
        let help = "`siltstone repair --dry-run` says what can be saved";
        return out.line(&format!("{verdict}: the store does not open; {help}"));
    }
    out.line(&format!(
        "{verdict}: verified {} in {}: {}, {}, {}",
        bytes(report.bytes),
        plural(report.segments, "segment"),
        plural(report.frames, "frame"),
        plural(report.records, "record"),
        plural(report.keys, "key"),
    ))
}

pub(super) fn to_json(report: &CheckReport, notes: &[String]) -> Map {
    let notes: Vec<Value> = notes.iter().map(|note| note.as_str().into()).collect();
    object([
        ("ok", report.is_ok().into()),
        ("segments", report.segments.into()),
        ("frames", report.frames.into()),
        ("records", report.records.into()),
        ("keys", report.keys.into()),
        ("bytes", report.bytes.into()),
        ("defect_count", report.defect_count.into()),
        ("defects", report.defects.iter().map(defect_to_json).collect::<Vec<_>>().into()),
        ("notes", notes.into()),
    ])
}

/// A defect; what is not known about it is left out.
pub(super) fn defect_to_json(defect: &Defect) -> Value {
    let mut shown = object([
        ("file", defect.file.display().to_string().into()),
        ("offset", defect.offset.into()),
        ("what", defect.what.as_str().into()),
    ]);
    if let Some(seqno) = defect.seqno {
        shown.set("seqno", seqno);
    }
    if let Some(name) = &defect.collection {
        shown.set("collection", name.as_str());
    }
    if let Some(key) = &defect.key {
        let (name, key) = key_field("key", key);
        shown.insert(name, key);
    }
    if let Some(system) = &defect.system {
        shown.set("system", system.as_str());
    }
    shown.into()
}
