//! [`Db`]: the handle of an open store.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::backup::{BackupError, BackupOptions, BackupReport};
use super::batch::WriteBatch;
use super::catalog::CollectionState;
use super::check::{CheckOptions, CheckReport};
use super::commit::Commit;
use super::compaction::{CompactionReport, Compactor};
use super::core::Core;
use super::durable::{PersistOptions, SnapshotInfo};
use super::error::{OpenError, ReadError, SnapshotError, WriteError};
use super::iter::Iter;
use super::maintenance::Maintenance;
use super::options::{Durability, Options, Verify};
use super::pending::{Committer, Pending, pending};
use super::read::ValueRef;
use super::recovery::RecoveryReport;
use super::snapshot::Snapshot;
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
    /// As [`Db::persist`].
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

    /// Gives back all the space that can be had, now: every segment with something dead in it is
    /// compacted, whatever the options say. Writes and reads go on meanwhile. While compaction is
    /// paused this waits until it is resumed or cancelled, or the store is closed.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. Data: as it was; what was compacted before stays so.
    pub fn compact_now(&self) -> Result<CompactionReport, WriteError> {
        self.inner.core.compact_all()
    }

    /// Writes the index to a checkpoint now, so that the next open loads it and replays only what
    /// is written from now on. Writes and reads go on meanwhile; compaction waits. True if one was
    /// written; false if a compaction that goes on, or is paused in the middle, does not let it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let db = siltstone::Options::new().checkpoint_every(0).open(dir.path())?;
    /// db.put("nodes", b"n1", b"some text")?;
    /// assert!(db.checkpoint()?);
    /// db.close()?;
    /// let db = siltstone::Db::open(dir.path())?;
    /// assert!(db.recovery_report().checkpoint.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; the store is as it was, and the last checkpoint too.
    pub fn checkpoint(&self) -> Result<bool, WriteError> {
        self.inner.core.checkpoint()
    }

    /// Has compaction wait where it is, and begin nothing, until [`Db::resume_compaction`].
    pub fn pause_compaction(&self) {
        self.inner.core.compaction.pause(true);
    }

    /// Lets compaction go on.
    pub fn resume_compaction(&self) {
        self.inner.core.compaction.pause(false);
        self.inner.core.wake_compaction();
    }

    /// Has the present run of compaction, if there is one, give up: the store stays as it was
    /// before that run. Compaction looks for work again when the next segment is sealed.
    pub fn cancel_compaction(&self) {
        self.inner.core.compaction.cancel();
    }

    /// Has compaction write no more than this many bytes a second from now on; 0 for as fast as
    /// it can.
    pub fn throttle_compaction(&self, bytes_per_second: u64) {
        self.inner.core.compaction.set_rate(bytes_per_second);
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

    /// As [`Db::get`], for large values that are read again and again: where the segment is mapped
    /// the value is verified at its first read only, as with [`Verify::Once`], even if the options
    /// say [`Verify::Always`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_verified_once(
        &self,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<ValueRef>, ReadError> {
        let core = &self.inner.core;
        let Some(state) = core.catalog.find(collection) else { return Ok(None) };
        let Some(found) = core.lookup(&state, key)? else { return Ok(None) };
        let verify = match core.options.verify {
            Verify::Always => Verify::Once,
            other => other,
        };
        core.verify_body_as(&found, verify)?;
        core.verified_value(found)
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
        match self.inner.core.catalog.find(collection) {
            Some(state) => Iter::of(&self.inner.core, &state),
            None => Iter::empty(&self.inner.core),
        }
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

    /// Makes the store in `dir` a backup of this one, while both are used: reads and writes go on,
    /// and what is written meanwhile is not part of it. The result is a store that opens and holds
    /// the state at the sequence number in the report. If `dir` holds an earlier backup of this
    /// store, only what is new is moved; until the new one is complete, the earlier one stands.
    /// Else `dir` must be empty or not there, and outside the store's directory. A backup that was
    /// interrupted goes on where it stopped when it is made again.
    ///
    /// Works on a store that is open for reading only as well, with what it saw at its open.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let temp = tempfile::tempdir()?;
    /// # let (dir, target) = (temp.path().join("store"), temp.path().join("backup"));
    /// use siltstone::{BackupOptions, Db};
    ///
    /// let db = Db::open(&dir)?;
    /// db.put("nodes", b"n1", b"some text")?;
    /// let report = db.backup_to(&target, BackupOptions::new())?;
    /// db.put("nodes", b"n1", b"later")?;
    ///
    /// let backup = Db::open(&target)?;
    /// assert_eq!(&*backup.get("nodes", b"n1")?.unwrap(), b"some text");
    /// assert_eq!(backup.stats().next_seqno, report.seqno);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`BackupError`]: the store itself is not affected by any, but for a sync of it that
    /// fails, which is met as in [`WriteError::Poisoned`].
    pub fn backup_to(
        &self,
        dir: impl AsRef<Path>,
        options: BackupOptions,
    ) -> Result<BackupReport, BackupError> {
        self.inner.core.backup_to(dir.as_ref(), &options)
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.core.options
    }

    /// Reads everything in the store in `dir`, which stands on the same file system.
    /// What a layer above keeps once for this store, whatever handles there are: made by the first
    /// who asks. All must ask for the same type.
    #[cfg_attr(not(feature = "stores"), allow(dead_code, reason = "for the layers above"))]
    pub(crate) fn attached<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let attached = self.inner.attached.get_or_init(|| Arc::new(T::default()));
        Arc::clone(attached).downcast().unwrap_or_default()
    }

    pub(super) fn verify_backup(
        &self,
        dir: &Path,
        options: &BackupOptions,
    ) -> Result<(), BackupError> {
        self.inner.core.verify_backup(dir, options)
    }

    /// Refuses a directory that is the store's own or lies in it.
    #[cfg(feature = "object-store")]
    pub(crate) fn refuse_within(&self, dir: &Path) -> Result<(), BackupError> {
        self.inner.core.refuse_within(dir)
    }

    /// What a backup would hold now.
    #[cfg(feature = "object-store")]
    pub(crate) fn freeze(&self) -> Result<super::backup::Frozen, BackupError> {
        self.inner.core.freeze()
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
        let Some(found) = self.lookup(state, key)? else { return Ok(None) };
        self.value_of(found)
    }

    fn contains(&self, state: &CollectionState, key: &[u8]) -> Result<bool, ReadError> {
        self.has_key(state, key)
    }

    fn get_many(
        &self,
        state: &CollectionState,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<ValueRef>>, ReadError> {
        let (mut wanted, slots) = self.segments.pin_with(|| {
            let index = state.index();
            let find = |(i, key): (usize, &&[u8])| {
                index.find(self.hash_key(key)).into_iter().map(move |location| (location, i))
            };
            keys.iter().enumerate().flat_map(find).collect::<Vec<(Location, usize)>>()
        });
        wanted.sort_unstable();
        let mut values = vec![None; keys.len()];
        for (location, i) in wanted {
            let found = self.read_pinned(&slots, location)?;
            let (Some(key), Some(value)) = (keys.get(i), values.get_mut(i)) else { continue };
            if self.is_record_of(state.id, key, &found)? {
                *value = self.value_of(found)?;
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
        Iter::of(&self.db.inner.core, &self.state)
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
