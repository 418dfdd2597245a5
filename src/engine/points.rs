//! Points in time that stay readable, and what is kept for them.
//!
//! A snapshot, durable or not, is a *point*: a sequence number. Its state is the newest record of
//! each key below that number. While there are points, the first change of a key after the newest
//! point puts the old location into that point's books, before the index changes. So
//!
//! - without points nothing is kept, and with them what is kept follows what is overwritten;
//! - the state at a point is every location, in the index or in the books of this point and later
//!   ones, whose sequence number is below the point's: of each key that is one at most.
//!
//! A point that is let go hands to the one before it what that one needs too.
//!
//! Books are changed under the apply lock only, and read by anybody: whoever reads the index first,
//! and then the books from the newest point to the oldest, misses nothing, since entries move in
//! this direction only and are there before they are gone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use super::catalog::{CollectionState, Tally};
use super::core::Core;
use super::segments::{Segment, Slots, count_out};
use crate::index::ordered::KeySet;
use crate::index::{Index, Location};
use crate::vfs::IoError;

/// Entries that are handed over at once, with writers waiting.
const HANDED_AT_ONCE: usize = 1024;

/// One point in time.
#[derive(Default)]
pub(super) struct Point {
    /// The state is that of the records below this sequence number.
    pub(super) seqno: u64,
    /// How many snapshots stand on it.
    holds: AtomicU64,
    /// Nothing stands on it any more: it is about to be taken out.
    is_leaving: AtomicBool,
    kept: RwLock<HashMap<u32, Arc<Kept>>>,
    /// Bytes and records kept.
    pub(super) pinned_bytes: AtomicU64,
}

/// What is kept of one collection.
#[derive(Default)]
pub(super) struct Kept {
    /// Key hash -> the record that was the newest at the point and is not any more.
    pub(super) changed: Index,
    /// The index when the collection was first cleared after the point. It may lead to records
    /// above the point too: those do not count.
    pub(super) cleared: OnceLock<Arc<Index>>,
    /// The keys of that index in their order, if somebody had asked for them.
    pub(super) cleared_keys: OnceLock<Arc<KeySet>>,
    /// What is kept, by segment.
    pub(super) pinned: Tally,
    /// By how many keys the collection has grown between the point and the next one.
    grown: AtomicI64,
}

impl Kept {
    fn keep_keys(&self, keys: Option<Arc<KeySet>>) {
        if let Some(keys) = keys {
            let _ = self.cleared_keys.set(keys);
        }
    }

    /// By how many keys the collection has grown between the point and the next one.
    pub(super) fn grown(&self) -> i64 {
        self.grown.load(Ordering::Relaxed)
    }
}

impl Point {
    /// What is kept of collection `id`, if anything is.
    pub(super) fn kept(&self, id: u32) -> Option<Arc<Kept>> {
        self.kept.read().get(&id).cloned()
    }

    /// What is kept of collections that were cleared.
    pub(super) fn cleared(&self) -> Vec<(u32, Arc<Kept>)> {
        let kept = self.kept.read();
        let cleared = kept.iter().filter(|(_, kept)| kept.cleared.get().is_some());
        cleared.map(|(id, kept)| (*id, Arc::clone(kept))).collect()
    }

