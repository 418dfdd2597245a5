//! What threads do to each other: syncs of one file, closing twice, waiting for a large value.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use siltstone::vfs::mem::MemVfs;
use siltstone::vfs::{File, LockGuard, Map, OpenMode, Vfs};
use siltstone::{Durability, Options, WriteBatch, WriteError};

/// Files in memory whose syncs take time and count how many of one file run at once.
#[derive(Default)]
struct SlowSync {
    files: MemVfs,
    overlapped: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    bytes_read: Arc<AtomicUsize>,
}

struct SlowFile {
    file: Arc<dyn File>,
    running: AtomicUsize,
    is_slow: bool,
    overlapped: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    bytes_read: Arc<AtomicUsize>,
}

impl Vfs for SlowSync {
    fn free_space(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.files.free_space(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile {
            file: self.files.open(path, mode)?,
            running: AtomicUsize::new(0),
            is_slow: path.extension().is_some_and(|e| e == "seg"),
            overlapped: Arc::clone(&self.overlapped),
            fails: Arc::clone(&self.fails),
            bytes_read: Arc::clone(&self.bytes_read),
        }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        self.files.lock(path, note)
    }
}

impl File for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buf, offset)?;
        self.bytes_read.fetch_add(read, Ordering::SeqCst);
        Ok(read)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        // Nothing to reserve in memory; takes no time, so that the sync that follows comes soon.
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.running.fetch_add(1, Ordering::SeqCst) > 0 {
            self.overlapped.store(true, Ordering::SeqCst);
        }
        if self.is_slow {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.is_slow && self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn map(&self, len: u64) -> io::Result<Option<Map>> {
        self.file.map(len)
    }
}

/// Goal: two syncs of one file never run at once, for the kernel reports a failure to one of them
/// only and success to the other, whose writer would be told that its data is durable. Method: a
/// store whose first segment grows step by step under one thread, while another syncs.
#[test]
fn a_file_is_synced_by_one_thread_at_a_time() {
    for _ in 0..5 {
        let vfs = Arc::new(SlowSync::default());
        let overlapped = Arc::clone(&vfs.overlapped);
        let db = Options::new().vfs(vfs).segment_len(64 << 20).open("/store").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let mut batch = WriteBatch::new();
                    batch.put("c", b"k", b"v").unwrap();
                    db.write(&mut batch, Durability::Sync).unwrap();
                }
            });
            for i in 0..20u8 {
                std::thread::sleep(Duration::from_millis(1));
                db.put("c", &[i], &vec![i; 1 << 20]).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        assert!(!overlapped.load(Ordering::SeqCst));
    }
}

/// Goal: after a close that failed, closing again does not claim that all is well.
#[test]
fn closing_again_after_a_failure_fails_again() {
    let vfs = Arc::new(SlowSync::default());
    let fails = Arc::clone(&vfs.fails);
    let db = Options::new().vfs(vfs).open("/store").unwrap();
    db.put("c", b"k", b"v").unwrap();
    let other = db.clone();
    fails.store(true, Ordering::SeqCst);
    assert!(matches!(db.close(), Err(WriteError::Poisoned(_))));
    assert!(matches!(other.close(), Err(WriteError::Poisoned(_))));
}

/// Goal: whoever closes is told when everything is durable, not when somebody else has begun to
/// make it so. Method: two handles closed at once, with slow syncs.
#[test]
fn closing_at_the_same_time_waits_for_the_sync() {
    for _ in 0..20 {
        let db = Options::new().vfs(Arc::new(SlowSync::default())).open("/store").unwrap();
        db.put("c", b"k", b"v").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (db, watched) = (db.clone(), db.clone());
                scope.spawn(move || {
                    db.close().unwrap();
                    let stats = watched.stats();
                    assert_eq!(stats.watermark, stats.next_seqno);
                });
            }
        });
    }
}

/// Goal: overwriting a key, and asking whether it is there, reads its old record's key and not
/// its value: readers of other keys wait meanwhile.
#[test]
fn a_large_value_is_not_read_to_find_its_key() {
    let vfs = Arc::new(SlowSync::default());
    let bytes_read = Arc::clone(&vfs.bytes_read);
    let db = Options::new().vfs(vfs).open("/store").unwrap();
    db.put("c", b"k", &vec![7; 8 << 20]).unwrap();
    let before = bytes_read.load(Ordering::SeqCst);
    assert!(db.contains("c", b"k").unwrap());
    db.put("c", b"k", b"small").unwrap();
    let read = bytes_read.load(Ordering::SeqCst) - before;
    assert!(read <= 16 << 10, "{read} bytes read");
}
