//! The crash test: every state that a power cut can leave of a run must open, hold a legal state,
//! say truly what was cut, and be as good as new.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::{CrashOptions, CrashPoint, CrashState, Fingerprint, History, Repro, SimVfs};
use super::run::{Part, Run, Violation, contents_of, whole_of};
use super::workload::{Setup, Workload};
use crate::engine::{Case, Db, Decision, Durability, Note, RecoveryReport, WriteBatch};
use crate::observed::{Situations, situations};
use crate::vfs::Vfs;

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Workloads run.
    pub workloads: u64,
    /// Crash states enumerated.
    pub states: u64,
    /// Different ones among them: each was opened, compared, written to and opened again.
    pub distinct: u64,
    /// Of the different ones, those that a crash during the recovery from another one left.
    pub deep: u64,
    /// Of the different ones, those that a power cut in the midst of each of [`Part::ALL`] left.
    pub inside: [u64; Part::ALL.len()],
    /// What the engine got into while the workloads ran.
    pub situations: Situations,
}

impl Tally {
    /// Adds what another test has looked at.
    pub fn add(&mut self, other: &Tally) {
        self.workloads += other.workloads;
        self.states += other.states;
        self.distinct += other.distinct;
        self.deep += other.deep;
        self.inside.iter_mut().zip(other.inside).for_each(|(sum, count)| *sum += count);
        self.situations += other.situations;
    }
}

/// A crash test. The states seen are remembered from workload to workload.
#[derive(Debug)]
pub struct CrashTest {
    /// How far the enumeration goes.
    pub options: CrashOptions,
    /// How far it goes for crashes during a recovery.
    pub deep_options: CrashOptions,
    /// One state in so many is looked at for crashes during its recovery; 0 for none.
    pub deep_every: u64,
    /// Of the states that a power cut left which did not come in the midst of a [`Part`], one in
    /// so many is looked at. Default: all.
    pub outside_every: u64,
    /// What was done so far.
    pub tally: Tally,
    seen: HashSet<u64>,
    cut_max: usize,
    /// The parts of the run that is looked at.
    parts: Vec<(Part, Range<usize>)>,
}

/// What a state was found to hold, for when it comes up again.
type Found = HashMap<u64, Fingerprint>;

/// Where the store of a test is.
struct Place<'a> {
    dir: &'a Path,
    setup: Setup,
}

impl CrashTest {
    /// A test that goes so far.
    pub fn new(options: CrashOptions, deep_options: CrashOptions, deep_every: u64) -> Self {
        let (tally, seen) = (Tally::default(), HashSet::new());
        CrashTest {
            options,
            deep_options,
            deep_every,
            outside_every: 1,
            tally,
            seen,
            cut_max: usize::MAX,
            parts: Vec::new(),
        }
    }

    /// The hashes of all states seen.
    pub fn into_seen(self) -> HashSet<u64> {
        self.seen
    }

    /// Runs the workload of `seed` and looks at every crash state of it.
    ///
    /// # Errors
    ///
    /// The first violation, with the line that leads back to it.
    pub fn run(&mut self, seed: u64) -> Result<(), Violation> {
        let mut workload = Workload::new(seed);
        let in_run = |e: Violation| Violation(format!("REPRO seed={seed} at=\n{e}"));
        situations();
        let run = Run::to_the_end(&mut workload);
        self.tally.situations += situations();
        let run = run.map_err(in_run)?;
        let (sim, history) = (run.sim.clone(), run.history().clone());
        self.parts = run.parts().to_vec();
        self.tally.workloads += 1;
        let place = Place { dir: &workload.dir, setup: workload.setup };
        let mut at = Vec::new();
        self.look(&sim, &history, &place, &mut at).map_err(|e| {
            let repro = Repro { seed, at };
            Violation(format!("REPRO {repro}\n{e}"))
        })
    }

