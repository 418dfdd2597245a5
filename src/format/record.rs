//! Records and frames: what the log is made of.
//!
//! ```text
//! segment   = header frame* [end-frame [hints footer]]
//! frame     = frame-header record*                 a write batch, or a part of a large one
//! record    = record-header key value padding      padded with zeros to a multiple of 8
//! ```
//!
//! All integers are little-endian; frames and records start at multiples of 8.
//!
//! # Frame header, 40 bytes
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | checksum | of bytes 4..40, salted by the segment, bound to the frame's offset |
//! | 4 | 1 | kind | `0xF5` batch, `0xE5` end of the segment's log (no records) |
//! | 5 | 1 | flags | bit 0 first frame of its batch, bit 1 last frame of its batch |
//! | 6 | 2 | reserved | zero |
//! | 8 | 4 | len | bytes of records that follow, divided by 8 |
//! | 12 | 4 | count | records that follow |
//! | 16 | 4 | records checksum | of all record headers, one after another, salted |
//! | 20 | 4 | epoch | which open of the store wrote it |
//! | 24 | 8 | base | sequence number of the first record; the others follow by their index |
//! | 32 | 8 | watermark | every sequence number below it was durable when this was written |
//!
//! # Record header, 24 bytes
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | checksum | of bytes 4..24, salted by the segment |
//! | 4 | 4 | body checksum | of key and value |
//! | 8 | 1 | kind | 1 put, 2 delete, 3 clear, 4 create, 5 configure the collection |
//! | 9 | 1 | flags | how the value is stored, see [`super::value`]; zero but for puts |
//! | 10 | 2 | key len | bytes |
//! | 12 | 4 | value len | bytes |
//! | 16 | 4 | collection | id; its name is in the value of a create record |
//! | 20 | 4 | index | sequence number minus the frame's base |
//!
//! The value of a create record is the collection's name. That of a configure record holds the
//! collection's options, see [`super::config`]: the newest one counts.
//!
//! The chain of trust: the frame's checksum covers the records checksum, which covers every
//! record header, each of which covers its body. A point read verifies its record alone: header
//! checksum (so that lengths can be trusted), then body checksum.

use super::bytes::{align8, put_at, u16_at, u32_at, u64_at};
use super::checksum;
use super::value::{Flags, Stored};

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER_LEN: usize = 40;
/// Bytes of a record header.
pub(crate) const RECORD_HEADER_LEN: usize = 24;

const FRAME_CHECKSUM: usize = 0;
const FRAME_KIND: usize = FRAME_CHECKSUM + 4;
const FRAME_FLAGS: usize = FRAME_KIND + 1;
const FRAME_RESERVED: usize = FRAME_FLAGS + 1;
const FRAME_LEN: usize = FRAME_RESERVED + 2;
const FRAME_COUNT: usize = FRAME_LEN + 4;
const FRAME_RECORDS_CHECKSUM: usize = FRAME_COUNT + 4;
const FRAME_EPOCH: usize = FRAME_RECORDS_CHECKSUM + 4;
const FRAME_BASE: usize = FRAME_EPOCH + 4;
const FRAME_WATERMARK: usize = FRAME_BASE + 8;
const _: () = assert!(FRAME_WATERMARK + 8 == FRAME_HEADER_LEN);

const RECORD_CHECKSUM: usize = 0;
const RECORD_BODY_CHECKSUM: usize = RECORD_CHECKSUM + 4;
const RECORD_KIND: usize = RECORD_BODY_CHECKSUM + 4;
const RECORD_FLAGS: usize = RECORD_KIND + 1;
const RECORD_KEY_LEN: usize = RECORD_FLAGS + 1;
const RECORD_VALUE_LEN: usize = RECORD_KEY_LEN + 2;
const RECORD_COLLECTION: usize = RECORD_VALUE_LEN + 4;
const RECORD_INDEX: usize = RECORD_COLLECTION + 4;
const _: () = assert!(RECORD_INDEX + 4 == RECORD_HEADER_LEN);

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Sets a key.
    Put = 1,
    /// Removes a key (a tombstone).
    Delete = 2,
    /// Removes every older record of the collection.
    Clear = 3,
    /// Binds the collection's id to the name in the value.
    CreateCollection = 4,
    /// Sets the options of the collection to those in the value.
    Configure = 5,
}

impl Kind {
    /// True for kinds of records that name a key.
    pub(crate) fn has_key(self) -> bool {
        matches!(self, Kind::Put | Kind::Delete)
    }

    /// The kind with this number on disk.
    pub(crate) fn from_u8(n: u8) -> Option<Kind> {
        Some(match n {
            1 => Kind::Put,
            2 => Kind::Delete,
            3 => Kind::Clear,
            4 => Kind::CreateCollection,
            5 => Kind::Configure,
            _ => return None,
        })
    }
}

