//! Loads the index from the hints of all segments, on several threads.
//!
//! Each thread walks all hints in the order of their sequence numbers and takes the keys whose
//! hash falls to it, so that the records of a key are applied in the order in which they were
//! written without any thread waiting for another.
//!
//! Durable snapshots are known before: what a record replaces is kept for them, just as when it
//! was written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::catalog::CollectionState;
use super::checkpoint::{Base, Stop};
use super::clock;
use super::core::Core;
use super::durable;
use super::error::OpenError;
use super::points::Point;
use super::recovery::{Case, refuse};
use super::replay::{Replay, Source};
use super::segments::Segment;
use crate::format::hint::Hint;
use crate::format::record::{Kind, Record};
use crate::format::segment::SegmentKind;
use crate::index::Location;
use crate::limits::SYSTEM_COLLECTION;

/// Below this many records one thread is quicker than several.
const RECORDS_PER_THREAD_MIN: usize = 50_000;

/// What one pass over all hints finds out before the index is filled.
#[derive(Default)]
struct Survey {
    /// By collection: how many puts, and the sequence number of the last clear.
    collections: HashMap<u32, (usize, u64)>,
    records: usize,
    /// The newest record of each key of the system collection: its sequence number, and its place
    /// if it is a put.
    system: BTreeMap<Vec<u8>, (u64, Option<Location>)>,
    /// Configure records, with their segments.
    configured: Vec<(Arc<Segment>, Hint)>,
}

/// A collection while it is loaded.
struct Loaded {
    state: Arc<CollectionState>,
    /// Sequence number of the last clear: nothing before it counts, except for snapshots.
    cleared: u64,
    /// There are snapshots from before the last clear: clears must take place where they stand, so
    /// one thread loads the whole collection.
    is_replayed: bool,
}

/// What the checkpoint knows of the records of a segment.
#[derive(Default)]
struct Known {
    /// They are in it, as far as they are below `from`. Else those are in it that were moved here.
    is_saved: bool,
    /// Its sequence number.
    from: u64,
}

impl Known {
    fn of(base: Option<&Base>, segment: &Segment) -> Self {
        base.map_or_else(Self::default, |base| Known {
            is_saved: base.segment(segment.id).is_some(),
            from: base.seqno,
        })
    }
}

/// What became live or was pinned in each segment, gathered by one thread.
#[derive(Default)]
struct Counts {
    live: HashMap<(u32, u32), (Arc<Segment>, i64, i64)>,
}

impl Core {
    /// Fills catalog, index, and what is kept for snapshots.
    pub(super) fn load(&self, sources: &[Source]) -> Result<(), OpenError> {
        let survey = self.survey(sources, None)?;
        let points = self.load_snapshots(&survey)?;
        let mut collections = HashMap::new();
        for (id, (puts, cleared)) in &survey.collections {
            let Some(state) = self.catalog.by_id(*id) else {
                return Err(self.refuse_unknown(*id, sources));
            };
            state.index().reserve(*puts);
            let is_recorded = survey.system.contains_key(&durable::listed_key(*id));
            state.is_listed.store(*puts > 0 || is_recorded, Ordering::Release);
            state.is_listed_for_good.store(is_recorded, Ordering::Release);
            let is_replayed = points.iter().any(|p| p.seqno <= *cleared);
            collections.insert(*id, Loaded { state, cleared: *cleared, is_replayed });
        }
        self.load_parts(sources, &collections, &points, (survey.records, 0))
    }

