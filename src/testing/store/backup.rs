//! Backup tests: backups are made while a workload runs. At every moment at which the power can go
//! or a call can fail, the target must be the earlier backup or the new one, and the next backup
//! must make it equal to the store.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::super::{
    CallKind, CrashOptions, CrashState, Fault, FaultPlan, Fingerprint, Rng, SimVfs,
};
use super::run::{Run, Violation, fingerprint_of};
use super::workload::{Workload, options};
use crate::engine::{BackupError, BackupOptions, BackupReport, Db, Durability, WriteBatch};

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupTally {
    /// Workloads run.
    pub workloads: u64,
    /// Backups made.
    pub backups: u64,
    /// Segments that they linked, copied, and kept.
    pub segments: [u64; 3],
    /// Crash states enumerated.
    pub states: u64,
    /// Different ones among them: in each the target was opened and the backup made again.
    pub distinct: u64,
    /// Calls that were made to fail.
    pub faults: u64,
    /// Backups that returned an error because of that.
    pub errors: u64,
}

/// A test of backups.
#[derive(Debug)]
pub struct BackupTest {
    /// How far the enumeration of crash states goes.
    pub options: CrashOptions,
    /// What was done so far.
    pub tally: BackupTally,
    seen: HashSet<u64>,
}

/// A backup that was made, or begun.
struct Made {
    started: usize,
    /// The moment from which on it is promised.
    done: usize,
    print: Fingerprint,
}

/// A run of a workload with backups of it.
struct Story {
    sim: SimVfs,
    segment_len: u64,
    dir: PathBuf,
    made: Vec<Made>,
}

const TARGET: &str = "/backup/of-it";

impl BackupTest {
    /// A test that looks at so many crash states of each workload.
    pub fn new(options: CrashOptions) -> Self {
        BackupTest { options, tally: BackupTally::default(), seen: HashSet::new() }
    }

