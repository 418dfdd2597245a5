//! [`Snapshot`]: the store as it was at one point in time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::catalog::CollectionState;
use super::core::Core;
use super::error::ReadError;
use super::iter::{Entry, Iter};
use super::points::Point;
use super::read::{Found, ValueRef};
use super::segments::Slots;
use crate::index::Location;

/// The store at one point in time, whole batches only: writes and compaction go on without
/// changing what it shows.
///
/// It costs nothing to make, and as long as it is held: memory of about 20 bytes for each key that
/// is overwritten or deleted, and the space of the old values. Both are given back when it is
/// dropped. It keeps the store's files open, also after the store was closed.
pub struct Snapshot {
    core: Arc<Core>,
    point: Arc<Point>,
}

impl Snapshot {
    /// The state as of now.
    pub(super) fn now(core: &Arc<Core>) -> Self {
        let point = {
            // Taken while no batch is half applied.
            let _applying = core.apply.lock();
            core.points.hold(core.applied())
        };
        Snapshot { core: Arc::clone(core), point }
    }

    /// On a point that is held already.
    pub(super) fn on(core: &Arc<Core>, point: Arc<Point>) -> Self {
        Snapshot { core: Arc::clone(core), point }
    }

    /// Another one of the same state.
    pub(super) fn another(&self) -> (&Arc<Core>, Snapshot) {
        let point = {
            let _applying = self.core.apply.lock();
            self.core.points.hold(self.point.seqno)
        };
        (&self.core, Snapshot::on(&self.core, point))
    }

    /// The value of `key` at this point.
    pub(super) fn value(
        &self,
        collection: &CollectionState,
        key: &[u8],
    ) -> Result<Option<ValueRef>, ReadError> {
        let Some(found) = self.lookup(collection, key)? else { return Ok(None) };
        self.core.value_of(found)
    }

    /// `key` with its value and its expiry at this point.
    pub(super) fn entry(
        &self,
        collection: &CollectionState,
        key: Vec<u8>,
    ) -> Result<Option<Entry>, ReadError> {
        let Some(found) = self.lookup(collection, &key)? else { return Ok(None) };
        let expires_at = self.core.expiry_of(&found)?;
        let value = self.core.value_of(found)?;
        Ok(value.map(|value| Entry { key, value, expires_at }))
    }

    /// The state is that of all records with a smaller sequence number.
    pub fn seqno(&self) -> u64 {
        self.point.seqno
    }

    /// The value of `key` in `collection`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get(&self, collection: &str, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        let Some(state) = self.core.catalog.find(collection) else { return Ok(None) };
        self.value(&state, key)
    }

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_many(
        &self,
        collection: &str,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<ValueRef>>, ReadError> {
        keys.iter().map(|key| self.get(collection, key)).collect()
    }

    /// True if `key` is in `collection`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, ReadError> {
        match self.core.catalog.find(collection) {
            Some(state) => {
                self.lookup(&state, key)?.map_or(Ok(false), |found| self.core.is_current(&found))
            }
            None => Ok(false),
        }
    }

    /// Number of keys in `collection`; costs nothing.
    pub fn len(&self, collection: &str) -> u64 {
        self.core.catalog.find(collection).map_or(0, |state| self.core.len_at(&self.point, &state))
    }

    /// True if `collection` holds no key.
    pub fn is_empty(&self, collection: &str) -> bool {
        self.len(collection) == 0
    }

    /// The collections that hold keys and how many each holds, by name.
    pub fn collections(&self) -> Vec<(String, u64)> {
        let all = self.core.catalog.all().into_iter();
        let counted = all.map(|c| (c.name.clone(), self.core.len_at(&self.point, &c)));
        let by_name: BTreeMap<String, u64> = counted.filter(|(_, len)| *len > 0).collect();
        by_name.into_iter().collect()
    }

    /// The keys and values of `collection`, in the order of the log.
    pub fn iter(&self, collection: &str) -> Iter {
        match self.core.catalog.find(collection) {
            Some(state) => match self.entries(&state) {
                Ok((entries, slots)) => Iter::new(&self.core, state.id, entries, slots),
                Err(e) => Iter::failed(&self.core, e),
            },
            None => Iter::empty(&self.core),
        }
    }

    /// True if `found` has not expired.
    pub(super) fn is_current(&self, found: &Found) -> Result<bool, ReadError> {
        self.core.is_current(found)
    }

    /// The record of `key` at this point. Its body is not verified yet.
    pub(super) fn lookup(
        &self,
        collection: &CollectionState,
        key: &[u8],
    ) -> Result<Option<Found>, ReadError> {
        let hash = self.core.hash_key(key);
        let (candidates, slots) = self.core.segments.pin_with(|| {
            let mut all: Vec<Location> = collection.index().find(hash).into_iter().collect();
            for point in self.core.points.since(self.point.seqno) {
                let Some(kept) = point.kept(collection.id) else { continue };
                all.extend(kept.changed.find(hash));
                all.extend(kept.cleared.get().into_iter().flat_map(|index| index.find(hash)));
            }
            all
        });
        for location in candidates {
            if !self.knows(&slots, location)? {
                continue;
            }
            let found = self.core.read_pinned(&slots, location)?;
            if self.core.is_record_of(collection.id, key, &found)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// All keys of a collection: hashes and locations, with the segments that hold them.
    pub(super) fn entries(
        &self,
        collection: &CollectionState,
    ) -> Result<(Vec<(u64, Location)>, Arc<Slots>), ReadError> {
        let (all, slots) = self.core.segments.pin_with(|| {
            // A record that moves between the index and the books is in one of them or in both, at
            // one place: unless compaction leads to another meanwhile.
            let _still = (!planted!(ReadWhileSwung)).then(|| self.core.swinging.read());
            let mut all = collection.index().entries();
            moment!(IndexRead);
            for point in self.core.points.since(self.point.seqno) {
                let Some(kept) = point.kept(collection.id) else { continue };
                all.extend(kept.changed.entries());
                all.extend(kept.cleared.get().into_iter().flat_map(|index| index.entries()));
            }
            all
        });
        let mut seen = HashSet::new();
        let mut known = Vec::new();
        for (hash, location) in all {
            if self.knows(&slots, location)? && seen.insert(location) {
                known.push((hash, location));
            }
        }
        Ok((known, slots))
    }

    /// True if the record at `location` was written before this point.
    fn knows(&self, slots: &Slots, location: Location) -> Result<bool, ReadError> {
        let Some(segment) = slots.get(location) else { return Ok(false) };
        Ok(self.core.is_below(segment, location, self.point.seqno)?)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.core.release_point(&self.point);
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("seqno", &self.point.seqno).finish_non_exhaustive()
    }
}
