//! Power cuts at every operation of many small runs: what is found afterwards is always a state
//! that the store was in, with everything that it had acknowledged as durable.
//!
//! `SILTSTONE_CRASH_STATES` sets how many different states are looked at, `SILTSTONE_CRASH_SEED`
//! the first seed, `SILTSTONE_REPRO` replays one failure.

#[macro_use]
mod common;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use siltstone::testing::store::{CrashTest, Violation};
use siltstone::testing::{CrashOptions, Repro};

/// The floor: fewer different states fail the test.
const STATES: u64 = 1_000_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// One seed in sixteen is enumerated with every tear and many subsets; the others are many, and
/// thinner.
fn make_test(seed: u64) -> CrashTest {
    let deep = CrashOptions { subsets_max: 4, samples: 6, contexts: 0, tears: 6, seed };
    if seed.is_multiple_of(16) {
        CrashTest::new(CrashOptions { seed, ..CrashOptions::default() }, deep, 500)
    } else {
        let options = CrashOptions { subsets_max: 5, samples: 10, contexts: 1, tears: 16, seed };
        CrashTest::new(options, deep, 200)
    }
}

#[test]
fn every_crash_state_is_legal() {
    if let Some(repro) = Repro::from_env().unwrap() {
        make_test(repro.seed).replay(&repro).unwrap_or_else(|e| panic!("{e}"));
        say!("no violation at {repro}");
        return;
    }
    let floor = setting("SILTSTONE_CRASH_STATES", STATES);
    let next = AtomicU64::new(setting("SILTSTONE_CRASH_SEED", 1));
    let first = next.load(Ordering::Relaxed);
    let (distinct, states, deep) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let failures: Mutex<Vec<Violation>> = Mutex::default();
    let seen: Mutex<HashSet<u64>> = Mutex::default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while distinct.load(Ordering::Relaxed) < floor && !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let mut test = make_test(seed);
                    if let Err(e) = test.run(seed) {
                        failures.lock().unwrap().push(e);
                        failed.store(true, Ordering::Relaxed);
                    }
                    states.fetch_add(test.tally.states, Ordering::Relaxed);
                    deep.fetch_add(test.tally.deep, Ordering::Relaxed);
                    let mut seen = seen.lock().unwrap();
                    seen.extend(test.into_seen());
                    distinct.store(seen.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let count = distinct.load(Ordering::Relaxed);
    say!(
        "crash: {count} different states ({} with repeats, {} from crashes during recovery) of \
         workloads {first}..{}, {:.0} a second, {} violations",
        states.load(Ordering::Relaxed),
        deep.load(Ordering::Relaxed),
        next.load(Ordering::Relaxed),
        count as f64 / seconds,
        failures.lock().unwrap().len(),
    );
    if let Some(e) = failures.lock().unwrap().first() {
        panic!("{e}");
    }
    assert!(count >= floor, "{count} states, the floor is {floor}");
}
