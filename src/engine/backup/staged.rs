//! The state of a durable snapshot, made ready to be sent elsewhere.
//!
//! A backup of a snapshot is one of now that is rolled back ([`super::snapshot`]). On its way to
//! another kind of storage it is made in memory: sealed segments are those of the store, which are
//! read where they are, and only the end of the log, the manifest and what the rollback writes are
//! new. That is the tail and as much as was changed since the snapshot; nothing goes to any disk.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::frozen::Frozen;
use super::snapshot::Begun;
use super::{BackupError, BackupOptions};
use crate::engine::db::Db;
use crate::engine::options::Options;
use crate::vfs::mem::MemVfs;
use crate::vfs::{File, LockGuard, OpenMode, Vfs};

/// Where it stands, in memory.
const DIR: &str = "/staged";

/// Longest segment that the rollback makes: they are in memory.
const SEGMENT_LEN_MAX: u64 = 8 << 20;

/// A store that holds what a snapshot does.
pub(crate) struct Staged {
    /// What a backup of it holds.
    pub(crate) frozen: Frozen,
    /// The snapshot's sequence number.
    pub(crate) seqno: u64,
    /// The segments that it reads where they are: their files stay while this lives.
    _source: Frozen,
}

impl Db {
    /// What a backup of the durable snapshot `id` would hold.
    pub(crate) fn stage_snapshot(&self, id: u64) -> Result<Staged, BackupError> {
        let (core, source) = (self.core(), self.options());
        let vfs: Arc<dyn Vfs> = Arc::new(Overlay {
            base: Arc::clone(&source.vfs),
            own: MemVfs::new(),
            links: Mutex::default(),
        });
        let dir = Path::new(DIR);
        let options = BackupOptions::new();
        let Begun { frozen: held, origin, .. } =
            core.backup_with_snapshot(&*vfs, dir, id, &options)?;
        let target = Options::new()
            .vfs(Arc::clone(&vfs))
            .segment_len(source.segment_len.min(SEGMENT_LEN_MAX))
            .checkpoint_every(0)
            .inline_maintenance(true);
        core.finish_snapshot(dir, &origin, target)?;
        let staged = Options::new().vfs(vfs).read_only(true).create(false).open(dir)?;
        Ok(Staged { frozen: staged.freeze()?, seqno: origin.seqno, _source: held })
    }
}

/// A file system in memory, in which links lead to files of another one.
struct Overlay {
    base: Arc<dyn Vfs>,
    own: MemVfs,
    links: Mutex<HashMap<PathBuf, PathBuf>>,
}

impl Overlay {
    fn link_at(&self, path: &Path) -> Option<PathBuf> {
        self.links.lock().get(path).cloned()
    }
}

impl Vfs for Overlay {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        match self.link_at(path) {
            Some(_) if mode == OpenMode::CreateNew => Err(io::ErrorKind::AlreadyExists.into()),
            // Never to be written to: a linked segment is sealed.
            Some(there) => self.base.open(&there, OpenMode::Read),
            None => self.own.open(path, mode),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.own.list(dir)?;
        let links = self.links.lock();
        let in_dir = links.keys().filter(|path| path.parent() == Some(dir));
        names.extend(in_dir.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.own.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.own.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.links.lock().remove(path) {
            Some(_) => Ok(()),
            None => self.own.remove(path),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.links.lock().insert(to.to_owned(), from.to_owned());
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.own.sync_dir(dir)
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        self.own.lock(path, note)
    }
}
