//! The real file system: the only user of `std::fs`.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{File, LockGuard, Map, MappedFile, OpenMode, Vfs};

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs;

struct OsFile {
    path: PathBuf,
    /// `None` while it rests.
    file: RwLock<Option<fs::File>>,
}

impl OsFile {
    fn shared(path: &Path, file: fs::File) -> Arc<dyn File> {
        Arc::new(OsFile { path: path.to_owned(), file: RwLock::new(Some(file)) })
    }

    /// Does `work` with the file; one that rests is opened for that, for reading.
    fn with<T>(&self, work: impl FnOnce(&fs::File) -> io::Result<T>) -> io::Result<T> {
        match &*self.file.read() {
            Some(file) => work(file),
            None => work(&fs::File::open(&self.path)?),
        }
    }
}

#[derive(Debug)]
struct OsLock(fs::File);

impl Drop for OsLock {
    /// Closing the file would do, but for a process that another thread is just starting: until
    /// that becomes another program it has the file open as well.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl LockGuard for OsLock {}

impl Vfs for OsVfs {
    fn absolute(&self, path: &Path) -> PathBuf {
        // Where that cannot be told, the path works as long as the process stays where it is.
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    #[cfg(target_os = "linux")]
    fn free_space(&self, dir: &Path) -> io::Result<Option<u64>> {
        let stat = rustix::fs::statvfs(dir)?;
        // Some file systems count nothing.
        Ok((stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(OsFile::shared(path, options.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Names that are not UTF-8 are not ours.
            if let (true, Ok(name)) =
                (entry.file_type()?.is_file(), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn list_others(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let is_file = entry.file_type()?.is_file();
            match entry.file_name().into_string() {
                Ok(_) if is_file => {}
                Ok(name) => names.push(name),
                Err(name) => names.push(name.to_string_lossy().into_owned()),
            }
        }
        Ok(names)
    }

    fn resolved(&self, path: &Path) -> PathBuf {
        let path = self.absolute(path);
        let mut ancestors = path.ancestors();
        let found = ancestors.find_map(|dir| Some((dir, fs::canonicalize(dir).ok()?)));
        let Some((dir, mut resolved)) = found else { return path };
        // What does not exist holds no links.
        for part in path.strip_prefix(dir).iter().flat_map(|rest| rest.components()) {
            match part {
                Component::ParentDir => drop(resolved.pop()),
                part => resolved.push(part),
            }
        }
        resolved
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    #[cfg(target_os = "linux")]
    fn copy(&self, from: &Path, to: &Path) -> io::Result<Arc<dyn File>> {
        let source = fs::File::open(from)?;
        let copy = OpenOptions::new().read(true).write(true).create_new(true).open(to)?;
        match rustix::fs::ioctl_ficlone(&copy, &source) {
            Ok(()) => Ok(OsFile::shared(to, copy)),
            Err(e) => {
                // Empty, and nobody knows of it.
                let _ = fs::remove_file(to);
                Err(io::Error::new(io::ErrorKind::Unsupported, e))
            }
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Windows cannot open a directory as a file and needs no such sync.
        if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(note.as_bytes())?;
                Ok(Ok(Box::new(OsLock(file))))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(256).read_to_string(&mut holder);
                Ok(Err(holder))
            }
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

impl File for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| std::os::unix::fs::FileExt::read_at(file, buf, offset))
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| std::os::windows::fs::FileExt::seek_read(file, buf, offset))
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|file| std::os::unix::fs::FileExt::write_at(file, buf, offset))
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|file| std::os::windows::fs::FileExt::seek_write(file, buf, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.metadata()?.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            let flags = FallocateFlags::empty();
            match self.with(|file| Ok(fallocate(file, flags, 0, len)))? {
                Ok(()) => return Ok(()),
                // The file system has no fallocate: a sparse extension has to do.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if self.len()? < len {
            self.set_len(len)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(fs::File::sync_data)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.with(fs::File::sync_all)
    }

    fn map(&self, len: u64) -> io::Result<Option<Map>> {
        if len == 0 {
            return Ok(None);
        }
        Ok(Some(Map::File(Arc::new(self.with(|file| MappedFile::new(file, len))?))))
    }

    fn rest(&self) {
        *self.file.write() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a lock that is let go is free, although somebody else has its file open by then.
    /// Method: the file is shared, as with a process that is being started.
    #[test]
    fn a_lock_is_free_at_once() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("LOCK");
        let file = fs::File::create(&path).expect("a file");
        file.try_lock().expect("nobody else has it");
        let shared = file.try_clone().expect("cloned");
        assert!(OsVfs.lock(&path, "other").expect("no error").is_err(), "it is locked");
        drop(OsLock(file));
        assert!(OsVfs.lock(&path, "other").expect("no error").is_ok(), "it is free");
        drop(shared);
    }
}
