//! Segments in memory: open files, maps of sealed ones, what is live in them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::error::Corruption;
use crate::format::hint::Hint;
use crate::format::manifest::Seal;
use crate::index::Location;
use crate::limits::SEGMENTS_MAX;
use crate::vfs::{File, IoError, Map, read_full_at, write_all_at};

/// One segment file.
pub(super) struct Segment {
    pub(super) id: u64,
    /// Its place in [`SegmentTable`], part of every [`Location`] in it.
    pub(super) slot: u32,
    pub(super) salt: u32,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// Offset behind the last whole frame: what readers may look at.
    pub(super) end: AtomicU64,
    /// Sequence number of the first record, and the one after the last.
    pub(super) first: AtomicU64,
    pub(super) next: AtomicU64,
    /// Bytes of records that the index points to.
    pub(super) live_bytes: AtomicU64,
    /// Records that the index points to.
    pub(super) live_records: AtomicU64,
    /// Set once, when the segment is sealed.
    sealed: OnceLock<Sealed>,
    /// The error of the sync that failed, if one did; held while the file is synced.
    syncing: Mutex<Option<IoError>>,
    /// What has been written to it, for the footer; empty once it is sealed.
    pub(super) hints: Mutex<Vec<Hint>>,
}

/// A sealed segment's extent and map.
struct Sealed {
    seal: Seal,
    map: Option<Map>,
    /// One bit per 8 bytes of the segment: a record that starts there was verified. Allocated
    /// when the option asks for it.
    verified: OnceLock<Box<[AtomicU64]>>,
}

impl Segment {
    pub(super) fn new(id: u64, slot: u32, salt: u32, path: PathBuf, file: Arc<dyn File>) -> Self {
        Segment {
            id,
            slot,
            salt,
            path,
            file,
            end: AtomicU64::new(crate::format::segment::SEGMENT_HEADER_LEN),
            first: AtomicU64::new(0),
            next: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
            live_records: AtomicU64::new(0),
            sealed: OnceLock::new(),
            syncing: Mutex::default(),
            hints: Mutex::new(Vec::new()),
        }
    }

    /// Offset behind the last whole frame.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The extent, if the segment is sealed.
    pub(super) fn seal(&self) -> Option<Seal> {
        self.sealed.get().map(|s| s.seal)
    }

    /// The map, if the segment is sealed and mapped.
    pub(super) fn map(&self) -> Option<&Map> {
        self.sealed.get()?.map.as_ref()
    }

    /// Marks the segment as sealed; from now on it is read through `map`, if there is one.
    pub(super) fn set_sealed(&self, seal: Seal, map: Option<Map>) {
        let _ = self.sealed.set(Sealed { seal, map, verified: OnceLock::new() });
    }

    /// True if the record at `offset` of the mapped segment was marked as verified.
    pub(super) fn is_verified(&self, offset: u64) -> bool {
        let Some((word, bit)) = self.verified_bit(offset) else { return false };
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// Marks the record at `offset` as verified.
    pub(super) fn set_verified(&self, offset: u64) {
        if let Some((word, bit)) = self.verified_bit(offset) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn verified_bit(&self, offset: u64) -> Option<(&AtomicU64, u64)> {
        let sealed = self.sealed.get()?;
        let bits = sealed.verified.get_or_init(|| {
            let words = usize::try_from(sealed.seal.data_end / 512 + 1).unwrap_or(0);
            (0..words).map(|_| AtomicU64::new(0)).collect()
        });
        let word = bits.get(usize::try_from(offset / 512).ok()?)?;
        Some((word, 1 << (offset / 8 % 64)))
    }

    /// Fills `buf` from `offset`; short only at the end of the file.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        read_full_at(&*self.file, buf, offset).map_err(|e| IoError::new("read", &self.path, e))
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), IoError> {
        write_all_at(&*self.file, bytes, offset).map_err(|e| IoError::new("write", &self.path, e))
    }

    /// Makes everything written to the file durable. A failure stays: the kernel tells it to one
    /// caller only, so syncs of one file run one at a time, and none is tried after it.
    pub(super) fn sync(&self) -> Result<(), IoError> {
        let mut failed = self.syncing.lock();
        if let Some(e) = failed.as_ref().filter(|_| !planted!(FailedSyncRetried)) {
            return Err(e.clone());
        }
        let result = self.file.sync_data().map_err(|e| IoError::new("sync", &self.path, e));
        *failed = result.as_ref().err().cloned();
        result
    }

    pub(super) fn file_len(&self) -> Result<u64, IoError> {
        self.file.len().map_err(|e| IoError::new("stat", &self.path, e))
    }

    /// Reserves room so that the file has at least `len` bytes; returns its length.
    pub(super) fn extend(&self, len: u64) -> Result<u64, IoError> {
        let now = self.file_len()?;
        if now >= len {
            return Ok(now);
        }
        self.file.allocate(len).map_err(|e| IoError::new("extend", &self.path, e))?;
        Ok(len)
    }

    pub(super) fn corruption(&self, offset: u64, what: impl Into<String>) -> Corruption {
        Corruption { file: self.path.clone(), offset, what: what.into() }
    }

    /// Counts records in or out of what is live.
    pub(super) fn add_live(&self, bytes: u64, records: u64) {
        self.live_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.live_records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn sub_live(&self, bytes: u64, records: u64) {
        self.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.live_records.fetch_sub(records, Ordering::Relaxed);
    }
}

/// The live segments by slot, the number that a [`Location`] holds.
#[derive(Default)]
pub(super) struct SegmentTable {
    slots: RwLock<Vec<Option<Arc<Segment>>>>,
}

impl SegmentTable {
    /// True if no more can be added.
    pub(super) fn is_full(&self) -> bool {
        self.slots.read().len() >= SEGMENTS_MAX
    }

    /// Adds the segment that `make` returns for its slot; `None` if there are too many.
    pub(super) fn add(&self, make: impl FnOnce(u32) -> Segment) -> Option<Arc<Segment>> {
        let mut slots = self.slots.write();
        if slots.len() >= SEGMENTS_MAX {
            return None;
        }
        let segment = Arc::new(make(u32::try_from(slots.len()).ok()?));
        slots.push(Some(Arc::clone(&segment)));
        Some(segment)
    }

    /// The segment that `location` lies in.
    pub(super) fn get(&self, location: Location) -> Option<Arc<Segment>> {
        self.slots.read().get(location.slot())?.clone()
    }

    /// Forgets a segment that left the store.
    pub(super) fn remove(&self, segment: &Segment) {
        if let Some(slot) = self.slots.write().get_mut(segment.slot as usize) {
            *slot = None;
        }
    }

    /// All segments, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.slots.read().iter().flatten().cloned().collect()
    }
}
