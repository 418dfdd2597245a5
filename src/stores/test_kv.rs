//! What the stores are tested with: a key-value store that counts and fails, and chance.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::{Durability, WriteError};
use crate::kv::{BoxFuture, KvBatch, KvError, KvStore, MemoryKv, Value, Written};

/// Counts what reaches the key-value store, and can be told to fail writes.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) kv: MemoryKv,
    reads: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    pub(crate) full: AtomicBool,
}

impl Counting {
    fn count(&self, batch: &KvBatch) -> Result<(), KvError> {
        if self.full.load(Ordering::Relaxed) {
            let too_large = WriteError::TooLarge { what: "test", len: 1, max: 0 };
            return Err(KvError::batch(too_large));
        }
        self.writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(batch.byte_len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads, writes and bytes written since the last call.
    pub(crate) fn take(&self) -> [u64; 3] {
        [&self.reads, &self.writes, &self.bytes].map(|counter| counter.swap(0, Ordering::Relaxed))
    }
}

impl KvStore for Counting {
    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.kv.get(collection, key)
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.kv.contains(collection, key)
    }

    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        self.kv.scan(collection, &mut |key, value| {
            self.reads.fetch_add(1, Ordering::Relaxed);
            visit(key, value)
        })
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        self.kv.len(collection)
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        self.kv.collections()
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<Written, KvError> {
        self.count(&batch)?;
        self.kv.write(batch, durability)
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        Box::pin(async move { self.write(batch, durability) })
    }

    fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// `SEED` from the environment, or `1..=most`.
pub(crate) fn seeds(most: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=most).collect(),
    }
}
