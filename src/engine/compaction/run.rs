//! Executes a plan, in the order that the module's documentation gives.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::batch::WriteBatch;
use super::super::compression::Recompressor;
use super::super::core::Core;
use super::super::durable::listed_key;
use super::super::error::{ReadError, WriteError};
use super::super::feed::end_mark;
use super::super::maintenance::too_many_segments;
use super::super::manifest::ManifestFile;
use super::super::segments::Segment;
use super::control::CompactionReport;
use super::output::{Finished, Opened, Output};
use super::plan::Plan;
use super::survey::{Survey, Survivor, leave_alone};
use crate::format::hint::Hint;
use crate::format::manifest::Edit;
use crate::format::record::{self, Kind};
use crate::format::segment::SegmentKind;
use crate::index::Location;

/// Keys that are swung at once, with writers waiting.
const SWUNG_AT_ONCE: usize = 256;

/// Why a compaction came to nothing.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Failure {
    /// It was told to stop.
    Cancelled,
    /// A record in this segment is damaged: it is left as it is.
    Damaged(ReadError),
    /// Writing failed. The store is as it was.
    Write(WriteError),
}

impl From<WriteError> for Failure {
    fn from(e: WriteError) -> Self {
        Failure::Write(e)
    }
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        Failure::Damaged(e)
    }
}

impl Core {
    /// Moves what is needed of the plan's segments to new ones. Requires: one at a time.
    pub(super) fn run_plan(&self, plan: &Plan) -> Result<CompactionReport, Failure> {
        let inputs: Vec<Arc<Segment>> = {
            let all = self.segments.all();
            let by_id = |id: &u64| all.iter().find(|s| s.id == *id).cloned();
            plan.inputs.iter().filter_map(by_id).filter(|s| s.seal().is_some()).collect()
        };
        let survey = self.survey_inputs(&inputs)?;
        note_plan(&inputs, &survey, self.segments.all().len());
        moment!(Surveyed);
        self.record_listed(&inputs)?;
        let upto = self.log.lock().next_seqno;
        if !planted!(CompactionDropsBeforeSync) {
            self.sync_upto(upto)?;
        }
        self.with_reserve(|| self.note_end_of_log(&inputs))?;
        let mut report = CompactionReport {
            runs: 1,
            segments_in: inputs.len() as u64,
            bytes_in: inputs.iter().map(|s| s.end()).sum(),
            ..CompactionReport::default()
        };
        let finished = match self.write_outputs(&inputs, &survey.survivors, &mut report) {
            Err(_) if planted!(FailedMergeTakesInputs) => Vec::new(),
            finished => finished?,
        };
        moment!(Written);
        let outputs = self.list_outputs(&inputs, finished)?;
        moment!(Listed);
        self.swing(&inputs, &survey, outputs);
        moment!(Swung);
        self.retire_inputs(&inputs);
        Ok(report)
    }

    /// Notes what the stretch of the log ends with that is about to go, so that a reader of the
    /// change feed who has come to its end can go on from there.
    fn note_end_of_log(&self, inputs: &[Arc<Segment>]) -> Result<(), WriteError> {
        let of_log = inputs.iter().filter(|s| s.kind == SegmentKind::Log);
        let Some(last) = of_log.max_by_key(|s| s.id) else { return Ok(()) };
        let known = self.manifest.lock().state.mark.0.map_or(0, |mark| mark.next);
        // Without it such a reader begins anew: no reason to keep the space.
        match end_mark(last).ok().flatten().filter(|mark| mark.next > known) {
            Some(mark) => self.manifest.lock().append(&Edit::Mark(mark), &self.poison),
            None => Ok(()),
        }
    }

    /// Copies the survivors. On failure nothing is left behind.
    fn write_outputs(
        &self,
        inputs: &[Arc<Segment>],
        survivors: &[Survivor],
        report: &mut CompactionReport,
    ) -> Result<Vec<Finished>, Failure> {
        let mut finished: Vec<Finished> = Vec::new();
        let result = self.write_each(inputs, survivors, report, &mut finished);
        if result.is_err() {
            finished.iter().for_each(|output| output.discard(self));
        }
        result.map(|()| finished)
    }

