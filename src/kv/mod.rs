//! The seam that the stores stand on: named collections of keys with JSON-like values.
//!
//! [`KvStore`] is LlamaIndex's key-value store (`storage/kvstore/types.py`) with what a real
//! engine adds: atomic writes over several collections, durability chosen per write, lookups of
//! many keys at once, iteration without holding everything in memory. [`LogKv`] keeps it in the
//! log engine, [`MemoryKv`] in a map; anything else that passes the conformance suite of the
//! `testing` feature carries every store as well.

mod bytes;
pub mod codec;
mod error;
pub mod json;
mod log;
mod map;
mod memory;
mod staged;
mod text;
mod value;
mod writer_lock;

use std::future::Future;
use std::pin::Pin;

pub use bytes::KvBytes;
pub use error::KvError;
pub(crate) use error::escape_key;
pub use log::LogKv;
pub use memory::MemoryKv;
pub use staged::Staged;
pub(crate) use text::TextBuilder;
pub use text::{InvalidText, Text};
pub use value::{BigInt, Map, Value};
pub(crate) use writer_lock::Numberer;
pub use writer_lock::WriterLock;

use crate::engine::{BatchOp, Durability, WriteBatch};
use crate::limits::VALUE_DEPTH_MAX;

/// The collection used when a LlamaIndex caller names none.
pub const DEFAULT_COLLECTION: &str = "data";

/// A boxed future, so that [`KvStore`] stays object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many of the batch's deletions found their key.
    pub deleted: u64,
}

/// Operations on any number of collections that are applied together or not at all.
///
/// Values are encoded as they are added. Later operations on a key win over earlier ones.
#[derive(Debug, Default)]
pub struct KvBatch {
    inner: WriteBatch,
}

/// One operation of a [`KvBatch`], as a backend sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvOp<'a> {
    /// Sets `key` to the value encoded in `value` (see [`codec::decode`]).
    Put {
        /// The collection's name.
        collection: &'a str,
        /// The key.
        key: &'a [u8],
        /// The encoded value.
        value: &'a [u8],
    },
    /// Removes `key`; it is no error if it is absent.
    Delete {
        /// The collection's name.
        collection: &'a str,
        /// The key.
        key: &'a [u8],
    },
    /// Removes every key of the collection.
    Clear {
        /// The collection's name.
        collection: &'a str,
    },
}

impl KvBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds "set `key` in `collection` to `value`".
    ///
    /// # Errors
    ///
    /// [`KvError`] if the key, the value or the collection's name is over its limit, or the value
    /// is nested too deeply: nothing was added.
    pub fn put(&mut self, collection: &str, key: &[u8], value: &Value) -> Result<(), KvError> {
        if !value.is_within_depth(VALUE_DEPTH_MAX) {
            return Err(KvError::too_deep(collection, key));
        }
        self.inner
            .put_with(collection, key, |buf| codec::encode(value, buf))
            .map_err(|e| KvError::write(collection, Some(key), e))
    }

    /// Adds "set `key` in `collection` to a list of these floats": what [`KvBatch::put`] stores for
    /// such a list, without making a [`Value`] of each. The floats can be read where they lie: see
    /// [`codec::f32s`].
    ///
    /// # Errors
    ///
    /// As [`KvBatch::put`].
    pub fn put_f32s(
        &mut self,
        collection: &str,
        key: &[u8],
        floats: &[f32],
    ) -> Result<(), KvError> {
        self.inner
            .put_with(collection, key, |buf| codec::encode_f32s(floats, buf))
            .map_err(|e| KvError::write(collection, Some(key), e))
    }

    /// Adds "set `key` in `collection` to the value that `encoded` is".
    fn put_encoded(&mut self, collection: &str, key: &[u8], encoded: &[u8]) -> Result<(), KvError> {
        let put = self.inner.put(collection, key, encoded);
        put.map_err(|e| KvError::write(collection, Some(key), e))
    }

    /// Adds "remove `key` from `collection`".
    ///
    /// # Errors
    ///
    /// As [`KvBatch::put`].
    pub fn delete(&mut self, collection: &str, key: &[u8]) -> Result<(), KvError> {
        self.inner.delete(collection, key).map_err(|e| KvError::write(collection, Some(key), e))
    }

    /// Adds "remove everything from `collection`".
    ///
    /// # Errors
    ///
    /// As [`KvBatch::put`].
    pub fn clear(&mut self, collection: &str) -> Result<(), KvError> {
        self.inner.clear(collection).map_err(|e| KvError::write(collection, None, e))
    }

    /// The operations in the order they were added.
    pub fn ops(&self) -> impl Iterator<Item = KvOp<'_>> {
        self.inner.ops().filter_map(|op| match op {
            BatchOp::Put { collection, key, value } => Some(KvOp::Put { collection, key, value }),
            BatchOp::Delete { collection, key } => Some(KvOp::Delete { collection, key }),
            BatchOp::Clear { collection } => Some(KvOp::Clear { collection }),
            // Nothing of this trait puts them into a batch.
            BatchOp::PutExpiring { .. } | BatchOp::Configure { .. } => None,
        })
    }

    /// How many operations the batch holds.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// True if the batch holds no operation.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Bytes that the batch will take in the log, framing included.
    pub fn byte_len(&self) -> usize {
        self.inner.byte_len()
    }

    /// The engine's batch, for backends that stand on the engine.
    pub fn into_write_batch(self) -> WriteBatch {
        self.inner
    }
}

