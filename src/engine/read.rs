//! The read path: index -> segment -> verify -> bytes.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::catalog::CollectionState;
use super::core::Core;
use super::error::ReadError;
use super::options::Verify;
use super::segments::{Segment, Slots};
use crate::format::hint;
use crate::format::record::{RECORD_HEADER_LEN, Record, RecordHeader};
use crate::index::{Location, index_hash};

/// A value as it stands in the log: a piece of a mapped segment, or a buffer of its own.
///
/// It can be sent to other threads and kept as long as wanted: it stays valid and the same when
/// the key is overwritten or deleted, and when the store is closed. A mapped one keeps its
/// segment's map alive.
#[derive(Clone)]
pub struct ValueRef {
    bytes: Bytes,
    range: Range<usize>,
}

#[derive(Clone)]
enum Bytes {
    /// A sealed segment that is mapped.
    Mapped(Arc<Segment>),
    Heap(Arc<Vec<u8>>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(segment) => segment.map().map_or(&[], |map| map),
            Bytes::Heap(vec) => vec,
        }
    }
}

impl Deref for ValueRef {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or(&[])
    }
}

impl ValueRef {
    /// True if it is a piece of a mapped segment: having it costs no memory, and getting it again
    /// copies nothing.
    pub fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// A value in a buffer of its own.
    pub(super) fn owned(value: Vec<u8>) -> Self {
        Self::shared(Arc::new(value))
    }

    /// A value in a buffer that others may use too.
    pub(super) fn shared(value: Arc<Vec<u8>>) -> Self {
        ValueRef { range: 0..value.len(), bytes: Bytes::Heap(value) }
    }
}

impl AsRef<[u8]> for ValueRef {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq<[u8]> for ValueRef {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for ValueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ValueRef").field(&self.escape_ascii().to_string()).finish()
    }
}

/// What is wrong where a whole record stands in the place of another.
pub(super) const MISPLACED: &str = "the record of another key stands here";

/// Bytes read at once where the length of a record is not known yet.
const READ_WINDOW: u64 = 4096;

/// A record with the bytes that hold it.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    /// Where the record starts in its segment.
    pub(super) offset: u64,
    bytes: Bytes,
    /// Where the record starts in `bytes`.
    start: usize,
    pub(super) header: RecordHeader,
}

impl Found {
    /// The record at `start` of a buffer, which is at `offset` of `segment`, if it lies in the
    /// buffer whole and its header is right.
    pub(super) fn in_buffer(
        segment: &Arc<Segment>,
        offset: u64,
        bytes: &Arc<Vec<u8>>,
        start: usize,
    ) -> Option<Found> {
        let header = Record::verify_header(bytes.get(start..)?, segment.salt)?.header;
        let (segment, bytes) = (Arc::clone(segment), Bytes::Heap(Arc::clone(bytes)));
        Some(Found { segment, offset, bytes, start, header })
    }

    /// True if it is the record of `key` in `collection`.
    pub(super) fn is(&self, collection: u32, key: &[u8]) -> bool {
        self.header.collection == collection && self.key() == key
    }

    pub(super) fn key(&self) -> &[u8] {
        self.body(0, self.header.key_len)
    }

    fn body(&self, start: usize, len: usize) -> &[u8] {
        let start = self.start + RECORD_HEADER_LEN + start;
        self.bytes.get(start..start + len).unwrap_or(&[])
    }

    pub(super) fn record(&self) -> Record<'_> {
        let value = self.body(self.header.key_len, self.header.value_len);
        Record { header: self.header, key: self.key(), value }
    }

    /// The whole record as it stands in the segment, padding included.
    pub(super) fn raw(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.header.record_len()).unwrap_or(&[])
    }

    /// The value area from `skip` on, keeping the bytes alive; copied if it is a small part of a
    /// large buffer.
    pub(super) fn into_value(self, skip: usize) -> ValueRef {
        let start = self.start + RECORD_HEADER_LEN + self.header.key_len;
        let range = start + skip.min(self.header.value_len)..start + self.header.value_len;
        match &self.bytes {
            Bytes::Heap(buf) if buf.len() > 4 * self.header.record_len() => {
                let value = buf.get(range).unwrap_or(&[]).to_vec();
                ValueRef::owned(value)
            }
            _ => ValueRef { bytes: self.bytes, range },
        }
    }
}

