//! One wrong bit in a header is put right.

use super::super::record::{
    FRAME_HEADER_LEN, FrameHeader, RECORD_HEADER_LEN, Record, RecordHeader,
};
use super::super::scan::{Step, check_records, frame_at};
use super::super::segment::SEGMENT_HEADER_LEN;
use super::Known;

/// A bit that was put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mend {
    /// Offset of the byte.
    pub offset: usize,
    /// The bit in it.
    pub mask: u8,
}

impl Mend {
    /// Flips the bit.
    pub(crate) fn apply(&self, bytes: &mut [u8]) {
        if let Some(byte) = bytes.get_mut(self.offset) {
            *byte ^= self.mask;
        }
    }
}

/// Puts right single wrong bits in the headers of frames and records of a segment; returns which.
///
/// A frame header is right if its checksum is and all records of the frame are those that it tells
/// of. A record header is right if its checksum is, and that of its key and value.
pub(crate) fn mend(bytes: &mut [u8], known: &Known) -> Vec<Mend> {
    let end = usize::try_from(known.end).unwrap_or(usize::MAX).min(bytes.len());
    let Some(bytes) = bytes.get_mut(..end) else { return Vec::new() };
    let mut mends = Vec::new();
    let mut at = SEGMENT_HEADER_LEN as usize;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let wrong_at = match frame_at(rest, known.salt, at as u64) {
            Step::Frame(frame) => {
                at += usize::try_from(frame.len()).unwrap_or(usize::MAX);
                continue;
            }
            Step::More(_) => 0,
            Step::Bad(wrong_at, _) => usize::try_from(wrong_at).unwrap_or(0),
        };
        let header = FrameHeader::verify(rest, known.salt, at as u64);
        let found = match header {
            None => frame_bit(rest, known.salt, at),
            Some(_) => record_bit(rest.get(wrong_at..).unwrap_or(&[]), known.salt)
                .map(|mend| Mend { offset: at + wrong_at + mend.offset, ..mend }),
        };
        if let Some(mend) = found {
            mend.apply(bytes);
            mends.push(mend);
            continue;
        }
        at = match header {
            Some(header) => {
                let len = usize::try_from(header.len).unwrap_or(usize::MAX);
                at.saturating_add(FRAME_HEADER_LEN).saturating_add(len)
            }
            None => next_frame(bytes, known.salt, at + 8),
        };
    }
    mends
}

fn next_frame(bytes: &[u8], salt: u32, start: usize) -> usize {
    let is_frame = |at: &usize| {
        let rest = bytes.get(*at..).unwrap_or(&[]);
        FrameHeader::verify(rest, salt, *at as u64).is_some()
    };
    (start..bytes.len()).step_by(8).find(is_frame).unwrap_or(bytes.len())
}

/// Every bit of a header of so many bytes.
fn bits(len: usize) -> impl Iterator<Item = Mend> {
    (0..len).flat_map(|offset| (0..8).map(move |bit| Mend { offset, mask: 1 << bit }))
}

/// The wrong bit in the frame header at the start of `rest`.
fn frame_bit(rest: &[u8], salt: u32, at: usize) -> Option<Mend> {
    let header = rest.first_chunk::<FRAME_HEADER_LEN>()?;
    let body = rest.get(FRAME_HEADER_LEN..)?;
    let is_right = |mend: &Mend| {
        let mut header = *header;
        mend.apply(&mut header);
        let Some(header) = FrameHeader::verify(&header, salt, at as u64) else { return false };
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        body.get(..len).is_some_and(|body| check_records(&header, body, salt).is_ok())
    };
    let found = bits(FRAME_HEADER_LEN).find(is_right)?;
    Some(Mend { offset: at + found.offset, ..found })
}

/// The wrong bit in the record header at the start of `rest`.
fn record_bit(rest: &[u8], salt: u32) -> Option<Mend> {
    let header = rest.first_chunk::<RECORD_HEADER_LEN>()?;
    if RecordHeader::verify(header, salt).is_some() {
        return None;
    }
    let body = rest.get(RECORD_HEADER_LEN..)?;
    bits(RECORD_HEADER_LEN).find(|mend| {
        let mut header = *header;
        mend.apply(&mut header);
        let Some(header) = RecordHeader::verify(&header, salt) else { return false };
        let parts = body.split_at_checked(header.key_len);
        parts.is_some_and(|(key, rest)| {
            let value = rest.get(..header.value_len);
            value.is_some_and(|value| Record { header, key, value }.body_is_intact())
        })
    })
}
