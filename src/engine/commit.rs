//! The write path: stamp -> append -> apply -> sync.
//!
//! 1. *Stamp*, no lock held: collections get their ids, record headers their checksums.
//! 2. *Append*, log lock: room is made, the frame header is signed, one write per frame.
//! 3. *Apply*, apply lock, taken before the log lock is let go: the index learns the locations in
//!    the order of the log, while the next writer already appends.
//! 4. *Sync*, no lock, if asked for: shared with every other writer that waits (see
//!    [`super::sync`]).
//!
//! What a power cut leaves behind, by byte: a frame counts only if every byte of it is right, and
//! a batch only with its last frame, so a cut anywhere before the last byte leaves no trace of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::batch::{SYSTEM_NAME, WriteBatch};
use super::catalog::CollectionState;
use super::core::{Core, Log};
use super::error::{ReadError, WriteError};
use super::options::Durability;
use super::points::Point;
use super::segments::Segment;
use super::update::UpdateError;
use crate::format::config::CollectionOptions;
use crate::format::hint::{self, Hint};
use crate::format::record::{
    self, FRAME_HEADER_LEN, FrameHeader, FrameKind, Kind, RecordHeader, RecordsChecksum,
};
use crate::format::segment::SEGMENT_HEADER_LEN;
use crate::format::value::Flags;
use crate::index::Location;
use crate::limits::SYSTEM_COLLECTION;

/// Room that every segment keeps for its end frame.
pub(super) const END_RESERVE: u64 = FRAME_HEADER_LEN as u64;

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The sequence number after the batch's last record: wait for it to be durable.
    pub(crate) next_seqno: u64,
    /// How many of the batch's deletions found their key.
    pub deleted: u64,
}

/// What came of bringing a batch into the index.
#[derive(Default)]
struct Applied {
    /// Deletions that found their key.
    deleted: u64,
    /// Points of durable snapshots that were dropped.
    released: Vec<Arc<Point>>,
}

/// A batch that is ready for the log.
struct Stamped {
    collections: Vec<Arc<CollectionState>>,
    /// The records' places in the buffer, kinds, lengths, key hashes, collections.
    records: Vec<StampedRecord>,
    salt: u32,
    /// Of all records, if they stay in one frame of the segment with `salt`.
    records_checksum: u32,
    /// Nothing but deletions and records of the engine's own: may use the room that is kept for
    /// them when the device is full.
    is_urgent: bool,
}

#[derive(Clone, Copy)]
struct StampedRecord {
    start: usize,
    len: usize,
    kind: Kind,
    flags: Flags,
    hash: u64,
    /// Index into [`Stamped::collections`].
    collection: usize,
}

/// Where a run of records was appended.
struct Placed {
    segment: Arc<Segment>,
    /// Index of the first record of the run.
    first_record: usize,
    records: usize,
    /// Offset of the first record in the segment.
    offset: u64,
    base: u64,
}

impl Core {
    /// Appends `batch` and applies it; syncs if asked to. On a full device it waits a moment for
    /// compaction. Requires: no lock held that compaction needs, nor `gate`.
    pub(super) fn write(
        &self,
        batch: &mut WriteBatch,
        durability: Durability,
    ) -> Result<Commit, WriteError> {
        let commit = self.with_relief(
            |e| matches!(e, WriteError::Full(_)),
            || {
                let _shared = self.gate.read();
                self.append_batch(batch)
            },
        )?;
        self.finish(&commit, durability)?;
        Ok(commit)
    }

    /// Syncs a batch that was appended, if asked to, and does what is due without threads.
    /// Requires: `gate` is not held.
    pub(super) fn finish(&self, commit: &Commit, durability: Durability) -> Result<(), WriteError> {
        if durability == Durability::Sync && !planted!(SyncSkipped) {
            self.sync_upto(commit.next_seqno)?;
        }
        if self.options.inline_maintenance {
            // The batch is in the log: what fails here is tried again by the next write.
            let _ = self.maintain();
        }
        Ok(())
    }

