//! The marks of directories in which a backup is being made, or a store restored.
//!
//! - Where there was none before, the temporary file of the manifest says so, from before the first
//!   segment comes until the manifest takes its place. A power cut leaves the directory as it was,
//!   marked, or finished; what has come into a marked one is kept when it is tried again. (In the
//!   moment in which the manifest is written there may be segments without either.)
//! - The backup of a snapshot is one of the newest state first, which is rolled back then: in
//!   between it must not be taken for what was asked for. The mark is an empty file. It is durable
//!   before the manifest is written that makes the directory a store, and removed after the
//!   rollback is durable and [`origin`] says what there is now. A power cut leaves the directory as
//!   it was, or marked, or finished; a marked one is emptied by the next backup into it.

use std::path::{Path, PathBuf};

use super::bring::remove_if_there;
use super::target::Target;
use super::{BackupError, origin};
use crate::engine::compaction::RESERVE_NAME;
use crate::engine::manifest;
use crate::format::segment::{StoreId, parse_file_name};
use crate::format::{checkpoint, manifest as format};
use crate::vfs::{IoError, OpenMode, Vfs, read_full_at, write_all_at};

const NAME: &str = "UNFINISHED";

/// What the temporary file of a manifest holds until the first segments have come.
const FIRST: &[u8] = b"siltstone: segments are still to come\n";

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

/// The mark in `dir`, if what was to be made there, of either kind, has not come to its end.
pub(in crate::engine) fn mark_in(vfs: &dyn Vfs, dir: &Path) -> Result<Option<PathBuf>, IoError> {
    if is_marked(vfs, dir)? {
        return Ok(Some(dir.join(NAME)));
    }
    let path = dir.join(format::FILE_NAME);
    match vfs.open(&path, OpenMode::Read) {
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(has_first(vfs, dir)?.then(|| dir.join(format::TEMP_NAME)))
        }
        Err(e) => Err(IoError::new("open", path, e)),
    }
}

/// True if the temporary file of the manifest is the mark of [`mark_first`].
fn has_first(vfs: &dyn Vfs, dir: &Path) -> Result<bool, IoError> {
    let path = dir.join(format::TEMP_NAME);
    let file = match vfs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(IoError::new("open", path, e)),
    };
    let mut bytes = [0; FIRST.len() + 1];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(|e| IoError::new("read", path, e))?;
    Ok(bytes.get(..read) == Some(FIRST))
}

/// Marks `dir`, where no store is yet, durably; its manifest takes the mark away.
pub(super) fn mark_first(vfs: &dyn Vfs, dir: &Path) -> Result<(), BackupError> {
    let path = dir.join(format::TEMP_NAME);
    remove_if_there(vfs, &path)?;
    let file = vfs.open(&path, OpenMode::CreateNew);
    let file = file.map_err(|e| IoError::new("create", &path, e))?;
    write_all_at(&*file, FIRST, 0).map_err(|e| IoError::new("write", &path, e))?;
    file.sync_all().map_err(|e| IoError::new("sync", &path, e))?;
    Ok(vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))?)
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
