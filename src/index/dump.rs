//! Tables of an index as bytes, for checkpoints.
//!
//! What is dumped are the entries of a table in order of hash, without the gaps: 12 bytes each,
//! as a slot of the table. Filling a table from them puts each right behind the one before it or
//! at its home, so that it needs no search, and no order of the bytes can make a table that does
//! not work.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 6 | hash, as far as the index keeps it |
//! | 6 | 6 | location |

use std::sync::atomic::Ordering;

use super::table::LOCATION_MAX;
use super::{Index, Location, SHARDS, shard_of};

/// Bytes of an entry.
pub(crate) const ENTRY_LEN: usize = 12;
/// How many tables an index that has been split consists of.
pub(crate) const TABLES: usize = SHARDS;

/// An entry: the hash as far as the index keeps it, and the location.
pub(crate) type DumpedEntry = (u64, Location);

/// Which table of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The only one.
    Whole,
    /// One of [`TABLES`].
    Shard(u8),
}

impl Location {
    /// The location as a number of 48 bits.
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// The location that was this number.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let location = Location(bits & LOCATION_MAX);
        (bits <= LOCATION_MAX && location.offset() > 0).then_some(location)
    }
}

/// Appends the bytes of `entries`.
pub(crate) fn encode(entries: &[DumpedEntry], buf: &mut Vec<u8>) {
    buf.reserve(entries.len() * ENTRY_LEN);
    for (hash, location) in entries {
        let (hash, location) = (hash.to_le_bytes(), location.0.to_le_bytes());
        buf.extend_from_slice(hash.get(..6).unwrap_or(&[]));
        buf.extend_from_slice(location.get(..6).unwrap_or(&[]));
    }
}

/// The entry in these bytes.
fn decode(bytes: &[u8; ENTRY_LEN]) -> DumpedEntry {
    let [h0, h1, h2, h3, h4, h5, l0, l1, l2, l3, l4, l5] = *bytes;
    let hash = u64::from_le_bytes([h0, h1, h2, h3, h4, h5, 0, 0]);
    let location = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, 0, 0]);
    (hash, Location(location))
}

impl Index {
    /// Calls `each` with the entries of one table after the other. Entries come and go meanwhile,
    /// but none is missed that is there all the time.
    pub(crate) fn for_each_table<E>(
        &self,
        mut each: impl FnMut(Part, Vec<DumpedEntry>) -> Result<(), E>,
    ) -> Result<(), E> {
        {
            let first = self.first.read();
            if self.shards.get().is_none() {
                let entries = first.entries().map(|(hash, l)| (hash, Location(l))).collect();
                drop(first);
                return each(Part::Whole, entries);
            }
        }
        for (shard, table) in (0..=u8::MAX).zip(self.split()) {
            let entries: Vec<_> = {
                let table = table.read();
                table.entries().map(|(hash, l)| (hash, Location(l))).collect()
            };
            each(Part::Shard(shard), entries)?;
        }
        Ok(())
    }

    /// The entries that belong into `part`.
    pub(crate) fn entries_in(&self, part: Part) -> Vec<DumpedEntry> {
        let is_in = |(hash, _): &(u64, u64)| match part {
            Part::Whole => true,
            Part::Shard(shard) => shard_of(*hash) == usize::from(shard),
        };
        let whole = |(hash, l)| (hash, Location(l));
        let first = self.first.read();
        let mut found: Vec<_> = first.entries().filter(is_in).map(whole).collect();
        let shards = self.shards.get().map_or(&[][..], |shards| shards);
        let wanted = match part {
            Part::Whole => shards,
            Part::Shard(shard) => {
                let shard = usize::from(shard);
                shards.get(shard..=shard).unwrap_or(&[])
            }
        };
        for table in wanted {
            found.extend(table.read().entries().map(whole));
        }
        found
    }

