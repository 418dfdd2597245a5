//! Checkpoints: the index as of one sequence number, so that an open need not build it.
//!
//! ```text
//! checkpoint = header block* meta
//! ```
//!
//! # Header, 72 bytes at offset 0
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `SILTCKP1` |
//! | 8 | 2 | major | format version; a reader ignores another one |
//! | 10 | 2 | minor | raised by additions that older readers may ignore |
//! | 12 | 4 | epoch | which open of the store wrote it |
//! | 16 | 16 | store | id of the store |
//! | 32 | 8 | seqno | it holds the state of all records below this sequence number |
//! | 40 | 8 | next segment | all its segments have smaller ids |
//! | 48 | 8 | meta | offset of the meta data, behind the blocks |
//! | 56 | 8 | meta len | its length: the file ends with it |
//! | 64 | 4 | meta checksum | salted by bytes 8..48 |
//! | 68 | 4 | checksum | of bytes 0..68 |
//!
//! # Blocks
//!
//! A block is one table of an index: 12 bytes an entry, 6 of hash and 6 of location, in order of
//! hash. Blocks stand without gaps in the order in which the meta data names them, with their
//! numbers of entries and their checksums, salted as that of the meta data is and bound to their
//! offsets.
//!
//! # Meta data
//!
//! The numbers of [`Meta`] one after the other, little-endian, in the order of the fields; lists
//! and strings with their length as a u32 before them.
//!
//! A checkpoint is never trusted over the log: the engine says when it counts.

use super::bytes::{align8, array_at, put_at, u16_at, u32_at, u64_at};
use super::manifest::Seal;
use super::segment::StoreId;
use super::{FORMAT_MAJOR, FORMAT_MINOR, checksum};

/// File name of the checkpoint.
pub(crate) const FILE_NAME: &str = "CHECKPOINT";
/// Name under which a new one is written before it replaces the old one.
pub(crate) const TEMP_NAME: &str = "CHECKPOINT.tmp";

/// Bytes of an entry of a block.
pub(crate) const ENTRY_LEN: usize = 12;
/// Tables of an index that has been split.
pub(crate) const TABLES: usize = 256;

/// Bytes of the header.
pub(crate) const CHECKPOINT_HEADER_LEN: usize = 72;
const MAGIC: &[u8; 8] = b"SILTCKP1";

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Id of the store.
    pub store: StoreId,
    /// Which open of the store wrote it.
    pub epoch: u32,
    /// It holds the state of all records below this one.
    pub seqno: u64,
    /// All its segments have smaller ids.
    pub next_segment: u64,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub identity: Identity,
    /// Where the meta data stands, how long it is, and its checksum.
    pub meta_offset: u64,
    pub meta_len: u64,
    pub meta_checksum: u32,
}

impl Identity {
    fn put(&self, bytes: &mut [u8]) {
        put_at(bytes, 0, MAGIC);
        put_at(bytes, 8, &FORMAT_MAJOR.to_le_bytes());
        put_at(bytes, 10, &FORMAT_MINOR.to_le_bytes());
        put_at(bytes, 12, &self.epoch.to_le_bytes());
        put_at(bytes, 16, &self.store);
        put_at(bytes, 32, &self.seqno.to_le_bytes());
        put_at(bytes, 40, &self.next_segment.to_le_bytes());
    }

    /// The salt of all checksums but the header's.
    pub(crate) fn salt(&self) -> u32 {
        let mut bytes = [0; 48];
        self.put(&mut bytes);
        checksum::plain(bytes.get(8..).unwrap_or(&[]))
    }
}