    /// Appends `batch` and applies it. Requires: `gate` held, or system records only.
    pub(super) fn append_batch(&self, batch: &mut WriteBatch) -> Result<Commit, WriteError> {
        if let Some(mut packed) = self.pack(batch) {
            return self.append_stamped(&mut packed);
        }
        let own = (batch.buf.len(), batch.records.len());
        let result = self.append_stamped(batch);
        // Take the create records out again: the batch is the caller's.
        batch.buf.truncate(own.0);
        batch.records.truncate(own.1);
        result
    }

    /// Appends `batch` and applies it, if `condition` holds when every earlier batch is applied
    /// and no later one can come. Requires: `gate` held.
    pub(super) fn append_if(
        &self,
        batch: &mut WriteBatch,
        condition: impl FnOnce() -> Result<bool, ReadError>,
    ) -> Result<Option<Commit>, UpdateError> {
        let mut packed = self.pack(batch);
        let batch = packed.as_mut().unwrap_or(batch);
        let own = (batch.buf.len(), batch.records.len());
        let (log, mut stamped) = self.enter(batch)?;
        // Whoever has let go of the log lock holds this one until its batch is applied.
        drop(self.apply.lock());
        let result = match condition() {
            Ok(true) => self.append_entered(log, batch, &mut stamped).map(Some),
            Ok(false) => Ok(None),
            Err(e) => return Err(e.into()),
        };
        batch.buf.truncate(own.0);
        batch.records.truncate(own.1);
        Ok(result?)
    }

    fn append_stamped(&self, batch: &mut WriteBatch) -> Result<Commit, WriteError> {
        let (log, mut stamped) = self.enter(batch)?;
        self.append_entered(log, batch, &mut stamped)
    }

    /// Stamps `batch` and takes the log lock.
    fn enter(&self, batch: &mut WriteBatch) -> Result<(MutexGuard<'_, Log>, Stamped), WriteError> {
        self.check_writable()?;
        self.await_sealing();
        let salt = self.log.lock().active.as_ref().map_or(0, |s| s.salt);
        let stamped = self.stamp(batch, salt)?;
        moment!(Stamped);
        let log = self.log.lock();
        // Asked again: a sync may have failed meanwhile.
        if !planted!(PoisonCheckedTooSoon) {
            self.check_writable()?;
        }
        if log.is_closed {
            return Err(WriteError::Closed);
        }
        Ok((log, stamped))
    }

    /// Appends a stamped batch and applies it.
    fn append_entered(
        &self,
        mut log: MutexGuard<'_, Log>,
        batch: &mut WriteBatch,
        stamped: &mut Stamped,
    ) -> Result<Commit, WriteError> {
        if stamped.records.is_empty() {
            return Ok(Commit { next_seqno: log.next_seqno, deleted: 0 });
        }
        let placed = self.append_frames(&mut log, batch, stamped)?;
        let next_seqno = log.next_seqno;
        if log.announce() {
            self.wake_maintenance();
        }
        let applying = self.apply.lock();
        drop(log);
        let applied = self.apply(&batch.buf, stamped, &placed);
        self.applied.store(next_seqno, Ordering::Release);
        self.feed.wake();
        drop(applying);
        for point in &applied.released {
            self.release_point(point);
        }
        Ok(Commit { next_seqno, deleted: applied.deleted })
    }