    fn write_each(
        &self,
        inputs: &[Arc<Segment>],
        survivors: &[Survivor],
        report: &mut CompactionReport,
        finished: &mut Vec<Finished>,
    ) -> Result<(), Failure> {
        let generation = inputs.iter().map(|s| s.generation).max().unwrap_or(0).saturating_add(1);
        let output_len = self.usual_segment_len();
        let mut output: Option<Output> = None;
        let mut recompressor = self.recompressor(inputs, survivors);
        let mut scratch = Vec::new();
        for survivor in survivors {
            let Some(segment) = inputs.get(survivor.input) else { continue };
            let is_full = |o: &Output| o.len() + survivor.hint.len > output_len;
            if let Some(full) = output.take_if(|o| is_full(o)) {
                finished.push(self.finish_output(full, report)?);
            }
            if output.is_none() {
                output = Some(self.with_reserve(|| Output::create(self, generation))?);
            }
            let Some(current) = &mut output else { continue };
            if let Err(e) = self.copy(segment, survivor, current, &mut recompressor, &mut scratch) {
                if let Some(current) = output.take() {
                    current.discard(self);
                }
                return Err(e);
            }
        }
        if let Some(last) = output {
            finished.push(self.finish_output(last, report)?);
        }
        // A short run ends here if it is cancelled, and waits here if it is paused.
        self.compaction.pace(0).map_err(|()| Failure::Cancelled)?;
        if !finished.is_empty() && !planted!(CompactedDirNotSynced) {
            let synced = self.options.vfs.sync_dir(&self.dir);
            synced.map_err(|e| {
                let e = crate::vfs::IoError::new("sync directory", &self.dir, e);
                Failure::Write(self.poison.set(e))
            })?;
        }
        Ok(())
    }

