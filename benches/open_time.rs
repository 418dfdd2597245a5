//! How long does an open take, by number of keys? After a clean close and after the death of the
//! process. Prints the bytes of index memory per key as well.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "prints a figure that is no time")]

mod common;

use common::{dir, load, value};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use siltstone::{Db, Durability, WriteBatch};

fn open_time(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    for keys in [1_000, 100_000, 1_000_000] {
        let dir = dir();
        let db = Db::open(dir.path()).unwrap();
        load(&db, keys, &value(256));
        let per_key = db.stats().index_bytes as f64 / keys as f64;
        println!("index memory with {keys} keys: {per_key:.1} bytes per key");
        db.close().unwrap();
        group.bench_function(BenchmarkId::new("clean", keys), |b| {
            b.iter_with_large_drop(|| Db::open(dir.path()).unwrap());
        });
        // A process that dies leaves its files as they are and its lock free: so does a handle
        // that is forgotten, but for the lock; the files are copied to get rid of it.
        let db = Db::open(dir.path()).unwrap();
        let mut batch = WriteBatch::new();
        batch.put("data", b"last", b"words").unwrap();
        db.write(&mut batch, Durability::Sync).unwrap();
        let copy = common::dir();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        group.bench_function(BenchmarkId::new("killed, read only", keys), |b| {
            b.iter_with_large_drop(|| {
                Db::open_with(copy.path(), siltstone::Options::new().read_only(true)).unwrap()
            });
        });
        db.close().unwrap();
    }
    group.finish();
}

criterion_group!(benches, open_time);
criterion_main!(benches);
