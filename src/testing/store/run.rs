//! A run of a workload: the store on its simulated disk, and the history that it must agree with.

use std::fmt;
use std::path::PathBuf;

use super::super::{Contents, Fingerprint, History, SimVfs};
use super::workload::{Step, Workload, options};
use crate::engine::{Db, Durability, OpenError, ReadError, WriteBatch, WriteError};

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
    /// A write or a sync failed in such a way that nobody knows what is on the disk.
    in_doubt: bool,
    /// Calls are made to fail: errors are answers, not violations.
    faults: bool,
    /// Errors that were returned.
    errors: u64,
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
            in_doubt: false,
            faults,
            errors: 0,
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

    /// True after an error that leaves open what is on the disk: until the next open.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
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
        match options(&self.sim, self.segment_len).open(&self.dir) {
            Ok(db) => self.db = Some(db),
            Err(e @ OpenError::Io(_)) => return self.error("open", &e),
            Err(e) => return Err(Violation(format!("open refused: {e}"))),
        }
        self.compare("open")?;
        if self.in_doubt {
            // An open that succeeds settles what is there.
            self.in_doubt = false;
        }
        // What an open has found is durable when it returns.
        self.history.promise(self.sim.mark());
        Ok(())
    }

    fn write(&mut self, batch: &mut WriteBatch, durability: Durability) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        self.history.start(self.sim.position(), batch);
        match db.write(batch, durability) {
            Ok(_) if self.in_doubt => {
                return Err(Violation("a poisoned store took a write".to_owned()));
            }
            Ok(_) => {
                if durability == Durability::Sync {
                    self.history.promise(self.sim.mark());
                }
            }
            Err(e) => self.write_failed("write", &e)?,
        }
        self.compare("write")
    }

    fn write_failed(&mut self, what: &str, e: &WriteError) -> Result<(), Violation> {
        match e {
            WriteError::Full(_) | WriteError::Io(_) if !self.in_doubt => self.history.fail(),
            // It was refused, and is not there; or it is what poisoned the store.
            WriteError::Poisoned(_) if self.in_doubt => self.history.fail(),
            WriteError::Poisoned(_) => self.in_doubt = true,
            e => return Err(Violation(format!("{what}: an error that cannot be: {e}"))),
        }
        self.error(what, e)
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
            Ok(()) if self.in_doubt => {
                Err(Violation("a poisoned store said that it is durable".to_owned()))
            }
            Ok(()) => {
                self.history.promise(self.sim.mark());
                Ok(())
            }
            Err(e) => {
                self.in_doubt |= matches!(e, WriteError::Poisoned(_));
                self.error("persist", &e)
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
                Ok(()) if self.in_doubt => {
                    return Err(Violation("a poisoned store was closed in order".to_owned()));
                }
                Ok(()) => self.history.promise(self.sim.mark()),
                Err(e) => {
                    self.in_doubt |= matches!(e, WriteError::Poisoned(_));
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
        if !self.in_doubt && self.history.now().fingerprint() == print {
            return Ok(());
        }
        if self.in_doubt
            && let Some(index) = self.history.find(position + 1, print)
        {
            if when == "open" {
                self.history.reopened(position, index);
            }
            return Ok(());
        }
        let contents = contents_of(&db).map_err(|e| Violation(e.to_string()))?;
        let text = self.history.explain(position + 1, &contents);
        Err(Violation(format!("after {when}, without a power cut: {text}")))
    }
}
