//! Loads a checkpoint, and finds again what compaction has moved since.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use super::super::catalog::CollectionState;
use super::super::core::Core;
use super::super::points::{Kept, Point};
use super::super::replay::{Replay, Source};
use super::read::{Base, Slot, Stop};
use crate::format::checkpoint::{Block, SavedIndex, SavedPoint, Share};
use crate::format::config::CollectionOptions;
use crate::format::hint::Hint;
use crate::format::record::Kind;
use crate::format::segment::SegmentKind;
use crate::index::dump::{self, Part};
use crate::index::{Index, Location};
use crate::limits::SYSTEM_COLLECTION;

const _: () = assert!(dump::ENTRY_LEN == crate::format::checkpoint::ENTRY_LEN);
const _: () = assert!(dump::TABLES == crate::format::checkpoint::TABLES);

/// Fewer blocks than this are loaded by one thread.
const BLOCKS_PER_THREAD_MIN: usize = 64;

/// A table that is to be filled.
struct Job<'a> {
    target: Target,
    part: Part,
    block: &'a Block,
}

#[derive(Clone)]
enum Target {
    Live(Arc<Index>),
    Changed(Arc<Kept>),
}

impl Target {
    fn index(&self) -> &Index {
        match self {
            Target::Live(index) => index,
            Target::Changed(kept) => &kept.changed,
        }
    }
}

/// What was restored, for the steps that follow.
pub(in crate::engine) struct Restored {
    /// The checkpoint's points, oldest first, each with a hold of its own.
    pub(in crate::engine) points: Vec<Arc<Point>>,
    /// Entries that lead to segments which have left the store.
    dangling: AtomicI64,
}

impl Base {
    /// The system collection's records: key, sequence number, place.
    pub(in crate::engine) fn facts(
        &self,
    ) -> impl Iterator<Item = (Vec<u8>, (u64, Option<Location>))> + '_ {
        let fact = |fact: &crate::format::checkpoint::Fact| {
            let location = Location::from_bits(fact.location)?;
            Some((fact.key.clone(), (fact.seqno, Some(location))))
        };
        self.meta.facts.iter().filter_map(fact)
    }
}

impl Core {
    /// Fills catalog, index and books with what the checkpoint holds. Requires: its segments are
    /// in their slots, everything else is empty.
    pub(in crate::engine) fn restore(&self, base: &Base) -> Result<Restored, Stop> {
        self.restore_counters(base);
        let mut jobs = Vec::new();
        for saved in &base.meta.collections {
            let state = match saved.id {
                SYSTEM_COLLECTION => Arc::clone(self.catalog.system()),
                id if self.catalog.by_id(id).is_some() => return Err("a collection twice".into()),
                id if !self.catalog.restore(id, &saved.name) => {
                    return Err("its collections contradict each other".into());
                }
                id => self.catalog.by_id(id).ok_or("a collection cannot be entered")?,
            };
            state.is_listed.store(saved.is_listed, Ordering::Release);
            if saved.options_seqno > 0 {
                let options = CollectionOptions::decode(&saved.options).map_err(Stop::Damaged)?;
                state.configure(saved.options_seqno, options);
            }
            for share in &saved.live {
                if let Some(segment) = self.segments.at(share.slot) {
                    state.restore_live(&segment, share.bytes, share.records);
                }
            }
            add_jobs(&saved.index, &Target::Live(state.index()), &mut jobs);
        }
        let mut points = Vec::new();
        let mut last = 0;
        for saved in &base.meta.points {
            if saved.seqno <= last || saved.seqno >= base.seqno {
                return Err("its points in time are not in order".into());
            }
            last = saved.seqno;
            points.push(self.restore_point(saved, &mut jobs)?);
        }
        let restored = Restored { points, dangling: AtomicI64::new(0) };
        self.fill(base, &jobs, &restored.dangling)?;
        Ok(restored)
    }

