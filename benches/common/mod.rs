//! What the benchmarks share: directories on the disk that is measured, records, raw floors.
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark that fails panics"
)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use siltstone::{Db, Durability, WriteBatch};
use tempfile::TempDir;

/// A directory on the disk under test: `SILTSTONE_BENCH_DIR`, or the target directory.
pub fn dir() -> TempDir {
    let base = std::env::var("SILTSTONE_BENCH_DIR")
        .unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    std::fs::create_dir_all(&base).unwrap();
    tempfile::tempdir_in(base).unwrap()
}

/// The `i`-th key: 20 bytes.
pub fn key(i: u64) -> [u8; 20] {
    let mut key = *b"key-0000000000000000";
    let mut n = i;
    for byte in key[4..].iter_mut().rev() {
        *byte = b'0' + (n % 10) as u8;
        n /= 10;
    }
    key
}

/// A value of `len` bytes that does not compress to nothing.
pub fn value(len: usize) -> Vec<u8> {
    let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
    (0..len).map(|_| rng.next() as u8).collect()
}

/// xorshift64: the same numbers in every run.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Fills `batch` with the records from `start` on.
pub fn fill(batch: &mut WriteBatch, start: u64, count: u64, value: &[u8]) {
    batch.reset();
    for i in start..start + count {
        batch.put("data", &key(i), value).unwrap();
    }
}

/// Loads `keys` records in batches of 1,000 and makes them durable.
pub fn load(db: &Db, keys: u64, value: &[u8]) {
    let mut batch = WriteBatch::new();
    for start in (0..keys).step_by(1000) {
        fill(&mut batch, start, 1000.min(keys - start), value);
        db.write(&mut batch, Durability::Buffered).unwrap();
    }
    db.sync().unwrap();
}

/// Waits until nothing is sealed or compacted any more. The one segment that is not sealed is in
/// use.
pub fn settle(db: &Db) {
    let mut quiet = 0;
    while quiet < 10 {
        let runs = db.stats().compaction.runs;
        std::thread::sleep(Duration::from_millis(300));
        let stats = db.stats();
        let unsealed = stats.segments.iter().filter(|s| !s.is_sealed && s.log_bytes > 64).count();
        let is_quiet = runs == stats.compaction.runs && !stats.is_compacting && unsealed <= 1;
        quiet = if is_quiet { quiet + 1 } else { 0 };
    }
}

/// The physical floor of a write: the same bytes in a buffer, checksummed, appended to a plain
/// file with one `write` a batch, and an fdatasync after each batch or at the end.
pub struct Floor {
    file: File,
    buf: Vec<u8>,
}

impl Floor {
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("floor");
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        Floor { file, buf: Vec::new() }
    }

    pub fn batch(&mut self, start: u64, count: u64, value: &[u8]) {
        self.buf.clear();
        for i in start..start + count {
            // As many bytes as the log writes: a header of 24 bytes, key, value, padding.
            let len = 24 + 20 + value.len();
            self.buf.extend_from_slice(&[0; 24]);
            self.buf.extend_from_slice(&key(i));
            self.buf.extend_from_slice(value);
            self.buf.resize(self.buf.len() + (len.next_multiple_of(8) - len), 0);
        }
        let sum = crc32fast::hash(&self.buf);
        self.buf.extend_from_slice(&sum.to_le_bytes());
        self.file.write_all(&self.buf).unwrap();
    }

    pub fn sync(&self) {
        self.file.sync_data().unwrap();
    }
}

/// How long `run` takes.
pub fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Runs `work(thread)` on `threads` threads and returns how long all of them took.
pub fn time_threads(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let work = &work;
    time(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || work(thread));
            }
        });
    })
}
