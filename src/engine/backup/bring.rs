//! Brings segments into the target: links and copies, each under a name that means nothing until
//! its bytes are durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frozen::FrozenSegment;
use super::target::{Action, Step, TEMP_SUFFIX};
use super::{BackupError, BackupOptions, BackupProgress, BackupReport};
use crate::format::segment::{SEGMENT_HEADER_LEN, file_name};
use crate::vfs::{File, IoError, OpenMode, Vfs, read_full_at, write_all_at};

/// Bytes copied at once.
const STRETCH: u64 = 1 << 20;

/// Does all `steps`; afterwards every file is durable, with its name.
pub(super) fn bring(
    vfs: &dyn Vfs,
    dir: &Path,
    steps: &[Step<'_>],
    options: &BackupOptions,
    report: &mut BackupReport,
) -> Result<(), BackupError> {
    let bytes_total = steps.iter().map(|step| step.frozen.len).sum();
    let mut progress = BackupProgress { bytes_total, ..BackupProgress::default() };
    let mut tell = |bytes: u64| {
        progress.bytes_done += bytes;
        options.tell(&progress);
    };
    for Step { frozen, action } in steps {
        let path = dir.join(file_name(frozen.id()));
        match action {
            Action::Keep => {
                report.segments_kept += 1;
                report.bytes_kept += frozen.len;
                tell(frozen.len);
            }
            Action::Link if link(vfs, frozen, &path)? => {
                report.segments_linked += 1;
                report.bytes_linked += frozen.len;
                tell(frozen.len);
            }
            Action::Link | Action::Copy => {
                copy(vfs, frozen, &path, &mut tell)?;
                report.segments_copied += 1;
                report.bytes_copied += frozen.len;
            }
        }
    }
    vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))?;
    Ok(())
}

/// Gives a sealed segment a second name; false if that cannot be, for whatever reason.
fn link(vfs: &dyn Vfs, frozen: &FrozenSegment, path: &Path) -> Result<bool, BackupError> {
    // What is there is not that segment, and no manifest that is whole relies on it.
    remove_if_there(vfs, path)?;
    Ok(vfs.link(&frozen.segment.path, path).is_ok())
}

/// Copies a segment to a temporary name, syncs it, and gives it its name.
pub(super) fn copy(
    vfs: &dyn Vfs,
    frozen: &FrozenSegment,
    path: &Path,
    tell: &mut dyn FnMut(u64),
) -> Result<(), BackupError> {
    let temp = temp_path(path);
    remove_if_there(vfs, &temp)?;
    let file = match share_blocks(vfs, frozen, &temp) {
        Some(file) => {
            tell(frozen.len);
            file
        }
        None => copy_bytes(vfs, frozen, &temp, tell)?,
    };
    if !planted!(BackupNotSynced) {
        file.sync_all().map_err(|e| IoError::new("sync", &temp, e))?;
    }
    vfs.rename(&temp, path).map_err(|e| IoError::new("rename", temp, e))?;
    Ok(())
}

pub(super) fn temp_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMP_SUFFIX);
    name.into()
}

pub(super) fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> Result<(), BackupError> {
    match vfs.remove(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(IoError::new("remove", path, e).into())
        }
        _ => Ok(()),
    }
}

/// Copies the file by sharing its blocks, and cuts the copy to length; `None` where that cannot
/// be, or the name of the segment does not lead to it any more.
fn share_blocks(vfs: &dyn Vfs, frozen: &FrozenSegment, temp: &Path) -> Option<Arc<dyn File>> {
    let file = vfs.copy(&frozen.segment.path, temp).ok()?;
    let mut header = [[0; SEGMENT_HEADER_LEN as usize]; 2];
    let [there, here] = &mut header;
    read_full_at(&*file, there, 0).ok()?;
    frozen.segment.read_at(here, 0).ok()?;
    let len = file.len().ok()?;
    if there != here || len < frozen.len {
        return None;
    }
    if len > frozen.len {
        file.set_len(frozen.len).ok()?;
    }
    Some(file)
}

fn copy_bytes(
    vfs: &dyn Vfs,
    frozen: &FrozenSegment,
    temp: &Path,
    tell: &mut dyn FnMut(u64),
) -> Result<Arc<dyn File>, BackupError> {
    remove_if_there(vfs, temp)?;
    let file = vfs.open(temp, OpenMode::CreateNew).map_err(|e| IoError::new("create", temp, e))?;
    let mut buf = vec![0; usize::try_from(STRETCH.min(frozen.len)).unwrap_or(0)];
    let mut at = 0;
    while at < frozen.len {
        let want = usize::try_from(STRETCH.min(frozen.len - at)).unwrap_or(0);
        let part = buf.get_mut(..want).unwrap_or(&mut []);
        let read = frozen.segment.read_at(part, at)?;
        if read < want {
            let what = format!("file ends here, expected {} bytes", frozen.len);
            return Err(BackupError::Damaged(frozen.segment.corruption(at + read as u64, what)));
        }
        write_all_at(&*file, part, at).map_err(|e| IoError::new("write", temp, e))?;
        at += want as u64;
        tell(want as u64);
    }
    Ok(file)
}