    /// Everything kept, by collection.
    pub(super) fn all_kept(&self) -> Vec<(u32, Arc<Kept>)> {
        let mut all: Vec<_> =
            self.kept.read().iter().map(|(id, kept)| (*id, Arc::clone(kept))).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    pub(super) fn kept_or_new(&self, id: u32) -> Arc<Kept> {
        if let Some(kept) = self.kept(id) {
            return kept;
        }
        Arc::clone(self.kept.write().entry(id).or_default())
    }

    /// Counts a kept record.
    pub(super) fn pin(&self, kept: &Kept, segment: &Arc<Segment>, bytes: u64, records: u64) {
        segment.add_pinned(bytes, records);
        kept.pinned.add(segment, bytes, records);
        self.pinned_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a kept record out.
    pub(super) fn unpin(&self, kept: &Kept, segment: &Segment, bytes: u64, records: u64) {
        segment.sub_pinned(bytes, records);
        kept.pinned.sub(segment, bytes, records);
        count_out(&self.pinned_bytes, bytes);
    }

    /// Keeps the record of `len` bytes at `location`, which was the newest of its key until now.
    pub(super) fn keep(
        &self,
        collection: u32,
        hash: u64,
        location: Location,
        segment: &Arc<Segment>,
        len: u64,
    ) {
        let kept = self.kept_or_new(collection);
        kept.changed.insert(hash, location, |_| false);
        self.pin(&kept, segment, len, 1);
    }

    /// Keeps the whole index of a collection that is about to be cleared, of which `live` is live.
    pub(super) fn keep_all(
        &self,
        collection: u32,
        index: &Arc<Index>,
        keys: Option<Arc<KeySet>>,
        live: &[(Arc<Segment>, u64, u64)],
    ) {
        let kept = self.kept_or_new(collection);
        let len = i64::try_from(index.len()).unwrap_or(i64::MAX);
        kept.grown.fetch_sub(len, Ordering::Relaxed);
        // Of a collection that was cleared before, all is younger than the point by now.
        if kept.cleared.set(Arc::clone(index)).is_ok() {
            kept.keep_keys(keys);
            for (segment, bytes, records) in live {
                self.pin(&kept, segment, *bytes, *records);
            }
        }
    }

    /// Counts keys that came or went.
    pub(super) fn count_keys(&self, collection: u32, more: i64) {
        self.kept_or_new(collection).grown.fetch_add(more, Ordering::Relaxed);
    }
}

/// The points of a store.
#[derive(Default)]
pub(super) struct Points {
    /// By sequence number.
    points: RwLock<Vec<Arc<Point>>>,
}

impl Points {
    /// The newest point that something stands on.
    pub(super) fn newest(&self) -> Option<Arc<Point>> {
        let points = self.points.read();
        points.iter().rev().find(|p| !p.is_leaving.load(Ordering::Acquire)).cloned()
    }

    /// The points from `seqno` on, newest first.
    pub(super) fn since(&self, seqno: u64) -> Vec<Arc<Point>> {
        let points = self.points.read();
        points.iter().rev().take_while(|p| p.seqno >= seqno).cloned().collect()
    }

    /// A hold on the point `seqno`, which is made if there is none. Requires: it is there, or no
    /// record stands between it and those above it; apply lock held, or nobody else yet.
    pub(super) fn hold(&self, seqno: u64) -> Arc<Point> {
        let mut points = self.points.write();
        let at = points.partition_point(|p| p.seqno < seqno);
        let point = match points.get(at) {
            Some(point) if point.seqno == seqno => Arc::clone(point),
            _ => {
                let point = Arc::new(Point { seqno, ..Point::default() });
                points.insert(at, Arc::clone(&point));
                point
            }
        };
        point.holds.fetch_add(1, Ordering::AcqRel);
        point.is_leaving.store(false, Ordering::Release);
        point
    }

    /// True if something stands on `point`.
    pub(super) fn is_held(&self, point: &Arc<Point>) -> bool {
        self.points.read().iter().any(|p| Arc::ptr_eq(p, point))
    }

    /// A hold on each point, oldest first; `None` if one is about to be taken out, whose books
    /// are being handed over. Requires: apply lock held.
    pub(super) fn hold_all(&self) -> Option<Vec<Arc<Point>>> {
        let points = self.points.read().clone();
        if points.iter().any(|p| p.is_leaving.load(Ordering::Acquire)) {
            return None;
        }
        points.iter().for_each(|p| {
            p.holds.fetch_add(1, Ordering::AcqRel);
        });
        Some(points)
    }

    /// The point before `seqno` that something stands on.
    fn before(&self, seqno: u64) -> Option<Arc<Point>> {
        let points = self.points.read();
        let mut older = points.iter().rev().skip_while(|p| p.seqno >= seqno);
        older.find(|p| !p.is_leaving.load(Ordering::Acquire)).cloned()
    }
}

impl Core {
    /// Lets go of `point`. If nothing else stands on it, what it keeps is handed to the point
    /// before it as far as that one needs it, in portions between which writers go on. Takes the
    /// apply lock.
    pub(super) fn release_point(&self, point: &Arc<Point>) {
        {
            let _applying = self.apply.lock();
            if point.holds.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            point.is_leaving.store(true, Ordering::Release);
        }
        let collections: Vec<u32> = point.kept.read().keys().copied().collect();
        for id in &collections {
            if !self.hand_over(point, *id) {
                return;
            }
        }
        {
            let _applying = self.apply.lock();
            if point.is_leaving.load(Ordering::Acquire) {
                self.points.points.write().retain(|p| !Arc::ptr_eq(p, point));
            }
        }
        for id in collections {
            self.drop_ghosts(id);
        }
        // What was kept for it may be given back now.
        self.wake_compaction();
    }

    /// Empties the books of `point` on one collection; false if somebody holds it again.
    fn hand_over(&self, point: &Arc<Point>, id: u32) -> bool {
        let Some(kept) = point.kept(id) else { return true };
        let mut entries = None;
        loop {
            let _applying = self.apply.lock();
            if !point.is_leaving.load(Ordering::Acquire) {
                return false;
            }
            let heir = self.points.before(point.seqno);
            let Some(heir) = heir else {
                // Nobody is older: everything goes at once.
                self.forget(point, &kept, id);
                return true;
            };
            let entries = entries.get_or_insert_with(|| kept.changed.entries().into_iter());
            let slots = self.segments.pin();
            let mut count = 0;
            for (hash, location) in entries.by_ref().take(HANDED_AT_ONCE) {
                count += 1;
                self.hand_over_one(point, &heir, &kept, id, (hash, location), &slots);
            }
            if count == HANDED_AT_ONCE {
                continue;
            }
            let heir_kept = heir.kept_or_new(id);
            if let Some(cleared) = kept.cleared.get()
                && heir_kept.cleared.set(Arc::clone(cleared)).is_ok()
            {
                heir_kept.keep_keys(kept.cleared_keys.get().cloned());
                for (segment, bytes, records) in kept.pinned.take() {
                    segment.sub_pinned(bytes, records);
                    count_out(&point.pinned_bytes, bytes);
                    heir.pin(&heir_kept, &segment, bytes, records);
                }
            }
            self.forget(point, &kept, id);
            return true;
        }
    }

    /// Hands one kept record to `heir`, if it was there already at that point. A location may have
    /// moved since it was listed: then the one that the books hold now counts.
    fn hand_over_one(
        &self,
        point: &Point,
        heir: &Point,
        kept: &Kept,
        id: u32,
        (hash, listed): (u64, Location),
        slots: &Slots,
    ) {
        let location = if kept.changed.has(hash, listed) {
            listed
        } else {
            match kept.changed.find(hash).into_iter().next() {
                Some(moved) => moved,
                None => return,
            }
        };
        let Some(segment) = slots.get(location) else { return };
        // A record that cannot be read was counted with no length.
        let found = self.read_key(segment, location.offset()).ok();
        let len = found.as_ref().map_or(0, |found| found.header.record_len() as u64);
        // More than it needs does no harm: it looks at sequence numbers itself.
        let is_needed = self.is_below(segment, location, heir.seqno).unwrap_or(true);
        if is_needed {
            heir.keep(id, hash, location, segment, len);
        }
        kept.changed.remove(hash, |l| l == location);
        point.unpin(kept, segment, len, 1);
        if let (false, Some(found)) = (is_needed, found) {
            self.drop_ghost(id, hash, found.key());
        }
    }

    fn forget(&self, point: &Point, kept: &Kept, id: u32) {
        point.kept.write().remove(&id);
        for (segment, bytes, records) in kept.pinned.take() {
            segment.sub_pinned(bytes, records);
            count_out(&point.pinned_bytes, bytes);
        }
        if let Some(before) = self.points.before(point.seqno) {
            let grown = kept.grown.load(Ordering::Relaxed);
            before.count_keys(id, grown);
        }
    }

    /// Bytes of records that are not the newest of their keys and that a point at `seqno`, the
    /// oldest there is, needs: those in its own books, and what is older than it in later ones.
    /// Counted by segment where all of a segment is on one side, else record by record.
    pub(super) fn needed_at(&self, seqno: u64) -> u64 {
        let slots = self.segments.pin();
        let mut needed = 0;
        for point in self.points.since(seqno) {
            for (_, kept) in point.all_kept() {
                let mut mixed = HashSet::new();
                for (segment, bytes, _) in kept.pinned.all() {
                    let is_older = segment.next.load(Ordering::Acquire) <= seqno;
                    if point.seqno == seqno || is_older {
                        needed += bytes;
                    } else if segment.first.load(Ordering::Acquire) < seqno {
                        mixed.insert(segment.slot);
                    }
                }
                if mixed.is_empty() {
                    continue;
                }
                let mut entries = kept.changed.entries();
                entries.extend(kept.cleared.get().iter().flat_map(|index| index.entries()));
                for (_, location) in entries {
                    // One that compaction moves meanwhile is not counted.
                    if let Some(segment) = slots.get(location)
                        && mixed.contains(&segment.slot)
                        && self.is_below(segment, location, seqno).unwrap_or(false)
                        && let Ok(found) = self.read_key(segment, location.offset())
                    {
                        needed += found.header.record_len() as u64;
                    }
                }
            }
        }
        needed
    }

    /// True if the record at `location` of `segment` has a sequence number below `seqno`.
    pub(super) fn is_below(
        &self,
        segment: &Segment,
        location: Location,
        seqno: u64,
    ) -> Result<bool, IoError> {
        if segment.next.load(Ordering::Acquire) <= seqno {
            return Ok(true);
        }
        if segment.first.load(Ordering::Acquire) >= seqno {
            return Ok(false);
        }
        Ok(segment.seqno_at(location.offset())?.is_some_and(|at| at < seqno))
    }

    /// Keeps the record at `old`, of `len` bytes, for the newest point if that needs it. Requires:
    /// apply lock held, index not changed yet.
    pub(super) fn keep_for(
        &self,
        point: Option<&Arc<Point>>,
        collection: &CollectionState,
        hash: u64,
        old: Location,
        len: u64,
    ) {
        let Some(point) = point else { return };
        if let Some(segment) = self.segments.get(old)
            // More than it needs does no harm: it looks at sequence numbers itself.
            && self.is_below(&segment, old, point.seqno).unwrap_or(true)
        {
            point.keep(collection.id, hash, old, &segment, len);
        }
    }

    /// How many keys collection `id` had at `point`.
    pub(super) fn len_at(&self, point: &Point, collection: &CollectionState) -> u64 {
        let _applying = self.apply.lock();
        let grown: i64 = self
            .points
            .since(point.seqno)
            .iter()
            .filter_map(|p| p.kept(collection.id))
            .map(|kept| kept.grown.load(Ordering::Relaxed))
            .sum();
        collection.index().len().saturating_add_signed(grown.saturating_neg())
    }
}
