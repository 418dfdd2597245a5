//! Verification of a whole store while it is in use.
//!
//! First every segment is read from front to back: header, frames, records, hints. Each whole
//! record to which the index leads is compared with what the index knows of its key. What the index
//! leads to and did not come up that way is then read by itself: it stands in a damaged frame, or
//! the key was written again, or compaction moved its record while the check went on. The manifest
//! and the checkpoint are verified as they stand in their files ([`files`]).
//!
//! Nothing is changed and no lock is held, so that it runs beside writers, also in another process.

mod files;
mod report;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::error::ReadError;
use super::read::MISPLACED;
use super::segments::{Segment, Slots};
use super::system::{self, SYSTEM_NAME};
use crate::format::record::{FRAME_HEADER_LEN, FrameHeader, FrameKind, RECORD_HEADER_LEN, Record};
use crate::format::scan::{Frame, Step, frame_at};
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::index::{Location, index_hash};
use crate::limits::SYSTEM_COLLECTION;
use crate::vfs::IoError;

pub use report::{CheckOptions, CheckProgress, CheckReport, Defect};

/// Bytes read at once, and between two calls of the progress function.
const STRETCH: u64 = 1 << 20;

/// What the index knows of one collection, in the order in which the check comes by.
struct Expected {
    name: String,
    /// Location, key hash, and whether a key of the index leads there: the others are old versions
    /// that snapshots need, or the engine's own facts.
    entries: Vec<(Location, u64, bool)>,
    next: usize,
    /// Entries that the walk over the segments has passed without a whole record of their key.
    missed: Vec<(Location, u64, bool)>,
}

impl Expected {
    /// A whole record with `hash` stands at `location`; true if a key of the index leads there.
    fn meet(&mut self, location: Location, hash: u64) -> bool {
        while let Some(entry) = self.entries.get(self.next).filter(|e| e.0 <= location) {
            self.next += 1;
            if (entry.0, entry.1) == (location, hash) {
                return entry.2;
            }
            self.missed.push(*entry);
        }
        false
    }

    /// What was missed, and what was not come by.
    fn rest(&mut self) -> Vec<(Location, u64, bool)> {
        let mut rest = std::mem::take(&mut self.missed);
        rest.extend_from_slice(self.entries.get(self.next..).unwrap_or(&[]));
        rest
    }
}

/// The check left off, because it was told to, or because a file could not be read.
enum Stop {
    Told,
    Failed(ReadError),
}

impl From<ReadError> for Stop {
    fn from(e: ReadError) -> Self {
        Stop::Failed(e)
    }
}

impl From<IoError> for Stop {
    fn from(e: IoError) -> Self {
        Stop::Failed(e.into())
    }
}

impl Core {
    /// Reads every frame of every segment and compares the index with what is there.
    pub(super) fn check(&self, options: CheckOptions<'_>) -> Result<CheckReport, ReadError> {
        // Taken before the index is: a segment that leaves the store meanwhile can still be read.
        let (expected, slots) = self.segments.pin_with(|| self.expected());
        let total_bytes = slots.iter().map(|s| s.end()).sum();
        let mut checker = Checker {
            core: self,
            expected,
            slots,
            report: CheckReport::default(),
            progress: CheckProgress { total_bytes, ..CheckProgress::default() },
            unpaced: 0,
            options,
        };
        let done = checker.run();
        let mut report = checker.report;
        match done {
            Ok(()) => report.is_complete = true,
            Err(Stop::Told) => {}
            Err(Stop::Failed(e)) => return Err(e),
        }
        Ok(report)
    }
}

struct Checker<'a> {
    core: &'a Core,
    expected: HashMap<u32, Expected>,
    /// The segments as they were when the check began: they stay until it ends.
    slots: Arc<Slots>,
    report: CheckReport,
    progress: CheckProgress,
    /// Bytes read since the last pause.
    unpaced: u64,
    options: CheckOptions<'a>,
}

