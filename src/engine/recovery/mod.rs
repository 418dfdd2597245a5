//! The open path: manifest -> segments -> decision -> index.
//!
//! Sealed segments are taken at their word: their extent is in the manifest, their records are
//! listed in hints that carry a checksum. The tail of the log, the unsealed segments, is read frame
//! by frame. Where the frames end, [`Case`] says what that means, by one rule:
//!
//! > Every sequence number below the *watermark* was durable. The watermark is the highest one
//! > found in the manifest or in any whole frame, also in frames behind the damage. If the log
//! > ends below it, acknowledged data is damaged, and the open refuses. If it ends at or above it,
//! > what is behind the end was never acknowledged: it is cut, and reported.
//!
//! "A whole frame follows, so it must be damage" would not be sound: writes that were not synced
//! may reach the disk in any order.

mod case;
mod unlisted;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::checkpoint::Base;
use super::core::Core;
use super::error::{Corruption, OpenError, ReadError};
use super::segments::Segment;
use super::tail::{TailScan, TailStart, scan_tail};
use crate::format::checksum;
use crate::format::hint::{HINT_LEN, Hint};
use crate::format::manifest::{FILE_NAME as MANIFEST_NAME, Seal, SegmentState};
use crate::format::scan::{Step, frame_at};
use crate::format::segment::{
    HeaderError, SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentFooter, SegmentHeader, SegmentKind,
    file_name,
};
use crate::vfs::{IoError, Map, OpenMode, read_full_at};

pub(super) use case::refuse;
pub use case::{Case, Decision, Note, RecoveryReport};
pub(super) use unlisted::{judge_unlisted, whose};

/// Sequence numbers stay below this: a million records a second would take 146,000 years.
const SEQNO_MAX: u64 = 1 << 62;

/// The records of a segment, as they go into the index.
pub(super) enum HintSource {
    /// The hints of a sealed segment, as they stand in the file.
    Encoded(Map),
    /// Records that were read.
    Decoded(Vec<Hint>),
}

impl HintSource {
    /// The hints in the order of the segment.
    pub(super) fn iter(&self) -> impl Iterator<Item = Hint> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// The hint with this number.
    pub(super) fn get(&self, i: usize) -> Option<Hint> {
        match self {
            HintSource::Encoded(map) => Hint::decode(map.get(i * HINT_LEN..)?),
            HintSource::Decoded(hints) => hints.get(i).copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            HintSource::Encoded(map) => map.len() / HINT_LEN,
            HintSource::Decoded(hints) => hints.len(),
        }
    }

