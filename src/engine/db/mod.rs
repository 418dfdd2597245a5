//! [`Db`]: the handle of an open store; opening, writing, making durable, closing.

mod reads;
mod upkeep;

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::batch::WriteBatch;
use super::commit::Commit;
use super::compaction::Compactor;
use super::core::Core;
use super::durable::{PersistOptions, SnapshotInfo};
use super::error::{OpenError, SnapshotError, WriteError};
use super::maintenance::Maintenance;
use super::options::{Durability, Options};
use super::pending::{Committer, Pending, pending};
use super::snapshot::Snapshot;
use crate::format::config::CollectionOptions;

pub use reads::Collection;

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
    /// What a layer above keeps once for each store.
    attached: OnceLock<Arc<dyn Any + Send + Sync>>,
    committer: Committer,
    maintenance: Option<Maintenance>,
    compactor: Option<Compactor>,
    core: Arc<Core>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.committer.stop();
        self.maintenance = None;
        self.core.compaction.close();
        self.compactor = None;
        // Nobody is left to tell; the next open recovers what a failure here leaves behind.
        let _ = self.core.close();
    }
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
        core.compaction.set_rate(core.options.compaction.bytes_per_second);
        let (mut maintenance, mut compactor) = (None, None);
        if threads {
            let failed =
                |e| OpenError::Io(crate::vfs::IoError::new("start a thread for", dir.as_ref(), e));
            let compacting = Compactor::start(&core).map_err(failed)?;
            let started = Maintenance::start(&core).map_err(failed)?;
            // Segments that the last process left unsealed, and garbage.
            core.wake_maintenance();
            core.wake_compaction();
            (maintenance, compactor) = (Some(started), Some(compacting));
        }
        let committer = Committer::default();
        Ok(Db {
            inner: Arc::new(Inner {
                attached: OnceLock::new(),
                committer,
                maintenance,
                compactor,
                core,
            }),
        })
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.inner.core
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
        self.inner.core.write(batch, durability)
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
        inner.committer.submit(&inner.core, batch, durability)
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
    /// what is written from now on, by this and later opens, and for what compaction rewrites:
    /// [`Db::compact_now`] compresses what was there before.
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
    /// assert!(db.stats().live_bytes() < 500);
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
        // What expires is garbage now.
        self.inner.core.wake_compaction();
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
    pub fn sync(&self) -> Result<(), WriteError> {
        let core = &self.inner.core;
        core.check_writable()?;
        let upto = core.log.lock().next_seqno;
        core.sync_upto(upto)
    }

    /// Makes everything written so far durable and records a snapshot of it, which a later open can
    /// read, compare with, and roll back to. Costs what was written since the last sync and one
    /// small record, whatever the store holds. How many snapshots stay is a matter of
    /// [`Options::retention`].
    ///
    /// If nothing was written since the newest snapshot was recorded, by this process or an earlier
    /// one, and that has no name and no time, it is returned and no other is recorded. Whoever
    /// gives a name or a time ([`Db::persist_with`]) gets one of their own.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; no snapshot is recorded then.
    pub fn persist(&self) -> Result<SnapshotInfo, WriteError> {
        self.persist_with(PersistOptions::default())
    }

    /// As [`Db::persist`], with a name or a time.
    ///
    /// # Errors
    ///
    /// As [`Db::persist`], and [`WriteError::Invalid`] for an empty name.
    pub fn persist_with(&self, options: PersistOptions) -> Result<SnapshotInfo, WriteError> {
        let (info, _) = self.inner.core.record_snapshot(&mut WriteBatch::new(), options)?;
        Ok(info)
    }

    /// The durable snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.inner.core.snapshot_list()
    }

    /// The store as of now, for as long as the snapshot is held: whole batches, unchanged by later
    /// writes.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::now(&self.inner.core)
    }

    /// The store as it was when the durable snapshot `id` was recorded.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Missing`] if there is none with this number.
    pub fn open_snapshot(&self, id: u64) -> Result<Snapshot, SnapshotError> {
        let point = self.inner.core.hold_snapshot(id)?;
        Ok(Snapshot::on(&self.inner.core, point))
    }

    /// Forgets the durable snapshot `id`: what only it needed becomes free. Snapshots that are
    /// open on it stay as they are.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Missing`], or [`SnapshotError::Write`] if that could not be recorded.
    pub fn drop_snapshot(&self, id: u64) -> Result<(), SnapshotError> {
        self.inner.core.drop_snapshot(id).map(drop)
    }

    /// Makes a write durable that was buffered, and with it everything before it.
    ///
    /// # Errors
    ///
    /// As [`Db::sync`].
    pub fn sync_commit(&self, commit: &Commit) -> Result<(), WriteError> {
        let core = &self.inner.core;
        core.check_writable()?;
        core.sync_upto(commit.next_seqno)
    }

    /// As [`Db::sync`], without blocking the caller.
    pub fn sync_async(&self) -> Pending<Commit> {
        self.write_async(WriteBatch::new(), Durability::Sync)
    }

    /// As [`Db::persist_with`], without blocking the caller.
    pub fn persist_async(&self, options: PersistOptions) -> Pending<SnapshotInfo> {
        let inner = &self.inner;
        if inner.core.options.inline_maintenance || inner.core.options.read_only {
            let (completer, future) = pending();
            completer.complete(self.persist_with(options));
            return future;
        }
        inner.committer.submit_persist(&inner.core, options)
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.core.options
    }

    /// What a layer above keeps once for this store, whatever handles there are: made by the first
    /// who asks. All must ask for the same type.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "for the layers above"))]
    pub(crate) fn attached<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let attached = self.inner.attached.get_or_init(|| Arc::new(T::default()));
        Arc::clone(attached).downcast().unwrap_or_default()
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

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dir", &self.inner.core.dir).finish_non_exhaustive()
    }
}
