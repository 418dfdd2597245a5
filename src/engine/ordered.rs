//! Collections that can be walked in the order of their keys.
//!
//! The hash index knows no keys, so a collection that was configured to be ordered keeps its keys
//! in a set beside it. The set is built when it is first asked for after an open, from the keys in
//! the log, while writes go on; from then on every batch that is applied keeps it up to date. So an
//! open costs nothing more, and nor do collections that nobody walks.
//!
//! Whoever walks stands on a snapshot, looks each key up there and passes over what that does not
//! know. So the set may hold more than it must; what it must hold is every key that some point
//! still knows. Hence three parts:
//!
//! - *live* keys. A clear starts a new set of them, and the point that keeps the old index keeps
//!   the old set with it;
//! - *ghosts*: keys that were deleted and that the books of some point still lead to. They go
//!   when the books hand none on, or with the last point that is old enough to know them;
//! - while it is built: keys are added under the apply lock, and only those that the index still
//!   has, so that nothing is added that was deleted meanwhile. If the collection is cleared before
//!   it is done, it is begun again.
//!
//! Readers take the live keys first, then those of the books from the newest point to the oldest:
//! keys move in this direction only, and are there before they are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::catalog::CollectionState;
use super::core::Core;
use super::error::ReadError;
use super::points::Point;
use super::range::RangeError;
use super::segments::{Segment, Slots};
use super::snapshot::Snapshot;
use crate::format::hint::Hint;
use crate::index::Location;
use crate::index::ordered::{Ghosts, KeySet};

/// Keys that are added or dropped at once, with writers waiting.
const AT_ONCE: usize = 256;

/// The keys of a collection in their order, if it wants that and somebody asked for them.
#[derive(Default)]
pub(super) struct Ordered {
    /// There are keys, whole or being built: so that writers of other collections pay one load.
    is_on: AtomicBool,
    /// Changed with the apply lock held.
    keys: RwLock<Option<Arc<OrderedKeys>>>,
    /// Held while they are built.
    building: Mutex<()>,
}

/// The keys of a collection, or what has been built of them.
#[derive(Default)]
pub(super) struct OrderedKeys {
    live: RwLock<Arc<KeySet>>,
    pub(super) ghosts: Arc<Ghosts>,
    is_complete: AtomicBool,
}

impl OrderedKeys {
    /// The keys that are there. A clear starts a new set, and leaves this one as it is.
    pub(super) fn live(&self) -> Arc<KeySet> {
        Arc::clone(&self.live.read())
    }

    fn heap_bytes(&self) -> usize {
        self.live.read().heap_bytes() + self.ghosts.heap_bytes()
    }
}

impl Ordered {
    fn keys(&self) -> Option<Arc<OrderedKeys>> {
        if !self.is_on.load(Ordering::Acquire) {
            return None;
        }
        self.keys.read().clone()
    }

    fn complete(&self) -> Option<Arc<OrderedKeys>> {
        self.keys().filter(|keys| keys.is_complete.load(Ordering::Acquire))
    }

    fn set(&self, keys: Option<Arc<OrderedKeys>>) {
        self.is_on.store(keys.is_some(), Ordering::Release);
        *self.keys.write() = keys;
    }

    /// True if these are the keys in use.
    fn is(&self, keys: &Arc<OrderedKeys>) -> bool {
        self.keys().is_some_and(|current| Arc::ptr_eq(&current, keys))
    }

    /// The live keys, to be kept by a point before the collection is cleared.
    pub(super) fn live(&self) -> Option<Arc<KeySet>> {
        self.complete().map(|keys| keys.live())
    }

    /// A key has come. Requires: apply lock held.
    pub(super) fn put(&self, key: &[u8]) {
        if let Some(keys) = self.keys() {
            keys.live.read().insert(key);
        }
    }

    /// All keys have gone. Requires: apply lock held; what points need of them is in their books.
    pub(super) fn clear(&self) {
        match self.complete() {
            Some(keys) => *keys.live.write() = Arc::default(),
            None => self.turn_off(),
        }
    }

    /// Forgets all. Requires: apply lock held, or nobody else yet.
    pub(super) fn turn_off(&self) {
        if self.is_on.load(Ordering::Acquire) {
            self.set(None);
        }
    }

    /// Bytes of memory, about.
    pub(super) fn heap_bytes(&self) -> usize {
        self.keys().map_or(0, |keys| keys.heap_bytes())
    }
}

