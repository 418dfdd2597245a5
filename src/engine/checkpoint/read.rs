//! Finds a checkpoint and judges it against the manifest, before anything is loaded.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::super::core::Core;
use super::super::error::OpenError;
use super::super::recovery::{Case, RecoveryReport};
use super::super::replay::Source;
use crate::format::checkpoint::{
    Block, CHECKPOINT_HEADER_LEN, FILE_NAME, Header, Meta, SavedSegment,
};
use crate::format::checksum;
use crate::format::manifest::SegmentState;
use crate::format::segment::SEGMENT_HEADER_LEN;
use crate::index::Location;
use crate::limits::SEGMENTS_MAX;
use crate::vfs::{File, OpenMode, read_full_at};

/// Why an open does not go on from a checkpoint.
pub(in crate::engine) enum Stop {
    /// It is damaged: the open starts again without it.
    Damaged(String),
    /// It is whole, but not of this store as it is: the open starts again without it.
    Stale(String),
    /// The open fails with it or without it.
    Failed(OpenError),
}

impl From<OpenError> for Stop {
    fn from(e: OpenError) -> Self {
        match e {
            // If it is the log that is damaged, the open without the checkpoint will find that.
            OpenError::Corrupt(c) => Stop::Stale(c.to_string()),
            e => Stop::Failed(e),
        }
    }
}

impl From<&str> for Stop {
    fn from(what: &str) -> Self {
        Stop::Damaged(what.to_owned())
    }
}

/// A checkpoint that an open goes on from.
pub(in crate::engine) struct Base {
    pub(super) file: Arc<dyn File>,
    pub(in crate::engine) len: u64,
    pub(super) salt: u32,
    pub(super) meta: Meta,
    /// It holds the state of all records below this sequence number.
    pub(in crate::engine) seqno: u64,
    slots: Vec<Slot>,
    /// Some of its segments have left the store.
    pub(super) has_gone: bool,
}

/// What stands in a slot of the checkpoint's locations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Empty,
    /// A segment that has left the store.
    Gone,
    /// A segment with records up to this offset.
    Upto(u64),
}

impl Base {
    /// The checkpoint with this header, its tables not looked at yet.
    fn read_meta(file: Arc<dyn File>, len: u64, header: &Header) -> Result<Self, Stop> {
        let salt = header.identity.salt();
        let meta_len = usize::try_from(header.meta_len).map_err(|_| "it is too long")?;
        let mut bytes = Vec::new();
        read(&*file, header.meta_offset, meta_len, &mut bytes)?;
        if checksum::at(salt, header.meta_offset, &bytes) != header.meta_checksum
            && !planted!(CheckpointChecksumIgnored)
        {
            return Err("the checksum of its meta data does not match".into());
        }
        let meta = Meta::decode(&bytes, header).ok_or("its meta data cannot be read")?;
        let seqno = header.identity.seqno;
        Ok(Base { file, len, salt, meta, seqno, slots: Vec::new(), has_gone: false })
    }

    /// What stands in the slot that `location` names.
    pub(super) fn slot(&self, location: Location) -> Slot {
        self.slots.get(location.slot()).copied().unwrap_or(Slot::Empty)
    }

    /// True if `location` lies in a segment that has left the store.
    pub(in crate::engine) fn is_gone(&self, location: Location) -> bool {
        self.slot(location) == Slot::Gone
    }

    /// The checkpoint's facts about segment `id`.
    pub(in crate::engine) fn segment(&self, id: u64) -> Option<&SavedSegment> {
        let at = self.meta.segments.binary_search_by_key(&id, |s| s.id).ok()?;
        self.meta.segments.get(at)
    }

    /// True if every record of segment `id` is in the checkpoint.
    pub(in crate::engine) fn is_covered(&self, id: u64) -> bool {
        self.segment(id).is_some_and(|s| s.seal.is_some())
    }

    /// How many slots its locations name.
    pub(in crate::engine) fn slot_count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(0)
    }

    /// Bytes of the log that are not in it.
    pub(in crate::engine) fn replayed(&self, sources: &[Source]) -> u64 {
        let replayed = |(segment, _): &Source| {
            let saved = self.segment(segment.id).map_or(SEGMENT_HEADER_LEN, |saved| saved.end);
            segment.end().saturating_sub(saved)
        };
        sources.iter().map(replayed).sum()
    }

    /// The bytes of a block.
    pub(super) fn read(&self, block: &Block, buf: &mut Vec<u8>) -> Result<(), Stop> {
        let len = usize::try_from(block.len()).map_err(|_| "a block is too long")?;
        read(&*self.file, block.offset, len, buf)?;
        if checksum::at(self.salt, block.offset, buf) != block.checksum
            && !planted!(CheckpointChecksumIgnored)
        {
            return Err("the checksum of a block does not match".into());
        }
        Ok(())
    }
}