    /// Looks at every crash state up to `cut_max` of a run that was made by other means.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn look_at(
        &mut self,
        sim: &SimVfs,
        history: &History,
        workload: &Workload,
        cut_max: usize,
    ) -> Result<(), Violation> {
        self.cut_max = cut_max;
        let place = Place { dir: &workload.dir, setup: workload.setup };
        let mut at = Vec::new();
        self.look(sim, history, &place, &mut at)
            .map_err(|e| Violation(format!("at {at:?}: {e}\n{}", sim.trace().join("\n"))))
    }

    /// Looks at the one state that `repro` names.
    ///
    /// # Errors
    ///
    /// The violation, with a trace of the run.
    pub fn replay(&mut self, repro: &Repro) -> Result<(), Violation> {
        let mut workload = Workload::new(repro.seed);
        let (mut sim, mut history) = Run::whole(&mut workload)?;
        let place = Place { dir: &workload.dir, setup: workload.setup };
        let last = repro.at.len().saturating_sub(1);
        for (depth, point) in repro.at.iter().enumerate() {
            let options = if depth == 0 { &self.options } else { &self.deep_options };
            let mut states = sim.crash_states(options);
            let state = states.seek(*point).ok_or_else(|| Violation(format!("no {point}")))?;
            let story = [sim.trace(), vec![states.describe()]].concat().join("\n");
            let disk = state.disk();
            let found = check_state(&state, &disk, &history, &place, depth < last);
            if depth == last {
                return found.map(drop).map_err(|e| Violation(format!("{story}\n{e}")));
            }
            (sim, history) = (disk, found?.1);
        }
        Ok(())
    }

    /// The part of the run in the midst of which a power cut at `cut` came, by its place in
    /// [`Part::ALL`].
    fn part_at(&self, cut: usize) -> Option<usize> {
        let is_inside = |(_, ops): &&(Part, Range<usize>)| ops.start < cut && cut <= ops.end;
        let (part, _) = self.parts.iter().find(is_inside)?;
        Part::ALL.iter().position(|p| p == part)
    }

    fn look(
        &mut self,
        sim: &SimVfs,
        history: &History,
        place: &Place<'_>,
        at: &mut Vec<CrashPoint>,
    ) -> Result<(), Violation> {
        let depth = at.len();
        let options = if depth == 0 { &self.options } else { &self.deep_options };
        let mut found = Found::new();
        let mut states = sim.crash_states(options);
        while let Some(state) = states.next() {
            if state.point.cut > self.cut_max {
                break;
            }
            let part = if depth == 0 { self.part_at(state.point.cut) } else { None };
            let is_thinned = depth == 0 && self.outside_every > 1 && part.is_none();
            if is_thinned && !state.hash.is_multiple_of(self.outside_every) {
                continue;
            }
            self.tally.states += 1;
            at.push(state.point);
            if let Some(print) = found.get(&state.hash) {
                if history.find(state.point.cut, *print).is_none() {
                    // Legal at an earlier moment, and not at this one: say how.
                    check_state(&state, &state.disk(), history, place, false)?;
                }
                at.pop();
                continue;
            }
            if depth > 0 && self.seen.contains(&state.hash) {
                at.pop();
                continue;
            }
            let disk = state.disk();
            let go_deep =
                depth == 0 && self.deep_every > 0 && state.hash.is_multiple_of(self.deep_every);
            let with_story = |e| Violation(format!("{}\n{e}", states.describe()));
            let (print, after) =
                check_state(&state, &disk, history, place, go_deep).map_err(with_story)?;
            found.insert(state.hash, print);
            if self.seen.insert(state.hash) {
                self.tally.distinct += 1;
                self.tally.deep += u64::from(depth > 0);
                if let Some(part) = part {
                    self.tally.inside[part] += 1;
                }
            }
            if go_deep {
                self.look(&disk, &after, place, at)?;
            }
            at.pop();
        }
        Ok(())
    }
}

