//! Compaction on a real file system: what it gives back, what it leaves alone, its switches.

use std::path::Path;

use siltstone::{CompactionOptions, Db, Durability, Options, PersistOptions, WriteBatch};

fn options() -> Options {
    Options::new().segment_len(64 << 10).compaction(CompactionOptions::manual())
}

fn fill(db: &Db, round: u8) {
    for start in (0..400u32).step_by(50) {
        let mut batch = WriteBatch::new();
        for i in start..start + 50 {
            batch.put("data", &i.to_le_bytes(), &[round; 500]).unwrap();
        }
        db.write(&mut batch, Durability::Buffered).unwrap();
    }
}

fn segment_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap());
    let segments = files.filter(|f| f.path().extension().is_some_and(|e| e == "seg"));
    segments.map(|f| f.metadata().unwrap().len()).sum()
}

#[test]
fn space_comes_back_and_everything_stays() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    for round in 0..6 {
        fill(&db, round);
    }
    db.delete("data", &3u32.to_le_bytes()).unwrap();
    let report = db.compact_now().unwrap();
    assert!(report.segments_in > 10 && report.bytes_out < report.bytes_in / 4, "{report:?}");
    let live = db.stats().live_bytes();
    let bytes = segment_bytes(dir.path());
    assert!(bytes < live + live / 5 + (128 << 10), "{bytes} bytes for {live} live ones");
    assert_eq!(db.len("data"), 399);
    assert!(db.iter("data").all(|e| *e.unwrap().value == [5; 500]));
    drop(db);
    let db = options().open(dir.path()).unwrap();
    assert_eq!(db.len("data"), 399);
    assert!(db.get("data", &3u32.to_le_bytes()).unwrap().is_none());
    assert!(db.iter("data").all(|e| *e.unwrap().value == [5; 500]));
    assert!(db.check().unwrap().is_ok());
}

/// Goal: whoever reads is not disturbed. Method: values and iterators from before a compaction
/// that removes the segments they stand in.
#[test]
fn what_is_being_read_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    fill(&db, 1);
    fill(&db, 2);
    let value = db.get("data", &7u32.to_le_bytes()).unwrap().unwrap();
    let mut entries = db.iter("data");
    entries.next().unwrap().unwrap();
    let before = segment_bytes(dir.path());
    fill(&db, 3);
    db.compact_now().unwrap();
    assert_eq!(&*value, &[2; 500]);
    assert!(entries.by_ref().all(|e| *e.unwrap().value == [2; 500]));
    assert!(segment_bytes(dir.path()) > before / 2, "what is read is still there");
    drop((entries, value));
    assert!(segment_bytes(dir.path()) < before, "what nobody reads is gone");
}

/// Goal: a snapshot pins what it needs, and no longer than it is held.
#[test]
fn a_snapshot_pins_old_values_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    fill(&db, 1);
    let snapshot = db.snapshot();
    for round in 2..6 {
        fill(&db, round);
    }
    db.compact_now().unwrap();
    let live = db.stats().live_bytes();
    let stats = db.stats();
    // One old value of each key; the collection itself is live beside the keys.
    assert!(live - stats.pinned_bytes() < 64, "{live} {}", stats.pinned_bytes());
    assert_eq!(stats.oldest_snapshot, Some(snapshot.seqno()));
    assert_eq!(snapshot.len("data"), 400);
    assert!(snapshot.iter("data").all(|e| *e.unwrap().value == [1; 500]));
    let pinned = segment_bytes(dir.path());
    drop(snapshot);
    assert_eq!(db.stats().pinned_bytes(), 0);
    db.compact_now().unwrap();
    assert!(segment_bytes(dir.path()) + live / 2 < pinned);
}

/// Goal: a collection that was emptied is still listed when compaction has removed every trace of
/// its keys, also after reopening.
#[test]
fn an_emptied_collection_stays_listed() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let db = options().open(dir.path()).unwrap();
        if db.collections().is_empty() {
            db.put("emptied", b"k", b"v").unwrap();
            db.delete("emptied", b"k").unwrap();
            db.delete("never", b"k").unwrap();
        }
        db.compact_now().unwrap();
        assert_eq!(db.collections(), [("emptied".to_owned(), 0)]);
    }
}

