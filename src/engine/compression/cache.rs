//! Values that were decompressed lately, so that what is read again and again is not decompressed
//! every time.
//!
//! A value is known by where its record stands. Segments are only appended to and no number of a
//! segment is used twice, so nothing has to be taken out when a key is overwritten or compaction
//! moves a record: what is not asked for any more goes by itself. The record's checksum is
//! verified before this is looked at.
//!
//! A value comes in when it is asked for the second time: where nothing is asked for twice, keeping
//! would cost more than it saves. Which places were asked for is noted in a table of marks that
//! overwrite each other, so that it forgets.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Number of a segment, and an offset in it.
type Place = (u64, u64);

/// About what the cache itself takes for a value.
const OVERHEAD: u64 = 80;
/// What a value is expected to take.
const VALUE_LEN_EXPECTED: u64 = 1024;
/// Marks of 4 bytes each.
const MARKS_PER_VALUE: usize = 4;
const MARKS_MAX: usize = 1 << 24;

#[derive(Clone)]
struct Bytes;

impl Weighter<Place, Arc<Vec<u8>>> for Bytes {
    fn weight(&self, _: &Place, value: &Arc<Vec<u8>>) -> u64 {
        value.capacity() as u64 + OVERHEAD
    }
}

/// The cache. It takes no memory before the first value comes.
pub(in crate::engine) struct ValueCache {
    bytes_max: u64,
    kept: OnceLock<Kept>,
}

struct Kept {
    values: Cache<Place, Arc<Vec<u8>>, Bytes>,
    /// Marks of places that were asked for lately; each has one slot where it can be.
    asked: Box<[AtomicU32]>,
}

impl Kept {
    fn new(bytes_max: u64) -> Self {
        let count = usize::try_from(bytes_max / VALUE_LEN_EXPECTED).unwrap_or(usize::MAX);
        let marks = count.saturating_mul(MARKS_PER_VALUE).clamp(1, MARKS_MAX);
        Kept {
            values: Cache::with_weighter(count, bytes_max, Bytes),
            asked: (0..marks).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// True if `place` was asked for before, and not too long ago. Notes that it is now.
    fn was_asked(&self, (id, offset): Place) -> bool {
        let mixed = (id.rotate_left(40) ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mark = (mixed >> 32) as u32 | 1;
        let slot = usize::try_from(mixed % self.asked.len() as u64).unwrap_or(0);
        self.asked.get(slot).is_some_and(|asked| asked.swap(mark, Ordering::Relaxed) == mark)
    }
}

impl ValueCache {
    /// One that keeps at most `bytes_max` bytes.
    pub(in crate::engine) fn new(bytes_max: u64) -> Self {
        ValueCache { bytes_max, kept: OnceLock::new() }
    }

    /// The value of the record at `offset` of segment `id`, if it is kept.
    pub(in crate::engine) fn get(&self, id: u64, offset: u64) -> Option<Arc<Vec<u8>>> {
        self.kept.get()?.values.get(&(id, offset))
    }

    /// Keeps the value of the record at `offset` of segment `id`, if it was asked for before.
    pub(in crate::engine) fn offer(&self, id: u64, offset: u64, value: &Arc<Vec<u8>>) {
        if self.bytes_max == 0 {
            return;
        }
        let kept = self.kept.get_or_init(|| Kept::new(self.bytes_max));
        if kept.was_asked((id, offset)) {
            kept.values.insert((id, offset), Arc::clone(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_at_most_the_bytes_it_may() {
        let cache = ValueCache::new(100 << 10);
        let value = Arc::new(vec![7; 1000]);
        for offset in 0..1000 {
            cache.offer(1, offset, &value);
            assert!(cache.get(1, offset).is_none(), "asked for once");
            cache.offer(1, offset, &value);
        }
        let kept = (0..1000).filter(|offset| cache.get(1, *offset).is_some()).count();
        assert!((20..=100).contains(&kept), "{kept}");
        assert!(cache.get(2, 999).is_none());
    }

    #[test]
    fn keeps_nothing_where_it_may_not() {
        let cache = ValueCache::new(0);
        (0..3).for_each(|_| cache.offer(1, 2, &Arc::new(vec![1])));
        assert!(cache.get(1, 2).is_none());
    }
}
