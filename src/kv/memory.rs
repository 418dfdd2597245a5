//! [`MemoryKv`]: a [`KvStore`] that keeps everything in a map, for tests and throwaway stores.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{
    BoxFuture, KvBatch, KvBytes, KvError, KvOp, KvStore, Value, WriterLock, Written, codec,
};
use crate::engine::Durability;

/// A [`KvStore`] in memory. It holds the same bytes as the log would, so that a test which passes
/// here has been through the codec.
///
/// Nothing is durable: both [`Durability`]s return at once.
#[derive(Debug, Default)]
pub struct MemoryKv {
    /// One lock, held for a whole batch: readers see all of it or nothing.
    collections: RwLock<BTreeMap<String, Collection>>,
    writers: WriterLock,
}

/// Keys in a map; `order` remembers when a key came, so that a scan repeats exactly.
#[derive(Debug, Default)]
struct Collection {
    entries: HashMap<Box<[u8]>, (u64, Arc<[u8]>)>,
    order: BTreeMap<u64, Box<[u8]>>,
    next: u64,
}

impl Collection {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        if let Some((_, old)) = self.entries.get_mut(key) {
            *old = value.into();
            return;
        }
        self.entries.insert(key.into(), (self.next, value.into()));
        self.order.insert(self.next, key.into());
        self.next += 1;
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some((place, _)) = self.entries.remove(key) else { return false };
        self.order.remove(&place);
        true
    }
}

impl MemoryKv {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `read` with the stored bytes of `key`.
    fn with<T>(
        &self,
        collection: &str,
        key: &[u8],
        read: impl FnOnce(&Arc<[u8]>) -> Result<T, KvError>,
    ) -> Result<Option<T>, KvError> {
        let collections = self.collections.read();
        let found = collections.get(collection).and_then(|c| c.entries.get(key));
        found.map(|(_, value)| read(value)).transpose()
    }
}

impl KvStore for MemoryKv {
    fn writer_lock(&self) -> WriterLock {
        self.writers.clone()
    }

    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        self.with(collection, key, |bytes| {
            codec::decode(bytes).map_err(|e| KvError::decode(collection, key, e))
        })
    }

    fn get_bytes(&self, collection: &str, key: &[u8]) -> Result<Option<KvBytes>, KvError> {
        self.with(collection, key, |bytes| Ok(KvBytes::from(bytes.clone())))
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        self.with(collection, key, |_| Ok(())).map(|found| found.is_some())
    }

    /// In the order in which the keys were first put; overwriting keeps a key's place. The keys
    /// are listed first and each is read when its turn comes, so `visit` may use the store.
    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        let keys: Vec<Box<[u8]>> = match self.collections.read().get(collection) {
            Some(found) => found.order.values().cloned().collect(),
            None => return Ok(()),
        };
        for key in keys {
            if let Some(value) = self.get(collection, &key)? {
                visit(&key, value)?;
            }
        }
        Ok(())
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        let collections = self.collections.read();
        Ok(collections.get(collection).map_or(0, |c| c.entries.len() as u64))
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        let collections = self.collections.read();
        Ok(collections.iter().map(|(n, c)| (n.clone(), c.entries.len() as u64)).collect())
    }

    fn write(&self, batch: KvBatch, _: Durability) -> Result<Written, KvError> {
        let mut collections = self.collections.write();
        let mut deleted = 0;
        for op in batch.ops() {
            match op {
                KvOp::Put { collection, key, value } => match collections.get_mut(collection) {
                    Some(found) => found.put(key, value),
                    None => {
                        collections.entry(collection.to_owned()).or_default().put(key, value);
                    }
                },
                KvOp::Delete { collection, key } => {
                    let found = collections.get_mut(collection).is_some_and(|c| c.delete(key));
                    deleted += u64::from(found);
                }
                KvOp::Clear { collection } => {
                    if let Some(found) = collections.get_mut(collection) {
                        *found = Collection::default();
                    }
                }
            }
        }
        Ok(Written { deleted })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: readers see all of a batch or nothing, which the contract does not ask but this store
    /// promises. Method: what is read second is at least as new as what is read first.
    #[test]
    fn a_batch_is_seen_whole_or_not_at_all() {
        let kv = MemoryKv::new();
        let number =
            |collection: &str| kv.get(collection, b"k").expect("get").and_then(|v| v.as_int());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..20_000i64 {
                    let mut batch = KvBatch::new();
                    batch.put("a", b"k", &Value::Int(n)).expect("put");
                    batch.put("b", b"k", &Value::Int(n)).expect("put");
                    kv.write(batch, Durability::Buffered).expect("write");
                }
            });
            while !writer.is_finished() {
                let (b, a) = (number("b"), number("a"));
                assert!(a >= b, "b shows {b:?}, and then a still {a:?}");
                let (a, b) = (number("a"), number("b"));
                assert!(b >= a, "a shows {a:?}, and then b still {b:?}");
            }
        });
    }
}
