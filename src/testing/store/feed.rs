//! The feed test: consumers read along while a workload runs, and go on from their positions after
//! every power cut.
//!
//! The feed of a recovered store must be its history, batch by batch. A consumer of durable batches
//! must always be able to go on. One of everything must be able to go on if what it has seen was
//! recovered, and must be refused, now and for ever, if not.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::{CrashOptions, CrashState, History, Model, SimVfs};
use super::run::{Violation, fingerprint_of};
use super::workload::{Step, Workload, options};
use crate::engine::{
    ChangeBatch, Changes, CompactionOptions, Db, Durability, FeedError, FeedOptions, FeedPosition,
    OpenError, Options, WriteBatch, WriteError,
};

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedTally {
    /// Workloads run.
    pub workloads: u64,
    /// Different crash states that were recovered.
    pub states: u64,
    /// Positions that were taken up again after a power cut.
    pub resumed: u64,
    /// Positions of what was lost in a power cut, all refused.
    pub refused: u64,
}

/// A feed test.
#[derive(Debug)]
pub struct FeedTest {
    /// How far the enumeration of crash states goes.
    pub options: CrashOptions,
    /// What was done so far.
    pub tally: FeedTally,
}

/// Someone who reads the feed and builds up what the store holds.
#[derive(Clone, Default)]
struct Consumer {
    only_durable: bool,
    position: Option<FeedPosition>,
    /// Batches seen.
    seen: usize,
    model: Model,
}

/// A consumer as it was at a moment of the run.
struct Record {
    moment: usize,
    consumer: Consumer,
}

/// A store in use, and what is known about it.
struct FeedRun {
    sim: SimVfs,
    history: History,
    db: Option<Db>,
}

/// Options of a store whose whole log stays.
fn whole_log(sim: &SimVfs, segment_len: u64) -> Options {
    options(sim, segment_len).compaction(CompactionOptions::manual())
}

impl FeedRun {
    fn step(&mut self, step: &mut Step, place: &(PathBuf, u64)) -> Result<(), Violation> {
        let failed = |e: WriteError| violation("a step", &e);
        let db = match self.db.take() {
            Some(db) => db,
            None => self.open(place)?,
        };
        self.db = match step {
            Step::Write(batch, durability) => {
                self.history.start(self.sim.position(), batch);
                db.write(batch, *durability).map_err(failed)?;
                if *durability == Durability::Sync {
                    self.history.promise(self.sim.mark());
                }
                Some(db)
            }
            Step::Sync | Step::Persist => {
                db.sync().map_err(failed)?;
                self.history.promise(self.sim.mark());
                Some(db)
            }
            Step::Checkpoint => {
                db.checkpoint().map_err(failed)?;
                self.history.promise(self.sim.mark());
                Some(db)
            }
            Step::Close => {
                db.close().map_err(failed)?;
                Some(self.open(place)?)
            }
            Step::Kill => {
                self.sim.kill(|| drop(db));
                Some(self.open(place)?)
            }
            // Plain workloads have no others.
            _ => Some(db),
        };
        Ok(())
    }

    /// Opens the store, which makes everything that is found durable.
    fn open(&mut self, (dir, segment_len): &(PathBuf, u64)) -> Result<Db, Violation> {
        let opened = whole_log(&self.sim, *segment_len).open(dir);
        let db = opened.map_err(|e| violation("the store does not open", &e))?;
        self.history.promise(self.sim.mark());
        Ok(db)
    }
}

fn violation(what: &str, e: &dyn std::fmt::Display) -> Violation {
    Violation(format!("{what}: {e}"))
}

impl Consumer {
    fn new(only_durable: bool) -> Self {
        Consumer { only_durable, ..Consumer::default() }
    }

    fn open(&self, db: &Db) -> Result<Changes, FeedError> {
        let position = self.position.unwrap_or_else(|| FeedPosition::from(0));
        db.changes_with(position, FeedOptions::new().only_durable(self.only_durable))
    }

    fn take(&mut self, batch: &ChangeBatch) -> Result<(), Violation> {
        let mut copy = WriteBatch::new();
        batch.append_to(&mut copy).map_err(|e| violation("a batch cannot be copied", &e))?;
        self.model.apply(&copy);
        self.position = Some(batch.position());
        self.seen += 1;
        Ok(())
    }

    /// Reads on as far as there is something; each batch must lead to the next state of `history`.
    fn read_on(&mut self, db: &Db, history: &History) -> Result<(), Violation> {
        let failed = |e: FeedError| violation("the feed cannot be read", &e);
        let mut changes = self.open(db).map_err(failed)?;
        while let Some(batch) = changes.try_next().map_err(failed)? {
            self.take(&batch)?;
            let is_state = self.seen < history.len()
                && history.state(self.seen).fingerprint() == self.model.fingerprint();
            if !is_state {
                let seen = self.seen;
                return Err(Violation(format!("after {seen} batches, {batch:?} leads astray")));
            }
        }
        Ok(())
    }
}

impl FeedTest {
    /// A test that goes so far.
    pub fn new(options: CrashOptions) -> Self {
        FeedTest { options, tally: FeedTally::default() }
    }

