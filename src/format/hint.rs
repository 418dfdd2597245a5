//! Hints: a sealed segment's records without keys and values, for a fast open.
//!
//! # Hint, 32 bytes
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | hash | xxh3 of the key, seeded by the store id; 0 where there is no key |
//! | 8 | 8 | seqno | sequence number of the record |
//! | 16 | 4 | offset | of the record in the segment, divided by 8 |
//! | 20 | 4 | len | of the record, divided by 8 |
//! | 24 | 4 | collection | id |
//! | 28 | 1 | kind | as in the record header |
//! | 29 | 1 | flags | as in the record header |
//! | 30 | 2 | reserved | zero |
//!
//! A hint is never trusted over the log: the hints as a whole carry a checksum salted by their
//! segment, and a read verifies the record that a hint led to.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::bytes::{put_at, u32_at, u64_at};
use super::record::{FrameHeader, Kind, Record};
use super::segment::StoreId;
use super::value::Flags;

/// Bytes of a hint.
pub(crate) const HINT_LEN: usize = 32;

/// One record of a segment, without key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// Hash of the key.
    pub hash: u64,
    /// Sequence number.
    pub seqno: u64,
    /// Offset of the record in its segment, in bytes.
    pub offset: u64,
    /// Length of the record, in bytes.
    pub len: u64,
    /// Id of the collection.
    pub collection: u32,
    /// What the record does.
    pub kind: Kind,
    /// How its value is stored.
    pub flags: Flags,
}

impl Hint {
    /// The hint of `record`, at `offset` of a segment of the store with this seed, in a frame with
    /// `header`.
    pub(crate) fn of(seed: u64, header: &FrameHeader, offset: u64, record: &Record<'_>) -> Self {
        let kind = record.header.kind;
        Hint {
            hash: if kind.has_key() { hash_key(seed, record.key) } else { 0 },
            seqno: header.base.saturating_add(u64::from(record.header.index)),
            offset,
            len: record.header.record_len() as u64,
            collection: record.header.collection,
            kind,
            flags: record.header.flags,
        }
    }

    /// Appends the hint's bytes.
    pub(crate) fn encode(&self, buf: &mut Vec<u8>) {
        let mut bytes = [0; HINT_LEN];
        put_at(&mut bytes, 0, &self.hash.to_le_bytes());
        put_at(&mut bytes, 8, &self.seqno.to_le_bytes());
        let units = |n: u64| u32::try_from(n / 8).unwrap_or(u32::MAX).to_le_bytes();
        put_at(&mut bytes, 16, &units(self.offset));
        put_at(&mut bytes, 20, &units(self.len));
        put_at(&mut bytes, 24, &self.collection.to_le_bytes());
        put_at(&mut bytes, 28, &[self.kind as u8, self.flags.to_u8()]);
        buf.extend_from_slice(&bytes);
    }

    /// Parses a hint.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HINT_LEN)?;
        Some(Hint {
            hash: u64_at(bytes, 0),
            seqno: u64_at(bytes, 8),
            offset: u64::from(u32_at(bytes, 16)) * 8,
            len: u64::from(u32_at(bytes, 20)) * 8,
            collection: u32_at(bytes, 24),
            kind: Kind::from_u8(*bytes.get(28)?)?,
            flags: Flags::from_u8(*bytes.get(29)?)?,
        })
    }
}

/// The seed of key hashes in the store with `id`: different stores hash differently, so that
/// nobody can prepare keys that collide.
pub(crate) fn hash_seed(id: &StoreId) -> u64 {
    u64_at(id, 0) ^ u64_at(id, 8).rotate_left(32)
}

/// The hash of `key`.
pub(crate) fn hash_key(seed: u64, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, seed)
}
