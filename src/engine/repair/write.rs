//! Carries out a [`Plan`].
//!
//! # What a power cut leaves behind
//!
//! - Before the copies and the report are durable: the store as it was. A second repair begins
//!   anew, over the same names.
//! - Before the new manifest is durable: the store as it was, and new segments that no manifest
//!   lists. An open ignores them, since they are compacted ones; a second repair knows them
//!   by the name of the report and removes them.
//! - In the swap of the manifest: the old one or the new one, whole.
//! - Before the old files are removed: the repaired store. The next open removes what is not
//!   listed, a second repair finds nothing to do and names the report of the first.
//!
//! Nothing of the old store is removed before the new manifest is durable, and by then the damaged
//! files and the report are in the quarantine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::manifest::ManifestFile;
use super::plan::{Plan, Rewrite};
use super::report::{RepairError, RepairReport};
use super::survey::read_file;
use super::{QUARANTINE, report_name};
use crate::format::hint::{HINT_LEN, Hint};
use crate::format::manifest::{Seal, SegmentState};
use crate::format::record::{
    self, FRAME_HEADER_LEN, FrameHeader, FrameKind, Kind, RECORD_HEADER_LEN, RecordHeader,
    RecordsChecksum,
};
use crate::format::segment::{
    SEGMENT_HEADER_LEN, SegmentFooter, SegmentHeader, SegmentKind, file_name,
};
use crate::format::value::Flags;
use crate::format::{checkpoint, checksum};
use crate::vfs::{File, OpenMode, Vfs, write_all_at};

/// Bytes of records in a frame, at most, unless one record has more.
const FRAME_LEN_MAX: usize = 1 << 20;

/// Repairs the store in `dir` as `plan` says.
pub(super) fn carry_out(
    vfs: &dyn Vfs,
    dir: &Path,
    mut plan: Plan,
) -> Result<RepairReport, RepairError> {
    for path in &plan.leftovers {
        remove(vfs, path)?;
    }
    vfs.sync_dir(dir).map_err(RepairError::io("sync directory", dir))?;
    let ids = plan.rewrites.len() as u64 + u64::from(!plan.creates.is_empty());
    let next_id = plan.first_id.saturating_add(ids.max(1));
    if planted!(RepairRemovesFirst) {
        for path in &plan.remove {
            remove(vfs, path)?;
        }
    }
    quarantine(vfs, dir, &mut plan, next_id)?;
    // It speaks of the store as it was; an open builds the index without it.
    remove(vfs, &dir.join(checkpoint::FILE_NAME))?;
    vfs.sync_dir(dir).map_err(RepairError::io("sync directory", dir))?;
    let mut id = plan.first_id;
    for rewrite in std::mem::take(&mut plan.rewrites) {
        id = rewrite.id + 1;
        let mut source = read_file(vfs, &rewrite.source)?.unwrap_or_default();
        rewrite.mends.iter().for_each(|mend| mend.apply(&mut source));
        let record = |hint: &Hint| {
            let at = usize::try_from(hint.offset).unwrap_or(usize::MAX);
            source.get(at..).unwrap_or(&[])
        };
        write_segment(vfs, dir, &mut plan, &rewrite, record)?;
    }
    write_creates(vfs, dir, &mut plan, id)?;
    if ids > 0 {
        vfs.sync_dir(dir).map_err(RepairError::io("sync directory", dir))?;
    }
    plan.state.next_segment = next_id;
    plan.state.segments.sort_unstable_by_key(|s| s.id);
    ManifestFile::create(vfs, dir, &plan.store, plan.state)?;
    for path in &plan.remove {
        remove(vfs, path)?;
    }
    vfs.sync_dir(dir).map_err(RepairError::io("sync directory", dir))?;
    Ok(plan.report)
}

fn remove(vfs: &dyn Vfs, path: &Path) -> Result<(), RepairError> {
    match vfs.remove(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(RepairError::io("remove", path)(e))
        }
        _ => Ok(()),
    }
}

