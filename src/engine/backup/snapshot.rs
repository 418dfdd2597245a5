//! Backup of a durable snapshot: a backup of now that is rolled back.
//!
//! The log of the target holds what came after the snapshot too, as dead records, until compaction
//! there takes them away. A power cut or a kill leaves the target as it was, or marked as
//! unfinished ([`unfinished`]), or done.

use std::path::Path;
use std::sync::Arc;

use super::frozen::Frozen;
use super::origin::{self, Origin};
use super::target::Target;
use super::{BackupError, BackupOptions, BackupReport, unfinished};
use crate::engine::core::Core;
use crate::engine::db::Db;
use crate::engine::error::SnapshotError;
use crate::engine::options::{CompactionOptions, Options};
use crate::vfs::Vfs;

impl Db {
    /// Makes the store in `dir` a backup of the durable snapshot `id`: it opens with the state of
    /// that snapshot. Each snapshot's backup has a directory of its own: one that is new, or that
    /// holds this very backup already ([`BackupReport::already_there`]: then nothing is copied, as
    /// long as nobody has opened it for writing since). Any other finished backup there is left as
    /// it is ([`BackupError::Taken`]). The sequence number in the report is the snapshot's.
    ///
    /// Until it is done the target does not open ([`OpenError::Unfinished`]); if the process is
    /// killed meanwhile, the next backup into it begins anew.
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
        let Begun { mut report, frozen, origin } =
            core.backup_with_snapshot(&*vfs, dir, id, &first)?;
        if !report.already_there {
            let target = Options::new()
                .segment_len(source.segment_len)
                .inline_maintenance(source.inline_maintenance)
                .vfs(vfs);
            core.finish_snapshot(dir, &origin, target)?;
            report.seqno = origin.seqno;
        } else if !options.verify {
            // That it is whole: all its files are there.
            core.open_backup(dir)?;
        }
        if options.verify {
            core.verify_and_heal(dir, &frozen, &options, &mut report)?;
        }
        Ok(report)
    }
}

/// A backup that holds a snapshot, and is not rolled back to it yet.
pub(super) struct Begun {
    pub(super) report: BackupReport,
    /// While it lives, the files that the backup was made from stay.
    pub(super) frozen: Frozen,
    pub(super) origin: Origin,
}

impl Core {
    /// A backup of now, in which the durable snapshot `id` is; not to be opened yet. Nothing is
    /// done if the target holds the finished one already.
    pub(super) fn backup_with_snapshot(
        &self,
        vfs: &dyn Vfs,
        dir: &Path,
        id: u64,
        options: &BackupOptions,
    ) -> Result<Begun, BackupError> {
        // Whoever drops snapshots holds this lock until that is in the log.
        let none_is_dropped = self.snapshots.next.lock();
        let info = self.snapshot_info(id)?;
        let target = Target::lock(vfs, dir, &self.store_id)?;
        let frozen = self.freeze()?;
        drop(none_is_dropped);
        let origin = Origin::new(&info, &frozen);
        let report = match origin::find(&target, &frozen, &origin) {
            Ok(Some(report)) => report,
            Ok(None) => self.backup_frozen(target, &frozen, options, true)?,
            Err(BackupError::Taken { dir, what }) => {
                // What is damaged there looks like another one.
                self.verify_backup(&dir, &BackupOptions::new())?;
                return Err(BackupError::Taken { dir, what });
            }
            Err(e) => return Err(e),
        };
        Ok(Begun { report, frozen, origin })
    }

    /// Makes of the backup in `dir` what the snapshot holds.
    pub(super) fn finish_snapshot(
        &self,
        dir: &Path,
        origin: &Origin,
        options: Options,
    ) -> Result<(), BackupError> {
        let vfs = Arc::clone(&options.vfs);
        let compaction = CompactionOptions::manual();
        let mut options = options.time(self.clock.now()).compaction(compaction).create(false);
        options.is_finishing = true;
        let target = options.open(dir)?;
        let rollback = target.rollback_to(origin.id)?;
        target.drop_snapshot(rollback.undo.id)?;
        target.close().map_err(SnapshotError::Write)?;
        origin.write(&*vfs, dir)?;
        unfinished::unmark(&*vfs, dir)?;
        Ok(())
    }
}