    /// The sequence number of the record at `offset`.
    pub(super) fn seqno_at(&self, offset: u64) -> Option<u64> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let hint = self.get(middle)?;
            match hint.offset.cmp(&offset) {
                std::cmp::Ordering::Equal => return Some(hint.seqno),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// What was recovered: the input of [`super::load`] and of the writer's first steps.
pub(super) struct Recovered {
    /// Segments with their records, in the order of the log.
    pub(super) sources: Vec<(Arc<Segment>, HintSource)>,
    pub(super) tail: TailScan,
}

impl Recovered {
    /// All segments with their records, those of the tail included.
    pub(super) fn take_sources(&mut self) -> Vec<(Arc<Segment>, HintSource)> {
        let mut sources = std::mem::take(&mut self.sources);
        for t in &mut self.tail.segments {
            let hints = std::mem::take(&mut t.hints);
            sources.push((Arc::clone(&t.segment), HintSource::Decoded(hints)));
        }
        sources
    }
}

impl Core {
    /// Opens and reads every segment. Changes nothing on disk.
    pub(super) fn recover(
        &self,
        segments: &[SegmentState],
        watermark: u64,
        sealed_next: u64,
        base: Option<&Base>,
        report: &mut RecoveryReport,
    ) -> Result<Recovered, OpenError> {
        self.segments.leave_slots(base.map_or(0, Base::slot_count));
        self.check_numbers(segments, watermark.max(sealed_next))?;
        let mut sources = Vec::new();
        let mut unsealed = Vec::new();
        for state in segments {
            let segment = match self.open_segment(state.id, base) {
                Err(_) if planted!(MissingSegmentAccepted) => continue,
                opened => opened?,
            };
            let is_log = segment.kind == SegmentKind::Log;
            match state.seal {
                Some(seal)
                    if base.is_some_and(|b| b.is_covered(state.id))
                        && (unsealed.is_empty() || !is_log) =>
                {
                    self.take_extent(&segment, &seal)?;
                    let map = self.map_sealed(&segment, &seal);
                    segment.set_sealed_unseen(seal, map);
                    report.sealed_segments += 1;
                }
                Some(seal) if unsealed.is_empty() || !is_log => {
                    let hints = self.open_sealed(&segment, &seal, report)?;
                    report.sealed_segments += 1;
                    sources.push((segment, hints));
                }
                Some(_) => {
                    let what = "sealed, but an earlier segment is not";
                    return Err(refuse(Case::Inconsistent, &segment.path, 0, what));
                }
                None if !is_log => {
                    let what = "compacted, but not sealed";
                    return Err(refuse(Case::Inconsistent, &segment.path, 0, what));
                }
                None => unsealed.push((segment, state.len)),
            }
        }
        let (epoch_max, is_clean) = {
            let manifest = self.manifest.lock();
            (manifest.state.epoch, manifest.state.is_clean)
        };
        let start = TailStart {
            watermark,
            closed_at: is_clean.then_some(watermark),
            expected: sealed_next,
            epoch_max,
            hash_seed: self.hash_seed,
        };
        let tail = scan_tail(unsealed, start, &self.dir, report)?;
        Ok(Recovered { sources, tail })
    }

    /// No store has ever used up its numbers: a manifest that says so is wrong.
    fn check_numbers(&self, segments: &[SegmentState], seqno: u64) -> Result<(), OpenError> {
        let seals = segments.iter().filter_map(|s| s.seal);
        let seqno_max = seals.map(|seal| seal.first.max(seal.next)).fold(seqno, u64::max);
        if seqno_max > SEQNO_MAX || self.manifest.lock().state.epoch == u32::MAX {
            let path = self.dir.join(MANIFEST_NAME);
            return Err(refuse(Case::Inconsistent, &path, 0, "numbers are out of range"));
        }
        Ok(())
    }

    fn open_segment(&self, id: u64, base: Option<&Base>) -> Result<Arc<Segment>, OpenError> {
        let path = self.dir.join(file_name(id));
        let mode = if self.options.read_only { OpenMode::Read } else { OpenMode::ReadWrite };
        let file = match self.options.vfs.open(&path, mode) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse(Case::MissingSegment, &path, 0, "listed but not there"));
            }
            Err(e) => return Err(IoError::new("open", path, e).into()),
        };
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        let read =
            read_full_at(&*file, &mut bytes, 0).map_err(|e| IoError::new("read", &path, e))?;
        let (header, salt) = match SegmentHeader::decode(bytes.get(..read).unwrap_or(&[])) {
            Ok(decoded) => decoded,
            Err(HeaderError::Damaged(what)) => {
                return Err(refuse(Case::DamagedHeader, &path, 0, what));
            }
            Err(HeaderError::Version(major, minor)) => {
                return Err(OpenError::Version { file: path, found: (major, minor) });
            }
        };
        if header.store != self.store_id || header.id != id {
            let what = format!("its header says segment {} of another store", header.id);
            return Err(refuse(Case::ForeignSegment, &path, 0, what));
        }
        let add = |slot| Segment::new(&header, slot, salt, path.clone(), file);
        let saved = base.and_then(|base| base.segment(id));
        if saved.is_some_and(|saved| saved.salt != salt) {
            return Err(refuse(Case::ForeignSegment, &path, 0, "not the one of the checkpoint"));
        }
        let added = match saved {
            Some(saved) => self.segments.place(saved.slot, add),
            None => self.segments.add(add),
        };
        added.ok_or_else(|| refuse(Case::Inconsistent, &self.dir, 0, "too many segments"))
    }

    /// Takes over the extent of a sealed segment from the manifest.
    fn take_extent(&self, segment: &Segment, seal: &Seal) -> Result<(), OpenError> {
        let len = segment.file_len()?;
        if len < seal.data_end {
            let what = format!("file has {len} bytes, its records end at {}", seal.data_end);
            return Err(refuse(Case::DamagedSealed, &segment.path, len, what));
        }
        segment.end.store(seal.data_end, Ordering::Release);
        segment.first.store(seal.first, Ordering::Release);
        segment.next.store(seal.next, Ordering::Release);
        Ok(())
    }

    fn map_sealed(&self, segment: &Segment, seal: &Seal) -> Option<Map> {
        self.map(segment, seal.file_len).or_else(|| self.map(segment, seal.data_end))
    }

    /// Takes over a sealed segment: extent from the manifest, records from the hints, or from the
    /// log if the hints are damaged.
    fn open_sealed(
        &self,
        segment: &Arc<Segment>,
        seal: &Seal,
        report: &mut RecoveryReport,
    ) -> Result<HintSource, OpenError> {
        self.take_extent(segment, seal)?;
        segment.set_sealed(*seal, self.map_sealed(segment, seal));
        match read_hints(segment, seal)? {
            Ok(map) => Ok(HintSource::Encoded(map)),
            Err(what) => {
                report.note(Case::DamagedHints, &segment.path, seal.data_end, what);
                let hints = match segment.kind {
                    SegmentKind::Log => self.rescan_sealed(segment, seal)?,
                    SegmentKind::Compacted => self.rescan_compacted(segment, seal)?,
                };
                segment.set_hints(hints.clone());
                Ok(HintSource::Decoded(hints))
            }
        }
    }
}

