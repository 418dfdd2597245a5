//! Every call to the file system fails in turn, in every way, once and for ever: an error is
//! returned, the state is legal, the store goes on or opens again.
//!
//! `SILTSTONE_FAULT_SEEDS` sets how many workloads are put through this.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use siltstone::testing::bugs::{Situation, Situations, situations};
use siltstone::testing::store::{
    FaultTally, FaultTest, Moment, Workload, full_disk_is_left_by_compaction,
    full_disk_never_sticks,
};
use siltstone::testing::{CallKind, Fault, FaultPlan, SimVfs};
use siltstone::{
    CompactionOptions, Db, Durability, Options, PersistOptions, Update, WriteBatch, WriteError,
};

const FAULTS: [Fault; 12] = [
    Fault::Error(Fault::EIO),
    Fault::Error(Fault::ENOSPC),
    Fault::Error(Fault::EINTR),
    Fault::Error(Fault::EDQUOT),
    Fault::Error(Fault::EACCES),
    Fault::ErrorAfter(Fault::EIO),
    Fault::ErrorAfter(Fault::ENOSPC),
    Fault::ErrorAfterAll(Fault::EIO),
    Fault::Short(0),
    Fault::Short(1),
    Fault::Short(13),
    Fault::Kill,
];

/// Tries every fault at the calls that the workload of `seed` makes at `moment`.
fn sweep(test: &mut FaultTest, seed: u64, moment: Moment) {
    let calls = FaultTest::calls(seed, moment).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    // Long workloads make thousands of calls: each fault then takes its turn at every so many.
    let calls_max = std::env::var("SILTSTONE_FAULT_CALLS").map_or(400, |n| n.parse().unwrap());
    let step = (calls / calls_max).max(1);
    for n in 0..calls {
        for (turn, fault) in (0..).zip(FAULTS) {
            if (n + turn) % step != 0 {
                continue;
            }
            for plan in [FaultPlan::once(n, fault), FaultPlan::forever(n, fault)] {
                if let Err(e) = test.run(seed, moment, &plan) {
                    let len = Workload::new(seed).setup.segment_len;
                    panic!("seed {seed}, segments of {len}, {moment:?}, {plan:?}: {e}");
                }
            }
        }
    }
}

#[test]
fn every_failing_call_is_borne() {
    sweep_seeds(1, 16);
}

/// The same of workloads that compact, record snapshots and drop them all the time.
#[test]
fn every_failing_call_of_compactions_and_snapshots_is_borne() {
    let situations = sweep_seeds(Workload::CHURN + 1, 8);
    say!("faults: {} plans of compaction came to nothing", situations[Situation::PlanFailed]);
    assert!(situations[Situation::PlanFailed] > 0);
}

/// Tries every fault at every call of `count` workloads from `first` on.
fn sweep_seeds(first: u64, count: u64) -> Situations {
    let count: u64 = std::env::var("SILTSTONE_FAULT_SEEDS").map_or(count, |n| n.parse().unwrap());
    let last = first + count - 1;
    let next = AtomicU64::new(first);
    let started = Instant::now();
    let work = || {
        let mut test = FaultTest::new(600);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return (test.tally, situations());
            }
            sweep(&mut test, seed, Moment::Run);
            sweep(&mut test, seed, Moment::Open);
        }
    };
    let done: Vec<(FaultTally, Situations)> = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).into()
    });
    let sum = |field: fn(&FaultTally) -> u64| done.iter().map(|(t, _)| field(t)).sum::<u64>();
    let runs = sum(|t| t.runs);
    say!(
        "faults: {runs} runs of workloads {first}..={last}, {} calls failed, {} errors returned, \
         {} stores poisoned, {} crash states, {:.0} runs a second, 0 violations",
        sum(|t| t.injected),
        sum(|t| t.errors),
        sum(|t| t.poisoned),
        sum(|t| t.crash_states),
        runs as f64 / started.elapsed().as_secs_f64(),
    );
    assert!(runs > 1_000 * count, "{runs} runs");
    assert!(sum(|t| t.errors) > runs && sum(|t| t.poisoned) > 0 && sum(|t| t.crash_states) > 0);
    let mut all = Situations::default();
    done.iter().for_each(|(_, situations)| all += *situations);
    all
}

