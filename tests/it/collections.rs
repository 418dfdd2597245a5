//! Options of collections, compression on the write path, and expiry.

use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{
    BatchOp, CollectionOptions, Compression, Db, Durability, Options, ReadMode, WriteBatch,
};

fn options(vfs: &MemVfs) -> Options {
    Options::new().vfs(Arc::new(vfs.clone())).segment_len(4096).inline_maintenance(true)
}

fn lz4() -> CollectionOptions {
    CollectionOptions::new().compression(Compression::Lz4)
}

fn text(i: u32) -> Vec<u8> {
    format!("chunk {i}: {}", "the same words again and again, ".repeat(8)).into_bytes()
}

#[test]
fn options_stay_over_clears_and_opens_and_the_newest_counts() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/s").unwrap();
    assert_eq!(db.collection_options("a"), CollectionOptions::default());
    db.configure("a", lz4()).unwrap();
    db.configure("b", lz4().ordered(true)).unwrap();
    assert!(db.collections().is_empty(), "nothing was put into them");
    let mut batch = WriteBatch::new();
    batch.configure("a", CollectionOptions::new().ordered(true)).unwrap();
    batch.clear("b").unwrap();
    batch.put("a", b"k", b"v").unwrap();
    let ops: Vec<BatchOp<'_>> = batch.ops().collect();
    let ordered = CollectionOptions::new().ordered(true);
    assert_eq!(ops[0], BatchOp::Configure { collection: "a", options: ordered });
    db.write(&mut batch, Durability::Sync).unwrap();
    let expect = |db: &Db| {
        assert_eq!(db.collection_options("a"), ordered);
        assert_eq!(db.collection_options("b"), lz4().ordered(true));
        assert_eq!(db.collection_options("c"), CollectionOptions::default());
        assert_eq!(db.collections(), [("a".to_owned(), 1)]);
    };
    expect(&db);
    // Killed: the options are read from the tail; closed: from the same; sealed: from hints.
    let copy = MemVfs::new();
    for (path, bytes) in vfs.snapshot() {
        copy.put(path, bytes);
    }
    expect(&options(&copy).open("/s").unwrap());
    for i in 0..200u32 {
        db.put("c", &i.to_le_bytes(), &[7; 100]).unwrap();
    }
    db.close().unwrap();
    let db = options(&vfs).open("/s").unwrap();
    assert!(db.recovery_report().sealed_segments > 3);
    assert_eq!(db.collection_options("a"), ordered);
    assert_eq!(db.collection_options("b"), lz4().ordered(true));
}

