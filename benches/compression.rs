//! What compression costs and saves, on text chunks of this repository's own sources:
//! `cargo bench --bench compression`. Compressed and plain store take turns, so that a busy machine
//! disturbs both alike; every figure is the best of several rounds.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use common::{Rng, dir, time};
use siltstone::{CollectionOptions, Compression, Db, Durability, Options, WriteBatch};

const ROUNDS: usize = 7;
const CHUNK_LEN: usize = 1000;
const GETS: usize = 100_000;

fn main() {
    let chunks = chunks();
    let raw: usize = chunks.iter().map(Vec::len).sum();
    println!("{} chunks, {raw} bytes\n", chunks.len());
    println!("| figure | measured | target | reached |");
    println!("|---|---|---|---|");
    for copies in [1, 200] {
        let count = chunks.len() * copies;
        let stores = [Compression::Off, Compression::Lz4, Compression::Dictionary];
        let stores = stores.map(|compression| store(&chunks, copies, compression));
        let live = stores.each_ref().map(|(_, db)| db.stats().live_bytes() as f64);
        let mut best = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            for (best, (_, db)) in best.iter_mut().zip(&stores) {
                *best = (*best).min(time(|| gets(db, count)));
            }
        }
        let nanos = best.map(|t| t.as_nanos() as f64 / GETS as f64);
        println!("| plain get, of {count} keys | {:.0} ns | - | - |", nanos[0]);
        for (i, name, target, rate_target) in [(1, "LZ4", 1.0, 0.0), (2, "dictionary", 0.45, 0.5)] {
            let (ratio, rate) = (live[i] / live[0], nanos[0] / nanos[i]);
            let reached = |yes| if yes { "yes" } else { "no" };
            println!(
                "| {name}: bytes of those without, {count} keys | {ratio:.3} | <= {target} | {} |",
                reached(ratio <= target)
            );
            println!(
                "| {name}: rate of gets of that without, {count} keys | {rate:.2} ({:.0} ns) | \
                 >= {rate_target} | {} |",
                nanos[i],
                reached(rate >= rate_target)
            );
        }
    }
}

/// The sources and documents, cut at line ends into chunks of about 1 KB.
fn chunks() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<_> = ["src", "README.md", "DESIGN.md", "CHANGELOG.md"]
        .map(|name| root.join(name))
        .into_iter()
        .collect();
    let mut files = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    let mut chunks = Vec::new();
    for file in files {
        let text = std::fs::read(file).unwrap();
        let mut chunk = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            chunk.extend_from_slice(line);
            if chunk.len() >= CHUNK_LEN {
                chunks.push(std::mem::take(&mut chunk));
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
    }
    chunks
}

fn key(i: usize) -> [u8; 16] {
    let mut key = *b"chunk-..........";
    key[8..].copy_from_slice(&(i as u64).to_le_bytes());
    key
}

/// A store that holds the chunks so many times over, under keys of their own, compacted.
fn store(chunks: &[Vec<u8>], copies: usize, compression: Compression) -> (tempfile::TempDir, Db) {
    let dir = dir();
    let db = Options::new().segment_len(8 << 20).open(dir.path()).unwrap();
    db.configure("text", CollectionOptions::new().compression(compression)).unwrap();
    let mut batch = WriteBatch::new();
    for i in 0..chunks.len() * copies {
        batch.put("text", &key(i), &chunks[i % chunks.len()]).unwrap();
        if batch.len() == 500 {
            db.write(&mut batch, Durability::Buffered).unwrap();
            batch.reset();
        }
    }
    db.write(&mut batch, Durability::Buffered).unwrap();
    db.compact_now().unwrap();
    (dir, db)
}

fn gets(db: &Db, count: usize) {
    let text = db.collection("text").unwrap();
    let mut rng = Rng(99);
    for _ in 0..GETS {
        let i = (rng.next() % count as u64) as usize;
        black_box(text.get(&key(i)).unwrap().unwrap());
    }
}