/// A parsed record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Checksum of key and value.
    pub body_checksum: u32,
    /// What the record does.
    pub kind: Kind,
    /// How the value is stored.
    pub flags: Flags,
    /// Bytes of the key.
    pub key_len: usize,
    /// Bytes of the value.
    pub value_len: usize,
    /// Id of the collection.
    pub collection: u32,
    /// Sequence number minus the frame's base.
    pub index: u32,
}

impl RecordHeader {
    /// Parses a header without verifying its checksum.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER_LEN)?;
        Some(RecordHeader {
            body_checksum: u32_at(bytes, RECORD_BODY_CHECKSUM),
            kind: Kind::from_u8(*bytes.get(RECORD_KIND)?)?,
            flags: Flags::from_u8(*bytes.get(RECORD_FLAGS)?)?,
            key_len: usize::from(u16_at(bytes, RECORD_KEY_LEN)),
            value_len: u32_at(bytes, RECORD_VALUE_LEN) as usize,
            collection: u32_at(bytes, RECORD_COLLECTION),
            index: u32_at(bytes, RECORD_INDEX),
        })
    }

    /// Parses a header after verifying its checksum.
    pub(crate) fn verify(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER_LEN)?;
        if checksum::salted(salt, bytes.get(RECORD_BODY_CHECKSUM..)?) != u32_at(bytes, 0) {
            return None;
        }
        Self::parse(bytes)
    }

    /// Bytes of the whole record: header, key, value, padding.
    pub(crate) fn record_len(&self) -> usize {
        align8(RECORD_HEADER_LEN + self.key_len + self.value_len)
    }
}

/// A parsed record with its key and value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// The header.
    pub header: RecordHeader,
    /// The key.
    pub key: &'a [u8],
    /// The value as it is stored, with what stands before it: the value area.
    pub value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses the record at the start of `bytes` without verifying checksums.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        Self::with_header(RecordHeader::parse(bytes)?, bytes)
    }

    /// Parses the record at the start of `bytes` after verifying its header's checksum.
    pub(crate) fn verify_header(bytes: &'a [u8], salt: u32) -> Option<Self> {
        Self::with_header(RecordHeader::verify(bytes, salt)?, bytes)
    }

    fn with_header(header: RecordHeader, bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(RECORD_HEADER_LEN..)?;
        let (key, rest) = body.split_at_checked(header.key_len)?;
        let value = rest.get(..header.value_len)?;
        Some(Record { header, key, value })
    }

    /// The value area, taken apart; `None` if no record with these flags can have it.
    pub(crate) fn stored(&self) -> Option<Stored<'a>> {
        Stored::parse(self.header.flags, self.value)
    }

    /// True if key and value match the header's body checksum.
    pub(crate) fn body_is_intact(&self) -> bool {
        // Key and value are contiguous: hashing both in turn equals hashing the body at once.
        let mut hasher = crc32fast::Hasher::new_with_initial(BODY_SEED);
        hasher.update(self.key);
        hasher.update(self.value);
        hasher.finalize() == self.header.body_checksum
    }
}

/// Seed of the body checksum: not zero, so that an empty or all-zero body never passes by itself.
const BODY_SEED: u32 = 0x511D_B0D1;

/// The checksum of a record's body: its key and its value.
pub(crate) fn body_checksum(body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(BODY_SEED);
    hasher.update(body);
    hasher.finalize()
}

/// Appends a blank header, the key and the value that `encode` appends; returns the value's
/// length.
pub(crate) fn append_body(
    buf: &mut Vec<u8>,
    key: &[u8],
    encode: impl FnOnce(&mut Vec<u8>),
) -> usize {
    buf.extend_from_slice(&[0; RECORD_HEADER_LEN]);
    buf.extend_from_slice(key);
    let value_start = buf.len();
    encode(buf);
    buf.len().saturating_sub(value_start)
}

/// Pads the record that starts at `offset` and ends the buffer, and fills in what is known before
/// the commit: kind, lengths and body checksum. Lengths must have been checked.
pub(crate) fn finish_body(
    buf: &mut Vec<u8>,
    offset: usize,
    (kind, flags): (Kind, Flags),
    key_len: usize,
    value_len: usize,
) {
    let body_checksum = body_checksum(buf.get(offset + RECORD_HEADER_LEN..).unwrap_or(&[]));
    let padded = offset + align8(buf.len() - offset);
    buf.resize(padded, 0);
    let header = buf.get_mut(offset..).unwrap_or(&mut []);
    put_at(header, RECORD_BODY_CHECKSUM, &body_checksum.to_le_bytes());
    put_at(header, RECORD_KIND, &[kind as u8, flags.to_u8()]);
    let key_len = u16::try_from(key_len).unwrap_or(u16::MAX);
    put_at(header, RECORD_KEY_LEN, &key_len.to_le_bytes());
    let value_len = u32::try_from(value_len).unwrap_or(u32::MAX);
    put_at(header, RECORD_VALUE_LEN, &value_len.to_le_bytes());
}