#[test]
fn snapshots_are_numbered_once_and_not_made_twice() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    db.put("data", b"k", b"v").unwrap();
    let first = db.persist().unwrap();
    assert_eq!(db.persist().unwrap(), first, "nothing was written in between");
    let named = db.persist_with(PersistOptions::named("a").at(17)).unwrap();
    assert_eq!((named.id, named.time), (first.id + 1, Some(17)));
    db.drop_snapshot(named.id).unwrap();
    assert!(db.open_snapshot(named.id).is_err());
    drop(db);
    let db = options().open(dir.path()).unwrap();
    db.put("data", b"k", b"w").unwrap();
    let third = db.persist().unwrap();
    assert_eq!(third.id, named.id + 1);
    assert_eq!(db.snapshots(), [first.clone(), third]);
    let old = db.open_snapshot(first.id).unwrap();
    assert_eq!(old.get("data", b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Goal: the switches do what they say. Method: a run that is throttled to a crawl and paused,
/// then cancelled: the store is as it was, and the next run goes through.
#[test]
fn a_run_can_be_paused_and_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().segment_len(4 << 20).open(dir.path()).unwrap();
    for round in 0..20 {
        for key in 0..400u32 {
            let key = (key * u32::from(round % 3 + 1)).to_le_bytes();
            db.put("data", &key, &[round; 2000]).unwrap();
        }
    }
    let before: Vec<_> = db.iter("data").map(|e| e.unwrap().key).collect();
    // A byte a second: the run waits for years, unless it is told something else.
    db.throttle_compaction(1);
    let worker = {
        let db = db.clone();
        std::thread::spawn(move || db.compact_now().unwrap())
    };
    while !db.stats().is_compacting {
        std::thread::yield_now();
    }
    db.pause_compaction();
    db.cancel_compaction();
    let report = worker.join().unwrap();
    assert_eq!(report.runs, 0, "{report:?}");
    assert_eq!(db.stats().compaction.failure.as_deref(), Some("cancelled"));
    assert_eq!(db.iter("data").map(|e| e.unwrap().key).collect::<Vec<_>>(), before);
    // Nothing begins while it is paused.
    let worker = {
        let db = db.clone();
        std::thread::spawn(move || db.compact_now().unwrap())
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!db.stats().is_compacting && db.stats().compaction.runs == 0);
    db.throttle_compaction(0);
    db.resume_compaction();
    assert!(worker.join().unwrap().runs > 0);
    assert_eq!(db.len("data"), before.len() as u64);
    assert!(db.check().unwrap().is_ok());
}

/// Goal: the throttle holds nobody up. Method: a run that would wait for years, and a close; the
/// test ends, or it does not.
#[test]
fn a_close_does_not_wait_for_the_throttle() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    for round in 0..20 {
        fill(&db, round);
    }
    for key in (0..400u32).step_by(2) {
        db.put("data", &key.to_le_bytes(), &[9; 3000]).unwrap();
    }
    db.throttle_compaction(1);
    let worker = {
        let db = db.clone();
        std::thread::spawn(move || db.compact_now().unwrap())
    };
    while !db.stats().is_compacting {
        std::thread::yield_now();
    }
    db.close().unwrap();
    worker.join().unwrap();
}

/// Goal: space comes back by itself. Method: random overwrites with the thread on; when it has
/// nothing left to do the log keeps to its share.
#[test]
fn the_log_keeps_to_its_share_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(128 << 10).open(dir.path()).unwrap();
    let mut rng = 0x9E37_79B9_7F4A_7C15u64;
    for round in 0..300u32 {
        let mut batch = WriteBatch::new();
        for _ in 0..40 {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            batch.put("data", &(rng % 3000).to_le_bytes(), &[round as u8; 1000]).unwrap();
        }
        db.write(&mut batch, Durability::Buffered).unwrap();
    }
    let mut quiet = 0;
    while quiet < 20 {
        let runs = db.stats().compaction.runs;
        std::thread::sleep(std::time::Duration::from_millis(50));
        let stats = db.stats();
        let unsealed = stats.segments.iter().filter(|s| !s.is_sealed).count();
        let is_quiet = stats.compaction.runs == runs && !stats.is_compacting && unsealed <= 2;
        quiet = if is_quiet { quiet + 1 } else { 0 };
    }
    let stats = db.stats();
    assert_eq!(stats.compaction.failure, None);
    let share = stats.log_bytes() * 100 / stats.live_bytes();
    assert!(share <= 130, "{share} percent: {:?}", stats.segments);
    // And the files of what was compacted are gone.
    let listed = stats.segments.len();
    let files = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path());
    let files = files.filter(|f| f.extension().is_some_and(|e| e == "seg")).count();
    assert!(files <= listed + 1, "{files} files of {listed} segments");
}
