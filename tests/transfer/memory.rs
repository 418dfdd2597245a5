//! An import holds a batch and the record that it reads, whatever the length of the file.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;

use siltstone::Durability;
use siltstone::kv::{BoxFuture, KvBatch, KvError, Written};

use super::dirs::Generated;
use super::*;

/// A store in memory that notes how many bytes come in each batch.
#[derive(Default)]
struct Scales {
    inner: MemoryKv,
    batches: Mutex<Vec<usize>>,
}

impl KvStore for Scales {
    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        self.inner.get(collection, key)
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        self.inner.contains(collection, key)
    }

    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        self.inner.scan(collection, visit)
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        self.inner.len(collection)
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        self.inner.collections()
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<Written, KvError> {
        self.batches.lock().unwrap().push(batch.byte_len());
        self.inner.write(batch, durability)
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        Box::pin(std::future::ready(self.write(batch, durability)))
    }

    fn sync(&self) -> Result<(), KvError> {
        self.inner.sync()
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        self.inner.sync_async()
    }
}

/// Goal: what was read and not yet written is a batch of 4 MiB, a record, and a piece of the file.
/// Method: a file of 40 MB that is made as it is read, and a store that weighs what it is given.
/// Whoever held the file would hand it over in the end; whoever held more than a batch would hand
/// over larger ones.
#[test]
fn an_import_holds_a_batch_and_not_the_file() {
    let bytes_read = Rc::new(Cell::new(0));
    let source = Generated {
        name: "docstore.json",
        head: r#"{"docstore/data": {"#,
        tail: "}}",
        record: |i| {
            format!(
                r#""n{i}": {{"__data__": {{"text": "{}"}}, "__type__": "1"}}"#,
                "x".repeat(10_000)
            )
        },
        records: 4000,
        fails_on: None,
        opens: <_>::default(),
        bytes_read: bytes_read.clone(),
    };
    let scales = Arc::new(Scales::default());
    let kv: Arc<dyn KvStore> = scales.clone();
    let check = Import::check(&source, ImportOptions::new(), &mut |_, _| {}).unwrap();
    let read_by_check = bytes_read.get();
    assert!(read_by_check > 40_000_000);
    assert!(scales.batches.lock().unwrap().is_empty(), "a check writes nothing");
    let mut most_ahead = 0;
    let report = check
        .write(&kv, &mut |_, _| {
            let written: usize = scales.batches.lock().unwrap().iter().sum();
            let read = (bytes_read.get() - read_by_check) as usize;
            most_ahead = most_ahead.max(read.saturating_sub(written));
        })
        .unwrap();
    assert_eq!(report.records(), 4000);
    let batches = scales.batches.lock().unwrap();
    let largest = batches.iter().max().unwrap();
    println!("{} batches, largest {largest} bytes, most ahead {most_ahead}", batches.len());
    assert!(batches.len() > 8 && *largest < 5 << 20);
    assert!((1 << 20..5 << 20).contains(&most_ahead), "{most_ahead}");
}

/// Goal: that holds for files of every kind, also if all of it is one list. Method: files of 24 MB;
/// no batch is larger than some megabytes: embeddings that no `f32` can hold are kept twice.
#[test]
fn files_of_no_kind_are_held() {
    let kinds: [(&str, &str, &str, fn(u64) -> String); 6] = [
        ("llama_cache", r#"{"llama_cache": {"#, "}}", |i| {
            format!(r#""{i}": {{"nodes": ["{}"]}}"#, "x".repeat(6000))
        }),
        ("graph_store.json", r#"{"graph_dict": {"s": ["#, "]}}", |i| {
            format!(r#"["r", "{i}{}"]"#, "x".repeat(6000))
        }),
        ("property_graph_store.json", r#"{"nodes": {"#, r#"}, "relations": {}}"#, |i| {
            let text = "x".repeat(6000);
            format!(r#""{i}": {{"name": "{i}", "label": "l", "properties": {{"k": "{text}"}}}}"#)
        }),
        ("chat_store.json", r#"{"store": {"a": ["#, "]}}", |i| {
            format!(r#"{{"role": "user", "content": "{i}{}"}}"#, "x".repeat(6000))
        }),
        ("a__vector_store.json", r#"{"embedding_dict": {"#, "}}", |i| {
            format!(r#""{i}": [{}0.5]"#, "0.123456789, ".repeat(460))
        }),
        ("dump.json", r#"{"doc_store": {"docstore/data": {"#, "}}}", |i| {
            format!(r#""{i}": {{"__data__": {{"text": "{}"}}, "__type__": "1"}}"#, "x".repeat(6000))
        }),
    ];
    for (name, head, tail, record) in kinds {
        let bytes_read = Rc::new(Cell::new(0));
        let (opens, fails_on, records) = (<_>::default(), None, 4000);
        let source = Generated { name, head, tail, record, records, fails_on, opens, bytes_read };
        let scales = Arc::new(Scales::default());
        let kv: Arc<dyn KvStore> = scales.clone();
        import(&source, &kv, ImportOptions::new()).unwrap();
        let batches = scales.batches.lock().unwrap();
        let largest = batches.iter().max().unwrap();
        println!("{name}: {} batches, largest {largest} bytes", batches.len());
        assert!(batches.len() > 4 && *largest < 9 << 20, "{name}: {largest}");
    }
}
