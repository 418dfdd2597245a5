//! What can go wrong, by what was called. Each variant says what became of the data.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::vfs::IoError;

/// Bytes that are not what was written, with their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is corrupt at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

impl Error for Corruption {}

/// Why a store could not be opened. The store is as it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The storage failed. Retry: when its cause is gone.
    Io(IoError),
    /// Bytes that were acknowledged as durable are damaged or missing: nothing was changed.
    /// Restore a backup, or copy the directory and salvage.
    Corrupt(Corruption),
    /// Another process has the store open for writing.
    Locked {
        /// The store.
        dir: PathBuf,
        /// The process id that the holder wrote, as text; empty if it could not be read.
        holder: String,
    },
    /// There is no store in the directory, and the options say not to create one.
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no store in the directory, but files of another kind that look like what was meant.
    /// Nothing was made there.
    NoStore {
        /// The directory.
        dir: PathBuf,
        /// What is there instead, and what to do.
        what: String,
    },
    /// The store was written in a format that this version does not read.
    Version {
        /// The file that says so.
        file: PathBuf,
        /// The format's version found, major and minor.
        found: (u16, u16),
    },
    /// The directory holds a backup, or a store that was being restored, that did not come to its
    /// end. Back up into it, or restore, again, or remove it.
    Unfinished {
        /// The directory.
        dir: PathBuf,
    },
    /// The store holds a part of an import that was cut off, or that still runs. An opening for
    /// writing undoes it, which this one, for reading, may not do, or which failed.
    HalfImported {
        /// The durable snapshot from before the import, if it is known. Dropping it keeps the part.
        snapshot: Option<u64>,
        /// Why the import could not be undone; `None` if the store was opened for reading only.
        failure: Option<String>,
    },
    /// An option is out of its range.
    InvalidOption(String),
    /// This build of the library lacks a feature that the store needs, which is named.
    Unsupported(String),
}

/// Why a read failed. Nothing was changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The storage failed. Retry: may succeed.
    Io(IoError),
    /// The record is damaged on disk; others can still be read. `check` lists all damage.
    Corrupt(Corruption),
    /// This build of the library lacks a feature that the record needs, which is named.
    Unsupported(String),
}

/// Why a write failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// Over a limit. Data: nothing was written. Retry: with less.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        len: u64,
        /// How large it may be.
        max: u64,
    },
    /// The device is full. Data: nothing of this batch was written, everything older is intact.
    /// Retry: when there is space again; no reopen is needed.
    Full(IoError),
    /// The storage failed before the batch was complete. Data: the batch is not there, and will
    /// not be after a reopen: what was written of it was taken back, durably. Retry: may succeed.
    Io(IoError),
    /// A sync failed, now or earlier: what was not yet durable may be lost, whatever the system
    /// says later. Data: everything acknowledged as durable is intact; the batch may or may not
    /// be there after a reopen. Engine: refuses writes until reopened, reads go on.
    Poisoned(IoError),
    /// The store was opened for reading only. Data: unchanged.
    ReadOnly,
    /// The store was closed. Data: nothing was written.
    Closed,
    /// This build of the library lacks a feature that was asked for, which is named. Data: nothing
    /// was written.
    Unsupported(String),
    /// What was asked for makes no sense, for the reason that is given. Data: nothing was written.
    Invalid(&'static str),
}

/// Why something could not be done with a durable snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is no snapshot with this number: it was dropped, or never made.
    Missing {
        /// The number asked for.
        id: u64,
        /// The numbers of those that there are.
        known: Vec<u64>,
    },
    /// Reading failed. Data: unchanged.
    Read(ReadError),
    /// Writing failed. Data: as [`WriteError`] says; a rollback is one batch.
    Write(WriteError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Missing { id, known } if known.is_empty() => {
                write!(f, "there is no snapshot {id}, nor any other")
            }
            SnapshotError::Missing { id, known } => {
                let known: Vec<String> = known.iter().map(u64::to_string).collect();
                write!(f, "there is no snapshot {id}, there are {}", known.join(", "))
            }
            SnapshotError::Read(e) => write!(f, "{e}"),
            SnapshotError::Write(e) => write!(f, "{e}"),
        }
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SnapshotError::Missing { .. } => None,
            SnapshotError::Read(e) => Some(e),
            SnapshotError::Write(e) => Some(e),
        }
    }
}

impl From<ReadError> for SnapshotError {
    fn from(e: ReadError) -> Self {
        SnapshotError::Read(e)
    }
}

