//! [`Staged`]: changes laid over a store, seen by who makes them and by nobody else yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{BoxFuture, KvBatch, KvBytes, KvError, KvOp, KvStore, Value, Written, codec};
use crate::engine::Durability;

/// A [`KvStore`] laid over another one. What is written to it stays in memory, reads see it, and
/// [`Staged::commit`] writes all of it to the store below as one batch. Dropping it writes nothing.
///
/// It holds what was written, encoded, and nothing of the store below. Who changes the store below
/// in the meantime is not noticed: whoever needs that keeps others from writing.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::Durability;
/// use siltstone::kv::{KvStore, MemoryKv, Staged, Value};
///
/// let below = Arc::new(MemoryKv::new());
/// let staged = Staged::new(below.clone());
/// staged.put("data", b"answer", &Value::from(42))?;
/// assert_eq!(staged.get("data", b"answer")?, Some(Value::from(42)));
/// assert_eq!(below.get("data", b"answer")?, None);
/// staged.commit(Durability::Buffered)?;
/// assert_eq!(below.get("data", b"answer")?, Some(Value::from(42)));
/// # Ok::<(), siltstone::kv::KvError>(())
/// ```
pub struct Staged {
    below: Arc<dyn KvStore>,
    changes: Mutex<BTreeMap<String, Changes>>,
}

/// What was done to one collection.
#[derive(Default)]
struct Changes {
    /// It was emptied before the entries below were written.
    is_cleared: bool,
    /// In the order in which the keys were first written.
    entries: Vec<(Box<[u8]>, Entry)>,
    places: HashMap<Box<[u8]>, usize>,
    /// Of the values.
    bytes: usize,
}

struct Entry {
    /// The encoded value; `None` if the key was removed.
    value: Option<Box<[u8]>>,
    /// The store below has the key, and the collection was not emptied.
    is_below: bool,
}

impl Changes {
    fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(*self.places.get(key)?).map(|(_, entry)| entry)
    }

    /// Sets or removes `key`; true if it was there. `is_below` counts if the key is written for
    /// the first time.
    fn set(&mut self, key: &[u8], value: Option<&[u8]>, is_below: bool) -> bool {
        self.bytes += value.map_or(0, <[u8]>::len);
        let known = self.places.get(key).and_then(|place| self.entries.get_mut(*place));
        if let Some((_, entry)) = known {
            let was = entry.value.is_some();
            self.bytes -= entry.value.as_ref().map_or(0, |value| value.len());
            entry.value = value.map(Box::from);
            return was;
        }
        let is_below = is_below && !self.is_cleared;
        self.bytes += 2 * key.len() + ENTRY_LEN;
        self.places.insert(key.into(), self.entries.len());
        self.entries.push((key.into(), Entry { value: value.map(Box::from), is_below }));
        is_below
    }

    fn clear(&mut self) {
        *self = Changes { is_cleared: true, ..Changes::default() };
    }
}

/// What an entry takes beside its key, which is held twice, and its value: its places in the list
/// and in the table, of which a half may be empty, and what the allocator keeps of each.
const ENTRY_LEN: usize = 192;

impl Staged {
    /// No changes yet, over `below`.
    pub fn new(below: Arc<dyn KvStore>) -> Self {
        Staged { below, changes: Mutex::default() }
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.changes.lock().values().all(|c| !c.is_cleared && c.entries.is_empty())
    }

    /// How much memory the changes take, in bytes, about.
    pub fn byte_len(&self) -> usize {
        self.changes.lock().values().map(|changes| changes.bytes).sum()
    }

    /// The keys of `collection` that were written or removed, in the order in which that was
    /// first done, and whether the collection was emptied before.
    pub fn changed_keys(&self, collection: &str) -> (Vec<Vec<u8>>, bool) {
        let changes = self.changes.lock();
        let Some(found) = changes.get(collection) else { return (Vec::new(), false) };
        (found.entries.iter().map(|(key, _)| key.to_vec()).collect(), found.is_cleared)
    }

    /// All changes as one batch.
    ///
    /// # Errors
    ///
    /// [`KvError::Write`] if they are too many for one batch
    /// (see [`BATCH_OPS_MAX`](crate::limits::BATCH_OPS_MAX)). The changes stay.
    pub fn batch(&self) -> Result<KvBatch, KvError> {
        let mut batch = KvBatch::new();
        for (collection, changes) in &*self.changes.lock() {
            if changes.is_cleared {
                batch.clear(collection)?;
            }
            for (key, entry) in &changes.entries {
                match &entry.value {
                    Some(value) => batch.put_encoded(collection, key, value)?,
                    None if entry.is_below => batch.delete(collection, key)?,
                    None => {}
                }
            }
        }
        Ok(batch)
    }

