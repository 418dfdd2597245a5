//! What compaction does to the values it moves: dictionaries are trained, values stored smaller.
//!
//! Policy, by collection: while the newest dictionary compresses what is moved about as well as it
//! did the samples it was made from, it is used; otherwise, and when there is none, a new one is
//! made, if enough records are moved at once to learn from, and kept if it is clearly better. A
//! value is written anew only if that makes it smaller: it is decompressed and compressed once for
//! each dictionary that comes, not each time it is moved.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::catalog::CollectionState;
use super::super::core::Core;
use super::super::error::WriteError;
use super::super::segments::Segment;
use super::dictionary::Dictionary;
use super::{append_stored, codec, lz4, pays};
use crate::format::config::Compression;
use crate::format::hint::Hint;
use crate::format::record::{Kind, Record};
use crate::format::value::{Coding, Stored};

/// Most bytes of samples that are kept of a collection: thirty times the longest dictionary.
const SAMPLES_LEN_MAX: usize = 2 << 20;
/// Most bytes of one sample.
const SAMPLE_LEN_MAX: usize = 8 << 10;
/// Shortest and longest dictionary. Longer ones compress better, and cost each process that reads
/// so much memory.
const DICTIONARY_LEN: std::ops::RangeInclusive<usize> = 256..=64 << 10;
/// Bytes of samples for each byte of the dictionary.
const SAMPLES_PER_BYTE: usize = 8;
/// Bytes of samples that are enough for a dictionary, however few they are.
const ENOUGH_LEN: usize = 256 << 10;
/// How many samples a dictionary is tried on.
const TRIALS: usize = 100;
/// A segment is moved for the sake of its values alone if so much of it is saved.
const SAVED_PERCENT_MIN: u64 = 10;

/// Stores the values smaller that one run of compaction moves. It is asked about each
/// record twice: first whether it is wanted as a sample, then, after [`Recompressor::prepare`],
/// whether it is to be stored in another way.
pub(in crate::engine) struct Recompressor<'a> {
    core: &'a Core,
    plans: HashMap<u32, Option<Plan>>,
}

/// What is done to the values of one collection.
struct Plan {
    collection: Arc<CollectionState>,
    compression: Compression,
    samples: Samples,
    dictionary: Option<Arc<Dictionary>>,
}

/// Every n-th value, so that they are spread over all that is moved.
#[derive(Default)]
struct Samples {
    kept: Vec<Vec<u8>>,
    len: usize,
    seen: usize,
    /// One value more than this is passed over for each one that is kept.
    stride: usize,
}

impl Samples {
    /// True if the next value is to be kept.
    fn wants_next(&mut self) -> bool {
        self.seen += 1;
        (self.seen - 1).is_multiple_of(self.stride.max(1))
    }