impl Core {
    /// The record of `key`, or `None`. Its body is not verified yet.
    pub(super) fn lookup(
        &self,
        collection: &CollectionState,
        key: &[u8],
    ) -> Result<Option<Found>, ReadError> {
        let hash = self.hash_key(key);
        let (candidates, slots) = self.segments.pin_with(|| collection.index().find(hash));
        for location in candidates {
            let found = self.read_pinned(&slots, location)?;
            if self.is_record_of(collection.id, key, &found)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// True if `found`, to which the index led for `key`, is the record of `key`.
    pub(super) fn is_record_of(
        &self,
        collection: u32,
        key: &[u8],
        found: &Found,
    ) -> Result<bool, ReadError> {
        if found.is(collection, key) {
            return Ok(true);
        }
        if planted!(DamagedKeyIsAbsent) {
            return Ok(false);
        }
        self.check_intact(found)?;
        if self.is_other_key(found, self.hash_key(key)) {
            return Ok(false);
        }
        Err(found.segment.corruption(found.offset, MISPLACED).into())
    }

    /// Whether a record with a key that differs from the one that was looked for is where it
    /// belongs: whole, and of a key with the same hash. Else it is damaged, or a copy of another
    /// record has been written over it.
    pub(super) fn is_other_key(&self, found: &Found, hash: u64) -> bool {
        self.is_hash_of(found.key(), hash) && found.record().body_is_intact()
    }

    /// True if the index keeps `key` under `hash`.
    pub(super) fn is_hash_of(&self, key: &[u8], hash: u64) -> bool {
        index_hash(self.hash_key(key)) == index_hash(hash)
    }

    /// The hash of a key in this store.
    pub(super) fn hash_key(&self, key: &[u8]) -> u64 {
        hint::hash_key(self.hash_seed, key)
    }

    /// True if `key` is there; its value is not read, unless it expires.
    pub(super) fn has_key(
        &self,
        collection: &CollectionState,
        key: &[u8],
    ) -> Result<bool, ReadError> {
        let hash = self.hash_key(key);
        let (candidates, slots) = self.segments.pin_with(|| collection.index().find(hash));
        for location in candidates {
            let segment = self.pinned(&slots, location)?;
            let found = self.read_key(segment, location.offset())?;
            if found.is(collection.id, key) && !found.header.flags.expires() {
                return Ok(true);
            }
            let found = self.read_in(segment, location.offset())?;
            if self.is_record_of(collection.id, key, &found)? {
                return self.is_current(&found);
            }
        }
        Ok(false)
    }

    /// The record at `location`, its header verified, its body not.
    pub(super) fn read_pinned(
        &self,
        slots: &Slots,
        location: Location,
    ) -> Result<Found, ReadError> {
        self.read_in(self.pinned(slots, location)?, location.offset())
    }

    /// As [`Core::read_pinned`], in the segments as they are now. Requires: apply lock held, or
    /// nobody else yet, so that no segment leaves.
    pub(super) fn read_location(&self, location: Location) -> Result<Found, ReadError> {
        self.read_pinned(&self.segments.pin(), location)
    }

    /// The record at `offset` of `segment`, its header verified, its body not.
    pub(super) fn read_in(&self, segment: &Arc<Segment>, offset: u64) -> Result<Found, ReadError> {
        read_up_to(segment, offset, RecordHeader::record_len)
    }

    /// As [`Core::read_in`], but a large value may be missing: what is found is good for its
    /// header and its key only.
    pub(super) fn read_key(&self, segment: &Arc<Segment>, offset: u64) -> Result<Found, ReadError> {
        read_up_to(segment, offset, |header| RECORD_HEADER_LEN + header.key_len)
    }

    /// Verifies key and value as the options ask for.
    pub(super) fn verify_body(&self, found: &Found) -> Result<(), ReadError> {
        self.verify_body_as(found, self.options.verify)
    }

    /// Verifies key and value as often as `verify` says.
    pub(super) fn verify_body_as(&self, found: &Found, verify: Verify) -> Result<(), ReadError> {
        let once = match (verify, &found.bytes) {
            (Verify::Never, _) => return Ok(()),
            (Verify::Once, Bytes::Mapped(segment)) if segment.is_verified(found.offset) => {
                return Ok(());
            }
            (Verify::Once, Bytes::Mapped(segment)) => Some(segment),
            _ => None,
        };
        self.check_intact(found)?;
        if let Some(segment) = once {
            segment.set_verified(found.offset);
        }
        Ok(())
    }

    /// Verifies key and value, whatever the options say.
    pub(super) fn check_intact(&self, found: &Found) -> Result<(), ReadError> {
        if found.record().body_is_intact() || planted!(ReadNotVerified) {
            return Ok(());
        }
        let what = format!(
            "record checksum does not match, key {}",
            found.key().escape_ascii().to_string().chars().take(64).collect::<String>()
        );
        Err(found.segment.corruption(found.offset, what).into())
    }

    /// The segment of `location`.
    pub(super) fn pinned<'a>(
        &self,
        slots: &'a Slots,
        location: Location,
    ) -> Result<&'a Arc<Segment>, ReadError> {
        slots.get(location).ok_or_else(|| {
            let what = "the index points to a segment that is not there".to_owned();
            ReadError::Corrupt(super::error::Corruption {
                file: self.dir.clone(),
                offset: location.offset(),
                what,
            })
        })
    }
}

