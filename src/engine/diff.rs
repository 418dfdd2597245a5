//! What changed between two points in time.
//!
//! The log knows: every key that differs has a record, its own or a clearing of its collection,
//! with a sequence number between the two points. So the keys of those records are gathered from
//! the hints of the segments that reach into that stretch, and each is looked up at both points:
//! the cost follows what was written in between, not what the store holds.
//!
//! Compaction may have dropped records of the stretch, and nothing is missed for it: the newest
//! record of a key at the later point stays because that point needs it; and where there is none,
//! the deletion stays as long as the record does that the earlier point needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::catalog::CollectionState;
use super::core::Core;
use super::db::Db;
use super::error::{ReadError, SnapshotError};
use super::read::{Found, MISPLACED, ValueRef};
use super::segments::Segment;
use super::snapshot::Snapshot;
use crate::format::record::Kind;
use crate::limits::SYSTEM_COLLECTION;

/// What changed between two states of a store, by collection.
///
/// A key whose value was written again with the same bytes and the same expiry is not listed, nor
/// is one that has expired in both. Options of collections are not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diff {
    /// The first state is that of all records below this sequence number.
    pub from_seqno: u64,
    /// The second state, likewise.
    pub to_seqno: u64,
    /// The collections in which something differs, by name.
    pub collections: Vec<CollectionDiff>,
}

/// What changed in one collection: keys, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectionDiff {
    /// The collection's name.
    pub name: String,
    /// Keys that are in the second state only.
    pub added: Vec<Vec<u8>>,
    /// Keys that are in both with different values.
    pub changed: Vec<Vec<u8>>,
    /// Keys that are in the first state only.
    pub deleted: Vec<Vec<u8>>,
}

impl Diff {
    /// True if the states are the same.
    pub fn is_empty(&self) -> bool {
        self.collections.is_empty()
    }

    /// How many keys were added, changed and deleted.
    pub fn counts(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&CollectionDiff) -> &Vec<Vec<u8>>| {
            self.collections.iter().map(|c| of(c).len() as u64).sum()
        };
        (sum(|c| &c.added), sum(|c| &c.changed), sum(|c| &c.deleted))
    }
}

/// A key whose records at two points differ.
pub(super) struct Difference<'a> {
    pub(super) collection: &'a Arc<CollectionState>,
    pub(super) key: Vec<u8>,
    pub(super) from: Option<Found>,
    pub(super) to: Option<Found>,
}

/// How far work has come that was not counted before: done, of so many.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Keys of a collection that were written, or that all of its keys were.
#[derive(Default)]
struct Touched {
    keys: BTreeSet<Vec<u8>>,
    is_cleared: bool,
}

impl Db {
    /// What is different at `to` from what was at `from`, both durable snapshots, in any order;
    /// without `to`, from `from` to now. Costs what was written in between.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let db = siltstone::Db::open(dir.path())?;
    /// db.put("chunks", b"1", b"good")?;
    /// let before = db.persist()?;
    /// db.put("chunks", b"1", b"bad")?;
    /// db.put("chunks", b"2", b"bad")?;
    /// let diff = db.diff(before.id, None)?;
    /// assert_eq!(diff.collections[0].changed, [b"1"]);
    /// assert_eq!(diff.collections[0].added, [b"2"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Missing`], or [`SnapshotError::Read`] if a record could not be read.
    pub fn diff(&self, from: u64, to: impl Into<Option<u64>>) -> Result<Diff, SnapshotError> {
        self.diff_with(from, to.into(), &mut |_, _| {})
    }

    /// As [`Db::diff`], with a function that is told how far it is.
    pub(crate) fn diff_with(
        &self,
        from: u64,
        to: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<Diff, SnapshotError> {
        let from = self.open_snapshot(from)?;
        let to = to.map_or_else(|| Ok(self.snapshot()), |id| self.open_snapshot(id))?;
        Ok(self.core().diff(&from, &to, progress)?)
    }
}

impl Core {
    /// What differs between two snapshots, in any order of time.
    pub(super) fn diff(
        &self,
        from: &Snapshot,
        to: &Snapshot,
        progress: Progress<'_>,
    ) -> Result<Diff, ReadError> {
        let mut by_name: BTreeMap<String, CollectionDiff> = BTreeMap::new();
        self.differences::<ReadError>(from, to, progress, &mut |difference| {
            let name = &difference.collection.name;
            let of = by_name.entry(name.clone()).or_insert_with(|| CollectionDiff {
                name: name.clone(),
                ..CollectionDiff::default()
            });
            let list = match (&difference.from, &difference.to) {
                (None, _) => &mut of.added,
                (Some(_), Some(_)) => &mut of.changed,
                (Some(_), None) => &mut of.deleted,
            };
            list.push(difference.key);
            Ok(())
        })?;
        let collections = by_name.into_values().collect();
        Ok(Diff { from_seqno: from.seqno(), to_seqno: to.seqno(), collections })
    }

