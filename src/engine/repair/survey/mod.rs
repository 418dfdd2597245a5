//! Looks at everything in a store's directory and trusts none of it.

mod found;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::check::Defect;
use super::super::error::Corruption;
use super::super::open::random_id;
use super::super::recovery::whose;
use super::report::{REPLACED, RepairError};
use super::{QUARANTINE, is_report_of};
use crate::format::manifest::{FILE_NAME, Seal, SegmentState, State};
use crate::format::record::FrameHeader;
use crate::format::salvage::{FoundManifest, Piece, find_salt, read_manifest};
use crate::format::segment::{
    HeaderError, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, StoreId, file_name,
    parse_file_name,
};
use crate::vfs::{OpenMode, Vfs, read_full_at};

pub(super) use found::{Condition, Found, end_of, load_hints, next_of};

/// The store as it was found.
pub(super) struct Survey {
    pub(super) store: StoreId,
    /// What the manifest says, as far as it can be read.
    pub(super) state: State,
    pub(super) manifest_damage: Vec<Defect>,
    /// By id.
    pub(super) segments: Vec<Found>,
    /// Files with names of segments that hold nothing of this store's that is not there already.
    pub(super) strays: Vec<Defect>,
    /// What a repair that did not end has left: files to be removed.
    pub(super) leftovers: Vec<PathBuf>,
    /// Ids below this one were given out.
    pub(super) next_id: u64,
    pub(super) notes: Vec<String>,
    /// The list of segments is not there, or not all of it.
    pub(super) has_lost_edits: bool,
    pub(super) earlier_reports: Vec<PathBuf>,
}

/// The bytes of a file; `None` if it is not there.
pub(super) fn read_file(vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, RepairError> {
    let file = match vfs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RepairError::io("open", path)(e)),
    };
    let len = file.len().map_err(RepairError::io("stat", path))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(RepairError::io("read", path))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// The names of the files in `dir`; none if it is not there.
fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<String>, RepairError> {
    match vfs.list(dir) {
        Ok(names) => Ok(names),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(RepairError::io("list", dir)(e)),
    }
}

/// A segment file's header, as it was found.
type Header = Result<(SegmentHeader, u32), HeaderError>;

/// Is told how many bytes of how many were read.
type Tell<'a> = &'a dyn Fn(u64, u64);

/// How often a store is looked through anew because a writer has changed it meanwhile.
const UNSETTLED_MAX: u32 = 20;

/// As [`survey`], for those who hold no lock: a writer beside them may list and remove segments
/// while they look, which would seem to be damage.
pub(super) fn survey_beside(
    vfs: &dyn Vfs,
    dir: &Path,
    tell: Tell<'_>,
) -> Result<Survey, RepairError> {
    let path = dir.join(FILE_NAME);
    let mut before = read_file(vfs, &path)?;
    let mut tries = 0;
    loop {
        let found = survey(vfs, dir, tell);
        let after = read_file(vfs, &path)?;
        tries += 1;
        if before == after || tries == UNSETTLED_MAX {
            return found;
        }
        before = after;
    }
}

/// Reads the whole store in `dir`.
pub(super) fn survey(vfs: &dyn Vfs, dir: &Path, tell: Tell<'_>) -> Result<Survey, RepairError> {
    let path = dir.join(FILE_NAME);
    let bytes = read_file(vfs, &path)?;
    let mut headers = BTreeMap::new();
    for id in list(vfs, dir)?.iter().filter_map(|name| parse_file_name(name)) {
        headers.insert(id, read_header(vfs, &dir.join(file_name(id)))?);
    }
    if bytes.is_none() && headers.is_empty() {
        return Err(RepairError::Missing { dir: dir.to_owned() });
    }
    let found = match &bytes {
        Some(bytes) => read_manifest(bytes)
            .map_err(|found| RepairError::Version { file: path.clone(), found })?,
        None => FoundManifest { state: State::new(), ..FoundManifest::default() },
    };
    let mut manifest_damage = Vec::new();
    if bytes.is_none() {
        let what = "there are segments, but no manifest: it was lost, or a \
                    first backup or restore was cut off, and is to be made again"
            .to_owned();
        manifest_damage.push(Corruption { file: path, offset: 0, what }.into());
    } else if !found.is_torn || found.is_mended {
        let defect = |(offset, what): &(u64, String)| {
            Corruption { file: path.clone(), offset: *offset, what: what.clone() }.into()
        };
        manifest_damage.extend(found.wrong.iter().map(defect));
    }
    let store = found.store.or_else(|| vote(&headers));
    let is_readable = found.wrong.is_empty() || found.is_mended || found.is_torn;
    let has_lost_edits = bytes.is_none() || !is_readable;
    let mut surveyor = Surveyor {
        vfs,
        dir,
        store: store.unwrap_or_else(random_id),
        is_whole: bytes.is_some() && (found.wrong.is_empty() || found.is_mended),
        is_prefix_whole: manifest_damage.is_empty() || found.is_mended,
        manifest: found,
        headers,
        out: Survey {
            store: StoreId::default(),
            state: State::new(),
            manifest_damage,
            segments: Vec::new(),
            strays: Vec::new(),
            leftovers: Vec::new(),
            next_id: 1,
            notes: Vec::new(),
            has_lost_edits,
            earlier_reports: Vec::new(),
        },
    };
    surveyor.run(tell)?;
    let mut out = surveyor.out;
    out.store = surveyor.store;
    out.state = surveyor.manifest.state;
    Ok(out)
}

