//! Decides what a repaired store consists of, and says what is lost. Changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::check::Defect;
use super::super::error::OpenError;
use super::super::recovery::RecoveryReport;
use super::super::segments::Segment;
use super::super::system::{self, SYSTEM_NAME};
use super::super::tail::{TailStart, scan_tail};
use super::batches::{cut_torn_end, drop_given_up, incomplete};
use super::kind_of;
use super::report::{
    After, LostKey, LostRange, LostRecord, RecordKind, RepairError, RepairOptions, RepairReport,
    UnsureRecord,
};
use super::survey::{Condition, Found, Survey, load_hints, next_of, read_file};
use crate::format::hint::{Hint, hash_seed};
use crate::format::manifest::{FILE_NAME, SegmentState, State};
use crate::format::record::{FRAME_HEADER_LEN, Kind, Record};
use crate::format::salvage::{Mend, Piece};
use crate::format::segment::{SegmentHeader, SegmentKind, StoreId, file_name};
use crate::limits::{COLLECTIONS_MAX, SYSTEM_COLLECTION};
use crate::vfs::{IoError, OpenMode, Vfs};

/// A new segment with what is whole of a damaged one.
pub(super) struct Rewrite {
    /// The damaged one, and the bits of it that are to be put right.
    pub(super) source: PathBuf,
    pub(super) mends: Vec<Mend>,
    /// Its number.
    pub(super) id: u64,
    pub(super) generation: u32,
    /// The records, with their places in the source, by sequence number.
    pub(super) records: Vec<Hint>,
}

/// What is to be done.
pub(super) struct Plan {
    pub(super) store: StoreId,
    /// The new manifest, without the segments that are to be written.
    pub(super) state: State,
    pub(super) rewrites: Vec<Rewrite>,
    /// Create records that are lost, and must be there: sequence number, id, name.
    pub(super) creates: Vec<(u64, u32, String)>,
    /// Files to be copied to the quarantine.
    pub(super) quarantine: Vec<PathBuf>,
    /// Files to be removed once the new manifest is there.
    pub(super) remove: Vec<PathBuf>,
    /// Files to be removed at once: what an earlier repair has left.
    pub(super) leftovers: Vec<PathBuf>,
    /// First id for new segments.
    pub(super) first_id: u64,
    pub(super) report: RepairReport,
}

/// Plans the repair of what `survey` found.
pub(super) fn plan(
    dir: &Path,
    options: &RepairOptions,
    mut survey: Survey,
) -> Result<Plan, RepairError> {
    let vfs = &*options.vfs;
    let mut report = RepairReport {
        notes: std::mem::take(&mut survey.notes),
        may_miss_segments: survey.has_lost_edits,
        earlier_reports: std::mem::take(&mut survey.earlier_reports),
        ..RepairReport::default()
    };
    let watermark = watermark(&survey);
    let tail = judge_tail(vfs, dir, &survey)?;
    let mut tail_hints = Vec::new();
    match tail {
        Ok(hints) => {
            for found in survey.segments.iter_mut().filter(|found| found.is_tail()) {
                found.condition = Condition::Intact;
                found.damage.clear();
            }
            tail_hints = hints;
        }
        Err(refused) => give_up_tail(&mut survey, watermark, refused, &mut report),
    }
    report.damage.append(&mut survey.manifest_damage);
    report.damage.extend_from_slice(&survey.strays);
    for found in &mut survey.segments {
        report.damage.append(&mut found.damage.clone());
    }
    let mut draft = Draft { vfs, survey, report, names: BTreeMap::new(), tail_hints };
    draft.name_collections();
    draft.list_losses();
    let creates = draft.missing_names(options);
    draft.finish(dir, watermark, creates)
}

/// Everything below it was durable.
fn watermark(survey: &Survey) -> u64 {
    let seals = survey.segments.iter().filter_map(|found| found.seal).map(|seal| seal.next);
    let frames = survey.segments.iter().map(|found| found.watermark);
    seals.chain(frames).fold(survey.state.watermark, u64::max)
}

/// The sequence number after the sealed part of the log.
fn sealed_next(survey: &Survey) -> u64 {
    let sealed = survey.segments.iter().filter(|found| found.kind == SegmentKind::Log);
    let ends = sealed.filter_map(|found| found.seal).map(|seal| seal.next);
    ends.fold(survey.state.sealed_next, u64::max)
}

/// Whether the open takes the unsealed segments as they are: their records then; else what it
/// refuses, if it names anything.
type Tail = Result<Vec<(u64, Vec<Hint>)>, Option<Defect>>;

