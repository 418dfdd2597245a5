//! Makes a store that does not open, or that is found damaged, one that opens: at the price of
//! what the damage covered, and of nothing else.
//!
//! 1. *Survey*: everything in the directory is read and nothing is trusted. Records carry their own
//!    checksums, so that what stands beside the damage is told from what stands under it
//!    ([`crate::format::salvage`]).
//! 2. *Plan*: which segments stay as they are, which records of the others are kept, what is lost.
//!    Pure but for reading; a dry run ends here.
//! 3. *Carry out*: the damaged files are copied to the quarantine, byte for byte, with the report;
//!    what is whole in them goes to new compacted segments, with the sequence numbers it had; a new
//!    manifest lists what is whole; the old files are removed.
//! 4. *Prove*: the repaired store is opened and checked.
//!
//! Who is told what: [`RepairReport`] names each record that is lost or unsure. A batch of which a
//! part is lost is kept as far as it is whole, and reported ([`batches`]). A deletion that is lost
//! brings the older value of its key back, a put that is lost does the same: both are reported with
//! what a reader finds now.
//!
//! # The quarantine
//!
//! `quarantine/` in the store's directory. A repair that writes the segments `A` up to, not
//! including, `B` (at least one number is used up) puts there `A.NAME` for each damaged file `NAME`
//! (a segment, or `MANIFEST`), as it was found, and `A-B.txt`, its report in words, a line for each
//! thing. Nothing of the engine ever reads or removes these files, but for their names.

mod batches;
mod inspect;
mod plan;
mod report;
mod survey;
mod write;

use std::ops::{ControlFlow, Range};
use std::path::Path;

use super::backup::unfinished;
use super::check::CheckOptions;
use super::core::Core;
use super::db::Db;
use super::error::Corruption;
use super::open::{is_store_file, take_lock};
use super::options::Options;
use crate::format::checkpoint;
use crate::format::record::Kind;

pub use inspect::{InspectedRecord, InspectedSegment, Inspection, Item, inspect, inspect_segment};
pub use report::{
    After, IncompleteBatch, LostKey, LostRange, LostRecord, RecordKind, RepairError, RepairOptions,
    RepairProgress, RepairReport, UnsureRecord,
};

/// The directory in a store's directory where damaged files are kept.
const QUARANTINE: &str = "quarantine";

/// The name of the report of a repair that used these ids of segments.
fn report_name(first: u64, next: u64) -> String {
    format!("{first:016}-{next:016}.txt")
}

/// The ids in the name of a report; `None` for names of other files.
fn is_report_of(name: &str) -> Option<Range<u64>> {
    let (first, next) = name.strip_suffix(".txt")?.split_once('-')?;
    let number = |digits: &str| {
        let is_number = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit());
        if is_number { digits.parse().ok() } else { None }
    };
    Some(number(first)?..number(next)?)
}

/// Repairs the store in `dir`, which nobody may have open for writing. A store that is whole is
/// left as it is; what a crash leaves, such as a torn end, is no damage and is left to the open.
///
/// Killed at any moment and run again it ends the same.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # siltstone::Db::open(dir.path())?.put("c", b"key", b"value")?;
/// use siltstone::engine::{RepairOptions, repair};
///
/// let report = repair(dir.path(), &RepairOptions::new())?;
/// assert!(report.is_ok() && report.is_lossless());
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// See [`RepairError`]. Whatever fails, nothing that was readable is gone.
pub fn repair(dir: impl AsRef<Path>, options: &RepairOptions) -> Result<RepairReport, RepairError> {
    let dir = dir.as_ref();
    let vfs = &*options.vfs;
    let is_missing = match vfs.list(dir) {
        // Not even a lock is left where there is nothing of a store.
        Ok(names) => !names.iter().any(|name| is_store_file(name)),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    if is_missing {
        return Err(RepairError::Missing { dir: dir.to_owned() });
    }
    if let Some(mark) = unfinished::mark_in(vfs, dir)? {
        return Err(RepairError::Unfinished { dir: dir.to_owned(), mark });
    }
    let _lock = if options.dry_run { None } else { Some(take_lock(vfs, dir)?) };
    let tell = |done, of| options.tell(false, done, of);
    let survey = match options.dry_run {
        true => survey::survey_beside(vfs, dir, &tell)?,
        false => survey::survey(vfs, dir, &tell)?,
    };
    let mut plan = plan::plan(dir, options, survey)?;
    if planted!(RepairKeepsQuiet) {
        plan.report.lost.clear();
        plan.report.lost_ranges.clear();
    }
    if !plan.report.is_changed
        && let Some(damage) = look_at_checkpoint(dir, options)
    {
        plan.report.is_changed = true;
        plan.report.replaced.push(damage.file.clone());
        plan.quarantine.push(damage.file.clone());
        plan.report.damage.push(damage.into());
    }
    if options.dry_run || !plan.report.is_changed {
        return Ok(plan.report);
    }
    let report = write::carry_out(vfs, dir, plan)?;
    prove(dir, options, &report)?;
    Ok(report)
}

/// What is wrong with the checkpoint of a store that is whole otherwise. An open has no use for
/// such a one, and a check would name it for ever.
fn look_at_checkpoint(dir: &Path, options: &RepairOptions) -> Option<Corruption> {
    let open = Options::new().vfs(options.vfs.clone()).read_only(true).create(false);
    // What does not open is another matter, and not one of the checkpoint.
    let core = Core::open(dir, open.open_threads(1)).ok()?;
    let found = core.verify_checkpoint(|_| Ok::<(), std::convert::Infallible>(()));
    let (offset, what) = found.ok()??;
    let what = format!("{what}; no record is lost by it");
    Some(Corruption { file: dir.join(checkpoint::FILE_NAME), offset, what })
}

/// Opens the repaired store and checks it.
fn prove(dir: &Path, options: &RepairOptions, report: &RepairReport) -> Result<(), RepairError> {
    let failed = |what: String| {
        let quarantined = report.quarantined.clone();
        RepairError::Failed { what, quarantined }
    };
    let open = Options::new().vfs(options.vfs.clone()).read_only(true).create(false);
    let db: Db = open.open_threads(1).open(dir).map_err(|e| failed(e.to_string()))?;
    let tell = CheckOptions::new().progress(|done| {
        options.tell(true, done.bytes, done.total_bytes);
        ControlFlow::Continue(())
    });
    let check = db.check_with(tell).map_err(|e| failed(e.to_string()))?;
    match check.defects.first() {
        Some(defect) => Err(failed(defect.to_string())),
        None => Ok(()),
    }
}

/// What a record of this kind does.
fn kind_of(kind: Kind) -> RecordKind {
    match kind {
        Kind::Put => RecordKind::Put,
        Kind::Delete => RecordKind::Delete,
        Kind::Clear => RecordKind::Clear,
        Kind::CreateCollection => RecordKind::CreateCollection,
        Kind::Configure => RecordKind::Configure,
    }
}
