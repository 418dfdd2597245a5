//! A store that is put together from segments that come from elsewhere.
//!
//! The same order as in a backup: each segment is written under a temporary name, synced and
//! renamed; when all are there the directory is synced; the manifest comes last. Before that there
//! is no store, and what is whole of it is kept when it is tried again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bring::{remove_if_there, temp_path};
use super::target::Target;
use super::{BackupError, places, unfinished};
use crate::engine::error::OpenError;
use crate::engine::open::sync_dirs_above;
use crate::format::manifest::{FILE_NAME, TEMP_NAME};
use crate::format::segment::{StoreId, file_name};
use crate::vfs::{File, IoError, OpenMode, Vfs, write_all_at};

/// A directory in which a store is put together.
pub(crate) struct Receiver<'a> {
    target: Target<'a>,
}

/// A file that is being received.
pub(crate) struct Incoming<'a> {
    vfs: &'a dyn Vfs,
    file: Arc<dyn File>,
    temp: PathBuf,
    path: PathBuf,
}

impl<'a> Receiver<'a> {
    /// Locks `dir`, where no store may be.
    /// `store` is what is received: parts of another one are none of ours.
    pub(crate) fn open(
        vfs: &'a dyn Vfs,
        dir: &'a Path,
        store: &StoreId,
    ) -> Result<Self, BackupError> {
        let refuse_store = || match vfs.open(&dir.join(FILE_NAME), OpenMode::Read) {
            Ok(_) => {
                let what = format!("there is a store in {} already", dir.display());
                Err(BackupError::Target(OpenError::InvalidOption(what)))
            }
            Err(_) => Ok(()),
        };
        places::refuse_nested(vfs, dir)?;
        // Before a lock is left there, and again when nobody can make one any more.
        refuse_store()?;
        let target = Target::lock(vfs, dir, store)?;
        refuse_store()?;
        sync_dirs_above(vfs, dir)?;
        unfinished::mark_first(vfs, dir)?;
        Ok(Receiver { target })
    }

    /// The file of a segment, if an earlier attempt has brought it.
    pub(crate) fn existing(&self, id: u64) -> Result<Option<Arc<dyn File>>, BackupError> {
        self.target.open(&self.target.dir.join(file_name(id)))
    }

    /// Starts to receive a segment.
    pub(crate) fn segment(&self, id: u64) -> Result<Incoming<'a>, BackupError> {
        let path = self.target.dir.join(file_name(id));
        self.incoming(temp_path(&path), path)
    }

    /// Makes all names durable and then writes the manifest: the store is there.
    pub(crate) fn finish(self, manifest: &[u8]) -> Result<(), BackupError> {
        let Target { vfs, dir, .. } = self.target;
        let sync_dir = || vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e));
        sync_dir()?;
        let incoming = self.incoming(dir.join(TEMP_NAME), dir.join(FILE_NAME))?;
        incoming.write(manifest, 0)?;
        incoming.finish()?;
        Ok(sync_dir()?)
    }

    fn incoming(&self, temp: PathBuf, path: PathBuf) -> Result<Incoming<'a>, BackupError> {
        let vfs = self.target.vfs;
        remove_if_there(vfs, &temp)?;
        let file = vfs.open(&temp, OpenMode::CreateNew);
        let file = file.map_err(|e| IoError::new("create", &temp, e))?;
        Ok(Incoming { vfs, file, temp, path })
    }
}

impl Incoming<'_> {
    /// Writes `bytes` at `offset`.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), BackupError> {
        let written = write_all_at(&*self.file, bytes, offset);
        Ok(written.map_err(|e| IoError::new("write", &self.temp, e))?)
    }

    /// Makes the bytes durable and gives the file its name.
    pub(crate) fn finish(self) -> Result<(), BackupError> {
        self.file.sync_all().map_err(|e| IoError::new("sync", &self.temp, e))?;
        let renamed = self.vfs.rename(&self.temp, &self.path);
        Ok(renamed.map_err(|e| IoError::new("rename", self.temp, e))?)
    }
}
