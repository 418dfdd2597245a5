//! [`Map`]: a dictionary that keeps the order of insertion, as Python's does.

use std::hash::{BuildHasher, RandomState};

use super::text::Text;
use super::value::Value;

/// Up to this many entries a walk over the keys beats a hash table.
const WALK_MAX: usize = 16;

/// A slot of the table that holds no entry.
const EMPTY: usize = usize::MAX;

/// A dictionary with text keys, in the order of insertion.
///
/// Setting a key that is there keeps its place, as in Python. Lookup and insertion are O(1),
/// removal is O(n). Two maps are equal if they hold the same keys and values in any order.
///
/// ```
/// use siltstone::kv::{Map, Value};
/// let mut map = Map::new();
/// map.insert("page", 1);
/// map.insert("title", "One");
/// map.insert("page", 2);
/// assert_eq!(map.get("page"), Some(&Value::Int(2)));
/// assert_eq!(map.keys().map(|k| k.to_string()).collect::<Vec<_>>(), ["page", "title"]);
/// ```
#[derive(Clone, Default)]
pub struct Map {
    entries: Vec<(Text, Value)>,
    /// Open-addressing table of places in `entries`; absent while the map is small.
    table: Option<Table>,
}

#[derive(Clone)]
struct Table {
    /// A power of two long, at most half full.
    slots: Vec<usize>,
    hasher: RandomState,
}

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty map with room for `entries`.
    pub fn with_capacity(entries: usize) -> Self {
        Map { entries: Vec::with_capacity(entries), table: None }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Value> {
        let place = self.place(key.as_ref())?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// The value of `key`, to change it.
    pub fn get_mut(&mut self, key: impl AsRef<[u8]>) -> Option<&mut Value> {
        let place = self.place(key.as_ref())?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// True if `key` is there.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> bool {
        self.place(key.as_ref()).is_some()
    }

    /// Sets `key` to `value`; returns the value it had.
    pub fn insert(&mut self, key: impl Into<Text>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        if let Some(old) = self.get_mut(key.as_bytes()) {
            return Some(std::mem::replace(old, value));
        }
        self.entries.push((key, value));
        let full = self.table.as_ref().is_none_or(|t| t.slots.len() < self.entries.len() * 2);
        if full && self.entries.len() > WALK_MAX {
            self.rebuild();
        } else if let (Some(table), Some((key, _))) = (&mut self.table, self.entries.last()) {
            table.add(key.as_bytes(), self.entries.len() - 1);
        }
        None
    }

    /// As [`Map::insert`] with a key that needs no allocation.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) -> Option<Value> {
        self.insert(Text::from_static(key), value)
    }

    /// Removes `key` and returns its value. The others keep their order.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Option<Value> {
        let place = self.place(key.as_ref())?;
        let (_, value) = self.entries.remove(place);
        self.table = None;
        if self.entries.len() > WALK_MAX {
            self.rebuild();
        }
        Some(value)
    }

    /// The keys and values in the order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Value)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The keys in the order of insertion.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// Sets every key of `other` (Python's `dict.update`).
    pub fn update(&mut self, other: &Map) {
        for (key, value) in other.iter() {
            self.insert(key, value.clone());
        }
    }

    /// Where `key` stands in `entries`.
    fn place(&self, key: &[u8]) -> Option<usize> {
        let Some(table) = &self.table else {
            return self.entries.iter().position(|(k, _)| k.as_bytes() == key);
        };
        table.probe(key).find_map(|place| {
            let (found, _) = self.entries.get(place)?;
            (found.as_bytes() == key).then_some(place)
        })
    }

    /// Makes the table anew, with room for twice the entries.
    fn rebuild(&mut self) {
        let len = (self.entries.len() * 4).next_power_of_two();
        let hasher = self.table.take().map_or_else(RandomState::new, |table| table.hasher);
        let mut table = Table { slots: vec![EMPTY; len], hasher };
        for (place, (key, _)) in self.entries.iter().enumerate() {
            table.add(key.as_bytes(), place);
        }
        self.table = Some(table);
    }
}

impl Table {
    /// The slots of `key`, in the order to try them.
    fn slots_of(&self, key: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let first = self.hasher.hash_one(key) as usize;
        (0..self.slots.len()).map(move |step| first.wrapping_add(step) & mask)
    }

    /// The places that may hold `key`.
    fn probe<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = usize> + use<'a> {
        self.slots_of(key)
            .map_while(|slot| self.slots.get(slot).copied().filter(|place| *place != EMPTY))
    }

    /// Enters `key` as standing at `place`. Requires: there is an empty slot.
    fn add(&mut self, key: &[u8], place: usize) {
        for slot in self.slots_of(key) {
            if let Some(free) = self.slots.get_mut(slot).filter(|found| **found == EMPTY) {
                *free = place;
                return;
            }
        }
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl Eq for Map {}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Map {
    /// A key that comes again keeps its first place and takes the last value.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let mut map = Map::with_capacity(pairs.size_hint().0);
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }
}

impl IntoIterator for Map {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_hold_at_every_size() {
        let mut map = Map::new();
        for n in 0..300i64 {
            assert_eq!(map.insert(format!("k{n}"), n), None);
            for m in 0..=n {
                assert_eq!(map.get(format!("k{m}")), Some(&Value::Int(m)));
            }
            assert_eq!(map.get(format!("k{}", n + 1)), None);
        }
        assert_eq!(map.insert("k7", "new"), Some(Value::Int(7)));
        assert_eq!(map.keys().nth(7), Some(&Text::from("k7")));
    }

    #[test]
    fn removal_keeps_the_order_of_the_rest() {
        let mut map: Map = (0..40i64).map(|n| (n.to_string(), n)).collect();
        for n in (0..40).step_by(2) {
            assert_eq!(map.remove(n.to_string()), Some(Value::Int(n)));
            assert_eq!(map.remove(n.to_string()), None);
        }
        let left: Vec<_> = map.iter().map(|(_, v)| v.as_int()).collect();
        assert_eq!(left, (1..40).step_by(2).map(Some).collect::<Vec<_>>());
        map.insert("0", 0);
        assert_eq!(map.keys().last(), Some(&Text::from("0")));
    }

    #[test]
    fn equality_ignores_order() {
        let pairs = (0..50i64).map(|n| (n.to_string(), n));
        let a: Map = pairs.clone().collect();
        let b: Map = pairs.rev().collect();
        assert_eq!(a, b);
        let mut c = b.clone();
        c.insert("3", 4);
        assert_ne!(a, c);
        c.remove("3");
        c.insert("x", 3);
        assert_ne!(a, c);
    }
}