/// A store of which every byte and every call follows from what the test does.
fn options(sim: &SimVfs) -> Options {
    Options::new().vfs(Arc::new(sim.clone())).segment_len(4096).inline_maintenance(true)
}

fn batch(key: u32, len: usize) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put("c", &key.to_le_bytes(), &vec![7; len]).unwrap();
    batch
}

#[test]
fn failed_sync_refuses_writes_until_the_next_open() {
    for code in [Fault::EIO, Fault::ENOSPC, Fault::EINTR] {
        let sim = SimVfs::new();
        let db = options(&sim).open("/store").unwrap();
        db.write(&mut batch(1, 10), Durability::Sync).unwrap();
        sim.set_fault(Some(FaultPlan::once(0, Fault::Error(code)).of(&[CallKind::Sync])));
        let failed = db.write(&mut batch(2, 10), Durability::Sync).unwrap_err();
        assert!(matches!(failed, WriteError::Poisoned(_)), "{failed}");
        // The fault is over, and nothing that the system says now can be believed.
        let syncs = sim.failed_syncs();
        for durability in [Durability::Buffered, Durability::Sync] {
            let refused = db.write(&mut batch(3, 10), durability).unwrap_err();
            assert!(matches!(refused, WriteError::Poisoned(_)), "{refused}");
        }
        assert!(matches!(db.persist(), Err(WriteError::Poisoned(_))));
        assert_eq!(sim.failed_syncs(), syncs, "a failed sync is not tried again");
        assert!(db.get("c", &1u32.to_le_bytes()).unwrap().is_some(), "reads go on");
        assert!(db.stats().poisoned.is_some());
        assert!(matches!(db.close(), Err(WriteError::Poisoned(_))));
        let db = options(&sim).open("/store").unwrap();
        assert!(!db.recovery_report().clean);
        assert!(db.get("c", &1u32.to_le_bytes()).unwrap().is_some());
        assert!(db.get("c", &3u32.to_le_bytes()).unwrap().is_none());
        db.write(&mut batch(4, 10), Durability::Sync).unwrap();
    }
}

#[test]
fn full_disk_loses_nothing_and_is_left_without_a_reopen() {
    for quota in (9_000..30_000).step_by(1_111) {
        let sim = SimVfs::new();
        let db = options(&sim).open("/store").unwrap();
        sim.set_quota(Some(quota));
        let mut acknowledged = Vec::new();
        let full = (0..).find_map(|key| match db.write(&mut batch(key, 90), Durability::Sync) {
            Ok(_) => {
                acknowledged.push(key);
                None
            }
            Err(e) => Some(e),
        });
        assert!(matches!(full, Some(WriteError::Full(_))), "quota {quota}: {full:?}");
        let all_there = |db: &Db, keys: &[u32]| {
            for key in keys {
                assert!(db.get("c", &key.to_le_bytes()).unwrap().is_some(), "{quota}: {key}");
            }
            assert_eq!(db.len("c"), keys.len() as u64, "quota {quota}");
        };
        all_there(&db, &acknowledged);
        assert!(matches!(
            db.write(&mut batch(9999, 90), Durability::Sync),
            Err(WriteError::Full(_))
        ));
        // What a crash of the full store leaves is all that was acknowledged.
        let files = sim.snapshot();
        all_there(&options(&SimVfs::with_files(&files)).open("/store").unwrap(), &acknowledged);
        for key in acknowledged.drain(..2) {
            assert!(db.delete("c", &key.to_le_bytes()).unwrap(), "deletes go on");
        }
        all_there(&db, &acknowledged);
        sim.set_quota(None);
        for key in 10_000..10_100 {
            db.write(&mut batch(key, 90), Durability::Sync).unwrap();
            acknowledged.push(key);
        }
        all_there(&db, &acknowledged);
        sim.kill(|| drop(db));
        let db = options(&sim).open("/store").unwrap();
        all_there(&db, &acknowledged);
        assert!(db.check().unwrap().is_ok());
    }
}

