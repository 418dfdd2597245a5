//! A run of a workload: the store on its simulated disk, and the history that it must agree with.

mod shown;
mod snapshots;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::super::{Fingerprint, History, SimVfs};
use super::workload::{Setup, Step, Workload};
use crate::engine::{Db, Durability, OpenError, ReadError, WriteBatch, WriteError};

pub use shown::{contents_of, fingerprint_of, whole_of};
use snapshots::Held;

/// The store did what it must never do.
#[derive(Clone, Debug)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// What a store is busy with, beside plain writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Compacting.
    Compaction,
    /// Recording a durable snapshot, or dropping one.
    Snapshot,
    /// Going back to a durable snapshot.
    Rollback,
    /// Writing a checkpoint of the index.
    Checkpoint,
}

impl Part {
    /// Every part there is.
    pub const ALL: [Part; 4] = [Part::Compaction, Part::Snapshot, Part::Rollback, Part::Checkpoint];
}

/// A store in use, and what is known about it.
pub struct Run {
    pub(super) sim: SimVfs,
    dir: PathBuf,
    setup: Setup,
    pub(super) db: Option<Db>,
    pub(super) history: History,
    /// Snapshots and iterators, the oldest first.
    held: Vec<Held>,
    /// Which operations of the disk belong to which part of the store.
    parts: Vec<(Part, Range<usize>)>,
    /// A write or a sync failed in such a way that nobody knows what is on the disk: it is this
    /// state or a later one.
    in_doubt: Option<usize>,
    /// Calls are made to fail: errors are answers, not violations.
    faults: bool,
    /// Errors that were returned.
    errors: u64,
    /// The moment of the first open after a sync had failed.
    trusted: Option<usize>,
}

impl Run {
    /// A run on `sim`, where no store has been opened yet. With `faults`, the test makes calls
    /// fail: errors are recorded, and only what contradicts them is a violation.
    pub fn new(sim: &SimVfs, workload: &Workload, faults: bool) -> Self {
        Run {
            sim: sim.clone(),
            dir: workload.dir.clone(),
            setup: workload.setup,
            db: None,
            history: History::new(),
            held: Vec::new(),
            parts: Vec::new(),
            in_doubt: None,
            faults,
            errors: 0,
            trusted: None,
        }
    }

    /// Runs a whole workload on an empty disk on which nothing fails; returns the disk and the
    /// history.
    ///
    /// # Errors
    ///
    /// An error of the store, or contents that are not what was written.
    pub fn whole(workload: &mut Workload) -> Result<(SimVfs, History), Violation> {
        let run = Self::to_the_end(workload)?;
        Ok((run.sim, run.history))
    }

    /// As [`Run::whole`]; returns the run, whose process was killed in the end.
    ///
    /// # Errors
    ///
    /// As [`Run::whole`].
    pub(super) fn to_the_end(workload: &mut Workload) -> Result<Self, Violation> {
        let mut run = Run::new(&SimVfs::new(), workload, false);
        for step in &mut workload.steps {
            run.step(step)?;
        }
        run.kill();
        Ok(run)
    }

    /// Which operations of the disk belong to which part of the store.
    pub fn parts(&self) -> &[(Part, Range<usize>)] {
        &self.parts
    }

    /// Goes on with a store that a run has left on its disk.
    pub fn resume(sim: &SimVfs, workload: &Workload, history: History) -> Self {
        Run { history, ..Run::new(sim, workload, false) }
    }

    /// From the next open on, compaction runs when it is told to only.
    pub fn without_compaction(&mut self) {
        self.setup.space_percent = None;
    }

    /// What is known about the store.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The open store, if it is open.
    pub fn db(&self) -> Option<&Db> {
        self.db.as_ref()
    }

    /// How many errors the store has returned.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The moment up to which a power cut leaves a legal state: that of the first open after a
    /// failed sync. Such an open finds in the page cache what may never reach the disk, whatever
    /// later syncs say, and nothing tells it so.
    pub fn trusted(&self) -> usize {
        self.trusted.unwrap_or(usize::MAX)
    }

