//! [`Core`]: the parts of an open store, shared by its handles and its threads.
//!
//! # Lock order
//!
//! `closed` -> `maintaining` -> `log` -> `apply` -> collection locks, `log` -> `prepared` ->
//! `manifest`, `log` -> `sealing`, and `swinging` -> `apply`. The number of the next snapshot comes
//! before `gate`, and that before `log`: whoever appends holds `gate` shared for as long as that
//! takes, and nobody syncs or maintains with it. A sync's leader takes `log` with its own lock let
//! go; a segment's own lock, held while its file is synced, comes last. While the log lock is held
//! nothing is synced, except where a writer must extend its segment, take back a frame, or finds no
//! prepared segment and must make one itself.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex, RwLock};

use super::catalog::Catalog;
use super::checkpoint::Checkpoints;
use super::clock::Clock;
use super::compaction::Control;
use super::compression::ValueCache;
use super::durable::DurableSnapshots;
use super::error::WriteError;
use super::feed::FeedSignal;
use super::maintenance::Wake;
use super::manifest::ManifestFile;
use super::options::Options;
use super::points::Points;
use super::poison::Poison;
use super::recovery::RecoveryReport;
use super::segments::{Segment, SegmentTable};
use super::sync::Syncer;
use crate::format::segment::StoreId;
use crate::vfs::LockGuard;

/// An open store.
pub(super) struct Core {
    pub(super) options: Options,
    pub(super) dir: PathBuf,
    pub(super) store_id: StoreId,
    pub(super) hash_seed: u64,
    /// Number of this open: stamped into every frame.
    pub(super) epoch: u32,
    pub(super) catalog: Catalog,
    /// Held while compaction leads the index and the books to new places, and shared by whoever
    /// reads all of both. Taken before `apply`.
    pub(super) swinging: RwLock<()>,
    pub(super) clock: Clock,
    /// Values that were decompressed lately.
    pub(super) values: ValueCache,
    pub(super) segments: SegmentTable,
    /// Leads to the maintenance thread, if there is one.
    pub(super) maintenance: OnceLock<Wake>,
    /// Held shared while a batch is appended and applied, and alone by whoever must know that
    /// nobody writes meanwhile: a rollback, from looking to writing. Readers and syncs go on.
    pub(super) gate: RwLock<()>,
    pub(super) log: Mutex<Log>,
    /// Held while a batch goes into the index; taken before the log lock is let go, so that
    /// batches are applied in the order of the log.
    pub(super) apply: Mutex<()>,
    /// Every record below this sequence number is in the index. Set with the apply lock held.
    pub(super) applied: AtomicU64,
    /// The next segment, ready to be written to.
    pub(super) prepared: Mutex<Option<Arc<Segment>>>,
    /// Segments that are full and wait for their footer, oldest first.
    pub(super) sealing: Mutex<VecDeque<Arc<Segment>>>,
    /// Told, with that lock, when some of them are sealed.
    pub(super) sealed: Condvar,
    /// The last attempt to seal has failed: no use waiting for it.
    pub(super) cannot_seal: AtomicBool,
    pub(super) manifest: Mutex<ManifestFile>,
    /// Held while the store is closed; how that went, once it was done.
    pub(super) closed: Mutex<Option<Result<(), WriteError>>>,
    /// Held by whoever seals and prepares segments.
    pub(super) maintaining: Mutex<()>,
    /// Points in time that stay readable.
    pub(super) points: Points,
    pub(super) snapshots: DurableSnapshots,
    pub(super) compaction: Control,
    pub(super) checkpoints: Checkpoints,
    pub(super) sync: Syncer,
    pub(super) feed: FeedSignal,
    pub(super) poison: Poison,
    pub(super) report: RecoveryReport,
    pub(super) appended_bytes: AtomicU64,
    /// `None` for a read-only store. Declared last: released after everything else is closed.
    pub(super) lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// The end of the log. Behind one lock: whoever holds it appends.
pub(super) struct Log {
    /// The segment that is appended to; `None` until the first write of a new store.
    pub(super) active: Option<Arc<Segment>>,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// Bytes that the active segment may take without being extended.
    pub(super) capacity: u64,
    /// The next record's sequence number.
    pub(super) next_seqno: u64,
    /// Segments before the active one with bytes that no sync has covered yet, oldest first.
    pub(super) unsynced: Vec<Arc<Segment>>,
    pub(super) is_closed: bool,
    /// Length that the active segment may come to have.
    pub(super) usual_len: u64,
    /// The maintenance thread was told that the active segment needs a successor.
    pub(super) is_announced: bool,
}

impl Log {
    /// True once the active segment is half full: its successor should be made.
    pub(super) fn wants_next(&self) -> bool {
        self.active.is_some() && self.offset > self.usual_len / 2
    }

    /// True once per segment, when its successor should be made: by then its predecessor, if it
    /// has one, also waits to be sealed.
    pub(super) fn announce(&mut self) -> bool {
        let is_due = !self.is_announced && self.wants_next();
        self.is_announced |= is_due;
        is_due
    }
}

impl Core {
    /// Fails if the store takes no writes. Requires: log lock held, or the answer may be stale.
    pub(super) fn check_writable(&self) -> Result<(), WriteError> {
        if self.options.read_only {
            return Err(WriteError::ReadOnly);
        }
        self.poison.check()
    }

    /// Every record below this sequence number is in the index. Requires: apply lock held.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Every sequence number below this one is durable.
    pub(super) fn watermark(&self) -> u64 {
        self.sync.durable.load(Ordering::Acquire)
    }
}
