//! What compaction costs and gives back: `cargo bench --bench compaction`. Records are overwritten
//! at random, with compaction off and on in turns, and the two are compared. `SILTSTONE_BENCH_KEYS`
//! sets how many keys live in the store.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Rng, dir, key, load, settle, value};
use siltstone::{CompactionOptions, Db, Durability, Options, WriteBatch};

const VALUE_LEN: usize = 1200;
const BATCH: u64 = 500;
const ROUNDS: usize = 3;
/// What a writer that takes its time waits after each batch: about 30 MB/s are left of it.
const PAUSE: Duration = Duration::from_millis(18);

/// One run of overwriting.
struct Run {
    seconds: f64,
    slowest: Duration,
    space: f64,
    writing: f64,
}

fn main() {
    let keys = std::env::var("SILTSTONE_BENCH_KEYS").ok().and_then(|n| n.parse().ok());
    let keys: u64 = keys.unwrap_or(1_000_000);
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        off.push(overwrite(keys, round as u64, CompactionOptions::manual(), Duration::ZERO));
        on.push(overwrite(keys, round as u64, CompactionOptions::default(), Duration::ZERO));
    }
    // Compaction keeps up with it, and finds less that is dead.
    let slow = [overwrite(keys, 0, CompactionOptions::default(), PAUSE)];
    println!(
        "{keys} live records of {VALUE_LEN} B, twice as many overwrites at random, batches of"
    );
    println!("{BATCH}; best of {ROUNDS} rounds in which compaction is off and on in turns");
    println!();
    println!("| figure | measured | target | reached |");
    println!("|---|---|---|---|");
    let worst = |runs: &[Run], of: fn(&Run) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    let best = |runs: &[Run], of: fn(&Run) -> f64| runs.iter().map(of).fold(f64::MAX, f64::min);
    let space = worst(&on, |r| r.space);
    row("space when settled, to the live bytes", space, 1.3, space <= 1.3);
    let writing = worst(&on, |r| r.writing);
    row("bytes written, to those of the writer", writing, 3.0, writing <= 3.0);
    let rate = |r: &Run| 2.0 * keys as f64 * VALUE_LEN as f64 / r.seconds / 1e6;
    println!("| a writer of {:.0} MB/s: | | | |", rate(&slow[0]));
    let space = worst(&slow, |r| r.space);
    row("space when settled, to the live bytes", space, 1.3, space <= 1.3);
    let writing = worst(&slow, |r| r.writing);
    row("bytes written, to those of the writer", writing, 3.0, writing <= 3.0);
    println!("| as fast as it can: | | | |");
    let slowest = |r: &Run| r.slowest.as_secs_f64();
    let ratio = best(&on, slowest) / best(&off, slowest);
    row("slowest batch, to the slowest without compaction", ratio, 3.0, ratio < 3.0);
    let rate = best(&off, |r| r.seconds) / best(&on, |r| r.seconds);
    println!(
        "| rate, to that without compaction | {rate:.2} x ({:.0} k records/s) | >= 0.6 x | {} |",
        2.0 * keys as f64 / best(&on, |r| r.seconds) / 1e3,
        if rate >= 0.6 { "yes" } else { "no" }
    );
}

fn row(figure: &str, measured: f64, target: f64, is_reached: bool) {
    let reached = if is_reached { "yes" } else { "no" };
    println!("| {figure} | {measured:.2} x | <= {target} x | {reached} |");
}

fn overwrite(keys: u64, seed: u64, compaction: CompactionOptions, pause: Duration) -> Run {
    let dir = dir();
    let db = Options::new().compaction(compaction).open(dir.path()).unwrap();
    let value = value(VALUE_LEN);
    load(&db, keys, &value);
    let before = written(&db);
    let mut rng = Rng(seed * 7919 + 17);
    let mut batch = WriteBatch::new();
    let mut slowest = Duration::ZERO;
    let mut user_bytes = 0;
    let start = Instant::now();
    for _ in 0..2 * keys / BATCH {
        batch.reset();
        for _ in 0..BATCH {
            batch.put("data", &key(rng.below(keys)), &value).unwrap();
        }
        user_bytes += batch.byte_len() as u64;
        let asked = Instant::now();
        db.write(&mut batch, Durability::Buffered).unwrap();
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(pause);
    }
    let seconds = start.elapsed().as_secs_f64();
    if compaction.auto {
        settle(&db);
    }
    let stats = db.stats();
    let space = disk_bytes(dir.path()) as f64 / stats.live_bytes() as f64;
    let writing = (written(&db) - before) as f64 / user_bytes as f64;
    db.close().unwrap();
    Run { seconds, slowest, space, writing }
}

/// Bytes that the log and compaction have written.
fn written(db: &Db) -> u64 {
    let stats = db.stats();
    stats.appended_bytes + stats.compaction.bytes_out
}

/// Bytes of blocks that the files of `dir` take.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}