    /// True after an error that leaves open what is on the disk: until the next open.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }

    /// From now on errors are violations, or not.
    pub fn expect_faults(&mut self, yes: bool) {
        self.faults = yes;
    }

    /// Does one step.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn step(&mut self, step: &mut Step) -> Result<(), Violation> {
        match step {
            Step::Write(batch, durability) => self.write(batch, *durability),
            Step::Sync => self.sync(),
            Step::Persist => self.in_part(Part::Snapshot, |run| run.persist(None)),
            Step::PersistNamed(name) => {
                self.in_part(Part::Snapshot, |run| run.persist(Some(name.clone())))
            }
            Step::DropSnapshot(nth) => self.in_part(Part::Snapshot, |run| run.drop_snapshot(*nth)),
            Step::Rollback(nth) => self.in_part(Part::Rollback, |run| run.roll_back(*nth)),
            Step::Compact => self.in_part(Part::Compaction, Run::compact),
            Step::CompactDuring(steps) => {
                let steps = std::mem::take(steps);
                self.in_part(Part::Compaction, |run| run.compact_during(steps))
            }
            Step::ReadDuring => self.in_part(Part::Compaction, Run::read_during),
            Step::Hold => self.hold(),
            Step::Release => self.release(),
            Step::Checkpoint => self.in_part(Part::Checkpoint, Run::checkpoint),
            Step::Close => self.close(),
            Step::Kill => {
                self.kill();
                self.open()
            }
        }
    }

    /// Does `work` and notes which operations of the disk it took.
    fn in_part(
        &mut self,
        part: Part,
        work: impl FnOnce(&mut Run) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.open()?;
        let start = self.sim.position();
        let done = work(self);
        self.parts.push((part, start..self.sim.position()));
        done
    }

    /// An error: what is to be expected when calls fail, and never otherwise.
    pub(super) fn error(&mut self, what: &str, error: &dyn fmt::Display) -> Result<(), Violation> {
        self.errors += 1;
        if self.faults { Ok(()) } else { Err(Violation(format!("{what} failed: {error}"))) }
    }

    /// Opens the store, if it is not open; what is in it must be legal.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn open(&mut self) -> Result<(), Violation> {
        if self.db.is_some() {
            return Ok(());
        }
        if self.sim.failed_syncs() > 0 {
            self.trusted.get_or_insert(self.sim.position());
        }
        match self.setup.options(&self.sim).open(&self.dir) {
            Ok(db) => self.db = Some(db),
            Err(e @ OpenError::Io(_)) => return self.error("open", &e),
            Err(e) => return Err(Violation(format!("open refused: {e}"))),
        }
        let known = self.errors;
        self.compare("open")?;
        if self.is_in_doubt() && self.errors > known {
            // It could not be read: nobody knows which state it is in.
            self.kill();
            return Ok(());
        }
        // An open that succeeds settles what is there, and makes it durable.
        self.in_doubt = None;
        self.history.promise(self.sim.mark());
        Ok(())
    }

    fn write(&mut self, batch: &mut WriteBatch, durability: Durability) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        let visible = self.history.current();
        self.history.start(self.sim.position(), batch);
        match db.write(batch, durability) {
            Ok(_) if self.is_in_doubt() => {
                return Err(Violation("a poisoned store took a write".to_owned()));
            }
            Ok(_) => {
                if durability == Durability::Sync {
                    self.history.promise(self.sim.mark());
                }
            }
            Err(e) => self.write_failed(visible, &e)?,
        }
        self.compare("write")
    }

    /// A write failed; before it, the store was in state `visible`.
    fn write_failed(&mut self, visible: usize, e: &WriteError) -> Result<(), Violation> {
        match e {
            WriteError::Full(_) | WriteError::Io(_) if !self.is_in_doubt() => self.history.fail(),
            // It was refused, and is not there; or it is what poisoned the store.
            WriteError::Poisoned(_) if self.is_in_doubt() => self.history.fail(),
            WriteError::Poisoned(_) => self.in_doubt = Some(visible),
            e => return Err(Violation(format!("write: an error that cannot be: {e}"))),
        }
        self.error("write", e)
    }

    /// What has been written is visible, and nobody knows whether it is on the disk.
    pub(super) fn doubt(&mut self, e: &WriteError) {
        if matches!(e, WriteError::Poisoned(_)) {
            let visible = self.history.current();
            self.in_doubt.get_or_insert(visible);
        }
    }

    fn sync(&mut self) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        match db.sync() {
            Ok(()) => self.is_durable(),
            Err(e) => {
                self.doubt(&e);
                self.error("sync", &e)
            }
        }
    }

    /// The store has said that everything is durable.
    fn is_durable(&mut self) -> Result<(), Violation> {
        if self.is_in_doubt() {
            return Err(Violation("a poisoned store said that it is durable".to_owned()));
        }
        self.history.promise(self.sim.mark());
        Ok(())
    }

    fn compact(&mut self) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        let result = db.compact_now().map(drop);
        self.compacted(result)?;
        self.compare("compaction")
    }

    /// A compaction has ended.
    pub(super) fn compacted(&mut self, result: Result<(), WriteError>) -> Result<(), Violation> {
        match result {
            Ok(()) => Ok(()),
            Err(e) => {
                self.doubt(&e);
                self.error("compaction", &e)
            }
        }
    }

    /// Writes a checkpoint, which makes everything durable.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn checkpoint(&mut self) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        match db.checkpoint() {
            Ok(_) if self.is_in_doubt() => {
                Err(Violation("a poisoned store wrote a checkpoint".to_owned()))
            }
            Ok(true) => {
                self.history.promise(self.sim.mark());
                Ok(())
            }
            Ok(false) => self.error("checkpoint", &"not written"),
            Err(e) => {
                self.doubt(&e);
                self.error("checkpoint", &e)
            }
        }
    }

    /// Closes the store and opens it again.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn close(&mut self) -> Result<(), Violation> {
        if let Some(db) = self.db.take() {
            match db.close() {
                Ok(()) if self.is_in_doubt() => {
                    return Err(Violation("a poisoned store was closed in order".to_owned()));
                }
                Ok(()) => self.history.promise(self.sim.mark()),
                Err(e) => {
                    self.doubt(&e);
                    self.error("close", &e)?;
                }
            }
            self.compare_held("close")?;
            self.held.clear();
        }
        self.open()
    }

    /// Ends the process that has the store open.
    pub fn kill(&mut self) {
        let (db, held) = (self.db.take(), std::mem::take(&mut self.held));
        self.sim.kill(|| drop((held, db)));
    }

    /// The open store must hold what was written; where that is in doubt, something legal. Notes
    /// which state it is in.
    ///
    /// # Errors
    ///
    /// It holds something else.
    pub fn compare(&mut self, when: &str) -> Result<(), Violation> {
        let Some(db) = self.db.clone() else { return Ok(()) };
        self.compare_held(when)?;
        let print = match whole_of(&db) {
            Ok(print) => print,
            Err(e @ ReadError::Io(_)) => return self.error("read", &e),
            Err(e) => return Err(Violation(format!("after {when}: {e}"))),
        };
        let position = self.sim.position();
        match self.in_doubt {
            None if self.print_of(self.history.current()) == print => return Ok(()),
            Some(oldest) => {
                let is_found = |i: &usize| self.print_of(*i) == print;
                let mut legal = self.history.legal(position + 1).filter(|i| *i >= oldest);
                if let Some(index) = legal.find(is_found) {
                    drop(legal);
                    if when == "open" {
                        self.history.reopened(position, index);
                    }
                    return Ok(());
                }
            }
            None => {}
        }
        let contents = contents_of(&db).map_err(|e| Violation(e.to_string()))?;
        let text = self.history.explain(position + 1, &contents);
        let snapshots = db.snapshots();
        Err(Violation(format!("after {when}, without a power cut: {text}\nit has {snapshots:?}")))
    }

    /// What a store in state `index` is compared by.
    fn print_of(&self, index: usize) -> Fingerprint {
        self.history.state(index).whole()
    }
}