    /// Runs the workload of `seed` with backups, and looks at what a power cut leaves.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn crash(&mut self, seed: u64) -> Result<(), Violation> {
        let story = self.tell(seed)?;
        let mut states = story.sim.crash_states(&self.options);
        while let Some(state) = states.next() {
            self.tally.states += 1;
            // Which backups are legal depends on the moment: once each suffices, as states of
            // different moments differ in what the store holds.
            if self.seen.insert(state.hash ^ story.legal_hash(state.point.cut)) {
                self.tally.distinct += 1;
                story.check(&state).map_err(|e| {
                    let (point, told) = (state.point, states.describe());
                    Violation(format!("backup, seed {seed}, at {point}: {e}\n{told}"))
                })?;
            }
        }
        Ok(())
    }

    /// Runs the workload of `seed`, with a backup after some of its steps.
    fn tell(&mut self, seed: u64) -> Result<Story, Violation> {
        let mut workload = Workload::new(seed);
        let mut rng = Rng::new(seed ^ 0xBAC0);
        let sim = SimVfs::new();
        let (dir, segment_len) = (workload.dir.clone(), workload.setup.segment_len);
        let mut story = Story { sim: sim.clone(), segment_len, dir, made: Vec::new() };
        // Compaction takes away what was just sealed: half of the workloads have none.
        let compacts = rng.percent(50);
        let mut run = Run::new(&sim, &workload, false);
        if !compacts {
            run.without_compaction();
        }
        for step in &mut workload.steps {
            run.step(step)?;
            let Some(db) = run.db().filter(|_| rng.percent(40)).cloned() else { continue };
            if compacts && rng.percent(60) {
                db.compact_now().map_err(|e| Violation(format!("compaction: {e}")))?;
            }
            // Half of the disks can neither link nor share blocks.
            let cannot = [(CallKind::Link, 40), (CallKind::Copy, 60)];
            let cannot: Vec<_> = cannot.iter().filter(|c| rng.percent(c.1)).map(|c| c.0).collect();
            let plan = FaultPlan::forever(0, Fault::Error(Fault::EXDEV)).of(&cannot);
            sim.set_fault((!cannot.is_empty()).then_some(plan));
            let started = sim.position();
            let made = db.backup_to(TARGET, BackupOptions::new());
            sim.set_fault(None);
            let report = made.map_err(|e| Violation(format!("backup, seed {seed}: {e}")))?;
            self.count(&report);
            let print = run.history().now().fingerprint();
            drop(db);
            story.made.push(Made { started, done: sim.mark(), print });
        }
        run.kill();
        self.tally.workloads += 1;
        Ok(story)
    }

    fn count(&mut self, report: &BackupReport) {
        let BackupReport { segments_linked, segments_copied, segments_kept, .. } = *report;
        self.tally.backups += 1;
        let counts = [segments_linked, segments_copied, segments_kept];
        for (sum, count) in self.tally.segments.iter_mut().zip(counts) {
            *sum += count;
        }
    }

    /// Runs the workload of `seed` up to its last backup; makes calls fail in that one as `plan`
    /// says. False if the plan met no call.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn fault(&mut self, seed: u64, plan: &FaultPlan) -> Result<bool, Violation> {
        let mut workload = Workload::new(seed);
        let sim = SimVfs::new();
        let place = (workload.dir.clone(), workload.setup.segment_len);
        let mut run = Run::new(&sim, &workload, true);
        let half = workload.steps.len() / 2;
        let mut earlier = None;
        for (i, step) in workload.steps.iter_mut().enumerate() {
            run.step(step)?;
            if let Some(db) = run.db().filter(|_| i == half) {
                let made = db.backup_to(TARGET, BackupOptions::new());
                made.map_err(|e| Violation(format!("backup, seed {seed}: {e}")))?;
                earlier = Some(run.history().now().fingerprint());
            }
        }
        let Some(db) = run.db().cloned() else { return Ok(false) };
        let now = run.history().now().fingerprint();
        sim.set_fault(Some(plan.clone()));
        let made = db.backup_to(TARGET, BackupOptions::new());
        let injected = sim.injected();
        sim.set_fault(None);
        self.tally.faults += injected;
        self.tally.errors += u64::from(made.is_err());
        let told = |e: Violation| Violation(format!("backup, seed {seed}, {plan:?}: {e}"));
        let is_new = Found::of(&sim, place.1).map_err(told)?;
        match (&made, is_new) {
            (Ok(_), Found::State(print)) if print == now => {}
            (Err(_), Found::State(print)) if print == now || Some(print) == earlier => {}
            (Err(_), Found::Nothing) if earlier.is_none() => {}
            (made, found) => {
                let what = format!("the backup returned {made:?}, the target is {found:?}");
                return Err(told(Violation(what)));
            }
        }
        drop(db);
        run.expect_faults(false);
        run.kill();
        let source = options(&sim, place.1).open(&place.0);
        let source = source.map_err(|e| told(Violation(format!("the source: {e}"))))?;
        let wanted = read(&source)?;
        if wanted != now && sim.failed_syncs() == 0 {
            return Err(told(Violation("a backup has changed its source".to_owned())));
        }
        made_again(&sim, &source, place.1, wanted).map_err(told)?;
        Ok(injected > 0)
    }
}

/// What is in the target.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// No store.
    Nothing,
    State(Fingerprint),
}

impl Found {
    /// Opens the target for reading and verifies it.
    fn of(disk: &SimVfs, segment_len: u64) -> Result<Found, Violation> {
        if !disk.snapshot().contains_key(&Path::new(TARGET).join("MANIFEST")) {
            return Ok(Found::Nothing);
        }
        let backup = options(disk, segment_len).read_only(true).open(TARGET);
        let backup = backup.map_err(|e| Violation(format!("the target does not open: {e}")))?;
        let check = backup.check().map_err(|e| Violation(format!("check: {e}")))?;
        if !check.is_ok() {
            return Err(Violation(format!("check of the target: {check:?}")));
        }
        Ok(Found::State(read(&backup)?))
    }
}

fn read(db: &Db) -> Result<Fingerprint, Violation> {
    fingerprint_of(db).map_err(|e| Violation(format!("cannot be read: {e}")))
}

