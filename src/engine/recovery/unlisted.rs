//! Segment files that the manifest does not list.

use std::path::{Path, PathBuf};

use super::super::error::OpenError;
use super::case::{Case, Decision, RecoveryReport, refuse};
use crate::format::manifest::SegmentState;
use crate::format::record::FRAME_HEADER_LEN;
use crate::format::scan::{Step, frame_at};
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, parse_file_name};
use crate::vfs::{IoError, OpenMode, Vfs, read_full_at};

/// Judges the segment files that the manifest does not list; returns those to remove.
pub(in crate::engine) fn judge_unlisted(
    vfs: &dyn Vfs,
    dir: &Path,
    listed: &[SegmentState],
    next_segment: u64,
    report: &mut RecoveryReport,
) -> Result<Vec<PathBuf>, OpenError> {
    let names = vfs.list(dir).map_err(|e| IoError::new("list", dir, e))?;
    let mut dead = Vec::new();
    for name in names {
        let Some(id) = parse_file_name(&name) else { continue };
        if listed.iter().any(|s| s.id == id) {
            continue;
        }
        let path = dir.join(&name);
        let case = if id < next_segment || is_compacted(vfs, &path)? {
            Case::DeadSegment
        } else if has_frame(vfs, &path)? {
            Case::UnlistedSegment
        } else {
            Case::UnlistedEmptySegment
        };
        if case.decision() == Decision::Refuse {
            return Err(refuse(case, &path, 0, "the manifest has lost an edit"));
        }
        report.note(case, &path, 0, "not part of the store");
        dead.push(path);
    }
    Ok(dead)
}

/// True if the file is a compacted segment: it is not listed before it is whole, and what it was
/// made from is not removed before it is listed, so an unlisted one is never missed.
fn is_compacted(vfs: &dyn Vfs, path: &Path) -> Result<bool, OpenError> {
    let failed = |e| OpenError::Io(IoError::new("read", path, e));
    let file = vfs.open(path, OpenMode::Read).map_err(failed)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(failed)?;
    let header = SegmentHeader::decode(bytes.get(..read).unwrap_or(&[]));
    Ok(header.is_ok_and(|(header, _)| header.kind == SegmentKind::Compacted))
}

/// True if the file is a segment that starts with a whole frame.
fn has_frame(vfs: &dyn Vfs, path: &Path) -> Result<bool, OpenError> {
    let failed = |e| OpenError::Io(IoError::new("read", path, e));
    let file = vfs.open(path, OpenMode::Read).map_err(failed)?;
    let header_len = SEGMENT_HEADER_LEN as usize;
    let mut bytes = vec![0; header_len + FRAME_HEADER_LEN];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    let Ok((_, salt)) = SegmentHeader::decode(&bytes) else { return Ok(false) };
    let frame = bytes.get(header_len..).unwrap_or(&[]);
    Ok(!matches!(frame_at(frame, salt, SEGMENT_HEADER_LEN), Step::Bad(0, _)))
}
