//! Backups: made while writes go on, interrupted at every moment, made again.
//!
//! `SILTSTONE_BACKUP_SEEDS` sets how many workloads are put through crashes and faults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use siltstone::testing::store::BackupTest;
use siltstone::testing::{CallKind, CrashOptions, Fault, FaultPlan};

fn seeds() -> u64 {
    std::env::var("SILTSTONE_BACKUP_SEEDS").map_or(40, |n| n.parse().unwrap())
}

/// Goal: a backup that the power cut short is the earlier one or the new one, and the next one is
/// equal to the store. Method: every crash state of workloads with backups in them.
#[test]
fn every_crash_leaves_the_earlier_backup_or_the_new_one() {
    let options = CrashOptions { subsets_max: 6, samples: 12, contexts: 1, tears: 3, seed: 1 };
    let mut test = BackupTest::new(options);
    for seed in 1..=seeds() {
        test.crash(seed).unwrap_or_else(|e| panic!("{e}"));
    }
    let tally = test.tally;
    say!("backup crashes: {tally:?}, 0 violations");
    assert!(tally.backups > 2 * seeds() && tally.distinct > 100 * seeds());
    assert!(tally.segments.iter().all(|count| *count > 0));
}

/// Goal: whatever call fails, the store goes on and the target is the earlier backup or the new
/// one. Method: every call of a backup fails in turn, in every way.
#[test]
fn every_failing_call_leaves_the_earlier_backup_or_the_new_one() {
    let faults = [
        Fault::Error(Fault::EIO),
        Fault::Error(Fault::ENOSPC),
        Fault::Error(Fault::EINTR),
        Fault::ErrorAfter(Fault::EIO),
        Fault::ErrorAfterAll(Fault::ENOSPC),
        Fault::Short(7),
        Fault::Kill,
    ];
    let mut test = BackupTest::new(CrashOptions::default());
    for seed in 1..=seeds() / 2 {
        for fault in faults {
            for forever in [false, true] {
                let mut n = 0;
                loop {
                    let plan = FaultPlan { times: 1, ..FaultPlan::once(n, fault) };
                    let plan = if forever { FaultPlan::forever(n, fault) } else { plan };
                    if !test.fault(seed, &plan).unwrap_or_else(|e| panic!("{e}")) {
                        break;
                    }
                    n += 1;
                }
            }
        }
        for kind in [CallKind::Link, CallKind::Copy] {
            let plan = FaultPlan::forever(0, Fault::Error(Fault::EXDEV)).of(&[kind]);
            test.fault(seed, &plan).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    say!("backup faults: {:?}, 0 violations", test.tally);
    assert!(test.tally.errors > 100 * seeds());
}
