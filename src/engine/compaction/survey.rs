//! The first step of a run: which records of its inputs are needed. Nothing is written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::core::Core;
use super::super::error::ReadError;
use super::super::segments::Segment;
use crate::format::hint::{HINT_LEN, Hint};
use crate::format::record::Kind;
use crate::format::value::Flags;
use crate::index::Location;

/// Tombstones are looked up one by one if the hints to search are at most this many times as long
/// as the tombstones.
const SEARCH_FACTOR: u64 = 8;
/// Hints so short are searched in any case.
const SEARCH_LEN_MIN: u64 = 64 << 10;

/// Notes that `segment` cannot be read: no plan is to name it again, or the same one would be made
/// and come to nothing for ever.
pub(super) fn leave_alone(segment: &Segment, e: ReadError) -> ReadError {
    segment.is_damaged.store(true, Ordering::Relaxed);
    e
}

/// A record that is needed.
pub(super) struct Survivor {
    pub(super) hint: Hint,
    /// Which of the inputs it stands in.
    pub(super) input: usize,
    /// It is an old version that a snapshot needs.
    pub(super) is_pinned: bool,
}

/// What the survey found.
pub(super) struct Survey {
    pub(super) survivors: Vec<Survivor>,
    /// Live puts that have expired, by input.
    pub(super) expired: Vec<Vec<Hint>>,
    /// Tombstones stay that were looked up one by one, or that could not be.
    pub(super) has_needed_tombstones: bool,
}

/// Why a record is needed.
enum Need {
    Live,
    Pinned,
    /// Perhaps: it depends on what else stays.
    Tombstone,
    /// As a tombstone.
    Expired,
}

impl Core {
    /// Which records of the inputs are needed, in the order of their sequence numbers.
    pub(super) fn survey_inputs(&self, inputs: &[Arc<Segment>]) -> Result<Survey, ReadError> {
        let mut survivors = Vec::new();
        let mut tombstones = Vec::new();
        let mut expired = vec![Vec::new(); inputs.len()];
        for (input, segment) in inputs.iter().enumerate() {
            if self.is_wholly_dead(segment) {
                // Not even its hints are read.
                situation!(DeadUnread);
                continue;
            }
            // Without its hints nobody knows what is in it: then it stays as it is.
            let hints = segment.all_hints().map_err(|e| leave_alone(segment, e.into()))?;
            if segment.is_damaged.load(Ordering::Relaxed) {
                let what = "its hints are damaged or too few, and its frames are no better";
                return Err(segment.corruption(0, what).into());
            }
            let mut found = 0;
            for hint in hints {
                match self.judge(segment, &hint, &mut found) {
                    Some(Need::Live) => {
                        survivors.push(Survivor { hint, input, is_pinned: false });
                    }
                    Some(Need::Pinned) => {
                        survivors.push(Survivor { hint, input, is_pinned: true });
                    }
                    Some(Need::Tombstone) => tombstones.push((hint, input)),
                    Some(Need::Expired) => {
                        if let Some(expired) = expired.get_mut(input) {
                            expired.push(hint);
                        }
                        if !planted!(ExpiredHidesNothing) {
                            let flags = Flags::default();
                            tombstones.push((Hint { kind: Kind::Delete, flags, ..hint }, input));
                        }
                    }
                    None => {}
                }
            }
            self.check_all_found(segment, found).map_err(|e| leave_alone(segment, e))?;
        }
        let kept = self.needed_tombstones(inputs, &survivors, tombstones);
        let has_needed_tombstones = !kept.is_empty();
        survivors.extend(kept);
        survivors.sort_unstable_by_key(|s| s.hint.seqno);
        Ok(Survey { survivors, expired, has_needed_tombstones })
    }

    /// Fails if the index and the books of snapshots lead to more records of `segment` than its
    /// hints name, of which they had `found`: one of the two is wrong, and what the segment holds
    /// is all there is to mend it.
    fn check_all_found(&self, segment: &Segment, found: u64) -> Result<(), ReadError> {
        // Writers count a record out of one and into the other. What was needed may have died
        // since.
        let needed = {
            let _applying = self.apply.lock();
            let counters = [&segment.live_records, &segment.pinned_records];
            counters.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>()
        };
        if needed > found && !planted!(UnnamedIsDead) {
            let what = "the index and snapshots lead to more records than its hints name";
            return Err(segment.corruption(0, what).into());
        }
        Ok(())
    }

    /// True if nothing in a sealed segment is needed, now and for good: what is dead stays so.
    fn is_wholly_dead(&self, segment: &Segment) -> bool {
        // Writers count a record out of one and into the other.
        let _applying = self.apply.lock();
        let counters = [
            &segment.live_bytes,
            &segment.live_records,
            &segment.pinned_bytes,
            &segment.pinned_records,
            &segment.written.tombstone_bytes,
        ];
        let is_damaged = segment.is_damaged.load(Ordering::Relaxed);
        !is_damaged && counters.iter().all(|n| n.load(Ordering::Relaxed) == 0)
    }

