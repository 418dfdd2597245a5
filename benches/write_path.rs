//! How fast are records appended? Buffered and synced, by threads, batch and value size, each
//! beside the physical floor of one thread: the same bytes, checksummed, appended with one
//! `write` a batch, and an fdatasync a batch where the store syncs.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails panics")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Floor, dir, fill, time, time_threads, value};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use siltstone::{Db, Durability, WriteBatch};

const THREADS: [u64; 3] = [1, 4, 16];
const BATCHES: [u64; 3] = [1, 100, 1000];
const VALUES: [usize; 3] = [256, 1024, 8192];
/// The store is made anew when it has grown by this much: benchmarks should not fill the disk.
const FRESH_AFTER: u64 = 2 << 30;

fn write_path(c: &mut Criterion) {
    for durability in [Durability::Buffered, Durability::Sync] {
        for value_len in VALUES {
            for batch in BATCHES {
                let name = match durability {
                    Durability::Buffered => "buffered",
                    Durability::Sync => "sync",
                };
                let mut group = c.benchmark_group(format!("put/{name}/{batch}x{value_len}"));
                group.sample_size(10);
                group.warm_up_time(Duration::from_millis(200));
                group.measurement_time(Duration::from_millis(800));
                group.throughput(Throughput::Bytes(batch * (20 + value_len as u64)));
                bench_floor(&mut group, durability, batch, value_len);
                for threads in THREADS {
                    bench_store(&mut group, durability, batch, value_len, threads);
                }
                group.finish();
            }
        }
    }
}

fn bench_floor(
    group: &mut BenchmarkGroup<'_, WallTime>,
    durability: Durability,
    batch: u64,
    value_len: usize,
) {
    let value = value(value_len);
    group.bench_function("floor", |b| {
        b.iter_custom(|iters| {
            let dir = dir();
            let mut floor = Floor::new(dir.path());
            time(|| {
                for i in 0..iters {
                    floor.batch(i * batch, batch, &value);
                    if durability == Durability::Sync {
                        floor.sync();
                    }
                }
            })
        });
    });
}

fn bench_store(
    group: &mut BenchmarkGroup<'_, WallTime>,
    durability: Durability,
    batch: u64,
    value_len: usize,
    threads: u64,
) {
    let value = value(value_len);
    let next = AtomicU64::new(0);
    let mut store = None;
    group.bench_function(format!("threads={threads}"), |b| {
        b.iter_custom(|iters| {
            if next.load(Ordering::Relaxed) * batch * value_len as u64 > FRESH_AFTER {
                store = None;
                next.store(0, Ordering::Relaxed);
            }
            let (_dir, db) = store.get_or_insert_with(|| {
                let dir = dir();
                let db = Db::open(dir.path()).unwrap();
                (dir, db)
            });
            let end = next.load(Ordering::Relaxed) + iters;
            time_threads(threads, |_| {
                let mut records = WriteBatch::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= end {
                        return;
                    }
                    fill(&mut records, i * batch, batch, &value);
                    db.write(&mut records, durability).unwrap();
                }
            })
        });
    });
}

criterion_group!(benches, write_path);
criterion_main!(benches);