impl Header {
    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; CHECKPOINT_HEADER_LEN] {
        let mut bytes = [0; CHECKPOINT_HEADER_LEN];
        self.identity.put(&mut bytes);
        put_at(&mut bytes, 48, &self.meta_offset.to_le_bytes());
        put_at(&mut bytes, 56, &self.meta_len.to_le_bytes());
        put_at(&mut bytes, 64, &self.meta_checksum.to_le_bytes());
        let sum = checksum::plain(bytes.get(..68).unwrap_or(&[]));
        put_at(&mut bytes, 68, &sum.to_le_bytes());
        bytes
    }

    /// Parses and verifies the header of a file of `file_len` bytes.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<Self, &'static str> {
        let bytes = bytes.get(..CHECKPOINT_HEADER_LEN).ok_or("it is shorter than its header")?;
        if bytes.get(..8) != Some(MAGIC) {
            return Err("no checkpoint magic");
        }
        if checksum::plain(bytes.get(..68).unwrap_or(&[])) != u32_at(bytes, 68) {
            return Err("header checksum does not match");
        }
        if u16_at(bytes, 8) != FORMAT_MAJOR {
            return Err("it is of another format version");
        }
        let identity = Identity {
            store: array_at(bytes, 16).unwrap_or_default(),
            epoch: u32_at(bytes, 12),
            seqno: u64_at(bytes, 32),
            next_segment: u64_at(bytes, 40),
        };
        let (meta_offset, meta_len) = (u64_at(bytes, 48), u64_at(bytes, 56));
        let fits = meta_offset >= CHECKPOINT_HEADER_LEN as u64
            && meta_offset.checked_add(meta_len) == Some(file_len);
        if !fits {
            return Err("it has another length than when it was written");
        }
        Ok(Header { identity, meta_offset, meta_len, meta_checksum: u32_at(bytes, 64) })
    }
}

/// Everything but the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub segments: Vec<SavedSegment>,
    pub collections: Vec<SavedCollection>,
    /// What the system collection holds.
    pub facts: Vec<Fact>,
    /// The points in time that something is kept for, oldest first.
    pub points: Vec<SavedPoint>,
}

/// A segment that holds records of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SavedSegment {
    pub slot: u32,
    pub salt: u32,
    pub id: u64,
    /// Its extent, if it was sealed.
    pub seal: Option<Seal>,
    /// Offset behind the last record of the state.
    pub end: u64,
    /// Bytes and records that are live.
    pub live_bytes: u64,
    pub live_records: u64,
    /// Records, their bytes, puts, and bytes of tombstones that were written to it.
    pub records: u64,
    pub bytes: u64,
    pub puts: u64,
    pub tombstone_bytes: u64,
}

/// Bytes and records in the segment of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub slot: u32,
    pub bytes: u64,
    pub records: u64,
}

/// One collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedCollection {
    pub id: u32,
    pub is_listed: bool,
    pub name: String,
    /// The value of the configure record that counts, and its sequence number.
    pub options: Vec<u8>,
    pub options_seqno: u64,
    pub live: Vec<Share>,
    pub index: SavedIndex,
}

/// A record of the system collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub seqno: u64,
    /// Where it stands, as the index keeps it.
    pub location: u64,
    pub key: Vec<u8>,
}

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedPoint {
    pub seqno: u64,
    pub kept: Vec<SavedKept>,
}

/// What a point keeps of one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedKept {
    pub collection: u32,
    pub grown: i64,
    pub pinned: Vec<Share>,
    pub changed: SavedIndex,
    pub cleared: Option<SavedIndex>,
}

/// The tables of one index: none, one, or [`TABLES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedIndex {
    pub blocks: Vec<Block>,
}

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it stands in the file. Not written: blocks stand without gaps.
    pub offset: u64,
    pub entries: u32,
    pub checksum: u32,
}

impl Block {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.entries) * ENTRY_LEN as u64
    }
}

