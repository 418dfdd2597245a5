//! The conformance suite of [`KvStore`]: whatever passes it carries every store of this crate.
//!
//! ```
//! use siltstone::kv::MemoryKv;
//! siltstone::testing::kv_contract::run(&|| Box::new(MemoryKv::new()));
//! ```
//!
//! A store that outlives its process passes [`run_reopened`] as well. Both panic with a sentence
//! that says what was promised and not kept.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::engine::Durability;
use crate::kv::{KvBatch, KvError, KvStore, Map, Text, Value};
use crate::limits::{COLLECTION_NAME_LEN_MAX, KEY_LEN_MAX, VALUE_DEPTH_MAX};

/// A store that can be closed and opened again.
pub trait Reopen {
    /// The open store.
    fn store(&self) -> &dyn KvStore;

    /// Closes the store and opens it again.
    fn reopen(&mut self);
}

/// Runs every check, each on a store of its own that `fresh` gives, empty.
///
/// # Panics
///
/// If the store breaks the contract of [`KvStore`].
pub fn run(fresh: &dyn Fn() -> Box<dyn KvStore>) {
    let checks: [fn(&dyn KvStore); 13] = [
        reading_creates_nothing,
        what_is_put_is_got,
        odd_names_are_names,
        limits_are_errors_that_change_nothing,
        collections_are_apart,
        deletions_are_reported,
        operations_of_a_batch_apply_in_order,
        put_all_takes_any_batch_size,
        get_many_keeps_order_and_repeats,
        scan_sees_everything_once_and_stops_at_an_error,
        async_twins_do_the_same,
        big_values_are_values,
        a_batch_appears_in_its_order,
    ];
    for check in checks {
        check(&*fresh());
    }
}

/// Runs the checks that close the store and open it again, on a store that `fresh` gives, empty.
///
/// # Panics
///
/// If something that was made durable is not there as it was.
pub fn run_reopened(fresh: &dyn Fn() -> Box<dyn Reopen>) {
    let mut subject = fresh();
    let written = fill(subject.store());
    ok(subject.store().persist(), "persist");
    for round in 0..3 {
        subject.reopen();
        assert_eq!(contents(subject.store()), written, "reopening ({round}) changes nothing");
    }
    let mut batch = KvBatch::new();
    ok(batch.delete("a", b"k1"), "delete");
    ok(batch.clear("b"), "clear");
    ok(batch.put("c", b"new", &Value::Int(1)), "put");
    ok(subject.store().write(batch, Durability::Sync), "write with Sync");
    let written = contents(subject.store());
    subject.reopen();
    assert_eq!(contents(subject.store()), written, "deletions and clears last");
    assert_eq!(get(subject.store(), "a", b"k1"), None);
    assert_eq!(len(subject.store(), "b"), 0);
    let mut batch = KvBatch::new();
    ok(batch.put("b", b"again", &Value::Int(2)), "put");
    ok(block_on(subject.store().write_async(batch, Durability::Sync)), "write_async");
    subject.reopen();
    assert_eq!(get(subject.store(), "b", b"again"), Some(Value::Int(2)));
}

/// Runs a future to its end on this thread, which sleeps while there is nothing to do.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        // A wake-up between the poll and here is remembered, so this returns at once.
        std::thread::park();
    }
}

/// Values of every kind, with the extremes that Python allows.
pub fn odd_values() -> Vec<Value> {
    let integer = |decimal| Value::integer(decimal).unwrap_or_default();
    let surrogates = Text::from_code_points([0xd800, 0x41, 0xdfff, 0x1f600]);
    let deep = (0..VALUE_DEPTH_MAX - 1).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Int(i64::MIN),
        integer("18446744073709551616"),
        integer("-99999999999999999999999999999999999999999"),
        Value::Float(-0.0),
        Value::Float(f64::NAN),
        Value::Float(f64::INFINITY),
        Value::Float(5e-324),
        Value::List(vec![Value::Float(0.1), Value::Float(f64::NEG_INFINITY)]),
        Value::List(vec![Value::Float(0.5), Value::Float(1.5)]),
        Value::List(vec![Value::Int(1), Value::Null, Value::List(vec![])]),
        "".into(),
        "\0\u{7f}\u{1f600}".into(),
        surrogates.clone().into(),
        Map::new().into(),
        [(surrogates, Value::Int(1)), (Text::default(), Value::Null)]
            .into_iter()
            .collect::<Map>()
            .into(),
        deep,
    ]
}

