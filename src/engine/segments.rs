//! Segments in memory: open files, maps of sealed ones, what is live in them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::compaction::Expiry;
use super::error::Corruption;
use super::recovery::read_hints;
use super::rescan::rescan;
use crate::format::hint::{self, HINT_LEN, Hint};
use crate::format::manifest::Seal;
use crate::format::record::Kind;
use crate::format::segment::{SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind};
use crate::index::Location;
use crate::limits::SEGMENTS_MAX;
use crate::vfs::{File, IoError, Map, Vfs, read_full_at, write_all_at};

/// One segment file.
pub(super) struct Segment {
    pub(super) id: u64,
    /// Its place in [`SegmentTable`], part of every [`Location`] in it.
    pub(super) slot: u32,
    pub(super) salt: u32,
    /// Seed of key hashes.
    pub(super) hash_seed: u64,
    pub(super) kind: SegmentKind,
    pub(super) generation: u32,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// Offset behind the last whole frame: what readers may look at.
    pub(super) end: AtomicU64,
    /// Sequence number of the first record, and the one after the last.
    pub(super) first: AtomicU64,
    pub(super) next: AtomicU64,
    /// Bytes of records that the index points to, and of those that are needed without it.
    pub(super) live_bytes: AtomicU64,
    /// Records that the index points to.
    pub(super) live_records: AtomicU64,
    /// Bytes and number of records that only snapshots need.
    pub(super) pinned_bytes: AtomicU64,
    pub(super) pinned_records: AtomicU64,
    /// Counts of what was written to it.
    pub(super) written: Written,
    /// Compaction looked for older records of its tombstones' keys and found some.
    pub(super) tombstones_are_needed: AtomicBool,
    /// Compaction found damage in it and leaves it alone.
    pub(super) is_damaged: AtomicBool,
    /// How much of it has expired.
    pub(super) expiry: Mutex<Expiry>,
    /// Set once, when the segment is sealed.
    sealed: OnceLock<Sealed>,
    /// The error of the sync that failed, if one did; held while the file is synced.
    syncing: Mutex<Option<IoError>>,
    /// What has been written to it, for the footer; empty once it is sealed.
    pub(super) hints: Mutex<Vec<Hint>>,
    /// Set once, when the segment has left the store: its file goes with the last reader.
    retired: OnceLock<Arc<dyn Vfs>>,
}

/// Counts of the records of a segment, dead or alive.
#[derive(Default)]
pub(super) struct Written {
    /// All of them, and their bytes.
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Puts.
    pub(super) puts: AtomicU64,
    /// Bytes of deletions and clearings.
    pub(super) tombstone_bytes: AtomicU64,
}

impl Written {
    /// Counts one record.
    pub(super) fn count(&self, hint: &Hint) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(hint.len, Ordering::Relaxed);
        match hint.kind {
            Kind::Put => self.puts.fetch_add(1, Ordering::Relaxed),
            Kind::Delete | Kind::Clear => {
                self.tombstone_bytes.fetch_add(hint.len, Ordering::Relaxed)
            }
            _ => 0,
        };
    }
}

/// A sealed segment's extent, map and hints.
struct Sealed {
    seal: Seal,
    /// The whole file, or nothing where it is not mapped.
    map: Option<Map>,
    /// The hints' checksum is right: found out when they are first needed, if the open did not
    /// look.
    is_right: OnceLock<bool>,
    /// The hints, where they are not read through the map.
    hints: OnceLock<SealedHints>,
    /// One bit per 8 bytes of the segment: a record that starts there was verified. Allocated
    /// when the option asks for it.
    verified: OnceLock<Box<[AtomicU64]>>,
}

/// Hints of a sealed segment.
enum SealedHints {
    Encoded(Map),
    Decoded(Vec<Hint>),
}