    /// As [`Core::load`], on top of a checkpoint.
    pub(super) fn load_onto(&self, sources: &[Source], base: &Base) -> Result<(), Stop> {
        let is_strange = |(segment, hints): &&Source| {
            let known = Known::of(Some(base), segment);
            let is_before = hints.get(0).is_some_and(|hint| hint.seqno < known.from);
            segment.kind == SegmentKind::Log && is_before && !known.is_saved
        };
        if let Some((segment, _)) = sources.iter().find(is_strange) {
            return Err(Stop::Stale(format!("it does not know segment {}", segment.id)));
        }
        let restored = self.restore(base)?;
        let mut survey = self.survey(sources, Some(base))?;
        self.relocate(base, sources, &restored)?;
        for state in self.catalog.all() {
            let is_recorded = survey.system.contains_key(&durable::listed_key(state.id));
            state.is_listed.fetch_or(is_recorded, Ordering::AcqRel);
            state.is_listed_for_good.store(is_recorded, Ordering::Release);
        }
        // Dropped since: their records were not moved.
        survey.system.retain(|_, (_, location)| location.is_none_or(|l| !base.is_gone(l)));
        let points = self.load_snapshots(&survey)?;
        // Snapshots that are no more hand on what they keep.
        for point in &restored.points {
            self.release_point(point);
        }
        let points: Vec<_> = points.into_iter().filter(|p| self.points.is_held(p)).collect();
        let mut collections = HashMap::new();
        for (id, (puts, cleared)) in &survey.collections {
            let Some(state) = self.catalog.by_id(*id) else {
                return Err(self.refuse_unknown(*id, sources).into());
            };
            state.is_listed.fetch_or(*puts > 0, Ordering::AcqRel);
            let is_replayed = points.iter().any(|p| p.seqno <= *cleared);
            if *cleared > 0 && !is_replayed {
                state.clear();
            }
            collections.insert(*id, Loaded { state, cleared: *cleared, is_replayed });
        }
        if planted!(CheckpointTrustedOverLog) {
            return Ok(());
        }
        Ok(self.load_parts(sources, &collections, &points, (survey.records, base.seqno))?)
    }

