//! Opening: locks, read-only stores, missing ones, foreign files, damage seen by a read.

use std::sync::Arc;

use siltstone::vfs::Vfs;
use siltstone::vfs::mem::MemVfs;
use siltstone::{
    CompactionOptions, Db, Durability, OpenError, Options, ReadError, ReadMode, Verify, WriteBatch,
    WriteError,
};

fn fill(db: &Db, from: u32, to: u32) {
    let mut batch = WriteBatch::new();
    for i in from..to {
        batch.put("c", &i.to_le_bytes(), &[i as u8; 64]).unwrap();
    }
    db.write(&mut batch, Durability::Buffered).unwrap();
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    match Db::open(dir.path()) {
        Err(OpenError::Locked { holder, .. }) => {
            assert_eq!(holder, std::process::id().to_string());
        }
        other => panic!("{other:?}"),
    }
    drop(db);
    // A lock file that nobody holds means nothing, whatever stands in it.
    std::fs::write(dir.path().join("LOCK"), "1").unwrap();
    Db::open(dir.path()).unwrap();
}

#[test]
fn a_reader_opens_beside_the_writer_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(16 << 10).open(dir.path()).unwrap();
    let mut seen = 0;
    for round in 0..50 {
        fill(&db, round * 100, round * 100 + 100);
        let reader = Options::new().read_only(true).open(dir.path()).unwrap();
        assert_eq!(reader.len("c"), u64::from(round + 1) * 100);
        for entry in reader.iter("c") {
            let entry = entry.unwrap();
            let i = u32::from_le_bytes(entry.key.as_slice().try_into().unwrap());
            assert_eq!(&*entry.value, &[i as u8; 64]);
            seen += 1;
        }
        assert!(matches!(reader.put("c", b"k", b"v"), Err(WriteError::ReadOnly)));
        assert!(matches!(reader.persist(), Err(WriteError::ReadOnly)));
    }
    assert_eq!(seen, 100 * 50 * 51 / 2);
}

/// Goal: a reader that opens while frames are being appended never takes the writer's unfinished
/// work for damage. Method: one thread writes, another opens and reads, again and again.
#[test]
fn readers_may_open_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(32 << 10).open(dir.path()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                fill(&db, round * 10, round * 10 + 10);
                if round % 7 == 0 {
                    db.persist().unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut last = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let reader = Options::new().read_only(true).open(dir.path()).unwrap();
            let len = reader.len("c");
            assert!(len >= last && len.is_multiple_of(10), "{len} after {last}");
            last = len;
        }
    });
}

#[test]
fn a_store_that_is_not_there_is_missing_or_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er");
    for options in [Options::new().create(false), Options::new().read_only(true)] {
        let error = options.open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("er"), "{error}");
    }
    assert!(!path.exists());
    Db::open(&path).unwrap();
    Options::new().create(false).open(&path).unwrap();
}

#[test]
fn foreign_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(&Db::open(dir.path()).unwrap(), 0, 10);
    for name in [".DS_Store", "._0000000000000001.seg", "1.seg", "notes.txt", "MANIFEST.bak"] {
        std::fs::write(dir.path().join(name), b"not ours").unwrap();
    }
    std::fs::create_dir(dir.path().join("0000000000000099.seg")).unwrap();
    let db = Db::open(dir.path()).unwrap();
    assert!(db.recovery_report().clean, "{:?}", db.recovery_report());
    assert_eq!(db.len("c"), 10);
    drop(db);
    assert!(dir.path().join("1.seg").exists());
}