fn ok<T>(result: Result<T, KvError>, what: &str) -> T {
    result.unwrap_or_else(|e| panic!("{what} failed: {e}"))
}

fn get(store: &dyn KvStore, collection: &str, key: &[u8]) -> Option<Value> {
    ok(store.get(collection, key), "get")
}

fn put(store: &dyn KvStore, collection: &str, key: &[u8], value: impl Into<Value>) {
    ok(store.put(collection, key, &value.into()), "put");
}

fn len(store: &dyn KvStore, collection: &str) -> u64 {
    ok(store.len(collection), "len")
}

/// Everything in the store, sorted; collections that are empty are left out.
fn contents(store: &dyn KvStore) -> Vec<(String, Vec<u8>, Value)> {
    let mut all = Vec::new();
    for (name, count) in ok(store.collections(), "collections") {
        let records = ok(store.get_all(&name), "get_all");
        assert_eq!(records.len() as u64, count, "collections() counts the keys of {name:?}");
        all.extend(records.into_iter().map(|(key, value)| (name.clone(), key, value)));
    }
    all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    all
}

/// Some of everything, in three collections.
fn fill(store: &dyn KvStore) -> Vec<(String, Vec<u8>, Value)> {
    for (index, value) in odd_values().into_iter().enumerate() {
        let collection = ["a", "b", ""][index % 3];
        put(store, collection, format!("k{index}").as_bytes(), value);
    }
    put(store, "a", b"k0", "overwritten");
    put(store, "a", b"gone", 1);
    assert!(ok(store.delete("a", b"gone"), "delete"), "a key that is there is deleted");
    put(store, "a", b"k1", 1);
    contents(store)
}

fn reading_creates_nothing(store: &dyn KvStore) {
    assert_eq!(get(store, "c", b"k"), None);
    assert!(!ok(store.contains("c", b"k"), "contains"));
    assert_eq!(len(store, "c"), 0);
    assert_eq!(ok(store.get_all("c"), "get_all"), []);
    assert_eq!(ok(store.get_many("c", &[b"k"]), "get_many"), [None]);
    assert!(!ok(store.delete("c", b"k"), "delete"), "nothing is deleted where nothing is");
    assert_eq!(ok(store.collections(), "collections"), [], "reading creates no collection");
    let written = ok(store.write(KvBatch::new(), Durability::Sync), "write of nothing");
    assert_eq!(written.deleted, 0);
    ok(store.persist(), "persist of nothing");
}

fn what_is_put_is_got(store: &dyn KvStore) {
    for value in odd_values() {
        put(store, "c", b"k", value.clone());
        assert_eq!(get(store, "c", b"k"), Some(value), "the last value put is the one got");
        assert_eq!(len(store, "c"), 1, "overwriting adds no key");
    }
    let map: Map = [("z", 1), ("a", 2), ("m", 3)].into_iter().collect();
    put(store, "c", b"m", map);
    let got = get(store, "c", b"m");
    let keys = got.as_ref().and_then(Value::as_map).map(|map| map.keys().cloned().collect());
    assert_eq!(keys, Some(["z", "a", "m"].map(Text::from).to_vec()), "maps keep their order");
}

