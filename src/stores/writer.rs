//! [`Writer`]: how a store changes its records.

use std::sync::Arc;

use parking_lot::Mutex;

use super::StoreError;
use crate::engine::Durability;
use crate::kv::{KvStore, Staged};

/// A key-value store and the lock that those share who read, decide and write.
#[derive(Clone)]
pub(crate) struct Writer {
    kv: Arc<dyn KvStore>,
    /// Held while records are read and changed; never while anything waits for the device.
    lock: Arc<Mutex<()>>,
}

impl Writer {
    pub(crate) fn new(kv: Arc<dyn KvStore>) -> Self {
        Writer { kv, lock: Arc::default() }
    }

    /// The store, to read from.
    pub(crate) fn kv(&self) -> &Arc<dyn KvStore> {
        &self.kv
    }

    /// Runs `read` while nothing is changed, so that records which it reads one after another fit
    /// together.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&dyn KvStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.lock.lock();
        read(&*self.kv)
    }

    /// Runs `change` on a view of the store that sees what it writes, and writes all of that as
    /// one buffered batch; nothing if it fails. No other change runs at the same time, so `change`
    /// must not call another method that changes.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&Staged) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.alone(|| self.commit(change))
    }

    /// Runs `run` while nobody changes anything through this.
    pub(crate) fn alone<T>(&self, run: impl FnOnce() -> T) -> T {
        let _lock = self.lock.lock();
        run()
    }

    fn commit<T>(
        &self,
        change: impl FnOnce(&Staged) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let staged = Staged::new(self.kv.clone());
        let done = change(&staged)?;
        staged.commit(Durability::Buffered)?;
        Ok(done)
    }
}
