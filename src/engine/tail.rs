//! Reads the unsealed segments, the tail of the log, and finds where it ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::OpenError;
use super::recovery::{Case, RecoveryReport, refuse};
use super::segments::Segment;
use crate::format::hint::Hint;
use crate::format::record::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use crate::format::scan::{Frame, Step, frame_at};
use crate::format::segment::SEGMENT_HEADER_LEN;
use crate::limits::SEQNO_MAX;
use crate::vfs::IoError;

/// What the tail holds.
#[derive(Default)]
pub(super) struct TailScan {
    /// The unsealed segments that stay, in the order of the log.
    pub(super) segments: Vec<TailSegment>,
    /// Segments behind a gap: none of their frames counts.
    pub(super) dropped: Vec<Arc<Segment>>,
    /// Empty segments that are not needed: a batch over several segments made them, and none of
    /// its frames reached the disk.
    pub(super) unused: Vec<Arc<Segment>>,
    /// Sequence number after the last record.
    pub(super) next_seqno: u64,
    /// The log ends within a batch.
    pub(super) is_in_batch: bool,
}

/// One unsealed segment.
pub(super) struct TailSegment {
    index: usize,
    pub(super) segment: Arc<Segment>,
    /// Its records that count.
    pub(super) hints: Vec<Hint>,
    /// Nothing can be appended to it: an end frame closes it, or its successor has frames.
    pub(super) is_full: bool,
    /// Bytes behind the last frame are not all zero.
    pub(super) is_dirty: bool,
}

/// Bytes read at once.
const WINDOW: u64 = 1 << 20;

/// A buffer over a segment's file that moves forward.
pub(super) struct Window<'a> {
    segment: &'a Segment,
    file_len: u64,
    start: u64,
    buf: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment) -> Result<Self, IoError> {
        Ok(Self::up_to(segment, segment.file_len()?))
    }

    /// Shows the first `len` bytes only.
    pub(super) fn up_to(segment: &'a Segment, len: u64) -> Self {
        Window { segment, file_len: len, start: 0, buf: Vec::new() }
    }

    /// The bytes from `offset`: at least `len` of them, unless the file ends before.
    pub(super) fn at(&mut self, offset: u64, len: u64) -> Result<&[u8], IoError> {
        let end = (offset + len).min(self.file_len);
        let have = self.start..self.start + self.buf.len() as u64;
        if !(have.contains(&offset) && end <= have.end) && offset < end {
            let size = (end - offset).max(WINDOW.min(self.file_len - offset));
            self.buf.clear();
            self.buf.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
            let read = self.segment.read_at(&mut self.buf, offset)?;
            self.buf.truncate(read);
            self.start = offset;
        }
        let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.buf.get(skip..).unwrap_or(&[]))
    }
}

