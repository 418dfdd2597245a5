//! The store at one moment, for a backup.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::BackupError;
use crate::engine::core::{Core, Log};
use crate::engine::error::WriteError;
use crate::engine::manifest::ManifestFile;
use crate::engine::recovery::{Case, read_hints, refuse};
use crate::engine::segments::Segment;
use crate::engine::tail::Window;
use crate::format::manifest::{FILE_NAME, Seal, State};
use crate::format::record::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use crate::format::scan::{Step, frame_at};
use crate::format::segment::{
    SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, StoreId,
};

/// How many numbers of segments a backup leaves to its source. The source gives them out after the
/// backup was made, and a later backup that is interrupted leaves files with these numbers, which
/// an open of the earlier one must know to be dead. A backup that is written to as a store of its
/// own starts behind them, so that its segments are never taken for those of the source.
const RESERVED_IDS: u64 = 1 << 32;

/// How many opens a backup leaves to its source, for the same reason: what the two write to the
/// segment that they share differs in its epoch.
const RESERVED_EPOCHS: u32 = 1 << 16;

/// A segment's number has 16 digits in its file name.
const ID_MAX: u64 = 9_999_999_999_999_999;

/// What a backup holds. While it lives, none of its segments is removed.
pub(crate) struct Frozen {
    pub(crate) store: StoreId,
    /// The manifest of the backup.
    pub(crate) state: State,
    pub(crate) segments: Vec<FrozenSegment>,
    /// The backup holds every record with a smaller sequence number.
    pub(crate) seqno: u64,
}

/// One segment of a backup.
pub(crate) struct FrozenSegment {
    pub(in crate::engine) segment: Arc<Segment>,
    /// Bytes of the file that belong to the backup.
    pub(crate) len: u64,
    /// Its extent, if it was sealed.
    pub(crate) seal: Option<Seal>,
}

/// Where, and how long, the bytes are that tell a sealed segment from every other: its header has
/// store, number and open, its end frame the open that ended it, its footer the checksum of its
/// hints.
pub(super) fn mark_places(seal: &Seal) -> [(u64, u64); 3] {
    let end_frame = seal.data_end.saturating_sub(FRAME_HEADER_LEN as u64);
    let footer = seal.file_len.saturating_sub(SEGMENT_FOOTER_LEN);
    [(0, SEGMENT_HEADER_LEN), (end_frame, FRAME_HEADER_LEN as u64), (footer, SEGMENT_FOOTER_LEN)]
}

impl FrozenSegment {
    /// Its number.
    pub(crate) fn id(&self) -> u64 {
        self.segment.id
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is shorter than it was.
    #[cfg(feature = "object-store")]
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BackupError> {
        let read = self.segment.read_at(buf, offset)?;
        if read < buf.len() {
            let what = format!("the file ends here, expected {} bytes", self.len);
            return Err(BackupError::Damaged(self.segment.corruption(offset + read as u64, what)));
        }
        Ok(())
    }

    /// Reads all of it as it stands here, and verifies it.
    ///
    /// # Errors
    ///
    /// [`BackupError::Damaged`], and that the file cannot be read.
    pub(crate) fn verify(&self) -> Result<(), BackupError> {
        let Self { segment, len, seal } = self;
        let mut header = [0; SEGMENT_HEADER_LEN as usize];
        segment.read_at(&mut header, 0)?;
        if !SegmentHeader::decode(&header).is_ok_and(|(_, salt)| salt == segment.salt) {
            return Err(BackupError::Damaged(segment.corruption(0, "segment header is damaged")));
        }
        walk_frames(segment, seal.map_or(*len, |seal| seal.data_end), |_, _| {})?;
        let Some(seal) = seal else { return Ok(()) };
        match read_hints(segment, seal)? {
            Ok(_) => Ok(()),
            Err(what) => Err(BackupError::Damaged(segment.corruption(seal.data_end, what))),
        }
    }

    /// The bytes that tell a sealed segment from every other: see [`mark_places`].
    #[cfg(feature = "object-store")]
    pub(crate) fn marks(&self) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(seal) = self.seal else { return Ok(None) };
        let mut marks = self.len.to_le_bytes().to_vec();
        for (at, len) in mark_places(&seal) {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            self.read_at(&mut bytes, at)?;
            marks.extend_from_slice(&bytes);
        }
        Ok(Some(marks))
    }
}

