//! [`Db`]: compaction, checkpoints, checks, backups, and what is told about the store.

use std::path::Path;

use super::super::backup::{BackupError, BackupOptions, BackupReport};
use super::super::check::{CheckOptions, CheckReport};
use super::super::compaction::CompactionReport;
use super::super::error::{ReadError, WriteError};
use super::super::recovery::RecoveryReport;
use super::super::stats::Stats;
use super::Db;

impl Db {
    /// What the open found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.inner.core.report
    }

    /// Counts: keys, bytes live and dead by segment, memory of the index, the watermark.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// Gives back the space that can be had, now: every segment with something dead in it is
    /// compacted, and every one of whose values enough would be stored smaller as their collections
    /// are configured now ([`Db::configure`]), whatever the options say. A full segment that is
    /// still as it was written goes when a hundredth of it comes back: with it goes its part of the
    /// change feed ([`Db::changes_since`]). Writes and reads go on meanwhile. While compaction is
    /// paused this waits until it is resumed or cancelled, or the store is closed.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. Data: as it was; what was compacted before stays so.
    pub fn compact_now(&self) -> Result<CompactionReport, WriteError> {
        self.inner.core.compact_all()
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

    /// Refuses a directory that is the store's own or lies in it, or in another one's.
    #[cfg(feature = "object-store")]
    pub(crate) fn refuse_within(&self, dir: &Path) -> Result<(), BackupError> {
        self.inner.core.refuse_within(dir)
    }

    /// What a backup would hold now.
    #[cfg(feature = "object-store")]
    pub(crate) fn freeze(&self) -> Result<crate::engine::backup::Frozen, BackupError> {
        self.inner.core.freeze()
    }
}