fn odd_names_are_names(store: &dyn KvStore) {
    let long_key = vec![0xff; KEY_LEN_MAX];
    let keys: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"a/b", b"\xff\xfe", &long_key];
    let long_name = "n".repeat(COLLECTION_NAME_LEN_MAX);
    let names = ["", "data", "data/", "a\nb", "\u{65e5}\u{672c}", &long_name];
    for (n, name) in names.iter().enumerate() {
        for (k, key) in keys.iter().enumerate() {
            put(store, name, key, format!("{n} {k}"));
        }
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(len(store, name), keys.len() as u64);
        for (k, key) in keys.iter().enumerate() {
            assert_eq!(get(store, name, key), Some(format!("{n} {k}").into()), "{name:?} {key:?}");
        }
    }
}

fn limits_are_errors_that_change_nothing(store: &dyn KvStore) {
    put(store, "c", b"k", 1);
    let before = contents(store);
    let long_key = vec![0; KEY_LEN_MAX + 1];
    let long_name = "n".repeat(COLLECTION_NAME_LEN_MAX + 1);
    let deep = (0..=VALUE_DEPTH_MAX).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert!(store.put("c", &long_key, &Value::Null).is_err(), "a key over the limit is refused");
    assert!(store.put(&long_name, b"k", &Value::Null).is_err(), "so is such a name");
    assert!(matches!(store.put("c", b"k", &deep), Err(KvError::TooDeep { .. })), "and depth");
    let zero = store.put_all("c", &[(b"x", &Value::Null)], 0);
    assert!(matches!(zero, Err(KvError::InvalidArgument(_))), "batches of nothing are refused");
    assert_eq!(contents(store), before, "what is refused changes nothing");

    let mut batch = KvBatch::new();
    ok(batch.put("c", b"a", &Value::Int(1)), "put");
    assert!(batch.put("c", b"b", &deep).is_err());
    assert!(batch.put("c", &long_key, &Value::Null).is_err());
    assert_eq!(batch.len(), 1, "a refused operation leaves the batch as it was");
    ok(store.write(batch, Durability::Buffered), "write");
    assert_eq!((get(store, "c", b"a"), len(store, "c")), (Some(Value::Int(1)), 2));
}

fn collections_are_apart(store: &dyn KvStore) {
    for (number, name) in ["b", "a", "ab", "a/b"].into_iter().enumerate() {
        put(store, name, b"k", number as i64);
        put(store, name, name.as_bytes(), "own");
    }
    for (number, name) in ["b", "a", "ab", "a/b"].into_iter().enumerate() {
        assert_eq!(get(store, name, b"k"), Some(Value::Int(number as i64)));
    }
    let names = ok(store.collections(), "collections");
    let expected = ["a", "a/b", "ab", "b"].map(|name| (name.to_owned(), 2));
    assert_eq!(names, expected, "collections are listed by name with their sizes");
    let mut batch = KvBatch::new();
    ok(batch.clear("a"), "clear");
    ok(store.write(batch, Durability::Buffered), "write");
    assert_eq!((len(store, "a"), get(store, "a", b"k")), (0, None), "cleared");
    assert_eq!(get(store, "ab", b"k"), Some(Value::Int(2)), "and no other");
    put(store, "a", b"k", "again");
    assert_eq!((len(store, "a"), get(store, "a", b"a")), (1, None), "nothing comes back");
}

fn deletions_are_reported(store: &dyn KvStore) {
    for key in [b"a", b"b", b"c"] {
        put(store, "c", key, 1);
    }
    assert!(ok(store.delete("c", b"a"), "delete"), "a key that is there is deleted");
    assert!(!ok(store.delete("c", b"a"), "delete"), "and then it is not there");
    assert_eq!((get(store, "c", b"a"), len(store, "c")), (None, 2));
    let mut batch = KvBatch::new();
    for key in [b"a", b"b", b"c", b"d"] {
        ok(batch.delete("c", key), "delete");
    }
    let written = ok(store.write(batch, Durability::Buffered), "write");
    assert_eq!(written.deleted, 2, "a batch counts the deletions that found their key");
    assert_eq!((len(store, "c"), ok(store.get_all("c"), "get_all")), (0, vec![]));
    put(store, "c", b"a", 2);
    assert_eq!(get(store, "c", b"a"), Some(Value::Int(2)), "a deleted key can come back");
}

