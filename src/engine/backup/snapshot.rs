//! Backup of a durable snapshot: a backup of now that is rolled back.
//!
//! The log of the target holds what came after the snapshot too, as dead records, until compaction
//! there takes them away. A power cut or a kill leaves the target as it was, or marked as
//! unfinished ([`unfinished`]), or done.

use std::path::Path;
use std::sync::Arc;

use super::frozen::Frozen;
use super::target::Target;
use super::{BackupError, BackupOptions, BackupReport, unfinished};
use crate::engine::core::Core;
use crate::engine::db::Db;
use crate::engine::error::SnapshotError;
use crate::engine::options::{CompactionOptions, Options};
use crate::vfs::Vfs;

impl Db {
    /// Makes the store in `dir` a backup of the durable snapshot `id`: it opens with the state of
    /// that snapshot. `dir` must be new, or hold an earlier backup made by [`Db::backup_to`]; what
    /// this leaves there is a store of its own, and no target for another backup. The sequence
    /// number in the report is the snapshot's.
    ///
    /// Until it is done the target does not open ([`OpenError::Unfinished`]), also if it held an
    /// earlier backup; if the process is killed meanwhile, the next backup into it begins anew.
    ///
    /// [`OpenError::Unfinished`]: crate::engine::OpenError::Unfinished
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let temp = tempfile::tempdir()?;
    /// use siltstone::{BackupOptions, Db};
    ///
    /// let db = Db::open(temp.path().join("store"))?;
    /// db.put("nodes", b"n1", b"good")?;
    /// let snapshot = db.persist()?;
    /// db.put("nodes", b"n1", b"bad")?;
    /// let target = temp.path().join("backup");
    /// db.backup_snapshot_to(&target, snapshot.id, BackupOptions::new())?;
    /// assert_eq!(&*Db::open(&target)?.get("nodes", b"n1")?.unwrap(), b"good");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::backup_to`], and [`BackupError::Snapshot`].
    pub fn backup_snapshot_to(
        &self,
        dir: impl AsRef<Path>,
        id: u64,
        options: BackupOptions,
    ) -> Result<BackupReport, BackupError> {
        let dir = dir.as_ref();
        let (core, source) = (self.core(), self.options());
        let vfs = Arc::clone(&source.vfs);
        core.refuse_within(dir)?;
        let first = options.clone().verify(false);
        let (mut report, frozen) = core.backup_with_snapshot(&*vfs, dir, id, &first)?;
        drop(frozen);
        let target = Options::new()
            .segment_len(source.segment_len)
            .inline_maintenance(source.inline_maintenance)
            .vfs(vfs);
        report.seqno = core.finish_snapshot(dir, id, target)?;
        if options.verify {
            self.verify_backup(dir, &options)?;
        }
        Ok(report)
    }
}

impl Core {
    /// A backup of now, in which the durable snapshot `id` is; not to be opened yet. While what was
    /// frozen for it lives, the files that it was made from stay.
    pub(super) fn backup_with_snapshot(
        &self,
        vfs: &dyn Vfs,
        dir: &Path,
        id: u64,
        options: &BackupOptions,
    ) -> Result<(BackupReport, Frozen), BackupError> {
        // Whoever drops snapshots holds this lock until that is in the log.
        let none_is_dropped = self.snapshots.next.lock();
        self.snapshot_info(id)?;
        let target = Target::lock(vfs, dir, &self.store_id)?;
        let frozen = self.freeze()?;
        drop(none_is_dropped);
        let report = self.backup_frozen(target, &frozen, options, true)?;
        Ok((report, frozen))
    }

    /// Makes of the backup in `dir` what the snapshot `id` holds; returns its sequence number.
    pub(super) fn finish_snapshot(
        &self,
        dir: &Path,
        id: u64,
        options: Options,
    ) -> Result<u64, BackupError> {
        let vfs = Arc::clone(&options.vfs);
        let compaction = CompactionOptions::manual();
        let mut options = options.time(self.clock.now()).compaction(compaction).create(false);
        options.is_finishing = true;
        let target = options.open(dir)?;
        let seqno = target.snapshots().iter().find(|s| s.id == id).map_or(0, |s| s.seqno);
        let rollback = target.rollback_to(id)?;
        target.drop_snapshot(rollback.undo.id)?;
        target.close().map_err(SnapshotError::Write)?;
        unfinished::unmark(&*vfs, dir)?;
        Ok(seqno)
    }
}