/// How the frames of one segment end.
enum End {
    /// With an end frame.
    Closed,
    /// With bytes that are no frame, at this offset behind the last one.
    Open(u64, &'static str),
}

/// What is known before the tail is read.
#[derive(Clone, Copy)]
pub(super) struct TailStart {
    /// Everything below it is durable, says the manifest.
    pub(super) watermark: u64,
    /// The log was closed at this sequence number: frames from there on are not its own. They can
    /// be there in a backup that a later one was interrupted over, which brings more of the log.
    pub(super) closed_at: Option<u64>,
    /// Sequence number of the tail's first record.
    pub(super) expected: u64,
    /// No frame can have a later epoch.
    pub(super) epoch_max: u32,
    pub(super) hash_seed: u64,
}

struct Scanner {
    start: TailStart,
    watermark: u64,
    expected: u64,
    /// Records of a batch whose last frame has not come yet, each with the index of its segment.
    staged: Vec<(usize, Hint)>,
    /// A batch has begun and not ended. True at the start: it may have begun in a sealed segment,
    /// which is sealed only when the whole batch is durable, or was given up.
    in_batch: bool,
    /// Records that count, by segment.
    hints: Vec<Vec<Hint>>,
}

/// Where the log ends and what stands there.
struct Stop {
    segment: Arc<Segment>,
    offset: u64,
    what: &'static str,
    is_dirty: bool,
}

/// Reads `unsealed`, segments with the lengths that their files were made with, and applies the
/// rule of the watermark. `dir` is for the error where there is no segment at all.
pub(super) fn scan_tail(
    unsealed: Vec<(Arc<Segment>, u64)>,
    start: TailStart,
    dir: &Path,
    report: &mut RecoveryReport,
) -> Result<TailScan, OpenError> {
    let mut scanner = Scanner {
        start,
        watermark: start.watermark,
        expected: start.expected,
        staged: Vec::new(),
        in_batch: true,
        hints: unsealed.iter().map(|_| Vec::new()).collect(),
    };
    let mut out = TailScan::default();
    let mut stop: Option<Stop> = None;
    let mut has_prepared = false;
    for (i, (segment, made_len)) in unsealed.iter().enumerate() {
        let mut window = Window::new(segment)?;
        if stop.is_some() {
            // Behind the end: only the watermarks in it still matter.
            check_len(segment, window.file_len, *made_len)?;
            if scanner.search_watermarks(&mut window, SEGMENT_HEADER_LEN)? {
                out.dropped.push(Arc::clone(segment));
            } else if has_prepared {
                out.unused.push(Arc::clone(segment));
            } else {
                has_prepared = true;
                out.segments.push(TailSegment::new(i, segment, false, false));
            }
            continue;
        }
        let mut is_dirty = false;
        let mut is_full = true;
        if let End::Open(bad_at, what) = scanner.scan_segment(i, segment, &mut window)? {
            is_dirty = scanner.search_watermarks(&mut window, segment.end())?
                || planted!(ZeroTailIsDamage);
            is_full = match unsealed.get(i + 1) {
                Some((next, _)) => scanner.continues_in(next)?,
                None => false,
            };
            if !is_full {
                check_len(segment, window.file_len, *made_len)?;
                let offset = segment.end() + bad_at;
                stop = Some(Stop { segment: Arc::clone(segment), offset, what, is_dirty });
            }
        }
        out.segments.push(TailSegment::new(i, segment, is_full, is_dirty));
    }
    scanner.judge(stop.as_ref(), &out, dir, report)?;
    for segment in &mut out.segments {
        segment.hints =
            scanner.hints.get_mut(segment.index).map(std::mem::take).unwrap_or_default();
        report.tail_records += segment.hints.len() as u64;
        report.tail_bytes += segment.segment.end() - SEGMENT_HEADER_LEN;
    }
    report.tail_segments += out.segments.len() as u64;
    report.watermark = scanner.watermark;
    report.next_seqno = scanner.expected;
    out.is_in_batch = scanner.in_batch && !scanner.staged.is_empty();
    out.next_seqno = scanner.expected;
    Ok(out)
}

/// A segment is on record with a length that was durable before, and is cut only after the shorter
/// one is on record: a file shorter than that has lost something, perhaps the newest watermarks.
fn check_len(segment: &Segment, len: u64, made_len: u64) -> Result<(), OpenError> {
    if len < made_len && !planted!(ShortFileAccepted) {
        let what = format!("has {len} bytes, had {made_len}");
        return Err(refuse(Case::ShortFile, &segment.path, len, what));
    }
    Ok(())
}

impl TailSegment {
    fn new(index: usize, segment: &Arc<Segment>, is_full: bool, is_dirty: bool) -> Self {
        let segment = Arc::clone(segment);
        TailSegment { index, segment, hints: Vec::new(), is_full, is_dirty }
    }
}

impl Scanner {
    /// Reads frames until there is none; sets the segment's end behind the last.
    fn scan_segment(
        &mut self,
        index: usize,
        segment: &Segment,
        window: &mut Window<'_>,
    ) -> Result<End, OpenError> {
        let mut offset = SEGMENT_HEADER_LEN;
        let mut want = FRAME_HEADER_LEN as u64;
        loop {
            segment.end.store(offset, Ordering::Release);
            let file_len = window.file_len;
            let bytes = window.at(offset, want)?;
            let frame = match frame_at(bytes, segment.salt, offset) {
                Step::Frame(frame) => frame,
                Step::More(len) if len > want && offset + len <= file_len => {
                    want = len;
                    continue;
                }
                Step::More(_) => {
                    return Ok(End::Open(0, "frame reaches behind the end of the file"));
                }
                Step::Bad(at, what) => return Ok(End::Open(at, what)),
            };
            want = FRAME_HEADER_LEN as u64;
            // Asked first: a backup leaves epochs to its source, so that what a later one brings
            // has none that is ahead.
            let is_ahead = frame.header.epoch > self.start.epoch_max;
            let is_behind_close = self.is_behind_close(&frame.header);
            if is_behind_close && (!is_ahead || planted!(LostEditsIgnored)) {
                return Ok(End::Open(0, "frame behind the end of a log that was closed"));
            }
            if is_ahead {
                let what = format!(
                    "epoch {}, the manifest knows {}",
                    frame.header.epoch, self.start.epoch_max
                );
                return Err(refuse(Case::EpochAhead, &segment.path, offset, what));
            }
            if frame.header.base != self.expected && !planted!(SequenceGapAccepted) {
                return Ok(End::Open(0, "frame does not continue the log"));
            }
            if frame.header.base > SEQNO_MAX {
                return Ok(End::Open(0, "sequence number over the limit"));
            }
            if frame.header.kind == FrameKind::End {
                self.watermark = self.watermark.max(frame.header.watermark);
                segment.end.store(offset + frame.len(), Ordering::Release);
                return Ok(End::Closed);
            }
            if let Err(what) = self.take_frame(index, segment, offset, &frame) {
                return Ok(End::Open(0, what));
            }
            offset += frame.len();
        }
    }