#[cfg(feature = "compression")]
#[test]
fn values_are_compressed_where_it_is_asked_for_and_where_it_helps() {
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let vfs = MemVfs::new();
        let db = options(&vfs).read_mode(mode).open("/s").unwrap();
        let mut batch = WriteBatch::new();
        for i in 0..60u32 {
            batch.put("plain", &i.to_le_bytes(), &text(i)).unwrap();
        }
        db.write(&mut batch, Durability::Buffered).unwrap();
        let plain = db.stats().appended_bytes;
        db.configure("text", lz4()).unwrap();
        batch.reset();
        for i in 0..60u32 {
            batch.put("text", &i.to_le_bytes(), &text(i)).unwrap();
        }
        // Compressing does not change the batch: it can be written again.
        let len = batch.byte_len();
        db.write(&mut batch, Durability::Buffered).unwrap();
        db.write(&mut batch, Durability::Buffered).unwrap();
        assert_eq!(batch.byte_len(), len);
        let packed = db.stats().appended_bytes - plain;
        assert!(packed < plain, "{packed} bytes twice, {plain} once");
        // Short, random and empty values stay as they are.
        let noise: Vec<u8> =
            (0..300u32).flat_map(|i| i.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
        let before = db.stats().appended_bytes;
        db.put("text", b"noise", &noise).unwrap();
        assert!(db.stats().appended_bytes - before >= noise.len() as u64);
        db.put("text", b"short", b"aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
        db.put("text", b"empty", b"").unwrap();
        batch.reset();
        batch.put_expiring("text", b"expiring", &text(9), 5).unwrap();
        db.write(&mut batch, Durability::Buffered).unwrap();
        let expect = |db: &Db| {
            for i in 0..60u32 {
                assert_eq!(*db.get("text", &i.to_le_bytes()).unwrap().unwrap(), text(i)[..]);
            }
            assert_eq!(*db.get("text", b"noise").unwrap().unwrap(), noise[..]);
            assert_eq!(db.get("text", b"short").unwrap().unwrap().len(), 24);
            assert_eq!(db.get("text", b"empty").unwrap().unwrap().len(), 0);
            assert_eq!(*db.get("text", b"expiring").unwrap().unwrap(), text(9)[..]);
            let keys: Vec<Vec<u8>> = (0..60u32).map(|i| i.to_le_bytes().to_vec()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            for (i, value) in (0..).zip(db.get_many("text", &keys).unwrap()) {
                assert_eq!(*value.unwrap(), text(i)[..]);
            }
            assert_eq!(db.iter("text").map(Result::unwrap).count(), 64);
            assert!(db.check().unwrap().is_ok());
        };
        expect(&db);
        db.close().unwrap();
        expect(&options(&vfs).read_mode(mode).open("/s").unwrap());
    }
}

#[cfg(not(feature = "compression"))]
#[test]
fn a_build_that_cannot_compress_says_what_is_missing() {
    let db = options(&MemVfs::new()).open("/s").unwrap();
    let error = db.configure("text", lz4()).unwrap_err().to_string();
    assert!(error.contains("feature \"compression\""), "{error}");
    assert!(text(1).len() > 48);
}

#[test]
fn expired_records_are_absent_and_never_uncover_older_ones() {
    let vfs = MemVfs::new();
    let db = options(&vfs).time(100).open("/s").unwrap();
    db.put("c", b"k", b"older").unwrap();
    let mut batch = WriteBatch::new();
    batch.put_expiring("c", b"k", b"value", 200).unwrap();
    batch.put_expiring("c", b"long", &text(1), 300).unwrap();
    batch.put_expiring("c", b"gone already", b"x", 100).unwrap();
    batch.put("c", b"stays", b"y").unwrap();
    let op = BatchOp::PutExpiring { collection: "c", key: b"k", value: b"value", expires_at: 200 };
    assert_eq!(batch.ops().next(), Some(op));
    db.write(&mut batch, Durability::Sync).unwrap();
    let found = |db: &Db, key: &[u8]| {
        let got = db.get("c", key).unwrap();
        let many = db.get_many("c", &[key]).unwrap().remove(0);
        assert_eq!(got.as_deref(), many.as_deref());
        assert_eq!(db.contains("c", key).unwrap(), got.is_some());
        let mut entries = db.iter("c").map(Result::unwrap);
        let entry = entries.find(|entry| entry.key == key);
        assert_eq!(entry.as_ref().map(|e| &*e.value), got.as_deref());
        got.map(|value| value.to_vec())
    };
    assert_eq!(found(&db, b"k").unwrap(), b"value");
    assert_eq!(found(&db, b"gone already"), None);
    db.set_time(199);
    assert_eq!(found(&db, b"k").unwrap(), b"value");
    db.set_time(200);
    assert_eq!(found(&db, b"k"), None);
    assert_eq!(found(&db, b"long").unwrap(), text(1));
    db.set_time(7);
    assert_eq!((db.time(), found(&db, b"k")), (200, None));
    assert_eq!(found(&db, b"stays").unwrap(), b"y");
    assert_eq!(db.iter("c").count(), 2);
    assert_eq!(db.len("c"), 4, "they count until compaction drops them");
    assert!(!db.delete("c", b"k").unwrap(), "it was not there");
    db.put("c", b"long", b"for ever").unwrap();
    db.set_time(u64::MAX);
    assert_eq!(found(&db, b"long").unwrap(), b"for ever");
}

#[test]
fn the_time_is_kept_by_persist_and_close() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/s").unwrap();
    let mut batch = WriteBatch::new();
    batch.put_expiring("c", b"k", b"v", 10).unwrap();
    batch.put_expiring("c", b"later", b"v", 1000).unwrap();
    db.write(&mut batch, Durability::Sync).unwrap();
    let copy = |vfs: &MemVfs| {
        let copy = MemVfs::new();
        for (path, bytes) in vfs.snapshot() {
            copy.put(path, bytes);
        }
        copy
    };
    db.set_time(10);
    assert_eq!(db.iter("c").count(), 1);
    // Killed before the time was kept: the store is as old as it was.
    let killed = options(&copy(&vfs)).open("/s").unwrap();
    assert_eq!((killed.time(), killed.contains("c", b"k").unwrap()), (0, true));
    db.persist().unwrap();
    let killed = options(&copy(&vfs)).open("/s").unwrap();
    assert_eq!((killed.time(), killed.contains("c", b"k").unwrap()), (10, false));
    db.put("other", b"k", b"v").unwrap();
    let before = db.stats().next_seqno;
    db.put("other", b"k", b"v").unwrap();
    db.persist().unwrap();
    let plain = db.stats().next_seqno - before;
    db.set_time(11);
    db.put("other", b"k", b"v").unwrap();
    db.persist().unwrap();
    assert_eq!(db.stats().next_seqno - before, 2 * plain + 1, "kept when it has changed");
    db.set_time(999);
    db.close().unwrap();
    let db = options(&vfs).time(5).open("/s").unwrap();
    assert_eq!(db.time(), 999);
    assert_eq!(
        (db.contains("c", b"k").unwrap(), db.contains("c", b"later").unwrap()),
        (false, true)
    );
    drop(db);
    let db = options(&vfs).time(1000).read_only(true).open("/s").unwrap();
    assert!(db.get("c", b"later").unwrap().is_none());
}
