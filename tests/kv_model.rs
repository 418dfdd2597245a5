//! Random operations on every [`KvStore`] against a plain map, reopening included.
//!
//! `SEED=n` repeats one run; a failure prints its seed.

use std::collections::BTreeMap;

use siltstone::kv::{KvBatch, KvStore, LogKv, Map, MemoryKv, Text, Value};
use siltstone::{Durability, Options};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn collection(&mut self) -> &'static str {
        ["", "a", "b", "docstore/data"][self.below(4) as usize]
    }

    /// One of a few keys, so that they meet again.
    fn key(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => Vec::new(),
            1 => vec![0xff; 300],
            n => format!("key {}", n * 10 + self.below(10)).into_bytes(),
        }
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 8 } else { 11 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Int(self.next() as i64 >> self.below(64)),
            3 => Value::from(self.next()),
            4 => Value::Float(f64::from_bits(self.next())),
            5 => Value::Float(self.below(100) as f64 / 8.0),
            6 => {
                let bits = self.below(13);
                let len = self.below(1 << bits);
                Value::from("x".repeat(len as usize))
            }
            7 => {
                let points: Vec<u32> =
                    (0..self.below(9)).map(|_| self.below(0x11_0000) as u32).collect();
                Text::from_code_points(points).into()
            }
            8 => {
                let len = self.below(40);
                Value::List((0..len).map(|_| Value::Float(self.below(9) as f64 * 0.5)).collect())
            }
            9 => {
                let len = self.below(5);
                Value::List((0..len).map(|_| self.value(depth - 1)).collect())
            }
            _ => {
                let len = self.below(30);
                let pair = |_| (format!("f{}", self.below(40)), self.value(depth - 1));
                (0..len).map(pair).collect::<Map>().into()
            }
        }
    }
}

/// What the store should hold.
type Model = BTreeMap<&'static str, BTreeMap<Vec<u8>, Value>>;

/// Opens the store, closed before. In memory it stays as it is.
type Open<'a> = &'a mut dyn FnMut(Option<Box<dyn KvStore>>) -> Box<dyn KvStore>;

fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=12).collect(),
    }
}

fn run(seed: u64, open: Open<'_>) {
    eprintln!("SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut model = Model::new();
    let mut store = open(None);
    for step in 0..400 {
        match random.below(20) {
            0..=11 => write(&mut random, &*store, &mut model),
            12..=13 => {
                let (collection, key) = (random.collection(), random.key());
                let expected = model.get_mut(collection).and_then(|keys| keys.remove(&key));
                let deleted = store.delete(collection, &key).expect("delete");
                assert_eq!(deleted, expected.is_some(), "step {step}");
            }
            14..=16 => {
                let (collection, key) = (random.collection(), random.key());
                let expected = model.get(collection).and_then(|keys| keys.get(&key));
                let got = store.get(collection, &key).expect("get");
                assert_eq!(got.as_ref(), expected, "step {step}");
                assert_eq!(store.contains(collection, &key).expect("contains"), got.is_some());
            }
            17..=18 => check(&*store, &model, step),
            _ => {
                store.persist().expect("persist");
                store = open(Some(store));
                check(&*store, &model, step);
            }
        }
    }
    check(&*store, &model, 400);
}

/// A batch of puts, deletions and clears.
fn write(random: &mut Random, store: &dyn KvStore, model: &mut Model) {
    let mut batch = KvBatch::new();
    let mut deleted = 0;
    let mut in_batch = BTreeMap::new();
    for _ in 0..random.below(12) {
        let (collection, key) = (random.collection(), random.key());
        match random.below(30) {
            0 => {
                batch.clear(collection).expect("clear");
                model.entry(collection).or_default().clear();
                in_batch.insert(collection, ());
            }
            1..=5 if !in_batch.contains_key(collection) => {
                batch.delete(collection, &key).expect("delete");
                let was = model.get_mut(collection).and_then(|keys| keys.remove(&key));
                deleted += u64::from(was.is_some());
            }
            _ => {
                let value = random.value(3);
                batch.put(collection, &key, &value).expect("put");
                model.entry(collection).or_default().insert(key, value);
            }
        }
    }
    let durability = if random.below(8) == 0 { Durability::Sync } else { Durability::Buffered };
    let written = store.write(batch, durability).expect("write");
    assert_eq!(written.deleted, deleted, "deletions that found their key");
}

fn check(store: &dyn KvStore, model: &Model, step: usize) {
    let mut names: Vec<(String, u64)> = store.collections().expect("collections");
    names.retain(|(_, len)| *len > 0);
    let expected: Vec<(String, u64)> = model
        .iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(name, keys)| ((*name).to_owned(), keys.len() as u64))
        .collect();
    assert_eq!(names, expected, "step {step}");
    for (name, keys) in model {
        let mut all = store.get_all(name).expect("get_all");
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let expected: Vec<(Vec<u8>, Value)> =
            keys.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(all == expected, "step {step}: collection {name:?} differs");
        let wanted: Vec<&[u8]> = keys.keys().rev().map(Vec::as_slice).collect();
        let got = store.get_many(name, &wanted).expect("get_many");
        assert!(
            got.iter().eq(keys.values().rev().map(|v| Some(v.clone())).collect::<Vec<_>>().iter())
        );
    }
}

#[test]
fn memory_kv_is_a_map() {
    for seed in seeds() {
        run(seed, &mut |store| store.unwrap_or_else(|| Box::new(MemoryKv::new())));
    }
}

#[test]
fn log_kv_is_a_map_across_reopening() {
    for seed in seeds() {
        let dir = tempfile::tempdir().expect("a directory");
        run(seed, &mut |store| {
            drop(store);
            // Segments of a few records, so that they roll.
            let options = Options::new().segment_len(4096 << (seed % 4));
            Box::new(LogKv::open_with(dir.path(), options).expect("open"))
        });
    }
}

#[cfg(feature = "testing")]
mod contract {
    use std::sync::Arc;

    use siltstone::kv::{KvStore, LogKv, MemoryKv, Staged};
    use siltstone::testing::kv_contract::{self, Reopen};

    /// The log engine in a directory that goes away with it.
    struct Log {
        store: Option<LogKv>,
        dir: tempfile::TempDir,
    }

    impl Reopen for Log {
        fn store(&self) -> &dyn KvStore {
            self.store.as_ref().expect("it is open")
        }

        fn reopen(&mut self) {
            self.store = None;
            self.store = Some(LogKv::open(self.dir.path()).expect("open"));
        }
    }

    fn log() -> Log {
        let dir = tempfile::tempdir().expect("a directory");
        Log { store: Some(LogKv::open(dir.path()).expect("open")), dir }
    }

    #[test]
    fn memory_kv_keeps_the_contract() {
        kv_contract::run(&|| Box::new(MemoryKv::new()));
    }

    #[test]
    fn staged_changes_keep_the_contract() {
        kv_contract::run(&|| Box::new(Staged::new(Arc::new(MemoryKv::new()))));
    }

    #[test]
    fn log_kv_keeps_the_contract() {
        let dir = tempfile::tempdir().expect("a directory");
        let number = std::cell::Cell::new(0);
        kv_contract::run(&|| {
            number.set(number.get() + 1);
            let dir = dir.path().join(number.get().to_string());
            Box::new(LogKv::open(dir).expect("open"))
        });
    }

    #[test]
    fn log_kv_keeps_the_contract_across_reopening() {
        kv_contract::run_reopened(&|| Box::new(log()));
    }
}
