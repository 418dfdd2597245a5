//! Group commit of syncs: many threads that wait for durability share one.
//!
//! Whoever finds no sync under way becomes the leader: it notes how far the log reaches, syncs
//! with the log lock free, and publishes the new watermark. The others wait for that; those whose
//! records came too late for it elect the next leader among themselves, whose sync then covers
//! everything that was appended meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::core::Core;
use super::error::WriteError;

/// State of the sync stream of a store.
#[derive(Default)]
pub(super) struct Syncer {
    /// Every sequence number below it is durable.
    pub(super) durable: AtomicU64,
    /// True while a leader syncs.
    leading: Mutex<bool>,
    changed: Condvar,
    /// Groups of syncs done.
    pub(super) count: AtomicU64,
}

impl Core {
    /// Returns once every record below `seqno` is durable. Any number of threads share one sync.
    pub(super) fn sync_upto(&self, seqno: u64) -> Result<(), WriteError> {
        let mut leading = self.sync.leading.lock();
        loop {
            if self.watermark() >= seqno {
                return Ok(());
            }
            self.poison.check()?;
            if !*leading {
                break;
            }
            self.sync.changed.wait(&mut leading);
        }
        *leading = true;
        drop(leading);
        let result = self.sync_log();
        *self.sync.leading.lock() = false;
        self.sync.changed.notify_all();
        result
    }

    /// Syncs everything appended so far. Requires: the caller leads.
    fn sync_log(&self) -> Result<(), WriteError> {
        let (full, active, upto) = {
            let log = self.log.lock();
            (log.unsynced.clone(), log.active.clone(), log.next_seqno)
        };
        // In the order of the log: a later segment must never be durable without an earlier one.
        for segment in full.iter().chain(&active) {
            if planted!(SyncMissesOlderSegment) && full.iter().any(|s| Arc::ptr_eq(s, segment)) {
                continue;
            }
            let synced = match segment.sync() {
                Err(_) if planted!(FailedSyncRetried) => segment.sync(),
                Err(_) if planted!(SyncErrorIgnored) => Ok(()),
                Err(e) if planted!(FailedSyncForgotten) => return Err(WriteError::Poisoned(e)),
                synced => synced,
            };
            synced.map_err(|e| self.poison.set(e))?;
        }
        let mut log = self.log.lock();
        log.unsynced.retain(|s| !full.iter().any(|synced| Arc::ptr_eq(s, synced)));
        drop(log);
        self.sync.durable.fetch_max(upto, Ordering::AcqRel);
        self.feed.wake();
        self.sync.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