    /// Chooses how the values that move are stored.
    fn recompressor(&self, inputs: &[Arc<Segment>], survivors: &[Survivor]) -> Recompressor<'_> {
        let mut recompressor = Recompressor::new(self);
        for survivor in survivors {
            if survivor.hint.kind == Kind::Put
                && recompressor.wants(survivor.hint.collection)
                && let Some(segment) = inputs.get(survivor.input)
                && let Ok(found) = self.read_in(segment, survivor.hint.offset)
                && found.record().body_is_intact()
            {
                recompressor.sample(&found.record());
            }
        }
        // Without a new dictionary values move all the same.
        let _ = recompressor.prepare();
        recompressor
    }

    fn copy(
        &self,
        segment: &Arc<Segment>,
        survivor: &Survivor,
        output: &mut Output,
        recompressor: &mut Recompressor<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let damaged = |e| Failure::from(leave_alone(segment, e));
        let hint = &survivor.hint;
        let found = self.read_in(segment, hint.offset).map_err(damaged)?;
        self.check_intact(&found).map_err(damaged)?;
        scratch.clear();
        let is_buried = hint.kind == Kind::Delete && self.bury(&found, scratch);
        let is_it = (found.header.kind == hint.kind || is_buried)
            && found.header.collection == hint.collection
            && found.header.record_len() as u64 == hint.len;
        if !is_it {
            let what = "the hint describes another record than stands here";
            return Err(damaged(segment.corruption(hint.offset, what).into()));
        }
        let record = found.record();
        let is_new = is_buried || recompressor.rewrite(&record, scratch);
        let bytes = if is_new { &scratch[..] } else { found.raw() };
        let flags = if is_new { record::flags_of(bytes) } else { hint.flags };
        let written = output.push(self, bytes, &Hint { flags, ..*hint })?;
        if written > 0 {
            self.sync.give_way();
            self.compaction.pace(written).map_err(|()| Failure::Cancelled)?;
        }
        Ok(())
    }

    fn finish_output(
        &self,
        output: Output,
        report: &mut CompactionReport,
    ) -> Result<Finished, Failure> {
        let path = output.path.clone();
        let rest = output.pending();
        let finished = output.finish(self).inspect_err(|_| {
            // A file that nobody knows of would take room until the next open.
            let _ = self.options.vfs.remove(&path);
        })?;
        if self.compaction.pace(rest).is_err() {
            finished.discard(self);
            return Err(Failure::Cancelled);
        }
        report.segments_out += 1;
        report.bytes_out += finished.len();
        Ok(finished)
    }

    /// Puts the outputs in the place of the inputs, in one edit, and opens them.
    fn list_outputs(
        &self,
        inputs: &[Arc<Segment>],
        finished: Vec<Finished>,
    ) -> Result<Vec<Opened>, WriteError> {
        if planted!(InputsGoBeforeTheEdit) {
            for input in inputs {
                let _ = self.options.vfs.remove(&input.path);
            }
        }
        // Until the outputs are in the table: whoever holds this lock finds open what is listed.
        let mut manifest = self.manifest.lock();
        let listed = self.with_reserve(|| self.append_lists(&mut manifest, inputs, &finished));
        if let Err(e) = listed {
            // Poisoned: the edit may be there, and the files must be.
            if self.poison.check().is_ok() {
                finished.iter().for_each(|output| output.discard(self));
            }
            return Err(e);
        }
        let opened = finished.into_iter().filter_map(|output| output.install(self)).collect();
        manifest.trim(&*self.options.vfs, &self.dir, &self.store_id, &self.poison)?;
        Ok(opened)
    }

    fn append_lists(
        &self,
        manifest: &mut ManifestFile,
        inputs: &[Arc<Segment>],
        finished: &[Finished],
    ) -> Result<(), WriteError> {
        if !self.segments.has_room(finished.len()) {
            return Err(too_many_segments());
        }
        let added = finished.iter().map(Finished::state).collect();
        let removed: Vec<u64> = inputs.iter().map(|s| s.id).collect();
        let watermark = self.watermark();
        if planted!(CompactionEditInTwo) {
            manifest.append(&Edit::Remove { ids: removed }, &self.poison)?;
            let edit = Edit::Compact { added, removed: Vec::new(), watermark };
            return manifest.append(&edit, &self.poison);
        }
        manifest.append(&Edit::Compact { added, removed, watermark }, &self.poison)
    }

    /// Leads the index and the snapshots' books to where the records stand now.
    fn swing(&self, inputs: &[Arc<Segment>], survey: &Survey, outputs: Vec<Opened>) {
        for (input, expired) in inputs.iter().zip(&survey.expired) {
            for chunk in expired.chunks(SWUNG_AT_ONCE) {
                let _applying = self.apply.lock();
                self.drop_expired(input, chunk);
            }
        }
        let mut survivors = survey.survivors.iter();
        if outputs.len() > 1 {
            situation!(SeveralOutputs);
        }
        for (segment, hints) in outputs {
            segment.tombstones_are_needed.store(survey.has_needed_tombstones, Ordering::Relaxed);
            for chunk in hints.chunks(SWUNG_AT_ONCE) {
                // Writers do not wait for the readers that this waits for.
                let _alone = self.swinging.write();
                let _applying = self.apply.lock();
                for (new, survivor) in chunk.iter().zip(survivors.by_ref()) {
                    if let Some(old) = inputs.get(survivor.input) {
                        self.swing_one(old, &survivor.hint, &segment, new, survivor.is_pinned);
                    }
                }
            }
        }
    }

    /// Leads one record's key to its new place, if it still is at the old one.
    fn swing_one(
        &self,
        old: &Arc<Segment>,
        was: &Hint,
        new: &Arc<Segment>,
        is: &Hint,
        is_pinned: bool,
    ) {
        if !is.kind.has_key() {
            // What creates or configures a collection is needed for good; a clearing is not live.
            if is.kind != Kind::Clear {
                new.add_live(is.len, 0);
            }
            return;
        }
        let (Some(from), Some(to), Some(collection)) = (
            Location::new(old.slot, was.offset),
            Location::new(new.slot, is.offset),
            self.catalog.by_id(is.collection),
        ) else {
            return;
        };
        if is.kind != Kind::Put {
            return;
        }
        let is_swung = if planted!(SwingIgnoresOverwrites) && !is_pinned {
            collection.index().insert(is.hash, to, |_| true).is_some()
        } else {
            collection.index().relocate(is.hash, from, to)
        };
        if !is_swung && !is_pinned {
            situation!(OverwrittenMeanwhile);
        }
        if is_swung {
            collection.sub_live(old, was.len);
            collection.add_live(new, is.len, 1);
        }
        for point in self.points.since(0) {
            let Some(kept) = point.kept(is.collection) else { continue };
            if planted!(BooksNotSwung) {
                continue;
            }
            let is_kept = kept.changed.relocate(is.hash, from, to)
                || kept.cleared.get().is_some_and(|index| index.relocate(is.hash, from, to));
            if is_kept {
                situation!(BooksSwung);
                point.unpin(&kept, old, was.len, 1);
                point.pin(&kept, new, is.len, 1);
            }
        }
    }

    /// Takes the inputs out of the store. Their files go when the last reader lets go.
    fn retire_inputs(&self, inputs: &[Arc<Segment>]) {
        self.forget_cleared(inputs);
        let _applying = self.apply.lock();
        for input in inputs {
            // The table and the list of inputs hold one each.
            if Arc::strong_count(input) > 2 {
                situation!(RetiredWhileRead);
            }
            self.segments.remove(input);
            input.retire(&self.options.vfs);
        }
    }
}

