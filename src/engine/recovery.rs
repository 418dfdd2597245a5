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

use std::fmt;
use std::path::{Path, PathBuf};
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
    file_name, parse_file_name,
};
use crate::vfs::{IoError, Map, OpenMode, Vfs, read_full_at};

/// Sequence numbers stay below this: a million records a second would take 146,000 years.
const SEQNO_MAX: u64 = 1 << 62;

/// What an open can find. [`Case::decision`] is the whole policy of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Case {
    /// Bytes that are no whole frame follow the last one, at or above the watermark.
    TornTail,
    /// A segment's first frame does not continue the log, at or above the watermark: the frames in
    /// between were never durable.
    Gap,
    /// The log ends within a batch of several frames.
    IncompleteBatch,
    /// The log ends, or is damaged, below the watermark.
    BelowWatermark,
    /// The file of an unsealed segment is shorter than it was: its end may have held anything.
    ShortFile,
    /// Hints or footer of a sealed segment are damaged; its records are not.
    DamagedHints,
    /// A sealed segment is too short, or a record in it is damaged and its hints are too.
    DamagedSealed,
    /// A segment's header is damaged.
    DamagedHeader,
    /// A segment belongs to another store or has another id than its name says.
    ForeignSegment,
    /// A frame was written by a later open than the manifest knows.
    EpochAhead,
    /// A segment that the manifest lists is not there.
    MissingSegment,
    /// A segment that the manifest has removed is still there, or one that a compaction had not
    /// finished.
    DeadSegment,
    /// A segment that the manifest never listed is there, without records.
    UnlistedEmptySegment,
    /// A segment that the manifest never listed is there, with records.
    UnlistedSegment,
    /// The last edit of the manifest is torn.
    TornManifest,
    /// The checkpoint is damaged.
    DamagedCheckpoint,
    /// The checkpoint is whole, but not one of this store as it is: a crash can leave one that is
    /// older or newer than the manifest.
    StaleCheckpoint,
    /// There are segments but no manifest.
    MissingManifest,
    /// The records contradict each other.
    Inconsistent,
}

/// What is done about a [`Case`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Go on, report it.
    Report,
    /// Forget what follows, report it.
    Cut,
    /// Read the records instead, report it.
    Rescan,
    /// Remove the file, report it.
    Remove,
    /// Fail with the place of the damage; change nothing.
    Refuse,
}

impl Case {
    /// Every case, for tests and documentation.
    pub const ALL: [Case; 19] = [
        Case::TornTail,
        Case::Gap,
        Case::IncompleteBatch,
        Case::BelowWatermark,
        Case::ShortFile,
        Case::DamagedHints,
        Case::DamagedSealed,
        Case::DamagedHeader,
        Case::ForeignSegment,
        Case::EpochAhead,
        Case::MissingSegment,
        Case::DeadSegment,
        Case::UnlistedEmptySegment,
        Case::UnlistedSegment,
        Case::TornManifest,
        Case::DamagedCheckpoint,
        Case::StaleCheckpoint,
        Case::MissingManifest,
        Case::Inconsistent,
    ];

    /// What is done about it.
    pub fn decision(self) -> Decision {
        match self {
            Case::TornManifest | Case::DamagedCheckpoint | Case::StaleCheckpoint => {
                Decision::Report
            }
            Case::TornTail | Case::Gap | Case::IncompleteBatch => Decision::Cut,
            Case::DamagedHints => Decision::Rescan,
            Case::DeadSegment | Case::UnlistedEmptySegment => Decision::Remove,
            Case::BelowWatermark
            | Case::ShortFile
            | Case::DamagedSealed
            | Case::DamagedHeader
            | Case::ForeignSegment
            | Case::EpochAhead
            | Case::MissingSegment
            | Case::UnlistedSegment
            | Case::MissingManifest
            | Case::Inconsistent => Decision::Refuse,
        }
    }

    /// True if it is about the checkpoint, which nothing depends on.
    pub fn is_of_checkpoint(self) -> bool {
        matches!(self, Case::DamagedCheckpoint | Case::StaleCheckpoint)
    }

    /// The case in words.
    pub fn label(self) -> &'static str {
        match self {
            Case::TornTail => "torn tail",
            Case::Gap => "gap between segments",
            Case::IncompleteBatch => "incomplete batch",
            Case::BelowWatermark => "damage below the watermark",
            Case::ShortFile => "file cut short",
            Case::DamagedHints => "damaged hints",
            Case::DamagedSealed => "damaged sealed segment",
            Case::DamagedHeader => "damaged segment header",
            Case::ForeignSegment => "segment of another store",
            Case::EpochAhead => "frame of a later open",
            Case::MissingSegment => "missing segment",
            Case::DeadSegment => "removed segment",
            Case::UnlistedEmptySegment => "unlisted empty segment",
            Case::UnlistedSegment => "unlisted segment with records",
            Case::TornManifest => "torn manifest",
            Case::DamagedCheckpoint => "damaged checkpoint",
            Case::StaleCheckpoint => "stale checkpoint",
            Case::MissingManifest => "missing manifest",
            Case::Inconsistent => "inconsistent records",
        }
    }
}

