//! [`Cursor`]: a place between two frames of the log, and how it moves from segment to segment.

use std::sync::Arc;

use super::super::segments::Segment;
use super::FeedError;
use super::files::LogFiles;
use super::position::{FeedPosition, Mark};
use crate::format::manifest::EndMark;
use crate::format::record::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use crate::format::scan::{Step, frame_at};
use crate::format::segment::SEGMENT_HEADER_LEN;
use crate::vfs::IoError;

/// Bytes read at once from a segment that is not mapped.
const WINDOW_LEN: usize = 64 << 10;

/// A place between two frames.
#[derive(Clone)]
pub(super) struct Cursor {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    /// Sequence number of the frame that stands there, or will.
    pub(super) expected: u64,
}

/// Where a frame stands.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) header: FrameHeader,
}

/// A whole frame with right checksums: a piece of a mapped segment, or a buffer.
#[derive(Clone)]
pub(super) enum FrameBytes {
    Mapped(Arc<Segment>, std::ops::Range<usize>),
    Heap(Vec<u8>),
}

impl FrameBytes {
    /// The frame's records, one after another.
    pub(super) fn records(&self) -> &[u8] {
        let bytes = match self {
            FrameBytes::Mapped(segment, range) => {
                segment.map().and_then(|map| map.get(range.clone())).unwrap_or(&[])
            }
            FrameBytes::Heap(bytes) => bytes,
        };
        bytes.get(FRAME_HEADER_LEN..).unwrap_or(&[])
    }
}

/// No whole frame, although its header is right: where, and what is wrong.
pub(super) struct BadFrame {
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

/// A stretch of a segment that was read. It may be older than what stands there by now: what does
/// not verify is read again.
#[derive(Default)]
pub(super) struct Window {
    segment: u64,
    start: u64,
    buf: Vec<u8>,
}

impl Window {
    /// The bytes from `offset` on, as far as they were read.
    fn cached(&self, segment: &Segment, offset: u64) -> &[u8] {
        if self.segment != segment.id {
            return &[];
        }
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.buf.get(skip..)).unwrap_or(&[])
    }

    fn fill(&mut self, segment: &Segment, offset: u64) -> Result<(), IoError> {
        self.buf.clear();
        self.buf.resize(WINDOW_LEN, 0);
        (self.segment, self.start) = (segment.id, offset);
        let read = segment.read_at(&mut self.buf, offset);
        self.buf.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }

    /// The frame header at `offset`, if one stands there.
    pub(super) fn header(
        &mut self,
        segment: &Segment,
        offset: u64,
    ) -> Result<Option<FrameHeader>, IoError> {
        let verify = |bytes: &[u8]| FrameHeader::verify(bytes, segment.salt, offset);
        if let Some(map) = segment.map() {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            return Ok(map.get(start..).and_then(verify));
        }
        if let Some(header) = verify(self.cached(segment, offset)) {
            return Ok(Some(header));
        }
        self.fill(segment, offset)?;
        Ok(verify(self.cached(segment, offset)))
    }

    /// The frame at `place`, verified.
    pub(super) fn frame(&mut self, place: &Place) -> Result<Result<FrameBytes, BadFrame>, IoError> {
        let Place { segment, offset, header } = place;
        let start = usize::try_from(*offset).unwrap_or(usize::MAX);
        let len = usize::try_from(FRAME_HEADER_LEN as u64 + header.len).unwrap_or(usize::MAX);
        let whole = |bytes: &[u8]| match frame_at(bytes, segment.salt, *offset) {
            Step::Frame(_) => Ok(()),
            Step::More(_) => {
                let what = "frame reaches behind the end of its segment";
                Err(BadFrame { offset: *offset, what })
            }
            Step::Bad(at, what) => Err(BadFrame { offset: offset + at, what }),
        };
        if let Some(map) = segment.map() {
            let range = start..start.saturating_add(len);
            let bytes = map.get(start..).unwrap_or(&[]);
            return Ok(whole(bytes).map(|()| FrameBytes::Mapped(Arc::clone(segment), range)));
        }
        if let Some(bytes) = self.cached(segment, *offset).get(..len)
            && whole(bytes).is_ok()
        {
            return Ok(Ok(FrameBytes::Heap(bytes.to_vec())));
        }
        // Not more than the file holds, whatever the header says.
        let there = segment.file_len()?.saturating_sub(*offset);
        let mut bytes = vec![0; len.min(usize::try_from(there).unwrap_or(usize::MAX))];
        let read = segment.read_at(&mut bytes, *offset)?;
        bytes.truncate(read);
        Ok(whole(&bytes).map(|()| FrameBytes::Heap(bytes)))
    }
}

