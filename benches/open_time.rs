//! How long does an open take, by number of keys? After a clean close and after the death of the
//! process, and after both without the checkpoint. Prints the bytes of index memory per key as
//! well. `SILTSTONE_BENCH_KEYS` adds a number of keys.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "prints a figure that is no time")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{dir, load, value};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use siltstone::{Db, Options};

/// A copy of the files in `from`, as the death of a process would leave them: locks are no files.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = dir();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn open_time(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let asked = std::env::var("SILTSTONE_BENCH_KEYS").ok().map(|keys| keys.parse().unwrap());
    for keys in [1_000, 100_000, 1_000_000].into_iter().chain(asked) {
        let dir = dir();
        let db = Db::open(dir.path()).unwrap();
        load(&db, keys, &value(256));
        let per_key = db.stats().index_bytes as f64 / keys as f64;
        println!("index memory with {keys} keys: {per_key:.1} bytes per key");
        // What goes on in the background would give a copy of several moments.
        std::thread::sleep(Duration::from_secs(4));
        let killed = copy(dir.path());
        let replayed = Options::new().read_only(true).open(killed.path()).unwrap();
        println!("killed: checkpoint at {:?}", replayed.recovery_report().checkpoint);
        drop(replayed);
        db.close().unwrap();
        let mut open = |name, dir: &Path, options: Options| {
            group.bench_function(BenchmarkId::new(name, keys), |b| {
                b.iter_custom(|times| {
                    let open = || {
                        let started = Instant::now();
                        let db = options.clone().open(dir).unwrap();
                        let time = started.elapsed();
                        assert_eq!(db.len("data"), keys);
                        // Dropped outside of what is measured: the next open needs its lock.
                        drop(db);
                        time
                    };
                    (0..times).map(|_| open()).sum()
                });
            });
        };
        // Closed again without anything written: the checkpoint stays as it is.
        open("clean", dir.path(), Options::new());
        let read_only = Options::new().read_only(true);
        open("killed, read only", killed.path(), read_only.clone());
        for dir in [killed.path(), dir.path()] {
            let _ = std::fs::remove_file(dir.join("CHECKPOINT"));
        }
        open("clean, no checkpoint, read only", dir.path(), read_only.clone());
        open("killed, no checkpoint, read only", killed.path(), read_only);
    }
    group.finish();
}

criterion_group!(benches, open_time);
criterion_main!(benches);
