//! Expired records in compaction: they are treated as deletions.
//!
//! An expired put is not needed, but it hides older ones of its key, as a tombstone does: while
//! one of those is still on disk, a tombstone with the put's sequence number takes its place.
//! Records that snapshots alone need are copied as they are. The time only rises, so what is
//! dropped would never have been returned again by this store while it is open; if the store is
//! killed before it has kept the time, what was dropped stays away all the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::core::Core;
use super::super::read::Found;
use super::super::segments::Segment;
use crate::format::hint::Hint;
use crate::format::record::{self, Kind};
use crate::format::value::Flags;
use crate::index::Location;

/// A segment is looked at again when so many times as much as an eighth of its expiring records
/// may have expired since.
const LOOKS: u64 = 8;

/// How much of a sealed segment has expired.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct Expiry {
    /// Bytes of live records that had expired when somebody looked.
    bytes: u64,
    /// The time at which to look again.
    look_at: u64,
}

impl Core {
    /// Bytes of live records of a sealed segment that have expired, or a little less.
    pub(super) fn expired_bytes(&self, segment: &Arc<Segment>) -> u64 {
        let now = self.clock.now();
        let mut expiry = segment.expiry.lock();
        if now == 0 || now < expiry.look_at {
            return expiry.bytes;
        }
        // What cannot be read now is asked for again.
        let Ok(hints) = segment.all_hints() else { return expiry.bytes };
        let mut all: Vec<(u64, u64)> = hints
            .iter()
            .filter(|hint| hint.flags.expires() && self.leads_to(segment, hint))
            .filter_map(|hint| Some((self.expires_at(segment, hint)?, hint.len)))
            .collect();
        all.sort_unstable();
        let portion = all.iter().map(|(_, len)| len).sum::<u64>() / LOOKS;
        let over = all.partition_point(|(time, _)| *time <= now);
        let (gone, left) = all.split_at(over);
        let mut sum = 0;
        let next = left.iter().find(|(_, len)| {
            sum += len;
            sum >= portion
        });
        let look_at = next.or(left.last()).map_or(u64::MAX, |(time, _)| *time);
        *expiry = Expiry { bytes: gone.iter().map(|(_, len)| len).sum(), look_at };
        expiry.bytes
    }

    /// True if the index leads to the record of `hint`.
    fn leads_to(&self, segment: &Segment, hint: &Hint) -> bool {
        let location = Location::new(segment.slot, hint.offset);
        let collection = self.catalog.by_id(hint.collection);
        collection.zip(location).is_some_and(|(c, location)| c.index().has(hint.hash, location))
    }

    /// When the record of `hint` expires; `None` if it does not, or is damaged.
    fn expires_at(&self, segment: &Arc<Segment>, hint: &Hint) -> Option<u64> {
        let found = self.read_in(segment, hint.offset).ok()?;
        self.check_intact(&found).ok()?;
        found.record().stored()?.expires
    }

    /// True if the put of `hint` has expired. What is damaged has not: the copy will tell.
    pub(super) fn is_over(&self, segment: &Arc<Segment>, hint: &Hint) -> bool {
        hint.flags.expires()
            && self.clock.now() > 0
            && self.clock.is_over(self.expires_at(segment, hint))
    }

    /// Appends to `buf` the tombstone, still to be stamped, that takes the place of the expired
    /// put `found`; false if it is none.
    pub(super) fn bury(&self, found: &Found, buf: &mut Vec<u8>) -> bool {
        let record = found.record();
        let expires = record.stored().and_then(|stored| stored.expires);
        if record.header.kind != Kind::Put || !self.clock.is_over(expires) {
            return false;
        }
        let start = buf.len();
        let len = record::append_body(buf, record.key, |_| {});
        record::finish_body(buf, start, (Kind::Delete, Flags::default()), record.key.len(), len);
        true
    }

    /// Takes expired puts of `segment` out of the index, as if they had been deleted when they
    /// were written. Requires: apply lock held.
    pub(super) fn drop_expired(&self, segment: &Arc<Segment>, expired: &[Hint]) {
        for hint in expired {
            let (Some(collection), Some(location)) =
                (self.catalog.by_id(hint.collection), Location::new(segment.slot, hint.offset))
            else {
                continue;
            };
            if collection.index().remove(hint.hash, |l| l == location).is_none() {
                // Overwritten meanwhile.
                if !planted!(ExpiredStaysInBooks) {
                    self.strike_out(segment, hint, location);
                }
                continue;
            }
            collection.sub_live(segment, hint.len);
            self.unlist_expired(&collection, segment, hint);
            // Snapshots count keys by what has come and gone since: this one came after the point
            // before it, or stands for one that did not go then.
            if let Some(point) = self.points.since(0).iter().find(|p| p.seqno <= hint.seqno) {
                point.count_keys(hint.collection, -1);
            }
        }
    }

    /// Takes an expired put that was overwritten while its segment was compacted out of the books
    /// of the snapshots that it was kept for. It has expired for them as well, so it was not
    /// copied.
    /// Requires: apply lock held.
    fn strike_out(&self, segment: &Segment, hint: &Hint, location: Location) {
        for point in self.points.since(0) {
            let Some(kept) = point.kept(hint.collection) else { continue };
            if kept.changed.remove(hint.hash, |l| l == location).is_some() {
                point.unpin(&kept, segment, hint.len, 1);
            }
        }
    }

    /// True if something in the unsealed `segment` expires, and there is a time.
    pub(super) fn may_expire(&self, segment: &Segment) -> bool {
        self.clock.now() > 0 && segment.hints.lock().iter().any(|hint| hint.flags.expires())
    }

    /// What of `live` bytes of a sealed segment is needed although time goes by.
    pub(super) fn still_live(&self, segment: &Arc<Segment>) -> u64 {
        let live = segment.live_bytes.load(Ordering::Relaxed);
        live.saturating_sub(self.expired_bytes(segment))
    }
}
