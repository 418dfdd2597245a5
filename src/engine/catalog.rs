//! Collections: names, ids, and the index of each.
//!
//! A name is interned once, by a create record in the log, and is a number from then on. An id is
//! given out in memory when the first batch that names the collection is prepared; every batch
//! carries the create record until one of them has been appended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::compression::Packing;
use super::error::WriteError;
use super::ordered::Ordered;
use super::segments::Segment;
use crate::format::config::CollectionOptions;
use crate::index::Index;
use crate::limits::{COLLECTIONS_MAX, SYSTEM_COLLECTION};

/// One collection.
pub(super) struct CollectionState {
    pub(super) id: u32,
    pub(super) name: String,
    /// Its create record is in the log.
    pub(super) is_logged: AtomicBool,
    /// A key was put into it: it is listed. Deleting and clearing a collection that never was does
    /// not bring it into being.
    pub(super) is_listed: AtomicBool,
    /// The options, and the sequence number of the record that set them; 0 for the defaults.
    options: RwLock<(u64, CollectionOptions)>,
    /// Dictionaries, and what compression has done.
    pub(super) packing: Packing,
    /// That it is listed is recorded in the system collection.
    pub(super) is_listed_for_good: AtomicBool,
    index: RwLock<Arc<Index>>,
    /// The keys in their order, if that is wanted.
    pub(super) ordered: Ordered,
    /// What is live in each segment, so that clearing needs no walk over the keys.
    live: Tally,
}

/// Bytes and records by segment.
#[derive(Default)]
pub(super) struct Tally(Mutex<HashMap<u32, (Arc<Segment>, u64, u64)>>);

impl Tally {
    /// Counts records of `segment` in.
    pub(super) fn add(&self, segment: &Arc<Segment>, bytes: u64, records: u64) {
        if records == 0 {
            return;
        }
        let mut tally = self.0.lock();
        let entry = tally.entry(segment.slot).or_insert_with(|| (Arc::clone(segment), 0, 0));
        entry.1 += bytes;
        entry.2 += records;
    }

    /// Counts records of `segment` out. A segment of which nothing is left is forgotten: it may be
    /// about to leave the store.
    pub(super) fn sub(&self, segment: &Segment, bytes: u64, records: u64) {
        let mut tally = self.0.lock();
        let Some(entry) = tally.get_mut(&segment.slot) else { return };
        entry.1 = entry.1.saturating_sub(bytes);
        entry.2 = entry.2.saturating_sub(records);
        if entry.2 == 0 {
            tally.remove(&segment.slot);
        }
    }

    /// Everything, as it is now.
    pub(super) fn all(&self) -> Vec<(Arc<Segment>, u64, u64)> {
        self.0.lock().values().cloned().collect()
    }

    /// Takes everything out.
    pub(super) fn take(&self) -> Vec<(Arc<Segment>, u64, u64)> {
        self.0.lock().drain().map(|(_, entry)| entry).collect()
    }
}

impl CollectionState {
    fn new(id: u32, name: String) -> Self {
        CollectionState {
            id,
            name,
            is_logged: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            is_listed_for_good: AtomicBool::new(false),
            options: RwLock::default(),
            packing: Packing::default(),
            index: RwLock::default(),
            ordered: Ordered::default(),
            live: Tally::default(),
        }
    }

    /// The index as of now.
    pub(super) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read())
    }

    /// The options as of now, and the sequence number of the record that set them.
    pub(super) fn configured(&self) -> (u64, CollectionOptions) {
        *self.options.read()
    }

    /// The options as of now.
    pub(super) fn options(&self) -> CollectionOptions {
        self.options.read().1
    }

    /// Takes over the options of the configure record with `seqno`, unless a newer one counts.
    /// Requires: apply lock held, or nobody else yet.
    pub(super) fn configure(&self, seqno: u64, options: CollectionOptions) {
        let mut current = self.options.write();
        if seqno >= current.0 {
            *current = (seqno, options);
            if !options.ordered {
                self.ordered.turn_off();
            }
        }
    }

    /// True if the options in force are those of the configure record with `seqno`.
    pub(super) fn is_configured_by(&self, seqno: u64) -> bool {
        self.options.read().0 == seqno
    }

    /// Counts `records` of `bytes` together that became live in `segment`.
    pub(super) fn add_live(&self, segment: &Arc<Segment>, bytes: u64, records: u64) {
        segment.add_live(bytes, records);
        self.live.add(segment, bytes, records);
    }

    /// Counts a record of `len` bytes in `segment` as dead.
    pub(super) fn sub_live(&self, segment: &Segment, len: u64) {
        segment.sub_live(len, 1);
        self.live.sub(segment, len, 1);
    }

    /// Counts records of `segment` as live that the segment itself counts already.
    pub(super) fn restore_live(&self, segment: &Arc<Segment>, bytes: u64, records: u64) {
        self.live.add(segment, bytes, records);
    }

    /// Counts what became live in `segment`, less what died.
    pub(super) fn change_live(&self, segment: &Arc<Segment>, bytes: i64, records: i64) {
        let part = |n: i64| u64::try_from(n).unwrap_or(0);
        self.add_live(segment, part(bytes), part(records));
        let (bytes, records) = (part(bytes.saturating_neg()), part(records.saturating_neg()));
        segment.sub_live(bytes, records);
        self.live.sub(segment, bytes, records);
    }

    /// What is live: bytes and records by segment.
    pub(super) fn live(&self) -> Vec<(Arc<Segment>, u64, u64)> {
        self.live.all()
    }

    /// Forgets every key. Costs the number of segments that hold some, not the number of keys.
    pub(super) fn clear(&self) {
        self.ordered.clear();
        *self.index.write() = Arc::default();
        for (segment, bytes, records) in self.live.take() {
            segment.sub_live(bytes, records);
        }
    }
}