    /// Writes all changes to the store below as one batch, and is empty then. Writes nothing if
    /// there are none.
    ///
    /// # Errors
    ///
    /// As [`Staged::batch`], and [`KvError::Write`], whose source says what became of the data.
    /// The changes stay.
    pub fn commit(&self, durability: Durability) -> Result<(), KvError> {
        let batch = self.batch()?;
        if !batch.is_empty() {
            self.below.write(batch, durability)?;
        }
        self.changes.lock().clear();
        Ok(())
    }

    /// The value of `key` as far as the changes tell: `None` if the store below knows.
    fn changed<T>(
        &self,
        collection: &str,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Option<T> {
        let changes = self.changes.lock();
        let found = changes.get(collection)?;
        match found.get(key) {
            Some(entry) => Some(read(entry.value.as_deref())),
            None => found.is_cleared.then(|| read(None)),
        }
    }
}

impl KvStore for Staged {
    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        let read = |value: Option<&[u8]>| value.map(codec::decode).transpose();
        match self.changed(collection, key, read) {
            Some(value) => value.map_err(|e| KvError::decode(collection, key, e)),
            None => self.below.get(collection, key),
        }
    }

    fn get_bytes(&self, collection: &str, key: &[u8]) -> Result<Option<KvBytes>, KvError> {
        let copy = |value: Option<&[u8]>| value.map(|value| KvBytes::from(value.to_vec()));
        match self.changed(collection, key, copy) {
            Some(found) => Ok(found),
            None => self.below.get_bytes(collection, key),
        }
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        match self.changed(collection, key, |value| value.is_some()) {
            Some(found) => Ok(found),
            None => self.below.contains(collection, key),
        }
    }