    /// Gives every record its collection, index and checksum, for a segment with `salt`.
    fn stamp(&self, batch: &mut WriteBatch, salt: u32) -> Result<Stamped, WriteError> {
        let names = std::mem::take(&mut batch.names);
        let collections: Result<Vec<_>, _> =
            names.iter().map(|name| self.catalog.find_or_reserve(name)).collect();
        batch.names = names;
        let mut collections = collections?;
        for (i, collection) in collections.iter().enumerate() {
            if !collection.is_logged.load(Ordering::Acquire) {
                batch.push_create(i, &collection.name)?;
            }
        }
        let system = collections.len();
        collections.push(Arc::clone(self.catalog.system()));
        let mut records = Vec::with_capacity(batch.records.len());
        let mut checksum = RecordsChecksum::new(salt);
        for (i, place) in batch.records.iter().enumerate() {
            let bytes = batch.buf.get_mut(place.offset..).unwrap_or(&mut []);
            let Some(parsed) = record::Record::parse(bytes) else { continue };
            let RecordHeader { kind, flags, .. } = parsed.header;
            let len = parsed.header.record_len();
            let hash = if kind.has_key() { hint::hash_key(self.hash_seed, parsed.key) } else { 0 };
            let collection = if place.name == SYSTEM_NAME { system } else { place.name as usize };
            let id = collections.get(collection).map_or(0, |c| c.id);
            record::stamp_record(bytes, salt, id, u32::try_from(i).unwrap_or(u32::MAX));
            checksum.add(bytes);
            let start = place.offset;
            records.push(StampedRecord { start, len, kind, flags, hash, collection });
        }
        let is_urgent = records.iter().all(|r| r.kind != Kind::Put || r.collection == system);
        let records_checksum = checksum.finish();
        Ok(Stamped { collections, records, salt, records_checksum, is_urgent })
    }

    /// Appends the batch: as one frame where it fits into a segment, as several otherwise.
    /// Requires: log lock held.
    fn append_frames(
        &self,
        log: &mut MutexGuard<'_, Log>,
        batch: &mut WriteBatch,
        stamped: &mut Stamped,
    ) -> Result<Vec<Placed>, WriteError> {
        let header_len = FRAME_HEADER_LEN as u64;
        let frame_len_max = self.options.segment_len - SEGMENT_HEADER_LEN - END_RESERVE;
        let mut placed = Vec::new();
        let mut first = 0;
        while first < stamped.records.len() {
            // As many records as fit into one segment; at least one, however large.
            let mut len = 0;
            let mut end = first;
            while let Some(r) = stamped.records.get(end) {
                if end > first && header_len + len + r.len as u64 > frame_len_max {
                    break;
                }
                len += r.len as u64;
                end += 1;
            }
            self.make_room(log, header_len + len, stamped.is_urgent)?;
            let Some(active) = log.active.clone() else { return Err(WriteError::Closed) };
            if active.salt != stamped.salt || placed.len() + first > 0 {
                restamp(batch, stamped, &active, first, end);
            }
            let is_last = end == stamped.records.len();
            let run = first..end;
            placed.push(self.append_frame(log, batch, stamped, run, is_last)?);
            first = end;
        }
        Ok(placed)
    }

    /// Writes one frame with the records of `run` at the end of the log, or nothing.
    /// Requires: log lock held, room made, records stamped for the active segment.
    fn append_frame(
        &self,
        log: &mut MutexGuard<'_, Log>,
        batch: &mut WriteBatch,
        stamped: &Stamped,
        run: std::ops::Range<usize>,
        is_last: bool,
    ) -> Result<Placed, WriteError> {
        let Some(segment) = log.active.clone() else { return Err(WriteError::Closed) };
        let records = stamped.records.get(run.clone()).unwrap_or(&[]);
        let start = records.first().map_or(0, |r| r.start);
        let end = records.last().map_or(0, |r| r.start + r.len);
        let records_checksum = if run.len() == stamped.records.len() && segment.salt == stamped.salt
        {
            stamped.records_checksum
        } else {
            let mut checksum = RecordsChecksum::new(segment.salt);
            for r in records {
                checksum.add(batch.buf.get(r.start..).unwrap_or(&[]));
            }
            checksum.finish()
        };
        let header = FrameHeader {
            kind: FrameKind::Batch,
            first: run.start == 0,
            last: is_last,
            len: (end - start) as u64,
            count: u32::try_from(records.len()).unwrap_or(u32::MAX),
            records_checksum,
            epoch: self.epoch,
            base: log.next_seqno,
            watermark: if planted!(WatermarkTooHigh) { log.next_seqno } else { self.watermark() },
        };
        // The first 40 bytes of the buffer are free for the header of the first frame. Those of
        // later frames, which only batches larger than a segment have, go over records that are
        // already written.
        let header_at = start - FRAME_HEADER_LEN;
        let saved: Option<Vec<u8>> =
            (run.start > 0).then(|| batch.buf.get(header_at..start).unwrap_or(&[]).to_vec());
        let bytes = header.encode(segment.salt, log.offset);
        if let Some(place) = batch.buf.get_mut(header_at..start) {
            place.copy_from_slice(&bytes);
        }
        let written = segment.write_at(batch.buf.get(header_at..end).unwrap_or(&[]), log.offset);
        if let (Some(saved), Some(place)) = (saved, batch.buf.get_mut(header_at..start)) {
            place.copy_from_slice(&saved);
        }
        if let Err(e) = written {
            if planted!(HalfWriteNotRewound) {
                log.offset += (end - header_at) as u64;
                return Err(WriteError::from_append(e));
            }
            self.take_back(&segment, log.offset)?;
            return Err(WriteError::from_append(e));
        }
        let placed = Placed {
            offset: log.offset + FRAME_HEADER_LEN as u64,
            base: log.next_seqno,
            first_record: run.start,
            records: records.len(),
            segment,
        };
        self.advance(log, header.count, (end - header_at) as u64);
        Ok(placed)
    }