/// Goal: a disk that is full of dead records is left by compaction, and writes go on without a
/// reopen. Method: disks that fill up sooner and later, with overwrites alone and with deletions.
#[test]
fn compaction_leads_out_of_a_full_disk() {
    situations();
    for spare in (60_000..120_000).step_by(4_001) {
        for deletes in [false, true] {
            full_disk_is_left_by_compaction(spare, deletes).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    let released = situations()[Situation::ReserveReleased];
    say!("full disk: the reserve was needed {released} times");
    assert!(released > 10, "{released}");
}

/// Goal: random overwriting goes on for ever on a disk that is always full. Method: disks of 1.3 to
/// 2.5 times what is live, segments of which a few or a few dozen fit.
#[test]
fn a_full_disk_never_sticks() {
    for segment_len in [8 << 10, 16 << 10] {
        for percent in [130, 150, 175, 200, 250] {
            full_disk_never_sticks(percent, segment_len, 1).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// Goal: segments of which nothing is needed go from a disk that has no byte left, and nobody reads
/// what was in them.
#[test]
fn dead_segments_go_from_a_disk_without_a_byte_left() {
    let sim = SimVfs::new();
    let manual = CompactionOptions::manual();
    let options = Options::new().segment_len(8 << 10).inline_maintenance(true).compaction(manual);
    let db = options.vfs(Arc::new(sim.clone())).open("/store").unwrap();
    let put_all = || (0..200u32).for_each(|i| db.put("c", &i.to_le_bytes(), &[1; 500]).unwrap());
    put_all();
    db.compact_now().unwrap();
    put_all();
    db.sync().unwrap();
    let before = sim.used();
    sim.set_quota(Some(before));
    while db.put("c", b"k", b"v").is_ok() {}
    situations();
    db.compact_now().unwrap();
    let unread = situations()[Situation::DeadUnread];
    assert!(unread >= 10, "{unread} segments");
    assert!(sim.used() < before / 2 + 20_000, "{before} to {}", sim.used());
    db.put("c", b"k", b"v").unwrap();
}

/// Goal: every kind of write waits for compaction when the disk is full, and gets the room that
/// comes back. Method: with compaction paused a disk is filled with overwrites; then compaction
/// goes on, and at once one write of each kind must come through. While it is paused, writers are
/// told at once.
#[test]
fn writes_of_every_kind_wait_for_compaction_on_a_full_disk() {
    let sim = SimVfs::new();
    let options = Options::new().segment_len(32 << 10).vfs(Arc::new(sim.clone()));
    let db = options.open("/store").unwrap();
    let key = |n: u32| (n % 64).to_le_bytes();
    (0..64).for_each(|n| db.put("c", &key(n), &[1; 500]).unwrap());
    let kept = db.persist().unwrap();
    type Write = fn(&Db, u64) -> Result<(), String>;
    let kinds: [(&str, Write); 5] = [
        ("a batch", |db, _| {
            db.write(&mut batch(1, 8000), Durability::Sync).map(drop).map_err(|e| e.to_string())
        }),
        ("an asynchronous batch", |db, _| {
            let pending = db.write_async(batch(1, 8000), Durability::Sync);
            pending.wait().map(drop).map_err(|e| e.to_string())
        }),
        ("an update", |db, _| {
            let update = |_: Option<&[u8]>| Update::Put(vec![3; 8000]);
            db.fetch_update("c", b"updated", update).map(drop).map_err(|e| e.to_string())
        }),
        ("a rollback", |db, kept| db.rollback_to(kept).map(drop).map_err(|e| e.to_string())),
        ("a snapshot", |db, _| {
            let name = PersistOptions::named("n".repeat(8000));
            let named = db.persist_with(name).map_err(|e| e.to_string())?;
            db.drop_snapshot(named.id).map_err(|e| e.to_string())
        }),
    ];
    for (kind, write) in kinds {
        sim.set_quota(None);
        db.compact_now().unwrap();
        db.pause_compaction();
        sim.set_quota(Some(sim.used() + 300_000));
        let full = (0..).find_map(|n| db.put("c", &key(n), &[2; 500]).err());
        assert!(matches!(full, Some(WriteError::Full(_))), "{kind}: {full:?}");
        db.resume_compaction();
        write(&db, kept.id).unwrap_or_else(|e| panic!("{kind}: {e}; {:?}", db.stats()));
    }
}