    /// Runs the workload of `seed` with two consumers, and looks at its crash states.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn run(&mut self, seed: u64) -> Result<(), Violation> {
        let at_seed = |e: Violation| Violation(format!("seed {seed}: {e}"));
        self.run_seed(seed).map_err(at_seed)
    }

    fn run_seed(&mut self, seed: u64) -> Result<(), Violation> {
        let mut workload = Workload::new(seed);
        let sim = SimVfs::new();
        let mut run = FeedRun { sim: sim.clone(), history: History::new(), db: None };
        let place = (workload.dir.clone(), workload.setup.segment_len);
        let mut consumers = [Consumer::new(true), Consumer::new(false)];
        let mut records = Vec::new();
        for step in &mut workload.steps {
            run.step(step, &place)?;
            let Some(db) = &run.db else { continue };
            for consumer in &mut consumers {
                consumer.read_on(db, &run.history)?;
                records.push(Record { moment: sim.position(), consumer: consumer.clone() });
            }
            let [durable, all] = &consumers;
            if all.seen != run.history.current() || durable.seen > all.seen {
                let (durable, all) = (durable.seen, all.seen);
                let written = run.history.current();
                let what = format!("{written} batches, consumers saw {durable} and {all}");
                return Err(Violation(what));
            }
        }
        sim.kill(|| drop(run.db));
        self.tally.workloads += 1;
        let history = run.history;
        let mut seen = HashSet::new();
        let mut states = sim.crash_states(&self.options);
        while let Some(state) = states.next() {
            if !seen.insert(state.hash) {
                continue;
            }
            self.tally.states += 1;
            let moment = |record: &&Record| record.moment <= state.point.cut;
            let past: Vec<&Record> = records.iter().filter(moment).collect();
            let latest = |only_durable| {
                past.iter().rev().find(move |r| r.consumer.only_durable == only_durable)
            };
            let consumers = [latest(true), latest(false)].into_iter().flatten();
            let consumers = consumers.map(|record| record.consumer.clone()).collect();
            self.check_state(&state, &history, &workload, consumers).map_err(|e| {
                Violation(format!("at {}: {}\n{e}", state.point, states.describe()))
            })?;
        }
        Ok(())
    }

    fn check_state(
        &mut self,
        state: &CrashState,
        history: &History,
        workload: &Workload,
        consumers: Vec<Consumer>,
    ) -> Result<(), Violation> {
        let disk = state.disk();
        let dir = &workload.dir;
        let beside = read_beside(&disk, dir, workload.setup.segment_len, history)?;
        let db = whole_log(&disk, workload.setup.segment_len)
            .open(dir)
            .map_err(|e| violation("a crash state does not open", &e))?;
        let found = fingerprint_of(&db).map_err(|e| violation("a crash state", &e))?;
        let mut whole = Consumer::new(true);
        whole.read_on(&db, history)?;
        let index = whole.seen;
        if whole.model.fingerprint() != found {
            return Err(Violation(format!("the store does not hold what {index} batches made")));
        }
        if !history.legal(state.point.cut).any(|legal| legal == index) {
            return Err(Violation(format!("the feed has {index} batches")));
        }
        if beside.is_some_and(|beside| beside != index) {
            return Err(Violation(format!("{index} batches, a reader saw {beside:?}")));
        }
        let (kept, lost): (Vec<_>, Vec<_>) = consumers.into_iter().partition(|c| c.seen <= index);
        if let Some(lost) = lost.iter().find(|lost| lost.only_durable) {
            let seen = lost.seen;
            return Err(Violation(format!("{seen} durable batches were seen, {index} are left")));
        }
        let mut history_now = history.clone();
        history_now.reopened(usize::MAX, index);
        // More than one, so that the log comes past the positions of what was lost.
        let mut batches = 0;
        while batches < 2 || (batches < 40 && lost.iter().any(|lost| is_ahead(lost, &db))) {
            let mut batch = WriteBatch::new();
            let key = (state.hash ^ batches).to_le_bytes();
            batch.put("after", &key, &key).map_err(|e| violation("put", &e))?;
            let durability = if batches == 0 { Durability::Buffered } else { Durability::Sync };
            db.write(&mut batch, durability).map_err(|e| violation("write", &e))?;
            whole.model.apply(&batch);
            batches += 1;
        }
        for mut consumer in kept {
            let mut changes =
                consumer.open(&db).map_err(|e| violation("a position that was kept", &e))?;
            while let Some(batch) = changes.try_next().map_err(|e| violation("reading on", &e))? {
                consumer.take(&batch)?;
            }
            if consumer.model.fingerprint() != whole.model.fingerprint() {
                return Err(Violation("a consumer that went on is somewhere else".to_owned()));
            }
            self.tally.resumed += 1;
        }
        for consumer in lost {
            if let Ok(changes) = consumer.open(&db) {
                let seen = consumer.seen;
                let what = format!("{seen} batches were seen, {index} are left, and {changes:?}");
                return Err(Violation(what));
            }
            self.tally.refused += 1;
        }
        disk.kill(|| drop(db));
        Ok(())
    }
}

fn is_ahead(consumer: &Consumer, db: &Db) -> bool {
    matches!(consumer.open(db), Err(FeedError::Ahead { .. }))
}

/// How many batches a reader sees that changes nothing, if there is a store.
fn read_beside(
    disk: &SimVfs,
    dir: &Path,
    segment_len: u64,
    history: &History,
) -> Result<Option<usize>, Violation> {
    let reader = match whole_log(disk, segment_len).read_only(true).open(dir) {
        Ok(reader) => reader,
        Err(OpenError::Missing { .. }) => return Ok(None),
        Err(e) => return Err(violation("a reader cannot open a crash state", &e)),
    };
    let mut durable = Consumer::new(true);
    durable.read_on(&reader, history)?;
    let mut all = Consumer::new(false);
    all.read_on(&reader, history)?;
    if durable.seen > all.seen || disk.position() > 0 {
        return Err(Violation("a reader saw more durable batches than batches".to_owned()));
    }
    Ok(Some(all.seen))
}