impl From<WriteError> for SnapshotError {
    fn from(e: WriteError) -> Self {
        SnapshotError::Write(e)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(e) => write!(f, "cannot open the store: {e}"),
            OpenError::Corrupt(e) => {
                let help = "`siltstone repair --dry-run` says what can be saved, a backup has all";
                write!(f, "{e}; nothing was changed: {help}")
            }
            OpenError::Locked { dir, holder } if holder.is_empty() => {
                write!(f, "store {} is open for writing elsewhere", dir.display())
            }
            OpenError::Locked { dir, holder } => {
                write!(f, "store {} is open for writing in process {holder}", dir.display())
            }
            OpenError::Missing { dir } => write!(f, "there is no store in {}", dir.display()),
            OpenError::NoStore { dir, what } => {
                write!(f, "there is no store in {}, and none was made: {what}", dir.display())
            }
            OpenError::Unfinished { dir } => write!(
                f,
                "{} holds a backup or a restore that did not come to its end; make it again into \
                 the same place, or remove it",
                dir.display()
            ),
            OpenError::Version { file, found } => write!(
                f,
                "{} has format version {}.{}, this program reads {}.x",
                file.display(),
                found.0,
                found.1,
                crate::format::FORMAT_MAJOR
            ),
            OpenError::HalfImported { failure: None, .. } => write!(
                f,
                "the store holds a part of an import that was cut off or still runs, which is not \
                 shown; if none runs, import again, or open the store for writing (`siltstone \
                 compact` does), which undoes that import"
            ),
            OpenError::HalfImported { snapshot, failure: Some(failure) } => {
                write!(f, "an import that was cut off cannot be undone: {failure}; ")?;
                match snapshot {
                    Some(id) => write!(f, "dropping the durable snapshot {id} keeps the part"),
                    None => write!(f, "the store was not changed"),
                }
            }
            OpenError::InvalidOption(what) => write!(f, "invalid option: {what}"),
            OpenError::Unsupported(what) => write!(f, "cannot open the store: {what}"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(e) => write!(f, "cannot read: {e}"),
            ReadError::Corrupt(e) => write!(f, "{e}"),
            ReadError::Unsupported(what) => write!(f, "cannot read: {what}"),
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::TooLarge { what, len, max } => {
                write!(f, "{what} of {len} is over the limit of {max}; nothing was written")
            }
            WriteError::Full(e) => {
                write!(f, "no space left, nothing was written; free space and retry: {e}")
            }
            WriteError::Io(e) => write!(f, "write failed, the batch is not there: {e}"),
            WriteError::Poisoned(e) => {
                write!(f, "a sync failed, the store refuses writes until reopened: {e}")
            }
            WriteError::ReadOnly => write!(f, "the store is open for reading only"),
            WriteError::Closed => write!(f, "the store is closed"),
            WriteError::Unsupported(what) => write!(f, "nothing was written: {what}"),
            WriteError::Invalid(what) => write!(f, "nothing was written: {what}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OpenError::Io(e) => Some(e),
            OpenError::Corrupt(e) => Some(e),
            _ => None,
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ReadError::Io(e) => Some(e),
            ReadError::Corrupt(e) => Some(e),
            ReadError::Unsupported(_) => None,
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WriteError::Full(e) | WriteError::Io(e) | WriteError::Poisoned(e) => Some(e),
            _ => None,
        }
    }
}

impl WriteError {
    /// The error of an append that wrote nothing that counts.
    pub(super) fn from_append(e: IoError) -> Self {
        if e.is_full() { WriteError::Full(e) } else { WriteError::Io(e) }
    }
}

impl From<IoError> for OpenError {
    fn from(e: IoError) -> Self {
        OpenError::Io(e)
    }
}

impl From<Corruption> for OpenError {
    fn from(e: Corruption) -> Self {
        OpenError::Corrupt(e)
    }
}

impl From<IoError> for ReadError {
    fn from(e: IoError) -> Self {
        ReadError::Io(e)
    }
}

impl From<Corruption> for ReadError {
    fn from(e: Corruption) -> Self {
        ReadError::Corrupt(e)
    }
}

impl From<ReadError> for OpenError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Io(e) => OpenError::Io(e),
            ReadError::Corrupt(e) => OpenError::Corrupt(e),
            ReadError::Unsupported(what) => OpenError::Unsupported(what),
        }
    }
}