    /// The keys of the store below come first, then those that were written since. `visit` may use
    /// the store.
    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        let (mut written, is_cleared) = self.changed_keys(collection);
        if !is_cleared {
            // What is changed while this runs may or may not be seen; none is seen twice.
            let places: HashMap<&[u8], ()> = written.iter().map(|key| (&**key, ())).collect();
            self.below.scan(collection, &mut |key, value| match places.contains_key(key) {
                true => Ok(()),
                false => visit(key, value),
            })?;
        }
        for key in written.drain(..) {
            if let Some(value) = self.get(collection, &key)? {
                visit(&key, value)?;
            }
        }
        Ok(())
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        let below = self.below.len(collection)?;
        let changes = self.changes.lock();
        let Some(found) = changes.get(collection) else { return Ok(below) };
        let count = |of: fn(&Entry) -> bool| {
            found.entries.iter().filter(|(_, entry)| of(entry)).count() as u64
        };
        let kept = if found.is_cleared { 0 } else { below };
        let added = count(|entry| entry.value.is_some() && !entry.is_below);
        let removed = count(|entry| entry.value.is_none() && entry.is_below);
        Ok((kept + added).saturating_sub(removed))
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        let mut all: BTreeMap<String, u64> = self.below.collections()?.into_iter().collect();
        let written: Vec<String> = self.changes.lock().keys().cloned().collect();
        for name in written {
            let len = self.len(&name)?;
            all.insert(name, len);
        }
        Ok(all.into_iter().collect())
    }

    fn write(&self, batch: KvBatch, _: Durability) -> Result<Written, KvError> {
        // What can fail comes first, so that a failure leaves nothing half done.
        let mut below = Vec::with_capacity(batch.len());
        for op in batch.ops() {
            below.push(match op {
                KvOp::Put { collection, key, .. } | KvOp::Delete { collection, key } => {
                    let known = self.changed(collection, key, |_| ()).is_some();
                    !known && self.below.contains(collection, key)?
                }
                KvOp::Clear { .. } => false,
            });
        }
        let mut changes = self.changes.lock();
        let mut deleted = 0;
        for (op, is_below) in batch.ops().zip(below) {
            let (KvOp::Put { collection, .. }
            | KvOp::Delete { collection, .. }
            | KvOp::Clear { collection }) = op;
            if matches!(op, KvOp::Delete { .. }) && !is_below && !changes.contains_key(collection) {
                continue;
            }
            let found = match changes.get_mut(collection) {
                Some(found) => found,
                None => changes.entry(collection.to_owned()).or_default(),
            };
            match op {
                KvOp::Put { key, value, .. } => drop(found.set(key, Some(value), is_below)),
                KvOp::Delete { key, .. } => {
                    deleted += u64::from(found.set(key, None, is_below));
                }
                KvOp::Clear { .. } => found.clear(),
            }
        }
        Ok(Written { deleted })
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        Box::pin(std::future::ready(self.write(batch, durability)))
    }

    /// Nothing to do: what is staged becomes durable after its commit.
    fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changes = self.changes.lock();
        let keys = changes.iter().map(|(name, changes)| (name, changes.entries.len()));
        f.debug_map().entries(keys).finish()
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;

    fn ok<T>(result: Result<T, KvError>) -> T {
        result.expect("a store in memory does not fail")
    }

    fn sorted(kv: &dyn KvStore, collection: &str) -> Vec<(Vec<u8>, Value)> {
        let mut all = ok(kv.get_all(collection));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Goal: the store below has, after the commit, what the staged one showed before it. Method:
    /// the same random batches go to a store of their own; after each the three are compared.
    #[test]
    fn a_commit_leaves_what_was_seen() {
        for seed in 0..200u64 {
            eprintln!("seed {seed}");
            let mut rng = crate::testing::Rng::new(seed);
            let below = Arc::new(MemoryKv::new());
            let expected = MemoryKv::new();
            for _ in 0..4 {
                let staged = Staged::new(below.clone());
                for _ in 0..6 {
                    let (mut ours, mut theirs) = (KvBatch::new(), KvBatch::new());
                    for _ in 0..rng.below(8) {
                        let name = ["a", "b"][rng.below(2)];
                        let key = [rng.below(6) as u8];
                        let value = Value::from(rng.below(1000) as u64);
                        let what = rng.below(10);
                        for batch in [&mut ours, &mut theirs] {
                            ok(match what {
                                0 => batch.clear(name),
                                1..4 => batch.delete(name, &key),
                                _ => batch.put(name, &key, &value),
                            });
                        }
                    }
                    let written = ok(staged.write(ours, Durability::Buffered));
                    assert_eq!(written, ok(expected.write(theirs, Durability::Buffered)));
                    for name in ["a", "b", "c"] {
                        assert_eq!(sorted(&staged, name), sorted(&expected, name));
                        assert_eq!(ok(staged.len(name)), ok(expected.len(name)));
                        for key in 0..6u8 {
                            let there = ok(expected.contains(name, &[key]));
                            assert_eq!(ok(staged.contains(name, &[key])), there);
                        }
                    }
                }
                ok(staged.commit(Durability::Buffered));
                assert!(staged.is_empty() && staged.byte_len() == 0);
                for name in ["a", "b"] {
                    assert_eq!(sorted(&*below, name), sorted(&expected, name));
                }
            }
        }
    }

    /// Goal: the length counts each key once and the value that it has now.
    #[test]
    fn the_length_follows_the_values() {
        let staged = Staged::new(Arc::new(MemoryKv::new()));
        let text = |len| Value::from("x".repeat(len));
        ok(staged.put("a", b"k", &text(100)));
        let small = staged.byte_len();
        assert!(small > 100);
        ok(staged.put("a", b"k", &text(10_000)));
        assert!((9_900..9_910).contains(&(staged.byte_len() - small)));
        ok(staged.put("a", b"k", &text(100)));
        assert_eq!(staged.byte_len(), small);
        ok(staged.put("b", b"k", &text(100)));
        assert_eq!(staged.byte_len(), 2 * small);
        ok(staged.delete("a", b"k"));
        assert!(staged.byte_len() < 2 * small - 100);
        let mut batch = KvBatch::new();
        ok(batch.clear("b"));
        ok(staged.write(batch, Durability::Buffered));
        assert!(staged.byte_len() < small);
    }

    /// Goal: what is dropped without a commit leaves no trace, and one without changes writes
    /// nothing.
    #[test]
    fn what_is_not_committed_is_gone() {
        let below = Arc::new(MemoryKv::new());
        ok(below.put("a", b"k", &Value::from(1)));
        let staged = Staged::new(below.clone());
        ok(staged.put("a", b"k", &Value::from(2)));
        ok(staged.delete("a", b"k"));
        assert_eq!(ok(staged.get("a", b"k")), None);
        drop(staged);
        assert_eq!(ok(below.get("a", b"k")), Some(Value::from(1)));
        let staged = Staged::new(below.clone());
        ok(staged.put("b", b"new", &Value::from(2)));
        ok(staged.delete("b", b"new"));
        assert!(ok(staged.batch()).is_empty(), "nothing is left to do");
    }
}