/// Calls `each` with the frames of the first `len` bytes and with where they end. Fails at the
/// first one that is not whole.
pub(super) fn walk_frames(
    segment: &Segment,
    len: u64,
    mut each: impl FnMut(&FrameHeader, u64),
) -> Result<(), BackupError> {
    let damaged = |at, what| Err(BackupError::Damaged(segment.corruption(at, what)));
    let mut window = Window::up_to(segment, len);
    let mut offset = SEGMENT_HEADER_LEN;
    let mut want = FRAME_HEADER_LEN as u64;
    while offset < len {
        match frame_at(window.at(offset, want)?, segment.salt, offset) {
            Step::Frame(frame) => {
                want = FRAME_HEADER_LEN as u64;
                offset += frame.len();
                each(&frame.header, offset);
            }
            Step::More(more) if more > want && offset + more <= len => want = more,
            Step::More(_) => return damaged(offset, "frame reaches behind the end of the log"),
            Step::Bad(at, what) => return damaged(offset + at, what),
        }
    }
    Ok(())
}

impl Core {
    /// Notes what the store holds now, makes it durable, and verifies the tail of the log.
    pub(crate) fn freeze(&self) -> Result<Frozen, BackupError> {
        let mut frozen = self.note_segments()?;
        self.sync_noted(&frozen)?;
        frozen.end_with_whole_batch()?;
        frozen.into_backup(self)
    }

    /// The list of segments and the end of the log, at one moment.
    fn note_segments(&self) -> Result<Frozen, BackupError> {
        // Writers wait for the log lock, and the manifest's is held while an edit is synced: better
        // to come back than to make them wait for that.
        const TRIES: usize = 32;
        for _ in 0..TRIES {
            let log = self.log.lock();
            if let Some(manifest) = self.manifest.try_lock() {
                return self.note_locked(&log, &manifest);
            }
            drop(log);
            drop(self.manifest.lock());
        }
        let log = self.log.lock();
        self.note_locked(&log, &self.manifest.lock())
    }

    fn note_locked(&self, log: &Log, manifest: &ManifestFile) -> Result<Frozen, BackupError> {
        let state = manifest.state.clone();
        let mut all = self.segments.all();
        all.sort_unstable_by_key(|s| s.id);
        let mut segments = Vec::with_capacity(state.segments.len());
        for listed in &state.segments {
            let Ok(place) = all.binary_search_by_key(&listed.id, |s| s.id) else {
                // A reader leaves out what lies behind the end of the log.
                if listed.seal.is_none() && self.options.read_only {
                    continue;
                }
                let what = format!("segment {} is listed, and not open", listed.id);
                return Err(refuse(Case::Inconsistent, &self.dir, 0, what).into());
            };
            let Some(segment) = all.get(place).cloned() else { continue };
            let len = listed.seal.map_or_else(|| segment.end(), |seal| seal.file_len);
            segments.push(FrozenSegment { segment, len, seal: listed.seal });
        }
        // Prepared, and not written to yet.
        segments.retain(|s| s.seal.is_some() || s.len > SEGMENT_HEADER_LEN);
        Ok(Frozen { store: self.store_id, state, segments, seqno: log.next_seqno })
    }

