//! Online backup: a copy of the store at one moment, made while writes go on.
//!
//! The target is a store: it opens, passes `check`, and holds the state at the sequence number in
//! the [`BackupReport`]. A backup into a target that holds an earlier one of the same store moves
//! only what is new.
//!
//! # Order
//!
//! 1. *Freeze* ([`frozen`]): under the log lock, for a moment, the list of segments and where the
//!    log ends are noted. The segments are held from then on, so that compaction cannot take them
//!    away. What was noted is synced in the source, so that the backup is never ahead of what the
//!    source would hold after a power cut, and the tail is verified frame by frame.
//! 2. *Examine* ([`target`]): is what the target holds an earlier state of this store? If not, the
//!    backup is refused before anything has changed.
//! 3. *Bring* ([`bring`]): sealed segments are linked or copied, the tail is copied; each file is
//!    synced under a temporary name and then renamed, and at last the directory is synced.
//! 4. *Commit*: the manifest is written under a temporary name, synced, renamed, and the directory
//!    synced. That is the step from the earlier backup to the new one.
//! 5. *Clean up*: files that the new manifest does not list are removed.
//!
//! # What a power cut or a kill leaves behind
//!
//! | moment | the target then | the next backup |
//! |---|---|---|
//! | before the commit of a first backup | no store: segments, no manifest | keeps whole segments |
//! | before the commit of a later backup | the earlier one, see below | keeps whole segments |
//! | in the commit | the earlier manifest or the new one, and all files of both | either |
//! | in the clean-up | the new backup, with files that it does not list | removes them |
//!
//! A target without a manifest must be empty but for what an interrupted backup of the same store
//! leaves. That is looked at before anything is created there, and again under its lock.
//!
//! Files that are not listed do no harm: the manifest of a backup reserves the numbers of the
//! segments that the source will make next (see `frozen`), so they are known to be
//! dead. A segment that was unsealed in the earlier backup is replaced by a file with the same
//! bytes and more behind them. The earlier manifest says that its log was closed at a sequence
//! number, so that an open takes nothing that comes later.
//!
//! # Linked files are never written
//!
//! A hard link is a second name for the same bytes. Only segments are linked that the manifest of
//! the source lists as sealed: no open, no writer and no compaction writes to such a file or cuts
//! it, they only remove its name. Unsealed segments are copied. So is a segment that is sealed by
//! now and that the earlier backup lists as unsealed: an open of that earlier backup would cut it.

mod bring;
mod error;
mod frozen;
mod heal;
mod origin;
mod places;
#[cfg(feature = "object-store")]
mod receive;
mod snapshot;
#[cfg(feature = "object-store")]
mod staged;
mod target;
pub(super) mod unfinished;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub use error::BackupError;
#[cfg(feature = "object-store")]
pub(crate) use frozen::{Frozen, FrozenSegment};
#[cfg(feature = "stores")]
pub(crate) use places::store_around;
#[cfg(feature = "object-store")]
pub(crate) use receive::Receiver;

use super::check::{CheckOptions, CheckProgress, Defect};
use super::core::Core;
use super::error::Corruption;
use super::manifest::ManifestFile;
use super::options::{Options, ReadMode};
use crate::format::checkpoint;
use target::Target;

/// How a backup is made.
#[derive(Clone, Default)]
pub struct BackupOptions {
    copy_all: bool,
    verify: bool,
    progress: Option<Arc<Progress>>,
}

type Progress = dyn Fn(&BackupProgress) + Send + Sync;

/// How far a backup has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Bytes of segments that are in the target.
    pub bytes_done: u64,
    /// Bytes of segments that the backup holds.
    pub bytes_total: u64,
    /// True while the finished backup is verified; `bytes_done` are those read then.
    pub is_verifying: bool,
}

/// What a backup did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The backup holds every record with a smaller sequence number, and no other.
    pub seqno: u64,
    /// Segments that share their file with the store.
    pub segments_linked: u64,
    /// Segments that were copied.
    pub segments_copied: u64,
    /// Segments that the target held already.
    pub segments_kept: u64,
    /// Bytes that were copied. Where the file system shares blocks they take no room yet.
    pub bytes_copied: u64,
    /// Bytes of segments that share their file with the store.
    pub bytes_linked: u64,
    /// Bytes of segments that the target held already.
    pub bytes_kept: u64,
    /// Segments that the target held already, that were found damaged there when they were
    /// verified, and that were copied again. They do not count as kept.
    pub segments_healed: u64,
    /// Their bytes.
    pub bytes_healed: u64,
    /// Files of an earlier or an interrupted backup that were removed.
    pub files_removed: u64,
    /// The target held this very backup of a durable snapshot, and nothing was done.
    pub already_there: bool,
}

impl BackupReport {
    /// Counts a segment of `len` bytes as healed that was counted as kept.
    pub(crate) fn heal(&mut self, len: u64) {
        self.segments_healed += 1;
        self.bytes_healed += len;
        self.segments_kept = self.segments_kept.saturating_sub(1);
        self.bytes_kept = self.bytes_kept.saturating_sub(len);
    }
}

