//! One lock's worth of the index: a hash table of 12-byte slots without keys.
//!
//! A slot holds 48 bits of the key's hash and the 48-bit location of its record. The table is an
//! array kept in order of hash: a slot's *home* is its hash scaled to the array, and a slot never
//! stands before its home nor behind a gap. So
//! - a search walks from the home to the first empty or larger slot: absent keys end early, and no
//!   tombstones are needed in the table;
//! - growing copies slots in order and needs no key and no second hash;
//! - the array may have any size: it grows by 2/5 at a load of 0.85, which keeps a key between
//!   14 and 20 bytes, 17 on average.
//!
//! Several slots may share a hash: only the record in the log knows its key, so every match is
//! put to the caller.

/// Bits of hash and of location in a slot.
const HALF_BITS: u32 = 48;
/// Largest location, and mask of hash bits.
pub(super) const LOCATION_MAX: u64 = (1 << HALF_BITS) - 1;

/// Twelve bytes: location 0 marks an empty slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot([u32; 3]);

impl Slot {
    const EMPTY: Slot = Slot([0; 3]);

    fn new(hash: u64, location: u64) -> Self {
        let middle = (hash >> 32) as u16 as u32 | ((location >> 32) as u16 as u32) << 16;
        Slot([hash as u32, middle, location as u32])
    }

    fn hash(self) -> u64 {
        u64::from(self.0[0]) | u64::from(self.0[1] & 0xFFFF) << 32
    }

    fn location(self) -> u64 {
        u64::from(self.0[2]) | u64::from(self.0[1] >> 16) << 32
    }

    fn is_empty(self) -> bool {
        self == Slot::EMPTY
    }
}

/// A table of hash -> location. See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Slots by hash; the ones from `spread` on take what the last homes overflow.
    slots: Vec<Slot>,
    /// Homes lie below this index.
    spread: usize,
    len: usize,
    /// Smallest spread: staggers when tables of one collection grow.
    spread_min: usize,
}

/// Slots beyond the last home.
const OVERFLOW: usize = 8;

impl Table {
    /// An empty table, which allocates when the first slot is added: then for `spread_min` homes.
    pub(super) fn new(spread_min: usize) -> Self {
        Table { spread_min: spread_min.max(4), ..Table::default() }
    }

    /// Makes room for `len` slots without growing step by step.
    pub(super) fn reserve(&mut self, len: usize) {
        let spread = len + len / 4;
        if spread > self.spread {
            self.grow_to(spread.max(self.spread_min));
        }
    }

