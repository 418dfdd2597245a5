//! An import holds a batch and the record that it reads, whatever the length of the file.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;

use siltstone::Durability;
use siltstone::kv::{BoxFuture, KvBatch, KvError, Written};

use super::dirs::Generated;
use super::*;

/// Notes how many bytes come in each batch, and forgets them.
#[derive(Default)]
struct Scales {
    batches: Mutex<Vec<usize>>,
}

impl KvStore for Scales {
    fn get(&self, _: &str, _: &[u8]) -> Result<Option<Value>, KvError> {
        Ok(None)
    }

    fn contains(&self, _: &str, _: &[u8]) -> Result<bool, KvError> {
        Ok(false)
    }

    fn scan(
        &self,
        _: &str,
        _: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        Ok(())
    }

    fn len(&self, _: &str) -> Result<u64, KvError> {
        Ok(0)
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        Ok(Vec::new())
    }

    fn write(&self, batch: KvBatch, _: Durability) -> Result<Written, KvError> {
        self.batches.lock().unwrap().push(batch.byte_len());
        Ok(Written::default())
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        Box::pin(std::future::ready(self.write(batch, durability)))
    }

    fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(std::future::ready(Ok(())))
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
        record: |i| format!(r#""n{i}": {{"__data__": {{"text": "{}"}}}}"#, "x".repeat(10_000)),
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
