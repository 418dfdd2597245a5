//! The in-memory index of one collection: key hash -> location of its record.
//!
//! Keys are not kept: whoever looks up compares the key with the record in the log. A collection
//! starts as one small table; once it holds [`SPLIT_AT`] keys it becomes [`SHARDS`] tables with a
//! lock each, so that a reader waits at most for one insertion or for the growth of 1/256 of the
//! collection. Writers are serialised by the engine; the locks are for readers.
//!
//! Lock order: `first` before a shard. No other lock is taken while one is held, except through
//! the caller's `is_key`, which reads the log and takes the table of segments for a moment.

pub(crate) mod dump;
pub(crate) mod ordered;
mod table;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use table::{LOCATION_MAX, Table};

/// Where a record is: which segment (a slot in the engine's table of segments) and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location(u64);

const OFFSET_BITS: u32 = 28;

impl Location {
    /// The location of the record at `offset` (a multiple of 8, not 0) of the segment in `slot`.
    /// `None` if either is out of range.
    pub(crate) fn new(slot: u32, offset: u64) -> Option<Self> {
        let units = offset / 8;
        let fits = units < 1 << OFFSET_BITS && slot < 1 << 20 && units > 0;
        fits.then(|| Location(u64::from(slot) << OFFSET_BITS | units))
    }

    /// The segment's slot.
    pub(crate) fn slot(self) -> usize {
        usize::try_from(self.0 >> OFFSET_BITS).unwrap_or(usize::MAX)
    }

    /// The record's offset in its segment, in bytes.
    pub(crate) fn offset(self) -> u64 {
        (self.0 & ((1 << OFFSET_BITS) - 1)) * 8
    }
}

/// Locations of keys that share a hash; allocates only if there are several.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    first: Option<Location>,
    more: Vec<Location>,
}

impl Candidates {
    fn collect(table: &Table, hash: u64) -> Self {
        let mut found = table.find(hash).map(Location);
        Candidates { first: found.next(), more: found.collect() }
    }
}

impl IntoIterator for Candidates {
    type Item = Location;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Location>, std::vec::IntoIter<Location>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

const SHARDS: usize = 256;
const SPLIT_AT: usize = 16 * 1024;

/// The index of one collection.
#[derive(Debug)]
pub(crate) struct Index {
    /// All keys until the collection splits, none afterwards.
    first: RwLock<Table>,
    shards: OnceLock<Box<[RwLock<Table>]>>,
    len: AtomicU64,
}

impl Default for Index {
    fn default() -> Self {
        Index { first: RwLock::new(Table::new(4)), shards: OnceLock::new(), len: AtomicU64::new(0) }
    }
}

fn make_shards() -> Box<[RwLock<Table>]> {
    // Smallest sizes between 64 and 90 homes: growing by 2/5 each, the tables never grow at once.
    (0..SHARDS).map(|i| RwLock::new(Table::new(64 + 26 * i / SHARDS))).collect()
}

/// The part of a hash that the index keeps: its upper 48 bits.
pub(crate) fn index_hash(hash: u64) -> u64 {
    hash >> 16 & LOCATION_MAX
}

/// The shard of an index hash: its low byte. (Tables order by the high bits.)
fn shard_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[0])
}

impl Index {
    /// Number of keys.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Bytes of memory that the tables take.
    pub(crate) fn heap_bytes(&self) -> usize {
        let shards = self.shards.get().map_or(0, |shards| {
            shards.iter().map(|s| s.read().heap_bytes() + size_of::<RwLock<Table>>()).sum()
        });
        self.first.read().heap_bytes() + shards
    }

    /// Makes room for `len` keys, before many are inserted.
    pub(crate) fn reserve(&self, len: usize) {
        if len >= SPLIT_AT {
            for shard in self.split() {
                shard.write().reserve(len / SHARDS + len / SHARDS / 8);
            }
        } else {
            self.first.write().reserve(len);
        }
    }

    /// The locations whose key has `hash`: in practice one or none.
    pub(crate) fn find(&self, hash: u64) -> Candidates {
        let hash = index_hash(hash);
        if let Some(shards) = self.shards.get() {
            return Candidates::collect(&shards[shard_of(hash)].read(), hash);
        }
        let first = self.first.read();
        match self.shards.get() {
            // Split while we waited for the lock.
            Some(shards) => Candidates::collect(&shards[shard_of(hash)].read(), hash),
            None => Candidates::collect(&first, hash),
        }
    }

    /// All key hashes, as far as they are kept (upper 48 bits), with their locations; in no order.
    pub(crate) fn entries(&self) -> Vec<(u64, Location)> {
        let whole = |(hash, location)| (hash << 16, Location(location));
        let first = self.first.read();
        let mut all: Vec<_> = first.entries().map(whole).collect();
        if let Some(shards) = self.shards.get() {
            all.reserve(usize::try_from(self.len()).unwrap_or(0));
            for shard in shards {
                all.extend(shard.read().entries().map(whole));
            }
        }
        all
    }

    /// True if a key with `hash` is at `location`.
    pub(crate) fn has(&self, hash: u64, location: Location) -> bool {
        self.find(hash).into_iter().any(|l| l == location)
    }

    /// Sets the location of the key with `hash` that is at `old` to `new`; false if there is none.
    /// Requires: one writer per shard at a time.
    pub(crate) fn relocate(&self, hash: u64, old: Location, new: Location) -> bool {
        // Looked at first: most have not moved, and an insertion would add what is not there.
        self.has(hash, old) && self.insert(hash, new, |l| l == old).is_some()
    }

    /// Sets the location of the key that `is_key` recognises; returns the one replaced.
    /// Requires: one writer per shard at a time.
    pub(crate) fn insert(
        &self,
        hash: u64,
        location: Location,
        mut is_key: impl FnMut(Location) -> bool,
    ) -> Option<Location> {
        let hash = index_hash(hash);
        let old =
            self.with_table(hash, |table| table.insert(hash, location.0, |l| is_key(Location(l))));
        if old.is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        old.map(Location)
    }

    /// Removes the key that `is_key` recognises; returns its location.
    /// Requires: one writer per shard at a time.
    pub(crate) fn remove(
        &self,
        hash: u64,
        mut is_key: impl FnMut(Location) -> bool,
    ) -> Option<Location> {
        let hash = index_hash(hash);
        let old = self.with_table(hash, |table| table.remove(hash, |l| is_key(Location(l))));
        if old.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        old.map(Location)
    }

    fn with_table<T>(&self, hash: u64, change: impl FnOnce(&mut Table) -> T) -> T {
        let shards = match self.shards.get() {
            Some(shards) => shards,
            None => {
                let mut first = self.first.write();
                if self.shards.get().is_none() && first.len() < SPLIT_AT {
                    return change(&mut first);
                }
                drop(first);
                self.split()
            }
        };
        change(&mut shards[shard_of(hash)].write())
    }

    /// Moves the keys of `first` to shards, once.
    fn split(&self) -> &[RwLock<Table>] {
        let mut first = self.first.write();
        self.shards.get_or_init(|| {
            let shards = make_shards();
            for (hash, location) in first.drain() {
                shards[shard_of(hash)].write().insert(hash, location, |_| false);
            }
            shards
        })
    }
}