    /// The counters of the segments.
    fn restore_counters(&self, base: &Base) {
        for saved in &base.meta.segments {
            let Some(segment) = self.segments.at(saved.slot) else { continue };
            // No count is above the bytes there are, whatever the checkpoint says.
            let restore = |to: &AtomicU64, n: u64| to.store(n.min(saved.end), Ordering::Relaxed);
            restore(&segment.live_bytes, saved.live_bytes);
            restore(&segment.live_records, saved.live_records);
            if saved.seal.is_some() {
                // Of the others all records are surveyed.
                restore(&segment.written.records, saved.records);
                restore(&segment.written.bytes, saved.bytes);
                restore(&segment.written.puts, saved.puts);
                restore(&segment.written.tombstone_bytes, saved.tombstone_bytes);
            }
            let is_compacted = segment.kind == SegmentKind::Compacted;
            segment.tombstones_are_needed.store(is_compacted, Ordering::Relaxed);
        }
    }

    fn restore_point<'a>(
        &self,
        saved: &'a SavedPoint,
        jobs: &mut Vec<Job<'a>>,
    ) -> Result<Arc<Point>, Stop> {
        let point = self.points.hold(saved.seqno);
        for saved in &saved.kept {
            if point.kept(saved.collection).is_some() {
                return Err("a collection twice".into());
            }
            let kept = point.kept_or_new(saved.collection);
            point.count_keys(saved.collection, saved.grown);
            for Share { slot, bytes, records } in &saved.pinned {
                if let Some(segment) = self.segments.at(*slot) {
                    point.pin(&kept, &segment, *bytes, *records);
                }
            }
            if let Some(cleared) = &saved.cleared {
                let index: Arc<Index> = Arc::default();
                add_jobs(cleared, &Target::Live(Arc::clone(&index)), jobs);
                let _ = kept.cleared.set(index);
            }
            add_jobs(&saved.changed, &Target::Changed(kept), jobs);
        }
        Ok(point)
    }

    /// Fills the tables, on several threads if there are many.
    fn fill(&self, base: &Base, jobs: &[Job<'_>], dangling: &AtomicI64) -> Result<(), Stop> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buf = Vec::new();
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                base.read(job.block, &mut buf)?;
                let mut gone = 0;
                job.target.index().fill(job.part, &buf, |location| match base.slot(location) {
                    Slot::Upto(end) if location.offset() < end => Ok(()),
                    Slot::Gone => {
                        gone += 1;
                        Ok(())
                    }
                    _ => Err("a location lies outside of the segments"),
                })?;
                dangling.fetch_add(gone, Ordering::Relaxed);
            }
            Ok::<(), Stop>(())
        };
        let threads = self.load_threads_for(jobs.len() / BLOCKS_PER_THREAD_MIN + 1);
        if threads <= 1 {
            return work();
        }
        let filled = crossbeam::thread::scope(|scope| {
            // Where no more threads can be had the others do it all.
            let others: Vec<_> =
                (1..threads).filter_map(|_| scope.builder().spawn(|_| work()).ok()).collect();
            let mut result = work();
            for other in others {
                let filled = other.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
                result = result.and(filled);
            }
            result
        });
        filled.unwrap_or_else(|e| std::panic::resume_unwind(e))
    }

    /// Leads what compaction has moved since the checkpoint to where it is now, and takes out what
    /// nobody needed any more. Records from the checkpoint on are left alone.
    pub(in crate::engine) fn relocate(
        &self,
        base: &Base,
        sources: &[Source],
        restored: &Restored,
    ) -> Result<(), Stop> {
        if !base.has_gone {
            return Ok(());
        }
        for (segment, hint) in Replay::new(sources) {
            if hint.seqno >= base.seqno {
                break;
            }
            if hint.kind != Kind::Put || base.segment(segment.id).is_some() {
                continue;
            }
            let state = self.catalog.by_id(hint.collection);
            let state = state.ok_or("records of a collection that it does not know")?;
            let to = Location::new(segment.slot, hint.offset)
                .ok_or("a hint leads outside of its segment")?;
            if planted!(RelocationSkipped) {
                continue;
            }
            match self.relocate_one(base, restored, &state, &hint, to)? {
                Some((point, kept)) => point.pin(&kept, segment, hint.len, 1),
                None => state.add_live(segment, hint.len, 1),
            }
            restored.dangling.fetch_sub(1, Ordering::Relaxed);
        }
        if restored.dangling.load(Ordering::Relaxed) > 0 {
            self.take_out_gone(base, restored);
        }
        Ok(())
    }

    /// Leads one entry to a record's new place; returns the books that it was in, if any.
    ///
    /// Of the versions of one key, each is in the books of the first point behind it that are led
    /// to it at all, so the first dangling entry in this order is the record's. Of two keys with
    /// one hash that both have moved, nobody can say which is which.
    fn relocate_one(
        &self,
        base: &Base,
        restored: &Restored,
        state: &CollectionState,
        hint: &Hint,
        to: Location,
    ) -> Result<Option<(Arc<Point>, Arc<Kept>)>, Stop> {
        let relocate = |index: &Index| {
            let mut found = index.find(hint.hash).into_iter().filter(|l| base.is_gone(*l));
            match (found.next(), found.next()) {
                (Some(old), None) => Ok(index.relocate(hint.hash, old, to)),
                (None, _) => Ok(false),
                _ => Err(Stop::from("two keys with one hash were moved since")),
            }
        };
        for point in restored.points.iter().filter(|p| p.seqno > hint.seqno) {
            let Some(kept) = point.kept(state.id) else { continue };
            if relocate(&kept.changed)? || kept.cleared.get().map_or(Ok(false), |i| relocate(i))? {
                return Ok(Some((Arc::clone(point), kept)));
            }
        }
        if relocate(&state.index())? {
            return Ok(None);
        }
        Err("it does not know a record that was moved since".into())
    }

    /// Takes out the entries that still lead to segments which have left the store.
    fn take_out_gone(&self, base: &Base, restored: &Restored) {
        let is_there = |location| !base.is_gone(location);
        for state in self.catalog.all().iter().chain([self.catalog.system()]) {
            let mut gone = vec![0; restored.points.len()];
            state.index().retain(|location| {
                if is_there(location) {
                    return true;
                }
                let before = base.point_before(location, &restored.points);
                if let Some(count) = before.and_then(|at| gone.get_mut(at)) {
                    *count += 1;
                }
                false
            });
            for (point, count) in restored.points.iter().zip(gone) {
                if count > 0 && state.id != SYSTEM_COLLECTION {
                    point.count_keys(state.id, -count);
                }
            }
        }
        for point in &restored.points {
            for (_, kept) in point.all_kept() {
                kept.changed.retain(is_there);
                if let Some(cleared) = kept.cleared.get() {
                    cleared.retain(is_there);
                }
            }
        }
    }
}