fn operations_of_a_batch_apply_in_order(store: &dyn KvStore) {
    put(store, "c", b"old", 0);
    put(store, "d", b"old", 0);
    let mut batch = KvBatch::new();
    for op in 0..3 {
        ok(batch.put("c", b"k", &Value::Int(op)), "put");
    }
    ok(batch.put("c", b"gone", &Value::Null), "put");
    ok(batch.delete("c", b"gone"), "delete");
    ok(batch.delete("c", b"back"), "delete");
    ok(batch.put("c", b"back", &Value::Null), "put");
    ok(batch.put("d", b"before", &Value::Null), "put");
    ok(batch.clear("d"), "clear");
    ok(batch.put("d", b"after", &Value::Null), "put");
    ok(batch.put("new", b"k", &Value::Null), "put");
    assert_eq!(batch.len(), 11);
    ok(store.write(batch, Durability::Sync), "write");
    assert_eq!(get(store, "c", b"k"), Some(Value::Int(2)), "the last put of a key wins");
    assert_eq!(get(store, "c", b"gone"), None, "a deletion wins over an earlier put");
    assert_eq!(get(store, "c", b"back"), Some(Value::Null), "and loses to a later one");
    assert_eq!(len(store, "c"), 3);
    let left = ok(store.get_all("d"), "get_all");
    assert_eq!(left, [(b"after".to_vec(), Value::Null)], "a clear takes what came before");
    assert_eq!(len(store, "new"), 1);
}

fn put_all_takes_any_batch_size(store: &dyn KvStore) {
    let one = Value::Int(1);
    for (name, size) in [("a", 1), ("b", 3), ("c", 100), ("d", usize::MAX)] {
        let values: Vec<Value> = (0..10).map(Value::Int).collect();
        let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
        let mut pairs: Vec<(&[u8], &Value)> =
            keys.iter().map(|key| key.as_bytes()).zip(&values).collect();
        pairs.push((b"k9", &one));
        ok(store.put_all(name, &pairs, size), "put_all");
        assert_eq!(len(store, name), 10);
        assert_eq!(get(store, name, b"k9"), Some(Value::Int(1)), "of two puts the last one wins");
        assert_eq!(get(store, name, b"k8"), Some(Value::Int(8)));
    }
    ok(store.put_all("none", &[], 100), "put_all of nothing");
    assert_eq!(ok(store.collections(), "collections").len(), 4, "nothing creates no collection");
}

fn get_many_keeps_order_and_repeats(store: &dyn KvStore) {
    for n in 0..50u8 {
        put(store, "c", &[n], i64::from(n));
    }
    let keys: Vec<[u8; 1]> = (0..100).map(|n: u8| [n.wrapping_mul(37) % 60]).collect();
    let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let expected: Vec<Option<Value>> =
        keys.iter().map(|[n]| (*n < 50).then(|| i64::from(*n).into())).collect();
    assert_eq!(ok(store.get_many("c", &slices), "get_many"), expected);
    assert_eq!(ok(store.get_many("c", &[]), "get_many"), []);
}

