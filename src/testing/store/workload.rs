//! Workloads: what a store is put through, made from a seed.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::{Rng, SimVfs};
use crate::engine::{CompactionOptions, Durability, Options, Retention, WriteBatch};
use crate::observed::Moment;

/// One step of a workload.
#[derive(Debug)]
pub enum Step {
    /// A batch is written.
    Write(WriteBatch, Durability),
    /// [`crate::Db::sync`].
    Sync,
    /// [`crate::Db::persist`].
    Persist,
    /// [`crate::Db::checkpoint`].
    Checkpoint,
    /// [`crate::Db::persist_with`] and a name, which keeps it from going by itself.
    PersistNamed(String),
    /// [`crate::Db::drop_snapshot`] of one of those that there are, in turn from the oldest.
    DropSnapshot(usize),
    /// [`crate::Db::rollback_to`] one of those that there are, in turn from the oldest.
    Rollback(usize),
    /// [`crate::Db::compact_now`].
    Compact,
    /// The same, and while it is on its way, other steps are done: each when it comes to the
    /// moment named. Those do not compact, close or kill.
    CompactDuring(Vec<(Moment, Step)>),
    /// A value is read, and between the look in the index and the one in the segments the store is
    /// compacted.
    ReadDuring,
    /// A snapshot in memory is made and held, and an iterator.
    Hold,
    /// What was held for longest is let go.
    Release,
    /// The store is closed and opened again.
    Close,
    /// The process is killed and the store opened by the next one. Nothing that was written is
    /// lost: the operating system is still there.
    Kill,
}

/// Steps on a small store, all of it following from a seed.
#[derive(Debug)]
pub struct Workload {
    /// The seed.
    pub seed: u64,
    /// Where the store is.
    pub dir: PathBuf,
    /// How it is opened.
    pub setup: Setup,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// How the store of a test is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Bytes of a segment: so few that segments roll every few records.
    pub segment_len: u64,
    /// Compaction runs by itself, behind writes, when the log takes more than this many percent
    /// of what is needed of it; `None`: only when it is asked for.
    pub space_percent: Option<u64>,
    /// How many durable snapshots without a name are kept.
    pub unnamed_max: usize,
}

impl Setup {
    /// Segments of this many bytes, everything else as by default.
    pub fn of(segment_len: u64) -> Self {
        Setup { segment_len, space_percent: Some(125), unnamed_max: 8 }
    }

    /// The options that a store on `sim` is opened with.
    pub fn options(&self, sim: &SimVfs) -> Options {
        let compaction = match self.space_percent {
            Some(percent) => CompactionOptions::default().space_percent(percent),
            None => CompactionOptions::manual(),
        };
        Options::new()
            .vfs(Arc::new(sim.clone()))
            .segment_len(self.segment_len)
            .inline_maintenance(true)
            .compaction(compaction)
            .retention(Retention::count(self.unnamed_max))
            .store_id(*STORE_ID)
    }
}

const COLLECTIONS: [&str; 4] = ["data", "nodes", "", "a-longer-name/of-a-collection"];

impl Workload {
    /// Seeds from here on lead to workloads that overwrite and delete few keys over many segments,
    /// and compact, record snapshots and drop them all the time.
    pub const CHURN: u64 = 1 << 32;

    /// The workload that follows from `seed`.
    pub fn new(seed: u64) -> Self {
        if seed >= Self::CHURN {
            return Self::churn(seed);
        }
        let mut rng = Rng::new(seed);
        let segment_len = 512 + 64 * rng.below(9) as u64;
        let dir = if rng.percent(8) { "/deep/down/store" } else { "/store" };
        // Each workload has its own temper: how often it syncs, how large its batches are.
        let sync_percent = [0, 10, 30, 60][rng.below(4)];
        let large_percent = [0, 5, 15][rng.below(3)];
        let reopen_percent = [0, 10, 25][rng.below(3)];
        let steps = (0..3 + rng.below(10)).map(|i| {
            if rng.percent(reopen_percent) {
                return if rng.percent(50) { Step::Close } else { Step::Kill };
            }
            if rng.percent(sync_percent / 3) {
                return Step::Persist;
            }
            let large = rng.percent(large_percent);
            let batch = make_batch(&mut rng, i as u64, segment_len, large);
            let sync = rng.percent(sync_percent);
            Step::Write(batch, if sync { Durability::Sync } else { Durability::Buffered })
        });
        let mut steps: Vec<Step> = steps.collect();
        // Numbers of their own, so that the rest is what it would be without.
        let mut rng = Rng::new(seed ^ 0x0043_4845_434B);
        if rng.percent(35) {
            for _ in 0..1 + rng.below(2) {
                steps.insert(rng.below(steps.len() + 1), Step::Checkpoint);
            }
        }
        Workload { seed, dir: dir.into(), setup: Setup::of(segment_len), steps }
    }

    fn churn(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup {
            segment_len: 512 + 64 * rng.below(5) as u64,
            space_percent: [None, None, None, Some(110), Some(150)][rng.below(5)],
            unnamed_max: 1 + rng.below(3),
        };
        let churn = Churn {
            keys: [3, 6, 12, 40][rng.below(4)],
            sync_percent: [10, 30, 60][rng.below(3)],
            delete_percent: [20, 40][rng.below(2)],
            // A hook that compacts would wait for itself.
            is_manual: setup.space_percent.is_none(),
            configure: rng.percent(15),
        };
        let count = 8 + rng.below(18);
        let steps = (0..count).map(|i| churn.step(&mut rng, i as u64)).collect();
        Workload { seed, dir: "/store".into(), setup, steps }
    }

