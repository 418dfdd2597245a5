//! [`Writer`]: how a store changes its records.

use std::sync::Arc;

use super::StoreError;
use crate::engine::Durability;
use crate::kv::{KvError, KvStore, Staged, WriterLock};

/// A key-value store and the lock that those share who read, decide and write.
#[derive(Clone)]
pub(crate) struct Writer {
    kv: Arc<dyn KvStore>,
    /// Held while records are changed; never while anything waits for the device.
    lock: WriterLock,
}

impl Writer {
    pub(crate) fn new(kv: Arc<dyn KvStore>) -> Self {
        let lock = kv.writer_lock();
        Writer { kv, lock }
    }

    /// The store, to read from.
    pub(crate) fn kv(&self) -> &Arc<dyn KvStore> {
        &self.kv
    }

    /// The lock.
    pub(crate) fn lock(&self) -> &WriterLock {
        &self.lock
    }

    /// Runs `read` while no change is written, so that records which it reads one after another
    /// fit together. A change that is not done is neither seen nor waited for.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&dyn KvStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.lock.read(|| read(&*self.kv))
    }

    /// Runs `change` on a view of the store that sees what it writes, and writes all of that as
    /// one buffered batch; nothing if it fails. No other change runs at the same time; one that
    /// `change` itself begins elsewhere is refused.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&Staged) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.alone(|| self.commit(change))?
    }

    /// Runs `run` while nobody changes anything.
    ///
    /// # Errors
    ///
    /// If this thread is within a change already.
    pub(crate) fn alone<T>(&self, run: impl FnOnce() -> T) -> Result<T, KvError> {
        self.lock.change(run)
    }

    fn commit<T>(
        &self,
        change: impl FnOnce(&Staged) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let staged = Staged::new(self.kv.clone());
        let done = change(&staged)?;
        self.lock.write(|| staged.commit(Durability::Buffered))?;
        Ok(done)
    }
}
