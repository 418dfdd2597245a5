//! What a vector query costs, each figure as a ratio to something measured in the same run, as one
//! table: `cargo bench --bench vector`. What is compared takes turns; each ratio is the median of
//! those of the rounds, so that a busy machine disturbs both sides alike.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Rng, dir, settle, time};
use siltstone::kv::{KvBytes, KvStore, LogKv, Map, codec};
use siltstone::stores::{MetadataFilters, VectorEntry, VectorQuery, VectorStore};

const DIM: usize = 384;
const ROUNDS: usize = 41;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    // `cargo test --benches` and `cargo bench --no-run` pass flags; there is nothing to choose.
    println!("| figure | measured | target | reached |");
    println!("|---|---|---|---|");
    queries(&store(100_000, false), &store(100_000, true));
}

fn row(figure: &str, measured: &str, target: &str, is_reached: bool) {
    println!("| {figure} | {measured} | {target} | {} |", if is_reached { "yes" } else { "no" });
}

fn embedding(rng: &mut Rng) -> Vec<f64> {
    (0..DIM).map(|_| f64::from(rng.below(20_001) as f32 / 1e4 - 1.0)).collect()
}

fn entry(rng: &mut Rng, n: usize) -> VectorEntry {
    let mut metadata = Map::new();
    metadata.insert("tenth", (n * 7919 % 10) as i64);
    VectorEntry {
        id: format!("node-{n:012}").into(),
        embedding: embedding(rng),
        ref_doc_id: Some(format!("doc-{}", n / 20).into()),
        metadata: Some(metadata),
    }
}

struct Store {
    rows: usize,
    kv: Arc<LogKv>,
    vectors: VectorStore,
    _dir: tempfile::TempDir,
}

fn store(rows: usize, is_half: bool) -> Store {
    let dir = dir();
    let kv = Arc::new(LogKv::open(dir.path()).unwrap());
    let vectors = VectorStore::new(kv.clone());
    if is_half {
        vectors.keep_half_precision().unwrap();
    }
    let mut rng = Rng(7);
    for start in (0..rows).step_by(1024) {
        let entries: Vec<_> =
            (start..(start + 1024).min(rows)).map(|n| entry(&mut rng, n)).collect();
        vectors.add_entries(&entries).unwrap();
    }
    kv.persist().unwrap();
    // What is being sealed takes a core, and is not mapped yet.
    settle(kv.db());
    Store { rows, kv, vectors, _dir: dir }
}

/// The blocks of a store, where they lie.
fn blocks(kv: &LogKv) -> Vec<KvBytes> {
    let name = "vector_store/default/blocks";
    let mut keys = Vec::new();
    for entry in kv.db().iter(name) {
        keys.push(entry.unwrap().key.to_vec());
    }
    keys.sort();
    keys.iter().map(|key| kv.get_bytes(name, key).unwrap().unwrap()).collect()
}

/// The sum of all floats in some bytes, with as many sums at once as the search keeps.
fn plain_sum(bytes: &[u8]) -> f32 {
    let mut sums = [0f32; 32];
    for part in bytes.as_chunks::<128>().0 {
        for (sum, float) in sums.iter_mut().zip(part.as_chunks::<4>().0) {
            *sum += f32::from_le_bytes(*float);
        }
    }
    sums.iter().sum()
}

/// In seconds.
fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// The median of the rounds' ratios.
fn ratio(over: &[Duration], under: &[Duration]) -> f64 {
    let of = |(a, b): (&Duration, &Duration)| a.as_secs_f64() / b.as_secs_f64();
    let mut ratios: Vec<f64> = over.iter().zip(under).map(of).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn queries(store: &Store, halves: &Store) {
    let blocks = blocks(&store.kv);
    let bytes: usize = blocks.iter().map(|block| block.len()).sum();
    let mut rng = Rng(11);
    let filter = MetadataFilters::parse("tenth == 3").unwrap();
    let ask = |query: &VectorQuery| store.vectors.query(query).unwrap();
    let (mut sum, mut all, mut some, mut both) = (vec![], vec![], vec![], vec![]);
    let mut half = vec![];
    let mut allocations = u64::MAX;
    for _ in 0..ROUNDS {
        sum.push(time(|| {
            for block in &blocks {
                black_box(plain_sum(codec::f32s(block).unwrap()));
            }
        }));
        let mut query = VectorQuery::new(embedding(&mut rng), 10);
        query.threads = 1;
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        all.push(time(|| assert_eq!(ask(&query).ids.len(), 10)));
        allocations = allocations.min(ALLOCATIONS.load(Ordering::Relaxed) - before);
        let filtered = query.clone().with_filters(filter.clone());
        some.push(time(|| assert_eq!(ask(&filtered).ids.len(), 10)));
        half.push(time(|| assert_eq!(halves.vectors.query(&query).unwrap().ids.len(), 10)));
        query.threads = 0;
        both.push(time(|| assert_eq!(ask(&query).ids.len(), 10)));
    }
    // As a benchmark of filtered queries alone would: what they read is not swept from the caches.
    let alone: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let mut query = VectorQuery::new(embedding(&mut rng), 10).with_filters(filter.clone());
            query.threads = 1;
            time(|| assert_eq!(ask(&query).ids.len(), 10))
        })
        .collect();
    let rate = |times: &[Duration]| bytes as f64 / median(times) / 1e9;
    let what = format!("{} x {DIM}", store.rows);
    let of_sum = ratio(&sum, &all);
    row(
        &format!("query {what}, one thread, of a plain sum"),
        &format!(
            "{of_sum:.2} ({:.1} of {:.1} GB/s, {:.2} ms)",
            rate(&all),
            rate(&sum),
            median(&all) * 1e3
        ),
        ">= 0.80",
        of_sum >= 0.8,
    );
    let quicker = ratio(&all, &alone);
    row(
        "the same, filtered to 10 %, quicker by",
        &format!("{quicker:.1} x ({:.2} ms)", median(&alone) * 1e3),
        ">= 5 x",
        quicker >= 5.0,
    );
    row(
        "filtered so, each after a query of all rows",
        &format!("{:.1} x ({:.2} ms)", ratio(&all, &some), median(&some) * 1e3),
        "-",
        true,
    );
    row(
        "the same over half precision, quicker by",
        &format!("{:.2} x ({:.2} ms)", ratio(&all, &half), median(&half) * 1e3),
        "-",
        true,
    );
    let cores = std::thread::available_parallelism().unwrap();
    row(
        &format!("the same on all cores ({cores}), quicker by"),
        &format!("{:.2} x ({:.2} ms)", ratio(&all, &both), median(&both) * 1e3),
        "-",
        true,
    );
    let each = allocations as f64 / store.rows as f64;
    row(
        "allocations of a query, for each row",
        &format!("{each:.4} ({allocations} in all)"),
        "0 for each row",
        each < 0.05,
    );
}