    /// Fills the empty table `part` with what was dumped; `check` sees each location and says what
    /// is wrong with it. The index is of no use after an error.
    pub(crate) fn fill(
        &self,
        part: Part,
        bytes: &[u8],
        mut check: impl FnMut(Location) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
        if !rest.is_empty() {
            return Err("a table ends within an entry");
        }
        let shard = match part {
            Part::Whole => None,
            Part::Shard(shard) => self.split().get(usize::from(shard)),
        };
        let mut table = shard.unwrap_or(&self.first).write();
        if table.len() > 0 {
            return Err("a table is there twice");
        }
        table.fill(
            entries.len(),
            entries.iter().map(|bytes| {
                let (hash, location) = decode(bytes);
                if matches!(part, Part::Shard(shard) if shard_of(hash) != usize::from(shard)) {
                    return Err("a key is in the wrong table");
                }
                check(location)?;
                Ok((hash, location.0))
            }),
        )?;
        self.len.fetch_add(entries.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets the keys that `is_kept` says no to; returns how many. Requires: no other writer.
    pub(crate) fn retain(&self, mut is_kept: impl FnMut(Location) -> bool) -> u64 {
        let shards = self.shards.get().map_or(&[][..], |shards| shards);
        let mut removed = 0;
        for table in std::iter::once(&self.first).chain(shards) {
            removed += table.write().retain(|l| is_kept(Location(l)));
        }
        self.len.fetch_sub(removed, Ordering::Relaxed);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(n: u64) -> u64 {
        n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn at(n: u64) -> Location {
        Location::new((n % 1000) as u32, 64 + 8 * n).expect("in range")
    }

    fn copy(index: &Index, kept: impl Fn(Location) -> bool) -> Index {
        let loaded = Index::default();
        let copied = index.for_each_table(|part, entries| {
            let mut bytes = Vec::new();
            encode(&entries, &mut bytes);
            assert_eq!(entries.len(), index.entries_in(part).len());
            loaded.fill(part, &bytes, |_| Ok(()))
        });
        copied.expect("what was dumped can be loaded");
        loaded.retain(kept);
        loaded
    }

    /// Goal: an index that was dumped and loaded is the same index, before and after its split.
    #[test]
    fn what_is_dumped_is_loaded() {
        for len in [0, 1, 3, 1000, 20_000, 100_000] {
            let index = Index::default();
            for n in 0..len {
                // Some hashes are shared by several keys.
                index.insert(hash_of(n / 3 * 3 + n % 2), at(n), |_| false);
            }
            let loaded = copy(&index, |_| true);
            let sorted = |index: &Index| {
                let mut entries = index.entries();
                entries.sort_unstable();
                entries
            };
            assert_eq!(sorted(&loaded), sorted(&index));
            assert_eq!(loaded.len(), len);
            for n in 0..len {
                assert!(loaded.has(hash_of(n / 3 * 3 + n % 2), at(n)), "{n} of {len}");
            }
            // It goes on as an index.
            for n in len..len + 1000 {
                assert_eq!(loaded.insert(hash_of(n), at(n), |l| l == at(n)), None);
            }
            for n in len..len + 1000 {
                assert_eq!(loaded.remove(hash_of(n), |l| l == at(n)), Some(at(n)));
            }
            assert_eq!(sorted(&loaded), sorted(&index));
            let half = copy(&index, |l| l.offset() % 16 == 0);
            assert_eq!(half.len(), half.entries().len() as u64);
            assert!(half.entries().iter().all(|(hash, l)| half.has(*hash, *l)));
        }
    }

    /// Goal: what belongs into one table is found in an index that is split, and in one that is
    /// not.
    #[test]
    fn the_entries_of_one_table_are_found() {
        for len in [0, 100, 20_000] {
            let index = Index::default();
            for n in 0..len {
                index.insert(hash_of(n), at(n), |_| false);
            }
            let of = |shard| index.entries_in(Part::Shard(shard)).len() as u64;
            assert_eq!((0..=u8::MAX).map(of).sum::<u64>(), len);
            assert_eq!(index.entries_in(Part::Whole).len() as u64, len);
        }
    }

    #[test]
    fn wrong_bytes_are_refused() {
        let fill = |part, entries: &[DumpedEntry]| {
            let mut bytes = Vec::new();
            encode(entries, &mut bytes);
            Index::default().fill(part, &bytes, |_| Ok(()))
        };
        assert!(fill(Part::Whole, &[(5, at(1)), (5, at(2)), (6, at(3))]).is_ok());
        assert!(fill(Part::Whole, &[(5, at(1)), (4, at(2))]).is_err(), "out of order");
        assert!(fill(Part::Shard(5), &[(5, at(1)), (0x105, at(2))]).is_ok());
        assert!(fill(Part::Shard(5), &[(5, at(1)), (6, at(2))]).is_err(), "of another table");
        assert!(Index::default().fill(Part::Whole, &[1; 13], |_| Ok(())).is_err(), "cut");
        assert!(Index::default().fill(Part::Whole, &[0; 12], |_| Ok(())).is_err(), "no location");
    }
}
