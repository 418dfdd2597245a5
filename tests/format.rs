//! The file format, pinned: stores that earlier versions wrote are opened, and what this version
//! writes is the same to the byte. The fixtures are never written anew for a version that exists.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{
    CollectionOptions, CompactionOptions, Compression, Db, Durability, Options, WriteBatch,
};

const CHECKPOINT: &str = "CHECKPOINT";

fn options(vfs: &MemVfs) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .segment_len(1024)
        .inline_maintenance(true)
        .compaction(CompactionOptions::manual())
        .store_id(*b"fixture store v1")
}

/// Writes a bit of everything: collections, batches, overwrites, deletes, a clear, a batch and a
/// value larger than a segment, sealed segments, two opens and a close.
fn write_store(vfs: &MemVfs) {
    let db = options(vfs).open("/store").unwrap();
    let mut batch = WriteBatch::new();
    batch.put("alpha", b"one", b"first").unwrap();
    batch.put("beta", b"", b"empty key").unwrap();
    batch.put("", b"k", b"").unwrap();
    db.write(&mut batch, Durability::Sync).unwrap();
    for i in 0..20u8 {
        db.put("alpha", &[b'k', i], &[i; 50]).unwrap();
    }
    batch.reset();
    batch.clear("beta").unwrap();
    batch.delete("alpha", b"one").unwrap();
    batch.put("beta", b"after", b"the clear").unwrap();
    db.write(&mut batch, Durability::Buffered).unwrap();
    db.close().unwrap();
    let db = options(vfs).open("/store").unwrap();
    batch.reset();
    for i in 0..30u8 {
        batch.put("gamma", &[i], &[i; 70]).unwrap();
    }
    db.write(&mut batch, Durability::Sync).unwrap();
    db.put("alpha", b"large", &[7; 3000]).unwrap();
    db.put("alpha", &[b'k', 3], b"overwritten").unwrap();
    db.close().unwrap();
}

fn expect(db: &Db) {
    assert_eq!(db.len("alpha"), 21);
    assert!(db.get("alpha", b"one").unwrap().is_none());
    assert_eq!(&*db.get("alpha", &[b'k', 3]).unwrap().unwrap(), b"overwritten");
    assert_eq!(&*db.get("alpha", &[b'k', 4]).unwrap().unwrap(), &[4; 50]);
    assert_eq!(db.get("alpha", b"large").unwrap().unwrap().len(), 3000);
    assert_eq!(db.len("beta"), 1);
    assert_eq!(&*db.get("beta", b"after").unwrap().unwrap(), b"the clear");
    assert_eq!(&*db.get("", b"k").unwrap().unwrap(), b"");
    assert_eq!(db.len("gamma"), 30);
    assert!(db.recovery_report().clean, "{:?}", db.recovery_report());
    let check = db.check().unwrap();
    assert!(check.is_ok(), "{:?}", check.defects);
}

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

fn read_fixture(version: &str) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(fixture(version))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn version_1_is_written_to_the_byte() {
    let vfs = MemVfs::new();
    write_store(&vfs);
    let written: BTreeMap<String, Vec<u8>> = vfs
        .snapshot()
        .into_iter()
        .map(|(path, bytes)| (path.file_name().unwrap().to_str().unwrap().to_owned(), bytes))
        // The lock holds a process id. The manifest's header names features that came later.
        .filter(|(name, _)| name != "LOCK" && name != "MANIFEST")
        // A later one, too, with a fixture of its own.
        .filter(|(name, _)| name != CHECKPOINT)
        .collect();
    let names: Vec<&String> = written.keys().collect();
    assert!(names.len() > 3, "{names:?}");
    if !fixture("v1").exists() {
        // A new format version: write its fixture, once.
        std::fs::create_dir_all(fixture("v1")).unwrap();
        for (name, bytes) in &written {
            std::fs::write(fixture("v1").join(name), bytes).unwrap();
        }
        panic!("wrote a new fixture: look at it, commit it, run again");
    }
    let mut pinned = read_fixture("v1");
    pinned.remove("MANIFEST");
    assert_eq!(names, pinned.keys().collect::<Vec<_>>());
    for (name, bytes) in &pinned {
        let differs = bytes.iter().zip(&written[name]).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{name} differs from the fixture at this byte");
        assert_eq!(bytes.len(), written[name].len(), "length of {name}");
    }
}

#[test]
fn version_1_is_read() {
    let vfs = MemVfs::new();
    for (name, bytes) in read_fixture("v1") {
        vfs.put(Path::new("/store").join(name), bytes);
    }
    expect(&options(&vfs).read_only(true).open("/store").unwrap());
    expect(&options(&vfs).open("/store").unwrap());
}

