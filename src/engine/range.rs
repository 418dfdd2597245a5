//! Iteration in the order of the keys.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::catalog::CollectionState;
use super::core::Core;
use super::db::Db;
use super::error::ReadError;
use super::iter::Entry;
use super::ordered::OrderedKeys;
use super::snapshot::Snapshot;
use crate::index::ordered::{Ghosts, KeySet, is_empty_range};

/// Keys that are gathered at first, and at most: a short walk is quick, and a long one holds no
/// lock for long.
const CHUNK: std::ops::RangeInclusive<usize> = 16..=256;

/// Why a collection cannot be walked in the order of its keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RangeError {
    /// It was not configured to be: see [`crate::Db::configure`] and
    /// [`crate::CollectionOptions::ordered`], which can be done at any time.
    NotOrdered {
        /// The collection's name.
        collection: String,
    },
    /// Its keys could not be read. Data: unchanged. Retry: reads them again.
    Read(ReadError),
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::NotOrdered { collection } => {
                let name = collection.escape_debug();
                write!(f, "collection \"{name}\" keeps no order of its keys: configure it to")
            }
            RangeError::Read(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for RangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RangeError::NotOrdered { .. } => None,
            RangeError::Read(e) => Some(e),
        }
    }
}

impl From<ReadError> for RangeError {
    fn from(e: ReadError) -> Self {
        RangeError::Read(e)
    }
}

/// Iterates over the keys and values of an ordered collection in the order of its keys, from both
/// ends, as they were at one point in time. Later writes do not disturb it; as long as it is held
/// it costs what a [`Snapshot`] does.
pub struct Range {
    snapshot: Snapshot,
    collection: Arc<CollectionState>,
    live: Vec<Arc<KeySet>>,
    ghosts: Arc<Ghosts>,
    /// What has not been handed out yet lies between these.
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    /// The next keys from the front, and from the back. The other end may have passed them.
    front: VecDeque<Box<[u8]>>,
    back: VecDeque<Box<[u8]>>,
    chunk: usize,
}

impl Db {
    /// The keys and values of an ordered collection within `bounds`, in the order of the keys'
    /// bytes, as of now. See [`crate::CollectionOptions::ordered`].
    ///
    /// Keeping the order costs memory: each key and about 40 bytes. The first call after an open
    /// reads all keys of the collection from the log; writes go on meanwhile.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use siltstone::{CollectionOptions, Db};
    /// let db = Db::open(dir.path())?;
    /// db.configure("chunks", CollectionOptions::new().ordered(true))?;
    /// for key in ["doc-1#0", "doc-2#1", "doc-2#0", "doc-3#0"] {
    ///     db.put("chunks", key.as_bytes(), b"text")?;
    /// }
    /// let last = db.range("chunks", &b"doc-1#1"[..]..)?.next_back().ok_or("empty")??;
    /// assert_eq!(last.key, b"doc-3#0");
    /// let of_2: Result<Vec<_>, _> = db.prefix("chunks", b"doc-2#")?.collect();
    /// assert_eq!(of_2?[0].key, b"doc-2#0");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RangeError`].
    pub fn range<'a>(
        &self,
        collection: &str,
        bounds: impl RangeBounds<&'a [u8]>,
    ) -> Result<Range, RangeError> {
        Range::new(self.core(), self.snapshot(), collection, owned(bounds))
    }

    /// As [`Db::range`], of the keys that start with `prefix`.
    ///
    /// # Errors
    ///
    /// See [`RangeError`].
    pub fn prefix(&self, collection: &str, prefix: &[u8]) -> Result<Range, RangeError> {
        Range::new(self.core(), self.snapshot(), collection, with_prefix(prefix))
    }
}

impl Snapshot {
    /// The keys and values of an ordered collection within `bounds`, in the order of the keys'
    /// bytes, as they were at this point. It is of no matter whether the collection was ordered
    /// then. See [`crate::Db::range`].
    ///
    /// # Errors
    ///
    /// See [`RangeError`].
    pub fn range<'a>(
        &self,
        collection: &str,
        bounds: impl RangeBounds<&'a [u8]>,
    ) -> Result<Range, RangeError> {
        let (core, own) = self.another();
        Range::new(core, own, collection, owned(bounds))
    }

    /// As [`Snapshot::range`], of the keys that start with `prefix`.
    ///
    /// # Errors
    ///
    /// See [`RangeError`].
    pub fn prefix(&self, collection: &str, prefix: &[u8]) -> Result<Range, RangeError> {
        let (core, own) = self.another();
        Range::new(core, own, collection, with_prefix(prefix))
    }
}

type OwnedBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

fn owned<'a>(bounds: impl RangeBounds<&'a [u8]>) -> OwnedBounds {
    let own = |bound: Bound<&&[u8]>| bound.map(|key| key.to_vec());
    (own(bounds.start_bound()), own(bounds.end_bound()))
}

/// The bounds of all keys that start with `prefix`: its end is the shortest key behind all of
/// them, if there is one.
fn with_prefix(prefix: &[u8]) -> OwnedBounds {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    let end = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    (Bound::Included(prefix.to_vec()), end)
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

impl Range {
    fn new(
        core: &Arc<Core>,
        snapshot: Snapshot,
        collection: &str,
        (start, end): OwnedBounds,
    ) -> Result<Range, RangeError> {
        let not_ordered = || RangeError::NotOrdered { collection: collection.to_owned() };
        let collection = core.catalog.find(collection).ok_or_else(not_ordered)?;
        let keys: Arc<OrderedKeys> = core.ordered_keys(&collection)?;
        // The keys that are there first, then the books: see the module `ordered`.
        let mut live = vec![keys.live()];
        for point in core.points.since(snapshot.seqno()) {
            let Some(kept) = point.kept(collection.id) else { continue };
            live.extend(kept.cleared_keys.get().cloned());
        }
        let ghosts = Arc::clone(&keys.ghosts);
        let (front, back) = (VecDeque::new(), VecDeque::new());
        let chunk = *CHUNK.start();
        Ok(Range { snapshot, collection, live, ghosts, start, end, front, back, chunk })
    }

    /// The next keys of what is left, from the front or from the back.
    fn gather(&mut self, is_reverse: bool) -> VecDeque<Box<[u8]>> {
        let bounds = (as_slice(&self.start), as_slice(&self.end));
        if is_empty_range(bounds) {
            return VecDeque::new();
        }
        let mut found = Vec::new();
        for keys in &self.live {
            keys.collect(bounds, is_reverse, self.chunk, &mut found);
        }
        self.ghosts.collect(bounds, is_reverse, self.chunk, &mut found);
        found.sort_unstable();
        found.dedup();
        if is_reverse {
            found.reverse();
        }
        // Each part gave its first ones, so behind these some may be missing.
        found.truncate(self.chunk);
        self.chunk = (self.chunk * 2).min(*CHUNK.end());
        found.into()
    }

    /// The entry of `key`, if it was there.
    fn entry(&self, key: Box<[u8]>) -> Option<Result<Entry, ReadError>> {
        self.snapshot.entry(&self.collection, key.into_vec()).transpose()
    }

    /// Nothing is left.
    fn end(&mut self) {
        self.start = Bound::Excluded(Vec::new());
        self.end = Bound::Excluded(Vec::new());
        self.front.clear();
        self.back.clear();
    }
}

impl Iterator for Range {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.front.is_empty() {
                self.front = self.gather(false);
            }
            let key = self.front.pop_front()?;
            let is_passed = match &self.end {
                Bound::Unbounded => false,
                Bound::Included(end) => *key > **end,
                Bound::Excluded(end) => *key >= **end,
            };
            if is_passed {
                self.end();
                return None;
            }
            self.start = Bound::Excluded(key.to_vec());
            if let Some(entry) = self.entry(key) {
                return Some(entry);
            }
        }
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if self.back.is_empty() {
                self.back = self.gather(true);
            }
            let key = self.back.pop_front()?;
            let is_passed = match &self.start {
                Bound::Unbounded => false,
                Bound::Included(start) => *key < **start,
                Bound::Excluded(start) => *key <= **start,
            };
            if is_passed {
                self.end();
                return None;
            }
            self.end = Bound::Excluded(key.to_vec());
            if let Some(entry) = self.entry(key) {
                return Some(entry);
            }
        }
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range")
            .field("collection", &self.collection.name)
            .field("start", &self.start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