    /// Applies the records from the sequence number `from` on, of `records` in all.
    fn load_parts(
        &self,
        sources: &[Source],
        collections: &HashMap<u32, Loaded>,
        points: &[Arc<Point>],
        (records, from): (usize, u64),
    ) -> Result<(), OpenError> {
        let threads = self.load_threads_for(records / RECORDS_PER_THREAD_MIN + 1);
        if threads <= 1 {
            return self.load_part(sources, collections, points, (0, 1, from));
        }
        let part = |part| self.load_part(sources, collections, points, (part, threads, from));
        let part = &part;
        let loaded = crossbeam::thread::scope(|scope| {
            let others: Vec<_> =
                (1..threads).map(|n| (n, scope.builder().spawn(move |_| part(n)))).collect();
            let mut result = part(0);
            for (n, other) in others {
                let loaded = match other {
                    Ok(thread) => thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)),
                    // No more threads to be had: this one does it.
                    Err(_) => part(n),
                };
                result = result.and(loaded);
            }
            result
        });
        // Keys that a thread did not load must never look absent.
        loaded.unwrap_or_else(|e| std::panic::resume_unwind(e))
    }

    /// The error for records of a collection that was never created, with the place of the first.
    fn refuse_unknown(&self, id: u32, sources: &[Source]) -> OpenError {
        let first = sources.iter().find_map(|(segment, hints)| {
            let hint = hints.iter().find(|hint| hint.collection == id)?;
            Some((segment.path.as_path(), hint.offset))
        });
        let (path, offset) = first.unwrap_or((&self.dir, 0));
        let what = format!("records of collection {id}, which was never created");
        refuse(Case::Inconsistent, path, offset, what)
    }

    /// How many threads share what would keep `useful` of them busy.
    pub(super) fn load_threads_for(&self, useful: usize) -> usize {
        if self.options.inline_maintenance {
            return 1;
        }
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let asked = self.options.open_threads;
        let threads = if asked == 0 { cores() } else { asked };
        threads.min(useful)
    }

    /// Counts records and enters the collections into the catalog.
    fn survey(&self, sources: &[Source], base: Option<&Base>) -> Result<Survey, OpenError> {
        let mut survey = Survey::default();
        survey.system.extend(base.iter().flat_map(|base| base.facts()));
        for (segment, hints) in sources {
            let known = Known::of(base, segment);
            survey.records += hints.len();
            let (mut puts, mut bytes) = (0, 0);
            let mut last = (u32::MAX, 0);
            for hint in hints.iter() {
                bytes += hint.len;
                // Runs of puts into one collection are counted without looking it up.
                if hint.kind == Kind::Put && hint.collection == last.0 {
                    last.1 += 1;
                    continue;
                }
                if hint.kind != Kind::Put {
                    self.survey_other(segment, &hint, &known, &mut survey)?;
                }
                if hint.collection == SYSTEM_COLLECTION && hint.kind.has_key() {
                    self.survey_system(segment, &hint, &known, &mut survey)?;
                    if hint.kind == Kind::Put {
                        puts += 1;
                        survey.collections.entry(SYSTEM_COLLECTION).or_default().0 += 1;
                    }
                    continue;
                }
                survey.collections.entry(last.0).or_default().0 += last.1;
                puts += last.1;
                last = (hint.collection, usize::from(hint.kind == Kind::Put));
            }
            survey.collections.entry(last.0).or_default().0 += last.1;
            segment.written.puts.store((puts + last.1) as u64, Ordering::Relaxed);
            segment.written.records.store(hints.len() as u64, Ordering::Relaxed);
            segment.written.bytes.store(bytes, Ordering::Relaxed);
            // A compaction has kept its tombstones: it knew why.
            let is_compacted = segment.kind == SegmentKind::Compacted;
            segment.tombstones_are_needed.store(is_compacted, Ordering::Relaxed);
        }
        survey.collections.remove(&u32::MAX);
        for (segment, hint) in &survey.configured {
            self.restore_options(segment, hint)?;
        }
        Ok(survey)
    }

    /// Takes note of a record that is no put.
    fn survey_other(
        &self,
        segment: &Arc<Segment>,
        hint: &Hint,
        known: &Known,
        survey: &mut Survey,
    ) -> Result<(), OpenError> {
        segment.written.count(hint);
        let is_before = hint.seqno < known.from;
        if is_before && known.is_saved {
            return Ok(());
        }
        if hint.kind == Kind::CreateCollection {
            self.restore_collection(segment, hint)?;
            segment.add_live(hint.len, 0);
        }
        if hint.kind == Kind::Configure {
            survey.configured.push((Arc::clone(segment), *hint));
            segment.add_live(hint.len, 0);
        }
        let entry = survey.collections.entry(hint.collection).or_default();
        if hint.kind == Kind::Clear && !is_before {
            entry.1 = entry.1.max(hint.seqno);
        }
        Ok(())
    }

    /// Takes note of a put or a deletion in the system collection.
    fn survey_system(
        &self,
        segment: &Arc<Segment>,
        hint: &Hint,
        known: &Known,
        survey: &mut Survey,
    ) -> Result<(), OpenError> {
        let is_before = hint.seqno < known.from;
        if is_before && known.is_saved {
            return Ok(());
        }
        let refused = |what| refuse(Case::Inconsistent, &segment.path, hint.offset, what);
        let location = Location::new(segment.slot, hint.offset)
            .ok_or_else(|| refused("hint points outside of its segment"))?;
        let found = self.read_in(segment, hint.offset)?;
        self.check_intact(&found)?;
        let location = (hint.kind == Kind::Put).then_some(location);
        if is_before {
            // It was moved: the checkpoint has it, or it was overwritten before.
            if let Some(entry) = survey.system.get_mut(found.key())
                && entry.0 == hint.seqno
            {
                entry.1 = location;
            }
            return Ok(());
        }
        let entry = survey.system.entry(found.key().to_vec()).or_insert((0, None));
        if hint.seqno >= entry.0 {
            *entry = (hint.seqno, location);
        }
        Ok(())
    }

    /// Enters the durable snapshots; returns their points, oldest first.
    fn load_snapshots(&self, survey: &Survey) -> Result<Vec<Arc<Point>>, OpenError> {
        for (key, (seqno, location)) in &survey.system {
            if let (Some(id), Some(location)) = (durable::parse_key(key), *location) {
                let found = self.read_location(location)?;
                self.check_intact(&found)?;
                self.enter_snapshot(id, *seqno, found.record().value).map_err(|what| {
                    refuse(Case::Inconsistent, &found.segment.path, location.offset(), what)
                })?;
            }
            if let (clock::KEY, Some(location)) = (&key[..], *location) {
                let found = self.read_location(location)?;
                self.check_intact(&found)?;
                self.load_time(&found).map_err(|what| {
                    refuse(Case::Inconsistent, &found.segment.path, location.offset(), what)
                })?;
            }
        }
        let mut points = self.points.since(0);
        points.reverse();
        Ok(points)
    }

    /// Enters the collection whose create record `hint` points to.
    fn restore_collection(&self, segment: &Arc<Segment>, hint: &Hint) -> Result<(), OpenError> {
        let refused = |what| refuse(Case::Inconsistent, &segment.path, hint.offset, what);
        let found = self.read_in(segment, hint.offset)?;
        self.check_intact(&found)?;
        let record: Record<'_> = found.record();
        let name = std::str::from_utf8(record.value).ok();
        let is_restored = record.header.kind == Kind::CreateCollection
            && record.header.collection == hint.collection
            && name.is_some_and(|name| self.catalog.restore(hint.collection, name));
        if is_restored { Ok(()) } else { Err(refused("create record contradicts another one")) }
    }

    /// Applies the records whose keys fall to one `part` of so many.
    fn load_part(
        &self,
        sources: &[Source],
        collections: &HashMap<u32, Loaded>,
        points: &[Arc<Point>],
        (part, parts, from): (usize, usize, u64),
    ) -> Result<(), OpenError> {
        let mut counts = Counts::default();
        let mut later = points.iter().peekable();
        let mut point: Option<&Arc<Point>> = None;
        let mut current: Option<(u32, &Loaded)> = None;
        // What became live in a run of records of one segment and one collection.
        let mut run: Option<(&Arc<Segment>, u32)> = None;
        let mut live = (0, 0);
        for (segment, hint) in Replay::new(sources) {
            while let Some(next) = later.next_if(|p| p.seqno <= hint.seqno) {
                point = Some(next);
            }
            if hint.seqno < from {
                continue;
            }
            let is_clear = hint.kind == Kind::Clear;
            if !hint.kind.has_key() && !is_clear {
                continue;
            }
            if current.is_none_or(|(id, _)| id != hint.collection) {
                current = collections.get(&hint.collection).map(|c| (hint.collection, c));
            }
            let Some((id, loaded)) = current else { continue };
            let chosen = match loaded.is_replayed {
                true => id as usize,
                false if is_clear => continue,
                false => usize::from((hint.hash >> 16) as u8),
            };
            if chosen % parts != part {
                continue;
            }
            if !loaded.is_replayed
                && hint.seqno < loaded.cleared
                && !planted!(ClearForgottenOnReplay)
            {
                continue;
            }
            if run.is_none_or(|(of, in_id)| !Arc::ptr_eq(of, segment) || in_id != id) || is_clear {
                if let Some((of, in_id)) = run {
                    counts.add(in_id, of, live);
                }
                run = Some((segment, id));
                live = (0, 0);
            }
            if is_clear {
                self.load_clear(loaded, point, &mut counts);
                continue;
            }
            let location = Location::new(segment.slot, hint.offset)
                .filter(|_| hint.offset + hint.len <= segment.end());
            let Some(location) = location else {
                let what = "hint points outside of its segment";
                return Err(refuse(Case::Inconsistent, &segment.path, hint.offset, what));
            };
            self.load_record(&loaded.state, &hint, location, point, sources, &mut counts);
            if hint.kind == Kind::Put {
                live = (live.0 + hint.len as i64, live.1 + 1);
            }
        }
        if let Some((of, in_id)) = run {
            counts.add(in_id, of, live);
        }
        for ((id, _), (segment, bytes, records)) in counts.live {
            if let (Some(loaded), true) = (collections.get(&id), bytes != 0 || records != 0) {
                loaded.state.change_live(&segment, bytes, records);
            }
        }
        Ok(())
    }

    /// Clears a collection in the middle of the history, for snapshots that know it as it was.
    fn load_clear(&self, loaded: &Loaded, point: Option<&Arc<Point>>, counts: &mut Counts) {
        let state = &loaded.state;
        for (segment, bytes, records) in counts.take(state.id) {
            state.change_live(&segment, bytes, records);
        }
        if let Some(point) = point {
            point.keep_all(state.id, &state.index(), None, &state.live());
        }
        state.clear();
    }

    /// Applies one record.
    fn load_record(
        &self,
        collection: &CollectionState,
        hint: &Hint,
        location: Location,
        point: Option<&Arc<Point>>,
        sources: &[Source],
        counts: &mut Counts,
    ) {
        let index = collection.index();
        // Snapshots do not show the engine's own facts.
        let is_system = collection.id == SYSTEM_COLLECTION;
        let mut old_len = 0;
        let is_same_key = |old: Location| {
            let is_same = match self.read_location(location) {
                Ok(new) => {
                    self.is_same_key(new.key(), hint.hash, old, &mut old_len)
                        || !self.is_other_key(&new, hint.hash)
                }
                Err(_) => true,
            };
            if let (true, Some(point)) = (is_same, point.filter(|_| !is_system)) {
                self.keep_loaded(point, collection.id, hint.hash, old, old_len, sources);
            }
            is_same
        };
        let old = match hint.kind {
            Kind::Put => index.insert(hint.hash, location, is_same_key),
            _ => index.remove(hint.hash, is_same_key),
        };
        if let Some(point) = point.filter(|_| !is_system) {
            let more = i64::from(hint.kind == Kind::Put) - i64::from(old.is_some());
            if more != 0 {
                point.count_keys(collection.id, more);
            }
        }
        if let Some(segment) = old.and_then(|old| self.segments.get(old)) {
            counts.add(collection.id, &segment, (-(old_len as i64), -1));
        }
    }

    /// Keeps the record at `old` for `point`, if it was there already.
    fn keep_loaded(
        &self,
        point: &Point,
        collection: u32,
        hash: u64,
        old: Location,
        len: u64,
        sources: &[Source],
    ) {
        let Some(segment) = self.segments.get(old) else { return };
        let seqno = || match sources.iter().find(|(s, _)| Arc::ptr_eq(s, &segment)) {
            Some((_, hints)) => hints.seqno_at(old.offset()),
            // More than it needs does no harm: it looks at sequence numbers itself.
            None => segment.seqno_at(old.offset()).unwrap_or(Some(0)),
        };
        let is_below = segment.next.load(Ordering::Relaxed) <= point.seqno
            || (segment.first.load(Ordering::Relaxed) < point.seqno
                && seqno().is_some_and(|seqno| seqno < point.seqno));
        if is_below {
            point.keep(collection, hash, old, &segment, len);
        }
    }
}

impl Counts {
    fn add(&mut self, collection: u32, segment: &Arc<Segment>, (bytes, records): (i64, i64)) {
        let entry = self.live.entry((collection, segment.slot));
        let entry = entry.or_insert_with(|| (Arc::clone(segment), 0, 0));
        entry.1 += bytes;
        entry.2 += records;
    }

    /// Takes out what is live of one collection.
    fn take(&mut self, collection: u32) -> Vec<(Arc<Segment>, i64, i64)> {
        self.live.extract_if(|(id, _), _| *id == collection).map(|(_, entry)| entry).collect()
    }
}