/// Named collections of keys with JSON-like values.
///
/// # Contract
///
/// - A collection exists once something was written to it; reading creates nothing
///   (LlamaIndex's `MutableMappingKVStore` creates empty ones on read).
/// - The store owns its copy of a value: changing what was put or got changes nothing stored.
/// - [`KvStore::write`] is all or nothing over all its collections, also across a crash. Who reads
///   at the same time may see its operations appear one after another, in their order.
/// - Writes are visible to readers before they are durable; [`KvStore::persist`] makes all of
///   them durable, [`Durability::Sync`] the one.
/// - Iteration is in no promised order.
/// - All methods may be called from any thread; the async twins may be polled from any executor.
///
/// # Implementing it
///
/// Only the methods without a default are needed. `siltstone::testing::kv_contract` (feature
/// `testing`) is the conformance suite. The example `custom_backend` is a whole backend, over a map
/// and a file of its own, that passes the suite and carries every store.
pub trait KvStore: Send + Sync {
    /// The value of `key`, or `None`.
    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError>;

    /// True if `key` is there. Reads no value.
    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError>;

    /// Calls `visit` with every key and value of the collection, in no promised order, until it
    /// returns an error. A write that runs at the same time may or may not be seen.
    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError>;

    /// How many keys the collection holds; 0 if there is none of that name.
    fn len(&self, collection: &str) -> Result<u64, KvError>;

    /// The collections and how many keys each holds, sorted by name.
    fn collections(&self) -> Result<Vec<(String, u64)>, KvError>;

    /// Applies `batch`, all of it or nothing.
    ///
    /// # Errors
    ///
    /// Data: unchanged, unless the error says that it may be there after the next open.
    fn write(&self, batch: KvBatch, durability: Durability) -> Result<Written, KvError>;

    /// As [`KvStore::write`], without blocking the thread that polls.
    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>>;

    /// Makes everything written so far durable. Costs what was written since the last time, not
    /// what is stored. Nothing to do for a store that lives in memory.
    fn sync(&self) -> Result<(), KvError>;

    /// As [`KvStore::sync`], without blocking the thread that polls.
    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>>;

    /// As [`KvStore::sync`], and records a snapshot of what is durable now, where the store has
    /// snapshots: the same cost.
    fn persist(&self) -> Result<(), KvError> {
        self.sync()
    }

