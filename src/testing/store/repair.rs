//! The repair test: a damaged store is repaired, and what comes of it is judged by what was ever
//! written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Contents, CrashOptions, SimVfs};
use super::damage::{Specimen, Written};
use super::run::{Violation, contents_of};
use crate::engine::{Defect, RepairError, RepairOptions, RepairReport, repair};
use crate::format::record::{FrameKind, Kind, RECORD_HEADER_LEN};
use crate::format::scan::{Step, frame_at};
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader};

/// What came of repairs, by number of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOutcomes {
    /// There was nothing to repair: what the damage did is the open's business.
    pub unchanged: u64,
    /// Repaired, nothing lost.
    pub lossless: u64,
    /// Repaired, and something lost.
    pub lossy: u64,
    /// The file that says which store it is, or all files, are gone: there is nothing to repair.
    pub hopeless: u64,
}

/// A record of a specimen: where its bytes are.
struct Laid {
    path: PathBuf,
    /// Of header, key and value, without padding.
    start: u64,
    end: u64,
    seqno: u64,
}

/// A specimen and all that is known of its bytes.
pub struct RepairTest {
    /// The store before it is damaged.
    pub specimen: Specimen,
    laid: Vec<Laid>,
    /// The collections by id.
    names: BTreeMap<u32, String>,
}

impl RepairTest {
    /// The test of a specimen.
    pub fn new(specimen: Specimen) -> Self {
        let mut test = RepairTest { specimen, laid: Vec::new(), names: BTreeMap::new() };
        for path in test.specimen.segments() {
            let bytes = test.specimen.files.get(&path).cloned().unwrap_or_default();
            test.lay_out(&path, &bytes);
        }
        test
    }

    /// Finds the records of a whole segment.
    fn lay_out(&mut self, path: &Path, bytes: &[u8]) {
        let Ok((_, salt)) = SegmentHeader::decode(bytes) else { return };
        let mut offset = SEGMENT_HEADER_LEN;
        loop {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = bytes.get(at..).unwrap_or(&[]);
            let Step::Frame(frame) = frame_at(rest, salt, offset) else { return };
            if frame.header.kind == FrameKind::End {
                return;
            }
            for (skip, record) in frame.records() {
                let start = offset + skip;
                let len = RECORD_HEADER_LEN + record.header.key_len + record.header.value_len;
                let seqno = frame.header.base + u64::from(record.header.index);
                let (path, end) = (path.to_owned(), start + len as u64);
                self.laid.push(Laid { path, start, end, seqno });
                if record.header.kind == Kind::CreateCollection {
                    let name = String::from_utf8_lossy(record.value).into_owned();
                    self.names.insert(record.header.collection, name);
                }
            }
            offset += frame.len();
        }
    }

    /// The sequence number of the record at a byte of a file, if there is one.
    pub fn seqno_at(&self, path: &Path, at: u64) -> Option<u64> {
        let is_here = |laid: &&Laid| laid.path == path && (laid.start..laid.end).contains(&at);
        self.laid.iter().find(is_here).map(|laid| laid.seqno)
    }

    /// Where the records are: file, first byte, byte behind the value, sequence number.
    pub fn records(&self) -> impl Iterator<Item = (&Path, u64, u64, u64)> {
        self.laid.iter().map(|laid| (laid.path.as_path(), laid.start, laid.end, laid.seqno))
    }

    /// Repairs the store that `files` hold and judges what comes of it. With `allowed`, nothing
    /// but these sequence numbers may be lost.
    ///
    /// # Errors
    ///
    /// What a repair must not do.
    pub fn judge(
        &self,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        allowed: Option<&BTreeSet<u64>>,
        outcomes: &mut RepairOutcomes,
    ) -> Result<(), Violation> {
        let sim = SimVfs::with_files(files);
        let options = RepairOptions::new().vfs(Arc::new(sim.clone()));
        let dry = repair(Specimen::DIR, &options.clone().dry_run(true));
        if sim.snapshot() != *files {
            return Err(Violation("a dry run has changed something".to_owned()));
        }
        let report = match repair(Specimen::DIR, &options) {
            Ok(report) => report,
            Err(RepairError::Missing { .. }) => {
                outcomes.hopeless += 1;
                return Ok(());
            }
            Err(e) => return Err(Violation(format!("repair failed: {e}"))),
        };
        match dry {
            Ok(dry) if dry.lost == report.lost && dry.lost_ranges == report.lost_ranges => {}
            dry => return Err(Violation(format!("a dry run says something else: {dry:?}"))),
        }
        if !report.is_changed {
            outcomes.unchanged += 1;
            return Specimen::open(files)
                .map(drop)
                .map_err(|e| Violation(format!("nothing repaired, and it does not open: {e}")));
        }
        let told = |e: Violation| Violation(format!("{e}\n{report}"));
        self.judge_quarantine(files, &sim, &report).map_err(told)?;
        self.judge_store(&sim, &report, true).map_err(told)?;
        if let Some(allowed) = allowed {
            self.judge_losses(&report, allowed).map_err(told)?;
        }
        let again = repair(Specimen::DIR, &options).map_err(|e| Violation(e.to_string()))?;
        if again.is_changed {
            return Err(told(Violation(format!("a second repair changes something: {again}"))));
        }
        if (outcomes.lossless + outcomes.lossy).is_multiple_of(8) {
            self.judge_without_manifest(&sim).map_err(told)?;
        }
        *(if report.is_lossless() { &mut outcomes.lossless } else { &mut outcomes.lossy }) += 1;
        Ok(())
    }