/// Makes the backup again: it must hold what the source holds, `wanted`, and nothing else.
fn made_again(
    disk: &SimVfs,
    source: &Db,
    segment_len: u64,
    wanted: Fingerprint,
) -> Result<(), Violation> {
    let again = source.backup_to(TARGET, BackupOptions::new().verify(true));
    again.map_err(|e| Violation(format!("a backup that was interrupted cannot be made: {e}")))?;
    let found = Found::of(disk, segment_len)?;
    if found != Found::State(wanted) {
        return Err(Violation(format!("the backup made again is {found:?}, not {wanted:?}")));
    }
    let backup = options(disk, segment_len).open(TARGET);
    let backup = backup.map_err(|e| Violation(format!("the backup does not open: {e}")))?;
    if let Some(note) = backup.recovery_report().notes.first() {
        return Err(Violation(format!("a backup that was made again is not in order: {note}")));
    }
    Ok(())
}

impl Story {
    /// The contents that the target may have after a power cut at `cut`; `None` for no store.
    fn legal(&self, cut: usize) -> Vec<Option<Fingerprint>> {
        let done = self.made.iter().rev().find(|made| made.done <= cut);
        let begun = self.made.iter().filter(|made| made.started < cut && cut < made.done);
        let done = [done.map(|made| made.print)];
        done.into_iter().chain(begun.map(|made| Some(made.print))).collect()
    }

    fn legal_hash(&self, cut: usize) -> u64 {
        let begun = self.made.iter().filter(|made| made.started < cut).count();
        let done = self.made.iter().filter(|made| made.done <= cut).count();
        (begun as u64) << 32 ^ (done as u64) << 40
    }

    fn check(&self, state: &CrashState) -> Result<(), Violation> {
        let legal = self.legal(state.point.cut);
        let found = match Found::of(&state.disk(), self.segment_len)? {
            Found::Nothing => None,
            Found::State(print) => Some(print),
        };
        if !legal.contains(&found) {
            return Err(Violation(format!("the target is {found:?}, legal are {legal:?}")));
        }
        if let Some(print) = found {
            self.check_independent(&state.disk(), print)?;
        }
        let disk = state.disk();
        let source = options(&disk, self.segment_len).open(&self.dir);
        let source = source.map_err(|e| Violation(format!("the source does not open: {e}")))?;
        let wanted = read(&source)?;
        made_again(&disk, &source, self.segment_len, wanted)
    }

    /// Opens the target as a store of its own and writes to it: the source must not change by a
    /// byte, and its next backup must not take the target for its own.
    fn check_independent(&self, disk: &SimVfs, print: Fingerprint) -> Result<(), Violation> {
        let files = || -> BTreeMap<PathBuf, Vec<u8>> {
            let all = disk.snapshot().into_iter();
            all.filter(|(path, _)| path.starts_with(&self.dir)).collect()
        };
        let before = files();
        let backup = options(disk, self.segment_len).open(TARGET);
        let backup = backup.map_err(|e| Violation(format!("the target does not open: {e}")))?;
        if read(&backup)? != print {
            return Err(Violation("a writer sees another target than a reader".to_owned()));
        }
        let mut batch = WriteBatch::new();
        for key in 0..4_u8 {
            batch.put("own", &[key], &[key; 200]).map_err(|e| Violation(e.to_string()))?;
            let written = backup.write(&mut batch, Durability::Sync);
            written.map_err(|e| Violation(format!("a backup cannot be written to: {e}")))?;
        }
        backup.close().map_err(|e| Violation(format!("a backup cannot be closed: {e}")))?;
        if files() != before {
            return Err(Violation("a write to the backup has changed its source".to_owned()));
        }
        let source = options(disk, self.segment_len).open(&self.dir);
        let source = source.map_err(|e| Violation(format!("the source does not open: {e}")))?;
        match source.backup_to(TARGET, BackupOptions::new()) {
            Err(BackupError::Diverged { .. }) => Ok(()),
            other => Err(Violation(format!("a backup that was written to is taken: {other:?}"))),
        }
    }
}
