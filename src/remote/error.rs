//! Why a backup in an object store failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::engine::BackupError;

/// Why a backup to an object store, or a restore from one, failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RemoteError {
    /// The store here, or the directory to restore into.
    Local(BackupError),
    /// A request to the object store failed. Retry: goes on where it stopped.
    Request {
        /// What was tried, as a verb.
        op: &'static str,
        /// The object.
        object: String,
        /// What the store said.
        source: Arc<object_store::Error>,
    },
    /// An object is not what was written. Nothing of it was used: back up again, or restore from
    /// another backup.
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is no backup.
    Missing {
        /// The object that would name its segments.
        object: String,
    },
    /// The place holds the backup of another store, or a later or another state of this one.
    /// Nothing was changed: choose another place.
    Diverged {
        /// What shows it.
        what: String,
    },
    /// The place holds no backup, and something else; or a backup, where that of a snapshot was to
    /// go. Nothing was changed: choose another place.
    NotEmpty {
        /// An object that is there, or the beginning of the names of some.
        object: String,
    },
    /// The address is of no place that can be used.
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// No thread for the requests could be started.
    Runtime {
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl RemoteError {
    /// For a request that may fail.
    pub(super) fn of<'a>(
        op: &'static str,
        object: &'a object_store::path::Path,
    ) -> impl FnOnce(object_store::Error) -> RemoteError + 'a {
        move |e| RemoteError::Request { op, object: object.to_string(), source: Arc::new(e) }
    }

    /// The names of objects lead to files: from the root of the file system.
    pub(super) fn with_root(mut self) -> Self {
        match &mut self {
            RemoteError::Request { object, .. }
            | RemoteError::Damaged { object, .. }
            | RemoteError::Missing { object }
            | RemoteError::NotEmpty { object } => object.insert(0, '/'),
            _ => {}
        }
        self
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::Local(e) => write!(f, "{e}"),
            RemoteError::Request { op, object, source } => {
                // Some stores answer with a page of text.
                let source = source.to_string();
                let line = source.lines().next().unwrap_or_default();
                write!(f, "cannot {op} {object}, try again: {line}")
            }
            RemoteError::Damaged { object, what } => {
                let help = "a backup that is verified writes it again";
                write!(f, "{object} is damaged, nothing of it was used: {what}; {help}")
            }
            RemoteError::Missing { object } => write!(f, "there is no backup: no object {object}"),
            RemoteError::Diverged { what } => write!(
                f,
                "the place holds no earlier state of this store ({what}); nothing was changed, \
                 choose another one"
            ),
            RemoteError::NotEmpty { object } => write!(
                f,
                "the place is not empty ({object} is there), and this backup needs one of its own; \
                 nothing was changed, choose another one"
            ),
            RemoteError::Url { url, what } => write!(f, "cannot use {url}: {what}"),
            RemoteError::Runtime { source } => write!(f, "cannot start a thread: {source}"),
        }
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RemoteError::Local(e) => Some(e),
            RemoteError::Request { source, .. } => Some(source),
            RemoteError::Runtime { source } => Some(source),
            _ => None,
        }
    }
}

impl From<BackupError> for RemoteError {
    fn from(e: BackupError) -> Self {
        RemoteError::Local(e)
    }
}
