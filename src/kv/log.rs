//! [`LogKv`]: the log engine as a [`KvStore`].

use std::path::Path;

use super::{BoxFuture, KvBatch, KvBytes, KvError, KvStore, Value, WriterLock, Written, codec};
use crate::engine::{Db, Durability, OpenError, Options, PersistOptions, WriteBatch};

/// A [`KvStore`] in the log engine: durable, and larger than memory. Clones share the store.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use siltstone::kv::{KvStore, LogKv, Value};
///
/// let kv = LogKv::open(dir.path())?;
/// kv.put("data", b"answer", &Value::from(42))?;
/// kv.persist()?;
/// assert_eq!(kv.get("data", b"answer")?, Some(Value::from(42)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LogKv {
    db: Db,
}

impl LogKv {
    /// Opens the store in `dir`, creating it if there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(LogKv { db: Db::open(dir)? })
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Ok(LogKv { db: Db::open_with(dir, options)? })
    }

    /// Stands on a store that is open already. Its values must all have been written through a
    /// [`KvStore`].
    pub fn new(db: Db) -> Self {
        LogKv { db }
    }

    /// The engine's handle.
    pub fn db(&self) -> &Db {
        &self.db
    }
}

/// Decodes a value that was read.
fn decode(collection: &str, key: &[u8], bytes: &[u8]) -> Result<Value, KvError> {
    codec::decode(bytes).map_err(|e| KvError::decode(collection, key, e))
}

impl KvStore for LogKv {
    fn writer_lock(&self) -> WriterLock {
        WriterLock::clone(&self.db.attached())
    }

    fn log(&self) -> Option<&LogKv> {
        Some(self)
    }

    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        let found =
            self.db.get(collection, key).map_err(|e| KvError::read(collection, Some(key), e))?;
        found.map(|bytes| decode(collection, key, &bytes)).transpose()
    }

    fn get_bytes(&self, collection: &str, key: &[u8]) -> Result<Option<KvBytes>, KvError> {
        let found = self.db.get_verified_once(collection, key);
        let found = found.map_err(|e| KvError::read(collection, Some(key), e))?;
        Ok(found.map(KvBytes::from))
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        self.db.contains(collection, key).map_err(|e| KvError::read(collection, Some(key), e))
    }

    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        for entry in self.db.iter(collection) {
            let entry = entry.map_err(|e| KvError::read(collection, None, e))?;
            visit(&entry.key, decode(collection, &entry.key, &entry.value)?)?;
        }
        Ok(())
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        Ok(self.db.len(collection))
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        Ok(self.db.collections())
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<Written, KvError> {
        let mut batch: WriteBatch = batch.into_write_batch();
        let commit = self.db.write(&mut batch, durability).map_err(KvError::batch)?;
        Ok(Written { deleted: commit.deleted })
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        let pending = self.db.write_async(batch.into_write_batch(), durability);
        Box::pin(async move {
            let commit = pending.await.map_err(KvError::batch)?;
            Ok(Written { deleted: commit.deleted })
        })
    }

    fn sync(&self) -> Result<(), KvError> {
        self.db.sync().map_err(KvError::batch)
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        let pending = self.db.sync_async();
        Box::pin(async move { pending.await.map(drop).map_err(KvError::batch) })
    }

    fn persist(&self) -> Result<(), KvError> {
        self.db.persist().map(drop).map_err(KvError::batch)
    }

    fn persist_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        let pending = self.db.persist_async(PersistOptions::default());
        Box::pin(async move { pending.await.map(drop).map_err(KvError::batch) })
    }

    fn get_many(&self, collection: &str, keys: &[&[u8]]) -> Result<Vec<Option<Value>>, KvError> {
        let found =
            self.db.get_many(collection, keys).map_err(|e| KvError::read(collection, None, e))?;
        let decoded = found
            .into_iter()
            .zip(keys)
            .map(|(bytes, key)| bytes.map(|bytes| decode(collection, key, &bytes)).transpose());
        decoded.collect()
    }
}
