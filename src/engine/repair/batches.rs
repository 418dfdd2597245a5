//! Which records of damaged segments count: what the open would have made of the batches in them.
//!
//! A batch of which a part is lost is kept as far as it is whole, and reported: what was
//! acknowledged is worth more than that all of it is missing. But what never counted must not come
//! to count: a batch whose writer was told that it failed, and the torn end of the log.

use std::collections::HashSet;

use super::report::IncompleteBatch;
use super::survey::{Condition, Found, end_of};
use crate::format::record::FrameKind;
use crate::format::salvage::Piece;
use crate::format::segment::SegmentKind;

/// Takes away the torn end of the log, if there is one: bytes that are not whole, behind every
/// whole frame, at or above the watermark. Returns the sequence number from which on it was cut.
pub(super) fn cut_torn_end(segments: &mut [Found], start: u64, watermark: u64) -> Option<u64> {
    let mut end = start;
    // Where the last whole frame ends: number of the segment, of the piece behind it.
    let mut last = None;
    let mut first_unsealed = None;
    for (i, found) in segments.iter().enumerate().filter(|(_, found)| found.is_tail()) {
        first_unsealed.get_or_insert(i);
        if found.condition == Condition::Missing || found.file_len < found.made_len {
            return None;
        }
        for (j, piece) in found.pieces.iter().enumerate() {
            if let Piece::Frame { header, is_whole: true, .. } = piece {
                end = end.max(end_of(piece).unwrap_or(0));
                let records = usize::try_from(header.count).unwrap_or(usize::MAX);
                last = Some((i, j.saturating_add(records).saturating_add(1)));
            }
        }
    }
    let (last, from) = last.or(first_unsealed.map(|i| (i, 0)))?;
    if end < watermark {
        return None;
    }
    let mut is_cut = false;
    for (i, found) in segments.iter_mut().enumerate().skip(last) {
        if !found.is_tail() {
            continue;
        }
        let from = if i == last { from } else { 0 };
        is_cut |= found.pieces.len() > from;
        found.pieces.truncate(from);
    }
    is_cut.then_some(end)
}

/// A batch that has begun and not ended: the pieces of its frames so far.
#[derive(Default)]
struct Open {
    /// Number of a segment and of a piece in it.
    pieces: Vec<(usize, usize)>,
    /// The sequence number after the last frame.
    end: u64,
}

/// Takes away the records of batches that were given up: a frame that begins another one follows
/// at once, or the log ends.
pub(super) fn drop_given_up(segments: &mut [Found]) {
    let mut open = Open::default();
    let mut dropped = Vec::new();
    for (i, found) in segments.iter().enumerate() {
        if found.kind != SegmentKind::Log || found.condition == Condition::Foreign {
            continue;
        }
        let is_settled =
            found.is_by_hints || matches!(found.condition, Condition::Intact | Condition::Missing);
        if is_settled {
            if found.starts_batch == Some(true) {
                dropped.append(&mut open.pieces);
            }
            open.pieces.clear();
            continue;
        }
        for (j, piece) in found.pieces.iter().enumerate() {
            match piece {
                Piece::Frame { header, .. } if header.kind == FrameKind::Batch => {
                    if header.first && open.end == header.base {
                        dropped.append(&mut open.pieces);
                    }
                    if header.first || open.end != header.base {
                        open.pieces.clear();
                    }
                    open.pieces.push((i, j));
                    open.end = end_of(piece).unwrap_or(0);
                    if header.last {
                        open = Open { end: open.end, ..Open::default() };
                    }
                }
                Piece::Record { .. } | Piece::Bad { .. } if !open.pieces.is_empty() => {
                    open.pieces.push((i, j));
                }
                _ => {}
            }
        }
    }
    dropped.append(&mut open.pieces);
    for (i, found) in segments.iter_mut().enumerate() {
        let of: HashSet<usize> = dropped.iter().filter(|(of, _)| *of == i).map(|d| d.1).collect();
        if !of.is_empty() {
            let mut j = 0..;
            found.pieces.retain(|_| j.next().is_some_and(|j| !of.contains(&j)));
        }
    }
}

/// The batches of a damaged segment that are kept in part.
pub(super) fn incomplete(found: &Found) -> Vec<IncompleteBatch> {
    if found.kind != SegmentKind::Log {
        return Vec::new();
    }
    let mut out = Vec::new();
    let frames = found.pieces.iter().filter_map(|piece| match piece {
        Piece::Frame { header, .. } if header.count > 0 => {
            Some((header.base, header.base.saturating_add(u64::from(header.count))))
        }
        _ => None,
    });
    let mut numbers: Vec<(u64, u64, bool)> = Vec::new();
    for piece in &found.pieces {
        match piece {
            Piece::Record { hint, .. } => numbers.push((hint.seqno, hint.seqno + 1, true)),
            Piece::Bad { hint, .. } => numbers.push((hint.seqno, hint.seqno + 1, false)),
            Piece::Lost { first, next, .. } => numbers.push((*first, *next, false)),
            _ => {}
        }
    }
    numbers.sort_unstable();
    for (first, next) in frames {
        let from = numbers.partition_point(|(_, end, _)| *end <= first);
        let within = numbers.get(from..).unwrap_or(&[]).iter().take_while(|n| n.0 < next);
        let (mut kept, mut lost) = (0, 0);
        for (start, end, is_kept) in within {
            let count = end.min(&next).saturating_sub(*start.max(&first));
            *(if *is_kept { &mut kept } else { &mut lost }) += count;
        }
        if lost > 0 && kept > 0 {
            out.push(IncompleteBatch { first, next, lost });
        }
    }
    out
}