impl Base {
    /// Which of `points` counts a key that has gone, and whose record was at `location`: the one
    /// before the record. If its segment does not tell, the newest: a key that was overwritten or
    /// deleted has gone after that, or the snapshot would need it. (A key that has expired is then
    /// still in the number of keys of snapshots that are younger than its record.)
    fn point_before(&self, location: Location, points: &[Arc<Point>]) -> Option<usize> {
        let at = |seqno| points.partition_point(|p| p.seqno <= seqno).checked_sub(1);
        let segment = self.meta.segments.iter().find(|s| s.slot as usize == location.slot());
        match segment.and_then(|s| s.seal).map(|seal| (at(seal.first), at(seal.next))) {
            Some((first, next)) if first == next => first,
            _ => points.len().checked_sub(1),
        }
    }
}

fn add_jobs<'a>(saved: &'a SavedIndex, target: &Target, jobs: &mut Vec<Job<'a>>) {
    let parts = match saved.blocks.len() {
        0 | 1 => [Part::Whole].to_vec(),
        _ => (0..=u8::MAX).map(Part::Shard).collect(),
    };
    jobs.extend(
        parts
            .into_iter()
            .zip(&saved.blocks)
            .filter(|(_, block)| block.entries > 0)
            .map(|(part, block)| Job { target: target.clone(), part, block }),
    );
}
