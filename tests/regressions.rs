//! Mistakes that the crash, damage and fault tests have found, one small test each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::Arc;

use siltstone::testing::{CrashOptions, SimVfs};
use siltstone::vfs::{OpenMode, Vfs};
use siltstone::{Db, Durability, Options, WriteBatch};

fn options(sim: &SimVfs) -> Options {
    Options::new().vfs(Arc::new(sim.clone())).segment_len(512).inline_maintenance(true)
}

fn open(sim: &SimVfs) -> Db {
    options(sim).open("/store").unwrap()
}

fn put(db: &Db, key: &str, len: usize, durability: Durability) {
    let mut batch = WriteBatch::new();
    batch.put("c", key.as_bytes(), &vec![7; len]).unwrap();
    db.write(&mut batch, durability).unwrap();
}

/// A batch over several segments makes them all before any of its frames is durable: if only the
/// segments survive, the store opened no more.
#[test]
fn segments_of_a_lost_batch_are_not_in_the_way() {
    let sim = SimVfs::new();
    let db = open(&sim);
    put(&db, "kept", 10, Durability::Sync);
    let cut = sim.mark();
    let mut batch = WriteBatch::new();
    for i in 0..8 {
        batch.put("c", format!("lost {i}").as_bytes(), &[1; 200]).unwrap();
    }
    db.write(&mut batch, Durability::Buffered).unwrap();
    let mut lost = 0;
    for state in sim.crash_states(&CrashOptions::default()).filter(|s| s.point.cut > cut) {
        let db = open(&state.disk());
        assert!(matches!(db.len("c"), 1 | 9), "the batch came in part: {} keys", db.len("c"));
        lost += u64::from(db.len("c") == 1);
        assert!(db.get("c", b"kept").unwrap().is_some());
    }
    assert!(lost > 100, "{lost}");
}

/// The length of a segment that recovery had cut was still on record: the next opens found it
/// short, although the store had been closed in order.
#[test]
fn store_that_was_cut_and_closed_opens_clean() {
    let sim = SimVfs::new();
    let db = open(&sim);
    put(&db, "kept", 10, Durability::Sync);
    sim.kill(|| drop(db));
    let segment = sim.open(Path::new("/store/0000000000000001.seg"), OpenMode::ReadWrite).unwrap();
    segment.write_at(b"torn", 200).unwrap();
    let db = open(&sim);
    assert_eq!(db.recovery_report().cuts().count(), 1);
    db.close().unwrap();
    let db = open(&sim);
    assert!(db.recovery_report().clean, "{:?}", db.recovery_report());
}

/// Only the name of the store's own directory was made durable, not those of the directories that
/// were created above it.
#[test]
fn directories_above_a_new_store_are_durable() {
    let sim = SimVfs::new();
    let db = options(&sim).open("/new/deep/store").unwrap();
    put(&db, "kept", 10, Durability::Sync);
    let cut = sim.mark();
    let mut states = sim.crash_states(&CrashOptions::default());
    assert!(states.by_ref().any(|state| state.point.cut == cut));
    for state in sim.crash_states(&CrashOptions::default()).filter(|s| s.point.cut == cut) {
        let db = options(&state.disk()).create(false).open("/new/deep/store").unwrap();
        assert_eq!(db.len("c"), 1);
    }
}
