//! Reads the records of a sealed segment from its frames, while the store is open.
//!
//! Hints of a segment that a checkpoint covers are not read at the open. If they turn out to be
//! damaged when they are needed, the frames are read instead, as the open would have done. Where
//! those are damaged too, what can be read is taken, and compaction leaves the segment alone.

use super::segments::Segment;
use crate::format::hint::Hint;
use crate::format::manifest::Seal;
use crate::format::scan::{Step, frame_at};
use crate::format::segment::SEGMENT_HEADER_LEN;
use crate::vfs::IoError;

/// The records of a segment, by offset.
pub(super) struct Rescanned {
    pub(super) hints: Vec<Hint>,
    /// Nothing is damaged, and every batch ends in the segment.
    pub(super) is_whole: bool,
}

/// Reads the records of a sealed segment of this extent.
pub(super) fn rescan(segment: &Segment, seal: &Seal) -> Result<Rescanned, IoError> {
    let mut bytes = vec![0; usize::try_from(seal.data_end).unwrap_or(usize::MAX)];
    let read = segment.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let mut hints = Vec::new();
    // Records of a batch whose last frame has not come yet.
    let mut staged = Vec::new();
    let mut is_whole = read as u64 == seal.data_end;
    let mut offset = SEGMENT_HEADER_LEN;
    while let Some(rest) = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)) {
        if rest.is_empty() {
            break;
        }
        let Step::Frame(frame) = frame_at(rest, segment.salt, offset) else {
            is_whole = false;
            // Frames start at multiples of 8: the next whole one is searched for.
            offset += 8;
            continue;
        };
        if frame.header.first {
            // What is staged was given up by its writer.
            staged.clear();
        }
        for (at, record) in frame.records() {
            let hint = Hint::of(segment.hash_seed, &frame.header, offset + at, &record);
            let is_of_segment =
                seal.numbers().contains(&hint.seqno) || planted!(FramesOfOthersCount);
            is_whole &= is_of_segment;
            staged.extend(is_of_segment.then_some(hint));
        }
        if frame.header.last {
            hints.append(&mut staged);
        }
        offset += frame.len();
    }
    is_whole &= staged.is_empty();
    hints.append(&mut staged);
    Ok(Rescanned { hints, is_whole })
}