    /// Moves the end of the log behind a frame that was written. Requires: log lock held.
    pub(super) fn advance(&self, log: &mut MutexGuard<'_, Log>, count: u32, len: u64) {
        log.offset += len;
        let base = log.next_seqno;
        log.next_seqno += u64::from(count);
        if let Some(active) = &log.active {
            if active.first.load(Ordering::Relaxed) == 0 && count > 0 {
                active.first.store(base, Ordering::Relaxed);
            }
            active.next.store(log.next_seqno, Ordering::Relaxed);
            active.end.store(log.offset, Ordering::Release);
        }
        self.appended_bytes.fetch_add(len, Ordering::Relaxed);
    }

    /// Makes sure that a frame whose write failed at `offset` is not there: the write may have
    /// put some or all of it into the file. If that cannot be done the store is poisoned, since
    /// the frame might appear at the next open although its writer was told that it failed.
    pub(super) fn take_back(&self, segment: &Segment, offset: u64) -> Result<(), WriteError> {
        let undo = || {
            let mut header = [0; FRAME_HEADER_LEN];
            let read = segment.read_at(&mut header, offset)?;
            if header.iter().take(read).all(|b| *b == 0) {
                return Ok(());
            }
            segment.write_at(&[0; FRAME_HEADER_LEN][..read], offset)?;
            // Now, since a later sync that finds nothing new to sync would not do it.
            segment.sync()
        };
        if planted!(FailedWriteAppears) {
            return Ok(());
        }
        undo().map_err(|e| self.poison.set(e))
    }

    /// Brings the appended records into the index.
    /// Requires: apply lock held, taken in the order of the log.
    fn apply(&self, buf: &[u8], stamped: &Stamped, placed: &[Placed]) -> Applied {
        let mut applied = Applied::default();
        let mut point = self.points.newest();
        for run in placed {
            let segment = &run.segment;
            let records = || {
                let records = stamped.records.iter().skip(run.first_record).take(run.records);
                let mut offset = run.offset;
                (run.base..).zip(records).filter_map(move |(seqno, r)| {
                    let collection = stamped.collections.get(r.collection)?;
                    let (hash, kind, flags, len) = (r.hash, r.kind, r.flags, r.len as u64);
                    let id = collection.id;
                    let hint = Hint { hash, seqno, offset, len, collection: id, kind, flags };
                    offset += len;
                    Some((collection, hint, record::key_at(buf, r.start), r.start))
                })
            };
            // First, so that the records' sequence numbers can be looked up.
            segment.hints.lock().extend(records().map(|(_, hint, ..)| hint));
            for (collection, hint, key, start) in records() {
                segment.written.count(&hint);
                let is_found = self.apply_record(collection, segment, &hint, key, point.as_ref());
                applied.deleted += u64::from(is_found);
                if hint.kind == Kind::Configure {
                    let options = CollectionOptions::decode(record::value_at(buf, start));
                    // It was encoded by this very version.
                    collection.configure(hint.seqno, options.unwrap_or_default());
                }
                if collection.id == SYSTEM_COLLECTION {
                    let value = record::value_at(buf, start);
                    applied.released.extend(self.apply_system(&hint, key, value));
                    point = self.points.newest();
                }
            }
        }
        applied
    }

