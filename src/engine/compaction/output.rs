//! Writes compacted segments: records in the order of their sequence numbers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::core::Core;
use super::super::error::WriteError;
use super::super::segments::Segment;
use crate::format::checksum;
use crate::format::hint::{HINT_LEN, Hint};
use crate::format::manifest::{Seal, SegmentState};
use crate::format::record::{self, FRAME_HEADER_LEN, FrameHeader, FrameKind, RecordsChecksum};
use crate::format::segment::{
    SEGMENT_HEADER_LEN, SegmentFooter, SegmentHeader, SegmentKind, file_name,
};
use crate::vfs::{File, IoError, OpenMode, write_all_at};

/// Bytes of records after which a frame is written out.
const FRAME_LEN: usize = 256 << 10;

/// A segment that is being written.
pub(super) struct Output {
    header: SegmentHeader,
    salt: u32,
    pub(super) path: PathBuf,
    file: Arc<dyn File>,
    /// Where the next frame goes.
    offset: u64,
    /// The frame that is gathered: room for its header, then records.
    frame: Vec<u8>,
    /// Sequence number of the frame's first record, and how many it holds.
    base: u64,
    count: u32,
    checksum: RecordsChecksum,
    pub(super) hints: Vec<Hint>,
}

/// A segment that is whole and durable, but in no manifest yet.
pub(super) struct Finished {
    header: SegmentHeader,
    salt: u32,
    path: PathBuf,
    file: Arc<dyn File>,
    seal: Seal,
    pub(super) hints: Vec<Hint>,
}

/// A segment of the open store, and the hints of its records.
pub(super) type Opened = (Arc<Segment>, Vec<Hint>);

fn failed(op: &'static str, path: &std::path::Path, e: std::io::Error) -> WriteError {
    WriteError::from_append(IoError::new(op, path, e))
}