    /// The options that this workload's store is opened with on `sim`.
    pub fn options(&self, sim: &SimVfs) -> Options {
        self.setup.options(sim)
    }
}

/// The temper of a workload that churns.
struct Churn {
    keys: usize,
    sync_percent: usize,
    delete_percent: usize,
    is_manual: bool,
    configure: bool,
}

impl Churn {
    fn step(&self, rng: &mut Rng, i: u64) -> Step {
        match rng.below(100) {
            0..4 => Step::Rollback(rng.below(4)),
            4..14 => Step::Compact,
            14..24 if self.is_manual => self.during(rng, i),
            14..27 => Step::Compact,
            27..34 => Step::Persist,
            34..36 => Step::PersistNamed(format!("snapshot of step {i}")),
            36..42 => Step::DropSnapshot(rng.below(4)),
            42..47 => Step::Hold,
            47..50 => Step::Release,
            50 => Step::Sync,
            51..54 => Step::Checkpoint,
            54..56 => Step::Close,
            56..58 => Step::Kill,
            58..61 if self.is_manual => Step::ReadDuring,
            _ => self.write(rng, i),
        }
    }

    fn write(&self, rng: &mut Rng, i: u64) -> Step {
        let sync = rng.percent(self.sync_percent);
        let durability = if sync { Durability::Sync } else { Durability::Buffered };
        Step::Write(self.batch(rng, i), durability)
    }

    /// A compaction with things that happen meanwhile.
    fn during(&self, rng: &mut Rng, i: u64) -> Step {
        let moments = [Moment::Surveyed, Moment::Written, Moment::Listed, Moment::Swung];
        let count = 1 + rng.below(3);
        let steps = (0..count).map(|n| {
            let step = match rng.below(10) {
                0 => Step::Hold,
                1 => Step::Release,
                2 => Step::Persist,
                3 => Step::DropSnapshot(rng.below(3)),
                _ => self.write(rng, i << 8 | n as u64),
            };
            (moments[rng.below(4)], step)
        });
        Step::CompactDuring(steps.collect())
    }

    /// A batch of 1 to 5 operations on few keys.
    fn batch(&self, rng: &mut Rng, step: u64) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for _ in 0..1 + rng.below(5) {
            let collection = if rng.percent(85) { "data" } else { "nodes" };
            let key = format!("k{}", rng.below(self.keys)).into_bytes();
            if rng.percent(self.delete_percent) {
                batch.delete(collection, &key).expect("far below every limit");
            } else if rng.percent(3) {
                batch.clear(collection).expect("far below every limit");
            } else {
                let len = if rng.percent(12) { 120 + rng.below(150) } else { rng.below(48) };
                let value = make_value(rng, step, len);
                batch.put(collection, &key, &value).expect("far below every limit");
            }
        }
        if self.configure && rng.percent(20) {
            configure(rng, &mut batch);
        }
        batch
    }
}

/// Has a collection compressed from now on, or not.
#[cfg(feature = "compression")]
fn configure(rng: &mut Rng, batch: &mut WriteBatch) {
    use crate::engine::{CollectionOptions, Compression};
    let compression = [Compression::Lz4, Compression::Dictionary, Compression::Off][rng.below(3)];
    let options = CollectionOptions::new().compression(compression);
    batch.configure("data", options).expect("far below every limit");
}

#[cfg(not(feature = "compression"))]
fn configure(_rng: &mut Rng, _batch: &mut WriteBatch) {}

/// Options of a small store on `sim`, whose every byte follows from what is done to it.
pub(in crate::testing) fn options(sim: &SimVfs, segment_len: u64) -> Options {
    Setup::of(segment_len).options(sim)
}

const STORE_ID: &[u8; 16] = b"siltstone-tests!";

/// A batch of 1 to 8 operations; a large one has more than fits into a segment, or a value that
/// does not.
fn make_batch(rng: &mut Rng, step: u64, segment_len: u64, large: bool) -> WriteBatch {
    let segment_len = usize::try_from(segment_len).expect("a small number");
    let mut batch = WriteBatch::new();
    let huge_value = large && rng.percent(40);
    let target = segment_len * (1 + rng.below(3));
    let ops_max = if rng.percent(60) { 3 } else { 8 };
    let ops = 1 + rng.below(ops_max);
    let mut i = 0;
    while i < ops || (large && !huge_value && batch.byte_len() < target && i < 60) {
        let collection = COLLECTIONS[rng.below(COLLECTIONS.len()).min(rng.below(4))];
        let key = make_key(rng);
        let kind = rng.below(100);
        if kind < 75 {
            let len =
                if huge_value && i == 0 { segment_len + rng.below(700) } else { value_len(rng) };
            let value = make_value(rng, step, len);
            batch.put(collection, &key, &value).expect("far below every limit");
        } else if kind < 94 {
            batch.delete(collection, &key).expect("far below every limit");
        } else {
            batch.clear(collection).expect("far below every limit");
        }
        i += 1;
    }
    batch
}

/// One of a few keys, so that they are overwritten and deleted again and again.
fn make_key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => Vec::new(),
        1 => vec![0; 9],
        n => format!("key-{n}").into_bytes(),
    }
}

fn value_len(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0 => 0,
        1 => 150 + rng.below(120),
        _ => rng.below(40),
    }
}

/// Bytes that name their step, so that no two values are alike; or zeros, which look like room
/// that was never written.
fn make_value(rng: &mut Rng, step: u64, len: usize) -> Vec<u8> {
    let mut value = vec![0; len];
    if rng.percent(85) {
        rng.fill(&mut value);
        for (to, from) in value.iter_mut().zip(step.to_le_bytes()) {
            *to = from;
        }
    }
    value
}
