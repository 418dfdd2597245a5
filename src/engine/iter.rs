//! Iteration over a collection in the order of the log.

use std::sync::Arc;
use std::vec::IntoIter;

use super::core::Core;
use super::error::ReadError;
use super::read::{MISPLACED, ValueRef};
use super::segments::Segment;
use crate::index::{Location, index_hash};

/// Bytes read ahead from a segment that is not mapped.
const READ_AHEAD: usize = 256 << 10;

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: ValueRef,
}

/// Iterates over the keys that a collection held when the iterator was made, with the values of
/// that moment, in the order in which they were last written. Later writes do not disturb it.
///
/// Takes 16 bytes of memory per key, and reads each segment from front to back.
pub struct Iter {
    core: Arc<Core>,
    /// Id of the collection.
    collection: u32,
    entries: IntoIter<(Location, u64)>,
    ahead: Option<Ahead>,
}

/// A stretch of an unmapped segment.
struct Ahead {
    segment: Arc<Segment>,
    start: u64,
    bytes: Arc<Vec<u8>>,
}

impl Iter {
    /// Iterates over `entries` of the index of the collection with this id.
    pub(super) fn new(core: Arc<Core>, collection: u32, mut entries: Vec<(Location, u64)>) -> Self {
        entries.sort_unstable();
        Iter { core, collection, entries: entries.into_iter(), ahead: None }
    }

    /// The entry at `location`; `None` if it has expired.
    fn entry(&mut self, location: Location, hash: u64) -> Result<Option<Entry>, ReadError> {
        let segment = self.core.segment(location)?;
        let found = if segment.map().is_some() {
            self.core.read_record(location)?
        } else {
            match self.read_ahead(&segment, location.offset())? {
                Some(found) => found,
                // Longer than what is read ahead.
                None => self.core.read_record(location)?,
            }
        };
        self.core.verify_body(location, &found)?;
        let is_its_own = found.header.collection == self.collection
            && index_hash(self.core.hash_key(found.key())) == hash;
        if !is_its_own {
            // Whole, and in the wrong place: a copy of another record was written over this one.
            return Err(segment.corruption(location.offset(), MISPLACED).into());
        }
        let key = found.key().to_vec();
        Ok(self.core.verified_value(location, found)?.map(|value| Entry { key, value }))
    }

    fn read_ahead(
        &mut self,
        segment: &Arc<Segment>,
        offset: u64,
    ) -> Result<Option<super::read::Found>, ReadError> {
        if let Some(ahead) = &self.ahead
            && Arc::ptr_eq(&ahead.segment, segment)
            && let Some(found) = ahead.find(offset)
        {
            return Ok(Some(found));
        }
        let len = (segment.end().saturating_sub(offset)).min(READ_AHEAD as u64);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = segment.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        let segment = Arc::clone(segment);
        let ahead = Ahead { segment, start: offset, bytes: Arc::new(bytes) };
        let found = ahead.find(offset);
        self.ahead = Some(ahead);
        Ok(found)
    }
}

impl Ahead {
    fn find(&self, offset: u64) -> Option<super::read::Found> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        super::read::Found::in_buffer(&self.bytes, start, self.segment.salt)
    }
}

impl Iterator for Iter {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (location, hash) = self.entries.next()?;
            if let Some(entry) = self.entry(location, hash).transpose() {
                return Some(entry);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Any of them may have expired.
        (0, Some(self.entries.len()))
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("left", &self.entries.len()).finish_non_exhaustive()
    }
}
