//! Workloads: what a store is put through, made from a seed.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::{Rng, SimVfs};
use crate::engine::{Durability, Options, WriteBatch};

/// One step of a workload.
#[derive(Debug)]
pub enum Step {
    /// A batch is written.
    Write(WriteBatch, Durability),
    /// [`crate::Db::persist`].
    Persist,
    /// [`crate::Db::checkpoint`].
    Checkpoint,
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
    /// Bytes of a segment: so few that segments roll every few records.
    pub segment_len: u64,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

const COLLECTIONS: [&str; 4] = ["data", "nodes", "", "a-longer-name/of-a-collection"];

impl Workload {
    /// The workload that follows from `seed`.
    pub fn new(seed: u64) -> Self {
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
        Workload { seed, dir: dir.into(), segment_len, steps }
    }

    /// The options that this workload's store is opened with on `sim`.
    pub fn options(&self, sim: &SimVfs) -> Options {
        options(sim, self.segment_len)
    }
}

/// Options of a small store on `sim`, whose every byte follows from what is done to it.
pub(in crate::testing) fn options(sim: &SimVfs, segment_len: u64) -> Options {
    Options::new()
        .vfs(Arc::new(sim.clone()))
        .segment_len(segment_len)
        .inline_maintenance(true)
        .store_id(*STORE_ID)
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
