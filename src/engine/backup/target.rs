//! The target of a backup: what it holds, whether that is an earlier state of the store, and what
//! of it can stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frozen::{Frozen, FrozenSegment, mark_places, walk_frames};
use super::{BackupError, BackupOptions, unfinished};
use crate::engine::error::OpenError;
use crate::engine::manifest;
use crate::engine::open::{LOCK_NAME, sync_dirs_above, take_lock};
use crate::engine::segments::Segment;
use crate::format::manifest::{FILE_NAME, Seal, State, TEMP_NAME};
use crate::format::segment::{
    SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentFooter, SegmentHeader, StoreId, file_name,
    parse_file_name,
};
use crate::vfs::{File, IoError, LockGuard, OpenMode, Vfs, read_full_at};

/// What a file that is being written ends in, behind the name that it will have.
pub(super) const TEMP_SUFFIX: &str = ".tmp";

/// A locked target.
pub(super) struct Target<'a> {
    pub(super) vfs: &'a dyn Vfs,
    pub(super) dir: &'a Path,
    _lock: Box<dyn LockGuard>,
}

/// What is done about one segment.
pub(super) struct Step<'a> {
    pub(super) frozen: &'a FrozenSegment,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The target has it.
    Keep,
    /// It gets a second name in the target, or is copied where that cannot be.
    Link,
    Copy,
}

impl<'a> Target<'a> {
    /// Creates the directory if need be, and keeps everybody else from writing there. `store` is
    /// what is to be brought there.
    ///
    /// # Errors
    ///
    /// As [`Target::examine`], as far as that can be told by names and headers. Nothing was created
    /// then, not even the lock.
    pub(super) fn lock(
        vfs: &'a dyn Vfs,
        dir: &'a Path,
        store: &StoreId,
    ) -> Result<Self, BackupError> {
        match manifest::read(vfs, dir) {
            Ok(Some(read)) if read.store != *store => return Err(foreign(dir)),
            Ok(Some(_)) => {}
            Ok(None) | Err(OpenError::Corrupt(_)) => check_stray(vfs, dir, store)?,
            Err(e) => return Err(e.into()),
        }
        vfs.create_dir_all(dir).map_err(|e| IoError::new("create directory", dir, e))?;
        let lock = take_lock(vfs, dir)?;
        Ok(Target { vfs, dir, _lock: lock })
    }

