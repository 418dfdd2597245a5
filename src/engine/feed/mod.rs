//! The change feed: committed batches in their order, from any position that the log still holds.
//!
//! The log is the feed. [`Changes`] keeps a place between two batches in it and reads frame by
//! frame, through the maps of sealed segments and positional reads of the others; nothing is
//! written, nothing is kept for a consumer, and what it has seen is its own affair. A batch larger
//! than a segment is several frames in several segments: it is delivered when its last frame is
//! there. One that was given up (its writer was told so, or died) has no last frame: it is skipped
//! when the next batch begins.
//!
//! How far a feed may read: in the process that writes the store, below the watermark and below
//! what has been applied to the index, so that what it delivers can be read. From another process,
//! below the highest watermark found in the manifest and in frames further on, or, if asked for
//! everything, as far as there are whole batches. Writers pay one fence and one load per commit
//! ([`signal`]).
//!
//! What a power cut, or a kill, makes of it: a position of durable batches stays good. One of
//! batches that were not durable may name what is no longer there: the mark in the
//! [`FeedPosition`] tells.

mod batch;
mod changes;
mod cursor;
mod deliver;
mod error;
mod files;
mod locate;
mod position;
mod scout;
mod signal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub(super) use cursor::end_mark;

use super::db::Db;
use cursor::Window;
use files::LogFiles;

pub use batch::ChangeBatch;
pub use changes::Changes;
pub use error::FeedError;
pub use position::{FeedPosition, ParsePositionError};
pub(super) use signal::FeedSignal;

/// The first pause of a follower that finds nothing; each one is twice as long as the last.
const POLL_MIN: Duration = Duration::from_millis(1);

/// How a change feed is read.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let db = siltstone::Db::open(dir.path())?;
/// db.put("c", b"k", b"v")?; // buffered: not durable yet
/// let options = siltstone::FeedOptions::new().only_durable(false);
/// assert!(db.changes_since(0)?.try_next()?.is_none());
/// assert!(db.changes_with(0, options)?.try_next()?.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FeedOptions {
    only_durable: bool,
    poll_max: Duration,
}

impl Default for FeedOptions {
    fn default() -> Self {
        FeedOptions { only_durable: true, poll_max: Duration::from_millis(50) }
    }
}

impl FeedOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Delivers a batch only when a power cut cannot take it away any more. From another process
    /// that is known from what the writer writes next: the batch synced last is delivered after
    /// the one that follows it, or after the store was closed. Default: true.
    ///
    /// If false, a batch is delivered once it is whole. A consumer may then have seen what the
    /// store loses in a power cut; the next read from its position says so
    /// ([`FeedError::Diverged`], [`FeedError::Ahead`]).
    pub fn only_durable(mut self, yes: bool) -> Self {
        self.only_durable = yes;
        self
    }

    /// Longest pause between two looks at the directory, for a reader beside the writer. In the
    /// writer's process nobody polls. Default: 50 ms. Minimum: 1 ms.
    pub fn poll_max(mut self, pause: Duration) -> Self {
        self.poll_max = pause.max(POLL_MIN);
        self
    }
}

impl Db {
    /// The batches committed at or after `position`, a [`FeedPosition`] or a sequence number; 0 for
    /// the beginning. Only what is durable is delivered: see [`Db::changes_with`] for more.
    ///
    /// In a store that was opened read-only, the feed follows the directory while another process
    /// writes it. Memory: one batch, and 64 KiB.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use siltstone::{Db, Durability, WriteBatch};
    ///
    /// let db = Db::open(dir.path())?;
    /// let mut batch = WriteBatch::new();
    /// batch.put("nodes", b"n1", b"some text")?;
    /// batch.delete("nodes", b"n0")?;
    /// db.write(&mut batch, Durability::Sync)?;
    ///
    /// let mut changes = db.changes_since(0)?;
    /// let seen = changes.try_next()?.ok_or("nothing was written")?;
    /// assert_eq!(seen.ops().collect::<Vec<_>>(), batch.ops().collect::<Vec<_>>());
    /// assert!(changes.try_next()?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`FeedError::Passed`] if compaction has removed that part of the log, [`FeedError::Ahead`]
    /// and [`FeedError::Diverged`] if the position belongs to another history.
    pub fn changes_since(&self, position: impl Into<FeedPosition>) -> Result<Changes, FeedError> {
        self.changes_with(position, FeedOptions::new())
    }

    /// As [`Db::changes_since`], with options.
    ///
    /// # Errors
    ///
    /// As [`Db::changes_since`].
    pub fn changes_with(
        &self,
        position: impl Into<FeedPosition>,
        options: FeedOptions,
    ) -> Result<Changes, FeedError> {
        Changes::start(Arc::clone(self.core()), position.into(), options)
    }

    /// The lowest sequence number that [`Db::changes_since`] takes: compaction has kept the log
    /// whole from there on.
    ///
    /// # Errors
    ///
    /// [`FeedError::Io`] and the like.
    pub fn oldest_change(&self) -> Result<u64, FeedError> {
        LogFiles::new(Arc::clone(self.core()))?.floor(&mut Window::default())
    }
}