fn judge_tail(vfs: &dyn Vfs, dir: &Path, survey: &Survey) -> Result<Tail, RepairError> {
    let mut unsealed = Vec::new();
    for found in survey.segments.iter().filter(|found| found.is_tail()) {
        let is_readable = matches!(found.condition, Condition::Intact | Condition::Damaged)
            && !found.damage.iter().any(|defect| defect.offset == 0);
        if !is_readable {
            return Ok(Err(None));
        }
        let path = found.path.clone();
        let file = vfs.open(&path, OpenMode::Read).map_err(|e| IoError::new("open", &path, e))?;
        let header = SegmentHeader {
            store: survey.store,
            id: found.id,
            epoch: found.epoch,
            kind: found.kind,
            generation: found.generation,
        };
        let segment = Segment::new(&header, 0, found.salt, path, file);
        unsealed.push((Arc::new(segment), found.made_len));
    }
    let watermark = survey.state.watermark.max(sealed_next(survey));
    let start = TailStart {
        watermark,
        closed_at: survey.state.is_clean.then_some(watermark),
        expected: sealed_next(survey),
        epoch_max: survey.state.epoch,
        hash_seed: hash_seed(&survey.store),
    };
    let mut report = RecoveryReport::default();
    match scan_tail(unsealed, start, dir, &mut report) {
        Ok(scan) => Ok(Ok(scan.segments.into_iter().map(|s| (s.segment.id, s.hints)).collect())),
        Err(OpenError::Corrupt(place)) => Ok(Err(Some(place.into()))),
        Err(e) => Err(e.into()),
    }
}

/// The unsealed segments cannot stay as they are: what is whole in them goes to sealed ones.
fn give_up_tail(
    survey: &mut Survey,
    watermark: u64,
    refused: Option<Defect>,
    report: &mut RepairReport,
) {
    let sealed_next = sealed_next(survey);
    if survey.state.is_clean {
        forget_behind_close(survey);
    }
    report.cut_from = cut_torn_end(&mut survey.segments, sealed_next, watermark);
    let mut end = sealed_next;
    let mut unknown = None;
    for found in survey.segments.iter_mut().filter(|found| found.is_tail()) {
        end = end.max(next_of(found).unwrap_or(0));
        let has_frames = found.pieces.iter().any(|p| matches!(p, Piece::Frame { .. }));
        let is_headless = found.damage.iter().any(|defect| defect.offset == 0) && !has_frames;
        // What another store has put in its place says nothing of what was there.
        let is_blank = found.is_blank && found.condition != Condition::Foreign;
        if is_headless && !is_blank || found.file_len < found.made_len {
            unknown = Some(found.id);
        } else if is_headless {
            report.notes.push(format!("nothing was in segment {}", found.id));
        }
        if found.condition == Condition::Intact {
            found.condition = Condition::Damaged;
        }
    }
    if let Some(defect) = refused {
        // The open names the frame, where more may be known of what is wrong in its header.
        let header = defect.offset..defect.offset.saturating_add(FRAME_HEADER_LEN as u64);
        let is_known = |d: &Defect| d.file == defect.file && header.contains(&d.offset);
        let known = survey.segments.iter().flat_map(|found| &found.damage).any(is_known);
        if !known {
            report.damage.push(defect);
        }
    }
    if let Some(id) = unknown {
        let what = format!("the end of segment {id} is not there: it may have held anything");
        report.lost_ranges.push(LostRange { first: end, next: None, records_max: None, what });
    } else if end < watermark {
        let what = "the log ended later: it was durable up to here".to_owned();
        let records_max = Some(watermark - end);
        let next = Some(watermark);
        report.lost_ranges.push(LostRange { first: end, next, records_max, what });
    }
}

/// Takes away what stands behind the end of a log that was closed: it is not part of it.
fn forget_behind_close(survey: &mut Survey) {
    let end = survey.state.watermark;
    for found in survey.segments.iter_mut().filter(|found| found.is_tail()) {
        found.pieces.retain(|piece| match piece {
            Piece::Frame { header, .. } => header.base < end,
            Piece::Record { hint, .. } | Piece::Bad { hint, .. } => hint.seqno < end,
            Piece::Lost { first, .. } => *first < end,
            Piece::Damage { .. } => true,
        });
    }
}

struct Draft<'a> {
    vfs: &'a dyn Vfs,
    survey: Survey,
    report: RepairReport,
    names: BTreeMap<u32, String>,
    /// Records of unsealed segments that stay.
    tail_hints: Vec<(u64, Vec<Hint>)>,
}

