//! Files in memory: for tests and for stores that need not outlive the process.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{File, LockGuard, Map, OpenMode, Vfs};

/// A file system in memory. Clones share their files.
///
/// Syncs do nothing: what was written is there until the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct MemVfs {
    files: Arc<Mutex<BTreeMap<PathBuf, Arc<MemFile>>>>,
    locks: Arc<Mutex<HashSet<PathBuf>>>,
}

#[derive(Debug, Default)]
struct MemFile {
    bytes: RwLock<Vec<u8>>,
}

struct MemHandle(Arc<MemFile>);

#[derive(Debug)]
struct MemLock {
    path: PathBuf,
    locks: Arc<Mutex<HashSet<PathBuf>>>,
}

impl LockGuard for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.path);
    }
}

impl MemVfs {
    /// An empty file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the content of `path`, creating the file if needed. For tests that damage files.
    pub fn put(&self, path: impl Into<PathBuf>, bytes: Vec<u8>) {
        self.files.lock().insert(path.into(), Arc::new(MemFile { bytes: RwLock::new(bytes) }));
    }

    /// A copy of every file, by path.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.files.lock();
        files.iter().map(|(path, file)| (path.clone(), file.bytes.read().clone())).collect()
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file: {}", path.display()))
}

impl Vfs for MemVfs {
    fn free_space(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(Some(u64::MAX))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut files = self.files.lock();
        if mode == OpenMode::CreateNew {
            if files.contains_key(path) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "file exists"));
            }
            files.insert(path.to_owned(), Arc::default());
        }
        let file = files.get(path).ok_or_else(|| not_found(path))?;
        Ok(Arc::new(MemHandle(Arc::clone(file))))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock();
        Ok(files
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or_else(|| not_found(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.get(from).cloned().ok_or_else(|| not_found(from))?;
        if files.contains_key(to) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "file exists"));
        }
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<Arc<dyn File>> {
        let mut files = self.files.lock();
        let file = files.get(from).ok_or_else(|| not_found(from))?;
        let bytes = RwLock::new(file.bytes.read().clone());
        if files.contains_key(to) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "file exists"));
        }
        let copy = Arc::new(MemFile { bytes });
        files.insert(to.to_owned(), Arc::clone(&copy));
        Ok(Arc::new(MemHandle(copy)))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        let mut files = self.files.lock();
        let file = files.entry(path.to_owned()).or_default();
        if !self.locks.lock().insert(path.to_owned()) {
            return Ok(Err(String::from_utf8_lossy(&file.bytes.read()).into_owned()));
        }
        *file.bytes.write() = note.as_bytes().to_vec();
        Ok(Ok(Box::new(MemLock { path: path.to_owned(), locks: Arc::clone(&self.locks) })))
    }
}

impl File for MemHandle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.bytes.read();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let n = buf.len().min(bytes.len() - start);
        buf[..n].copy_from_slice(&bytes[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = self.0.bytes.write();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + buf.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(buf);
        Ok(buf.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.read().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.bytes.write().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<Option<Map>> {
        let bytes = self.0.bytes.read();
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let bytes = bytes.get(..len).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, "file shorter than the map asked for")
        })?;
        Ok(Some(Map::Memory(Arc::from(bytes))))
    }
}