/// Reads `len` bytes, which the caller knows to be in the file.
fn read(file: &dyn File, offset: u64, len: usize, buf: &mut Vec<u8>) -> Result<(), Stop> {
    buf.resize(len, 0);
    match read_full_at(file, buf, offset) {
        Ok(read) if read == len => Ok(()),
        Ok(_) => Err("the file ends early".into()),
        Err(e) => Err(Stop::Damaged(format!("it cannot be read: {e}"))),
    }
}

/// What is known of the manifest.
pub(in crate::engine) struct ManifestView<'a> {
    pub(in crate::engine) segments: &'a [SegmentState],
    pub(in crate::engine) epoch: u32,
    /// The next segment's id.
    pub(in crate::engine) next_segment: u64,
}

impl Core {
    /// The checkpoint of the store, if there is one that agrees with the manifest.
    pub(in crate::engine) fn find_checkpoint(
        &self,
        manifest: &ManifestView<'_>,
    ) -> Result<Option<Base>, Stop> {
        let Some((file, len, header)) = self.open_checkpoint()? else { return Ok(None) };
        let identity = header.identity;
        let is_newer =
            identity.epoch == manifest.epoch && identity.next_segment > manifest.next_segment;
        if identity.store != self.store_id {
            return Err(Stop::Stale("it is of another store".to_owned()));
        }
        if identity.epoch > manifest.epoch || is_newer {
            return Err(Stop::Stale("it is newer than the manifest".to_owned()));
        }
        let mut base = Base::read_meta(file, len, &header)?;
        base.judge(manifest.segments)?;
        Ok(Some(base))
    }

    /// The checkpoint's file, its length and its header, if there is one.
    fn open_checkpoint(&self) -> Result<Option<(Arc<dyn File>, u64, Header)>, Stop> {
        let path = self.dir.join(FILE_NAME);
        let file = match self.options.vfs.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Stop::Damaged(format!("it cannot be opened: {e}"))),
        };
        let len = file.len().map_err(|e| Stop::Damaged(format!("it cannot be read: {e}")))?;
        let mut bytes = Vec::new();
        read(&*file, 0, CHECKPOINT_HEADER_LEN.min(usize::try_from(len).unwrap_or(0)), &mut bytes)?;
        let header = Header::decode(&bytes, len)?;
        Ok(Some((file, len, header)))
    }

    /// Verifies every byte of the checkpoint, if there is one, whatever the store has become since;
    /// calls `advance` with the length of each piece that was read. What is wrong comes with its
    /// offset.
    pub(in crate::engine) fn verify_checkpoint<E>(
        &self,
        mut advance: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Option<(u64, String)>, E> {
        // No other way to stop comes up: nothing is compared with the log.
        let wrong = |offset, stop| match stop {
            Stop::Damaged(what) | Stop::Stale(what) => Ok(Some((offset, what))),
            Stop::Failed(e) => Ok(Some((offset, e.to_string()))),
        };
        let (file, len, header) = match self.open_checkpoint() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(stop) => return wrong(0, stop),
        };
        let base = match Base::read_meta(file, len, &header) {
            Ok(base) => base,
            Err(stop) => return wrong(header.meta_offset, stop),
        };
        advance(len.saturating_sub(base.meta.blocks().map(Block::len).sum()))?;
        let mut buf = Vec::new();
        for block in base.meta.blocks() {
            if let Err(stop) = base.read(block, &mut buf) {
                return wrong(block.offset, stop);
            }
            advance(block.len())?;
        }
        Ok(None)
    }
}

impl Base {
    /// Compares its segments with those that are listed.
    fn judge(&mut self, listed: &[SegmentState]) -> Result<(), Stop> {
        let listed: std::collections::HashMap<u64, &SegmentState> =
            listed.iter().map(|s| (s.id, s)).collect();
        let mut last = 0;
        let mut taken = HashSet::new();
        for saved in &self.meta.segments {
            if saved.id <= last || !taken.insert(saved.slot) || saved.slot as usize > SEGMENTS_MAX {
                return Err("its segments contradict each other".into());
            }
            last = saved.id;
            let slot = match listed.get(&saved.id) {
                None => Slot::Gone,
                Some(_) => Slot::Upto(saved.end),
            };
            self.has_gone |= slot == Slot::Gone;
            if let (Some(seal), Some(state)) = (saved.seal, listed.get(&saved.id)) {
                if state.seal != Some(seal) || saved.end != seal.data_end {
                    let id = saved.id;
                    return Err(Stop::Stale(format!("segment {id} has another extent")));
                }
                if seal.next > self.seqno {
                    return Err("a segment reaches behind it".into());
                }
            }
            let at = saved.slot as usize;
            if self.slots.len() <= at {
                self.slots.resize(at + 1, Slot::Empty);
            }
            if let Some(place) = self.slots.get_mut(at) {
                *place = slot;
            }
        }
        Ok(())
    }
}

impl RecoveryReport {
    /// Notes that the checkpoint in `dir` does not count.
    pub(in crate::engine) fn ignore_checkpoint(&mut self, dir: &Path, case: Case, what: &str) {
        let what = format!("{what}; the index was built from the log");
        self.note(case, &dir.join(FILE_NAME), 0, what);
    }
}