impl BackupOptions {
    /// Options with their defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Links sealed segments where the file system allows, instead of copying them. A link costs
    /// nothing, and one damaged block is damaged in both. Default: true.
    pub fn hard_links(mut self, yes: bool) -> Self {
        self.copy_all = !yes;
        self
    }

    /// Opens the finished backup for reading and verifies every byte of it; of one in an object
    /// store every object is compared with the segment here, which is verified before. What is
    /// found damaged there, and is whole here, is copied again. Without this, what an earlier
    /// backup has brought is not read again: have it verified now and then. Default: false.
    pub fn verify(mut self, yes: bool) -> Self {
        self.verify = yes;
        self
    }

    /// Is called after each piece that was moved. Default: nothing.
    pub fn progress(mut self, call: impl Fn(&BackupProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(call));
        self
    }

    /// True if the finished backup is to be read again.
    #[cfg(feature = "object-store")]
    pub(crate) fn is_verified(&self) -> bool {
        self.verify
    }

    /// Tells the progress.
    pub(crate) fn tell(&self, progress: &BackupProgress) {
        if let Some(call) = &self.progress {
            call(progress);
        }
    }
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOptions")
            .field("hard_links", &!self.copy_all)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Makes the store in `dir` a backup of this one.
    pub(super) fn backup_to(
        &self,
        dir: &Path,
        options: &BackupOptions,
    ) -> Result<BackupReport, BackupError> {
        self.refuse_within(dir)?;
        let target = Target::lock(&*self.options.vfs, dir, &self.store_id)?;
        origin::refuse_snapshot(&target)?;
        let frozen = self.freeze()?;
        self.backup_frozen(target, &frozen, options, false)
    }

    /// Refuses a target that is the store's own directory or lies in it, or in another one's.
    pub(super) fn refuse_within(&self, dir: &Path) -> Result<(), BackupError> {
        let vfs = &*self.options.vfs;
        if vfs.resolved(dir).starts_with(vfs.resolved(&self.dir)) {
            return Err(BackupError::Within { dir: dir.to_owned(), store: self.dir.clone() });
        }
        places::refuse_nested(vfs, dir)
    }

    /// Makes the store in the target what was `frozen`; one that must not be opened yet, if more
    /// `is_to_come`.
    fn backup_frozen(
        &self,
        target: Target<'_>,
        frozen: &frozen::Frozen,
        options: &BackupOptions,
        is_to_come: bool,
    ) -> Result<BackupReport, BackupError> {
        let (vfs, dir) = (target.vfs, target.dir);
        unfinished::begin_anew(&target, frozen.store)?;
        let plan = target.examine(frozen, options)?;
        if is_to_come {
            unfinished::mark(vfs, dir)?;
        } else if unfinished::is_marked(vfs, dir)? {
            unfinished::unmark(vfs, dir)?;
        }
        if !target.has_manifest()? {
            unfinished::mark_first(vfs, dir)?;
        }
        let mut report = BackupReport { seqno: frozen.seqno, ..BackupReport::default() };
        // Somebody may have opened the earlier backup as a store: what that left beside the log
        // is of no use to this one.
        bring::remove_if_there(vfs, &dir.join(checkpoint::FILE_NAME))?;
        bring::bring(vfs, dir, &plan, options, &mut report)?;
        if planted!(LeftoversGoFirst) {
            target.remove_leftovers(frozen)?;
        }
        ManifestFile::create(vfs, dir, &frozen.store, frozen.state.clone())?;
        report.files_removed = target.remove_leftovers(frozen)?;
        drop(target);
        if options.verify {
            self.verify_and_heal(dir, frozen, options, &mut report)?;
        }
        Ok(report)
    }

    /// Opens the store in `dir` for reading.
    pub(super) fn open_backup(&self, dir: &Path) -> Result<Arc<Core>, BackupError> {
        let open = Options::new().vfs(Arc::clone(&self.options.vfs));
        Ok(Core::open(dir, open.read_only(true).read_mode(ReadMode::Pread))?)
    }

    /// Reads everything in the store in `dir`.
    pub(super) fn verify_backup(
        &self,
        dir: &Path,
        options: &BackupOptions,
    ) -> Result<(), BackupError> {
        let report = self.open_backup(dir)?.check(CheckOptions::new().progress(|done| {
            let CheckProgress { bytes: bytes_done, total_bytes: bytes_total, .. } = done;
            options.tell(&BackupProgress { bytes_done, bytes_total, is_verifying: true });
            ControlFlow::Continue(())
        }))?;
        match report.defects.into_iter().next() {
            Some(defect) => {
                let Defect { file, offset, what, .. } = defect;
                Err(BackupError::Damaged(Corruption { file, offset, what }))
            }
            None => Ok(()),
        }
    }
}
