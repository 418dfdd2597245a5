//! Compaction in situations that are set up by hand.

use std::sync::Arc;

use siltstone::testing::{CallKind, CrashOptions, Fault, FaultPlan, SimVfs};
use siltstone::{CompactionOptions, Db, Options};

fn open(sim: &SimVfs, compaction: CompactionOptions) -> Db {
    let options = Options::new().vfs(Arc::new(sim.clone())).segment_len(8 << 10);
    options.inline_maintenance(true).compaction(compaction).open("/store").unwrap()
}

fn put(db: &Db, key: u32) {
    db.put("c", &key.to_le_bytes(), &[7; 500]).unwrap();
}

/// A closed store of 30 keys, whose first segment was damaged.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> SimVfs {
    let sim = SimVfs::new();
    let db = open(&sim, CompactionOptions::manual());
    (0..30).for_each(|key| put(&db, key));
    db.close().unwrap();
    let mut files = sim.snapshot();
    let is_segment = |path: &std::path::Path| path.extension().is_some_and(|e| e == "seg");
    let (_, bytes) = files.iter_mut().find(|(path, _)| is_segment(path)).unwrap();
    damage(bytes);
    SimVfs::with_files(&files)
}

/// Damages a value, deletes what stands beside it, and lets compaction do what it can. Returns how
/// often it ran after that, while nothing died.
pub(crate) fn beside_damage() -> u64 {
    let sim = damaged(|bytes| {
        // The value of the first key, which stays live.
        let at = bytes.windows(100).position(|w| w.iter().all(|b| *b == 7)).unwrap();
        bytes[at] ^= 1;
    });
    let db = open(&sim, CompactionOptions::default());
    for key in 1..30u32 {
        db.delete("c", &key.to_le_bytes()).unwrap();
    }
    for _ in 0..3 {
        (100..150).for_each(|key| put(&db, key));
    }
    let before = db.stats().compaction;
    assert!(before.runs > 0 && before.failure.is_some(), "{before:?}");
    (1000..1010).for_each(|key| put(&db, key));
    db.stats().compaction.runs - before.runs
}

/// Damages hints and a frame of a segment that a checkpoint covers, deletes the key in that frame,
/// compacts, and dies before the next checkpoint. True if the key is back at the next open.
pub(crate) fn deleted_beside_damage() -> bool {
    let sim = damaged(|bytes| {
        // The header of the frame with the first key, behind that of the segment; the last hint,
        // before the footer.
        let last_hint = bytes.len() - 100;
        bytes[64 + 8] ^= 1;
        bytes[last_hint] ^= 1;
    });
    let db = open(&sim, CompactionOptions::manual());
    assert!(db.recovery_report().checkpoint.is_some(), "{:?}", db.recovery_report());
    assert!(db.delete("c", &0u32.to_le_bytes()).unwrap());
    for _ in 0..3 {
        (100..130).for_each(|key| put(&db, key));
    }
    let report = db.compact_now().unwrap();
    assert!(report.segments_in > 0, "{report:?}");
    let sim = SimVfs::with_files(&sim.snapshot());
    let db = open(&sim, CompactionOptions::manual());
    assert!(db.recovery_report().checkpoint.is_some(), "{:?}", db.recovery_report());
    db.contains("c", &0u32.to_le_bytes()).unwrap()
}

/// Overwrites keys while compaction is paused. Returns how often it ran until it was resumed.
pub(crate) fn while_paused() -> u64 {
    let db = open(&SimVfs::new(), CompactionOptions::default());
    db.pause_compaction();
    for _ in 0..5 {
        (0..30).for_each(|key| put(&db, key));
    }
    let runs = db.stats().compaction.runs;
    db.resume_compaction();
    (0..30).for_each(|key| put(&db, key));
    assert!(db.stats().compaction.runs > runs, "there is something to do");
    runs
}

/// Compacts a store once for each sync that compaction makes, which fails. Returns the first one
/// that the caller was not told of.
pub(crate) fn with_failing_syncs() -> Option<u64> {
    for n in 0..100 {
        let sim = SimVfs::new();
        let db = open(&sim, CompactionOptions::manual());
        for _ in 0..3 {
            (0..30).for_each(|key| put(&db, key));
        }
        let plan = FaultPlan::once(n, Fault::Error(Fault::EIO)).of(&[CallKind::Sync]);
        sim.set_fault(Some(plan));
        let result = db.compact_now();
        if sim.injected() == 0 {
            assert!(n > 1, "compaction makes {n} syncs");
            result.unwrap();
            return None;
        }
        if result.is_ok() {
            return Some(n);
        }
    }
    panic!("compaction makes no end of syncs")
}

/// Compacts away what was overwritten by records that were not synced, and cuts the power. Returns
/// a key that is lost, if one is.
pub(crate) fn before_the_overwrites_are_durable() -> Option<u32> {
    let sim = SimVfs::new();
    let db = open(&sim, CompactionOptions::manual());
    (0..30).for_each(|key| put(&db, key));
    db.sync().unwrap();
    (0..5).for_each(|key| put(&db, key));
    let report = db.compact_now().unwrap();
    assert!(report.segments_in > 0, "{report:?}");
    let done = sim.mark();
    let options = CrashOptions { subsets_max: 6, samples: 16, ..CrashOptions::default() };
    let states = sim.crash_states(&options).filter(|state| state.point.cut >= done);
    states.take(200).find_map(|state| {
        let db = open(&state.disk(), CompactionOptions::manual());
        (0..30u32).find(|key| db.get("c", &key.to_le_bytes()).unwrap().is_none())
    })
}