/// All collections of a store.
pub(super) struct Catalog {
    inner: RwLock<Inner>,
    /// The hidden collection in which the engine keeps its own facts.
    system: Arc<CollectionState>,
}

impl Default for Catalog {
    fn default() -> Self {
        let system = CollectionState::new(SYSTEM_COLLECTION, String::new());
        system.is_logged.store(true, Ordering::Release);
        Catalog { inner: RwLock::default(), system: Arc::new(system) }
    }
}

#[derive(Default)]
struct Inner {
    by_name: HashMap<String, u32>,
    by_id: Vec<Option<Arc<CollectionState>>>,
}

impl Catalog {
    /// The collection called `name`, if a write has named it.
    pub(super) fn find(&self, name: &str) -> Option<Arc<CollectionState>> {
        let inner = self.inner.read();
        let id = *inner.by_name.get(name)?;
        inner.by_id.get(id as usize)?.clone()
    }

    /// The hidden collection in which the engine keeps its own facts.
    pub(super) fn system(&self) -> &Arc<CollectionState> {
        &self.system
    }

    /// The collection with `id`, the system's included.
    pub(super) fn by_id(&self, id: u32) -> Option<Arc<CollectionState>> {
        if id == SYSTEM_COLLECTION {
            return Some(Arc::clone(&self.system));
        }
        self.inner.read().by_id.get(id as usize)?.clone()
    }

    /// The collection called `name`, with a new id if there is none.
    pub(super) fn find_or_reserve(&self, name: &str) -> Result<Arc<CollectionState>, WriteError> {
        if let Some(found) = self.find(name) {
            return Ok(found);
        }
        let mut inner = self.inner.write();
        if let Some(id) = inner.by_name.get(name)
            && let Some(Some(found)) = inner.by_id.get(*id as usize)
        {
            return Ok(Arc::clone(found));
        }
        let id = u32::try_from(inner.by_id.len()).unwrap_or(u32::MAX);
        if id >= COLLECTIONS_MAX {
            return Err(WriteError::TooLarge {
                what: "number of collections",
                len: u64::from(id) + 1,
                max: u64::from(COLLECTIONS_MAX),
            });
        }
        let state = Arc::new(CollectionState::new(id, name.to_owned()));
        inner.by_name.insert(name.to_owned(), id);
        inner.by_id.push(Some(Arc::clone(&state)));
        Ok(state)
    }

    /// Enters a collection that the log names. False if the name or the id is taken by another,
    /// or out of range.
    pub(super) fn restore(&self, id: u32, name: &str) -> bool {
        let mut inner = self.inner.write();
        if let Some(known) = inner.by_name.get(name) {
            return *known == id;
        }
        let index = id as usize;
        if id >= COLLECTIONS_MAX || matches!(inner.by_id.get(index), Some(Some(_))) {
            return false;
        }
        if inner.by_id.len() <= index {
            inner.by_id.resize(index + 1, None);
        }
        let state = CollectionState::new(id, name.to_owned());
        state.is_logged.store(true, Ordering::Release);
        inner.by_id[index] = Some(Arc::new(state));
        inner.by_name.insert(name.to_owned(), id);
        true
    }

    /// All collections but the system's, listed or not, by id.
    pub(super) fn all(&self) -> Vec<Arc<CollectionState>> {
        self.inner.read().by_id.iter().flatten().cloned().collect()
    }
}
