//! A run's snapshots: the durable ones, and those that are held while the store goes on.

use super::super::super::Fingerprint;
use super::shown::shown_by;
use super::{Run, Violation};
use crate::engine::{Iter, PersistOptions, ReadError, Snapshot, SnapshotError};

/// What shows the store as it was at one moment.
pub(super) struct Held {
    snapshot: Snapshot,
    /// Iterators by collection, not begun.
    iters: Vec<(String, Iter)>,
    /// What they must show.
    print: Fingerprint,
}

impl Held {
    /// What the snapshot shows.
    fn shown(&self) -> Result<Fingerprint, ReadError> {
        shown_by(&self.snapshot)
    }

    /// What the iterators show; they are at their end then.
    fn iterated(&mut self) -> Result<Fingerprint, ReadError> {
        let mut print = Fingerprint::default();
        for (name, iter) in &mut self.iters {
            for entry in iter {
                let entry = entry?;
                print.add(name, &entry.key, &entry.value);
            }
        }
        Ok(print)
    }
}

impl Run {
    /// Records a durable snapshot, which makes everything durable.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn persist(&mut self, name: Option<String>) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        let visible = self.history.current();
        // One whose record is the last of the log is asked for again, if both have no name. What
        // compaction notes when one is recorded comes behind it, and makes the next one a new one.
        let newest = db.snapshots().pop().filter(|s| s.seqno + 1 == db.stats().next_seqno);
        let recorded = newest
            .filter(|newest| name.is_none() && newest.name.is_none())
            .map(|newest| newest.id)
            .filter(|id| self.history.now().snapshots().contains(id));
        let mut id = recorded.unwrap_or(0);
        if recorded.is_none() {
            let (name, unnamed_max) = (name.clone(), self.setup.unnamed_max);
            self.history.start_with(self.sim.position(), |model| {
                id = model.record_snapshot(name, unnamed_max);
            });
        }
        let options = PersistOptions { name, ..PersistOptions::default() };
        match db.persist_with(options) {
            Ok(info) if id != info.id => {
                return Err(Violation(format!("snapshot {id:?} was recorded as {info:?}")));
            }
            Ok(_) => self.is_durable()?,
            Err(e) if recorded.is_none() => self.write_failed(visible, &e)?,
            Err(e) => {
                self.doubt(&e);
                self.error("persist", &e)?;
            }
        }
        self.compare("persist")
    }

    /// Makes the store what it was at one of the durable snapshots that there are.
    pub(super) fn roll_back(&mut self, nth: usize) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        let ids = self.history.now().snapshots();
        let Some(id) = nth.checked_rem(ids.len()).map(|nth| ids[nth]) else { return Ok(()) };
        let visible = self.history.current();
        let unnamed_max = self.setup.unnamed_max;
        self.history.start_with(self.sim.position(), |model| {
            model.record_snapshot(Some(format!("before rollback to {id}")), unnamed_max);
            model.roll_back(id);
        });
        match db.rollback_to(id) {
            Ok(_) => self.is_durable()?,
            Err(SnapshotError::Write(e)) => self.write_failed(visible, &e)?,
            // Nothing was changed.
            Err(SnapshotError::Read(e @ ReadError::Io(_))) => {
                self.history.fail();
                self.error("rollback", &e)?;
            }
            Err(e @ SnapshotError::Missing { .. }) if self.is_in_doubt() => {
                self.history.fail();
                self.error("rollback", &e)?;
            }
            Err(e) => return Err(Violation(format!("rollback to {id}: {e}"))),
        }
        self.compare("rollback")
    }

    /// Drops one of the durable snapshots that there are.
    pub(super) fn drop_snapshot(&mut self, nth: usize) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        let ids = self.history.now().snapshots();
        let Some(id) = nth.checked_rem(ids.len()).map(|nth| ids[nth]) else { return Ok(()) };
        let visible = self.history.current();
        self.history.start_with(self.sim.position(), |model| model.drop_snapshot(id));
        match db.drop_snapshot(id) {
            Ok(()) => self.is_durable()?,
            Err(SnapshotError::Write(e)) => self.write_failed(visible, &e)?,
            // In doubt, it may never have been recorded.
            Err(e @ SnapshotError::Missing { .. }) if self.is_in_doubt() => {
                self.history.fail();
                self.error("drop snapshot", &e)?;
            }
            Err(e) => return Err(Violation(format!("drop snapshot {id}: {e}"))),
        }
        self.compare("drop snapshot")
    }

    pub(super) fn hold(&mut self) -> Result<(), Violation> {
        self.open()?;
        let Some(db) = self.db.clone() else { return Ok(()) };
        let snapshot = db.snapshot();
        let print = match shown_by(&snapshot) {
            Ok(print) => print,
            Err(e @ ReadError::Io(_)) => return self.error("read", &e),
            Err(e) => return Err(Violation(format!("a new snapshot: {e}"))),
        };
        let iters =
            db.collections().into_iter().map(|(name, _)| (name.clone(), db.iter(&name))).collect();
        self.held.push(Held { snapshot, iters, print });
        self.compare("making a snapshot")
    }

    pub(super) fn release(&mut self) -> Result<(), Violation> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut oldest = self.held.remove(0);
        match oldest.iterated() {
            Ok(print) if print == oldest.print => {}
            Ok(_) => return Err(Violation("an iterator shows what was not there".to_owned())),
            Err(e @ ReadError::Io(_)) => self.error("read", &e)?,
            Err(e) => return Err(Violation(format!("an iterator: {e}"))),
        }
        drop(oldest);
        self.compare("letting go of a snapshot")
    }

    /// What is held must show what it always did.
    pub(super) fn compare_held(&mut self, when: &str) -> Result<(), Violation> {
        let mut errors = Vec::new();
        for held in &self.held {
            match held.shown() {
                Ok(print) if print == held.print => {}
                Ok(_) => return Err(Violation(format!("after {when}, a snapshot has changed"))),
                Err(e @ ReadError::Io(_)) => errors.push(e),
                Err(e) => return Err(Violation(format!("after {when}, a snapshot: {e}"))),
            }
        }
        errors.iter().try_for_each(|e| self.error("read", e))
    }
}