/// Hints of a sealed segment, to look at.
enum HintsOf<'a> {
    Encoded(&'a [u8]),
    Decoded(&'a [Hint]),
}

impl Drop for Segment {
    /// Removes the file of a segment that left the store, now that nobody reads it any more. If
    /// that fails, the next open removes it: it is not listed.
    fn drop(&mut self) {
        if let Some(vfs) = self.retired.get() {
            let _ = vfs.remove(&self.path);
        }
    }
}

impl Segment {
    pub(super) fn new(
        header: &SegmentHeader,
        slot: u32,
        salt: u32,
        path: PathBuf,
        file: Arc<dyn File>,
    ) -> Self {
        Segment {
            id: header.id,
            slot,
            salt,
            hash_seed: hint::hash_seed(&header.store),
            kind: header.kind,
            generation: header.generation,
            path,
            file,
            end: AtomicU64::new(SEGMENT_HEADER_LEN),
            first: AtomicU64::new(0),
            next: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
            live_records: AtomicU64::new(0),
            pinned_bytes: AtomicU64::new(0),
            pinned_records: AtomicU64::new(0),
            written: Written::default(),
            tombstones_are_needed: AtomicBool::new(false),
            is_damaged: AtomicBool::new(false),
            expiry: Mutex::default(),
            sealed: OnceLock::new(),
            syncing: Mutex::default(),
            hints: Mutex::new(Vec::new()),
            retired: OnceLock::new(),
        }
    }

    /// The segment has left the store: its file is removed once nobody reads it any more.
    pub(super) fn retire(&self, vfs: &Arc<dyn Vfs>) {
        let _ = self.retired.set(Arc::clone(vfs));
    }

    /// The sequence number of the record at `offset`; `None` if no record starts there.
    pub(super) fn seqno_at(&self, offset: u64) -> Result<Option<u64>, IoError> {
        if self.sealed.get().is_none() {
            let hints = self.hints.lock();
            // They are given up after the segment is sealed.
            if self.sealed.get().is_none() {
                return Ok(find_hint(&hints, offset));
            }
        }
        let Some(sealed) = self.sealed.get() else { return Ok(None) };
        Ok(match self.kept_hints(sealed)? {
            HintsOf::Encoded(bytes) => find_encoded(bytes, offset),
            HintsOf::Decoded(hints) => find_hint(hints, offset),
        })
    }

    /// The hints of a sealed segment, which are read at the first time if it is not mapped. What
    /// cannot be read is tried again the next time.
    fn kept_hints<'a>(&self, sealed: &'a Sealed) -> Result<HintsOf<'a>, IoError> {
        if let Some(encoded) = self.encoded_hints(sealed)? {
            return Ok(HintsOf::Encoded(encoded));
        }
        if sealed.hints.get().is_none() {
            let read = self.read_hints(sealed)?;
            let _ = sealed.hints.set(read);
        }
        Ok(match sealed.hints.get() {
            Some(SealedHints::Encoded(map)) => HintsOf::Encoded(map),
            Some(SealedHints::Decoded(hints)) => HintsOf::Decoded(hints),
            None => HintsOf::Decoded(&[]),
        })
    }

    /// The hints of the sealed segment, if they can be read through the map and are not damaged.
    fn encoded_hints<'a>(&self, sealed: &'a Sealed) -> Result<Option<&'a [u8]>, IoError> {
        if sealed.hints.get().is_some() || !self.has_right_hints(sealed)? {
            return Ok(None);
        }
        Ok(sealed.encoded_hints())
    }

    fn has_right_hints(&self, sealed: &Sealed) -> Result<bool, IoError> {
        if let Some(known) = sealed.is_right.get() {
            return Ok(*known);
        }
        let is_right = read_hints(self, &sealed.seal)?.is_ok();
        Ok(*sealed.is_right.get_or_init(|| is_right))
    }

    /// Hints of a sealed segment that is not mapped, or its records if the hints are damaged.
    fn read_hints(&self, sealed: &Sealed) -> Result<SealedHints, IoError> {
        let seal = &sealed.seal;
        if !self.has_right_hints(sealed)? {
            let scan = rescan(self, seal)?;
            self.is_damaged.fetch_or(!scan.is_whole, Ordering::Relaxed);
            return Ok(SealedHints::Decoded(scan.hints));
        }
        let len = (seal.file_len - seal.data_end).saturating_sub(SEGMENT_FOOTER_LEN);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = self.read_at(&mut bytes, seal.data_end)?;
        if read < bytes.len() {
            let e = std::io::ErrorKind::UnexpectedEof.into();
            return Err(IoError::new("read hints of", &self.path, e));
        }
        Ok(SealedHints::Encoded(Map::Memory(bytes.into())))
    }

    /// The hints of the sealed segment are damaged on disk: these are used instead.
    pub(super) fn set_hints(&self, hints: Vec<Hint>) {
        if let Some(sealed) = self.sealed.get() {
            let _ = sealed.hints.set(SealedHints::Decoded(hints));
        }
    }

    /// All records of the segment, in the order of their offsets. If there are fewer than were
    /// counted, the segment is damaged.
    pub(super) fn all_hints(&self) -> Result<Vec<Hint>, IoError> {
        if self.sealed.get().is_none() {
            let hints = self.hints.lock();
            // They are given up after the segment is sealed.
            if self.sealed.get().is_none() {
                return Ok(hints.clone());
            }
        }
        let Some(sealed) = self.sealed.get() else { return Ok(Vec::new()) };
        let hints: Vec<Hint> = match self.kept_hints(sealed)? {
            HintsOf::Encoded(bytes) => {
                bytes.chunks_exact(HINT_LEN).filter_map(Hint::decode).collect()
            }
            HintsOf::Decoded(hints) => hints.to_vec(),
        };
        let is_short = (hints.len() as u64) < self.written.records.load(Ordering::Relaxed);
        self.is_damaged.fetch_or(is_short, Ordering::Relaxed);
        Ok(hints)
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
        self.set_sealed_unseen(seal, map);
        if let Some(sealed) = self.sealed.get() {
            let _ = sealed.is_right.set(true);
        }
    }

    /// As [`Segment::set_sealed`], with hints that nobody has looked at.
    pub(super) fn set_sealed_unseen(&self, seal: Seal, map: Option<Map>) {
        let (is_right, hints, verified) = Default::default();
        if map.is_some() {
            self.file.rest();
        }
        let _ = self.sealed.set(Sealed { seal, map, is_right, hints, verified });
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
        match (read_full_at(&*self.file, buf, offset), self.map()) {
            // The writer, another process, has removed it: what is mapped is still there.
            (Err(e), Some(map)) if e.kind() == std::io::ErrorKind::NotFound => {
                let rest = usize::try_from(offset).ok().and_then(|at| map.get(at..)).unwrap_or(&[]);
                let len = rest.len().min(buf.len());
                buf.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                Ok(len)
            }
            (read, _) => read.map_err(|e| IoError::new("read", &self.path, e)),
        }
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
        match (self.file.len(), self.map()) {
            // As for reads: what is mapped is still there.
            (Err(e), Some(map)) if e.kind() == std::io::ErrorKind::NotFound => Ok(map.len() as u64),
            (len, _) => len.map_err(|e| IoError::new("stat", &self.path, e)),
        }
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
        count_out(&self.live_bytes, bytes);
        count_out(&self.live_records, records);
    }

    /// Counts records in or out of what only snapshots need.
    pub(super) fn add_pinned(&self, bytes: u64, records: u64) {
        self.pinned_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.pinned_records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn sub_pinned(&self, bytes: u64, records: u64) {
        count_out(&self.pinned_bytes, bytes);
        count_out(&self.pinned_records, records);
    }

    /// True if some put in it is not the newest of its key: replaying it without the tombstones
    /// behind it would bring keys back.
    pub(super) fn has_old_puts(&self) -> bool {
        self.written.puts.load(Ordering::Relaxed) > self.live_records.load(Ordering::Relaxed)
    }
}