    /// A repaired store must bear the loss of its manifest as any other does.
    fn judge_without_manifest(&self, sim: &SimVfs) -> Result<(), Violation> {
        let read = |files: &BTreeMap<PathBuf, Vec<u8>>| {
            let disk = SimVfs::with_files(files);
            let db = Specimen::open_on(&disk).map_err(|e| Violation(e.to_string()))?;
            contents_of(&db).map_err(|e| Violation(e.to_string()))
        };
        let mut files = sim.snapshot();
        let before = read(&files)?;
        files.retain(|path, _| !path.ends_with("MANIFEST"));
        let again = SimVfs::with_files(&files);
        let options = RepairOptions::new().vfs(Arc::new(again.clone()));
        match repair(Specimen::DIR, &options) {
            Ok(report) if read(&again.snapshot())? != before => {
                let what = "a repaired store without its manifest loses what it held";
                Err(Violation(format!("{what}\n{report}")))
            }
            Ok(_) => Ok(()),
            // There was nothing in it.
            Err(RepairError::Missing { .. }) if before.is_empty() => Ok(()),
            Err(e) => Err(Violation(format!("the repair without a manifest failed: {e}"))),
        }
    }

    /// Each damaged file must be in the quarantine, byte for byte, and the report beside them.
    fn judge_quarantine(
        &self,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        sim: &SimVfs,
        report: &RepairReport,
    ) -> Result<(), Violation> {
        let after = sim.snapshot();
        for defect in &report.damage {
            let Some(bytes) = before.get(&defect.file) else { continue };
            let is_kept = report.quarantined.iter().any(|copy| after.get(copy) == Some(bytes));
            if !is_kept {
                let file = defect.file.display();
                return Err(Violation(format!("{file} is damaged and not in the quarantine")));
            }
        }
        let text = report.report_file.as_ref().and_then(|path| after.get(path));
        if text.is_none_or(|text| text != report.to_string().as_bytes()) {
            return Err(Violation("the report is not in the quarantine".to_owned()));
        }
        Ok(())
    }

    /// The store must open and be whole, and hold for each key a value that was written to it: the
    /// newest, or what is newer is reported (if that is asked for).
    ///
    /// # Errors
    ///
    /// What a repaired store must not be.
    pub fn judge_store(
        &self,
        sim: &SimVfs,
        report: &RepairReport,
        is_told: bool,
    ) -> Result<(), Violation> {
        let db = Specimen::open_on(sim)
            .map_err(|e| Violation(format!("a repaired store does not open: {e}")))?;
        let check = db.check().map_err(|e| Violation(e.to_string()))?;
        if let Some(defect) = check.defects.first() {
            return Err(Violation(format!("a repaired store is damaged: {defect}")));
        }
        let found = contents_of(&db).map_err(|e| Violation(e.to_string()))?;
        sim.kill(|| drop(db));
        let found = self.named(found);
        let mut keys: BTreeSet<(&str, &[u8])> = BTreeSet::new();
        for op in &self.specimen.history {
            keys.extend(op.key.as_deref().map(|key| (op.collection.as_str(), key)));
        }
        if let Some((strange, _)) =
            found.iter().find(|((c, k), _)| !keys.contains(&(c.as_str(), k.as_slice())))
        {
            return Err(Violation(format!("a key that was never written: {strange:?}")));
        }
        for key in keys {
            let value = found.get(&(key.0.to_owned(), key.1.to_vec()));
            self.judge_key(key, value, report, is_told)?;
        }
        Ok(())
    }

    /// The contents, with collections by the names that they had.
    fn named(&self, found: Contents) -> Contents {
        let real = |name: String| {
            let id = name.strip_prefix("recovered-").and_then(|id| id.parse().ok());
            id.and_then(|id: u32| self.names.get(&id).cloned()).unwrap_or(name)
        };
        found.into_iter().map(|((name, key), value)| ((real(name), key), value)).collect()
    }

    fn judge_key(
        &self,
        (collection, key): (&str, &[u8]),
        value: Option<&Vec<u8>>,
        report: &RepairReport,
        is_told: bool,
    ) -> Result<(), Violation> {
        let is_of_key = |op: &&Written| {
            op.collection == collection && op.key.as_deref().is_none_or(|of| of == key)
        };
        let shown = format!("key {} of {collection:?}", key.escape_ascii());
        let mut newer = Vec::new();
        for op in self.specimen.history.iter().rev().filter(is_of_key) {
            if op.value.as_ref() == value {
                break;
            }
            newer.push(op.seqno);
        }
        let versions = self.specimen.history.iter().filter(is_of_key);
        if value.is_some() && newer.len() == versions.count() {
            return Err(Violation(format!("{shown} has a value that was never written to it")));
        }
        // Compaction may have dropped what the newest has replaced.
        let is_laid = |seqno: &u64| self.laid.iter().any(|laid| laid.seqno == *seqno);
        let mut missing = newer.into_iter().filter(is_laid);
        match missing.find(|seqno| is_told && !report.covers(*seqno)) {
            Some(seqno) => Err(Violation(format!(
                "{shown} lacks what sequence number {seqno} wrote, and the report is silent"
            ))),
            None => Ok(()),
        }
    }