#[test]
fn a_damaged_value_is_never_returned() {
    for (read_mode, verify) in [
        (ReadMode::Mmap, Verify::Always),
        (ReadMode::Pread, Verify::Always),
        (ReadMode::Mmap, Verify::Once),
    ] {
        let vfs = MemVfs::new();
        let options = || {
            let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
            // Nothing moves while the test looks for it.
            let options = Options::new().compaction(CompactionOptions::manual());
            options.vfs(vfs).segment_len(4096).read_mode(read_mode).verify(verify)
        };
        let db = options().open("/s").unwrap();
        for i in 0..100u32 {
            fill(&db, i, i + 1);
        }
        db.close().unwrap();
        // One byte of a value in the first, sealed segment.
        let path = std::path::Path::new("/s/0000000000000001.seg");
        let mut bytes = vfs.snapshot()[path].clone();
        let at = bytes.windows(64).position(|w| w == [5; 64]).unwrap();
        bytes[at + 10] ^= 1;
        vfs.put(path, bytes);
        let db = options().open("/s").unwrap();
        match db.get("c", &5u32.to_le_bytes()) {
            Err(ReadError::Corrupt(e)) => assert_eq!(e.file, path),
            other => panic!("{other:?}"),
        }
        let healthy = (0..100u32).filter(|i| db.get("c", &i.to_le_bytes()).is_ok()).count();
        assert_eq!(healthy, 99);
        assert_eq!(db.iter("c").filter(Result::is_err).count(), 1);
        let check = db.check().unwrap();
        assert_eq!(check.defects.first().map(|d| d.file.as_path()), Some(path), "{check:?}");
        // Overwriting ends the damage.
        db.put("c", &5u32.to_le_bytes(), b"healed").unwrap();
        assert_eq!(&*db.get("c", &5u32.to_le_bytes()).unwrap().unwrap(), b"healed");
        assert_eq!(db.len("c"), 100);
    }
}

#[test]
fn a_value_outlives_its_key_and_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(8 << 10).open(dir.path()).unwrap();
    fill(&db, 0, 500);
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let mapped = db.get("c", &3u32.to_le_bytes()).unwrap().unwrap();
    fill(&db, 1000, 1001);
    let copied = db.get("c", &1000u32.to_le_bytes()).unwrap().unwrap();
    let iter = db.iter("c");
    assert!(db.delete("c", &3u32.to_le_bytes()).unwrap());
    let mut clear = WriteBatch::new();
    clear.clear("c").unwrap();
    db.write(&mut clear, Durability::Sync).unwrap();
    assert_eq!(iter.filter(Result::is_ok).count(), 501, "an iterator keeps its moment");
    drop(db);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let values = std::thread::spawn(move || (mapped.to_vec(), copied.to_vec())).join().unwrap();
    assert_eq!(values, (vec![3; 64], vec![232; 64]));
}

#[test]
fn many_keys_come_back_in_the_order_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(8 << 10).open(dir.path()).unwrap();
    fill(&db, 0, 300);
    let keys: Vec<[u8; 4]> = [250u32, 3, 999, 3, 120].iter().map(|i| i.to_le_bytes()).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
    let values = db.get_many("c", &keys).unwrap();
    let firsts: Vec<Option<u8>> = values.iter().map(|v| v.as_ref().map(|v| v[0])).collect();
    assert_eq!(firsts, [Some(250), Some(3), None, Some(3), Some(120)]);
    assert_eq!(db.get_many("absent", &keys).unwrap().len(), 5);
}

#[test]
fn a_closed_store_takes_no_writes_but_still_reads() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    fill(&db, 0, 3);
    let other = db.clone();
    db.close().unwrap();
    assert!(matches!(other.put("c", b"k", b"v"), Err(WriteError::Closed)));
    assert_eq!(other.len("c"), 3);
    assert!(other.get("c", &1u32.to_le_bytes()).unwrap().is_some());
}

/// Goal: a snapshot that somebody still holds does not keep a closed store from being opened, and
/// stays readable.
#[test]
fn a_closed_store_opens_beside_a_snapshot_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.put("c", b"k", b"old").unwrap();
    let snapshot = db.snapshot();
    db.close().unwrap();
    let again = Db::open(dir.path()).unwrap();
    again.put("c", b"k", b"new").unwrap();
    assert_eq!(snapshot.get("c", b"k").unwrap().as_deref(), Some(&b"old"[..]));
}

/// Goal: a store may have more segments than a process may have files open. Method: the files that
/// are open are counted; everything can be read all the same, and checked.
#[cfg(target_os = "linux")]
#[test]
fn sealed_segments_need_no_open_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().segment_len(4096);
    let db = options().open(dir.path()).unwrap();
    for key in 0..600u32 {
        db.put("c", &key.to_le_bytes(), &[7; 1000]).unwrap();
    }
    db.close().unwrap();
    let db = options().read_only(true).open(dir.path()).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let target = std::fs::read_link(entry.as_ref().unwrap().path());
        target.is_ok_and(|target| target.starts_with(dir.path()))
    });
    let (open, segments) = (open.count(), db.stats().segments.len());
    assert!(open < 10 && segments > 100, "{open} files open for {segments} segments");
    for key in 0..600u32 {
        assert_eq!(db.get("c", &key.to_le_bytes()).unwrap().unwrap().len(), 1000);
    }
    assert!(db.check().unwrap().is_ok());
}
