//! The keys of one collection in their order.
//!
//! A set says which keys there may be: whoever walks it looks each key up, and passes over what is
//! not there. So a set may hold more keys than its collection, and must not hold fewer.
//!
//! Lock order: the set's own lock, with no other taken while it is held. It is held for one key, or
//! for as many as a reader takes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

/// Bytes that a key costs besides its own: its place in the tree, which is two thirds full, and
/// the allocator's share.
const KEY_OVERHEAD: usize = 40;

/// Where a walk starts and ends.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// True if no key can lie between the bounds; a tree must not be asked then.
pub(crate) fn is_empty_range((start, end): Bounds<'_>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}

/// A set of keys.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: RwLock<BTreeSet<Box<[u8]>>>,
    bytes: AtomicUsize,
}

impl KeySet {
    /// Adds a key; false if it was there.
    pub(crate) fn insert(&self, key: &[u8]) -> bool {
        let is_new = self.keys.write().insert(key.into());
        if is_new {
            self.bytes.fetch_add(key.len() + KEY_OVERHEAD, Ordering::Relaxed);
        }
        is_new
    }

    /// Adds many keys.
    pub(crate) fn extend(&self, new: impl Iterator<Item = Box<[u8]>>) {
        let mut keys = self.keys.write();
        for key in new {
            let len = key.len();
            if keys.insert(key) {
                self.bytes.fetch_add(len + KEY_OVERHEAD, Ordering::Relaxed);
            }
        }
    }

    /// Takes a key out.
    pub(crate) fn remove(&self, key: &[u8]) {
        if self.keys.write().remove(key) {
            self.bytes.fetch_sub(key.len() + KEY_OVERHEAD, Ordering::Relaxed);
        }
    }

    /// Adds the first `count` keys within `bounds` to `found`, or the last.
    pub(crate) fn collect(
        &self,
        bounds: Bounds<'_>,
        is_reverse: bool,
        count: usize,
        found: &mut Vec<Box<[u8]>>,
    ) {
        let keys = self.keys.read();
        let range = keys.range::<[u8], _>(bounds);
        match is_reverse {
            false => found.extend(range.take(count).cloned()),
            true => found.extend(range.rev().take(count).cloned()),
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Keys that are not there any more and that snapshots still know, each with a sequence number:
/// only points up to it can know the key.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    inner: RwLock<GhostTree>,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct GhostTree {
    by_key: BTreeMap<Box<[u8]>, u64>,
    by_seqno: BTreeSet<(u64, Box<[u8]>)>,
}

/// A ghost stands in two trees.
fn cost(key: &[u8]) -> usize {
    2 * (key.len() + KEY_OVERHEAD) + 16
}

impl Ghosts {
    /// Adds a key, or raises its number.
    pub(crate) fn insert(&self, key: &[u8], seqno: u64) {
        let mut tree = self.inner.write();
        match tree.by_key.get(key).copied() {
            Some(known) if known >= seqno => return,
            Some(known) => {
                tree.by_seqno.remove(&(known, key.into()));
            }
            None => {
                self.bytes.fetch_add(cost(key), Ordering::Relaxed);
            }
        }
        tree.by_key.insert(key.into(), seqno);
        tree.by_seqno.insert((seqno, key.into()));
    }

    /// Takes a key out.
    pub(crate) fn remove(&self, key: &[u8]) {
        let mut tree = self.inner.write();
        if let Some(seqno) = tree.by_key.remove(key) {
            tree.by_seqno.remove(&(seqno, key.into()));
            self.bytes.fetch_sub(cost(key), Ordering::Relaxed);
        }
    }

    /// Takes out up to `count` keys whose number is below `seqno`; false if there were fewer.
    pub(crate) fn drop_below(&self, seqno: u64, count: usize) -> bool {
        let mut tree = self.inner.write();
        for _ in 0..count {
            let Some((lowest, _)) = tree.by_seqno.first() else { return false };
            if *lowest >= seqno {
                return false;
            }
            if let Some((_, key)) = tree.by_seqno.pop_first() {
                tree.by_key.remove(&key);
                self.bytes.fetch_sub(cost(&key), Ordering::Relaxed);
            }
        }
        true
    }

    /// As [`KeySet::collect`].
    pub(crate) fn collect(
        &self,
        bounds: Bounds<'_>,
        is_reverse: bool,
        count: usize,
        found: &mut Vec<Box<[u8]>>,
    ) {
        let tree = self.inner.read();
        let range = tree.by_key.range::<[u8], _>(bounds).map(|(key, _)| key);
        match is_reverse {
            false => found.extend(range.take(count).cloned()),
            true => found.extend(range.rev().take(count).cloned()),
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.inner.read().by_key.len()
    }

    /// Bytes of memory, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(found: &[Box<[u8]>]) -> Vec<&[u8]> {
        found.iter().map(|key| &**key).collect()
    }

    #[test]
    fn keys_come_in_their_order_from_both_ends() {
        let set = KeySet::default();
        for key in [&b"b"[..], b"", b"a", b"ab", b"c"] {
            assert!(set.insert(key));
        }
        assert!(!set.insert(b"a"));
        let mut found = Vec::new();
        set.collect((Bound::Excluded(b""), Bound::Unbounded), false, 2, &mut found);
        set.collect((Bound::Unbounded, Bound::Included(b"b")), true, 2, &mut found);
        assert_eq!(keys(&found), [&b"a"[..], b"ab", b"b", b"ab"]);
        for key in [&b"b"[..], b"", b"a", b"ab", b"c", b"not there"] {
            set.remove(key);
        }
        assert_eq!(set.heap_bytes(), 0);
    }

    #[test]
    fn ghosts_go_with_the_points_that_know_them() {
        let ghosts = Ghosts::default();
        for (key, seqno) in [(&b"a"[..], 5), (b"b", 7), (b"a", 9), (b"b", 6)] {
            ghosts.insert(key, seqno);
        }
        assert_eq!(ghosts.len(), 2);
        assert!(!ghosts.drop_below(7, 10));
        assert_eq!(ghosts.len(), 2);
        assert!(ghosts.drop_below(10, 1));
        let mut found = Vec::new();
        ghosts.collect((Bound::Unbounded, Bound::Unbounded), false, 9, &mut found);
        assert_eq!(keys(&found), [b"a"]);
        ghosts.remove(b"a");
        assert_eq!((ghosts.len(), ghosts.heap_bytes()), (0, 0));
    }

    #[test]
    fn empty_ranges_are_known() {
        use Bound::{Excluded, Included, Unbounded};
        let (a, b): (&[u8], &[u8]) = (b"a", b"b");
        for (bounds, yes) in [
            ((Unbounded, Unbounded), false),
            ((Included(a), Included(a)), false),
            ((Included(a), Excluded(a)), true),
            ((Excluded(a), Included(a)), true),
            ((Excluded(a), Excluded(a)), true),
            ((Excluded(a), Excluded(b)), false),
            ((Included(b), Included(a)), true),
            ((Unbounded, Excluded(a)), false),
        ] {
            assert_eq!(is_empty_range(bounds), yes, "{bounds:?}");
        }
    }
}
