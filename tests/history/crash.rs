//! Power cuts in a rollback.

use siltstone::testing::CrashOptions;
use siltstone::testing::store::RollbackTest;

/// Goal: a power cut at any moment of a rollback leaves the store as it was or as it was to be,
/// and nothing in between, however many segments the batch goes through.
#[test]
fn power_cut_leaves_a_rollback_whole_or_undone() {
    let mut states = 0;
    for seed in 1..=20 {
        let options = CrashOptions { subsets_max: 6, samples: 12, tears: 24, seed, contexts: 1 };
        let mut test = RollbackTest::new(options);
        test.run(seed).unwrap();
        states += test.states;
    }
    assert!(states > 4_000, "{states} states only");
}