impl Checker<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        let slots = Arc::clone(&self.slots);
        // By slot, which is the order of the locations.
        for segment in slots.iter() {
            self.check_segment(segment)?;
        }
        self.check_files()?;
        self.check_rest()?;
        self.pause()
    }

    /// Counts `len` bytes as verified.
    fn advance(&mut self, len: u64) -> Result<(), Stop> {
        self.report.bytes += len;
        self.wait_for(len)
    }

    /// Takes the time that reading `len` bytes may take.
    fn wait_for(&mut self, len: u64) -> Result<(), Stop> {
        self.unpaced += len;
        if self.unpaced < STRETCH { Ok(()) } else { self.pause() }
    }

    fn pause(&mut self) -> Result<(), Stop> {
        if let Some(rate) = self.options.bytes_per_second {
            std::thread::sleep(Duration::from_secs_f64(self.unpaced as f64 / rate as f64));
        }
        self.unpaced = 0;
        self.progress.bytes = self.report.bytes;
        self.progress.defects = self.report.defect_count;
        let told = self.options.progress.as_mut().map(|progress| progress(self.progress));
        if told == Some(ControlFlow::Break(())) { Err(Stop::Told) } else { Ok(()) }
    }

    fn check_segment(&mut self, segment: &Arc<Segment>) -> Result<(), Stop> {
        self.report.segments += 1;
        let end = segment.end();
        let mut header = [0; SEGMENT_HEADER_LEN as usize];
        segment.read_at(&mut header, 0)?;
        if !SegmentHeader::decode(&header).is_ok_and(|(_, salt)| salt == segment.salt) {
            self.report.defect(segment.corruption(0, "segment header is damaged").into());
        }
        if let Some(defect) = self.core.check_hints(segment)? {
            self.report.defect(defect.into());
        }
        self.advance(SEGMENT_HEADER_LEN)?;
        let mut offset = SEGMENT_HEADER_LEN;
        let mut buf = Vec::new();
        // Where `buf` starts in the segment, and how much of a frame is wanted at once.
        let (mut start, mut want) = (offset, FRAME_HEADER_LEN as u64);
        while offset < end {
            let has = start + buf.len() as u64;
            if offset < start || (has < (offset + want).min(end)) {
                let len = want.max(STRETCH).min(end - offset);
                buf.resize(usize::try_from(len).unwrap_or(0), 0);
                let read = segment.read_at(&mut buf, offset)?;
                buf.truncate(read);
                start = offset;
            }
            let skip = usize::try_from(offset - start).unwrap_or(usize::MAX);
            let bytes = buf.get(skip..).unwrap_or(&[]);
            match frame_at(bytes, segment.salt, offset) {
                Step::Frame(frame) => {
                    self.check_frame(segment, offset, &frame);
                    offset += frame.len();
                    self.advance(frame.len())?;
                    want = FRAME_HEADER_LEN as u64;
                    if frame.header.kind == FrameKind::End {
                        return Ok(());
                    }
                }
                Step::More(len) if len > want && offset + len <= end => want = len,
                Step::More(_) => {
                    let what = "frame reaches behind the log";
                    self.report.defect(segment.corruption(offset, what).into());
                    return Ok(());
                }
                Step::Bad(at, what) => {
                    let defect = self.describe(segment, bytes, offset, at, what);
                    self.report.defect(defect);
                    // Nothing tells for sure where the next frame starts: look for one.
                    let Some(next) = self.core.next_frame(segment, offset + 8, end)? else {
                        return Ok(());
                    };
                    self.advance(next - offset)?;
                    offset = next;
                    want = FRAME_HEADER_LEN as u64;
                }
            }
        }
        Ok(())
    }

    /// Compares the records of a whole frame with the index.
    fn check_frame(&mut self, segment: &Segment, offset: u64, frame: &Frame<'_>) {
        self.report.frames += 1;
        for (at, record) in frame.records() {
            self.report.records += 1;
            let known = self.expected.get_mut(&record.header.collection);
            let location = Location::new(segment.slot, offset + at);
            if let (Some(location), Some(known)) = (location, known) {
                let hash = index_hash(self.core.hash_key(record.key));
                self.report.keys += u64::from(known.meet(location, hash));
            }
        }
    }

    /// The defect of the frame at `offset`, whose `bytes` are wrong at `at`.
    fn describe(
        &self,
        segment: &Segment,
        bytes: &[u8],
        offset: u64,
        at: u64,
        what: &str,
    ) -> Defect {
        let mut defect = Defect::from(segment.corruption(offset + at, what));
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
        let record = rest.filter(|rest| at > 0 && rest.len() >= RECORD_HEADER_LEN);
        let record = record.and_then(|rest| Record::verify_header(rest, segment.salt));
        if let Some(record) = record {
            let frame = FrameHeader::verify(bytes, segment.salt, offset);
            defect.seqno =
                frame.and_then(|frame| frame.base.checked_add(u64::from(record.header.index)));
            defect.key = Some(record.key.to_vec());
            let known = self.expected.get(&record.header.collection);
            defect.collection = known.map(|known| known.name.clone());
            defect.system = self.core.system_record(record.header.collection, Some(record.key));
        }
        defect
    }

    /// Reads what the index leads to and the walk over the segments did not come by.
    fn check_rest(&mut self) -> Result<(), Stop> {
        let ids: Vec<u32> = self.expected.keys().copied().collect();
        for id in ids {
            let Some(expected) = self.expected.get_mut(&id) else { continue };
            let name = expected.name.clone();
            for (location, hash, is_key) in expected.rest() {
                let checked = self.core.check_entry(&self.slots, id, location, hash);
                match checked {
                    Ok(len) => {
                        self.report.records += 1;
                        self.report.keys += u64::from(is_key);
                        self.wait_for(len)?;
                    }
                    Err(ReadError::Corrupt(place)) => {
                        let found = self.core.read_pinned(&self.slots, location);
                        let key = found.ok().map(|f| f.key().to_vec());
                        let collection = Some(name.clone());
                        let system = self.core.system_record(id, key.as_deref());
                        let defect = Defect { key, collection, system, ..place.into() };
                        // The walk may have named it, where it could tell less of it.
                        self.report.defect_once(defect);
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }
}

impl Core {
    /// What a record of collection `id` is, if it is one of the engine's own.
    fn system_record(&self, id: u32, key: Option<&[u8]>) -> Option<String> {
        system::describe(id, key, None, |id| {
            self.catalog.by_id(id).map_or_else(|| format!("#{id}"), |known| known.name.clone())
        })
    }

    /// What the index and the snapshots lead to, by collection.
    fn expected(&self) -> HashMap<u32, Expected> {
        let mut all = HashMap::new();
        for collection in self.catalog.all().iter().chain([self.catalog.system()]) {
            let is_listed = collection.id != SYSTEM_COLLECTION;
            let entry = |is_key: bool| move |(hash, at)| (at, index_hash(hash), is_key);
            let mut entries: Vec<_> =
                collection.index().entries().into_iter().map(entry(is_listed)).collect();
            for kept in self.points.since(0).iter().filter_map(|p| p.kept(collection.id)) {
                entries.extend(kept.changed.entries().into_iter().map(entry(false)));
                let cleared = kept.cleared.get().into_iter().flat_map(|i| i.entries());
                entries.extend(cleared.map(entry(false)));
            }
            entries.sort_unstable();
            entries.dedup_by_key(|entry| entry.0);
            let name = if is_listed { collection.name.clone() } else { SYSTEM_NAME.to_owned() };
            all.insert(collection.id, Expected { name, entries, next: 0, missed: Vec::new() });
        }
        all
    }

    /// Verifies the record at `location`, of a key of `collection` with `hash`; its length.
    fn check_entry(
        &self,
        slots: &Slots,
        collection: u32,
        location: Location,
        hash: u64,
    ) -> Result<u64, ReadError> {
        let found = self.read_pinned(slots, location)?;
        if !found.record().body_is_intact() {
            let what = "record checksum does not match";
            return Err(found.segment.corruption(found.offset, what).into());
        }
        let is_its_own =
            found.header.collection == collection && index_hash(self.hash_key(found.key())) == hash;
        if !is_its_own {
            return Err(found.segment.corruption(found.offset, MISPLACED).into());
        }
        Ok(found.header.record_len() as u64)
    }

    /// The offset of the next whole frame from `offset` on.
    fn next_frame(
        &self,
        segment: &Segment,
        mut offset: u64,
        end: u64,
    ) -> Result<Option<u64>, ReadError> {
        while offset < end {
            let len = (end - offset).min(STRETCH);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            let read = segment.read_at(&mut bytes, offset)?;
            for at in (0..read).step_by(8) {
                let rest = bytes.get(at..read).unwrap_or(&[]);
                let at = offset + at as u64;
                if !matches!(frame_at(rest, segment.salt, at), Step::Bad(0, _)) {
                    return Ok(Some(at));
                }
            }
            if len <= FRAME_HEADER_LEN as u64 || offset + len >= end {
                return Ok(None);
            }
            offset += (len - FRAME_HEADER_LEN as u64) & !7;
        }
        Ok(None)
    }
}
