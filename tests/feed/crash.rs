//! Over power cuts.
//!
//! `SILTSTONE_FEED_STATES` sets how many crash states are looked at, `SILTSTONE_CRASH_SEED` the
//! first seed.

use siltstone::testing::CrashOptions;
use siltstone::testing::store::FeedTest;

/// The floor: fewer different states fail the test.
const STATES: u64 = 30_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Goal: the feed of a recovered store is its history, and every consumer goes on where it stood
/// or is told that it cannot.
#[test]
fn feeds_go_on_after_power_cuts() {
    let floor = setting("SILTSTONE_FEED_STATES", STATES);
    let first = setting("SILTSTONE_CRASH_SEED", 1);
    let mut test = FeedTest::new(CrashOptions::default());
    for seed in first.. {
        let options = CrashOptions { subsets_max: 4, samples: 6, contexts: 0, tears: 6, seed };
        test.options = options;
        test.run(seed).unwrap_or_else(|e| panic!("{e}"));
        if test.tally.states >= floor {
            break;
        }
    }
    say!("feed: {:?} from seed {first} on, 0 violations", test.tally);
    assert!(test.tally.resumed > floor / 2 && test.tally.refused > floor / 100);
}
