//! Power cuts at every operation of many small runs: what is found afterwards is always a state
//! that the store was in, with everything that it had acknowledged as durable, and with every
//! durable snapshot that it had.
//!
//! `SILTSTONE_CRASH_STATES` sets how many different states are looked at, and how many of them
//! inside compactions and snapshots; `SILTSTONE_CRASH_SEED` the first seed; `SILTSTONE_REPRO`
//! replays one failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use siltstone::testing::bugs::Situation;
use siltstone::testing::store::{CrashTest, Part, Tally, Violation, Workload};
use siltstone::testing::{CrashOptions, Repro};

/// The floor of plain workloads: fewer different states fail the test.
const STATES: u64 = 1_000_000;
/// The floor of workloads that compact: so many states inside of compactions and snapshots.
const STATES_INSIDE: u64 = 2_000_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// One seed in sixteen is enumerated with every tear and many subsets; the others are many, and
/// thinner.
fn make_test(seed: u64) -> CrashTest {
    let deep = CrashOptions { subsets_max: 4, samples: 6, contexts: 0, tears: 6, seed };
    // What lies between compactions and snapshots is like what the plain workloads do.
    let (rarer, outside_every) = if seed >= Workload::CHURN { (3, 16) } else { (1, 1) };
    let mut test = if seed.is_multiple_of(16) {
        CrashTest::new(CrashOptions { seed, ..CrashOptions::default() }, deep, 500 * rarer)
    } else {
        let options = CrashOptions { subsets_max: 5, samples: 10, contexts: 1, tears: 16, seed };
        CrashTest::new(options, deep, 200 * rarer)
    };
    test.outside_every = outside_every;
    test
}

/// What was looked at.
struct Looked {
    tally: Tally,
    distinct: u64,
    /// The seeds.
    first: u64,
    next: u64,
    seconds: f64,
}

/// Looks at workloads from seed `first` on, on two threads, until `count` of the tally reaches
/// `floor`.
fn look(first: u64, floor: u64, count: fn(&Tally) -> u64) -> Looked {
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let failures: Mutex<Vec<Violation>> = Mutex::default();
    let sum: Mutex<Tally> = Mutex::default();
    let seen: Mutex<HashSet<u64>> = Mutex::default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while count(&sum.lock().unwrap()) < floor && !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let mut test = make_test(seed);
                    if let Err(e) = test.run(seed) {
                        failures.lock().unwrap().push(e);
                        failed.store(true, Ordering::Relaxed);
                    }
                    sum.lock().unwrap().add(&test.tally);
                    seen.lock().unwrap().extend(test.into_seen());
                }
            });
        }
    });
    if let Some(e) = failures.lock().unwrap().first() {
        panic!("{e}");
    }
    let seconds = started.elapsed().as_secs_f64();
    let (next, tally) = (next.load(Ordering::Relaxed), *sum.lock().unwrap());
    let distinct = seen.lock().unwrap().len() as u64;
    Looked { tally, distinct, first, next, seconds }
}

/// Replays a failure if the environment names one of these seeds, or of others.
fn is_replay(is_ours: fn(u64) -> bool) -> bool {
    let Some(repro) = Repro::from_env().unwrap() else { return false };
    if is_ours(repro.seed) {
        make_test(repro.seed).replay(&repro).unwrap_or_else(|e| panic!("{e}"));
        say!("no violation at {repro}");
    }
    true
}

#[test]
fn every_crash_state_is_legal() {
    if is_replay(|seed| seed < Workload::CHURN) {
        return;
    }
    let floor = setting("SILTSTONE_CRASH_STATES", STATES);
    let looked = look(setting("SILTSTONE_CRASH_SEED", 1), floor, |tally| tally.distinct);
    let Looked { tally, distinct, first, next, seconds } = looked;
    say!(
        "crash: {distinct} different states ({} with repeats, {} from crashes during recovery) of \
         workloads {first}..{next}, {:.0} a second, 0 violations",
        tally.states,
        tally.deep,
        distinct as f64 / seconds,
    );
    // Two workloads may have a few in common.
    assert!(distinct + distinct / 100 >= floor, "{distinct} states, the floor is {floor}");
}

#[test]
fn every_crash_state_inside_compactions_and_snapshots_is_legal() {
    if is_replay(|seed| seed >= Workload::CHURN) {
        return;
    }
    let floor = setting("SILTSTONE_CRASH_STATES", STATES_INSIDE);
    let first = Workload::CHURN + setting("SILTSTONE_CRASH_SEED", 1);
    let looked = look(first, floor, |tally| tally.inside.iter().sum());
    let Looked { tally, distinct, first, next, seconds } = looked;
    let inside: u64 = tally.inside.iter().sum();
    let parts: Vec<String> =
        Part::ALL.iter().zip(tally.inside).map(|(part, n)| format!("{n} {part:?}")).collect();
    say!(
        "crash: {inside} different states inside ({}), {distinct} in all ({} with repeats, {} from \
         crashes during recovery) of workloads {first}..{next}, {:.0} a second, 0 violations",
        parts.join(", "),
        tally.states,
        tally.deep,
        distinct as f64 / seconds,
    );
    assert!(inside >= floor, "{inside} states, the floor is {floor}");
    for part in 0..Part::ALL.len() {
        assert!(tally.inside[part] > floor / 100, "{parts:?}");
    }
    assert!(distinct + distinct / 100 > inside, "states were counted twice: {distinct}");
    let counts: Vec<(Situation, u64)> =
        Situation::ALL.iter().map(|s| (*s, tally.situations[*s])).collect();
    say!("crash: the engine got into {counts:?}");
    // Needs an error, a full device.
    let elsewhere = [Situation::PlanFailed, Situation::ReserveReleased];
    for (situation, count) in counts {
        let is_here = !elsewhere.contains(&situation);
        assert!(count > 0 || !is_here, "{situation:?} never came up: the test has gone hollow");
    }
}
