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
    /// How many changes the largest batch has.
    changes_max: Mutex<usize>,
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
        let mut most = self.changes_max.lock().unwrap();
        *most = most.max(batch.len());
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

/// Goal: small records, of which a megabyte of a file makes far more in memory, are bounded too, as
/// are rows that are changed when the end of the file is reached.
#[test]
fn many_small_records_are_not_held() {
    let source = Generated {
        name: "docstore.json",
        head: r#"{"docstore/metadata": {"#,
        tail: "}}",
        record: |i| format!(r#""{i}": {{"doc_hash": "h"}}"#),
        records: 100_000,
        fails_on: None,
        opens: <_>::default(),
        bytes_read: <_>::default(),
    };
    let scales = Arc::new(Scales::default());
    let kv: Arc<dyn KvStore> = scales.clone();
    assert_eq!(import(&source, &kv, ImportOptions::new()).unwrap().records(), 100_000);
    let (batches, most) =
        (scales.batches.lock().unwrap().len(), *scales.changes_max.lock().unwrap());
    println!("{batches} batches, at most {most} changes");
    assert!(batches > 3 && most < 25_000, "{batches} batches, {most}");

    let rows = 6000;
    let list = |record: &dyn Fn(usize) -> String, ids: &mut dyn Iterator<Item = usize>| {
        ids.map(|id| format!(r#""{id}": {}"#, record(id))).collect::<Vec<_>>().join(", ")
    };
    let embedding = format!("[{}1.5]", "0.5, ".repeat(200));
    let embeddings = list(&|_| embedding.clone(), &mut (0..rows));
    let ref_docs = list(&|_| r#""d""#.to_owned(), &mut (0..rows).rev());
    let metadata = list(&|id| format!(r#"{{"n": {id}}}"#), &mut (0..rows).rev());
    let text = format!(
        r#"{{"embedding_dict": {{{embeddings}}}, "text_id_to_ref_doc_id": {{{ref_docs}}},
            "metadata_dict": {{{metadata}}}}}"#
    );
    let scales = Arc::new(Scales::default());
    let kv: Arc<dyn KvStore> = scales.clone();
    import(&Files::of(&[("a__vector_store.json", &text)]), &kv, ImportOptions::new()).unwrap();
    let batches = scales.batches.lock().unwrap();
    let largest = *batches.iter().max().unwrap();
    println!("{} batches, largest {largest} bytes", batches.len());
    assert!(batches.len() > 3 && largest < 5 << 20, "{largest}");
    let store = siltstone::stores::VectorStore::with_namespace(kv.clone(), "a");
    let mut right = 0;
    store
        .for_each_entry(&mut |entry| {
            let map = entry.metadata.unwrap_or_default();
            let is_right = entry.ref_doc_id == Some("d".into());
            let id = map.get("n").and_then(Value::as_int).map(|n| n.to_string());
            right += usize::from(is_right && id.is_some_and(|id| entry.id == id.as_str()));
            Ok(())
        })
        .unwrap();
    assert_eq!(right, rows);
}
