//! The disk behind a [`SimVfs`](super::SimVfs): what is on it, and the record of what was done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use xxhash_rust::xxh3::Xxh3Default;

use super::content::Content;
use super::fault::{CallKind, Fault, Faults, os_error};

/// A path, shared by everything that speaks of it.
pub(super) type Name = Arc<OsStr>;

/// Place of a file in [`Disk::files`]; never reused, so that it survives renames.
pub(super) type FileId = usize;

/// One change of the disk, as the power cut sees it.
#[derive(Clone)]
pub(super) enum Op {
    Write {
        file: FileId,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    SetLen {
        file: FileId,
        len: usize,
    },
    Create {
        name: Name,
        file: FileId,
    },
    /// Another name for a file.
    Link {
        name: Name,
        file: FileId,
    },
    Rename {
        from: Name,
        to: Name,
        file: FileId,
    },
    Remove {
        name: Name,
    },
    MakeDir {
        name: Name,
    },
    SyncFile {
        file: FileId,
        done: bool,
    },
    SyncDir {
        name: Name,
        done: bool,
    },
    /// Something was promised to the outside.
    Mark,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &Name| Path::new(name).display().to_string();
        match self {
            Op::Write { file, offset, bytes } => {
                write!(f, "write file {file} at {offset}, {} bytes", bytes.len())
            }
            Op::SetLen { file, len } => write!(f, "length of file {file} becomes {len}"),
            Op::Create { name, file } => write!(f, "create {} as file {file}", shown(name)),
            Op::Link { name, file } => write!(f, "link {} to file {file}", shown(name)),
            Op::Rename { from, to, file } => {
                write!(f, "rename {} to {} (file {file})", shown(from), shown(to))
            }
            Op::Remove { name } => write!(f, "remove {}", shown(name)),
            Op::MakeDir { name } => write!(f, "create directory {}", shown(name)),
            Op::SyncFile { file, done } => {
                write!(f, "sync file {file}{}", if *done { "" } else { " FAILED" })
            }
            Op::SyncDir { name, done } => {
                write!(f, "sync directory {}{}", shown(name), if *done { "" } else { " FAILED" })
            }
            Op::Mark => write!(f, "mark"),
        }
    }
}

/// What is on a disk: the start of a run, or what a power cut left. Names of one file have the
/// same `Arc`.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) files: BTreeMap<Name, Arc<Content>>,
    pub(super) dirs: BTreeSet<Name>,
}

impl Image {
    /// A number that differs for images that differ, as good as surely.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        for dir in &self.dirs {
            hasher.update(dir.as_encoded_bytes());
            hasher.update(&[1]);
        }
        let mut places = Places::default();
        for (place, (name, content)) in self.files.iter().enumerate() {
            let first = places.of(content, place);
            if first != place {
                hasher.update(&(first as u64).to_le_bytes());
            }
            hasher.update(name.as_encoded_bytes());
            hasher.update(&[0]);
            content.hash_into(&mut hasher);
        }
        hasher.digest()
    }
}

/// Tells names of one file from names of equal ones.
#[derive(Default)]
pub(super) struct Places(HashMap<*const Content, usize>);

impl Places {
    /// `next`, if this file has not come up before; else what it was given then.
    pub(super) fn of(&mut self, content: &Arc<Content>, next: usize) -> usize {
        *self.0.entry(Arc::as_ptr(content)).or_insert(next)
    }
}

#[derive(Default)]
pub(super) struct Disk {
    pub(super) base: Arc<Image>,
    pub(super) ops: Vec<Op>,
    pub(super) names: BTreeMap<Name, FileId>,
    pub(super) dirs: BTreeSet<Name>,
    pub(super) files: Vec<SimFile>,
    pub(super) locks: BTreeMap<Name, String>,
    pub(super) faults: Faults,
    pub(super) quota: Option<usize>,
    /// The process that uses the disk is being killed: nothing gets through any more.
    pub(super) is_cut_off: bool,
    pub(super) failed_syncs: usize,
    pub(super) unlocked_changes: usize,
}