    /// Nothing may be lost that the damage did not cover.
    fn judge_losses(
        &self,
        report: &RepairReport,
        allowed: &BTreeSet<u64>,
    ) -> Result<(), Violation> {
        let all = self.laid.iter().map(|laid| laid.seqno);
        match all.into_iter().find(|s| report.covers(*s) && !allowed.contains(s)) {
            Some(seqno) => Err(Violation(format!(
                "sequence number {seqno} is lost, only {allowed:?} were damaged"
            ))),
            None => Ok(()),
        }
    }
}

/// How much of repairs was looked at for power cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairTally {
    /// Damaged stores repaired.
    pub repairs: u64,
    /// Crash states of these repairs.
    pub states: u64,
    /// Different ones among them: each was repaired again and judged.
    pub distinct: u64,
}

impl RepairTest {
    /// Cuts the power at every operation of the repair of the store that `files` hold: what is left
    /// must be repaired again, or be repaired, to the same store, with nothing lost on the way.
    ///
    /// # Errors
    ///
    /// What a repair must not do.
    pub fn cut_power(
        &self,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        options: &CrashOptions,
        seen: &mut HashSet<u64>,
        tally: &mut RepairTally,
    ) -> Result<(), Violation> {
        let sim = SimVfs::with_files(files);
        let of = |sim: &SimVfs| RepairOptions::new().vfs(Arc::new(sim.clone()));
        let report = repair(Specimen::DIR, &of(&sim)).map_err(|e| Violation(e.to_string()))?;
        if !report.is_changed {
            return Ok(());
        }
        tally.repairs += 1;
        let read = |sim: &SimVfs| {
            let db = Specimen::open_on(sim).map_err(|e| Violation(e.to_string()))?;
            let found = contents_of(&db).map_err(|e| Violation(e.to_string()));
            sim.kill(|| drop(db));
            found
        };
        let copy = SimVfs::with_files(&sim.snapshot());
        let expected = read(&copy)?;
        let mut states = sim.crash_states(options);
        while let Some(state) = states.next() {
            tally.states += 1;
            if !seen.insert(state.hash) {
                continue;
            }
            tally.distinct += 1;
            let disk = state.disk();
            let told = |e: Violation| Violation(format!("{}\n{e}\n{report}", states.describe()));
            if state.hash.is_multiple_of(4) {
                // Somebody opens the store before it is repaired again.
                if let Ok(db) = Specimen::open_on(&disk) {
                    disk.kill(|| drop(db));
                }
            }
            let again = repair(Specimen::DIR, &of(&disk));
            let again = again.map_err(|e| told(Violation(format!("the second repair: {e}"))))?;
            let found = read(&disk).map_err(told)?;
            if found != expected {
                let what = format!("the second repair gives {} keys", found.len());
                return Err(told(Violation(format!(
                    "{what}, the first {}\n{again}",
                    expected.len()
                ))));
            }
            self.judge_again(files, &disk, &report, &again).map_err(told)?;
        }
        Ok(())
    }

    /// The second repair must say what the first one said, or the first one's report must be there;
    /// and the damaged files.
    fn judge_again(
        &self,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        disk: &SimVfs,
        report: &RepairReport,
        again: &RepairReport,
    ) -> Result<(), Violation> {
        // Whoever opens the store in between replaces a checkpoint that is damaged, and padding:
        // they hold nothing that the log does not.
        let is_nothing = |defect: &Defect| {
            defect.file.ends_with("CHECKPOINT") || defect.what == "padding is not zero"
        };
        if !again.is_changed && report.damage.iter().all(is_nothing) {
            return Ok(());
        }
        let after = disk.snapshot();
        if again.is_changed {
            let is_same = again.lost == report.lost
                && again.lost_ranges == report.lost_ranges
                && again.unsure == report.unsure;
            if !is_same {
                return Err(Violation(format!("the second repair says something else:\n{again}")));
            }
        } else {
            let text = report.to_string();
            let is_kept = |path: &PathBuf| after.get(path).is_some_and(|t| t == text.as_bytes());
            if !again.earlier_reports.iter().any(is_kept) {
                return Err(Violation("the report of the first repair is gone".to_owned()));
            }
        }
        for file in report.damage.iter().filter_map(|defect| before.get(&defect.file)) {
            let is_kept = |(path, bytes): (&PathBuf, &Vec<u8>)| {
                path.parent().is_some_and(|dir| dir.ends_with("quarantine")) && bytes == file
            };
            if !after.iter().any(is_kept) {
                return Err(Violation("a damaged file is not in the quarantine".to_owned()));
            }
        }
        Ok(())
    }
}