/// Creates the file `path`, in place of what an earlier repair may have left there.
fn create(vfs: &dyn Vfs, path: &Path) -> Result<Arc<dyn File>, RepairError> {
    remove(vfs, path)?;
    vfs.open(path, OpenMode::CreateNew).map_err(RepairError::io("create", path))
}

/// Copies the damaged files and puts down the report.
fn quarantine(vfs: &dyn Vfs, dir: &Path, plan: &mut Plan, next_id: u64) -> Result<(), RepairError> {
    let to = dir.join(QUARANTINE);
    vfs.create_dir_all(&to).map_err(RepairError::io("create directory", &to))?;
    vfs.sync_dir(dir).map_err(RepairError::io("sync directory", dir))?;
    let mut copies = Vec::new();
    for path in &plan.quarantine {
        let Some(bytes) = read_file(vfs, path)? else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let copy = to.join(format!("{:016}.{name}", plan.first_id));
        write_file(vfs, &copy, &bytes)?;
        copies.push(copy);
    }
    plan.report.quarantined = copies;
    let new = plan.rewrites.iter().map(|rewrite| rewrite.id);
    let extra = (!plan.creates.is_empty()).then(|| plan.first_id + plan.rewrites.len() as u64);
    plan.report.written = new.chain(extra).map(|id| dir.join(file_name(id))).collect();
    let path: PathBuf = to.join(report_name(plan.first_id, next_id));
    write_file(vfs, &path, plan.report.to_string().as_bytes())?;
    plan.report.report_file = Some(path);
    vfs.sync_dir(&to).map_err(RepairError::io("sync directory", &to))
}

fn write_file(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), RepairError> {
    let file = create(vfs, path)?;
    write_all_at(&*file, bytes, 0).map_err(RepairError::io("write", path))?;
    file.sync_all().map_err(RepairError::io("sync", path))
}

/// Writes the create records that are lost into a segment of their own.
fn write_creates(vfs: &dyn Vfs, dir: &Path, plan: &mut Plan, id: u64) -> Result<(), RepairError> {
    if plan.creates.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    for (seqno, collection, name) in std::mem::take(&mut plan.creates) {
        let start = bytes.len();
        let append = |buf: &mut Vec<u8>| buf.extend_from_slice(name.as_bytes());
        let len = record::append_body(&mut bytes, b"", append);
        let kind = (Kind::CreateCollection, Flags::default());
        record::finish_body(&mut bytes, start, kind, 0, len);
        let (offset, len) = (start as u64, (bytes.len() - start) as u64);
        records.push(Hint { hash: 0, seqno, offset, len, collection, kind: kind.0, flags: kind.1 });
    }
    let rewrite = Rewrite { source: PathBuf::new(), mends: Vec::new(), id, generation: 1, records };
    let record = |hint: &Hint| {
        let at = usize::try_from(hint.offset).unwrap_or(usize::MAX);
        bytes.get(at..).unwrap_or(&[])
    };
    write_segment(vfs, dir, plan, &rewrite, record)
}