/// Stamps collection and index into the record header at the start of `record` and signs it.
pub(crate) fn stamp_record(record: &mut [u8], salt: u32, collection: u32, index: u32) {
    put_at(record, RECORD_COLLECTION, &collection.to_le_bytes());
    put_at(record, RECORD_INDEX, &index.to_le_bytes());
    let signed = record.get(RECORD_BODY_CHECKSUM..RECORD_HEADER_LEN).unwrap_or(&[]);
    let sum = checksum::salted(salt, signed);
    put_at(record, RECORD_CHECKSUM, &sum.to_le_bytes());
}

/// The key of the record that starts at `start`, unverified; empty if there is none.
pub(crate) fn key_at(buf: &[u8], start: usize) -> &[u8] {
    buf.get(start..).and_then(Record::parse).map_or(&[], |record| record.key)
}

/// The value of the record that starts at `start`, unverified; empty if there is none.
pub(crate) fn value_at(buf: &[u8], start: usize) -> &[u8] {
    buf.get(start..).and_then(Record::parse).map_or(&[], |record| record.value)
}

/// The flags of the record that starts `record`, unverified.
pub(crate) fn flags_of(record: &[u8]) -> Flags {
    RecordHeader::parse(record).map(|header| header.flags).unwrap_or_default()
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// A write batch, or a part of one.
    Batch = 0xF5,
    /// No records: nothing of the log follows in this segment.
    End = 0xE5,
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// First frame of its batch.
    pub first: bool,
    /// Last frame of its batch: only with it the batch counts.
    pub last: bool,
    /// Bytes of records that follow.
    pub len: u64,
    /// Records that follow.
    pub count: u32,
    /// Checksum of the record headers; see [`RecordsChecksum`].
    pub records_checksum: u32,
    /// Which open of the store wrote it.
    pub epoch: u32,
    /// Sequence number of the first record.
    pub base: u64,
    /// Every sequence number below this one was durable when the frame was written.
    pub watermark: u64,
}

impl FrameHeader {
    /// The header's bytes, signed for the segment with `salt` and for `offset` in it.
    pub(crate) fn encode(&self, salt: u32, offset: u64) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = [0; FRAME_HEADER_LEN];
        let flags = u8::from(self.first) | u8::from(self.last) << 1;
        put_at(&mut bytes, FRAME_KIND, &[self.kind as u8, flags]);
        let units = u32::try_from(self.len / 8).unwrap_or(u32::MAX);
        put_at(&mut bytes, FRAME_LEN, &units.to_le_bytes());
        put_at(&mut bytes, FRAME_COUNT, &self.count.to_le_bytes());
        put_at(&mut bytes, FRAME_RECORDS_CHECKSUM, &self.records_checksum.to_le_bytes());
        put_at(&mut bytes, FRAME_EPOCH, &self.epoch.to_le_bytes());
        put_at(&mut bytes, FRAME_BASE, &self.base.to_le_bytes());
        put_at(&mut bytes, FRAME_WATERMARK, &self.watermark.to_le_bytes());
        let sum = checksum::at(salt, offset, bytes.get(FRAME_KIND..).unwrap_or(&[]));
        put_at(&mut bytes, FRAME_CHECKSUM, &sum.to_le_bytes());
        bytes
    }

    /// Parses and verifies the header at the start of `bytes`, found at `offset` of a segment
    /// with `salt`.
    pub(crate) fn verify(bytes: &[u8], salt: u32, offset: u64) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER_LEN)?;
        let kind = match bytes.get(FRAME_KIND)? {
            0xF5 => FrameKind::Batch,
            0xE5 => FrameKind::End,
            _ => return None,
        };
        let flags = *bytes.get(FRAME_FLAGS)?;
        if flags > 3 || u16_at(bytes, FRAME_RESERVED) != 0 {
            return None;
        }
        if checksum::at(salt, offset, bytes.get(FRAME_KIND..)?) != u32_at(bytes, FRAME_CHECKSUM) {
            return None;
        }
        Some(FrameHeader {
            kind,
            first: flags & 1 != 0,
            last: flags & 2 != 0,
            len: u64::from(u32_at(bytes, FRAME_LEN)) * 8,
            count: u32_at(bytes, FRAME_COUNT),
            records_checksum: u32_at(bytes, FRAME_RECORDS_CHECKSUM),
            epoch: u32_at(bytes, FRAME_EPOCH),
            base: u64_at(bytes, FRAME_BASE),
            watermark: u64_at(bytes, FRAME_WATERMARK),
        })
    }
}

/// Gathers the checksum over all record headers of a frame.
#[derive(Clone)]
pub(crate) struct RecordsChecksum(crc32fast::Hasher);

impl RecordsChecksum {
    /// Starts for a frame in the segment with `salt`.
    pub(crate) fn new(salt: u32) -> Self {
        RecordsChecksum(crc32fast::Hasher::new_with_initial(!salt))
    }

    /// Adds the header at the start of `record`.
    pub(crate) fn add(&mut self, record: &[u8]) {
        self.0.update(record.get(..RECORD_HEADER_LEN).unwrap_or(record));
    }

    /// The checksum.
    pub(crate) fn finish(self) -> u32 {
        self.0.finalize()
    }
}