/// Something that recovery found and dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub case: Case,
    /// The file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// Details.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, file) = (self.case.label(), self.file.display());
        write!(f, "{case}: {file} at byte {}: {}", self.offset, self.what)
    }
}

/// What an open found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The store was created by this open.
    pub created: bool,
    /// The store was closed in order: nothing was written after its last close.
    pub clean: bool,
    /// Sealed segments, loaded from their hints or from the checkpoint.
    pub sealed_segments: u64,
    /// The sequence number of the checkpoint that the index was loaded from: only what is not below
    /// it was replayed. `None` if there was none, or it was ignored.
    pub checkpoint: Option<u64>,
    /// Unsealed segments, read frame by frame.
    pub tail_segments: u64,
    /// Records that the tail held.
    pub tail_records: u64,
    /// Bytes of frames that the tail held.
    pub tail_bytes: u64,
    /// Sequence number below which everything was known to be durable.
    pub watermark: u64,
    /// Sequence number after the last record recovered.
    pub next_seqno: u64,
    /// What was found and dealt with, if anything.
    pub notes: Vec<Note>,
}

impl RecoveryReport {
    /// The notes that say that bytes were cut off.
    pub fn cuts(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(|n| n.case.decision() == Decision::Cut)
    }

    /// True if nothing was found but perhaps a checkpoint that does not count.
    pub(super) fn is_quiet(&self) -> bool {
        self.notes.iter().all(|n| n.case.is_of_checkpoint())
    }

    pub(super) fn note(&mut self, case: Case, file: &Path, offset: u64, what: impl Into<String>) {
        self.notes.push(Note { case, file: file.to_owned(), offset, what: what.into() });
    }
}

/// The error that refuses an open because of `case`.
pub(super) fn refuse(case: Case, file: &Path, offset: u64, what: impl fmt::Display) -> OpenError {
    let what = format!("{}: {what}", case.label());
    OpenError::Corrupt(Corruption { file: file.to_owned(), offset, what })
}

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
                hints.push(Hint::of(self.hash_seed, &frame.header, offset + at, &record));
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
    Ok(Ok(Map::Memory(Arc::from(bytes))))
}

/// Judges the segment files that the manifest does not list; returns those to remove.
pub(super) fn judge_unlisted(
    vfs: &dyn Vfs,
    dir: &Path,
    listed: &[SegmentState],
    next_segment: u64,
    report: &mut RecoveryReport,
) -> Result<Vec<PathBuf>, OpenError> {
    let names = vfs.list(dir).map_err(|e| IoError::new("list", dir, e))?;
    let mut dead = Vec::new();
    for name in names {
        let Some(id) = parse_file_name(&name) else { continue };
        if listed.iter().any(|s| s.id == id) {
            continue;
        }
        let path = dir.join(&name);
        let case = if id < next_segment || is_compacted(vfs, &path)? {
            Case::DeadSegment
        } else if has_frame(vfs, &path)? {
            Case::UnlistedSegment
        } else {
            Case::UnlistedEmptySegment
        };
        if case.decision() == Decision::Refuse {
            return Err(refuse(case, &path, 0, "the manifest has lost an edit"));
        }
        report.note(case, &path, 0, "not part of the store");
        dead.push(path);
    }
    Ok(dead)
}

/// True if the file is a compacted segment: it is not listed before it is whole, and what it was
/// made from is not removed before it is listed, so an unlisted one is never missed.
fn is_compacted(vfs: &dyn Vfs, path: &Path) -> Result<bool, OpenError> {
    let failed = |e| OpenError::Io(IoError::new("read", path, e));
    let file = vfs.open(path, OpenMode::Read).map_err(failed)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(failed)?;
    let header = SegmentHeader::decode(bytes.get(..read).unwrap_or(&[]));
    Ok(header.is_ok_and(|(header, _)| header.kind == SegmentKind::Compacted))
}

/// True if the file is a segment that starts with a whole frame.
fn has_frame(vfs: &dyn Vfs, path: &Path) -> Result<bool, OpenError> {
    let failed = |e| OpenError::Io(IoError::new("read", path, e));
    let file = vfs.open(path, OpenMode::Read).map_err(failed)?;
    let header_len = SEGMENT_HEADER_LEN as usize;
    let mut bytes = vec![0; header_len + crate::format::record::FRAME_HEADER_LEN];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    let Ok((_, salt)) = SegmentHeader::decode(&bytes) else { return Ok(false) };
    let frame = bytes.get(header_len..).unwrap_or(&[]);
    Ok(!matches!(frame_at(frame, salt, SEGMENT_HEADER_LEN), Step::Bad(0, _)))
}