    /// Brings one record into the index; true if it is a deletion that found its key.
    fn apply_record(
        &self,
        collection: &CollectionState,
        segment: &Arc<Segment>,
        hint: &Hint,
        key: &[u8],
        point: Option<&Arc<Point>>,
    ) -> bool {
        let Some(location) = Location::new(segment.slot, hint.offset) else { return false };
        // Snapshots do not show the engine's own facts.
        let point = point.filter(|_| collection.id != SYSTEM_COLLECTION);
        let index = collection.index();
        let mut old_len = 0;
        let is_same_key = |old: Location| {
            let is_same = self.is_same_key(key, hint.hash, old, &mut old_len);
            if is_same {
                self.keep_for(point, collection, hint.hash, old, old_len);
            }
            is_same
        };
        let count = |more| {
            if let Some(point) = point {
                point.count_keys(collection.id, more);
            }
        };
        match hint.kind {
            Kind::CreateCollection => {
                segment.add_live(hint.len, 0);
                collection.is_logged.store(true, Ordering::Release);
                false
            }
            Kind::Configure => {
                segment.add_live(hint.len, 0);
                false
            }
            Kind::Clear => {
                self.clear_collection(collection, point);
                false
            }
            Kind::Put => {
                let old = index.insert(hint.hash, location, is_same_key);
                if old.is_none() {
                    count(1);
                    collection.ordered.put(key);
                }
                self.retire(collection, old, old_len);
                collection.add_live(segment, hint.len, 1);
                collection.is_listed.store(true, Ordering::Release);
                false
            }
            Kind::Delete => {
                let old = index.remove(hint.hash, is_same_key);
                let was_there = old.is_some_and(|location| !self.has_expired(location));
                if old.is_some() {
                    count(-1);
                    self.unlist(collection, hint.hash, key, hint.seqno);
                }
                self.retire(collection, old, old_len);
                was_there
            }
        }
    }

    /// Forgets all keys of a collection, except for snapshots.
    fn clear_collection(&self, collection: &CollectionState, point: Option<&Arc<Point>>) {
        if let Some(point) = point {
            // Before the index changes, so that no reader misses it.
            let keys = collection.ordered.live();
            point.keep_all(collection.id, &collection.index(), keys, &collection.live());
        }
        collection.clear();
    }

    /// Counts the record at `old` as dead.
    pub(super) fn retire(&self, collection: &CollectionState, old: Option<Location>, len: u64) {
        if let Some(segment) = old.and_then(|location| self.segments.get(location)) {
            collection.sub_live(&segment, len);
        }
    }

    /// True if the record at `old`, to which the index leads for `hash`, is that of `key`; sets
    /// `old_len` then.
    ///
    /// A record that cannot be read, or is damaged, is taken for the same key: 48 equal bits of
    /// hash say so, and overwriting is what ends the damage.
    pub(super) fn is_same_key(
        &self,
        key: &[u8],
        hash: u64,
        old: Location,
        old_len: &mut u64,
    ) -> bool {
        // Its value is not read: a lock of the index is held, for which readers may wait.
        let Some(segment) = self.segments.get(old) else { return true };
        let Ok(found) = self.read_key(&segment, old.offset()) else { return true };
        *old_len = found.header.record_len() as u64;
        let read = || self.read_in(&segment, old.offset());
        found.key() == key || read().map_or(true, |whole| !self.is_other_key(&whole, hash))
    }
}

/// Signs the records of a run again, for the segment they really go to, with indexes that start
/// at the run's first record.
fn restamp(batch: &mut WriteBatch, stamped: &Stamped, segment: &Segment, first: usize, end: usize) {
    let records = stamped.records.get(first..end).unwrap_or(&[]);
    for (index, r) in (0u32..).zip(records) {
        let bytes = batch.buf.get_mut(r.start..).unwrap_or(&mut []);
        if let Some(header) = RecordHeader::parse(bytes) {
            record::stamp_record(bytes, segment.salt, header.collection, index);
        }
    }
}
