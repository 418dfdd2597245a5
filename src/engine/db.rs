//! [`Db`]: the handle of an open store.

use std::path::Path;
use std::sync::Arc;

use super::batch::WriteBatch;
use super::catalog::CollectionState;
use super::check::{CheckOptions, CheckReport};
use super::commit::Commit;
use super::core::Core;
use super::error::{OpenError, ReadError, WriteError};
use super::iter::Iter;
use super::maintenance::Maintenance;
use super::options::{Durability, Options};
use super::pending::{Committer, Pending, pending};
use super::read::ValueRef;
use super::recovery::RecoveryReport;
use super::stats::Stats;
use crate::format::config::CollectionOptions;
use crate::index::Location;

/// An open store. Clones share it; the last one that is dropped closes it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use siltstone::{Db, Durability, WriteBatch};
///
/// let db = Db::open(dir.path())?;
/// let mut batch = WriteBatch::new();
/// batch.put("nodes", b"n1", b"some text")?;
/// batch.put("hashes", b"n1", b"\x17")?;
/// db.write(&mut batch, Durability::Sync)?;
/// assert_eq!(&*db.get("nodes", b"n1")?.unwrap(), b"some text");
/// db.close()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

/// Dropped in this order: threads first, then the store is closed.
struct Inner {
    committer: Committer,
    maintenance: Option<Maintenance>,
    core: Arc<Core>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.committer.stop();
        self.maintenance = None;
        // Nobody is left to tell; the next open recovers what a failure here leaves behind.
        let _ = self.core.close();
    }
}

/// A collection of an open store, looked up once.
#[derive(Clone)]
pub struct Collection {
    db: Db,
    state: Arc<CollectionState>,
}

impl Db {
    /// Opens the store in `dir` with default options, creating it if there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Db, OpenError> {
        Self::open_with(dir, Options::new())
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Db, OpenError> {
        let threads = !options.inline_maintenance && !options.read_only;
        let core = Core::open(dir.as_ref(), options)?;
        let maintenance = if threads {
            let started = Maintenance::start(&core).map_err(|e| {
                OpenError::Io(crate::vfs::IoError::new("start a thread for", dir.as_ref(), e))
            })?;
            // Segments that the last process left unsealed.
            started.wake();
            Some(started)
        } else {
            None
        };
        Ok(Db { inner: Arc::new(Inner { committer: Committer::default(), maintenance, core }) })
    }

    /// Applies `batch`, all of it or nothing, and makes it visible to reads. The batch is left as
    /// it was: it can be written again after an error, or reused after [`WriteBatch::reset`].
    ///
    /// With [`Durability::Sync`] it survives a power cut once this returns `Ok`; threads that
    /// wait at the same time share one sync. With [`Durability::Buffered`] it survives the death
    /// of the process, and a power cut once a later sync or [`Db::persist`] returned. What a power
    /// cut takes is always an end of the history: an earlier batch is never missing while a later
    /// one is there.
    ///
    /// Readers may see the batch key by key while it is applied, and before it is durable.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]: each variant says what became of the data.
    pub fn write(
        &self,
        batch: &mut WriteBatch,
        durability: Durability,
    ) -> Result<Commit, WriteError> {
        let written = self.inner.core.write(batch, durability)?;
        if written.wants_maintenance
            && let Some(maintenance) = &self.inner.maintenance
        {
            maintenance.wake();
        }
        Ok(written.commit)
    }

    /// As [`Db::write`], on another thread: the caller never waits for the disk. Writes are
    /// committed in the order of the calls; those that want a sync and are queued together share
    /// it. The future needs no runtime.
    pub fn write_async(&self, mut batch: WriteBatch, durability: Durability) -> Pending<Commit> {
        let inner = &self.inner;
        if inner.core.options.inline_maintenance || inner.core.options.read_only {
            let (completer, future) = pending();
            completer.complete(self.write(&mut batch, durability));
            return future;
        }
        let waker = inner.maintenance.as_ref().map(Maintenance::waker);
        let wake = move || {
            if let Some(waker) = &waker {
                waker.wake();
            }
        };
        inner.committer.submit(&inner.core, wake, batch, durability)
    }

