//! Readers, snapshots, writers and compaction on threads of their own, on a real directory: no
//! error, no wrong value, nothing that a snapshot shows changes; and what a snapshot pins is given
//! back.
//!
//! `SILTSTONE_THREADS_BATCHES` sets how many batches each writer writes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use siltstone::{CompactionOptions, Db, Durability, Options, Retention, Snapshot, WriteBatch};

/// Keys of each writer; nobody else writes to them.
const KEYS: u32 = 400;
const WRITERS: u32 = 2;
const NAME: &str = "c";

fn key(writer: u32, n: u32) -> Vec<u8> {
    format!("{writer}/{n}").into_bytes()
}

/// A value that tells whose it is, and whether it is whole.
fn value(key: &[u8], version: u32) -> Vec<u8> {
    let text = format!("{}={version};", String::from_utf8_lossy(key)).into_bytes();
    text.iter().copied().cycle().take(60 + version as usize % 300).collect()
}

/// The version of a value, which must be one of `key`.
fn version(key: &[u8], bytes: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(bytes);
    let start = format!("{}=", String::from_utf8_lossy(key));
    let number = text.strip_prefix(&start).and_then(|rest| rest.split(';').next());
    let version = number.and_then(|n| n.parse().ok());
    let version = version.unwrap_or_else(|| panic!("{start} has the value {text}"));
    assert_eq!(bytes, value(key, version), "{start}");
    version
}

/// A version that deletes its key.
fn is_deletion(version: u32) -> bool {
    version.is_multiple_of(7)
}

/// Everything that a snapshot shows, read both ways.
fn shown(snapshot: &Snapshot) -> BTreeMap<Vec<u8>, u32> {
    let mut all = BTreeMap::new();
    for entry in snapshot.iter(NAME) {
        let entry = entry.unwrap();
        let found = version(&entry.key, &entry.value);
        assert_eq!(all.insert(entry.key, found), None, "a key twice");
    }
    assert_eq!(snapshot.len(NAME), all.len() as u64);
    for (key, known) in all.iter().step_by(17) {
        let found = snapshot.get(NAME, key).unwrap().expect("iterated");
        assert_eq!(version(key, &found), *known);
    }
    all
}

/// Writes versions of its keys, each batch as a whole one version further on.
fn write(db: &Db, writer: u32, batches: u32) -> BTreeMap<Vec<u8>, u32> {
    let mut model = BTreeMap::new();
    for number in 1..=batches {
        let mut batch = WriteBatch::new();
        for n in 0..40 {
            let key = key(writer, (number * 31 + n * n) % KEYS);
            if is_deletion(number) {
                batch.delete(NAME, &key).unwrap();
                model.remove(&key);
            } else {
                batch.put(NAME, &key, &value(&key, number)).unwrap();
                model.insert(key, number);
            }
        }
        let durability =
            if number.is_multiple_of(20) { Durability::Sync } else { Durability::Buffered };
        db.write(&mut batch, durability).unwrap();
    }
    model
}

/// Gets and iterates until `done`; versions of a key never go back.
fn read(db: &Db, done: &AtomicBool) -> u64 {
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut reads = 0;
    while !done.load(Ordering::Relaxed) {
        for n in 0..KEYS {
            let key = key(n % WRITERS, n);
            if let Some(found) = db.get(NAME, &key).unwrap() {
                let found = version(&key, &found);
                let before = seen.insert(key, found).unwrap_or(0);
                assert!(found >= before, "an older version came back");
            }
            reads += 1;
        }
        for entry in db.iter(NAME) {
            let entry = entry.unwrap();
            version(&entry.key, &entry.value);
            reads += 1;
        }
    }
    reads
}

fn options() -> Options {
    Options::new().segment_len(64 << 10).retention(Retention::count(3))
}