    /// Compares the target with `frozen` and says what is to be done about each segment. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`BackupError::Foreign`], [`BackupError::NotEmpty`] and [`BackupError::Diverged`], if the
    /// target holds anything but an earlier state of the same store.
    pub(super) fn examine<'f>(
        &self,
        frozen: &'f Frozen,
        options: &BackupOptions,
    ) -> Result<Vec<Step<'f>>, BackupError> {
        let old = match manifest::read(self.vfs, self.dir) {
            Ok(Some(read)) if read.store != frozen.store => return Err(foreign(self.dir)),
            Ok(Some(read)) => self.check_state(read.state, frozen)?,
            Ok(None) => {
                check_stray(self.vfs, self.dir, &frozen.store)?;
                sync_dirs_above(self.vfs, self.dir)?;
                State::new()
            }
            // What a backup has brought tells enough without its list.
            Err(OpenError::Corrupt(_)) if options.verify && self.is_earlier(frozen)? => {
                check_stray(self.vfs, self.dir, &frozen.store)?;
                State::new()
            }
            Err(e) => return Err(e.into()),
        };
        let mut steps = Vec::with_capacity(frozen.segments.len());
        for segment in &frozen.segments {
            let action = match self.examine_segment(segment, &old)? {
                Action::Link if options.copy_all => Action::Copy,
                action => action,
            };
            steps.push(Step { frozen: segment, action });
        }
        Ok(steps)
    }

    /// True if there is a list of segments, damaged or not.
    pub(super) fn has_manifest(&self) -> Result<bool, BackupError> {
        Ok(self.open(&self.dir.join(FILE_NAME))?.is_some())
    }

    /// True if some of the segments that are there are the store's, and all of its own making, none
    /// of them longer than it is or with other records than it has: a store that is in use, or a
    /// later backup, has such. Is asked when nothing else can tell.
    fn is_earlier(&self, frozen: &Frozen) -> Result<bool, BackupError> {
        let mut has_one = false;
        for id in self.names()?.iter().filter_map(|name| parse_file_name(name)) {
            if id >= frozen.first_reserved_id() {
                return Ok(false);
            }
            let Some(here) = frozen.segments.iter().find(|segment| segment.id() == id) else {
                continue;
            };
            let Some(found) = self.open(&self.dir.join(file_name(id)))? else { continue };
            let len = self.len_of(&*found, id)?;
            if len > here.len {
                return Ok(false);
            }
            let is_alike = self.starts_alike(&*found, &here.segment, len)?;
            // As far as its frames are whole they tell whose records they are.
            let whole = if is_alike { 0 } else { self.whole_len(&found, id, len)? };
            if !self.starts_alike(&*found, &here.segment, whole)? {
                return Ok(false);
            }
            has_one |= is_alike;
        }
        Ok(has_one)
    }

    fn diverged(&self, what: impl Into<String>) -> BackupError {
        BackupError::Diverged { dir: self.dir.to_owned(), what: what.into() }
    }

    /// A backup is a store that was closed, and holds less than its source.
    pub(super) fn check_state(&self, old: State, frozen: &Frozen) -> Result<State, BackupError> {
        if !old.is_clean {
            return Err(self.diverged("it is in use as a store of its own"));
        }
        if old.watermark > frozen.seqno {
            return Err(self.diverged(format!(
                "it ends at sequence number {}, the store at {}",
                old.watermark, frozen.seqno
            )));
        }
        // Segments are made with growing numbers, and those of a backup start far above.
        let made = frozen.first_reserved_id();
        if let Some(own) = old.segments.last().filter(|s| s.id >= made) {
            return Err(self.diverged(format!("segment {} is its own", own.id)));
        }
        let has = |id| old.segments.binary_search_by_key(&id, |s| s.id).is_ok();
        if !frozen.goes_on_from(old.watermark, has) {
            return Err(self.diverged("its last records are others"));
        }
        Ok(old)
    }

    fn examine_segment(&self, new: &FrozenSegment, old: &State) -> Result<Action, BackupError> {
        let path = self.dir.join(file_name(new.id()));
        let found = self.open(&path)?;
        let listed = old.segments.binary_search_by_key(&new.id(), |s| s.id);
        let listed = listed.ok().and_then(|place| old.segments.get(place));
        let has_same = match (&found, new.seal) {
            (Some(found), Some(seal)) => self.is_same_sealed(&**found, &new.segment, &seal)?,
            _ => false,
        };
        let differs = || self.diverged(format!("segment {} is another one there", new.id()));
        match (listed, new.seal) {
            _ if has_same => Ok(Action::Keep),
            (None, Some(_)) => Ok(Action::Link),
            (None, None) => Ok(Action::Copy),
            (Some(listed), seal) => match (listed.seal, seal) {
                (Some(there), Some(here)) if there == here => {
                    // The same extent: it is another segment, or a damaged one.
                    match found {
                        Some(found) if self.is_whole(&found, new.id(), &here)? => {
                            // Or the one here is not what it was.
                            new.verify()?;
                            Err(differs())
                        }
                        _ => Ok(Action::Link),
                    }
                }
                (Some(_), _) => Err(differs()),
                (None, _) if listed.len > new.len => Err(differs()),
                (None, _) => match &found {
                    Some(found) if !self.starts_alike(&**found, &new.segment, listed.len)? => {
                        match self.has_whole_frames(found, new.id(), listed.len)? {
                            true => Err(differs()),
                            // It tells nothing any more, and the rest of the backup told enough.
                            false => Ok(Action::Copy),
                        }
                    }
                    // Every byte of it has just been compared.
                    Some(found)
                        if seal.is_none()
                            && listed.len == new.len
                            && self.len_of(&**found, new.id())? == new.len =>
                    {
                        Ok(Action::Keep)
                    }
                    _ if planted!(TailLinked) && seal.is_some() => Ok(Action::Link),
                    // Never a link: an open of the earlier backup would cut it.
                    _ => Ok(Action::Copy),
                },
            },
        }
    }

    /// True if the target, a finished backup with the manifest `there`, was made from the store
    /// that `frozen` is of, and not from another copy of it. `place` is the log segment in which
    /// both must be alike, and how far.
    pub(super) fn is_copy_of(
        &self,
        frozen: &Frozen,
        there: &State,
        place: Option<(u64, u64)>,
    ) -> Result<bool, BackupError> {
        for segment in &frozen.segments {
            let listed = there.segments.binary_search_by_key(&segment.id(), |s| s.id).ok();
            let listed = listed.and_then(|place| there.segments.get(place));
            let is_sealed_alike =
                listed.is_some_and(|s| s.seal.is_some() && s.seal == segment.seal);
            let len = place.filter(|(id, _)| *id == segment.id()).map(|(_, len)| len);
            if !is_sealed_alike && len.is_none() {
                continue;
            }
            let Some(found) = self.open(&self.dir.join(file_name(segment.id())))? else {
                return Ok(false);
            };
            let is_alike = match (len, segment.seal) {
                (_, Some(seal)) if is_sealed_alike => {
                    self.is_same_sealed(&*found, &segment.segment, &seal)?
                }
                (Some(len), _) => self.starts_alike(&*found, &segment.segment, len)?,
                (None, _) => true,
            };
            if !is_alike {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True if the file is the sealed segment, by what tells one from another.
    fn is_same_sealed(
        &self,
        found: &dyn File,
        segment: &Segment,
        seal: &Seal,
    ) -> Result<bool, BackupError> {
        let name = file_name(segment.id);
        if self.len_of(found, segment.id)? != seal.file_len {
            return Ok(false);
        }
        for (at, len) in mark_places(seal) {
            let there = self.read(found, &name, at, len)?;
            if there.len() as u64 != len || there != read_segment(segment, at, len)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True if the file has the length that its manifest gives it, and its header, frames and
    /// footer are whole.
    fn is_whole(&self, found: &Arc<dyn File>, id: u64, seal: &Seal) -> Result<bool, BackupError> {
        if self.len_of(&**found, id)? != seal.file_len {
            return Ok(false);
        }
        let name = file_name(id);
        let header = self.read(&**found, &name, 0, SEGMENT_HEADER_LEN)?;
        let footer = seal.file_len.saturating_sub(SEGMENT_FOOTER_LEN);
        let footer = self.read(&**found, &name, footer, SEGMENT_FOOTER_LEN)?;
        let is_marked = SegmentHeader::decode(&header)
            .is_ok_and(|(_, salt)| SegmentFooter::decode(&footer, salt).is_some());
        Ok(is_marked && self.has_whole_frames(found, id, seal.data_end)?)
    }

    /// True if the first `len` bytes of the file are the header of segment `id` and whole frames.
    fn has_whole_frames(
        &self,
        found: &Arc<dyn File>,
        id: u64,
        len: u64,
    ) -> Result<bool, BackupError> {
        Ok(self.whole_len(found, id, len)? == len)
    }

    /// How far the file begins with the header of segment `id` and whole frames, up to `len`; 0 if
    /// with no such header.
    fn whole_len(&self, found: &Arc<dyn File>, id: u64, len: u64) -> Result<u64, BackupError> {
        let name = file_name(id);
        let bytes = self.read(&**found, &name, 0, SEGMENT_HEADER_LEN)?;
        let header = SegmentHeader::decode(&bytes).ok().filter(|(header, _)| header.id == id);
        let Some((header, salt)) = header else { return Ok(0) };
        let segment = Segment::new(&header, 0, salt, self.dir.join(name), Arc::clone(found));
        let mut end = SEGMENT_HEADER_LEN;
        match walk_frames(&segment, len, |_, next| end = next) {
            Ok(()) | Err(BackupError::Damaged(_)) => Ok(end),
            Err(e) => Err(e),
        }
    }

    /// True if the first `len` bytes are those of the segment, as far as they are there.
    pub(super) fn starts_alike(
        &self,
        found: &dyn File,
        segment: &Segment,
        len: u64,
    ) -> Result<bool, BackupError> {
        const STRETCH: u64 = 1 << 20;
        let name = file_name(segment.id);
        let mut at = 0;
        while at < len {
            let part = STRETCH.min(len - at);
            let there = self.read(found, &name, at, part)?;
            let here = read_segment(segment, at, part)?;
            if here.get(..there.len()) != Some(&there) {
                return Ok(false);
            }
            at += part;
        }
        Ok(true)
    }

    /// Removes the segments that the new manifest does not list, and files that were never
    /// finished. Returns how many. A power cut may bring them back: the next backup removes them.
    pub(super) fn remove_leftovers(&self, frozen: &Frozen) -> Result<u64, BackupError> {
        let mut removed = 0;
        for name in self.names()? {
            let segment = name.strip_suffix(TEMP_SUFFIX).unwrap_or(&name);
            let Some(id) = parse_file_name(segment) else { continue };
            let listed = &frozen.state.segments;
            if segment == name && listed.binary_search_by_key(&id, |s| s.id).is_ok() {
                continue;
            }
            let path = self.dir.join(&name);
            self.vfs.remove(&path).map_err(|e| IoError::new("remove", path, e))?;
            removed += 1;
        }
        Ok(removed)
    }

    fn names(&self) -> Result<Vec<String>, BackupError> {
        Ok(self.vfs.list(self.dir).map_err(|e| IoError::new("list", self.dir, e))?)
    }

    pub(super) fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>, BackupError> {
        open(self.vfs, path)
    }

    /// The length of the file of segment `id` in the target.
    pub(super) fn len_of(&self, found: &dyn File, id: u64) -> Result<u64, BackupError> {
        let len = found.len().map_err(|e| IoError::new("stat", self.dir.join(file_name(id)), e));
        Ok(len?)
    }

    /// Reads `len` bytes of a file in the target; fewer at its end.
    fn read(&self, file: &dyn File, name: &str, at: u64, len: u64) -> Result<Vec<u8>, BackupError> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let path = || -> PathBuf { self.dir.join(name) };
        let read =
            read_full_at(file, &mut bytes, at).map_err(|e| IoError::new("read", path(), e))?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

fn foreign(dir: &Path) -> BackupError {
    BackupError::Foreign { dir: dir.to_owned() }
}

/// The file at `path`, if there is one.
fn open(vfs: &dyn Vfs, path: &Path) -> Result<Option<Arc<dyn File>>, BackupError> {
    match vfs.open(path, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(IoError::new("open", path, e).into()),
    }
}

/// What is in a directory without a manifest must be what an interrupted backup of `store` left.
fn check_stray(vfs: &dyn Vfs, dir: &Path, store: &StoreId) -> Result<(), BackupError> {
    let is_unfinished = unfinished::is_marked(vfs, dir)?;
    for name in all_names(vfs, dir)? {
        let is_ours = match &*name {
            LOCK_NAME | TEMP_NAME | FILE_NAME => true,
            // Not removed yet when a backup of a snapshot was begun anew.
            name if is_unfinished && unfinished::is_left(name) => true,
            name => parse_file_name(name.strip_suffix(TEMP_SUFFIX).unwrap_or(name)).is_some(),
        };
        if !is_ours && !is_of_the_system(&name) {
            return Err(BackupError::NotEmpty { dir: dir.to_owned(), name });
        }
        if parse_file_name(&name).is_none() {
            continue;
        }
        let path = dir.join(&name);
        let Some(file) = open(vfs, &path)? else { continue };
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        let read = read_full_at(&*file, &mut bytes, 0);
        let read = read.map_err(|e| IoError::new("read", &path, e))?;
        if let Ok((header, _)) = SegmentHeader::decode(bytes.get(..read).unwrap_or(&[]))
            && header.store != *store
        {
            return Err(foreign(dir));
        }
    }
    Ok(())
}

/// All names in `dir`; none if it is not there.
fn all_names(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<String>, BackupError> {
    let listed = vfs.list(dir).and_then(|mut names| {
        names.extend(vfs.list_others(dir)?);
        Ok(names)
    });
    match listed {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => Ok(listed.map_err(|e| IoError::new("list", dir, e))?),
    }
}

/// True for what file systems and file managers put into directories that nobody has used.
fn is_of_the_system(name: &str) -> bool {
    matches!(name, "lost+found" | ".DS_Store" | "Thumbs.db" | "desktop.ini")
        || name.starts_with("._")
}

/// Reads `len` bytes of a segment of the source; fewer at the end of its file.
fn read_segment(segment: &Segment, at: u64, len: u64) -> Result<Vec<u8>, BackupError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = segment.read_at(&mut bytes, at)?;
    bytes.truncate(read);
    Ok(bytes)
}
