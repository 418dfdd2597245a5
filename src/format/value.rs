//! The value of a put record: what its flags say stands before it, and how it is stored.
//!
//! # Value area
//!
//! Without flags it is the value as it is. Otherwise, at these places of the area:
//!
//! | size | field | there if | meaning |
//! |---|---|---|---|
//! | 8 | expires | bit 2 is set | from this time on the record is not returned |
//! | 4 | raw len | bits 0..2 are not 0 | bytes of the value before it was compressed |
//! | 4 | dictionary | bits 0..2 are not 0 | number of the dictionary; 0 for LZ4 |
//! | rest | stored | always | the value, compressed as bits 0..2 of the flags say |
//!
//! # Flags of a record, 1 byte
//!
//! | bits | meaning |
//! |---|---|
//! | 0..2 | 0 stored as it is; 1 an LZ4 block; 2 a Zstandard frame that needs its dictionary |
//! | 2 | the record expires |
//! | 3..8 | zero; a record with another bit set is refused |
//!
//! Only puts have flags. The record's value length is that of the area, and its body checksum
//! covers the area as it is stored: damage is found before anything is decompressed. The time is a
//! number of the user's, in a unit of the user's.
//!
//! A value of `n` stored bytes has at most `256 * n` bytes, and never more than a value may have:
//! what a decoder allocates is bounded by what it was given.

use super::bytes::{u32_at, u64_at};
use crate::limits::VALUE_LEN_MAX;

const COMPRESSION_MASK: u8 = 0b011;
const EXPIRES: u8 = 0b100;

/// Most bytes of a value for each one that is stored. No LZ4 block has more.
const RAW_PER_STORED_MAX: usize = 256;

/// Bytes of `expires`.
pub(crate) const EXPIRES_LEN: usize = 8;

/// How the bytes of a value are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// An LZ4 block.
    Lz4,
    /// A Zstandard frame without its magic number, made with the dictionary of this number.
    Zstd(u32),
}

/// The flags byte of a record header, known to hold no unknown bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// The flags with this number on disk, if all of its bits are known.
    pub(crate) fn from_u8(n: u8) -> Option<Flags> {
        let is_known = n <= COMPRESSION_MASK | EXPIRES && n & COMPRESSION_MASK != 3;
        is_known.then_some(Flags(n))
    }

    /// The number on disk.
    pub(crate) fn to_u8(self) -> u8 {
        self.0
    }

    /// True if the value area is the value as it is.
    pub(crate) fn is_plain(self) -> bool {
        self.0 == 0
    }

    /// True if the record expires.
    pub(crate) fn expires(self) -> bool {
        self.0 & EXPIRES != 0
    }

    /// True if the value is compressed.
    pub(crate) fn is_compressed(self) -> bool {
        self.0 & COMPRESSION_MASK != 0
    }

    /// Bytes of the value area before the stored bytes.
    pub(crate) fn prefix_len(self) -> usize {
        let expires = if self.expires() { EXPIRES_LEN } else { 0 };
        expires + if self.is_compressed() { 8 } else { 0 }
    }
}