/// Counts `n` out, but never below nothing: hints that are wrong may have counted less in.
pub(super) fn count_out(counter: &AtomicU64, n: u64) {
    let less = |now: u64| Some(now.saturating_sub(n));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

impl Sealed {
    /// The hints, if they can be read through the map.
    fn encoded_hints(&self) -> Option<&[u8]> {
        let map = self.map.as_ref()?;
        let start = usize::try_from(self.seal.data_end).ok()?;
        let end = usize::try_from(self.seal.file_len.checked_sub(SEGMENT_FOOTER_LEN)?).ok()?;
        map.get(start..end)
    }
}

fn find_hint(hints: &[Hint], offset: u64) -> Option<u64> {
    let at = hints.binary_search_by_key(&offset, |h| h.offset).ok()?;
    hints.get(at).map(|h| h.seqno)
}

/// As [`find_hint`], in hints as they stand in the file.
fn find_encoded(bytes: &[u8], offset: u64) -> Option<u64> {
    let at = |i: usize| Hint::decode(bytes.get(i * HINT_LEN..)?);
    let (mut low, mut high) = (0, bytes.len() / HINT_LEN);
    while low < high {
        let middle = low + (high - low) / 2;
        let hint = at(middle)?;
        match hint.offset.cmp(&offset) {
            std::cmp::Ordering::Equal => return Some(hint.seqno),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// The live segments by slot, the number that a [`Location`] holds.
///
/// The list is replaced, never changed, so that whoever works through many locations can keep the
/// segments as they were.
#[derive(Default)]
pub(super) struct SegmentTable {
    slots: RwLock<Arc<Slots>>,
}

/// Segments by slot.
#[derive(Clone, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Arc<Segment>>>,
    /// Slots of removed segments, oldest first; used again once there are a few, so that a
    /// location that somebody still holds mostly leads nowhere rather than elsewhere.
    free: std::collections::VecDeque<u32>,
    /// How many segments were removed so far.
    removals: u64,
}

/// Free slots that are left alone.
const FREE_SLOTS_KEPT: usize = 8;

impl Slots {
    /// The segment that `location` lies in.
    pub(super) fn get(&self, location: Location) -> Option<&Arc<Segment>> {
        self.slots.get(location.slot())?.as_ref()
    }

    /// The segments that are there.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.slots.iter().flatten()
    }
}

impl SegmentTable {
    /// True if `count` more can be added.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.slots.read().iter().count().saturating_add(count) <= SEGMENTS_MAX
    }

    /// Adds the segment that `make` returns for its slot; `None` if there are too many.
    pub(super) fn add(&self, make: impl FnOnce(u32) -> Segment) -> Option<Arc<Segment>> {
        let mut slots = self.slots.write();
        let slots = Arc::make_mut(&mut slots);
        let is_full = slots.slots.len() >= SEGMENTS_MAX;
        let reused = if slots.free.len() > FREE_SLOTS_KEPT || is_full {
            slots.free.pop_front()
        } else {
            None
        };
        let slot = match reused {
            Some(slot) => slot,
            None if is_full => return None,
            None => {
                slots.slots.push(None);
                u32::try_from(slots.slots.len() - 1).ok()?
            }
        };
        let segment = Arc::new(make(slot));
        *slots.slots.get_mut(slot as usize)? = Some(Arc::clone(&segment));
        Some(segment)
    }

    /// Leaves the slots below `slots` to [`SegmentTable::place`]. Requires: nothing was added yet.
    pub(super) fn leave_slots(&self, slots: u32) {
        let mut table = self.slots.write();
        Arc::make_mut(&mut table).slots.resize(slots as usize, None);
    }

    /// Puts the segment that `make` returns into `slot`; `None` if it is taken.
    pub(super) fn place(
        &self,
        slot: u32,
        make: impl FnOnce(u32) -> Segment,
    ) -> Option<Arc<Segment>> {
        let mut slots = self.slots.write();
        let place = Arc::make_mut(&mut slots).slots.get_mut(slot as usize)?;
        if place.is_some() {
            return None;
        }
        Some(Arc::clone(place.insert(Arc::new(make(slot)))))
    }

    /// Lets the slots be used that were left and not taken. Requires: no index leads to them.
    pub(super) fn free_left_slots(&self) {
        let mut slots = self.slots.write();
        let slots = Arc::make_mut(&mut slots);
        let unused = (0u32..).zip(&slots.slots).filter(|(_, s)| s.is_none()).map(|(i, _)| i);
        slots.free = unused.collect();
    }

    /// The segment in `slot`.
    pub(super) fn at(&self, slot: u32) -> Option<Arc<Segment>> {
        self.slots.read().slots.get(slot as usize)?.clone()
    }

    /// The segment that `location` lies in.
    pub(super) fn get(&self, location: Location) -> Option<Arc<Segment>> {
        self.slots.read().get(location).cloned()
    }

    /// Forgets a segment that left the store. Requires: no index leads to it any more.
    pub(super) fn remove(&self, segment: &Segment) {
        let mut slots = self.slots.write();
        let slots = Arc::make_mut(&mut slots);
        if let Some(place) = slots.slots.get_mut(segment.slot as usize) {
            *place = None;
            slots.free.push_back(segment.slot);
            slots.removals += 1;
        }
    }

    /// The segments as they are now.
    pub(super) fn pin(&self) -> Arc<Slots> {
        Arc::clone(&self.slots.read())
    }

    /// What `collect` finds in the index, with segments that hold all of it.
    pub(super) fn pin_with<T>(&self, collect: impl Fn() -> T) -> (T, Arc<Slots>) {
        loop {
            let before = self.slots.read().removals;
            let collected = collect();
            moment!(Located);
            let pinned = self.pin();
            if pinned.removals == before || planted!(SegmentsPinnedLate) {
                return (collected, pinned);
            }
            situation!(PinRepeated);
        }
    }

    /// All segments, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        let mut all: Vec<_> = self.slots.read().iter().cloned().collect();
        all.sort_unstable_by_key(|s| s.id);
        all
    }
}