impl Core {
    /// Records that collections are listed of which only dead puts are left, perhaps in the inputs.
    fn record_listed(&self, inputs: &[Arc<Segment>]) -> Result<(), WriteError> {
        let mut batch = WriteBatch::new();
        let mut recorded = Vec::new();
        for collection in self.catalog.all() {
            let is_due = collection.is_listed.load(Ordering::Acquire)
                && !collection.is_listed_for_good.load(Ordering::Acquire)
                && collection.index().len() == 0;
            if is_due && inputs.iter().any(|s| s.has_old_puts()) {
                batch.push_system(&listed_key(collection.id), Some(b""))?;
                recorded.push(collection);
            }
        }
        if !batch.is_empty() {
            self.with_reserve(|| self.append_batch(&mut batch))?;
        }
        for collection in recorded {
            collection.is_listed_for_good.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Removes what leads to the inputs from the indexes that were kept when collections were
    /// cleared: those also hold records that are younger than their point, which no snapshot needs
    /// and which were not copied. Writers wait for one portion at most.
    fn forget_cleared(&self, inputs: &[Arc<Segment>]) {
        for point in self.points.since(0) {
            for (collection, kept) in point.cleared() {
                let Some(index) = kept.cleared.get() else { continue };
                for input in inputs {
                    // The survey has read them, and they are kept since.
                    let hints = input.all_hints().unwrap_or_default();
                    // No more of them come: what was live when the survey was made was copied.
                    for chunk in hints.chunks(SWUNG_AT_ONCE) {
                        let _applying = self.apply.lock();
                        for hint in chunk.iter().filter(|h| h.collection == collection) {
                            let Some(location) = Location::new(input.slot, hint.offset) else {
                                continue;
                            };
                            if index.remove(hint.hash, |l| l == location).is_some() {
                                point.unpin(&kept, input, hint.len, 1);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Counts what tests want to have seen.
#[cfg(feature = "testing")]
fn note_plan(inputs: &[Arc<Segment>], survey: &Survey, segments: usize) {
    let sealed_open = 2;
    if inputs.iter().any(|s| s.generation > 0) {
        situation!(OutputMerged);
    }
    if segments > inputs.len() + sealed_open {
        situation!(PartialPlan);
    }
    if survey.survivors.is_empty() {
        situation!(WhollyDead);
    }
    if survey.survivors.iter().any(|s| s.is_pinned) {
        situation!(PinnedCopied);
    }
}

#[cfg(not(feature = "testing"))]
fn note_plan(_inputs: &[Arc<Segment>], _survey: &Survey, _segments: usize) {}
