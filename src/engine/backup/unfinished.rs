//! The mark of a directory in which a backup of a snapshot is being made.
//!
//! Such a backup is one of the newest state first, which is rolled back then: in between it must
//! not be taken for what was asked for. The mark is an empty file. It is durable before the
//! manifest is written that makes the directory a store, and removed after the rollback is durable
//! and [`origin`] says what there is now.
//! A power cut leaves the directory as it was, or marked, or finished; a marked one is emptied by
//! the next backup into it.

use std::path::Path;

use super::target::Target;
use super::{BackupError, origin};
use crate::engine::compaction::RESERVE_NAME;
use crate::engine::manifest;
use crate::format::segment::{StoreId, parse_file_name};
use crate::format::{checkpoint, manifest as format};
use crate::vfs::{IoError, OpenMode, Vfs};

const NAME: &str = "UNFINISHED";

/// What a store has besides its segments. The one that was being made has been opened already.
const LEFT: [&str; 5] =
    [format::FILE_NAME, checkpoint::FILE_NAME, checkpoint::TEMP_NAME, RESERVE_NAME, origin::NAME];

/// True for files that only a marked directory may hold without being a store.
pub(super) fn is_left(name: &str) -> bool {
    name == NAME || LEFT.contains(&name)
}

/// True if `dir` is marked; not if it is not there.
pub(in crate::engine) fn is_marked(vfs: &dyn Vfs, dir: &Path) -> Result<bool, IoError> {
    let path = dir.join(NAME);
    match vfs.open(&path, OpenMode::Read) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(IoError::new("open", &path, e)),
    }
}

/// Marks `dir`, durably.
pub(super) fn mark(vfs: &dyn Vfs, dir: &Path) -> Result<(), IoError> {
    let path = dir.join(NAME);
    match vfs.open(&path, OpenMode::CreateNew) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(IoError::new("create", &path, e));
        }
        _ => {}
    }
    vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))
}

/// Takes the mark away, durably.
pub(super) fn unmark(vfs: &dyn Vfs, dir: &Path) -> Result<(), IoError> {
    let path = dir.join(NAME);
    vfs.remove(&path).map_err(|e| IoError::new("remove", &path, e))?;
    vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))
}

/// Empties a marked directory of what an earlier try for the same store has left in it.
pub(super) fn begin_anew(target: &Target<'_>, store: StoreId) -> Result<(), BackupError> {
    let Target { vfs, dir, .. } = *target;
    if !is_marked(vfs, dir)? {
        return Ok(());
    }
    if manifest::read(vfs, dir)?.is_some_and(|read| read.store != store) {
        return Err(BackupError::Foreign { dir: dir.to_owned() });
    }
    // Without a manifest it is no store any more, whatever else is left.
    let mut gone = LEFT.map(str::to_owned).to_vec();
    let names = vfs.list(dir).map_err(|e| IoError::new("list", dir, e))?;
    gone.extend(names.into_iter().filter(|name| parse_file_name(name).is_some()));
    for name in gone {
        let path = dir.join(name);
        match vfs.remove(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(IoError::new("remove", &path, e).into());
            }
            _ => {}
        }
    }
    vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e).into())
}