fn scan_sees_everything_once_and_stops_at_an_error(store: &dyn KvStore) {
    for n in 0..1000i64 {
        put(store, "c", &n.to_le_bytes(), n);
    }
    for n in (0..1000i64).step_by(3) {
        put(store, "c", &n.to_le_bytes(), n);
        assert!(ok(store.delete("c", &(n + 1).to_le_bytes()), "delete") || n == 999);
    }
    let mut seen: Vec<i64> = Vec::new();
    let scanned = store.scan("c", &mut |key, value| {
        let n = value.as_int().unwrap_or(-1);
        assert_eq!(key, n.to_le_bytes(), "a key comes with its value");
        seen.push(n);
        Ok(())
    });
    ok(scanned, "scan");
    seen.sort_unstable();
    let expected: Vec<i64> = (0..1000).filter(|n| n % 3 != 1).collect();
    assert_eq!(seen, expected, "a scan sees each key once");
    let mut visits = 0;
    let stopped = store.scan("c", &mut |_, _| {
        visits += 1;
        if visits < 10 { Ok(()) } else { Err(KvError::InvalidArgument("enough".into())) }
    });
    assert!(matches!(stopped, Err(KvError::InvalidArgument(what)) if what == "enough"));
    assert_eq!(visits, 10, "a scan stops at the visitor's error and returns it");
}

fn async_twins_do_the_same(store: &dyn KvStore) {
    for value in odd_values() {
        ok(block_on(store.aput("c", b"k", &value)), "aput");
        assert_eq!(ok(block_on(store.aget("c", b"k")), "aget"), Some(value));
    }
    assert_eq!(ok(block_on(store.aget("c", b"none")), "aget"), None);
    assert_eq!(ok(block_on(store.aget_all("none")), "aget_all"), []);
    let (one, two) = (Value::Int(1), Value::Int(2));
    let pairs: [(&[u8], &Value); 3] = [(b"a", &one), (b"b", &two), (b"a", &two)];
    assert!(block_on(store.aput_all("d", &pairs, 0)).is_err());
    for size in [1, 2, 10] {
        ok(block_on(store.aput_all("d", &pairs, size)), "aput_all");
    }
    let mut all = ok(block_on(store.aget_all("d")), "aget_all");
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all, [(b"a".to_vec(), two.clone()), (b"b".to_vec(), two.clone())]);
    assert!(ok(block_on(store.adelete("d", b"a")), "adelete"));
    assert!(!ok(block_on(store.adelete("d", b"a")), "adelete"));
    for durability in [Durability::Buffered, Durability::Sync] {
        let mut batch = KvBatch::new();
        ok(batch.put("d", b"k", &one), "put");
        ok(batch.delete("d", b"b"), "delete");
        ok(batch.put("d", b"b", &one), "put");
        let written = ok(block_on(store.write_async(batch, durability)), "write_async");
        assert_eq!(written.deleted, 1);
        assert_eq!(len(store, "d"), 2);
    }
    ok(block_on(store.persist_async()), "persist_async");
}

fn big_values_are_values(store: &dyn KvStore) {
    let floats: Vec<Value> = (0..100_000).map(|n| Value::Float(f64::from(n) * 0.1)).collect();
    let map: Map = (0..50_000i64).map(|n| (n.to_string(), n)).collect();
    let big = [Value::from("x".repeat(3 << 20)), floats.into(), map.into()];
    for (n, value) in big.iter().enumerate() {
        put(store, "c", &[n as u8], value.clone());
    }
    for (n, value) in big.iter().enumerate() {
        assert!(get(store, "c", &[n as u8]).as_ref() == Some(value), "big value {n} comes back");
    }
}

fn a_batch_appears_in_its_order(store: &dyn KvStore) {
    let done = AtomicBool::new(false);
    let number = |collection: &str| get(store, collection, b"k").and_then(|v| v.as_int());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..2_000i64 {
                let mut batch = KvBatch::new();
                ok(batch.put("a", b"k", &Value::Int(n)), "put");
                ok(batch.put("b", b"k", &Value::Int(n)), "put");
                ok(store.write(batch, Durability::Buffered), "write");
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            // The batch puts `a` first: once `b` shows it, `a` does.
            let (b, a) = (number("b"), number("a"));
            assert!(a >= b, "b shows {b:?}, and then a still {a:?}");
        }
    });
    assert_eq!((number("a"), number("b")), (Some(1_999), Some(1_999)));
}
