//! What a vector query takes from the allocator does not follow the number of rows: counted, by
//! an allocator that counts what this thread asks for.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(unsafe_code, reason = "an allocator that counts can only be written so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use siltstone::kv::{KvStore, LogKv, Map, MemoryKv};
use siltstone::stores::{MetadataFilters, QueryMode, VectorEntry, VectorQuery, VectorStore};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

const DIM: usize = 24;

/// A store whose rows have a field `tenth`, the row's number modulo ten.
fn store(kv: Arc<dyn KvStore>, rows: u64) -> VectorStore {
    let store = VectorStore::new(kv);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut float = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from((state % 20_001) as f32 / 1e4 - 1.0)
    };
    let entry = |n: u64, float: &mut dyn FnMut() -> f64| {
        let mut metadata = Map::new();
        metadata.insert("tenth", n % 10);
        VectorEntry {
            id: format!("n{n}").into(),
            embedding: (0..DIM).map(|_| float()).collect(),
            metadata: Some(metadata),
            ..VectorEntry::default()
        }
    };
    let entries: Vec<_> = (0..rows).map(|n| entry(n, &mut float)).collect();
    store.add_entries(&entries).unwrap();
    // Some blocks with dead rows and with rows that do not follow each other.
    let ids: Vec<_> = (0..rows).step_by(97).map(|n| format!("n{n}").into()).collect();
    store.delete_nodes(Some(&ids), None).unwrap();
    let again: Vec<_> = (0..rows).step_by(970).map(|n| entry(n, &mut float)).collect();
    store.add_entries(&again).unwrap();
    store
}

fn count(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Goal: no allocation for a row, whatever the measure, filtered or not. Method: 40 times as many
/// rows, and less than one more allocation for every hundred of them.
#[test]
fn a_query_allocates_nothing_for_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn KvStore> = Arc::new(LogKv::open(dir.path()).unwrap());
    let log_small = tempfile::tempdir().unwrap();
    let log_small: Arc<dyn KvStore> = Arc::new(LogKv::open(log_small.path()).unwrap());
    let memory = || -> Arc<dyn KvStore> { Arc::new(MemoryKv::new()) };
    for (small, large) in [(memory(), memory()), (log_small, log)] {
        let (small, large) = (store(small, 500), store(large, 20_000));
        for mode in [QueryMode::Default, QueryMode::DotProduct, QueryMode::Euclidean] {
            for filter in ["", "tenth == 3"] {
                let mut query = VectorQuery::new([0.5; DIM], 10);
                (query.mode, query.threads) = (mode, 1);
                if !filter.is_empty() {
                    query.filters = Some(MetadataFilters::parse(filter).unwrap());
                }
                let ask = |store: &VectorStore| {
                    // The first query reads what all others use.
                    assert_eq!(store.query(&query).unwrap().ids.len(), 10);
                    count(|| assert_eq!(store.query(&query).unwrap().ids.len(), 10))
                };
                let (few, many) = (ask(&small), ask(&large));
                assert!(many < few + 195, "{mode:?} {filter}: {few} and {many} allocations");
            }
        }
    }
}

/// Goal: a filtered query finds all rows that it should and no other, among blocks whose rows
/// follow each other and such whose rows do not. Method: ask for all but one of them.
#[test]
fn filtered_queries_see_every_row_that_matches() {
    for rows in [10, 64, 1023, 1024, 5000] {
        let store = store(Arc::new(MemoryKv::new()), rows);
        let ids = store.ids().unwrap();
        for tenth in 0..10u64 {
            let is_it = |id: &&siltstone::kv::Text| {
                let digits = id.to_string_lossy();
                digits[1..].parse::<u64>().unwrap() % 10 == tenth
            };
            let mut expected: Vec<_> = ids.iter().filter(is_it).cloned().collect();
            let filter = MetadataFilters::parse(&format!("tenth == {tenth}")).unwrap();
            let query = |k| VectorQuery::new([0.5; DIM], k).with_filters(filter.clone());
            let all_but_one = expected.len().saturating_sub(1);
            let found = store.query(&query(all_but_one)).unwrap().ids;
            let mut all = store.query(&query(rows as usize)).unwrap().ids;
            assert_eq!(found, all[..all_but_one], "{rows} rows, {tenth}");
            all.sort();
            expected.sort();
            assert_eq!(all, expected, "{rows} rows, {tenth}");
        }
    }
}