/// The newest record of a key that is still there.
#[derive(Clone)]
struct Newest {
    seqno: u64,
    kind: Kind,
    /// Where it stands: number of the segment in the survey, and offset.
    place: (usize, u64),
}

impl Draft<'_> {
    fn name_collections(&mut self) {
        for found in &self.survey.segments {
            self.names.extend(found.names.iter().map(|(id, name)| (*id, name.clone())));
        }
    }

    fn name(&self, id: u32) -> String {
        match self.names.get(&id) {
            None if id == SYSTEM_COLLECTION => SYSTEM_NAME.to_owned(),
            None => format!("#{id}"),
            Some(name) => name.clone(),
        }
    }

    /// What a record of the engine's own is.
    fn system(&self, id: u32, key: Option<&[u8]>) -> Option<String> {
        system::describe(id, key, None, |id| self.name(id))
    }

    /// Reports what is lost, what is unsure, and which batches are not whole.
    fn list_losses(&mut self) {
        drop_given_up(&mut self.survey.segments);
        let segments = std::mem::take(&mut self.survey.segments);
        for found in &segments {
            match found.condition {
                Condition::Intact => continue,
                Condition::Missing | Condition::Foreign => self.lose_segment(found),
                Condition::Damaged => self.list_pieces(found),
            }
            self.report.incomplete_batches.extend(incomplete(found));
        }
        let known: Vec<Defect> = std::mem::take(&mut self.report.damage);
        self.report.damage =
            known.into_iter().map(|d| self.with_collection(d, &segments)).collect();
        self.survey.segments = segments;
    }

    fn with_collection(&self, mut defect: Defect, segments: &[Found]) -> Defect {
        let found = segments.iter().find(|found| found.path == defect.file);
        let pieces = found.map_or(&[][..], |found| &found.pieces);
        for piece in pieces {
            if let Piece::Bad { hint, key, .. } = piece
                && hint.offset == defect.offset
            {
                defect.collection = Some(self.name(hint.collection));
                defect.system = self.system(hint.collection, key.as_deref());
                break;
            }
        }
        defect
    }

    fn lose_segment(&mut self, found: &Found) {
        let Some(seal) = found.seal.filter(|seal| seal.first < seal.next) else { return };
        let what = match found.condition {
            Condition::Missing => format!("segment {} is missing", found.id),
            _ => format!("segment {} is of another store", found.id),
        };
        let (first, next) = (seal.first, Some(seal.next));
        let records_max = Some(seal.next.saturating_sub(seal.first));
        self.report.lost_ranges.push(LostRange { first, next, records_max, what });
    }

    fn list_pieces(&mut self, found: &Found) {
        for piece in &found.pieces {
            match piece {
                Piece::Bad { hint, key, is_key_sure } => {
                    let system = self.system(hint.collection, key.as_deref());
                    let key = match key {
                        Some(key) if *is_key_sure => LostKey::Sure(key.clone()),
                        Some(key) => LostKey::Unsure(key.clone()),
                        None => LostKey::Unknown,
                    };
                    self.report.lost.push(LostRecord {
                        seqno: hint.seqno,
                        kind: kind_of(hint.kind),
                        collection: self.name(hint.collection),
                        key,
                        system,
                        after: After::Unknown,
                        file: found.path.clone(),
                        offset: hint.offset,
                    });
                }
                Piece::Lost { first, next, max } => self.report.lost_ranges.push(LostRange {
                    first: *first,
                    next: Some(*next),
                    records_max: Some(*max),
                    what: format!("damaged in {}", found.path.display()),
                }),
                _ => {}
            }
        }
        for (hint, key) in &found.unsure {
            if !found.pieces.iter().any(|p| matches!(p, Piece::Record { hint: h, .. } if h == hint))
            {
                continue;
            }
            self.report.unsure.push(UnsureRecord {
                seqno: hint.seqno,
                collection: self.name(hint.collection),
                key: key.clone(),
                system: self.system(hint.collection, Some(key)),
                what: "kept from among damaged records, its number may be another".to_owned(),
            });
        }
    }

    /// The create records that must be written anew: of collections that have records.
    fn missing_names(&mut self, options: &RepairOptions) -> Vec<(u64, u32, String)> {
        let mut lost: BTreeMap<u32, u64> = BTreeMap::new();
        let mut used: BTreeSet<u32> = BTreeSet::new();
        for found in &self.survey.segments {
            used.extend(&found.used);
            for piece in &found.pieces {
                if let Piece::Bad { hint, .. } = piece
                    && hint.kind == Kind::CreateCollection
                {
                    lost.insert(hint.collection, hint.seqno);
                }
            }
        }
        let mut creates = Vec::new();
        let unnamed = |id: &u32| *id < COLLECTIONS_MAX && !self.names.contains_key(id);
        for id in used.into_iter().filter(unnamed).collect::<Vec<_>>() {
            let given = options.names.iter().rev().find(|(of, _)| *of == id);
            let mut name =
                given.map_or_else(|| format!("recovered-{id}"), |(_, name)| name.clone());
            while self.names.values().any(|known| *known == name) {
                name.push('+');
            }
            self.report.notes.push(format!(
                "the name of collection {id} is lost, its keys are in \"{}\" now",
                name.escape_debug()
            ));
            self.names.insert(id, name.clone());
            creates.push((lost.get(&id).copied().unwrap_or(1), id, name));
        }
        creates.sort_unstable();
        // Numbers rise within a segment; which ones they are matters for nothing else.
        let mut next = 0;
        for (seqno, ..) in &mut creates {
            *seqno = (*seqno).max(next);
            next = *seqno + 1;
        }
        creates
    }

    /// Finds out what a reader gets now of keys of which a record is lost.
    fn judge_lost_keys(&mut self) -> Result<(), RepairError> {
        let mut lost: HashMap<(u32, u64), Option<Newest>> = HashMap::new();
        let mut hashes: HashMap<u64, (u32, u64)> = HashMap::new();
        for found in &self.survey.segments {
            for piece in &found.pieces {
                if let Piece::Bad { hint, key, is_key_sure } = piece
                    && matches!(hint.kind, Kind::Put | Kind::Delete)
                    && (found.is_by_hints || *is_key_sure || key.is_some())
                    && hint.hash != 0
                {
                    lost.insert((hint.collection, hint.hash), None);
                    hashes.insert(hint.seqno, (hint.collection, hint.hash));
                }
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let mut cleared: HashMap<u32, u64> = HashMap::new();
        for i in 0..self.survey.segments.len() {
            for hint in self.surviving(i)? {
                if hint.kind == Kind::Clear {
                    let last = cleared.entry(hint.collection).or_default();
                    *last = hint.seqno.max(*last);
                }
                if let Some(newest) = lost.get_mut(&(hint.collection, hint.hash))
                    && matches!(hint.kind, Kind::Put | Kind::Delete)
                    && newest.as_ref().is_none_or(|n| n.seqno < hint.seqno)
                {
                    let place = (i, hint.offset);
                    *newest = Some(Newest { seqno: hint.seqno, kind: hint.kind, place });
                }
            }
        }
        let mut report = std::mem::take(&mut self.report);
        for record in &mut report.lost {
            let Some(found) = hashes.get(&record.seqno) else { continue };
            let newest = lost.get(found).cloned().flatten();
            let cleared = cleared.get(&found.0).copied().unwrap_or(0);
            self.judge_lost_key(record, newest, cleared)?;
        }
        self.report = report;
        Ok(())
    }

    fn judge_lost_key(
        &self,
        record: &mut LostRecord,
        newest: Option<Newest>,
        cleared: u64,
    ) -> Result<(), RepairError> {
        if record.key == LostKey::Unknown
            && let Some(key) = newest.as_ref().map(|n| self.key_at(n.place)).transpose()?.flatten()
        {
            // An older record of the same hash.
            record.key = LostKey::Sure(key);
        }
        let is_unsure = matches!(record.key, LostKey::Unsure(_));
        let newest = newest.filter(|n| n.seqno > cleared);
        record.after = match newest {
            _ if is_unsure => After::Unknown,
            _ if cleared > record.seqno => After::Same,
            Some(n) if n.seqno > record.seqno => After::Same,
            Some(n) if n.kind == Kind::Put => After::Older(n.seqno),
            _ if record.kind == RecordKind::Delete => After::Same,
            _ => After::Absent,
        };
        Ok(())
    }

    fn key_at(&self, (i, offset): (usize, u64)) -> Result<Option<Vec<u8>>, RepairError> {
        let Some(found) = self.survey.segments.get(i) else { return Ok(None) };
        let mut bytes = read_file(self.vfs, &found.path)?.unwrap_or_default();
        found.mends.iter().for_each(|mend| mend.apply(&mut bytes));
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(bytes.get(at..).and_then(Record::parse).map(|record| record.key.to_vec()))
    }

    /// The records of segment number `i` that the repaired store has.
    fn surviving(&self, i: usize) -> Result<Vec<Hint>, RepairError> {
        let Some(found) = self.survey.segments.get(i) else { return Ok(Vec::new()) };
        Ok(match found.condition {
            Condition::Missing | Condition::Foreign => Vec::new(),
            Condition::Damaged => kept(found),
            Condition::Intact if found.seal.is_some() => load_hints(self.vfs, found)?,
            Condition::Intact => {
                let hints = self.tail_hints.iter().find(|(id, _)| *id == found.id);
                hints.map(|(_, hints)| hints.clone()).unwrap_or_default()
            }
        })
    }

    fn finish(
        mut self,
        dir: &Path,
        watermark: u64,
        creates: Vec<(u64, u32, String)>,
    ) -> Result<Plan, RepairError> {
        self.judge_lost_keys()?;
        let survey = self.survey;
        let mut report = self.report;
        let mut id = survey.next_id;
        let first_id = id;
        let (mut rewrites, mut quarantine, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        for stray in &survey.strays {
            quarantine.push(stray.file.clone());
            remove.push(stray.file.clone());
        }
        let mut segments = Vec::new();
        let mut next = survey.state.sealed_next.max(watermark);
        let has_tail =
            survey.segments.iter().any(|f| f.is_tail() && f.condition == Condition::Intact);
        for found in &survey.segments {
            next = next.max(next_of(found).unwrap_or(0));
            let own = dir.join(file_name(found.id));
            match found.condition {
                Condition::Intact => {
                    let len = found.seal.map_or(found.file_len, |seal| seal.file_len);
                    let state = SegmentState { id: found.id, len, seal: found.seal };
                    segments.push(state);
                }
                Condition::Missing => {}
                Condition::Foreign => {
                    quarantine.push(own.clone());
                    remove.push(own);
                }
                Condition::Damaged => {
                    let records = kept(found);
                    // What the log is damaged by stands in a segment that may be whole in itself.
                    let is_named = report.damage.iter().any(|defect| defect.file == found.path);
                    if is_named || !found.damage.is_empty() {
                        quarantine.push(found.path.clone());
                        report.kept_records += records.len() as u64;
                    }
                    remove.push(found.path.clone());
                    if own != found.path && survey_has_file(&survey.segments, &own) {
                        quarantine.push(own.clone());
                        remove.push(own);
                    }
                    if !records.is_empty() {
                        let generation = found.generation.saturating_add(1);
                        let source = found.path.clone();
                        let mends = found.mends.clone();
                        rewrites.push(Rewrite { source, mends, id, generation, records });
                        id += 1;
                    }
                }
            }
        }
        let epoch = survey.segments.iter().map(|found| found.epoch).fold(1, u32::max);
        let is_manifest_bad = !report.damage.iter().all(|d| d.file != dir.join(FILE_NAME));
        if is_manifest_bad {
            quarantine.push(dir.join(FILE_NAME));
        }
        report.is_changed = !report.damage.is_empty()
            || !rewrites.is_empty()
            || !creates.is_empty()
            || !remove.is_empty();
        let sealed_next = sealed_next(&survey);
        let mut state = State {
            epoch: epoch.max(survey.state.epoch),
            watermark: survey.state.watermark.max(sealed_next),
            next_segment: survey.next_id,
            sealed_next,
            // A log that was closed stays closed: what is behind its end is not part of it.
            is_clean: has_tail && survey.state.is_clean,
            segments,
            ..State::new()
        };
        if !has_tail {
            (state.sealed_next, state.watermark) = (next, next);
        }
        let leftovers = survey.leftovers;
        report.replaced.clone_from(&remove);
        Ok(Plan {
            store: survey.store,
            state,
            rewrites,
            creates,
            quarantine,
            remove,
            leftovers,
            first_id,
            report,
        })
    }
}

/// True if a file is there under this name, whoever it belongs to.
fn survey_has_file(segments: &[Found], path: &Path) -> bool {
    segments.iter().any(|found| found.path == path && found.condition != Condition::Missing)
}

/// The records of a damaged segment that are kept, by sequence number.
fn kept(found: &Found) -> Vec<Hint> {
    let hint = |piece: &Piece| match piece {
        Piece::Record { hint, .. } => Some(*hint),
        _ => None,
    };
    let mut records: Vec<Hint> = found.pieces.iter().filter_map(hint).collect();
    records.sort_by_key(|hint| hint.seqno);
    records.dedup_by_key(|hint| hint.seqno);
    records
}
