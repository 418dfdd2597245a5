//! What does `persist` cost after one change, with much or little in the store? Beside it the
//! floor: one append and one fdatasync of a plain file.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails panics")]

mod common;

use std::time::Duration;

use common::{Floor, Rng, dir, key, load, value};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use siltstone::Db;

fn persist(c: &mut Criterion) {
    let value = value(1024);
    let mut group = c.benchmark_group("persist_after_one_change");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    let floor_dir = dir();
    let mut floor = Floor::new(floor_dir.path());
    group.bench_function("floor", |b| {
        b.iter(|| {
            floor.batch(0, 1, &value);
            floor.sync();
        });
    });
    for keys in [1_000, 100_000, 1_000_000] {
        let dir = dir();
        let db = Db::open(dir.path()).unwrap();
        load(&db, keys, &value);
        let mut rng = Rng(keys);
        group.bench_function(BenchmarkId::new("records", keys), |b| {
            b.iter(|| {
                db.put("data", &key(rng.below(keys)), &value).unwrap();
                db.persist().unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, persist);
criterion_main!(benches);
