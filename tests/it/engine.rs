//! Puts, gets, reopening, segments, threads.

use siltstone::{Db, Durability, Options, PersistOptions, Retention, WriteBatch};

fn batch(collection: &str, range: std::ops::Range<u32>, value_len: usize) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for i in range {
        let value = vec![(i % 251) as u8; value_len];
        batch.put(collection, format!("key-{i}").as_bytes(), &value).unwrap();
    }
    batch
}

#[test]
fn what_was_written_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.write(&mut batch("a", 0..500, 100), Durability::Buffered).unwrap();
    db.write(&mut batch("b", 0..5, 3000), Durability::Sync).unwrap();
    assert!(db.delete("a", b"key-7").unwrap());
    assert!(!db.delete("a", b"key-7").unwrap());
    let expect = |db: &Db| {
        assert_eq!(db.len("a"), 499);
        assert_eq!(db.len("b"), 5);
        assert!(db.get("a", b"key-7").unwrap().is_none());
        assert_eq!(&*db.get("a", b"key-8").unwrap().unwrap(), &[8; 100]);
        assert_eq!(&*db.get("b", b"key-3").unwrap().unwrap(), &vec![3; 3000][..]);
        assert_eq!(db.iter("a").count(), 499);
        let check = db.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.defects);
        assert_eq!(check.keys, 504);
    };
    expect(&db);
    db.close().unwrap();
    for _ in 0..3 {
        let db = Db::open(dir.path()).unwrap();
        assert!(db.recovery_report().clean, "{:?}", db.recovery_report());
        expect(&db);
    }
}

#[test]
fn segments_roll_and_are_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().segment_len(64 << 10);
    let db = options().open(dir.path()).unwrap();
    for round in 0..40 {
        db.write(&mut batch("c", round * 100..round * 100 + 100, 200), Durability::Buffered)
            .unwrap();
    }
    // Larger than a segment: split over several, and one record larger than any.
    db.write(&mut batch("c", 0..2000, 150), Durability::Buffered).unwrap();
    db.put("big", b"k", &vec![7; 1 << 20]).unwrap();
    db.put("c", b"key-1", b"new").unwrap();
    let expect = |db: &Db| {
        assert_eq!(db.len("c"), 4000);
        assert_eq!(db.get("c", b"key-1").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(db.get("big", b"k").unwrap().unwrap().len(), 1 << 20);
        for i in 2..4000u32 {
            let len = if i < 2000 { 150 } else { 200 };
            let value = db.get("c", format!("key-{i}").as_bytes()).unwrap().unwrap();
            assert_eq!(&*value, &vec![(i % 251) as u8; len][..], "{i}");
        }
        let check = db.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.defects);
        assert_eq!(check.keys, 4001);
    };
    expect(&db);
    db.close().unwrap();
    let db = options().open(dir.path()).unwrap();
    assert!(db.recovery_report().clean);
    assert!(db.stats().segments.iter().filter(|s| s.is_sealed).count() > 10);
    expect(&db);
    drop(db);
    let reader = options().read_only(true).open(dir.path()).unwrap();
    expect(&reader);
}

#[test]
fn threads_share_syncs_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(32 << 10).open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for t in 0..8u32 {
            let db = db.clone();
            scope.spawn(move || {
                for i in 0..50 {
                    let n = t * 1000 + i * 10;
                    db.write(&mut batch("t", n..n + 10, 64), Durability::Sync).unwrap();
                }
            });
        }
    });
    assert_eq!(db.len("t"), 4000);
    assert!(db.stats().syncs < 400, "{}", db.stats().syncs);
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.len("t"), 4000);
    assert!(db.check().unwrap().is_ok());
}

#[test]
fn a_cleared_collection_is_empty_and_can_be_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.write(&mut batch("x", 0..30_000, 10), Durability::Buffered).unwrap();
    let mut clear = WriteBatch::new();
    clear.clear("x").unwrap();
    clear.put("x", b"one", b"1").unwrap();
    db.write(&mut clear, Durability::Buffered).unwrap();
    assert_eq!(db.len("x"), 1);
    let live = db.stats().live_bytes();
    drop(db);
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.len("x"), 1);
    assert_eq!(db.stats().live_bytes(), live);
    assert_eq!(db.collections(), vec![("x".to_owned(), 1)]);
}

/// Goal: segments are sealed while nothing but buffered async writes come in. Method: several
/// segments' worth of them, then wait until few are left unsealed, with a generous bound.
#[test]
fn buffered_async_writes_have_their_segments_sealed() {
    let vfs = std::sync::Arc::new(siltstone::vfs::mem::MemVfs::new());
    let db = Options::new().vfs(vfs).segment_len(16 << 10).open("/store").unwrap();
    for round in 0..40 {
        let written =
            db.write_async(batch("c", round * 10..round * 10 + 10, 200), Durability::Buffered);
        written.wait().unwrap();
    }
    let unsealed = || db.stats().segments.iter().filter(|s| !s.is_sealed).count();
    for _ in 0..1000 {
        // The active one, the next one, and one that waits until its successor is half full.
        if unsealed() <= 3 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{:?}", db.stats().segments);
}

/// Goal: a writer that never syncs does not leave ever more segments unsealed behind it, each with
/// a file open and to be read by the next open.
#[test]
fn sealing_keeps_up_with_a_writer_that_never_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(64 << 10).open(dir.path()).unwrap();
    let mut batch = WriteBatch::new();
    let mut most = 0;
    for round in 0..600u32 {
        batch.reset();
        for i in 0..100u32 {
            batch.put("c", &(round * 100 + i).to_le_bytes(), &[7; 1000]).unwrap();
        }
        db.write(&mut batch, Durability::Buffered).unwrap();
        most = most.max(db.stats().segments.iter().filter(|s| !s.is_sealed).count());
    }
    let all = db.stats().segments.len();
    assert!(all > 800 && most < 200, "{most} of {all} segments were unsealed at once");
}

/// Goal: persists that nobody waits for have full segments sealed as others have.
#[test]
fn asynchronous_persists_have_segments_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_len(4096).retention(Retention::count(1));
    let db = options.open(dir.path()).unwrap();
    for _ in 0..300 {
        db.persist_async(PersistOptions::default()).wait().unwrap();
        db.put("c", b"k", &[7; 200]).unwrap();
    }
    let unsealed = || db.stats().segments.iter().filter(|s| !s.is_sealed).count();
    let tries = (0..200).take_while(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        unsealed() > 3
    });
    assert!(tries.count() < 200, "{} unsealed of {}", unsealed(), db.stats().segments.len());
}