/// A segment that is being written.
struct Writer<'a> {
    path: &'a Path,
    file: Arc<dyn File>,
    salt: u32,
    offset: u64,
    epoch: u32,
    watermark: u64,
    hints: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RepairError> {
        let written = write_all_at(&*self.file, bytes, self.offset);
        written.map_err(RepairError::io("write", self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Writes a frame; `bytes` has room for its header in front of its records.
    fn write_frame(
        &mut self,
        bytes: &mut Vec<u8>,
        base: u64,
        count: u32,
    ) -> Result<(), RepairError> {
        let mut sum = RecordsChecksum::new(self.salt);
        let mut at = FRAME_HEADER_LEN;
        while let Some(header) = bytes.get(at..).and_then(RecordHeader::parse) {
            sum.add(bytes.get(at..).unwrap_or(&[]));
            at += header.record_len();
        }
        let kind = if count > 0 { FrameKind::Batch } else { FrameKind::End };
        let header = FrameHeader {
            kind,
            first: true,
            last: true,
            len: (bytes.len() - FRAME_HEADER_LEN) as u64,
            count,
            records_checksum: if count > 0 { sum.finish() } else { 0 },
            epoch: self.epoch,
            base,
            watermark: self.watermark,
        };
        let header = header.encode(self.salt, self.offset);
        bytes.get_mut(..FRAME_HEADER_LEN).unwrap_or(&mut []).copy_from_slice(&header);
        self.write(bytes)?;
        bytes.truncate(FRAME_HEADER_LEN);
        Ok(())
    }
}

/// Writes a sealed segment with the records of `rewrite`, whose bytes `record` knows, and lists it
/// in the plan's manifest.
fn write_segment<'a>(
    vfs: &dyn Vfs,
    dir: &Path,
    plan: &mut Plan,
    rewrite: &Rewrite,
    record: impl Fn(&Hint) -> &'a [u8],
) -> Result<(), RepairError> {
    let path = dir.join(file_name(rewrite.id));
    let file = create(vfs, &path)?;
    let (epoch, generation) = (plan.state.epoch, rewrite.generation);
    let kind = SegmentKind::Compacted;
    let header = SegmentHeader { store: plan.store, id: rewrite.id, epoch, kind, generation };
    let (header, salt) = header.encode();
    let watermark = plan.state.watermark;
    let hints = Vec::with_capacity(rewrite.records.len() * HINT_LEN);
    let mut out = Writer { path: &path, file, salt, offset: 0, epoch, watermark, hints };
    out.write(&header)?;
    let mut frame = vec![0; FRAME_HEADER_LEN];
    let (mut base, mut count) = (0, 0);
    for hint in &rewrite.records {
        let index = u32::try_from(hint.seqno.saturating_sub(base));
        let is_full = frame.len() > FRAME_LEN_MAX || index.is_err();
        if count > 0 && is_full {
            out.write_frame(&mut frame, base, count)?;
            count = 0;
        }
        if count == 0 {
            base = hint.seqno;
        }
        let index = u32::try_from(hint.seqno.saturating_sub(base)).unwrap_or(u32::MAX);
        let start = frame.len();
        let bytes = record(hint);
        let Some(header) = RecordHeader::parse(bytes) else { continue };
        // Without the padding, which may be what was damaged.
        let len = RECORD_HEADER_LEN + header.key_len + header.value_len;
        frame.extend_from_slice(bytes.get(..len).unwrap_or(bytes));
        frame.resize(start + header.record_len(), 0);
        let stamped = frame.get_mut(start..).unwrap_or(&mut []);
        record::stamp_record(stamped, salt, hint.collection, index);
        let offset = out.offset + start as u64;
        Hint { offset, ..*hint }.encode(&mut out.hints);
        count += 1;
    }
    if count > 0 {
        out.write_frame(&mut frame, base, count)?;
    }
    let first = rewrite.records.first().map_or(0, |hint| hint.seqno);
    let next = rewrite.records.last().map_or(0, |hint| hint.seqno + 1);
    out.write_frame(&mut frame, next, 0)?;
    let data_end = out.offset;
    let mut bytes = std::mem::take(&mut out.hints);
    let footer = SegmentFooter {
        id: rewrite.id,
        data_end,
        hints: (bytes.len() / HINT_LEN) as u64,
        first,
        next,
        hints_checksum: checksum::salted(salt, &bytes),
    };
    bytes.extend_from_slice(&footer.encode(salt));
    out.write(&bytes)?;
    if !planted!(RepairSegmentNotSynced) {
        out.file.sync_all().map_err(RepairError::io("sync", &path))?;
    }
    let seal = Seal { data_end, file_len: out.offset, first, next };
    let state = SegmentState { id: rewrite.id, len: out.offset, seal: Some(seal) };
    debug_assert!(data_end >= SEGMENT_HEADER_LEN, "there is a header");
    plan.state.segments.push(state);
    Ok(())
}