/// A value area, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// From this time on the record is not returned.
    pub expires: Option<u64>,
    /// How `bytes` are compressed, if they are, and how many bytes the value has.
    pub coding: Option<(Coding, usize)>,
    /// The value as it is stored.
    pub bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Takes `area` apart; `None` if no record with these flags can have it.
    pub(crate) fn parse(flags: Flags, area: &'a [u8]) -> Option<Self> {
        let (prefix, bytes) = area.split_at_checked(flags.prefix_len())?;
        let expires = flags.expires().then(|| u64_at(prefix, 0));
        let packed = prefix.get(if flags.expires() { EXPIRES_LEN } else { 0 }..)?;
        let (raw_len, dictionary) = (u32_at(packed, 0) as usize, u32_at(packed, 4));
        let coding = match flags.0 & COMPRESSION_MASK {
            0 => None,
            1 if dictionary == 0 => Some((Coding::Lz4, raw_len)),
            2 => Some((Coding::Zstd(dictionary), raw_len)),
            _ => return None,
        };
        let may_be = coding.is_none_or(|(_, raw_len)| fits(raw_len, bytes.len()));
        may_be.then_some(Stored { expires, coding, bytes })
    }

    /// The flags of the record that holds it.
    pub(crate) fn flags(&self) -> Flags {
        let coding = match self.coding {
            None => 0,
            Some((Coding::Lz4, _)) => 1,
            Some((Coding::Zstd(_), _)) => 2,
        };
        Flags(coding | if self.expires.is_some() { EXPIRES } else { 0 })
    }

    /// Appends the value area.
    pub(crate) fn encode(&self, buf: &mut Vec<u8>) {
        if let Some(time) = self.expires {
            buf.extend_from_slice(&time.to_le_bytes());
        }
        if let Some((coding, raw_len)) = self.coding {
            let raw_len = u32::try_from(raw_len).unwrap_or(u32::MAX);
            buf.extend_from_slice(&raw_len.to_le_bytes());
            let dictionary = if let Coding::Zstd(number) = coding { number } else { 0 };
            buf.extend_from_slice(&dictionary.to_le_bytes());
        }
        buf.extend_from_slice(self.bytes);
    }
}

/// True if a value of `raw_len` bytes may be stored in `stored_len`.
pub(crate) fn fits(raw_len: usize, stored_len: usize) -> bool {
    raw_len <= VALUE_LEN_MAX && raw_len <= stored_len.saturating_mul(RAW_PER_STORED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flags_byte_is_known_or_refused() {
        let known: Vec<u8> = (0..=255).filter_map(Flags::from_u8).map(Flags::to_u8).collect();
        assert_eq!(known, [0, 1, 2, 4, 5, 6]);
    }

    #[test]
    fn areas_come_back_and_have_their_bytes() {
        let all = [
            (None, None, b"v".to_vec()),
            (Some(0x0807_0605_0403_0201), None, b"\x01\x02\x03\x04\x05\x06\x07\x08v".to_vec()),
            (None, Some((Coding::Lz4, 200)), b"\xc8\0\0\0\0\0\0\0v".to_vec()),
            (None, Some((Coding::Zstd(7), 9)), b"\x09\0\0\0\x07\0\0\0v".to_vec()),
            (
                Some(1),
                Some((Coding::Zstd(1), 1)),
                b"\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0v".to_vec(),
            ),
        ];
        for (expires, coding, bytes) in all {
            let stored = Stored { expires, coding, bytes: b"v" };
            let mut area = Vec::new();
            stored.encode(&mut area);
            assert_eq!(area, bytes);
            assert_eq!(area.len() - 1, stored.flags().prefix_len());
            assert_eq!(Stored::parse(stored.flags(), &area), Some(stored));
            for len in 0..stored.flags().prefix_len() {
                assert_eq!(Stored::parse(stored.flags(), &area[..len]), None);
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let area = |raw_len: u32, dictionary: u32, stored: usize| {
            let mut area = raw_len.to_le_bytes().to_vec();
            area.extend_from_slice(&dictionary.to_le_bytes());
            area.resize(area.len() + stored, 0);
            area
        };
        let parse = |flags, area: &[u8]| {
            Stored::parse(Flags(flags), area).and_then(|s| s.coding).map(|c| c.1)
        };
        assert_eq!(parse(1, &area(256, 0, 1)), Some(256));
        assert_eq!(parse(1, &area(257, 0, 1)), None);
        assert_eq!(parse(1, &area(1, 1, 1)), None, "LZ4 has no dictionary");
        assert_eq!(parse(2, &area(0, 5, 0)), Some(0));
        assert_eq!(parse(2, &area(1 << 30, 5, 1 << 22)), Some(1 << 30));
        assert_eq!(parse(2, &area((1 << 30) + 1, 5, 1 << 23)), None);
    }
}
