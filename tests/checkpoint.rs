//! Checkpoints: a store that is opened from one is the same store as without it.
//!
//! `SILTSTONE_CHECKPOINT_SEEDS` and `SILTSTONE_CHECKPOINT_RACES` set how much is looked at,
//! `SILTSTONE_CHECKPOINT_SEED` sets the first seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use siltstone::testing::store::CheckpointTest;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Goal: a checkpoint never changes what is opened. Method: random runs with snapshots, clears and
/// compaction; at each reopen the store is compared with itself without the checkpoint.
#[test]
fn a_checkpoint_changes_nothing() {
    let first = setting("SILTSTONE_CHECKPOINT_SEED", 1);
    let seeds = setting("SILTSTONE_CHECKPOINT_SEEDS", 1500);
    let mut test = CheckpointTest::default();
    for seed in first..first + seeds {
        test.run(seed).unwrap_or_else(|e| panic!("{e}"));
    }
    let tally = test.tally;
    say!("checkpoint: {seeds} runs, {tally:?}");
    assert!(tally.used > seeds && tally.relocated > seeds / 8 && tally.snapshots > seeds);
}

/// Goal: a checkpoint that is written while the store is written to is one of a single moment.
/// Method: as above, with threads that write, make and drop snapshots and compact meanwhile.
#[test]
fn a_checkpoint_is_of_one_moment() {
    let first = setting("SILTSTONE_CHECKPOINT_SEED", 1);
    let seeds = setting("SILTSTONE_CHECKPOINT_RACES", 40);
    let mut test = CheckpointTest::default();
    for seed in first..first + seeds {
        test.race(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    say!("checkpoint: {seeds} races, {:?}", test.tally);
}