    /// Makes durable in the source what the backup will hold: a backup that is ahead of what a
    /// power cut leaves of its source would be no earlier state of it.
    fn sync_noted(&self, frozen: &Frozen) -> Result<(), BackupError> {
        if !self.options.read_only {
            return match self.sync_upto(frozen.seqno) {
                // A store with a failing disk is to be backed up all the more. What can be read of
                // the tail is verified.
                Ok(()) | Err(WriteError::Poisoned(_)) => Ok(()),
                Err(e) => Err(BackupError::Io(crate::vfs::IoError::new(
                    "sync",
                    &self.dir,
                    std::io::Error::other(e.to_string()),
                ))),
            };
        }
        for tail in frozen.segments.iter().filter(|s| s.seal.is_none()) {
            match tail.segment.sync() {
                // Some systems sync only what is open for writing.
                Err(e) if e.source.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(())
    }
}

impl Frozen {
    /// The first of the numbers that this backup leaves to its source.
    pub(crate) fn first_reserved_id(&self) -> u64 {
        self.state.next_segment.saturating_sub(RESERVED_IDS)
    }

    /// False if a backup that ends at `seqno`, with the segments that `has` says, is no earlier
    /// state of this one: the log segment with its last record must be among them. (Compaction may
    /// have taken that segment away: then nothing speaks against it.)
    pub(crate) fn goes_on_from(&self, seqno: u64, has: impl Fn(u64) -> bool) -> bool {
        self.log_segment_with(seqno.saturating_sub(1)).is_none_or(|s| has(s.id()))
    }

    /// The log segment that the record `seqno` was written to, if compaction has left it.
    pub(super) fn log_segment_with(&self, seqno: u64) -> Option<&FrozenSegment> {
        self.segments.iter().find(|s| {
            let first = s.segment.first.load(Ordering::Acquire);
            let next = s.segment.next.load(Ordering::Acquire);
            // One without records has no first one.
            s.segment.kind == SegmentKind::Log && first > 0 && (first..next).contains(&seqno)
        })
    }

    /// The file that makes a store of the segments.
    #[cfg(feature = "object-store")]
    pub(crate) fn encode_manifest(&self) -> Result<Vec<u8>, BackupError> {
        use crate::engine::error::OpenError;
        use crate::format::manifest::{encode_edit, encode_header};
        let (header, salt) = encode_header(&self.store);
        let mut bytes = header.to_vec();
        for edit in self.state.edits() {
            let offset = bytes.len() as u64;
            encode_edit(&mut bytes, salt, offset, &edit).map_err(OpenError::InvalidOption)?;
        }
        Ok(bytes)
    }

    /// Verifies the frames of the tail, and leaves out those of a batch whose last frame is not
    /// there: it was given up, or its writer is just writing it.
    fn end_with_whole_batch(&mut self) -> Result<(), BackupError> {
        // Where the last whole batch ends: in which unsealed segment, and at which byte of it.
        let mut end = (None, 0, self.state.sealed_next);
        let mut is_in_batch = false;
        for frozen in self.segments.iter().filter(|s| s.seal.is_none()) {
            walk_frames(&frozen.segment, frozen.len, |frame, frame_end| {
                let next = frame.base + u64::from(frame.count);
                if frame.kind == FrameKind::Batch {
                    is_in_batch = !frame.last;
                }
                if !is_in_batch {
                    end = (Some(frozen.id()), frame_end, next);
                }
            })?;
        }
        let (last, len, seqno) = end;
        self.segments.retain_mut(|s| {
            if Some(s.id()) == last {
                s.len = len;
            }
            s.seal.is_some() || Some(s.id()) <= last
        });
        self.seqno = seqno;
        Ok(())
    }

    /// Turns what was noted into the manifest of a backup: a store that was closed in order, and
    /// whose next open is one that the source will never have had.
    fn into_backup(mut self, core: &Core) -> Result<Frozen, BackupError> {
        let state = &mut self.state;
        state.is_clean = true;
        state.watermark = self.seqno;
        let epoch = state.epoch.checked_add(RESERVED_EPOCHS).filter(|e| *e < u32::MAX);
        let next = state.next_segment.checked_add(RESERVED_IDS).filter(|id| *id < ID_MAX);
        let (Some(epoch), Some(next)) = (epoch, next) else {
            let what = "the numbers of opens or segments are used up";
            let path = core.dir.join(FILE_NAME);
            return Err(refuse(Case::Inconsistent, &path, 0, what).into());
        };
        (state.epoch, state.next_segment) = (epoch, next);
        let lens: HashMap<u64, u64> = self.segments.iter().map(|s| (s.id(), s.len)).collect();
        state.segments.retain_mut(|listed| {
            let len = lens.get(&listed.id);
            listed.len = len.copied().unwrap_or_default();
            len.is_some()
        });
        Ok(self)
    }
}