/// Opens a crash state on `disk`, compares, writes, and opens again. Returns what was found, and
/// the history of `disk` from its start (if it is wanted).
fn check_state(
    state: &CrashState,
    disk: &SimVfs,
    history: &History,
    place: &Place<'_>,
    want_history: bool,
) -> Result<(Fingerprint, History), Violation> {
    let cut = state.point.cut;
    let before = disk.snapshot();
    let db = place
        .setup
        .options(disk)
        .open(place.dir)
        .map_err(|e| Violation(format!("a crash state does not open: {e}")))?;
    let failed = |e| Violation(format!("a crash state cannot be read: {e}"));
    let found = whole_of(&db).map_err(failed)?;
    let Some(index) = history.find(cut, found) else {
        let contents = contents_of(&db).map_err(failed)?;
        return Err(Violation(format!(
            "{}\nreport: {:?}",
            history.explain(cut, &contents),
            db.recovery_report()
        )));
    };
    report_agrees(&before, &disk.snapshot(), db.recovery_report())?;
    if state.hash.is_multiple_of(16) {
        check_reader(&before, place, found)?;
    }
    let mut after = History::new();
    if want_history {
        after = History::starting_with(history.state(index).clone());
    }
    let expected = write_again(&db, disk, state.hash, found, &mut after)?;
    if state.hash >> 16 & 3 == 0 {
        compact_again(&db, expected)?;
    }
    let was_killed = state.hash & 32 == 0;
    if was_killed {
        disk.kill(|| drop(db));
    } else {
        db.close().map_err(|e| Violation(format!("close after recovery failed: {e}")))?;
    }
    check_again(disk, place, expected, history.state(index).contents(), was_killed)?;
    Ok((found, after))
}

/// A synced write to a recovered store; returns the fingerprint that it must have now.
fn write_again(
    db: &Db,
    disk: &SimVfs,
    choice: u64,
    found: Fingerprint,
    after: &mut History,
) -> Result<Fingerprint, Violation> {
    let mut batch = WriteBatch::new();
    // Long ones make the log roll, or need more than a segment.
    let len = [0, 10, 60, 300, 700][usize::try_from(choice >> 8 & 0xFF).unwrap_or(0) % 5];
    let value = vec![0xA5; len];
    // A key that is not there yet, also where the crash came after an earlier recovery.
    let key = choice.to_le_bytes();
    batch.put("after", &key, &value).map_err(|e| Violation(e.to_string()))?;
    after.start(disk.position(), &batch);
    db.write(&mut batch, Durability::Sync)
        .map_err(|e| Violation(format!("write after recovery failed: {e}")))?;
    after.promise(disk.mark());
    let mut expected = found;
    expected.add("after", &key, &value);
    Ok(expected)
}

/// A recovered store can be compacted, and nothing changes by it.
fn compact_again(db: &Db, expected: Fingerprint) -> Result<(), Violation> {
    db.compact_now().map_err(|e| Violation(format!("compaction after recovery failed: {e}")))?;
    let found = whole_of(db).map_err(|e| Violation(format!("compacted after recovery: {e}")))?;
    if found != expected {
        return Err(Violation("compaction of a recovered store has changed it".to_owned()));
    }
    Ok(())
}