#[test]
fn nothing_goes_wrong_while_everything_goes_on() {
    let batches = std::env::var("SILTSTONE_THREADS_BATCHES").map_or(700, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    let (done, left) = (AtomicBool::new(false), AtomicU64::new(u64::from(WRITERS)));
    let (mut model, mut reads, mut snapshots, mut runs) = (BTreeMap::new(), 0, 0, 0);
    std::thread::scope(|scope| {
        let (db, done, left) = (&db, &done, &left);
        let writers = (0..WRITERS).map(|writer| {
            scope.spawn(move || {
                let _last_ends_it = common::OnDrop(|| {
                    if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                        done.store(true, Ordering::Relaxed);
                    }
                });
                write(db, writer, batches)
            })
        });
        let writers: Vec<_> = writers.collect();
        let reader = scope.spawn(|| read(db, done));
        let holder = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let snapshot = db.snapshot();
                let first = shown(&snapshot);
                let info = db.persist().unwrap();
                let durable = db.open_snapshot(info.id).unwrap();
                let durable_first = shown(&durable);
                assert_eq!(shown(&snapshot), first, "a snapshot has changed");
                drop(snapshot);
                assert_eq!(shown(&durable), durable_first, "a durable snapshot has changed");
                if count % 2 == 0 {
                    db.drop_snapshot(info.id).unwrap();
                    assert_eq!(shown(&durable), durable_first, "dropped, and still open");
                }
                count += 1;
            }
            count
        });
        let compactor = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                db.compact_now().unwrap();
            }
            // Its own and those of the background.
            db.stats().compaction.runs
        });
        for writer in writers {
            model.extend(writer.join().unwrap());
        }
        reads = reader.join().unwrap();
        snapshots = holder.join().unwrap();
        runs = compactor.join().unwrap();
    });
    let compare = |db: &Db, when: &str| {
        let snapshot = db.snapshot();
        assert!(shown(&snapshot) == model, "{when}");
        assert_eq!(db.len(NAME), model.len() as u64, "{when}");
        assert!(db.check().unwrap().is_ok(), "{when}");
    };
    compare(&db, "at the end");
    db.close().unwrap();
    compare(&options().open(dir.path()).unwrap(), "opened again");
    say!(
        "threads: {WRITERS} writers of {batches} batches, {reads} reads, {snapshots} snapshots, \
         {runs} compactions: nothing wrong"
    );
    assert!(snapshots > 2 && runs > 2 && reads > 1000, "{snapshots} {runs} {reads}");
}

/// Bytes of the files in a directory.
fn disk_use(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    let segments = files.map(|f| f.unwrap()).filter(|f| f.path().extension().is_some());
    segments.map(|f| f.metadata().unwrap().len()).sum()
}

/// Goal: a snapshot held through a full overwrite and compaction reads every old value, and what it
/// pins, in memory and on disk, is given back when it is dropped.
#[test]
fn held_snapshot_reads_all_and_gives_all_back() {
    let dir = tempfile::tempdir().unwrap();
    let manual = CompactionOptions::manual();
    let db = options().compaction(manual).open(dir.path()).unwrap();
    let put_all = |version: u32| {
        for chunk in (0..5_000).collect::<Vec<u32>>().chunks(250) {
            let mut batch = WriteBatch::new();
            for n in chunk {
                let key = key(0, *n);
                batch.put(NAME, &key, &value(&key, version)).unwrap();
            }
            db.write(&mut batch, Durability::Buffered).unwrap();
        }
    };
    put_all(299);
    db.compact_now().unwrap();
    let before = (db.stats(), disk_use(dir.path()));
    let held = db.snapshot();
    put_all(298);
    db.compact_now().unwrap();
    let during = (db.stats(), disk_use(dir.path()));
    assert!(shown(&held).values().all(|version| *version == 299));
    assert!(shown(&db.snapshot()).values().all(|version| *version == 298));
    assert!(during.0.pinned_bytes() > before.0.live_bytes() * 9 / 10, "{:?}", during.0);
    drop(held);
    assert_eq!(db.stats().pinned_bytes(), 0, "given back at once");
    db.compact_now().unwrap();
    let after = (db.stats(), disk_use(dir.path()));
    say!(
        "snapshot held: {} bytes of files before, {} with {} pinned, {} when it was dropped",
        before.1,
        during.1,
        during.0.pinned_bytes(),
        after.1,
    );
    assert!(during.1 > before.1 * 3 / 2, "both versions are there");
    assert!(after.1 < before.1 * 5 / 4, "{} bytes, {} before", after.1, before.1);
    assert!(after.0.index_bytes <= before.0.index_bytes * 5 / 4);
    assert!(shown(&db.snapshot()).len() == 5_000);
}