impl Core {
    /// The keys of `collection` in their order, built if they are not there yet. What any point
    /// knows that is held by then is among them, or in the books.
    pub(super) fn ordered_keys(
        self: &Arc<Self>,
        collection: &CollectionState,
    ) -> Result<Arc<OrderedKeys>, RangeError> {
        let ordered = &collection.ordered;
        if let Some(keys) = ordered.complete() {
            return Ok(keys);
        }
        let _one_at_a_time = ordered.building.lock();
        loop {
            let (keys, snapshot) = {
                let _applying = self.apply.lock();
                if let Some(keys) = ordered.complete() {
                    return Ok(keys);
                }
                if !collection.options().ordered {
                    return Err(RangeError::NotOrdered { collection: collection.name.clone() });
                }
                let keys = Arc::<OrderedKeys>::default();
                ordered.set(Some(Arc::clone(&keys)));
                (keys, Snapshot::on(self, self.points.hold(self.applied())))
            };
            let built = self.build_order(collection, &keys, &snapshot);
            let _applying = self.apply.lock();
            let is_current = ordered.is(&keys);
            match built {
                Ok(()) if is_current => {
                    keys.is_complete.store(true, Ordering::Release);
                    return Ok(keys);
                }
                // Cleared meanwhile.
                Ok(()) => {}
                Err(e) => {
                    if is_current {
                        ordered.turn_off();
                    }
                    return Err(e.into());
                }
            }
        }
    }

    /// Reads all keys of `collection` from the log, those that only points know as ghosts.
    fn build_order(
        &self,
        collection: &CollectionState,
        keys: &Arc<OrderedKeys>,
        snapshot: &Snapshot,
    ) -> Result<(), ReadError> {
        let (mut entries, slots) = snapshot.entries(collection)?;
        entries.sort_unstable_by_key(|(_, location)| *location);
        for chunk in entries.chunks(AT_ONCE) {
            let read = self.read_keys(chunk, &slots)?;
            let _applying = self.apply.lock();
            if !collection.ordered.is(keys) {
                return Ok(());
            }
            let index = collection.index();
            let is_there = |hash| index.find(hash).into_iter().next().is_some();
            let there = read.into_iter().filter(|(hash, _)| is_there(*hash));
            keys.live.read().extend(there.map(|(_, key)| key));
        }
        let seqno = snapshot.seqno().saturating_sub(1);
        let (mut entries, slots) = self.segments.pin_with(|| {
            let mut all = Vec::new();
            for kept in self.points.since(0).iter().filter_map(|p| p.kept(collection.id)) {
                all.extend(kept.changed.entries());
                all.extend(kept.cleared.get().into_iter().flat_map(|index| index.entries()));
            }
            all
        });
        entries.sort_unstable_by_key(|(_, location)| *location);
        for chunk in entries.chunks(AT_ONCE) {
            // Those that are live too: a clear may take them from there.
            for (_, key) in self.read_keys(chunk, &slots)? {
                keys.ghosts.insert(&key, seqno);
            }
        }
        Ok(())
    }

    fn read_keys(
        &self,
        entries: &[(u64, Location)],
        slots: &Slots,
    ) -> Result<Vec<(u64, Box<[u8]>)>, ReadError> {
        let read = |&(hash, location): &(u64, Location)| {
            let segment = self.pinned(slots, location)?;
            Ok((hash, self.verified_key(segment, location.offset(), hash)?.into_boxed_slice()))
        };
        entries.iter().map(read).collect()
    }

    /// A key has gone, by the record with `seqno`. Requires: apply lock held; what points need of
    /// it is in their books.
    pub(super) fn unlist(&self, collection: &CollectionState, hash: u64, key: &[u8], seqno: u64) {
        let Some(keys) = collection.ordered.keys() else { return };
        if self.is_kept(collection.id, hash) && !planted!(NoGhosts) {
            keys.ghosts.insert(key, seqno);
        }
        keys.live.read().remove(key);
    }

    /// As [`Core::unlist`], of the key of an expired record that leaves the index.
    pub(super) fn unlist_expired(
        &self,
        collection: &CollectionState,
        segment: &Arc<Segment>,
        hint: &Hint,
    ) {
        if collection.ordered.is_on.load(Ordering::Acquire)
            && let Ok(key) = self.verified_key(segment, hint.offset, hint.hash)
        {
            self.unlist(collection, hint.hash, &key, self.applied());
        }
    }

    /// True if the books of some point lead to a key with this hash.
    fn is_kept(&self, collection: u32, hash: u64) -> bool {
        self.points.since(0).iter().filter_map(|p| p.kept(collection)).any(|kept| {
            let cleared = kept.cleared.get().map(|index| index.find(hash));
            let changed = kept.changed.find(hash).into_iter();
            changed.chain(cleared.into_iter().flatten()).next().is_some()
        })
    }

    /// The books do not lead to a record of `key` any more that they led to. Requires: apply lock
    /// held.
    pub(super) fn drop_ghost(&self, collection: u32, hash: u64, key: &[u8]) {
        let keys = self.catalog.by_id(collection).and_then(|c| c.ordered.keys());
        if let Some(keys) = keys
            && !self.is_kept(collection, hash)
        {
            keys.ghosts.remove(key);
        }
    }

    /// Drops the ghosts of a collection that no point is old enough to know.
    pub(super) fn drop_ghosts(&self, collection: u32) {
        let Some(keys) = self.catalog.by_id(collection).and_then(|c| c.ordered.keys()) else {
            return;
        };
        // Points that are made from now on are younger than any ghost.
        let oldest = self.points.since(0).last().map_or(u64::MAX, |point: &Arc<Point>| point.seqno);
        while keys.ghosts.drop_below(oldest, AT_ONCE) {}
    }
}
