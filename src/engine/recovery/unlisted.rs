//! Segment files that the manifest does not list.

use std::path::{Path, PathBuf};

use super::super::error::OpenError;
use super::case::{Case, Decision, RecoveryReport, refuse};
use crate::format::manifest::State;
use crate::format::record::FRAME_HEADER_LEN;
use crate::format::scan::{Step, frame_at};
use crate::format::segment::{
    SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, StoreId, parse_file_name,
};
use crate::vfs::{IoError, OpenMode, Vfs, read_full_at};

/// Judges the segment files that the manifest of `store` does not list; returns those to remove.
pub(in crate::engine) fn judge_unlisted(
    vfs: &dyn Vfs,
    dir: &Path,
    store: &StoreId,
    state: &State,
    report: &mut RecoveryReport,
) -> Result<Vec<PathBuf>, OpenError> {
    let names = vfs.list(dir).map_err(|e| IoError::new("list", dir, e))?;
    let mut dead = Vec::new();
    for name in names {
        let Some(id) = parse_file_name(&name) else { continue };
        if state.segments.iter().any(|s| s.id == id) {
            continue;
        }
        let path = dir.join(&name);
        let (case, what) = match id < state.next_segment {
            true => (Case::DeadSegment, String::new()),
            false => judge(vfs, &path, id, store)?,
        };
        if case.decision() == Decision::Refuse {
            return Err(refuse(case, &path, 0, what));
        }
        report.note(case, &path, 0, "not part of the store");
        dead.push(path);
    }
    Ok(dead)
}

/// What the file of segment `id` is, of which the manifest has never heard, and what that means if
/// it is refused.
fn judge(
    vfs: &dyn Vfs,
    path: &Path,
    id: u64,
    store: &StoreId,
) -> Result<(Case, String), OpenError> {
    let failed = |e| OpenError::Io(IoError::new("read", path, e));
    let file = vfs.open(path, OpenMode::Read).map_err(failed)?;
    let header_len = SEGMENT_HEADER_LEN as usize;
    let mut bytes = vec![0; header_len + FRAME_HEADER_LEN];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    let empty = Ok((Case::UnlistedEmptySegment, String::new()));
    let Ok((header, salt)) = SegmentHeader::decode(&bytes) else { return empty };
    let is_own = header.store == *store && header.id == id;
    if is_own && header.kind == SegmentKind::Compacted {
        // It is not listed before it is whole, and what it was made from is not removed before it
        // is listed, so an unlisted one is never missed.
        return Ok((Case::DeadSegment, String::new()));
    }
    let frame = bytes.get(header_len..).unwrap_or(&[]);
    if matches!(frame_at(frame, salt, SEGMENT_HEADER_LEN), Step::Bad(0, _)) {
        return empty;
    }
    if is_own {
        return Ok((Case::UnlistedSegment, "the manifest has lost an edit".to_owned()));
    }
    let what = whose(&header, store) + ": move the file out of the directory";
    Ok((Case::ForeignSegment, what))
}

/// Which segment a file holds that has the name of another one.
pub(in crate::engine) fn whose(header: &SegmentHeader, store: &StoreId) -> String {
    let of = if header.store == *store { "this store" } else { "another store" };
    format!("its header says segment {} of {of}", header.id)
}
