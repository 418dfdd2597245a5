//! Power cuts in a rollback.

use std::collections::HashSet;

use super::super::{Contents, CrashOptions, Rng, SimVfs};
use super::run::{Violation, contents_of};
use super::workload::options;
use crate::engine::{Db, Durability, WriteBatch};

/// Runs a rollback on a small store and looks at what a power cut at any moment of it leaves: the
/// store as it was or as it was to be, whole; and in the second case the way back.
#[derive(Debug)]
pub struct RollbackTest {
    /// How far the enumeration of crash states goes.
    pub options: CrashOptions,
    /// Different crash states that were looked at.
    pub states: u64,
}

/// What the store held before the rollback, and what it is to hold after it.
struct Sides {
    before: Contents,
    after: Contents,
    segment_len: u64,
}

const DIR: &str = "/store";

impl RollbackTest {
    /// A test that goes so far.
    pub fn new(options: CrashOptions) -> Self {
        RollbackTest { options, states: 0 }
    }

    /// Looks at the rollback that follows from `seed`.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn run(&mut self, seed: u64) -> Result<(), Violation> {
        let in_seed = |e: String| Violation(format!("rollback of seed {seed}: {e}"));
        self.look(seed).map_err(in_seed)
    }

    fn look(&mut self, seed: u64) -> Result<(), String> {
        let mut rng = Rng::new(seed);
        let segment_len = 512 + 128 * rng.below(6) as u64;
        let sim = SimVfs::new();
        let db = options(&sim, segment_len).open(DIR).map_err(text)?;
        for _ in 0..rng.below(6) {
            write(&db, &mut rng)?;
        }
        let target = db.persist().map_err(text)?;
        let after = contents_of(&db).map_err(text)?;
        for _ in 0..1 + rng.below(8) {
            write(&db, &mut rng)?;
        }
        db.sync().map_err(text)?;
        let before = contents_of(&db).map_err(text)?;
        let sides = Sides { before, after, segment_len };
        let started = sim.mark();
        db.rollback_to(target.id).map_err(text)?;
        let promised = sim.mark();
        if contents_of(&db).map_err(text)? != sides.after {
            return Err("the store is not what it was at the snapshot".to_owned());
        }
        sim.kill(|| drop(db));
        let mut seen = HashSet::new();
        let mut states = sim.crash_states(&self.options);
        while let Some(state) = states.next() {
            let is_done = state.point.cut >= promised;
            if state.point.cut < started || !seen.insert((state.hash, is_done)) {
                continue;
            }
            self.states += 1;
            let told = |e| format!("at {}: {e}\n{}", state.point, states.describe());
            sides.check(&state.disk(), is_done).map_err(told)?;
        }
        Ok(())
    }
}

impl Sides {
    /// Opens what a power cut left; the rollback was acknowledged if it `is_done`.
    fn check(&self, disk: &SimVfs, is_done: bool) -> Result<(), String> {
        let db = options(disk, self.segment_len).open(DIR).map_err(text)?;
        let found = contents_of(&db).map_err(text)?;
        let Some(undo) = db.snapshots().into_iter().find(|s| s.name.is_some()) else {
            return match found == self.before {
                true if is_done => Err("an acknowledged rollback is gone".to_owned()),
                true => Ok(()),
                false => Err("half a rollback, or one without its snapshot".to_owned()),
            };
        };
        if found != self.after {
            return Err("the snapshot is there, and the rollback is not whole".to_owned());
        }
        db.rollback_to(undo.id).map_err(text)?;
        if contents_of(&db).map_err(text)? != self.before {
            return Err("a rollback was not undone by another one".to_owned());
        }
        Ok(())
    }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn write(db: &Db, rng: &mut Rng) -> Result<(), String> {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + rng.below(6) {
        let name = ["a", "b"][rng.below(2)];
        let key = format!("key-{}", rng.below(8));
        let added = match rng.below(12) {
            0 => batch.clear(name),
            1 | 2 => batch.delete(name, key.as_bytes()),
            _ => {
                let mut value = vec![0; rng.below(120)];
                rng.fill(&mut value);
                batch.put(name, key.as_bytes(), &value)
            }
        };
        added.map_err(text)?;
    }
    db.write(&mut batch, Durability::Buffered).map(drop).map_err(text)
}