impl Meta {
    /// All tables, in no particular order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        let kept = self.points.iter().flat_map(|point| &point.kept);
        let kept = kept.flat_map(|kept| kept.cleared.iter().chain([&kept.changed]));
        self.collections.iter().map(|c| &c.index).chain(kept).flat_map(|index| &index.blocks)
    }

    /// The bytes of the meta data.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::new());
        w.list(&self.segments, |w, s| {
            w.u32(s.slot);
            w.u32(s.salt);
            let seal = s.seal.unwrap_or(Seal { data_end: 0, file_len: 0, first: 0, next: 0 });
            for n in [s.id, seal.data_end, seal.file_len, seal.first, seal.next] {
                w.u64(n);
            }
            for n in [s.end, s.live_bytes, s.live_records] {
                w.u64(n);
            }
            for n in [s.records, s.bytes, s.puts, s.tombstone_bytes] {
                w.u64(n);
            }
        });
        w.list(&self.collections, |w, c| {
            w.u32(c.id);
            w.u32(u32::from(c.is_listed));
            w.bytes(c.name.as_bytes());
            w.bytes(&c.options);
            w.u64(c.options_seqno);
            w.shares(&c.live);
            w.index(&c.index);
        });
        w.list(&self.facts, |w, fact| {
            w.u64(fact.seqno);
            w.u64(fact.location);
            w.bytes(&fact.key);
        });
        w.list(&self.points, |w, point| {
            w.u64(point.seqno);
            w.list(&point.kept, |w, kept| {
                w.u32(kept.collection);
                w.u32(u32::from(kept.cleared.is_some()));
                w.0.extend_from_slice(&kept.grown.to_le_bytes());
                w.shares(&kept.pinned);
                w.index(&kept.changed);
                if let Some(cleared) = &kept.cleared {
                    w.index(cleared);
                }
            });
        });
        w.0.resize(align8(w.0.len()), 0);
        w.0
    }

    /// Parses meta data whose checksum is right. Takes memory in proportion to `bytes`, whatever
    /// they say.
    pub(crate) fn decode(bytes: &[u8], header: &Header) -> Option<Self> {
        let mut r = Reader { rest: bytes, block_at: CHECKPOINT_HEADER_LEN as u64 };
        let meta = Meta {
            segments: r.list(104, Reader::segment)?,
            collections: r.list(32, Reader::collection)?,
            facts: r.list(20, |r| {
                let (seqno, location) = (r.u64()?, r.u64()?);
                Some(Fact { seqno, location, key: r.bytes()?.to_vec() })
            })?,
            points: r.list(12, |r| {
                Some(SavedPoint { seqno: r.u64()?, kept: r.list(24, Reader::kept)? })
            })?,
        };
        let is_read = r.rest.len() < 8 && r.rest.iter().all(|b| *b == 0);
        (is_read && r.block_at == header.meta_offset).then_some(meta)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).unwrap_or(u32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, items: &[T], mut put: impl FnMut(&mut Self, &T)) {
        self.len(items.len());
        for item in items {
            put(self, item);
        }
    }

    fn shares(&mut self, shares: &[Share]) {
        self.list(shares, |w, share| {
            w.u32(share.slot);
            w.u64(share.bytes);
            w.u64(share.records);
        });
    }

    fn index(&mut self, index: &SavedIndex) {
        self.list(&index.blocks, |w, block| {
            w.u32(block.entries);
            w.u32(block.checksum);
        });
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Where the next block stands.
    block_at: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32_at(bytes, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64_at(bytes, 0))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// A list of items of at least `len_min` bytes each: one that is too long for what follows is
    /// not begun.
    fn list<T>(
        &mut self,
        len_min: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = usize::try_from(self.u32()?).ok()?;
        if count.checked_mul(len_min)? > self.rest.len() {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn segment(&mut self) -> Option<SavedSegment> {
        let (slot, salt, id) = (self.u32()?, self.u32()?, self.u64()?);
        let (data_end, file_len) = (self.u64()?, self.u64()?);
        let seal = Seal { data_end, file_len, first: self.u64()?, next: self.u64()? };
        Some(SavedSegment {
            slot,
            salt,
            id,
            seal: (file_len > 0).then_some(seal),
            end: self.u64()?,
            live_bytes: self.u64()?,
            live_records: self.u64()?,
            records: self.u64()?,
            bytes: self.u64()?,
            puts: self.u64()?,
            tombstone_bytes: self.u64()?,
        })
    }

    fn collection(&mut self) -> Option<SavedCollection> {
        Some(SavedCollection {
            id: self.u32()?,
            is_listed: self.u32()? != 0,
            name: String::from_utf8(self.bytes()?.to_vec()).ok()?,
            options: self.bytes()?.to_vec(),
            options_seqno: self.u64()?,
            live: self.shares()?,
            index: self.index()?,
        })
    }

    fn kept(&mut self) -> Option<SavedKept> {
        let (collection, flags) = (self.u32()?, self.u32()?);
        Some(SavedKept {
            collection,
            grown: i64::from_le_bytes(self.take(8)?.try_into().ok()?),
            pinned: self.shares()?,
            changed: self.index()?,
            cleared: if flags & 1 != 0 { Some(self.index()?) } else { None },
        })
    }

    fn shares(&mut self) -> Option<Vec<Share>> {
        self.list(20, |r| Some(Share { slot: r.u32()?, bytes: r.u64()?, records: r.u64()? }))
    }

    fn index(&mut self) -> Option<SavedIndex> {
        let blocks = self.list(8, |r| {
            let block = Block { offset: r.block_at, entries: r.u32()?, checksum: r.u32()? };
            r.block_at = r.block_at.checked_add(block.len())?;
            Some(block)
        })?;
        matches!(blocks.len(), 0 | 1 | TABLES).then_some(SavedIndex { blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Meta, u64) {
        let block = |offset| Block { offset, entries: 2, checksum: 9 };
        let index = |offset| SavedIndex { blocks: vec![block(offset)] };
        let share = Share { slot: 3, bytes: 400, records: 2 };
        let seal = Seal { data_end: 4096, file_len: 5000, first: 1, next: 9 };
        let segment = |id, seal| SavedSegment {
            slot: id as u32 + 2,
            salt: 77,
            id,
            seal,
            end: 4096,
            live_bytes: 400,
            live_records: 2,
            records: 4,
            bytes: 500,
            puts: 3,
            tombstone_bytes: 24,
        };
        let kept = SavedKept {
            collection: 0,
            grown: -3,
            pinned: vec![share],
            changed: index(96),
            cleared: Some(index(120)),
        };
        let meta = Meta {
            segments: vec![segment(1, Some(seal)), segment(2, None)],
            collections: vec![SavedCollection {
                id: 0,
                is_listed: true,
                name: "nodes".to_owned(),
                options: vec![0, 1, 2],
                options_seqno: 5,
                live: vec![share],
                index: index(72),
            }],
            facts: vec![Fact { seqno: 8, location: 3 << 28 | 12, key: b"n".to_vec() }],
            points: vec![SavedPoint { seqno: 7, kept: vec![kept] }],
        };
        (meta, 144)
    }

    fn header(meta_offset: u64, meta_len: u64) -> Header {
        let identity = Identity { store: [7; 16], epoch: 3, seqno: 9, next_segment: 4096 };
        Header { identity, meta_offset, meta_len, meta_checksum: 1 }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        let (meta, offset) = sample();
        let bytes = meta.encode();
        let header = header(offset, bytes.len() as u64);
        assert_eq!(Meta::decode(&bytes, &header).as_ref(), Some(&meta));
        let file_len = offset + bytes.len() as u64;
        assert_eq!(Header::decode(&header.encode(), file_len), Ok(header));
        assert!(Header::decode(&header.encode(), file_len + 1).is_err());
        for at in 0..header.encode().len() * 8 {
            let mut bytes = header.encode();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(Header::decode(&bytes, file_len).is_err(), "bit {at}");
        }
        // All but the padding counts.
        for len in 0..bytes.len() - 7 {
            assert_eq!(Meta::decode(&bytes[..len], &header), None, "{len} bytes");
        }
        // Damage that a checksum would have found must not be a panic, or take memory.
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xFF;
            let _ = Meta::decode(&bytes, &header);
        }
    }

    /// Goal: the layout does not change unnoticed.
    #[test]
    fn bytes_are_pinned() {
        let (meta, offset) = sample();
        let bytes = meta.encode();
        assert_eq!(bytes.len(), 392);
        assert_eq!(checksum::plain(&bytes), PINNED_META);
        assert_eq!(checksum::plain(&header(offset, 392).encode()), PINNED_HEADER);
        assert_eq!(header(offset, 392).identity.salt(), PINNED_SALT);
    }

    const PINNED_META: u32 = 0xCF2A_6071;
    const PINNED_HEADER: u32 = 0x2144_DF1C;
    const PINNED_SALT: u32 = 0xA318_458B;
}