/// The record at `offset` of `segment`; where it must be read, only as many bytes as `wanted` says.
fn read_up_to(
    segment: &Arc<Segment>,
    offset: u64,
    wanted: impl FnOnce(&RecordHeader) -> usize,
) -> Result<Found, ReadError> {
    let found = |bytes, start, header| {
        let segment = Arc::clone(segment);
        Found { segment, offset, bytes, start, header }
    };
    if let Some(map) = segment.map() {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let header = map
            .get(start..)
            .and_then(|bytes| Record::verify_header(bytes, segment.salt))
            .map(|record| record.header);
        let header = header.ok_or_else(|| damaged_header(segment, offset))?;
        return Ok(found(Bytes::Mapped(Arc::clone(segment)), start, header));
    }
    let end = segment.end();
    let mut buf = read_range(segment, offset, (offset + READ_WINDOW).min(end))?;
    let header =
        RecordHeader::verify(&buf, segment.salt).ok_or_else(|| damaged_header(segment, offset))?;
    let len = wanted(&header);
    if len > buf.len() {
        let record_end = offset + len as u64;
        if record_end > end {
            let what = "record reaches behind the end of its segment";
            return Err(segment.corruption(offset, what).into());
        }
        buf = read_range(segment, offset, record_end)?;
    }
    Ok(found(Bytes::Heap(Arc::new(buf)), 0, header))
}

fn damaged_header(segment: &Segment, offset: u64) -> ReadError {
    segment.corruption(offset, "record header checksum does not match").into()
}

/// The bytes of `segment` from `start` to `end`. Requires: `end` is at most the segment's end.
fn read_range(segment: &Segment, start: u64, end: u64) -> Result<Vec<u8>, ReadError> {
    let len = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    let mut buf = vec![0; len];
    let read = segment.read_at(&mut buf, start)?;
    if read < len {
        let what = format!("file ends at byte {}, expected {end}", start + read as u64);
        return Err(segment.corruption(start, what).into());
    }
    Ok(buf)
}