    /// What a record is needed for. Adds to `found` how often the index and the books lead to it.
    fn judge(&self, segment: &Arc<Segment>, hint: &Hint, found: &mut u64) -> Option<Need> {
        let collection = self.catalog.by_id(hint.collection)?;
        match hint.kind {
            Kind::CreateCollection => Some(Need::Live),
            Kind::Configure => collection.is_configured_by(hint.seqno).then_some(Need::Live),
            Kind::Clear if planted!(ClearsDroppedTooSoon) => None,
            Kind::Delete | Kind::Clear => Some(Need::Tombstone),
            Kind::Put => {
                let location = Location::new(segment.slot, hint.offset)?;
                if collection.index().has(hint.hash, location) {
                    *found += 1;
                    let is_over = self.is_over(segment, hint);
                    return Some(if is_over { Need::Expired } else { Need::Live });
                }
                let mut is_pinned = false;
                for point in self.points.since(0) {
                    let Some(kept) = point.kept(hint.collection) else { continue };
                    let is_changed = kept.changed.has(hint.hash, location);
                    let is_cleared = kept.cleared.get().is_some_and(|i| i.has(hint.hash, location));
                    *found += u64::from(is_changed || is_cleared);
                    // What was cleared with the rest may have come after the point.
                    is_pinned |= is_changed || (is_cleared && hint.seqno < point.seqno);
                }
                is_pinned &= !planted!(CompactionForgetsSnapshots);
                is_pinned.then_some(Need::Pinned)
            }
        }
    }

    /// The tombstones that hide an older put which stays.
    fn needed_tombstones(
        &self,
        inputs: &[Arc<Segment>],
        survivors: &[Survivor],
        mut tombstones: Vec<(Hint, usize)>,
    ) -> Vec<Survivor> {
        if planted!(TombstonesDroppedTooSoon) {
            return Vec::new();
        }
        let keep = |(hint, input)| Survivor { hint, input, is_pinned: false };
        let newest = tombstones.iter().map(|(hint, _)| hint.seqno).max().unwrap_or(0);
        let hides: Vec<Arc<Segment>> = self
            .segments
            .all()
            .into_iter()
            .filter(|s| s.first.load(Ordering::Acquire) < newest && s.has_old_puts())
            .filter(|s| !inputs.iter().any(|input| Arc::ptr_eq(input, s)))
            .collect();
        let bytes: u64 = tombstones.iter().map(|(hint, _)| hint.len).sum();
        let search: u64 =
            hides.iter().map(|s| s.written.records.load(Ordering::Relaxed) * HINT_LEN as u64).sum();
        if search > SEARCH_LEN_MIN && search > bytes * SEARCH_FACTOR {
            return tombstones.into_iter().map(keep).collect();
        }
        // The oldest put that stays of each key and of each collection, among those asked for.
        let keys: HashSet<(u32, u64)> =
            tombstones.iter().map(|(hint, _)| (hint.collection, hint.hash)).collect();
        let collections: HashSet<u32> = keys.iter().map(|(id, _)| *id).collect();
        let mut oldest: HashMap<(u32, Option<u64>), u64> = HashMap::new();
        let mut stays = |hint: &Hint| {
            if hint.kind != Kind::Put || !collections.contains(&hint.collection) {
                return;
            }
            let mut note = |key| {
                let entry = oldest.entry(key).or_insert(hint.seqno);
                *entry = hint.seqno.min(*entry);
            };
            note((hint.collection, None));
            if keys.contains(&(hint.collection, hint.hash)) {
                note((hint.collection, Some(hint.hash)));
            }
        };
        survivors.iter().for_each(|s| stays(&s.hint));
        let is_damaged = |segment: &Segment| {
            segment.is_damaged.load(Ordering::Relaxed) && !planted!(DamageHidesNothing)
        };
        for segment in &hides {
            match segment.all_hints() {
                // What could be read of a damaged one is not all that it holds.
                Ok(hints) if !is_damaged(segment) => hints.iter().for_each(&mut stays),
                // Nobody knows what they hide: they stay.
                _ => return tombstones.into_iter().map(keep).collect(),
            }
        }
        tombstones.retain(|(hint, _)| {
            let of_key = hint.kind.has_key().then_some(hint.hash);
            let hides = oldest.get(&(hint.collection, of_key)).is_some_and(|at| *at < hint.seqno);
            if hides {
                situation!(TombstoneKept);
            } else {
                situation!(TombstoneDropped);
            }
            hides
        });
        tombstones.into_iter().map(keep).collect()
    }
}
