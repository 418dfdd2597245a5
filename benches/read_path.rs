//! How fast are records read? Hits and misses at random, many at once, whole collections; by one
//! thread and by two. 200,000 records of 1 KiB: sealed segments, warm.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails panics")]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{Rng, dir, key, load, time_threads, value};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use siltstone::{Db, Options, Verify};

const KEYS: u64 = 200_000;

fn read_path(c: &mut Criterion) {
    let dir = dir();
    let db = Db::open(dir.path()).unwrap();
    load(&db, KEYS, &value(1024));
    db.close().unwrap();
    for (name, verify) in
        [("always", Verify::Always), ("once", Verify::Once), ("never", Verify::Never)]
    {
        let db = Options::new().verify(verify).open(dir.path()).unwrap();
        let data = db.collection("data").unwrap();
        let mut group = c.benchmark_group(format!("get/verify={name}"));
        group.sample_size(20).measurement_time(Duration::from_secs(1));
        group.warm_up_time(Duration::from_millis(500));
        for threads in [1, 2] {
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("hit/threads={threads}"), |b| {
                b.iter_custom(|iters| {
                    time_threads(threads, |t| {
                        let mut rng = Rng(0xABCD_EF01 + t);
                        for _ in 0..iters / threads {
                            let found = data.get(&key(rng.below(KEYS))).unwrap();
                            black_box(found.unwrap());
                        }
                    })
                });
            });
            group.bench_function(format!("miss/threads={threads}"), |b| {
                b.iter_custom(|iters| {
                    time_threads(threads, |t| {
                        let mut rng = Rng(0xABCD_EF01 + t);
                        for _ in 0..iters / threads {
                            let found = data.get(&key(KEYS + rng.below(KEYS))).unwrap();
                            assert!(black_box(found).is_none());
                        }
                    })
                });
            });
        }
        group.throughput(Throughput::Elements(100));
        group.bench_function("many=100", |b| {
            let mut rng = Rng(7);
            b.iter(|| {
                let keys: Vec<_> = (0..100).map(|_| key(rng.below(KEYS))).collect();
                let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
                black_box(data.get_many(&keys).unwrap())
            });
        });
        group.throughput(Throughput::Elements(KEYS));
        group.sample_size(10);
        group.bench_function("scan", |b| {
            b.iter(|| assert_eq!(data.iter().filter(|e| e.is_ok()).count(), KEYS as usize));
        });
        group.finish();
    }
}

criterion_group!(benches, read_path);
criterion_main!(benches);