    fn add(&mut self, mut value: Vec<u8>) {
        value.truncate(SAMPLE_LEN_MAX);
        self.len += value.len();
        self.kept.push(value);
        if self.len > SAMPLES_LEN_MAX {
            let mut nth = 0;
            self.kept.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.len = self.kept.iter().map(Vec::len).sum();
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// What `dictionary` makes of some of them: their bytes, and what they are stored in.
    fn try_on(&self, dictionary: &codec::Dictionary) -> (u64, u64) {
        let step = self.kept.len() / TRIALS + 1;
        self.kept.iter().step_by(step).fold((0, 0), |(raw, stored), sample| {
            let len = dictionary.compress(sample).map_or(sample.len(), |frame| frame.len());
            (raw + sample.len() as u64, stored + len as u64)
        })
    }
}

/// Stored bytes for a million bytes of values.
fn ratio((raw, stored): (u64, u64)) -> u64 {
    stored.saturating_mul(1_000_000) / raw.max(1)
}

impl<'a> Recompressor<'a> {
    pub(in crate::engine) fn new(core: &'a Core) -> Self {
        Recompressor { core, plans: HashMap::new() }
    }

    /// The plan for collection `id`; `None` if its values stay as they are.
    fn plan(&mut self, id: u32) -> Option<&mut Plan> {
        let core = self.core;
        let plan = self.plans.entry(id).or_insert_with(|| {
            let collection = core.catalog.by_id(id)?;
            let compression = collection.options().compression;
            let is_done = compression != Compression::Off && codec::IS_AVAILABLE;
            let (samples, dictionary) = (Samples::default(), None);
            is_done.then_some(Plan { collection, compression, samples, dictionary })
        });
        plan.as_mut()
    }

    /// True if the next put of collection `id` that will be moved is wanted as a sample. To be
    /// asked once for each.
    pub(in crate::engine) fn wants(&mut self, id: u32) -> bool {
        self.plan(id).is_some_and(|plan| {
            plan.compression == Compression::Dictionary && plan.samples.wants_next()
        })
    }

    /// Takes the record as a sample.
    pub(in crate::engine) fn sample(&mut self, record: &Record<'_>) {
        let core = self.core;
        let id = record.header.collection;
        let Some(plan) = self.plan(id) else { return };
        if let Some(stored) = record.stored()
            && let Ok(value) = core.decompress(id, &stored)
        {
            plan.samples.add(value);
        }
    }

    /// Chooses the dictionaries, and trains those that are missing. New ones are durable when this
    /// returns.
    ///
    /// # Errors
    ///
    /// That of keeping a new dictionary. Values can be moved all the same.
    pub(in crate::engine) fn prepare(&mut self) -> Result<(), WriteError> {
        let core = self.core;
        for plan in self.plans.values_mut().flatten() {
            if plan.compression == Compression::Dictionary {
                // One that cannot be read is an error to whoever reads a value that needs it.
                plan.dictionary = core.newest_dictionary(&plan.collection).unwrap_or(None);
                plan.improve(core)?;
                plan.samples = Samples::default();
            }
        }
        Ok(())
    }

    /// Appends the record with its value stored smaller, still to be stamped; false, and nothing
    /// is appended, if it stays as it is. Requires: the record was verified.
    pub(in crate::engine) fn rewrite(&mut self, record: &Record<'_>, buf: &mut Vec<u8>) -> bool {
        let Some(now) = record.stored() else { return false };
        let Some((coding, raw_len, bytes)) = self.smaller(record, &now) else { return false };
        if let Some(plan) = self.plan(record.header.collection) {
            plan.collection.packing.count(raw_len, bytes.len());
        }
        let new = Stored { coding: Some((coding, raw_len)), bytes: &bytes, ..now };
        append_stored(record, new, buf);
        true
    }

    /// Another way to store the record's value, which stands there as `now`: how, the length of
    /// the value, and the bytes. `None` if it stays as it is.
    fn smaller(
        &mut self,
        record: &Record<'_>,
        now: &Stored<'_>,
    ) -> Option<(Coding, usize, Vec<u8>)> {
        let core = self.core;
        let id = record.header.collection;
        if record.header.kind != Kind::Put {
            return None;
        }
        let plan = self.plan(id)?;
        let raw_len = now.coding.map_or(now.bytes.len(), |(_, raw_len)| raw_len);
        if let Some(dictionary) = &plan.dictionary {
            let coding = Coding::Zstd(dictionary.number);
            if now.coding.is_some_and(|(known, _)| known == coding) {
                return None;
            }
            let raw = match now.coding {
                None => now.bytes,
                // What cannot be decompressed stays as it is: a read says what is wrong.
                Some(_) => &core.decompress(id, now).ok()?,
            };
            if let Some(frame) = dictionary.codec.compress(raw)
                && pays(raw_len, frame.len())
                && frame.len() < now.bytes.len()
            {
                return Some((coding, raw_len, frame));
            }
        }
        if now.coding.is_some() {
            return None;
        }
        Some((Coding::Lz4, raw_len, lz4(now.bytes)?))
    }

    /// Percent of a segment's bytes that are saved when its values are stored anew, by some of its
    /// records.
    fn saves_percent(&mut self, segment: &Arc<Segment>, hints: &[Hint]) -> u64 {
        let (mut bytes, mut saved) = (0, 0);
        let stride = hints.len() / TRIALS + 1;
        for (i, stretch) in hints.chunks(stride).enumerate() {
            // Another place in each stretch: records of several collections may take turns.
            let Some(hint) = stretch.get(i * 7919 % stretch.len()) else { continue };
            bytes += hint.len;
            if self.plan(hint.collection).is_none() {
                continue;
            }
            let Ok(found) = self.core.read_in(segment, hint.offset) else { continue };
            let record = found.record();
            if record.body_is_intact()
                && let Some(now) = record.stored()
                && let Some((_, _, new)) = self.smaller(&record, &now)
            {
                saved += (now.bytes.len() as u64).saturating_sub(new.len() as u64);
            }
        }
        saved * 100 / bytes.max(1)
    }

    /// True if enough of the segment's values are to be stored with a dictionary, and there is
    /// none yet.
    fn lacks_dictionary(&mut self, hints: &[Hint]) -> bool {
        let enough = self.core.options.dictionary_records;
        let mut found: HashMap<u32, (usize, u64)> = HashMap::new();
        for hint in hints.iter().filter(|hint| hint.kind == Kind::Put) {
            let (records, bytes) = found.entry(hint.collection).or_default();
            (*records, *bytes) = (*records + 1, *bytes + hint.len);
        }
        found.into_iter().any(|(id, (records, bytes))| {
            self.plan(id).is_some_and(|plan| {
                plan.compression == Compression::Dictionary
                    && plan.dictionary.is_none()
                    && (records >= enough || bytes >= ENOUGH_LEN as u64)
            })
        })
    }
}

impl Core {
    /// True if some collection wants its values compressed when they are moved.
    pub(in crate::engine) fn compresses(&self) -> bool {
        let wants = |c: &Arc<CollectionState>| c.options().compression != Compression::Off;
        codec::IS_AVAILABLE && self.catalog.all().iter().any(wants)
    }

    /// True if the values in `segment` take clearly less once they are moved: their collections
    /// were configured since they were written, or got a dictionary.
    pub(in crate::engine) fn would_shrink(&self, segment: &Arc<Segment>) -> bool {
        if !self.compresses() {
            return false;
        }
        // What is damaged stays as it is.
        let Ok(hints) = segment.all_hints() else { return false };
        let mut recompressor = Recompressor::new(self);
        for hint in &hints {
            recompressor.plan(hint.collection);
        }
        if recompressor.prepare().is_err() {
            return false;
        }
        recompressor.lacks_dictionary(&hints)
            || recompressor.saves_percent(segment, &hints) >= SAVED_PERCENT_MIN
    }
}

impl Plan {
    /// Replaces the dictionary if there is none or it does not hold what it promised, and the
    /// samples are enough to learn from.
    fn improve(&mut self, core: &Core) -> Result<(), WriteError> {
        let samples = &self.samples;
        let is_enough = !samples.kept.is_empty()
            && (samples.seen >= core.options.dictionary_records || samples.len >= ENOUGH_LEN);
        let now = self.dictionary.as_ref().map(|d| (ratio(samples.try_on(&d.codec)), d));
        let holds = now.as_ref().is_some_and(|(now, d)| *now <= ratio((d.raw, d.stored)) * 5 / 4);
        if holds || !is_enough {
            return Ok(());
        }
        let (shortest, longest) = DICTIONARY_LEN.into_inner();
        let len = (samples.len / SAMPLES_PER_BYTE).clamp(shortest, longest);
        let Some(bytes) = codec::train(&samples.kept, len) else { return Ok(()) };
        let Some(trained) = codec::Dictionary::new(bytes.clone()) else { return Ok(()) };
        let tried = samples.try_on(&trained);
        let is_better = now.is_none_or(|(now, _)| ratio(tried) < now - now / 10);
        if is_better && let Some(kept) = core.keep_dictionary(&self.collection, bytes, tried)? {
            self.dictionary = Some(kept);
        }
        Ok(())
    }
}
