//! Steps of a run that are done in the middle of other ones: what another thread could do there,
//! done on the same one, so that every run is the same.

use std::cell::RefCell;
use std::rc::Rc;

use super::run::{Run, Violation};
use super::workload::{Setup, Step, Workload};
use crate::engine::{ReadError, WriteError};
use crate::observed::{Moment, with_hook};

/// What a hook leaves behind.
struct Inside {
    run: Run,
    steps: Vec<(Moment, Step)>,
    violation: Option<Violation>,
}

impl Run {
    /// Compacts, and does each of `steps` when compaction comes to its moment.
    pub(super) fn compact_during(&mut self, steps: Vec<(Moment, Step)>) -> Result<(), Violation> {
        let Some(db) = self.db.clone() else { return Ok(()) };
        let run = std::mem::replace(self, Self::stand_in(self));
        let inside = Rc::new(RefCell::new(Inside { run, steps, violation: None }));
        let hook = {
            let inside = Rc::clone(&inside);
            move |moment| inside.borrow_mut().come_to(moment)
        };
        let result = with_hook(hook, || db.compact_now().map(drop));
        drop(db);
        let inside = Rc::into_inner(inside).map(RefCell::into_inner);
        let Some(Inside { run, violation, .. }) = inside else {
            return Err(Violation("the hook outlives the compaction".to_owned()));
        };
        *self = run;
        if let Some(violation) = violation {
            return Err(violation);
        }
        self.compacted(result)?;
        self.compare("a compaction with other things meanwhile")
    }

    /// Something to stand in the place of a run that is elsewhere for a while.
    fn stand_in(run: &Run) -> Run {
        let setup = Setup::of(512);
        let nowhere = Workload { seed: 0, dir: "/".into(), setup, steps: Vec::new() };
        Run::new(&run.sim, &nowhere, false)
    }

    /// Reads every key, alone and with the others, and each time has the store compacted between
    /// the look in the index and the one in the segments.
    pub(super) fn read_during(&mut self) -> Result<(), Violation> {
        let Some(db) = self.db.clone() else { return Ok(()) };
        let compacting = {
            let db = db.clone();
            let results: Rc<RefCell<Vec<Result<(), WriteError>>>> = Rc::default();
            let inside = Rc::clone(&results);
            let mut is_done = false;
            let hook = move |moment| {
                if moment == Moment::Located && !std::mem::replace(&mut is_done, true) {
                    inside.borrow_mut().push(db.compact_now().map(drop));
                }
            };
            (hook, results)
        };
        let (hook, results) = compacting;
        let contents = self.history.now().contents().clone();
        let Some(((collection, key), value)) = contents.iter().next() else { return Ok(()) };
        let read = with_hook(hook, || {
            let found = db.get(collection, key)?;
            Ok::<_, ReadError>(found.is_some_and(|found| *found == **value))
        });
        drop(db);
        match read {
            Ok(true) => {}
            Ok(false) if self.is_in_doubt() => {}
            Ok(false) => return Err(Violation(format!("{collection}/{key:?} is not found"))),
            Err(e @ ReadError::Io(_)) => self.error("read", &e)?,
            Err(e) => return Err(Violation(format!("a read while the store is compacted: {e}"))),
        }
        let results = results.take();
        results.into_iter().try_for_each(|result| self.compacted(result))?;
        self.compare("a read with a compaction meanwhile")
    }
}

impl Inside {
    /// Does the steps that are meant for this moment.
    fn come_to(&mut self, moment: Moment) {
        for (at, step) in &mut self.steps {
            if *at == moment && self.violation.is_none() {
                // Done once, however often the moment comes.
                *at = Moment::Located;
                self.violation = self.run.step(step).err();
            }
        }
    }
}
