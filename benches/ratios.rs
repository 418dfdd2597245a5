//! The figures that Siltstone promises to reach, each as a ratio to something measured in the same
//! run, as one table: `cargo bench --bench ratios`. Every figure is the best of several rounds in
//! which store and floor take turns, so that a busy machine disturbs both alike.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{Floor, Rng, dir, fill, key, load, settle, time, time_threads, value};
use siltstone::{Db, Durability, WriteBatch};

const ROUNDS: usize = 5;

fn main() {
    // `cargo test --benches` and `cargo bench --no-run` pass flags; there is nothing to choose.
    println!("| figure | measured | target | reached |");
    println!("|---|---|---|---|");
    load_against_floor();
    let (dir, db) = store(1_000_000);
    // What is being sealed takes a core and the memory's time from the reads.
    settle(&db);
    reads(&db);
    index_memory(&db);
    persist_cost(&db);
    db.close().unwrap();
    open_clean(dir.path());
    group_commit();
}

fn row(figure: &str, measured: &str, target: &str, is_reached: bool) {
    println!("| {figure} | {measured} | {target} | {} |", if is_reached { "yes" } else { "no" });
}

fn best(times: impl Iterator<Item = Duration>) -> f64 {
    times.min().unwrap_or_default().as_secs_f64()
}

fn store(keys: u64) -> (tempfile::TempDir, Db) {
    let dir = dir();
    let db = Db::open(dir.path()).unwrap();
    load(&db, keys, &value(1024));
    (dir, db)
}

fn load_against_floor() {
    let value = value(1024);
    let keys = 300_000;
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let floor_dir = dir();
        times.0.push(time(|| {
            let mut floor = Floor::new(floor_dir.path());
            for start in (0..keys).step_by(1000) {
                floor.batch(start, 1000, &value);
            }
            floor.sync();
        }));
        drop(floor_dir);
        let store_dir = dir();
        let db = Db::open(store_dir.path()).unwrap();
        times.1.push(time(|| load(&db, keys, &value)));
    }
    let (floor, store) = (best(times.0.into_iter()), best(times.1.into_iter()));
    let ratio = floor / store;
    let rate = keys as f64 / store / 1e3;
    row(
        "load in batches of 1,000 (1 KiB), of the raw append",
        &format!("{ratio:.2} ({rate:.0} k records/s)"),
        ">= 0.75",
        ratio >= 0.75,
    );
}

fn reads(db: &Db) {
    let data = db.collection("data").unwrap();
    let count = 200_000;
    // Warm: the same 20,000 keys again and again.
    let hit = best((0..ROUNDS).map(|_| {
        let mut rng = Rng(99);
        time(|| {
            for _ in 0..count {
                black_box(data.get(&key(rng.below(20_000))).unwrap().unwrap());
            }
        })
    }));
    let nanos = hit * 1e9 / f64::from(count);
    row("point get, hit, 1 KiB, warm", &format!("{nanos:.0} ns"), "<= 1,000 ns", nanos <= 1e3);
    let all = best((0..ROUNDS).map(|_| {
        let mut rng = Rng(98);
        time(|| {
            for _ in 0..count {
                black_box(data.get(&key(rng.below(1_000_000))).unwrap().unwrap());
            }
        })
    }));
    let nanos = all * 1e9 / f64::from(count);
    row("point get, hit, 1 KiB, over all of 1 M keys", &format!("{nanos:.0} ns"), "-", true);
}

fn index_memory(db: &Db) {
    let bytes = db.stats().index_bytes as f64 / db.len("data") as f64;
    row("index memory per key", &format!("{bytes:.1} B"), "<= 24 B", bytes <= 24.0);
}

fn persist_cost(large: &Db) {
    let value = value(1024);
    let (_small_dir, small) = store(1_000);
    let (_middle_dir, middle) = store(100_000);
    let floor_dir = dir();
    let mut floor = Floor::new(floor_dir.path());
    let mut rng = Rng(5);
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..300 {
        times[0].push(time(|| {
            floor.batch(0, 1, &value);
            floor.sync();
        }));
        for (db, keys, slot) in [(&small, 1_000, 1), (&middle, 100_000, 2), (large, 1_000_000, 3)] {
            times[slot].push(time(|| {
                db.put("data", &key(rng.below(keys)), &value).unwrap();
                db.persist().unwrap();
            }));
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let [floor, small, middle, large] = times.each_mut().map(median);
    let ratio = large / floor;
    row(
        "`persist` after one change, 1 M records, to one append + fdatasync",
        &format!("{ratio:.2} x ({:.0} us)", large * 1e6),
        "<= 2 x",
        ratio <= 2.0,
    );
    let ratio = middle / small;
    row("the same, 100 k records to 1 k", &format!("{ratio:.2} x"), "about 1", ratio < 1.3);
    let ratio = large / small;
    row("the same, 1 M records to 1 k records", &format!("{ratio:.2} x"), "about 1", ratio < 1.3);
}

fn open_clean(dir: &std::path::Path) {
    let seconds = best((0..3).map(|_| {
        let mut db = None;
        let took = time(|| db = Some(Db::open(dir).unwrap()));
        assert_eq!(db.as_ref().unwrap().len("data"), 1_000_000);
        db.unwrap().close().unwrap();
        took
    }));
    let measured = format!("{seconds:.3} s");
    row("open 1 M keys after a clean close", &measured, "<= 0.1 s", seconds <= 0.1);
}

fn group_commit() {
    let value = value(1024);
    let commits = 2_000;
    let mut rates = [0.0f64; 2];
    for _ in 0..ROUNDS {
        for (slot, threads) in [(0, 1), (1, 16)] {
            let dir = dir();
            let db = Db::open(dir.path()).unwrap();
            let took = time_threads(threads, |t| {
                let mut batch = WriteBatch::new();
                for i in 0..commits / threads {
                    fill(&mut batch, t * commits + i, 1, &value);
                    db.write(&mut batch, Durability::Sync).unwrap();
                }
            });
            rates[slot] = rates[slot].max(commits as f64 / took.as_secs_f64());
        }
    }
    let ratio = rates[1] / rates[0];
    row(
        "16 threads that commit with `Sync`, to one",
        &format!("{ratio:.1} x ({:.0} to {:.0} commits/s)", rates[1], rates[0]),
        ">= 4 x",
        ratio >= 4.0,
    );
}
