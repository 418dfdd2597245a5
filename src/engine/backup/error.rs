//! Why a backup failed.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::engine::error::{Corruption, OpenError, ReadError, SnapshotError};
use crate::format::manifest::FILE_NAME;
use crate::vfs::IoError;

/// Why a backup failed. The store is as it was, and goes on. The target holds what it held before,
/// or the new backup; another backup into it goes on where this one stopped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// The storage failed. Retry: when its cause is gone.
    Io(IoError),
    /// What was to be backed up, or what was written, is damaged.
    Damaged(Corruption),
    /// The target holds another store, or segments of one. Nothing was changed there.
    Foreign {
        /// The target.
        dir: PathBuf,
    },
    /// The target holds no backup, and is not empty. Nothing was changed there.
    NotEmpty {
        /// The target.
        dir: PathBuf,
        /// Something that is there.
        name: String,
    },
    /// The target is the store's own directory, or lies within it. Nothing was changed there.
    Within {
        /// The target.
        dir: PathBuf,
        /// The store's directory.
        store: PathBuf,
    },
    /// The target lies in the directory of another store or backup, which is none of its parts.
    /// Nothing was changed there.
    Nested {
        /// The target.
        dir: PathBuf,
        /// The directory that it lies in.
        store: PathBuf,
    },
    /// The target holds this store, but not as it was earlier: it has been written to since, or
    /// the store itself has gone back. Nothing was changed there: back up into another directory.
    Diverged {
        /// The target.
        dir: PathBuf,
        /// What shows it.
        what: String,
    },
    /// The target holds the backup of a snapshot, or, if one of a snapshot was asked for, another
    /// finished backup. Nothing was changed there: each snapshot's backup has a target of its own.
    Taken {
        /// The target.
        dir: PathBuf,
        /// What it holds.
        what: String,
    },
    /// The target, or the result, does not open as a store.
    Target(OpenError),
    /// The durable snapshot that was to be backed up is not there, or the target could not be made
    /// what it was: it holds a later state then, and another target must be chosen.
    Snapshot(SnapshotError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Io(e) => {
                write!(f, "backup failed, the target holds what it held or is incomplete: {e}")
            }
            BackupError::Damaged(e) => write!(f, "backup failed: {e}"),
            BackupError::Foreign { dir } => write!(
                f,
                "{} holds another store; nothing was changed, choose another target",
                dir.display()
            ),
            BackupError::NotEmpty { dir, name } => write!(
                f,
                "{} holds no backup and is not empty ({name:?} is there); nothing was changed, \
                 choose another target",
                dir.display()
            ),
            BackupError::Within { dir, store } => write!(
                f,
                "{} lies within the directory of the store itself, {}; nothing was changed, \
                 choose another target",
                dir.display(),
                store.display()
            ),
            BackupError::Nested { dir, store } => write!(
                f,
                "{} lies within {}, which is a store or a backup; nothing was changed, choose \
                 another target",
                dir.display(),
                store.display()
            ),
            BackupError::Diverged { dir, what } => write!(
                f,
                "{} holds no earlier state of this store ({what}); nothing was changed, choose \
                 another target",
                dir.display()
            ),
            BackupError::Taken { dir, what } => write!(
                f,
                "{} holds {what}; nothing was changed, choose another target: the backup of a \
                 snapshot has one of its own",
                dir.display()
            ),
            BackupError::Target(OpenError::Corrupt(e)) if is_manifest(e) => write!(
                f,
                "the target of the backup: {e}; nothing was changed: a backup that is verified \
                 writes that list anew if it can tell that this is an earlier backup of the store; \
                 if that fails, too, and you know that it is, remove the file"
            ),
            BackupError::Target(e) => write!(f, "the target of the backup: {e}"),
            BackupError::Snapshot(e) => write!(f, "backup of a snapshot: {e}"),
        }
    }
}

/// True if the damage is in the list of segments, which is made anew by each backup.
fn is_manifest(place: &Corruption) -> bool {
    place.file.file_name().is_some_and(|name| name == FILE_NAME)
}

impl Error for BackupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BackupError::Io(e) => Some(e),
            BackupError::Damaged(e) => Some(e),
            BackupError::Target(e) => Some(e),
            BackupError::Snapshot(e) => Some(e),
            BackupError::Foreign { .. }
            | BackupError::NotEmpty { .. }
            | BackupError::Within { .. }
            | BackupError::Nested { .. }
            | BackupError::Diverged { .. }
            | BackupError::Taken { .. } => None,
        }
    }
}

impl From<IoError> for BackupError {
    fn from(e: IoError) -> Self {
        BackupError::Io(e)
    }
}

impl From<OpenError> for BackupError {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::Io(e) => BackupError::Io(e),
            e => BackupError::Target(e),
        }
    }
}

impl From<SnapshotError> for BackupError {
    fn from(e: SnapshotError) -> Self {
        BackupError::Snapshot(e)
    }
}

impl From<ReadError> for BackupError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Io(e) => BackupError::Io(e),
            ReadError::Corrupt(e) => BackupError::Damaged(e),
            e @ ReadError::Unsupported(_) => BackupError::Target(e.into()),
        }
    }
}