pub(super) struct SimFile {
    pub(super) content: Arc<Content>,
    /// Bytes of disk that the file takes: what was written or allocated.
    pub(super) reserved: usize,
}

/// A call in progress, with the disk locked.
pub(super) struct Call<'a> {
    pub(super) disk: MutexGuard<'a, Disk>,
    pub(super) fault: Option<Fault>,
}

impl<'a> Call<'a> {
    pub(super) fn enter(disk: &'a Mutex<Disk>, kind: CallKind) -> io::Result<Call<'a>> {
        let mut disk = disk.lock();
        if disk.is_cut_off {
            return Err(os_error(Fault::EIO));
        }
        let fault = disk.faults.meet(kind);
        disk.is_cut_off |= fault == Some(Fault::Kill);
        match fault {
            Some(Fault::Kill) => Err(os_error(Fault::EIO)),
            Some(Fault::Error(code)) => Err(os_error(code)),
            _ => Ok(Call { disk, fault }),
        }
    }

    /// Ends the call: meets its fault, if it fails after it has done its work.
    pub(super) fn leave<T>(self, value: T) -> io::Result<T> {
        match self.fault {
            Some(Fault::ErrorAfter(code) | Fault::ErrorAfterAll(code)) => Err(os_error(code)),
            _ => Ok(value),
        }
    }
}

impl Disk {
    pub(super) fn used(&self) -> usize {
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        named.into_iter().map(|file| self.files[file].reserved).sum()
    }

    /// Bytes that can still be taken.
    pub(super) fn free(&self) -> usize {
        self.quota.map_or(usize::MAX / 2, |quota| quota.saturating_sub(self.used()))
    }

    /// Records a change of a file or of a name.
    pub(super) fn change(&mut self, op: Op) {
        self.unlocked_changes += usize::from(self.locks.is_empty());
        self.ops.push(op);
    }

    pub(super) fn fail_sync(&mut self, op: Op) {
        if !self.is_cut_off {
            self.failed_syncs += 1;
            self.ops.push(op);
        }
    }

    pub(super) fn add_file(&mut self, name: Name) -> FileId {
        let file = self.files.len();
        self.files.push(SimFile { content: Arc::default(), reserved: 0 });
        self.names.insert(Arc::clone(&name), file);
        self.ops.push(Op::Create { name, file });
        file
    }

    /// The directory that holds `path` must exist.
    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.has_dir(parent) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The name for a file that is made at `path`, where none may be.
    pub(super) fn free_name(&self, path: &Path) -> io::Result<Name> {
        if self.names.contains_key(path.as_os_str()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_parent(path)?;
        Ok(path.as_os_str().into())
    }

    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        is_root(dir) || self.dirs.contains(dir.as_os_str())
    }

    /// The last parts of those of `paths` that are in `dir`, and not further down.
    pub(super) fn names_in<'a>(
        &self,
        dir: &Path,
        paths: impl Iterator<Item = &'a Name>,
    ) -> io::Result<Vec<String>> {
        if !self.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = paths.map(Path::new).filter(|path| path.parent() == Some(dir));
        Ok(in_dir.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<FileId> {
        self.names.get(path.as_os_str()).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn set_len(&mut self, file: FileId, len: usize) {
        let state = &mut self.files[file];
        Arc::make_mut(&mut state.content).set_len(len);
        state.reserved = state.reserved.min(len);
        self.change(Op::SetLen { file, len });
    }

    pub(super) fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.files[file].content.len() {
            self.set_len(file, end);
        }
        let state = &mut self.files[file];
        Arc::make_mut(&mut state.content).write(offset, bytes);
        state.reserved = state.reserved.max(end);
        self.change(Op::Write { file, offset, bytes: bytes.into() });
    }
}

pub(super) fn is_root(dir: &Path) -> bool {
    dir.parent().is_none()
}

/// The directories above `path` that can be missing, the nearest first.
pub(super) fn ancestors(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.ancestors().skip(1).filter(|dir| !is_root(dir)).map(Path::as_os_str)
}