    /// Calls `visit` with every key that differs, by collection and key.
    pub(super) fn differences<E: From<ReadError>>(
        &self,
        from: &Snapshot,
        to: &Snapshot,
        progress: Progress<'_>,
        visit: &mut dyn FnMut(Difference<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let older = if from.seqno() <= to.seqno() { from } else { to };
        let (low, high) = (older.seqno(), from.seqno().max(to.seqno()));
        let touched = self.touched((low, high), older, progress)?;
        let total = touched.values().map(|t| t.keys.len() as u64).sum();
        let mut done = 0;
        for (id, touched) in touched {
            // A collection that no batch has created holds nothing.
            let Some(collection) = self.catalog.by_id(id) else { continue };
            for key in touched.keys {
                done += 1;
                progress(done, total);
                let (from, to) = (from.current(&collection, &key)?, to.current(&collection, &key)?);
                if self.differ(from.as_ref(), to.as_ref())? {
                    visit(Difference { collection: &collection, key, from, to })?;
                }
            }
        }
        Ok(())
    }

    /// The keys that records with sequence numbers in `low..high` are about.
    fn touched(
        &self,
        (low, high): (u64, u64),
        older: &Snapshot,
        progress: Progress<'_>,
    ) -> Result<BTreeMap<u32, Touched>, ReadError> {
        let mut touched: BTreeMap<u32, Touched> = BTreeMap::new();
        let mut done = 0;
        for segment in self.segments.pin().iter() {
            let reaches = segment.first.load(Ordering::Acquire) < high
                && segment.next.load(Ordering::Acquire) > low;
            if !reaches {
                continue;
            }
            for hint in segment.all_hints()? {
                if !(low..high).contains(&hint.seqno) || hint.collection == SYSTEM_COLLECTION {
                    continue;
                }
                done += 1;
                progress(done, high - low);
                match hint.kind {
                    Kind::Put | Kind::Delete => {
                        let key = self.verified_key(segment, hint.offset, hint.hash)?;
                        touched.entry(hint.collection).or_default().keys.insert(key);
                    }
                    Kind::Clear if planted!(DiffMissesClears) => {}
                    Kind::Clear => touched.entry(hint.collection).or_default().is_cleared = true,
                    Kind::CreateCollection | Kind::Configure => {}
                }
            }
        }
        for (id, touched) in touched.iter_mut().filter(|(_, t)| t.is_cleared) {
            let Some(collection) = self.catalog.by_id(*id) else { continue };
            let (entries, slots) = older.entries(&collection)?;
            for (hash, location) in entries {
                let segment = self.pinned(&slots, location)?;
                touched.keys.insert(self.verified_key(segment, location.offset(), hash)?);
            }
        }
        Ok(touched)
    }

    /// The key of the record at `offset`, which has this hash.
    pub(super) fn verified_key(
        &self,
        segment: &Arc<Segment>,
        offset: u64,
        hash: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let found = self.read_key(segment, offset)?;
        if self.is_hash_of(found.key(), hash) {
            return Ok(found.key().to_vec());
        }
        self.check_intact(&self.read_in(segment, offset)?)?;
        Err(segment.corruption(offset, MISPLACED).into())
    }

    /// True if a reader can tell one from the other.
    fn differ(&self, from: Option<&Found>, to: Option<&Found>) -> Result<bool, ReadError> {
        let (Some(from), Some(to)) = (from, to) else { return Ok(from.is_some() != to.is_some()) };
        let seqno = |found: &Found| found.segment.seqno_at(found.offset);
        if seqno(from)?.is_some_and(|from| seqno(to).is_ok_and(|to| to == Some(from))) {
            return Ok(false);
        }
        let (from, to) = (self.version(from.clone())?, self.version(to.clone())?);
        Ok(match (from, to) {
            (Some((value, expires)), Some((other, at))) => *value != *other || expires != at,
            (from, to) => from.is_some() != to.is_some(),
        })
    }

    /// The value of `found` and when it expires; `None` if it has.
    pub(super) fn version(
        &self,
        found: Found,
    ) -> Result<Option<(ValueRef, Option<u64>)>, ReadError> {
        self.verify_body(&found)?;
        let expires = self.stored(&found)?.expires;
        Ok(self.verified_value(found)?.map(|value| (value, expires)))
    }
}

impl Snapshot {
    /// The record of `key` at this point, if it has not expired.
    fn current(
        &self,
        collection: &CollectionState,
        key: &[u8],
    ) -> Result<Option<Found>, ReadError> {
        let Some(found) = self.lookup(collection, key)? else { return Ok(None) };
        Ok(self.is_current(&found)?.then_some(found))
    }
}
