//! The fault test: a call fails, and the store must return an error, hold a legal state, go on when
//! the fault is over, and open again.

use super::super::{CrashOptions, FaultPlan, SimVfs};
use super::crash::CrashTest;
use super::run::{Run, Violation};
use super::workload::{Step, Workload};
use crate::engine::{Durability, WriteBatch};

/// How much was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultTally {
    /// Runs, each with another fault.
    pub runs: u64,
    /// Calls that failed.
    pub injected: u64,
    /// Errors that the store returned.
    pub errors: u64,
    /// Runs after which the store was poisoned.
    pub poisoned: u64,
    /// Crash states looked at, of runs with faults.
    pub crash_states: u64,
}

/// When calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// From the first open of the store to the end of the workload.
    Run,
    /// While a store is opened whose process was killed.
    Open,
}

/// A fault test.
#[derive(Debug)]
pub struct FaultTest {
    /// Every so many runs, all crash states of the run are looked at; 0 for never.
    pub crash_every: u64,
    /// What was done so far.
    pub tally: FaultTally,
}

impl FaultTest {
    /// A test that looks at the crash states of one run in `crash_every`.
    pub fn new(crash_every: u64) -> Self {
        FaultTest { crash_every, tally: FaultTally::default() }
    }

    /// How many calls the workload of `seed` makes at this moment, if none fails.
    ///
    /// # Errors
    ///
    /// It fails without a fault.
    pub fn calls(seed: u64, moment: Moment) -> Result<u64, Violation> {
        let mut workload = Workload::new(seed);
        let (sim, history) = Run::whole(&mut workload)?;
        let calls = sim.calls();
        if moment == Moment::Run {
            return Ok(calls);
        }
        let mut run = Run::resume(&sim, &workload, history);
        run.open()?;
        Ok(sim.calls() - calls)
    }

    /// Runs the workload of `seed` with `plan`; true if any call failed.
    ///
    /// # Errors
    ///
    /// What the store must not do.
    pub fn run(&mut self, seed: u64, moment: Moment, plan: &FaultPlan) -> Result<bool, Violation> {
        let mut workload = Workload::new(seed);
        let (sim, mut run) = match moment {
            Moment::Run => {
                let sim = SimVfs::new();
                let run = Run::new(&sim, &workload, true);
                (sim, run)
            }
            Moment::Open => {
                let (sim, history) = Run::whole(&mut workload)?;
                let run = Run::resume(&sim, &workload, history);
                (sim, run)
            }
        };
        sim.set_fault(Some(plan.clone()));
        run.expect_faults(true);
        let mut steps = std::mem::take(&mut workload.steps);
        if moment == Moment::Open {
            steps.truncate(1);
            run.open()?;
        }
        for step in &mut steps {
            run.step(step)?;
        }
        let injected = sim.injected();
        sim.set_fault(None);
        run.expect_faults(false);
        self.tally.runs += 1;
        self.tally.injected += injected;
        self.tally.poisoned += u64::from(run.is_in_doubt());
        self.go_on(&mut run)?;
        self.tally.errors += run.errors();
        if self.crash_every > 0 && self.tally.runs.is_multiple_of(self.crash_every) {
            let options = CrashOptions { subsets_max: 3, samples: 4, contexts: 0, tears: 3, seed };
            let mut crash = CrashTest::new(options.clone(), options, 0);
            let looked = crash.look_at(&sim, run.history(), &workload, run.trusted());
            self.tally.crash_states += crash.tally.distinct;
            looked?;
        }
        Ok(injected > 0)
    }

    /// Nothing fails any more: a store that is not poisoned takes writes without a reopen, one
    /// that is refuses them and is read; both open again.
    pub(in crate::testing) fn go_on(&self, run: &mut Run) -> Result<(), Violation> {
        run.compare("the fault")?;
        if run.is_in_doubt() {
            // Not open if it was to be opened again and that failed too.
            if let Some(db) = run.db()
                && (db.write(&mut probe(b"refused"), Durability::Sync).is_ok()
                    || db.persist().is_ok())
            {
                return Err(Violation("a poisoned store takes writes".to_owned()));
            }
        } else if run.db().is_some() {
            match run.step(&mut Step::Write(probe(b"goes on"), Durability::Sync)) {
                // A failed sync of a segment that is being sealed shows with the next write.
                Err(_) if run.is_in_doubt() => {}
                result => result?,
            }
        }
        run.kill();
        run.open()?;
        run.step(&mut Step::Write(probe(b"after"), Durability::Sync))?;
        run.step(&mut Step::Kill)?;
        let check = run.db().map(|db| db.check());
        let Some(Ok(check)) = check else { return Err(Violation("no check".to_owned())) };
        if !check.is_ok() {
            return Err(Violation(format!("check after a fault: {check:?}")));
        }
        run.step(&mut Step::Close)?;
        run.kill();
        Ok(())
    }
}

fn probe(key: &[u8]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put("probe", key, &[9; 40]).expect("small");
    batch
}