    /// Sets `key` to `value`, buffered.
    ///
    /// # Errors
    ///
    /// As [`Db::write`].
    pub fn put(&self, collection: &str, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let mut batch = WriteBatch::new();
        batch.put(collection, key, value)?;
        self.write(&mut batch, Durability::Buffered).map(drop)
    }

    /// Removes `key`, buffered; true if it was there.
    ///
    /// # Errors
    ///
    /// As [`Db::write`].
    pub fn delete(&self, collection: &str, key: &[u8]) -> Result<bool, WriteError> {
        let mut batch = WriteBatch::new();
        batch.delete(collection, key)?;
        Ok(self.write(&mut batch, Durability::Buffered)?.deleted > 0)
    }

    /// Sets the options of a collection, buffered; creates it if it is not there. They hold for
    /// what is written from now on, by this and later opens, and for what compaction rewrites.
    ///
    /// Leave collections of embeddings as they are: vectors do not shrink, and their reads would
    /// lose their direct way to the mapped segment. Values that do not shrink are stored as they
    /// are in any case.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use siltstone::{CollectionOptions, Compression, Db};
    /// let db = Db::open(dir.path())?;
    /// db.configure("chunks", CollectionOptions::new().compression(Compression::Lz4))?;
    /// db.put("chunks", b"1", &[b'x'; 1000])?;
    /// assert_eq!(&*db.get("chunks", b"1")?.ok_or("not there")?, &[b'x'; 1000]);
    /// assert!(db.stats().live_bytes() < 100);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::write`].
    pub fn configure(
        &self,
        collection: &str,
        options: CollectionOptions,
    ) -> Result<(), WriteError> {
        let mut batch = WriteBatch::new();
        batch.configure(collection, options)?;
        self.write(&mut batch, Durability::Buffered).map(drop)
    }

    /// The options of a collection; the defaults if none were set.
    pub fn collection_options(&self, collection: &str) -> CollectionOptions {
        self.inner.core.catalog.find(collection).map_or_else(Default::default, |c| c.options())
    }

    /// Tells the store what time it is, in the unit of [`WriteBatch::put_expiring`]: records that
    /// expire at `now` or before are absent from all reads from now on, those of snapshots too.
    /// The highest time counts: a lower one changes nothing.
    pub fn set_time(&self, now: u64) {
        self.inner.core.clock.raise(now);
    }

    /// The highest time that the store was told of; 0 if none.
    pub fn time(&self) -> u64 {
        self.inner.core.clock.now()
    }

    /// Makes everything written so far durable. Costs what was written since the last sync.
    ///
    /// # Errors
    ///
    /// [`WriteError::Poisoned`] if the sync failed: see there.
    pub fn persist(&self) -> Result<(), WriteError> {
        let core = &self.inner.core;
        core.check_writable()?;
        let upto = core.log.lock().next_seqno;
        core.sync_upto(upto)
    }

    /// Makes a write durable that was buffered, and with it everything before it.
    ///
    /// # Errors
    ///
    /// As [`Db::persist`].
    pub fn sync_commit(&self, commit: &Commit) -> Result<(), WriteError> {
        let core = &self.inner.core;
        core.check_writable()?;
        core.sync_upto(commit.next_seqno)
    }

    /// As [`Db::persist`], without blocking the caller.
    pub fn persist_async(&self) -> Pending<Commit> {
        self.write_async(WriteBatch::new(), Durability::Sync)
    }

    /// The collection called `name`, or `None` if nothing was ever written to it. A handle saves
    /// the look-up of the name.
    pub fn collection(&self, name: &str) -> Option<Collection> {
        let state = self.inner.core.catalog.find(name)?;
        Some(Collection { db: self.clone(), state })
    }

    /// The collections that keys were put into and how many each holds, by name.
    pub fn collections(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self
            .inner
            .core
            .catalog
            .all()
            .into_iter()
            .filter(|c| c.is_listed.load(std::sync::atomic::Ordering::Acquire))
            .map(|c| (c.name.clone(), c.index().len()))
            .collect();
        all.sort_unstable();
        all
    }