fn read_header(vfs: &dyn Vfs, path: &Path) -> Result<Header, RepairError> {
    let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
    let file = vfs.open(path, OpenMode::Read).map_err(RepairError::io("open", path))?;
    let read = read_full_at(&*file, &mut bytes, 0).map_err(RepairError::io("read", path))?;
    let header = SegmentHeader::decode(bytes.get(..read).unwrap_or(&[]));
    if let Err(HeaderError::Version(major, minor)) = header {
        return Err(RepairError::Version { file: path.to_owned(), found: (major, minor) });
    }
    Ok(header)
}

/// The store that most segments belong to.
fn vote(headers: &BTreeMap<u64, Header>) -> Option<StoreId> {
    let mut votes: BTreeMap<StoreId, usize> = BTreeMap::new();
    for (header, _) in headers.values().flatten() {
        *votes.entry(header.store).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(store, _)| store)
}

struct Surveyor<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    store: StoreId,
    manifest: FoundManifest,
    /// Nothing is wrong with the manifest.
    is_whole: bool,
    /// Nothing is wrong with the manifest but, perhaps, that its last edits are lost.
    is_prefix_whole: bool,
    headers: BTreeMap<u64, Header>,
    out: Survey,
}

impl Surveyor<'_> {
    fn run(&mut self, tell: Tell<'_>) -> Result<(), RepairError> {
        self.find_earlier_repairs()?;
        let listed: BTreeMap<u64, SegmentState> =
            self.manifest.state.segments.iter().map(|s| (s.id, *s)).collect();
        let mut ids: BTreeSet<u64> = listed.keys().copied().collect();
        let is_compacted =
            |header: &Header| matches!(header, Ok((h, _)) if h.kind == SegmentKind::Compacted);
        // A segment that is not there may have been removed by an edit that is lost.
        self.is_whole &= listed.keys().all(|id| self.headers.contains_key(id));
        let headers: Vec<(u64, Header)> = self.headers.iter().map(|(id, h)| (*id, *h)).collect();
        let unlisted = headers.into_iter().filter(|(id, _)| !listed.contains_key(id));
        // The log first: it shows whether the manifest has lost edits.
        let (compacted, log): (Vec<_>, Vec<_>) = unlisted.partition(|(_, h)| is_compacted(h));
        let mut is_compacted_away = false;
        for (id, header) in log.into_iter().chain(compacted) {
            if self.is_removed(id) {
                continue;
            }
            if let Some(what) = self.whose_else(id, &header) {
                let file = self.dir.join(file_name(id));
                self.out.strays.push(Corruption { file, offset: 0, what }.into());
            } else if self.is_unlisted_part(id)? {
                ids.insert(id);
                is_compacted_away |= is_compacted(&header);
            }
        }
        let highest = self.headers.keys().chain(&ids).max().copied().unwrap_or(0);
        self.out.next_id = self.manifest.state.next_segment.max(highest.saturating_add(1));
        let len_of = |id: &u64| {
            let file = self.vfs.open(&self.dir.join(file_name(*id)), OpenMode::Read);
            // Only for the progress: what cannot be read is found out below.
            file.and_then(|file| file.len()).unwrap_or(0)
        };
        let total = ids.iter().map(len_of).sum();
        let mut done = 0;
        let mut expected = None;
        let mut is_in_tail = false;
        for id in ids {
            let is_tail = listed.get(&id).is_none_or(|state| state.seal.is_none());
            if is_tail && !is_in_tail {
                is_in_tail = true;
                // Log segments before it may have been compacted away.
                if self.is_whole {
                    expected = expected.max(Some(self.manifest.state.sealed_next));
                } else if is_compacted_away {
                    expected = None;
                }
            }
            let found = self.look(id, listed.get(&id), expected)?;
            if found.kind == SegmentKind::Log && found.condition != Condition::Foreign {
                expected = next_of(&found);
            }
            if found.condition == Condition::Missing && is_compacted_away {
                // Others behind it may have been compacted away as well.
                expected = None;
            }
            done += found.file_len;
            tell(done, total);
            self.out.segments.push(found);
        }
        self.judge_epoch();
        if !self.is_whole && !planted!(LostEditsIgnored) {
            // Closed, says what is left of it: what came later may be what is lost.
            self.manifest.state.is_clean = false;
        }
        self.find_replaced();
        self.guess_start_of_tail();
        if self.out.has_lost_edits {
            let note = "without a whole manifest nobody knows whether whole segments are missing, \
                        and what was durable at the end of the log";
            self.out.notes.push(note.to_owned());
            self.note_gaps();
        }
        Ok(())
    }

    /// Stretches of the log of which nothing is left, where the list does not say why.
    fn note_gaps(&mut self) {
        let first_of = |found: &Found| {
            let bases = found.pieces.iter().filter_map(|piece| match piece {
                Piece::Frame { header, .. } => Some(header.base),
                _ => None,
            });
            found.seal.map(|seal| seal.first).or_else(|| bases.min())
        };
        let segments = self.out.segments.iter().filter(|f| f.condition != Condition::Missing);
        let mut parts: Vec<(u64, u64)> =
            segments.filter_map(|found| Some((first_of(found)?, next_of(found)?))).collect();
        parts.sort_unstable();
        let (mut end, mut gaps) = (1, Vec::new());
        for (first, next) in parts {
            if first > end {
                gaps.push(format!("{end} to {}", first - 1));
            }
            end = end.max(next);
        }
        if let Some(first) = gaps.first() {
            let more = match gaps.len() {
                1 => String::new(),
                n => format!(" and of {} more stretches", n - 1),
            };
            self.out.notes.push(format!(
                "nothing is left of sequence numbers {first}{more}: compaction has taken them \
                 away, or a segment is missing"
            ));
        }
    }

    /// Where edits are lost, a segment that is not there may have been compacted: then there is one
    /// that the manifest does not know, with records of its stretch of the log.
    fn find_replaced(&mut self) {
        if self.is_whole {
            return;
        }
        let is_new = |found: &&Found| {
            found.kind == SegmentKind::Compacted
                && !self.manifest.state.segments.iter().any(|s| s.id == found.id)
        };
        let new: Vec<(u64, Seal)> =
            self.out.segments.iter().filter(is_new).filter_map(|f| Some((f.id, f.seal?))).collect();
        let mut notes = Vec::new();
        self.out.segments.retain(|found| {
            if found.condition != Condition::Missing {
                return true;
            }
            let overlaps = |(_, new): &&(u64, Seal)| {
                found.seal.is_none_or(|seal| new.first < seal.next && seal.first < new.next)
            };
            let Some((by, _)) = new.iter().find(overlaps) else { return true };
            notes.push(format!(
                "segment {} was compacted into segment {by}, the edit that said so is lost",
                found.id
            ));
            false
        });
        self.out.notes.extend(notes);
    }

    /// Where the manifest does not say where the sealed part of the log ends, the tail says where
    /// it starts: what was before it may have been compacted away.
    fn guess_start_of_tail(&mut self) {
        let first = self.out.segments.iter().find(|found| found.is_tail());
        let piece = first.and_then(|found| found.pieces.first());
        if let (false, Some(Piece::Frame { offset: SEGMENT_HEADER_LEN, header, .. })) =
            (self.is_whole, piece)
        {
            let state = &mut self.manifest.state;
            state.sealed_next = state.sealed_next.max(header.base);
        }
    }

    /// Frames of a later open than the manifest knows: it has lost edits, or is an old one.
    fn judge_epoch(&mut self) {
        let newest = self.out.segments.iter().max_by_key(|found| found.epoch);
        let known = self.manifest.state.epoch;
        let Some(newest) = newest.filter(|found| found.epoch > known) else { return };
        if self.out.manifest_damage.is_empty() {
            let epoch = newest.epoch;
            let what = format!("knows epoch {known}, segment {} has epoch {epoch}", newest.id);
            let defect = Corruption { file: self.dir.join(FILE_NAME), offset: 0, what };
            self.out.manifest_damage.push(defect.into());
        }
        self.is_whole = false;
        self.out.has_lost_edits = true;
        self.manifest.state.epoch = newest.epoch;
    }

    /// Reports of earlier repairs, and the segments of one that was killed.
    fn find_earlier_repairs(&mut self) -> Result<(), RepairError> {
        let quarantine = self.dir.join(QUARANTINE);
        for name in list(self.vfs, &quarantine)? {
            let Some(ids) = is_report_of(&name) else { continue };
            self.out.earlier_reports.push(quarantine.join(&name));
            let state = &self.manifest.state;
            let is_listed = |id: u64| state.segments.iter().any(|s| s.id == id);
            let written = self.headers.keys().copied().filter(|id| ids.contains(id));
            let written: Vec<u64> = written.filter(|id| !is_listed(*id)).collect();
            // A repair that ended has left a manifest that has given out its ids.
            let is_before = self.is_prefix_whole && state.next_segment <= ids.start;
            let is_after = self.is_prefix_whole && state.next_segment >= ids.end;
            let is_killed = is_before || (!is_after && self.was_killed(&quarantine.join(&name))?);
            if written.is_empty() || !is_killed {
                continue;
            }
            for id in written {
                self.headers.remove(&id);
                self.out.leftovers.push(self.dir.join(file_name(id)));
            }
        }
        Ok(())
    }

    /// True if the repair with this report did not end: what it was to replace is all there. If
    /// some of that is gone, what it has written is needed, listed or not.
    fn was_killed(&self, report: &Path) -> Result<bool, RepairError> {
        let text = read_file(self.vfs, report)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let replaced = text.lines().filter_map(|line| line.strip_prefix(REPLACED));
        let ids: Vec<Option<u64>> = replaced
            .map(|path| parse_file_name(path.rsplit(['/', '\\']).next().unwrap_or_default()))
            .collect();
        let is_there = |id: &Option<u64>| id.is_some_and(|id| self.headers.contains_key(&id));
        Ok(!ids.is_empty() && ids.iter().all(is_there))
    }

    /// True if segment `id`, which is not listed, was part of the store and is not any more.
    fn is_removed(&self, id: u64) -> bool {
        self.manifest.removed.contains(&id)
            || (self.is_prefix_whole && id < self.manifest.state.next_segment)
    }

    /// What the file `id` is, which is not listed, if nothing is lost with it.
    fn whose_else(&self, id: u64, header: &Header) -> Option<String> {
        let (header, _) = header.as_ref().ok()?;
        let own = self.headers.get(&header.id).and_then(|own| own.as_ref().ok());
        let is_there = own.is_some_and(|(own, _)| own.store == self.store && own.id == header.id);
        let is_copy = header.store == self.store && header.id != id && is_there;
        (is_copy || header.store != self.store).then(|| whose(header, &self.store))
    }

    /// True if the segment file `id`, which is not listed, is to be dealt with.
    fn is_unlisted_part(&mut self, id: u64) -> Result<bool, RepairError> {
        let path = self.dir.join(file_name(id));
        let is_part = match self.headers.get(&id) {
            Some(Ok((header, _))) if header.kind == SegmentKind::Compacted => {
                // A compaction that did not end leaves its output; one whose edit is lost, too.
                !self.is_whole
            }
            Some(Ok((_, salt))) => {
                let bytes = read_file(self.vfs, &path)?.unwrap_or_default();
                let frame = bytes.get(SEGMENT_HEADER_LEN as usize..).unwrap_or(&[]);
                !self.is_whole || FrameHeader::verify(frame, *salt, SEGMENT_HEADER_LEN).is_some()
            }
            _ => {
                let bytes = read_file(self.vfs, &path)?.unwrap_or_default();
                find_salt(&bytes).is_some()
            }
        };
        self.is_whole &= !is_part;
        self.out.has_lost_edits |= is_part;
        if is_part && self.out.manifest_damage.is_empty() {
            let what = format!("has lost an edit: segment {id} holds records, and is not listed");
            let defect = Corruption { file: self.dir.join(FILE_NAME), offset: 0, what };
            self.out.manifest_damage.push(defect.into());
        }
        Ok(is_part)
    }
}