    /// As [`KvStore::persist`], without blocking the thread that polls.
    fn persist_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        self.sync_async()
    }

    /// The lock that the stores over this one share, whatever handles they stand on: the same for
    /// all clones of a store. Default: a new one each time, so that only stores made from one
    /// another ([`StorageContext`](crate::StorageContext), clones) know of each other's changes.
    fn writer_lock(&self) -> WriterLock {
        WriterLock::default()
    }

    /// The log that this store is, if it is one: an import then is all or nothing. Default: none.
    /// One that hands out a log must hold what that holds, and nothing else.
    fn log(&self) -> Option<&LogKv> {
        None
    }

    /// The stored form of the value of `key` (see [`codec`]), or `None`. For large values that are
    /// read in place, again and again: a store that can hands out the bytes without copying them,
    /// and verifies them at the first read only.
    fn get_bytes(&self, collection: &str, key: &[u8]) -> Result<Option<KvBytes>, KvError> {
        let value = self.get(collection, key)?;
        Ok(value.map(|value| {
            let mut encoded = Vec::new();
            codec::encode(&value, &mut encoded);
            KvBytes::from(encoded)
        }))
    }

    /// The values of `keys`, in their order.
    fn get_many(&self, collection: &str, keys: &[&[u8]]) -> Result<Vec<Option<Value>>, KvError> {
        keys.iter().map(|key| self.get(collection, key)).collect()
    }

    /// Sets `key` to `value` (LlamaIndex `put`).
    fn put(&self, collection: &str, key: &[u8], value: &Value) -> Result<(), KvError> {
        let mut batch = KvBatch::new();
        batch.put(collection, key, value)?;
        self.write(batch, Durability::Buffered).map(drop)
    }

    /// Every key and value of the collection (LlamaIndex `get_all`), in no promised order.
    fn get_all(&self, collection: &str) -> Result<Vec<(Vec<u8>, Value)>, KvError> {
        let mut all = Vec::new();
        self.scan(collection, &mut |key, value| {
            all.push((key.to_vec(), value));
            Ok(())
        })?;
        Ok(all)
    }

    /// Removes `key`; true if it was there (LlamaIndex `delete`).
    fn delete(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        if !self.contains(collection, key)? {
            return Ok(false);
        }
        let mut batch = KvBatch::new();
        batch.delete(collection, key)?;
        Ok(self.write(batch, Durability::Buffered)?.deleted > 0)
    }

    /// Sets all pairs, in order, in batches of `batch_size` that are atomic each (LlamaIndex
    /// `put_all`, whose base version refuses every size but 1).
    ///
    /// # Errors
    ///
    /// [`KvError::InvalidArgument`] if `batch_size` is 0: nothing was written.
    fn put_all(
        &self,
        collection: &str,
        pairs: &[(&[u8], &Value)],
        batch_size: usize,
    ) -> Result<(), KvError> {
        for batch in put_all_batches(collection, pairs, batch_size)? {
            self.write(batch, Durability::Buffered)?;
        }
        Ok(())
    }

    /// Async twin of [`KvStore::get`]. Reads come from memory or the page cache: the default
    /// answers at once.
    fn aget<'a>(
        &'a self,
        collection: &'a str,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Value>, KvError>> {
        Box::pin(async move { self.get(collection, key) })
    }

    /// Async twin of [`KvStore::get_all`].
    fn aget_all<'a>(
        &'a self,
        collection: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(Vec<u8>, Value)>, KvError>> {
        Box::pin(async move { self.get_all(collection) })
    }

    /// Async twin of [`KvStore::put`].
    fn aput<'a>(
        &'a self,
        collection: &'a str,
        key: &'a [u8],
        value: &'a Value,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(async move {
            let mut batch = KvBatch::new();
            batch.put(collection, key, value)?;
            self.write_async(batch, Durability::Buffered).await.map(drop)
        })
    }

    /// Async twin of [`KvStore::delete`].
    fn adelete<'a>(
        &'a self,
        collection: &'a str,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<bool, KvError>> {
        Box::pin(async move {
            if !self.contains(collection, key)? {
                return Ok(false);
            }
            let mut batch = KvBatch::new();
            batch.delete(collection, key)?;
            Ok(self.write_async(batch, Durability::Buffered).await?.deleted > 0)
        })
    }

    /// Async twin of [`KvStore::put_all`].
    fn aput_all<'a>(
        &'a self,
        collection: &'a str,
        pairs: &'a [(&'a [u8], &'a Value)],
        batch_size: usize,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(async move {
            for batch in put_all_batches(collection, pairs, batch_size)? {
                self.write_async(batch, Durability::Buffered).await?;
            }
            Ok(())
        })
    }
}

/// Splits the pairs of a `put_all` into its batches. All are built, and so checked, before the
/// first one is written.
fn put_all_batches(
    collection: &str,
    pairs: &[(&[u8], &Value)],
    batch_size: usize,
) -> Result<Vec<KvBatch>, KvError> {
    if batch_size == 0 {
        return Err(KvError::InvalidArgument("batch_size is 0, expected at least 1".into()));
    }
    pairs
        .chunks(batch_size)
        .map(|chunk| {
            let mut batch = KvBatch::new();
            for (key, value) in chunk {
                batch.put(collection, key, value)?;
            }
            Ok(batch)
        })
        .collect()
}