/// The checkpoint of the same store, which stands in a directory of its own: the store is older.
#[test]
fn version_1_of_checkpoints_is_written_to_the_byte_and_read() {
    let vfs = MemVfs::new();
    write_store(&vfs);
    let written = vfs.snapshot().remove(&Path::new("/store").join(CHECKPOINT)).unwrap();
    if !fixture("v1-checkpoint").exists() {
        // A new format version: write its fixture, once.
        std::fs::create_dir_all(fixture("v1-checkpoint")).unwrap();
        std::fs::write(fixture("v1-checkpoint").join(CHECKPOINT), &written).unwrap();
        panic!("wrote a new fixture: look at it, commit it, run again");
    }
    let mut pinned = read_fixture("v1-checkpoint");
    assert!(pinned[CHECKPOINT] == written, "{} bytes, {}", written.len(), pinned.len());
    let vfs = MemVfs::new();
    pinned.append(&mut read_fixture("v1"));
    for (name, bytes) in pinned {
        vfs.put(Path::new("/store").join(name), bytes);
    }
    let db = options(&vfs).read_only(true).open("/store").unwrap();
    assert!(db.recovery_report().checkpoint.is_some(), "{:?}", db.recovery_report());
    expect(&db);
}

#[test]
fn a_later_version_is_refused_by_name() {
    let vfs = MemVfs::new();
    write_store(&vfs);
    let path = Path::new("/store/MANIFEST");
    let mut manifest = vfs.snapshot()[path].clone();
    // A major version of 2, with the header's checksum made right.
    manifest[8] = 2;
    let mut hasher = crc32fast::Hasher::new_with_initial(0x5117_5704);
    hasher.update(&manifest[..44]);
    manifest[44..48].copy_from_slice(&hasher.finalize().to_le_bytes());
    vfs.put(path, manifest);
    let error = options(&vfs).open("/store").unwrap_err();
    assert!(error.to_string().contains("format version 2.0"), "{error}");
}

/// Writes what came with compaction: options, values stored in every way that the flags of a record
/// know, a dictionary, the time, compacted segments.
#[cfg(feature = "compression")]
fn write_flags(vfs: &MemVfs) {
    let open = || options(vfs).segment_len(4096).dictionary_records(20).open("/store").unwrap();
    let db = open();
    let mut batch = WriteBatch::new();
    batch.configure("lz4", CollectionOptions::new().compression(Compression::Lz4)).unwrap();
    let dictionary = CollectionOptions::new().compression(Compression::Dictionary).ordered(true);
    batch.configure("zstd", dictionary).unwrap();
    db.write(&mut batch, Durability::Sync).unwrap();
    batch.reset();
    for i in 0..60u8 {
        for collection in ["plain", "lz4", "zstd"] {
            let key = [b'k', i];
            if i % 2 == 0 {
                batch.put(collection, &key, &text(i)).unwrap();
            } else {
                batch.put_expiring(collection, &key, &text(i), 100 + u64::from(i)).unwrap();
            }
        }
    }
    batch.delete("plain", b"none").unwrap();
    db.write(&mut batch, Durability::Sync).unwrap();
    db.set_time(102);
    db.compact_now().unwrap();
    db.close().unwrap();
}

fn text(i: u8) -> Vec<u8> {
    let words = ["silt", "sand", "clay", "loam", "gravel"];
    let word = words[usize::from(i) % words.len()];
    format!("Record {i}: layers of {word}, and below them what the river left; {word} again.")
        .into()
}

/// The bytes follow from libraries too, so that they are pinned for reading only.
#[cfg(feature = "compression")]
#[test]
fn records_with_flags_are_read() {
    if !fixture("v1-flags").exists() {
        // A new format version: write its fixture, once.
        let vfs = MemVfs::new();
        write_flags(&vfs);
        std::fs::create_dir_all(fixture("v1-flags")).unwrap();
        for (path, bytes) in vfs.snapshot() {
            let name = path.file_name().unwrap();
            if name != "LOCK" {
                std::fs::write(fixture("v1-flags").join(name), bytes).unwrap();
            }
        }
        panic!("wrote a new fixture: look at it, commit it, run again");
    }
    let vfs = MemVfs::new();
    for (name, bytes) in read_fixture("v1-flags") {
        vfs.put(Path::new("/store").join(name), bytes);
    }
    for read_only in [true, false] {
        let db = options(&vfs).read_only(read_only).open("/store").unwrap();
        assert_eq!(db.time(), 102);
        assert_eq!(db.collection_options("lz4").compression, Compression::Lz4);
        assert!(db.collection_options("zstd").ordered);
        for collection in ["plain", "lz4", "zstd"] {
            for i in 0..60u8 {
                let value = db.get(collection, &[b'k', i]).unwrap();
                let expected = (i != 1).then(|| text(i));
                assert_eq!(value.as_deref(), expected.as_deref(), "{collection} {i}");
            }
            assert_eq!(db.len(collection), 59);
        }
        let stats = db.stats();
        assert_eq!(stats.compression.iter().map(|c| c.dictionaries).sum::<u64>(), 1);
        let check = db.check().unwrap();
        assert!(check.is_ok(), "{:?}", check.defects);
    }
}
