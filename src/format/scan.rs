//! Reading frames: what stands at an offset of a segment, fully verified.
//!
//! The scanner reports and never repairs: what a damaged or missing frame means is decided by
//! recovery, which sees all segments and the watermark.

use super::record::{
    FRAME_HEADER_LEN, FrameHeader, FrameKind, Kind, RECORD_HEADER_LEN, Record, RecordsChecksum,
};

/// What stands at an offset.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A whole frame with right checksums throughout.
    Frame(Frame<'a>),
    /// The frame header is right, but `bytes` ends before the frame does: show this many.
    More(u64),
    /// No frame: what is wrong, and where in relation to the offset asked for.
    Bad(u64, &'static str),
}

/// A verified frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its records, one after another.
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes of the whole frame.
    pub(crate) fn len(&self) -> u64 {
        FRAME_HEADER_LEN as u64 + self.header.len
    }

    /// The records, with their offsets from the start of the frame.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, Record<'a>)> {
        let mut at = 0;
        let body = self.body;
        std::iter::from_fn(move || {
            let record = Record::parse(body.get(at..)?)?;
            let offset = FRAME_HEADER_LEN + at;
            at += record.header.record_len();
            Some((offset as u64, record))
        })
    }
}

/// Reads the frame at the start of `bytes`, which stand at `offset` of a segment with `salt`.
pub(crate) fn frame_at(bytes: &[u8], salt: u32, offset: u64) -> Step<'_> {
    let Some(header) = FrameHeader::verify(bytes, salt, offset) else {
        return Step::Bad(0, "no frame header with a right checksum");
    };
    let total = FRAME_HEADER_LEN as u64 + header.len;
    if (bytes.len() as u64) < total {
        return Step::More(total);
    }
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    let body = bytes.get(FRAME_HEADER_LEN..).and_then(|b| b.get(..len)).unwrap_or(&[]);
    match check_records(&header, body, salt) {
        Ok(()) => Step::Frame(Frame { header, body }),
        Err(_) if planted!(TornBatchAccepted) => Step::Frame(Frame { header, body }),
        Err((at, what)) => Step::Bad(FRAME_HEADER_LEN as u64 + at as u64, what),
    }
}

/// Verifies every record of a frame. `Err` has the offset in `body` and what is wrong.
pub(super) fn check_records(
    header: &FrameHeader,
    body: &[u8],
    salt: u32,
) -> Result<(), (usize, &'static str)> {
    if header.kind == FrameKind::End {
        let empty = header.len == 0 && header.count == 0;
        return if empty { Ok(()) } else { Err((0, "end frame with records")) };
    }
    let mut at = 0;
    let mut checksum = RecordsChecksum::new(salt);
    let mut next_index = 0;
    for _ in 0..header.count {
        let rest = body.get(at..).unwrap_or(&[]);
        let Some(record) = Record::verify_header(rest, salt) else {
            return Err((at, "record header checksum does not match"));
        };
        if record.header.index < next_index {
            return Err((at, "record out of order"));
        }
        next_index = record.header.index.saturating_add(1);
        if !record.body_is_intact() && !planted!(BodyNotVerified) {
            return Err((at, "record checksum does not match"));
        }
        if !is_sound(&record) {
            return Err((at, "record of its kind cannot be"));
        }
        checksum.add(rest);
        let end = at + record.header.record_len();
        let body_end = at + RECORD_HEADER_LEN + record.key.len() + record.value.len();
        let padding = body.get(body_end..end).ok_or((at, "record reaches behind its frame"))?;
        if padding.iter().any(|b| *b != 0) {
            return Err((body_end, "padding is not zero"));
        }
        at = end;
    }
    if at != body.len() {
        return Err((at, "frame is longer than its records"));
    }
    if checksum.finish() != header.records_checksum {
        return Err((0, "records are not those of the frame"));
    }
    Ok(())
}

/// True if the record has the parts that its kind has.
pub(super) fn is_sound(record: &Record<'_>) -> bool {
    let flags = record.header.flags;
    match record.header.kind {
        Kind::Put => record.stored().is_some(),
        _ if !flags.is_plain() => false,
        Kind::Delete => record.value.is_empty(),
        Kind::Clear => record.key.is_empty() && record.value.is_empty(),
        Kind::CreateCollection => {
            record.key.is_empty() && std::str::from_utf8(record.value).is_ok()
        }
        // What the value says is judged by who uses it: a later version may know more options.
        Kind::Configure => record.key.is_empty(),
    }
}
