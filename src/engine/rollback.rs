//! Rollback: one batch that makes the store what it was.
//!
//! What differs between the snapshot and now is found as in [`super::diff`]; the batch puts the old
//! values of keys that were changed or deleted, with their expiry, and deletes keys that were
//! added. In front of these, in the same batch, stands the record of a durable snapshot of the
//! state before: the rollback can be undone by another one until that snapshot is dropped. History
//! is not rewritten: the batch is an ordinary one, for the feed as for everybody.
//!
//! From looking to writing nobody else writes: writers wait at the gate ([`Core`]), readers and
//! syncs go on. What a power cut leaves is what it leaves of any batch: all of it, the snapshot of
//! the state before included, or none.

use std::sync::Arc;

use super::batch::WriteBatch;
use super::commit::Commit;
use super::core::Core;
use super::db::Db;
use super::diff::Progress;
use super::durable::{PersistOptions, SnapshotInfo};
use super::error::{SnapshotError, WriteError};
use super::options::Durability;
use super::snapshot::Snapshot;

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rollback {
    /// Keys that have their old value again.
    pub restored: u64,
    /// Keys that were not there at the snapshot, and are not any more.
    pub deleted: u64,
    /// The state before the rollback, as a durable snapshot with a name: rolling back to it undoes
    /// this rollback, for as long as it is not dropped.
    pub undo: SnapshotInfo,
}

impl Db {
    /// Makes the store what it was at the durable snapshot `id`, in one atomic write batch: keys
    /// that were changed or deleted since get their old value and expiry, keys that were added are
    /// deleted. Durable when it returns. Costs what was written since, and memory for the values
    /// that come back; other writers wait meanwhile, readers do not.
    ///
    /// The same batch records a durable snapshot of the state before, with a name, so that the
    /// rollback can itself be rolled back. Options of collections stay as they are, and so do all
    /// snapshots. Consumers of the feed see a batch like any other.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let db = siltstone::Db::open(dir.path())?;
    /// db.put("chunks", b"1", b"good")?;
    /// let before = db.persist()?;
    /// db.put("chunks", b"1", b"bad")?;
    /// let rollback = db.rollback_to(before.id)?;
    /// assert_eq!(&*db.get("chunks", b"1")?.unwrap(), b"good");
    /// db.rollback_to(rollback.undo.id)?;
    /// assert_eq!(&*db.get("chunks", b"1")?.unwrap(), b"bad");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Missing`]; [`SnapshotError::Read`] if an old value could not be read,
    /// nothing was changed then; [`SnapshotError::Write`] as [`Db::write`] says.
    pub fn rollback_to(&self, id: u64) -> Result<Rollback, SnapshotError> {
        self.rollback_with(id, None, &mut |_, _| {})
    }

    /// As [`Db::rollback_to`], with the time of the snapshot that undoes it, and a function that is
    /// told how far it is.
    pub(crate) fn rollback_with(
        &self,
        id: u64,
        time: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<Rollback, SnapshotError> {
        let is_full = |e: &SnapshotError| matches!(e, SnapshotError::Write(WriteError::Full(_)));
        let core = self.core();
        let (rollback, _) = core.with_relief(is_full, || core.rollback_to(id, time, progress))?;
        Ok(rollback)
    }
}

impl Core {
    /// Makes the store what it was at the durable snapshot `id`; the snapshot of the state before
    /// is made `at` this time.
    pub(super) fn rollback_to(
        self: &Arc<Self>,
        id: u64,
        at: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<(Rollback, Commit), SnapshotError> {
        self.check_writable()?;
        let mut next = self.snapshots.next.lock();
        let target = Snapshot::on(self, self.hold_snapshot(id)?);
        let mut batch = WriteBatch::new();
        let name = Some(format!("before rollback to {id}"));
        let undo = self.push_snapshot(&mut batch, &next, PersistOptions { name, time: at })?;
        // What is left out because it has expired stays out after the next open.
        let time = self.push_time(&mut batch)?;
        let (mut restored, mut deleted) = (0, 0);
        let written = {
            let _alone = self.gate.write();
            let now = Snapshot::now(self);
            self.differences::<SnapshotError>(&now, &target, progress, &mut |difference| {
                let (name, key) = (&difference.collection.name, &difference.key);
                match difference.to.map(|found| self.version(found)).transpose()?.flatten() {
                    Some((value, expires)) => {
                        restored += 1;
                        put(&mut batch, name, key, &value, expires)?;
                    }
                    None => {
                        deleted += 1;
                        batch.delete(name, key)?;
                    }
                }
                if planted!(RollbackInPieces) {
                    self.append_batch(&mut batch)?;
                    batch.reset();
                }
                Ok(())
            })?;
            self.append_batch(&mut batch)?
        };
        self.time_is_kept(time);
        next.id = undo + 1;
        self.finish(&written, Durability::Sync)?;
        let undo = self.snapshot_info(undo)?;
        Ok((Rollback { restored, deleted, undo }, written))
    }
}

/// Adds a put with the expiry that the record had.
fn put(
    batch: &mut WriteBatch,
    name: &str,
    key: &[u8],
    value: &[u8],
    expires: Option<u64>,
) -> Result<(), WriteError> {
    match expires {
        None => batch.put(name, key, value),
        Some(at) => batch.put_expiring(name, key, value, at),
    }
}