impl Core {
    /// What is wrong with the hints of a segment, if it is sealed and something is.
    pub(super) fn check_hints(&self, segment: &Segment) -> Result<Option<Corruption>, ReadError> {
        let Some(seal) = segment.seal() else { return Ok(None) };
        let read = read_hints(segment, &seal)?;
        Ok(read.err().map(|what| segment.corruption(seal.data_end, what)))
    }

    /// Reads the records of a sealed segment from its frames. Everything in it was durable when it
    /// was sealed, so any damage refuses.
    fn rescan_sealed(&self, segment: &Arc<Segment>, seal: &Seal) -> Result<Vec<Hint>, OpenError> {
        let start = TailStart {
            watermark: seal.next,
            closed_at: None,
            expected: seal.first,
            epoch_max: u32::MAX,
            hash_seed: self.hash_seed,
        };
        let mut report = RecoveryReport::default();
        let scan = scan_tail(vec![(Arc::clone(segment), 0)], start, &self.dir, &mut report)?;
        segment.end.store(seal.data_end, Ordering::Release);
        if scan.is_in_batch {
            let what = "its hints are damaged, and its last batch goes on in the next segment";
            return Err(refuse(Case::DamagedSealed, &segment.path, seal.data_end, what));
        }
        Ok(scan.segments.into_iter().next().map(|s| s.hints).unwrap_or_default())
    }
}

impl Core {
    /// Reads the records of a compacted segment from its frames.
    fn rescan_compacted(&self, segment: &Segment, seal: &Seal) -> Result<Vec<Hint>, OpenError> {
        let len = usize::try_from(seal.data_end).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len];
        segment.read_at(&mut bytes, 0)?;
        let mut hints = Vec::new();
        let mut offset = SEGMENT_HEADER_LEN;
        while offset < seal.data_end {
            let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or(&[]);
            let frame = match frame_at(rest, segment.salt, offset) {
                Step::Frame(frame) => frame,
                Step::More(_) => {
                    let what = "frame reaches behind the end of the segment";
                    return Err(refuse(Case::DamagedSealed, &segment.path, offset, what));
                }
                Step::Bad(at, what) => {
                    return Err(refuse(Case::DamagedSealed, &segment.path, offset + at, what));
                }
            };
            for (at, record) in frame.records() {
                let hint = Hint::of(self.hash_seed, &frame.header, offset + at, &record);
                if !seal.numbers().contains(&hint.seqno) && !planted!(FramesOfOthersCount) {
                    let what = "a frame's sequence numbers are not of the segment";
                    return Err(refuse(Case::DamagedSealed, &segment.path, offset, what));
                }
                hints.push(hint);
            }
            offset += frame.len();
        }
        Ok(hints)
    }
}

/// The hints of a sealed segment with a footer and a checksum that are right; else what is wrong.
pub(super) fn read_hints(
    segment: &Segment,
    seal: &Seal,
) -> Result<Result<Map, &'static str>, IoError> {
    let len = segment.file_len()?;
    if len != seal.file_len || len < seal.data_end + SEGMENT_FOOTER_LEN {
        return Ok(Err("the file has another length than when it was sealed"));
    }
    let size = usize::try_from(len - seal.data_end).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    if segment.read_at(&mut bytes, seal.data_end)? < size {
        return Ok(Err("the file ends within its hints"));
    }
    let footer_bytes = bytes.split_off(size - SEGMENT_FOOTER_LEN as usize);
    let Some(footer) = SegmentFooter::decode(&footer_bytes, segment.salt) else {
        return Ok(Err("footer checksum does not match"));
    };
    let fits = footer.id == segment.id
        && footer.data_end == seal.data_end
        && footer.next == seal.next
        && footer.first == seal.first
        && footer.hints.checked_mul(HINT_LEN as u64) == Some(bytes.len() as u64);
    if !fits {
        return Ok(Err("footer does not agree with the manifest"));
    }
    let is_right = checksum::salted(segment.salt, &bytes) == footer.hints_checksum;
    if !is_right && !planted!(HintChecksumIgnored) {
        return Ok(Err("hints checksum does not match"));
    }
    let mut free = SEGMENT_HEADER_LEN..seal.data_end;
    let mut is_of_segment = |hint: Hint| {
        let Some(end) = hint.offset.checked_add(hint.len) else { return false };
        let is_in_order = free.start <= hint.offset && hint.offset < end && end <= free.end;
        free.start = end;
        let is_numbered = seal.numbers().contains(&hint.seqno) || planted!(HintsOfOthersCount);
        is_in_order && is_numbered
    };
    if !bytes.chunks_exact(HINT_LEN).all(|b| Hint::decode(b).is_some_and(&mut is_of_segment)) {
        return Ok(Err("a hint is of no record of the segment"));
    }
    Ok(Ok(Map::Memory(Arc::from(bytes))))
}
