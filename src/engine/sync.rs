//! Group commit of syncs: many threads that wait for durability share one.
//!
//! Whoever finds no sync under way becomes the leader: it notes how far the log reaches, syncs
//! with the log lock free, and publishes the new watermark. The others wait for that; those whose
//! records came too late for it elect the next leader among themselves, whose sync then covers
//! everything that was appended meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::core::Core;
use super::error::WriteError;

/// For how long others hold back their bytes for a sync. They move some hundred KiB between two
/// such waits, so that syncs which never end slow them down, to tens of MB/s, and never stop them.
const GIVE_WAY_MAX: Duration = Duration::from_millis(5);

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

impl Syncer {
    /// For those whose bytes nobody waits for, and who would make the device slow for a sync that
    /// somebody waits for: returns when no sync is under way, or after a few milliseconds. True if
    /// there was one.
    pub(super) fn give_way(&self) -> bool {
        let mut leading = self.leading.lock();
        let is_under_way = *leading;
        if is_under_way {
            // Woken at its end, which may be the beginning of the next one.
            let _ = self.changed.wait_for(&mut leading, GIVE_WAY_MAX);
        }
        is_under_way
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: who gives way waits for a sync that is under way, and never for ever. Method: a sync
    /// that never ends, one that ends when somebody waits for it, and none.
    #[test]
    fn giving_way_waits_for_a_sync_but_not_for_ever() {
        let sync = Syncer::default();
        assert!(!sync.give_way(), "nobody syncs");
        *sync.leading.lock() = true;
        assert!(sync.give_way(), "it never ends, and the wait does");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| while sync.give_way() {});
            *sync.leading.lock() = false;
            sync.changed.notify_all();
            assert!(waits.join().is_ok());
        });
        assert!(!sync.give_way());
    }
}
