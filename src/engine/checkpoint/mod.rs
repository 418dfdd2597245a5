//! Checkpoints: the index on disk, so that an open loads it instead of building it.
//!
//! A checkpoint holds the state of all records below one sequence number: the tables of the index,
//! what is kept for snapshots, the collections, and what is live by segment. An open that finds one
//! copies the tables and replays what came after: the bytes of the log since then, not the store,
//! say how long it takes. [`write`] makes one, [`read`] finds one and says whether it counts,
//! [`restore`] loads it.
//!
//! # Never trusted over the log
//!
//! A checkpoint counts only if
//!
//! - it is of this store, of an epoch that has been, with no segment that the manifest has not
//!   heard of;
//! - every segment in it that is still listed has the same salt and, if it was sealed, the same
//!   extent; those that are not listed any more were replaced by compaction;
//! - the log reaches as far as it does;
//! - every checksum is right, and every location lies within a segment of it.
//!
//! Else it is ignored, which [`RecoveryReport`](super::RecoveryReport) says, and the index is built
//! from the log. A location that is wrong all the same leads to a record that is not the key's, and
//! every read verifies that: it is an error, never another value.
//!
//! # A state at one moment, without stopping writers
//!
//! Under the apply lock, for a moment, the counters and lists are copied and a point in time is
//! held, as a snapshot does. From then on the first change of a key puts its old location into the
//! point's books before the index changes. So the tables can be read one by one at leisure: what is
//! younger than the state is left out, and what is missing is in the books. Compaction, which moves
//! records, waits meanwhile.
//!
//! # After compaction
//!
//! Compaction may replace segments that a checkpoint leads to. A record that was moved keeps its
//! sequence number, and its new segment is not in the checkpoint. So when such a segment is
//! replayed, a record from before the checkpoint only *relocates*: the one entry of its hash that
//! leads to a segment that is gone, in the books of the oldest point after it or in the index, gets
//! the new location. The checkpoint holds the books of all points, those of snapshots in memory
//! too, so that there is such an entry for everything that was moved. Entries that then still lead
//! to a segment that is gone are of keys that were overwritten or deleted since, whose records
//! nobody needed any more: they are taken out before the records after the checkpoint are applied.
//!
//! # Crash safety
//!
//! It is written under another name, synced, and renamed over the old one after the log below its
//! sequence number is durable, so a power cut leaves the old one or the new one, whole, and neither
//! reaches further than the log. One that is ignored is removed, durably, before the log goes on.
//!
//! # When
//!
//! By the compaction thread between two runs, once [`Options::checkpoint_every`] bytes, or sixteen
//! times the length of the last one if that is more, were appended, moved, or replayed since the
//! last one: so checkpoints are at most a sixteenth of what is written, and an open replays at most
//! that many bytes and the tail of the log. At a close in order, if more than a quarter of its
//! length was written since. With inline maintenance only at a close and when asked.
//!
//! [`Options::checkpoint_every`]: super::Options::checkpoint_every

mod read;
mod restore;
#[cfg(test)]
mod tests;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::core::Core;
use super::error::WriteError;
pub(super) use read::{Base, ManifestView, Stop};
use write::Stopped;

/// The bytes written to checkpoints are at most one part in so many of all that is written.
const SHARE: u64 = 16;
/// A checkpoint is written at a close if one part in so many of its length was written since.
const CLOSE_SHARE: u64 = 4;
/// How long [`crate::Db::checkpoint`] waits for a compaction.
const COMPACTION_WAIT: Duration = Duration::from_secs(10);

/// What is known about the last checkpoint.
#[derive(Default)]
pub(super) struct Checkpoints {
    last: Mutex<Last>,
    /// Bytes that an open without another checkpoint replays, on top of what this open writes.
    replayed: AtomicU64,
}

#[derive(Default)]
struct Last {
    /// Its length; 0 if there is none.
    len: u64,
    /// [`Core::work`] when it was begun.
    work: u64,
}

impl Checkpoints {
    /// The store was opened from a checkpoint of `len` bytes, or from none, and `replayed` bytes
    /// of the log.
    pub(super) fn opened(&self, len: u64, replayed: u64) {
        self.last.lock().len = len;
        self.replayed.store(replayed, Ordering::Relaxed);
    }
}

impl Core {
    /// Bytes appended, moved, and replayed at the open.
    fn work(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
            + self.compaction.report().bytes_out
            + self.checkpoints.replayed.load(Ordering::Relaxed)
    }

    /// Writes a checkpoint if so much was written since the last one that it is time. Called by
    /// the compaction thread between two runs.
    pub(super) fn checkpoint_if_due(&self) {
        let every = self.options.checkpoint_every;
        let (work, len) = {
            let last = self.checkpoints.last.lock();
            (self.work().saturating_sub(last.work), last.len)
        };
        if every == 0 || self.options.inline_maintenance || work < every.max(len * SHARE) {
            return;
        }
        // It is tried again once more was written.
        if self.leave_room(len).is_err() {
            return;
        }
        let _ = self.checkpoint_within(Duration::ZERO, &|| self.compaction.is_stopped());
    }

    /// Writes a checkpoint before the store is closed, if it is worth it. The close does not depend
    /// on it. Requires: no compaction is begun any more, and nothing is written.
    pub(super) fn checkpoint_at_close(&self) {
        let (work, len) = {
            let last = self.checkpoints.last.lock();
            (self.work().saturating_sub(last.work), last.len)
        };
        if self.options.checkpoint_every > 0 && work > 0 && work * CLOSE_SHARE >= len {
            let _ = self.checkpoint_within(Duration::ZERO, &|| false);
        }
    }

    /// Writes a checkpoint; false if a compaction that goes on does not let it.
    pub(super) fn checkpoint(&self) -> Result<bool, WriteError> {
        self.check_writable()?;
        if self.log.lock().is_closed {
            return Err(WriteError::Closed);
        }
        self.checkpoint_within(COMPACTION_WAIT, &|| false)
    }

    fn checkpoint_within(
        &self,
        wait: Duration,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, WriteError> {
        let Some(_compaction) = self.compaction.hold_off(wait) else { return Ok(false) };
        let mut last = self.checkpoints.last.lock();
        let work = self.work();
        match self.write_checkpoint(is_over) {
            Ok(len) => {
                *last = Last { len, work };
                Ok(true)
            }
            Err(Stopped::GivenUp) => Ok(false),
            Err(Stopped::Write(e)) => Err(e),
        }
    }
}