    /// Takes over the records of a frame at `offset`.
    fn take_frame(
        &mut self,
        index: usize,
        segment: &Segment,
        offset: u64,
        frame: &Frame<'_>,
    ) -> Result<(), &'static str> {
        let header = &frame.header;
        if header.first {
            // What was staged was given up by its writer, who was told so.
            self.staged.clear();
        } else if !self.in_batch {
            return Err("frame continues no batch");
        }
        let staged = self.staged.len();
        for (i, (at, record)) in (0u32..).zip(frame.records()) {
            if record.header.index != i {
                self.staged.truncate(staged);
                return Err("record out of its place");
            }
            let hint = Hint::of(self.start.hash_seed, header, offset + at, &record);
            self.staged.push((index, hint));
        }
        self.in_batch = !header.last;
        if header.last || planted!(UnfinishedBatchAccepted) {
            for (index, hint) in self.staged.drain(..) {
                if let Some(hints) = self.hints.get_mut(index) {
                    hints.push(hint);
                }
            }
        }
        self.expected = header.base + u64::from(header.count);
        self.watermark = self.watermark.max(header.watermark);
        if segment.first.load(Ordering::Relaxed) == 0 {
            segment.first.store(header.base, Ordering::Relaxed);
        }
        segment.next.store(self.expected, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at everything from `offset` to the end of the file: takes the watermark of every
    /// frame header there; true if not all bytes are zero.
    fn search_watermarks(
        &mut self,
        window: &mut Window<'_>,
        mut offset: u64,
    ) -> Result<bool, OpenError> {
        let mut is_dirty = false;
        let is_behind_close = self.start.closed_at.is_some_and(|end| self.expected >= end);
        let salt = window.segment.salt;
        while offset < window.file_len {
            let bytes = window.at(offset, WINDOW)?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|b| *b != 0) {
                is_dirty = true;
                if is_behind_close && !planted!(FramesBehindCloseCount) {
                    return Ok(true);
                }
                for at in (0..bytes.len()).step_by(8) {
                    let Some(rest) = bytes.get(at..) else { break };
                    let Some(header) = FrameHeader::verify(rest, salt, offset + at as u64) else {
                        continue;
                    };
                    self.watermark = self.watermark.max(header.watermark);
                }
            }
            let len = bytes.len() as u64;
            // Windows overlap by a header, so that none is missed at an edge.
            let overlap = FRAME_HEADER_LEN as u64;
            let is_last = offset + len >= window.file_len || len <= overlap;
            offset += if is_last { len } else { (len - overlap) & !7 };
        }
        Ok(is_dirty)
    }

    /// True if `next` starts with a frame that continues the log.
    fn continues_in(&self, next: &Segment) -> Result<bool, OpenError> {
        let mut bytes = [0; FRAME_HEADER_LEN];
        let read = next.read_at(&mut bytes, SEGMENT_HEADER_LEN)?;
        let header =
            FrameHeader::verify(bytes.get(..read).unwrap_or(&[]), next.salt, SEGMENT_HEADER_LEN);
        Ok(header.is_some_and(|h| {
            !self.is_behind_close(&h) && h.base == self.expected || planted!(SequenceGapAccepted)
        }))
    }

    /// True for a frame that is not part of a log that was closed before it. An end frame holds
    /// nothing, and belongs to the log if no later open has written it.
    fn is_behind_close(&self, header: &FrameHeader) -> bool {
        let is_later = self.start.closed_at.is_some_and(|end| header.base >= end);
        let is_end = header.kind == FrameKind::End && header.epoch <= self.start.epoch_max;
        is_later && !is_end && !planted!(FramesBehindCloseCount)
    }

    /// Decides what the end of the log means.
    fn judge(
        &self,
        stop: Option<&Stop>,
        out: &TailScan,
        dir: &Path,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let last = out.segments.last().map(|s| &s.segment);
        let (path, offset, what) = match (stop, last) {
            (Some(stop), _) => (stop.segment.path.as_path(), stop.offset, stop.what),
            (None, Some(last)) => (last.path.as_path(), last.end(), "the log ends"),
            (None, None) => (dir, 0, "there is no segment"),
        };
        if self.expected < self.watermark && !planted!(WatermarkIgnored) {
            let what = format!(
                "{what}; the log ends at sequence number {}, everything below {} was durable",
                self.expected, self.watermark
            );
            return Err(refuse(Case::BelowWatermark, path, offset, what));
        }
        if self.expected > SEQNO_MAX {
            let what = format!("sequence number {} is over the limit", self.expected);
            return Err(refuse(Case::Inconsistent, path, offset, what));
        }
        if let Some(stop) = stop.filter(|stop| stop.is_dirty && !planted!(CutNotReported)) {
            let what = format!("{}; cut at byte {}", stop.what, stop.segment.end());
            report.note(Case::TornTail, path, stop.offset, what);
        }
        for segment in &out.dropped {
            let what = "the frames before it never reached the disk";
            report.note(Case::Gap, &segment.path, SEGMENT_HEADER_LEN, what);
        }
        if !self.staged.is_empty() {
            let what = format!("{} records of an unfinished batch do not count", self.staged.len());
            report.note(Case::IncompleteBatch, path, offset, what);
        }
        Ok(())
    }
}
