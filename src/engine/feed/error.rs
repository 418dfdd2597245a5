//! [`FeedError`]: why the change feed cannot go on.

use std::error::Error;
use std::fmt;

use super::super::error::{Corruption, OpenError};
use super::position::FeedPosition;
use crate::vfs::IoError;

/// Why the change feed cannot be read, or not from there. The store is as it was; a feed that
/// returned an error stays where it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FeedError {
    /// Compaction has removed parts of the log at or after this position, or just before it, so
    /// that nothing tells whether it belongs to this history. The batches are gone, what they did
    /// is in the store: take a snapshot, copy it, and follow the feed from its sequence number.
    Passed {
        /// The sequence number asked for.
        since: u64,
        /// The lowest one from which the log is still whole.
        floor: u64,
    },
    /// The store has not come as far as this position: it is a position of another store, or the
    /// store has lost its newest batches in a power cut, or was replaced by an older copy. What the
    /// consumer holds is not a state of this store: start anew from a snapshot.
    Ahead {
        /// The sequence number asked for.
        since: u64,
        /// The next one that the store will give out.
        next: u64,
    },
    /// What stands before this position is not what the consumer has seen: the store has lost its
    /// newest batches in a power cut, or was replaced by another copy, and has taken others since.
    /// What the consumer holds is not a state of this store: start anew from a snapshot.
    Diverged {
        /// The position asked for.
        position: FeedPosition,
        /// Which open of the store wrote what stands before it now; `None` if nothing ends there.
        found: Option<u32>,
    },
    /// The storage failed. Retry: may succeed.
    Io(IoError),
    /// The log is damaged where it is to be read. `check` lists all damage.
    Corrupt(Corruption),
    /// The store cannot be read at all any more by a reader that follows it.
    Unreadable(OpenError),
    /// A record needs what this build cannot do: it is compressed, say, and the feature
    /// `compression` is off.
    Unsupported(String),
    /// The store was closed, and everything there was has been delivered.
    Closed,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedError::Passed { since, floor } if since >= floor => write!(
                f,
                "the log before {floor} is gone, and nothing tells whether position {since} \
                 belongs to its history; copy a snapshot and follow from its sequence number"
            ),
            FeedError::Passed { since, floor } => write!(
                f,
                "the changes since {since} are gone, compaction has kept those since {floor}; \
                 copy a snapshot and follow from its sequence number"
            ),
            FeedError::Ahead { since, next } => write!(
                f,
                "there is nothing at {since}, the store has come to {next}: it lost its newest \
                 batches or is another copy; start anew from a snapshot"
            ),
            FeedError::Diverged { position, found } => {
                write!(f, "the history before position {position} is not the one that was seen: ")?;
                match found {
                    Some(epoch) => write!(f, "a batch of open {epoch} ends there")?,
                    None => write!(f, "no batch ends there")?,
                }
                write!(f, "; start anew from a snapshot")
            }
            FeedError::Io(e) => write!(f, "cannot read the change feed: {e}"),
            FeedError::Corrupt(e) => write!(f, "{e}"),
            FeedError::Unreadable(e) => write!(f, "cannot follow the store: {e}"),
            FeedError::Unsupported(what) => write!(f, "cannot read the change feed: {what}"),
            FeedError::Closed => write!(f, "the store is closed"),
        }
    }
}

impl Error for FeedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FeedError::Io(e) => Some(e),
            FeedError::Corrupt(e) => Some(e),
            FeedError::Unreadable(e) => Some(e),
            _ => None,
        }
    }
}

impl From<IoError> for FeedError {
    fn from(e: IoError) -> Self {
        FeedError::Io(e)
    }
}

impl From<Corruption> for FeedError {
    fn from(e: Corruption) -> Self {
        FeedError::Corrupt(e)
    }
}

impl From<OpenError> for FeedError {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::Io(e) => FeedError::Io(e),
            OpenError::Corrupt(e) => FeedError::Corrupt(e),
            other => FeedError::Unreadable(other),
        }
    }
}