/// Opens a recovered store again: nothing may be missing, nothing wrong, nothing left to cut.
fn check_again(
    disk: &SimVfs,
    place: &Place<'_>,
    expected: Fingerprint,
    contents: &super::super::Contents,
    was_killed: bool,
) -> Result<(), Violation> {
    let db = place
        .setup
        .options(disk)
        .open(place.dir)
        .map_err(|e| Violation(format!("the second open failed: {e}")))?;
    let failed = |e| Violation(format!("after the second open: {e}"));
    if whole_of(&db).map_err(failed)? != expected {
        let found = contents_of(&db).map_err(failed)?;
        let lost = contents.keys().filter(|key| !found.contains_key(*key)).count();
        return Err(Violation(format!(
            "a recovered store lost what was written to it: {} keys, {lost} of those recovered \
             are missing\nreport: {:?}",
            found.len(),
            db.recovery_report()
        )));
    }
    let report = db.recovery_report();
    // What compaction has left without readers only the process itself could still have removed.
    let is_wrong = |note: &&Note| {
        !(was_killed && note.case == Case::DeadSegment) && note.case != Case::StaleCheckpoint
    };
    if let Some(note) = report.notes.iter().find(is_wrong) {
        return Err(Violation(format!("a recovered store is not in order: {note}")));
    }
    let names = disk.list(place.dir).map_err(|e| Violation(e.to_string()))?;
    let files = names.iter().filter(|name| name.ends_with(".seg")).count();
    let known = db.stats().segments.len();
    if files != known {
        return Err(Violation(format!("{files} segment files, the store knows of {known}")));
    }
    let check = db.check().map_err(failed)?;
    // The store's own keys and the old versions that snapshots need come on top.
    if !check.is_ok() || check.keys < expected.count() {
        return Err(Violation(format!("check of a recovered store: {check:?}")));
    }
    disk.kill(|| drop(db));
    Ok(())
}

/// A reader that changes nothing must see the same.
fn check_reader(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    place: &Place<'_>,
    found: Fingerprint,
) -> Result<(), Violation> {
    let disk = SimVfs::with_files(before);
    let reader = match place.setup.options(&disk).read_only(true).open(place.dir) {
        Ok(reader) => reader,
        Err(crate::engine::OpenError::Missing { .. }) if found.count() == 0 => return Ok(()),
        Err(e) => return Err(Violation(format!("a reader cannot open a crash state: {e}"))),
    };
    let seen = whole_of(&reader).map_err(|e| Violation(format!("a reader: {e}")))?;
    if seen != found {
        let (keys, wanted, snapshots) = (seen.count(), found.count(), reader.snapshots());
        return Err(Violation(format!(
            "a reader sees another state than a writer: {keys} keys, expected {wanted}, and the \
             snapshots {snapshots:?}"
        )));
    }
    drop(reader);
    if disk.position() > 0 {
        return Err(Violation("a reader has changed the disk".to_owned()));
    }
    Ok(())
}

/// The report must say so when bytes were dropped, and must name nothing that a power cut cannot
/// do.
fn report_agrees(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
    report: &RecoveryReport,
) -> Result<(), Violation> {
    let possible = |case| {
        matches!(
            case,
            Case::TornTail
                | Case::Gap
                | Case::IncompleteBatch
                | Case::UnlistedEmptySegment
                | Case::DeadSegment
                | Case::TornManifest
                // Written before the manifest was written anew: not used, the log is.
                | Case::StaleCheckpoint
        )
    };
    if let Some(note) = report.notes.iter().find(|note| !possible(note.case)) {
        return Err(Violation(format!("a power cut cannot do this: {note}")));
    }
    if report.clean && report.notes.iter().any(|note| note.case != Case::StaleCheckpoint) {
        return Err(Violation("clean, with notes".to_owned()));
    }
    for (path, bytes) in before.iter().filter(|(path, _)| path.extension().is_some()) {
        let left = after.get(path).map_or(0, Vec::len);
        let dropped = bytes.get(left..).unwrap_or(&[]);
        let told = report.notes.iter().any(|note| {
            let decision = note.case.decision();
            note.file == *path && matches!(decision, Decision::Cut | Decision::Remove)
        });
        let is_segment = path.extension().is_some_and(|e| e == "seg");
        // An unused segment, a header and nothing else, is no loss.
        let is_unused = left == 0 && bytes.get(64..).is_none_or(|b| b.iter().all(|b| *b == 0));
        if is_segment && !told && !is_unused && dropped.iter().any(|b| *b != 0) {
            let path = path.display();
            return Err(Violation(format!("{path} was cut to {left} bytes without a word")));
        }
    }
    Ok(())
}