    /// The value of `key`, verified and without a copy where its segment is mapped.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get(&self, collection: &str, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        match self.inner.core.catalog.find(collection) {
            Some(state) => self.inner.core.get(&state, key),
            None => Ok(None),
        }
    }

    /// The values of `keys` in their order; read in the order of the log.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_many(
        &self,
        collection: &str,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<ValueRef>>, ReadError> {
        match self.inner.core.catalog.find(collection) {
            Some(state) => self.inner.core.get_many(&state, keys),
            None => Ok(vec![None; keys.len()]),
        }
    }

    /// True if `key` is there. The record's header and key are read, its value is not.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, ReadError> {
        match self.inner.core.catalog.find(collection) {
            Some(state) => self.inner.core.contains(&state, key),
            None => Ok(false),
        }
    }

    /// Number of keys in `collection`; costs nothing. Those that have expired count until
    /// compaction has dropped them.
    pub fn len(&self, collection: &str) -> u64 {
        self.inner.core.catalog.find(collection).map_or(0, |state| state.index().len())
    }

    /// True if `collection` holds no key.
    pub fn is_empty(&self, collection: &str) -> bool {
        self.len(collection) == 0
    }

    /// The keys and values of `collection` as of now, in the order in which they were last
    /// written.
    pub fn iter(&self, collection: &str) -> Iter {
        let state = self.inner.core.catalog.find(collection);
        let (id, entries) = state.map(|s| (s.id, s.index().entries())).unwrap_or_default();
        Iter::new(Arc::clone(&self.inner.core), id, entries)
    }

    /// What the open found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.inner.core.report
    }

    /// Counts: keys, bytes live and dead by segment, memory of the index, the watermark.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// Verifies every byte of every segment, and the index against them, while the store is used.
    ///
    /// # Errors
    ///
    /// [`ReadError::Io`] if a file cannot be read. Damage is no error here: it is in the report.
    pub fn check(&self) -> Result<CheckReport, ReadError> {
        self.check_with(CheckOptions::new())
    }

    /// As [`Db::check`], at a rate and with a progress function. A store that was opened for
    /// reading only can be checked beside its writer: it is checked as it was at its open.
    ///
    /// # Errors
    ///
    /// As [`Db::check`].
    pub fn check_with(&self, options: CheckOptions<'_>) -> Result<CheckReport, ReadError> {
        self.inner.core.check(options)
    }

    /// Makes everything durable, cuts the preallocated end off the log and notes in the manifest
    /// that nothing follows. Other clones of this handle are refused writes from now on, reads go
    /// on. Dropping the last clone does the same and swallows the error.
    ///
    /// # Errors
    ///
    /// As [`Db::persist`]. Whatever fails, the next open recovers everything acknowledged.
    pub fn close(self) -> Result<(), WriteError> {
        self.inner.committer.stop();
        self.inner.core.close()
    }
}

impl Core {
    fn get(&self, state: &CollectionState, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        let found = self.lookup(state.id, &state.index(), key)?;
        let Some((location, found)) = found else { return Ok(None) };
        self.value_of(location, found)
    }

    fn contains(&self, state: &CollectionState, key: &[u8]) -> Result<bool, ReadError> {
        self.has_key(state.id, &state.index(), key)
    }

    fn get_many(
        &self,
        state: &CollectionState,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<ValueRef>>, ReadError> {
        let index = state.index();
        let mut wanted: Vec<(Location, usize)> = Vec::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            wanted.extend(index.find(self.hash_key(key)).into_iter().map(|location| (location, i)));
        }
        wanted.sort_unstable();
        let mut values = vec![None; keys.len()];
        for (location, i) in wanted {
            let found = self.read_record(location)?;
            let (Some(key), Some(value)) = (keys.get(i), values.get_mut(i)) else { continue };
            if self.is_record_of(state.id, key, location, &found)? {
                *value = self.value_of(location, found)?;
            }
        }
        Ok(values)
    }
}

impl Collection {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// As [`Db::get`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        self.db.inner.core.get(&self.state, key)
    }

    /// As [`Db::get_many`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<ValueRef>>, ReadError> {
        self.db.inner.core.get_many(&self.state, keys)
    }

    /// As [`Db::contains`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        self.db.inner.core.contains(&self.state, key)
    }

    /// As [`Db::len`].
    pub fn len(&self) -> u64 {
        self.state.index().len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Db::iter`].
    pub fn iter(&self) -> Iter {
        let entries = self.state.index().entries();
        Iter::new(Arc::clone(&self.db.inner.core), self.state.id, entries)
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dir", &self.inner.core.dir).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("name", &self.state.name).finish_non_exhaustive()
    }
}