    /// Number of slots taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes of the table.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// All hashes and locations, by hash.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        self.slots.iter().filter(|s| !s.is_empty()).map(|s| (s.hash(), s.location()))
    }

    /// The locations of the slots with `hash` (48 bits).
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = u64> {
        let start = self.home(hash);
        self.slots
            .get(start..)
            .unwrap_or(&[])
            .iter()
            .take_while(move |s| !s.is_empty() && s.hash() <= hash)
            .filter(move |s| s.hash() == hash)
            .map(|s| s.location())
    }

    /// Sets the location of a key: of the slot with `hash` that `is_key` recognises, or of a new
    /// one. Returns the location replaced.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        location: u64,
        mut is_key: impl FnMut(u64) -> bool,
    ) -> Option<u64> {
        debug_assert!(hash <= LOCATION_MAX && location <= LOCATION_MAX && location != 0);
        if (self.len + 1) * 20 > self.spread * 17 {
            self.grow_to((self.spread + self.spread * 2 / 5).max(self.spread_min));
        }
        let mut i = self.home(hash);
        while let Some(slot) = self.slots.get_mut(i) {
            if slot.is_empty() || slot.hash() > hash {
                break;
            }
            if slot.hash() == hash && is_key(slot.location()) {
                let old = slot.location();
                *slot = Slot::new(hash, location);
                return Some(old);
            }
            i += 1;
        }
        self.insert_at(i, Slot::new(hash, location));
        self.len += 1;
        None
    }

    /// Removes the slot with `hash` that `is_key` recognises; returns its location.
    pub(super) fn remove(&mut self, hash: u64, mut is_key: impl FnMut(u64) -> bool) -> Option<u64> {
        let mut i = self.home(hash);
        loop {
            let slot = *self.slots.get(i)?;
            if slot.is_empty() || slot.hash() > hash {
                return None;
            }
            if slot.hash() == hash && is_key(slot.location()) {
                self.remove_at(i);
                self.len -= 1;
                return Some(slot.location());
            }
            i += 1;
        }
    }

    /// Removes and returns everything, by hash.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, u64)> {
        self.len = 0;
        self.spread = 0;
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().filter(|s| !s.is_empty()).map(|s| (s.hash(), s.location()))
    }

    /// Fills the empty table with `len` hashes and locations, which must come in order of hash.
    /// The first error ends it, and then the table is of no use.
    pub(super) fn fill(
        &mut self,
        len: usize,
        entries: impl Iterator<Item = Result<(u64, u64), &'static str>>,
    ) -> Result<(), &'static str> {
        if len == 0 {
            return Ok(());
        }
        self.spread = (len + len / 4).max(self.spread_min);
        let mut slots = vec![Slot::EMPTY; self.spread + OVERFLOW];
        let mut next = 0;
        let mut last = 0;
        for entry in entries {
            let (hash, location) = entry?;
            if hash < last || location == 0 {
                return Err("a table is not in order");
            }
            last = hash;
            let i = self.home(hash).max(next);
            if i >= slots.len() {
                slots.resize(i + 1, Slot::EMPTY);
            }
            if let Some(slot) = slots.get_mut(i) {
                *slot = Slot::new(hash, location);
            }
            next = i + 1;
            self.len += 1;
        }
        self.slots = slots;
        Ok(())
    }

    /// Removes the slots whose location `is_kept` says no to; returns how many.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(u64) -> bool) -> u64 {
        let len = self.len;
        let spread = self.spread;
        let kept: Vec<Slot> =
            self.slots.drain(..).filter(|s| !s.is_empty() && is_kept(s.location())).collect();
        if kept.len() == len && len == 0 {
            self.spread = 0;
            return 0;
        }
        self.len = kept.len();
        self.slots = kept;
        self.grow_to(spread);
        (len - self.len) as u64
    }

    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.spread as u128) >> HALF_BITS) as usize
    }

    /// Puts `slot` at `i`, moving the run of slots that starts there up by one.
    fn insert_at(&mut self, i: usize, slot: Slot) {
        let run = self.slots.get(i..).unwrap_or(&[]);
        let Some(gap) = run.iter().position(|s| s.is_empty()) else {
            self.slots.reserve_exact(OVERFLOW);
            self.slots.insert(i, slot);
            return;
        };
        self.slots.copy_within(i..i + gap, i + 1);
        if let Some(place) = self.slots.get_mut(i) {
            *place = slot;
        }
    }

    /// Empties slot `i`, moving those behind it that may stand one earlier down by one.
    fn remove_at(&mut self, i: usize) {
        let mut end = i + 1;
        while let Some(slot) = self.slots.get(end) {
            if slot.is_empty() || self.home(slot.hash()) >= end {
                break;
            }
            end += 1;
        }
        self.slots.copy_within(i + 1..end, i);
        if let Some(place) = self.slots.get_mut(end - 1) {
            *place = Slot::EMPTY;
        }
    }

    /// Spreads the slots over `spread` homes. They come in order of hash, so each goes to its home
    /// or right behind the one before it.
    fn grow_to(&mut self, spread: usize) {
        let old = std::mem::take(&mut self.slots);
        self.spread = spread;
        let mut slots = vec![Slot::EMPTY; spread + OVERFLOW];
        let mut next = 0;
        for slot in old.into_iter().filter(|s| !s.is_empty()) {
            let i = self.home(slot.hash()).max(next);
            if i >= slots.len() {
                slots.resize(i + 1, Slot::EMPTY);
            }
            slots[i] = slot;
            next = i + 1;
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Goal: the table is a map, also when many keys share a hash. Method: random operations
    /// against a BTreeMap keyed by (hash, key); the location stands for the key.
    #[test]
    fn behaves_as_a_map() {
        for seed in 1..40u64 {
            let mut rng = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut next = || {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                rng
            };
            let mut table = Table::new(4);
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut version = 0u64;
            // A location names its key in the low bits and its version in the high ones.
            let locate = |key: u64, version: u64| (version << 12 | key) + 1;
            let key_of = |location: u64| (location - 1) & 0xFFF;
            let hash_bits = if seed % 3 == 0 { 3 } else { 48 };
            for _ in 0..4000 {
                let key = next() % 700;
                let hash =
                    key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - hash_bits) << (48 - hash_bits);
                version += 1;
                if next() % 5 < 3 {
                    let location = locate(key, version);
                    let old = table.insert(hash, location, |l| key_of(l) == key);
                    assert_eq!(old, model.insert((hash, key), location), "seed {seed}");
                } else {
                    let old = table.remove(hash, |l| key_of(l) == key);
                    assert_eq!(old, model.remove(&(hash, key)), "seed {seed}");
                }
                assert_eq!(table.len(), model.len());
                let found = table.find(hash).find(|l| key_of(*l) == key);
                assert_eq!(found, model.get(&(hash, key)).copied(), "seed {seed}");
            }
            let mut all: Vec<u64> = table.entries().map(|(_, location)| location).collect();
            all.sort_unstable();
            let mut expected: Vec<u64> = model.values().copied().collect();
            expected.sort_unstable();
            assert_eq!(all, expected, "seed {seed}");
        }
    }

    #[test]
    fn a_key_costs_at_most_24_bytes_at_any_size() {
        let mut table = Table::new(4);
        for n in 1..200_000u64 {
            let hash = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            table.insert(hash, n, |_| false);
            if n > 2_000 {
                assert!(table.heap_bytes() as u64 <= 24 * n, "{n}: {}", table.heap_bytes());
            }
        }
    }
}
