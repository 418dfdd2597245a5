//! Loads the index from the hints of all segments, on several threads.
//!
//! Each thread walks all hints and takes the keys whose hash falls to it, so that the records of
//! a key are applied in the order of the log without any thread waiting for another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::catalog::CollectionState;
use super::core::Core;
use super::error::OpenError;
use super::recovery::{Case, HintSource, has_key, refuse};
use super::segments::Segment;
use crate::format::hint::Hint;
use crate::format::record::{Kind, Record};
use crate::index::Location;

/// Below this many records one thread is quicker than several.
const RECORDS_PER_THREAD_MIN: usize = 50_000;

/// What one pass over all hints finds out before the index is filled.
#[derive(Default)]
struct Survey {
    /// By collection: how many puts, and the sequence number of the last clear.
    collections: HashMap<u32, (usize, u64)>,
    records: usize,
    /// Configure records, with their segments.
    configured: Vec<(Arc<Segment>, Hint)>,
}

type Source = (Arc<Segment>, HintSource);

impl Core {
    /// Fills catalog and index.
    pub(super) fn load(&self, sources: &[Source]) -> Result<(), OpenError> {
        let survey = self.survey(sources)?;
        let collections: HashMap<u32, (Arc<CollectionState>, u64)> = survey
            .collections
            .iter()
            .filter_map(|(id, (_, cleared))| Some((*id, (self.catalog.by_id(*id)?, *cleared))))
            .collect();
        for (id, (puts, _)) in &survey.collections {
            let Some((collection, _)) = collections.get(id) else {
                return Err(self.refuse_unknown(*id, sources));
            };
            collection.index().reserve(*puts);
            collection.is_listed.store(*puts > 0, Ordering::Release);
        }
        let threads = self.load_threads(survey.records);
        if threads <= 1 {
            return self.load_part(sources, &collections, 0, 1);
        }
        let part = |part| self.load_part(sources, &collections, part, threads);
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

    fn load_threads(&self, records: usize) -> usize {
        if self.options.inline_maintenance {
            return 1;
        }
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let asked = self.options.open_threads;
        let threads = if asked == 0 { cores() } else { asked };
        threads.min(records / RECORDS_PER_THREAD_MIN + 1)
    }

    /// Counts records and enters the collections into the catalog.
    fn survey(&self, sources: &[Source]) -> Result<Survey, OpenError> {
        let mut survey = Survey::default();
        for (segment, hints) in sources {
            survey.records += hints.len();
            let mut last = (u32::MAX, 0);
            for hint in hints.iter() {
                if hint.kind == Kind::CreateCollection {
                    self.restore_collection(segment, &hint)?;
                }
                if hint.kind == Kind::Configure {
                    survey.configured.push((Arc::clone(segment), hint));
                }
                // Runs of puts into one collection are counted without looking it up.
                if hint.kind == Kind::Put && hint.collection == last.0 {
                    last.1 += 1;
                    continue;
                }
                survey.collections.entry(last.0).or_default().0 += last.1;
                last = (hint.collection, usize::from(hint.kind == Kind::Put));
                let entry = survey.collections.entry(hint.collection).or_default();
                if hint.kind == Kind::Clear {
                    entry.1 = entry.1.max(hint.seqno);
                }
            }
            survey.collections.entry(last.0).or_default().0 += last.1;
        }
        survey.collections.remove(&u32::MAX);
        for (segment, hint) in &survey.configured {
            self.restore_options(segment, hint)?;
        }
        Ok(survey)
    }

    /// Enters the collection whose create record `hint` points to.
    fn restore_collection(&self, segment: &Arc<Segment>, hint: &Hint) -> Result<(), OpenError> {
        let refused = |what| refuse(Case::Inconsistent, &segment.path, hint.offset, what);
        let location = Location::new(segment.slot, hint.offset)
            .ok_or_else(|| refused("hint points outside of its segment"))?;
        let found = self.read_record(location)?;
        self.verify_body(location, &found)?;
        let record: Record<'_> = found.record();
        let name = std::str::from_utf8(record.value).ok();
        let is_restored = record.header.kind == Kind::CreateCollection
            && record.header.collection == hint.collection
            && name.is_some_and(|name| self.catalog.restore(hint.collection, name));
        if is_restored { Ok(()) } else { Err(refused("create record contradicts another one")) }
    }

    /// Applies the records whose keys fall to `part` of `parts`.
    fn load_part(
        &self,
        sources: &[Source],
        collections: &HashMap<u32, (Arc<CollectionState>, u64)>,
        part: usize,
        parts: usize,
    ) -> Result<(), OpenError> {
        for (segment, hints) in sources {
            let mut current: Option<(u32, &CollectionState, u64)> = None;
            let mut live = (0, 0);
            for hint in hints.iter().filter(|h| has_key(h.kind)) {
                if (hint.hash >> 16) as u8 as usize % parts != part {
                    continue;
                }
                if current.is_none_or(|(id, ..)| id != hint.collection) {
                    if let Some((_, collection, _)) = current {
                        collection.add_live(segment, live.0, live.1);
                        live = (0, 0);
                    }
                    current = collections
                        .get(&hint.collection)
                        .map(|(state, cleared)| (hint.collection, &**state, *cleared));
                }
                let Some((_, collection, cleared)) = current else { continue };
                if hint.seqno < cleared && !planted!(ClearForgottenOnReplay) {
                    continue;
                }
                let location = Location::new(segment.slot, hint.offset)
                    .filter(|_| hint.offset + hint.len <= segment.end());
                let Some(location) = location else {
                    let what = "hint points outside of its segment";
                    return Err(refuse(Case::Inconsistent, &segment.path, hint.offset, what));
                };
                if self.load_record(collection, &hint, location) {
                    live = (live.0 + hint.len, live.1 + 1);
                }
            }
            if let Some((_, collection, _)) = current {
                collection.add_live(segment, live.0, live.1);
            }
        }
        Ok(())
    }

    /// Applies one record; true if it is live now.
    fn load_record(&self, collection: &CollectionState, hint: &Hint, location: Location) -> bool {
        let index = collection.index();
        let mut old_len = 0;
        let is_same_key = |old: Location| match self.read_record(location) {
            Ok(new) => {
                self.is_same_key(new.key(), hint.hash, old, &mut old_len)
                    || !self.is_other_key(&new, hint.hash)
            }
            Err(_) => true,
        };
        let old = match hint.kind {
            Kind::Put => index.insert(hint.hash, location, is_same_key),
            _ => index.remove(hint.hash, is_same_key),
        };
        self.retire(collection, old, old_len);
        hint.kind == Kind::Put
    }
}
