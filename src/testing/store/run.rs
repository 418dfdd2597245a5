//! A run of a workload: the store on its simulated disk, and the history that it must agree with.

use std::fmt;
use std::path::PathBuf;

use super::super::{Contents, Fingerprint, History, SimVfs};
use super::workload::{Step, Workload, options};
use crate::engine::{
    CompactionOptions, Db, Durability, OpenError, ReadError, WriteBatch, WriteError,
};

/// The store did what it must never do.
#[derive(Clone, Debug)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// A store in use, and what is known about it.
pub struct Run {
    sim: SimVfs,
    dir: PathBuf,
    segment_len: u64,
    db: Option<Db>,
    history: History,
    /// A write or a sync failed in such a way that nobody knows what is on the disk: it is this
    /// state or a later one.
    in_doubt: Option<usize>,
    /// Calls are made to fail: errors are answers, not violations.
    faults: bool,
    /// Errors that were returned.
    errors: u64,
    /// The moment of the first open after a sync had failed.
    trusted: Option<usize>,
    /// Whether compaction runs by itself.
    compaction: CompactionOptions,
}

/// The fingerprint of everything in the store, read key by key and verified.
///
/// # Errors
///
/// As [`Db::get`].
pub fn fingerprint_of(db: &Db) -> Result<Fingerprint, ReadError> {
    let mut print = Fingerprint::default();
    for (name, _) in db.collections() {
        for entry in db.iter(&name) {
            let entry = entry?;
            print.add(&name, &entry.key, &entry.value);
        }
    }
    Ok(print)
}

/// Everything in the store.
///
/// # Errors
///
/// As [`Db::get`].
pub fn contents_of(db: &Db) -> Result<Contents, ReadError> {
    let mut contents = Contents::new();
    for (name, _) in db.collections() {
        for entry in db.iter(&name) {
            let entry = entry?;
            contents.insert((name.clone(), entry.key), entry.value.to_vec());
        }
    }
    Ok(contents)
}

impl Run {
    /// A run on `sim`, where no store has been opened yet. With `faults`, the test makes calls
    /// fail: errors are recorded, and only what contradicts them is a violation.
    pub fn new(sim: &SimVfs, workload: &Workload, faults: bool) -> Self {
        Run {
            sim: sim.clone(),
            dir: workload.dir.clone(),
            segment_len: workload.segment_len,
            db: None,
            history: History::new(),
            in_doubt: None,
            faults,
            errors: 0,
            trusted: None,
            compaction: CompactionOptions::default(),
        }
    }

    /// Runs a whole workload on an empty disk on which nothing fails; returns the disk and the
    /// history.
    ///
    /// # Errors
    ///
    /// An error of the store, or contents that are not what was written.
    pub fn whole(workload: &mut Workload) -> Result<(SimVfs, History), Violation> {
        let sim = SimVfs::new();
        let mut run = Run::new(&sim, workload, false);
        for step in &mut workload.steps {
            run.step(step)?;
        }
        run.kill();
        Ok((sim, run.history))
    }

    /// Goes on with a store that a run has left on its disk.
    pub fn resume(sim: &SimVfs, workload: &Workload, history: History) -> Self {
        Run { history, ..Run::new(sim, workload, false) }
    }

    /// From the next open on, compaction runs when it is told to only.
    pub fn without_compaction(&mut self) {
        self.compaction = CompactionOptions::manual();
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
            Step::Persist => self.persist(),
            Step::Checkpoint => self.checkpoint(),
            Step::Close => self.close(),
            Step::Kill => {
                self.kill();
                self.open()
            }
        }
    }

    /// An error: what is to be expected when calls fail, and never otherwise.
    fn error(&mut self, what: &str, error: &dyn fmt::Display) -> Result<(), Violation> {
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
        match options(&self.sim, self.segment_len).compaction(self.compaction).open(&self.dir) {
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
    fn doubt(&mut self, e: &WriteError) {
        if matches!(e, WriteError::Poisoned(_)) {
            let visible = self.history.current();
            self.in_doubt.get_or_insert(visible);
        }
    }

    /// Makes everything durable.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn persist(&mut self) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        match db.persist() {
            Ok(_) if self.is_in_doubt() => {
                Err(Violation("a poisoned store said that it is durable".to_owned()))
            }
            Ok(_) => {
                self.history.promise(self.sim.mark());
                Ok(())
            }
            Err(e) => {
                self.doubt(&e);
                self.error("persist", &e)
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
        }
        self.open()
    }

    /// Ends the process that has the store open.
    pub fn kill(&mut self) {
        let db = self.db.take();
        self.sim.kill(|| drop(db));
    }

    /// The open store must hold what was written; where that is in doubt, something legal. Notes
    /// which state it is in.
    ///
    /// # Errors
    ///
    /// It holds something else.
    pub fn compare(&mut self, when: &str) -> Result<(), Violation> {
        let Some(db) = self.db.clone() else { return Ok(()) };
        let print = match fingerprint_of(&db) {
            Ok(print) => print,
            Err(e @ ReadError::Io(_)) => return self.error("read", &e),
            Err(e) => return Err(Violation(format!("after {when}: {e}"))),
        };
        let position = self.sim.position();
        match self.in_doubt {
            None if self.history.now().fingerprint() == print => return Ok(()),
            Some(oldest) => {
                let is_found = |i: &usize| self.history.state(*i).fingerprint() == print;
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
        Err(Violation(format!("after {when}, without a power cut: {text}")))
    }
}
