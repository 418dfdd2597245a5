//! Iteration over a collection in the order of the log.

use std::sync::Arc;
use std::vec::IntoIter;

use super::catalog::CollectionState;
use super::core::Core;
use super::error::ReadError;
use super::read::{Found, MISPLACED, ValueRef};
use super::segments::{Segment, Slots};
use crate::index::Location;

/// Bytes read ahead from a segment that is not mapped.
const READ_AHEAD: usize = 256 << 10;

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: ValueRef,
    /// The time at which it expires, if it does: see [`crate::WriteBatch::put_expiring`].
    pub expires_at: Option<u64>,
}

/// Iterates over the keys that a collection held when the iterator was made, with the values of
/// that moment, in the order in which they were last written. Later writes do not disturb it.
///
/// Takes 16 bytes of memory per key, and reads each segment from front to back.
pub struct Iter {
    core: Arc<Core>,
    /// Id of the collection.
    collection: u32,
    /// Locations and key hashes.
    entries: IntoIter<(Location, u64)>,
    /// The segments that hold them: they stay until the iterator goes.
    slots: Arc<Slots>,
    ahead: Option<Ahead>,
    /// Why there is nothing to iterate over, to be told first.
    failure: Option<ReadError>,
}

/// A stretch of an unmapped segment.
struct Ahead {
    segment: Arc<Segment>,
    start: u64,
    bytes: Arc<Vec<u8>>,
}

impl Iter {
    /// Over all keys of a collection.
    pub(super) fn of(core: &Arc<Core>, collection: &CollectionState) -> Self {
        let (entries, slots) = core.segments.pin_with(|| collection.index().entries());
        Self::new(core, collection.id, entries, slots)
    }

    /// Over nothing.
    pub(super) fn empty(core: &Arc<Core>) -> Self {
        Self::new(core, 0, Vec::new(), core.segments.pin())
    }

    /// Over the keys with these hashes and locations, which lie in `slots`.
    pub(super) fn new(
        core: &Arc<Core>,
        collection: u32,
        entries: Vec<(u64, Location)>,
        slots: Arc<Slots>,
    ) -> Self {
        let mut entries: Vec<_> = entries.into_iter().map(|(hash, at)| (at, hash)).collect();
        entries.sort_unstable();
        Iter {
            core: Arc::clone(core),
            collection,
            entries: entries.into_iter(),
            slots,
            ahead: None,
            failure: None,
        }
    }

    /// Over nothing, because of `failure`.
    pub(super) fn failed(core: &Arc<Core>, failure: ReadError) -> Self {
        Iter { failure: Some(failure), ..Self::empty(core) }
    }

    /// The entry at `location`; `None` if it has expired.
    fn entry(&mut self, location: Location, hash: u64) -> Result<Option<Entry>, ReadError> {
        let segment = Arc::clone(self.core.pinned(&self.slots, location)?);
        let offset = location.offset();
        let found = if segment.map().is_some() {
            self.core.read_in(&segment, offset)?
        } else {
            match self.read_ahead(&segment, offset)? {
                Some(found) => found,
                // Longer than what is read ahead.
                None => self.core.read_in(&segment, offset)?,
            }
        };
        self.core.verify_body(&found)?;
        if !self.core.is_hash_of(found.key(), hash) || found.header.collection != self.collection {
            // Whole, and in the wrong place: a copy of another record was written over this one.
            return Err(segment.corruption(offset, MISPLACED).into());
        }
        let key = found.key().to_vec();
        let expires_at = self.core.expiry_of(&found)?;
        let value = self.core.verified_value(found)?;
        Ok(value.map(|value| Entry { key, value, expires_at }))
    }

    fn read_ahead(
        &mut self,
        segment: &Arc<Segment>,
        offset: u64,
    ) -> Result<Option<Found>, ReadError> {
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
    fn find(&self, offset: u64) -> Option<Found> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        Found::in_buffer(&self.segment, offset, &self.bytes, start)
    }
}

impl Iterator for Iter {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
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