impl Output {
    /// Creates the file. Nothing lists it: if anything fails it is removed, now or at the next
    /// open.
    pub(super) fn create(core: &Core, generation: u32) -> Result<Self, WriteError> {
        let id = core.manifest.lock().take_id();
        let path = core.dir.join(file_name(id));
        let kind = SegmentKind::Compacted;
        let header =
            SegmentHeader { store: core.store_id, id, epoch: core.epoch, kind, generation };
        let (bytes, salt) = header.encode();
        let vfs = &core.options.vfs;
        let file = match vfs.open(&path, OpenMode::CreateNew) {
            // In no manifest: what an earlier failure could not remove.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                vfs.remove(&path).map_err(|e| failed("remove", &path, e))?;
                vfs.open(&path, OpenMode::CreateNew)
            }
            opened => opened,
        };
        let file = file.map_err(|e| failed("create", &path, e))?;
        let output = Output {
            header,
            salt,
            path,
            file,
            offset: SEGMENT_HEADER_LEN,
            frame: vec![0; FRAME_HEADER_LEN],
            base: 0,
            count: 0,
            checksum: RecordsChecksum::new(salt),
            hints: Vec::new(),
        };
        if let Err(e) = write_all_at(&*output.file, &bytes, 0) {
            let e = failed("write", &output.path, e);
            output.discard(core);
            return Err(e);
        }
        Ok(output)
    }

    /// Bytes that the segment's log has so far.
    pub(super) fn len(&self) -> u64 {
        self.offset + self.frame.len() as u64
    }

    /// Bytes that are gathered and not yet written out.
    pub(super) fn pending(&self) -> u64 {
        self.frame.len() as u64
    }

    /// Adds a record, given with its header. `hint` says where it stood; the hint kept says where
    /// it stands now. Returns how many bytes were written out.
    pub(super) fn push(
        &mut self,
        core: &Core,
        bytes: &[u8],
        hint: &Hint,
    ) -> Result<u64, WriteError> {
        let renumbered = Hint { seqno: hint.seqno.saturating_add(3), ..*hint };
        let hint = if planted!(CompactionRenumbers) { &renumbered } else { hint };
        // A record's number in its frame is the distance to the first one.
        let is_far = u32::try_from(hint.seqno.saturating_sub(self.base)).is_err();
        let mut written = 0;
        if self.count > 0 && (is_far || self.frame.len() + bytes.len() > FRAME_LEN) {
            written = self.write_frame(core)?;
        }
        if self.count == 0 {
            self.base = hint.seqno;
        }
        let offset = self.offset + self.frame.len() as u64;
        let start = self.frame.len();
        self.frame.extend_from_slice(bytes);
        let index = u32::try_from(hint.seqno - self.base).unwrap_or(u32::MAX);
        let placed = self.frame.get_mut(start..).unwrap_or(&mut []);
        record::stamp_record(placed, self.salt, hint.collection, index);
        self.checksum.add(placed);
        self.count += 1;
        self.hints.push(Hint { offset, len: bytes.len() as u64, ..*hint });
        Ok(written)
    }

    /// Writes `bytes`, with the help of the reserve if the device is full.
    fn write(&self, core: &Core, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        core.with_reserve(|| {
            write_all_at(&*self.file, bytes, offset).map_err(|e| failed("write", &self.path, e))
        })
    }

    fn write_frame(&mut self, core: &Core) -> Result<u64, WriteError> {
        let checksum = self.checksum.clone();
        let header = FrameHeader {
            kind: FrameKind::Batch,
            first: true,
            last: true,
            len: (self.frame.len() - FRAME_HEADER_LEN) as u64,
            count: self.count,
            records_checksum: checksum.finish(),
            epoch: core.epoch,
            base: self.base,
            watermark: core.watermark(),
        };
        let bytes = header.encode(self.salt, self.offset);
        if let Some(place) = self.frame.get_mut(..FRAME_HEADER_LEN) {
            place.copy_from_slice(&bytes);
        }
        let written = self.frame.len() as u64;
        self.write(core, &self.frame, self.offset)?;
        self.checksum = RecordsChecksum::new(self.salt);
        self.offset += written;
        self.frame.truncate(FRAME_HEADER_LEN);
        self.count = 0;
        Ok(written)
    }

    /// Ends the segment and makes it durable.
    pub(super) fn finish(mut self, core: &Core) -> Result<Finished, WriteError> {
        if self.count > 0 {
            self.write_frame(core)?;
        }
        let first = self.hints.first().map_or(0, |h| h.seqno);
        let next = self.hints.last().map_or(0, |h| h.seqno + 1);
        let end = FrameHeader {
            kind: FrameKind::End,
            first: true,
            last: true,
            len: 0,
            count: 0,
            records_checksum: 0,
            epoch: core.epoch,
            base: next,
            watermark: core.watermark(),
        };
        let mut bytes = end.encode(self.salt, self.offset).to_vec();
        let data_end = self.offset + bytes.len() as u64;
        let hints_start = bytes.len();
        for hint in &self.hints {
            hint.encode(&mut bytes);
        }
        let hints = bytes.get(hints_start..).unwrap_or(&[]);
        let footer = SegmentFooter {
            id: self.header.id,
            data_end,
            hints: (hints.len() / HINT_LEN) as u64,
            first,
            next,
            hints_checksum: checksum::salted(self.salt, hints),
        };
        bytes.extend_from_slice(&footer.encode(self.salt));
        let file_len = data_end + (bytes.len() - hints_start) as u64;
        self.write(core, &bytes, self.offset)?;
        if !planted!(CompactedNotSynced) {
            let synced = self.file.sync_all().map_err(|e| failed("sync", &self.path, e));
            synced
                .or_else(|e| if planted!(CompactedSyncErrorIgnored) { Ok(()) } else { Err(e) })?;
        }
        let seal = Seal { data_end, file_len, first, next };
        let Output { header, salt, path, file, hints, .. } = self;
        Ok(Finished { header, salt, path, file, seal, hints })
    }

    /// Removes the file of an output that is given up.
    pub(super) fn discard(self, core: &Core) {
        // If it stays, the next open removes it.
        let _ = core.options.vfs.remove(&self.path);
    }
}

impl Finished {
    /// Bytes of its header, frames and records.
    pub(super) fn len(&self) -> u64 {
        self.seal.data_end
    }

    /// What the manifest is to say about it.
    pub(super) fn state(&self) -> SegmentState {
        SegmentState { id: self.header.id, len: self.seal.file_len, seal: Some(self.seal) }
    }

    /// Removes the file of an output that is given up.
    pub(super) fn discard(&self, core: &Core) {
        let _ = core.options.vfs.remove(&self.path);
    }

    /// Makes it a segment of the open store; `None` if that holds too many. Requires: it is listed
    /// in the manifest.
    pub(super) fn install(self, core: &Core) -> Option<Opened> {
        let Finished { header, salt, path, file, seal, hints } = self;
        let segment = core.segments.add(|slot| {
            let segment = Segment::new(&header, slot, salt, path, file);
            segment.end.store(seal.data_end, Ordering::Release);
            segment.first.store(seal.first, Ordering::Release);
            segment.next.store(seal.next, Ordering::Release);
            hints.iter().for_each(|hint| segment.written.count(hint));
            let map = core.map(&segment, seal.file_len);
            segment.set_sealed(seal, map);
            segment
        })?;
        Some((segment, hints))
    }
}