impl Place {
    pub(super) fn mark(&self) -> Mark {
        Mark::of(&self.header)
    }

    /// Offset of the frame's first record.
    pub(super) fn records_offset(&self) -> u64 {
        self.offset + FRAME_HEADER_LEN as u64
    }

    /// Offset behind the frame.
    pub(super) fn end(&self) -> u64 {
        self.records_offset() + self.header.len
    }

    /// Sequence number after the frame's last record.
    pub(super) fn next(&self) -> u64 {
        next_of(&self.header)
    }

    /// True if the frame is still there: a writer that was killed, or whose write failed, may have
    /// taken back what it had written.
    pub(super) fn stands(&self, window: &mut Window) -> Result<bool, IoError> {
        // Not what was read before.
        *window = Window::default();
        let found = window.header(&self.segment, self.offset)?;
        Ok(found.is_some_and(|header| header == self.header))
    }
}

/// Sequence number after the last record of the frame with this header.
pub(super) fn next_of(header: &FrameHeader) -> u64 {
    header.base.saturating_add(u64::from(header.count))
}

/// What the sealed `segment` of the log ends with, if it can be read that far.
pub(in crate::engine) fn end_mark(segment: &Segment) -> Result<Option<EndMark>, IoError> {
    let Some(seal) = segment.seal() else { return Ok(None) };
    let mut window = Window::default();
    let (mut offset, mut last) = (SEGMENT_HEADER_LEN, None);
    while let Some(header) = window.header(segment, offset)? {
        if header.kind != FrameKind::Batch {
            break;
        }
        offset += FRAME_HEADER_LEN as u64 + header.len;
        last = Some(header);
    }
    Ok(last.filter(|last| next_of(last) == seal.next).map(|last| EndMark {
        next: seal.next,
        epoch: last.epoch,
        checksum: last.records_checksum,
    }))
}

impl Cursor {
    /// The start of a segment whose first record has this sequence number.
    pub(super) fn at_start(segment: Arc<Segment>, expected: u64) -> Self {
        Cursor { segment, offset: SEGMENT_HEADER_LEN, expected }
    }

    /// The frame that stands here, perhaps in a later segment, where the cursor goes then; `None`
    /// if there is none yet. Only its header is verified.
    pub(super) fn peek(
        &mut self,
        log: &mut LogFiles,
        window: &mut Window,
    ) -> Result<Option<FrameHeader>, FeedError> {
        let mut is_again = false;
        loop {
            let here = window.header(&self.segment, self.offset)?;
            let here = here.filter(|header| header.base == self.expected);
            if let Some(header) = here.filter(|header| header.kind == FrameKind::Batch) {
                return Ok(Some(header));
            }
            // Noted before the next segment is looked at: what is sealed later is still there.
            let sealed = log.sealed_next();
            let Some(next) = log.successor(self.segment.id)? else { return Ok(None) };
            match window.header(&next, SEGMENT_HEADER_LEN)?.map(|first| (first.base, first.epoch)) {
                Some((base, _)) if base == self.expected => {
                    *self = Cursor::at_start(next, self.expected);
                    is_again = false;
                    continue;
                }
                Some((base, epoch)) if base < self.expected => {
                    let position = FeedPosition::from(self.expected);
                    return Err(FeedError::Diverged { position, found: Some(epoch) });
                }
                // Nothing is written there yet, and nothing is missing in between.
                None if sealed <= self.expected || planted!(FeedPassedIsDamage) => return Ok(None),
                _ => {}
            }
            if here.is_some() || log.is_over(self.segment.id, self.offset) {
                let floor = log.floor(window)?;
                return Err(FeedError::Passed { since: self.expected, floor });
            }
            if is_again {
                return Ok(None);
            }
            // Frames may have been added here just before the next segment was begun: look again.
            is_again = true;
        }
    }

    /// Goes behind the frame that stands here.
    pub(super) fn advance(&mut self, header: &FrameHeader) -> Place {
        let place =
            Place { segment: Arc::clone(&self.segment), offset: self.offset, header: *header };
        self.offset += FRAME_HEADER_LEN as u64 + header.len;
        self.expected = next_of(header);
        place
    }
}
