//! Segment files: name, header and footer.
//!
//! A segment is named by its id in 16 decimal digits, `0000000000000001.seg`. Ids are never used
//! twice in a store.
//!
//! # Header, 64 bytes at offset 0
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `SILTSEG1` |
//! | 8 | 2 | major | format version; a reader refuses another one |
//! | 10 | 2 | minor | raised by additions that older readers may ignore |
//! | 12 | 1 | kind | 1 log, 2 compacted |
//! | 13 | 1 | checksum | 1 CRC-32 (IEEE), the only one so far |
//! | 14 | 2 | reserved | zero |
//! | 16 | 16 | store | id of the store |
//! | 32 | 8 | id | id of the segment |
//! | 40 | 4 | epoch | which open of the store created it |
//! | 44 | 4 | generation | how often its records were moved by compaction; 0 for the log |
//! | 48 | 8 | features | bits of features without which it cannot be read; zero |
//! | 56 | 4 | reserved | zero |
//! | 60 | 4 | checksum | of bytes 0..60; the *salt* of every checksum in the segment |
//!
//! A log segment continues the sequence numbers of the log segment before it. A compacted segment
//! holds records that were moved out of others, in the order of their sequence numbers, which have
//! gaps; its frames say nothing about batches, and it is listed in the manifest only once it is
//! sealed.
//!
//! # Footer, 64 bytes at the end of a sealed segment, after its hints
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `SILTFTR1` |
//! | 8 | 8 | id | id of the segment |
//! | 16 | 8 | data end | offset behind the end frame, where the hints start |
//! | 24 | 8 | hints | number of hint entries |
//! | 32 | 8 | first | sequence number of the first record |
//! | 40 | 8 | next | sequence number after the last record |
//! | 48 | 8 | reserved | zero |
//! | 56 | 4 | hints checksum | of all hint entries, salted |
//! | 60 | 4 | checksum | of bytes 0..60, salted |

use super::bytes::{array_at, put_at, u16_at, u32_at, u64_at};
use super::{FORMAT_MAJOR, FORMAT_MINOR, checksum};

/// Bytes of a segment header; the first frame starts behind it.
pub(crate) const SEGMENT_HEADER_LEN: u64 = 64;
/// Bytes of a segment footer.
pub(crate) const SEGMENT_FOOTER_LEN: u64 = 64;

const HEADER_MAGIC: &[u8; 8] = b"SILTSEG1";
const FOOTER_MAGIC: &[u8; 8] = b"SILTFTR1";
const CHECKSUM_CRC32: u8 = 1;

/// Identity of a store.
pub(crate) type StoreId = [u8; 16];

/// The file name of segment `id`.
pub(crate) fn file_name(id: u64) -> String {
    format!("{id:016}.seg")
}

/// The id in a segment's file name; `None` for names of other files.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let name = if planted!(ForeignFilesCount) { name.trim_start_matches("._") } else { name };
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 16 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SegmentKind {
    /// A stretch of the log, as it was written.
    Log = 1,
    /// Records that compaction moved out of other segments.
    Compacted = 2,
}

/// A segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Id of the store.
    pub store: StoreId,
    /// Id of the segment.
    pub id: u64,
    /// Which open of the store created it.
    pub epoch: u32,
    /// What it holds.
    pub kind: SegmentKind,
    /// How often its records were moved by compaction, at most; 0 for the log.
    pub generation: u32,
}

/// Why a segment header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Too short, wrong magic, or a checksum that does not match.
    Damaged(&'static str),
    /// A format version that this program does not read.
    Version(u16, u16),
}

impl SegmentHeader {
    /// The header's bytes and the salt of the segment.
    pub(crate) fn encode(&self) -> ([u8; SEGMENT_HEADER_LEN as usize], u32) {
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        put_at(&mut bytes, 0, HEADER_MAGIC);
        put_at(&mut bytes, 8, &FORMAT_MAJOR.to_le_bytes());
        put_at(&mut bytes, 10, &FORMAT_MINOR.to_le_bytes());
        put_at(&mut bytes, 12, &[self.kind as u8, CHECKSUM_CRC32]);
        put_at(&mut bytes, 16, &self.store);
        put_at(&mut bytes, 32, &self.id.to_le_bytes());
        put_at(&mut bytes, 40, &self.epoch.to_le_bytes());
        put_at(&mut bytes, 44, &self.generation.to_le_bytes());
        let salt = checksum::plain(bytes.get(..60).unwrap_or(&[]));
        put_at(&mut bytes, 60, &salt.to_le_bytes());
        (bytes, salt)
    }

    /// Parses and verifies a header; returns it with the segment's salt.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderError> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_LEN as usize) else {
            return Err(HeaderError::Damaged("file is shorter than a segment header"));
        };
        if bytes.get(..8) != Some(HEADER_MAGIC) {
            return Err(HeaderError::Damaged("no segment magic"));
        }
        let salt = checksum::plain(bytes.get(..60).unwrap_or(&[]));
        if salt != u32_at(bytes, 60) {
            return Err(HeaderError::Damaged("segment header checksum does not match"));
        }
        let (major, minor) = (u16_at(bytes, 8), u16_at(bytes, 10));
        if major != FORMAT_MAJOR || u64_at(bytes, 48) != 0 {
            return Err(HeaderError::Version(major, minor));
        }
        let kind = match bytes.get(12..14) {
            Some(&[1, CHECKSUM_CRC32]) => SegmentKind::Log,
            Some(&[2, CHECKSUM_CRC32]) => SegmentKind::Compacted,
            _ => return Err(HeaderError::Version(major, minor)),
        };
        let header = SegmentHeader {
            store: array_at(bytes, 16).unwrap_or_default(),
            id: u64_at(bytes, 32),
            epoch: u32_at(bytes, 40),
            kind,
            generation: u32_at(bytes, 44),
        };
        Ok((header, salt))
    }
}

/// A segment footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFooter {
    /// Id of the segment.
    pub id: u64,
    /// Offset behind the end frame, where the hints start.
    pub data_end: u64,
    /// Number of hint entries.
    pub hints: u64,
    /// Sequence number of the first record.
    pub first: u64,
    /// Sequence number after the last record.
    pub next: u64,
    /// Checksum of all hint entries.
    pub hints_checksum: u32,
}

impl SegmentFooter {
    /// The footer's bytes.
    pub(crate) fn encode(&self, salt: u32) -> [u8; SEGMENT_FOOTER_LEN as usize] {
        let mut bytes = [0; SEGMENT_FOOTER_LEN as usize];
        put_at(&mut bytes, 0, FOOTER_MAGIC);
        for (i, field) in
            [self.id, self.data_end, self.hints, self.first, self.next].iter().enumerate()
        {
            put_at(&mut bytes, 8 + 8 * i, &field.to_le_bytes());
        }
        put_at(&mut bytes, 56, &self.hints_checksum.to_le_bytes());
        let sum = checksum::salted(salt, bytes.get(..60).unwrap_or(&[]));
        put_at(&mut bytes, 60, &sum.to_le_bytes());
        bytes
    }

    /// Parses and verifies a footer.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..SEGMENT_FOOTER_LEN as usize)?;
        if bytes.get(..8)? != FOOTER_MAGIC
            || checksum::salted(salt, bytes.get(..60)?) != u32_at(bytes, 60)
        {
            return None;
        }
        Some(SegmentFooter {
            id: u64_at(bytes, 8),
            data_end: u64_at(bytes, 16),
            hints: u64_at(bytes, 24),
            first: u64_at(bytes, 32),
            next: u64_at(bytes, 40),
            hints_checksum: u32_at(bytes, 56),
        })
    }
}
