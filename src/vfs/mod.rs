//! Bytes at paths: the one seam between the engine and a file system.
//!
//! Everything that the engine does to storage goes through [`Vfs`] and [`File`]: listing, locking,
//! renaming, directory syncs and memory maps included, so that a simulated file system sees every
//! byte. [`os::OsVfs`] is the real one, [`mem::MemVfs`] keeps files in memory; the `testing`
//! feature adds a simulated disk that records operations, loses unsynced ones and injects faults.
//!
//! # Durability rules an implementation must keep
//!
//! - Bytes written are durable once a later [`File::sync_data`] or [`File::sync_all`] of that file
//!   returned `Ok`; a change of length is made durable by either.
//! - A name (create, rename, remove) is durable once a later [`Vfs::sync_dir`] of its directory
//!   returned `Ok`.
//! - After a failed sync nothing is known about the bytes written since the last good one.
//! - A hard link is a name like any other: durable once its directory was synced. The bytes behind
//!   it are those of the one file that both names stand for, and as durable as they are.

pub mod mem;
#[expect(unsafe_code, reason = "the one place where files are mapped; see each SAFETY note")]
mod mmap;
pub mod os;

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use mmap::MappedFile;

/// How [`Vfs::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// A file system, or something that behaves like one.
///
/// Paths are passed on as the engine builds them: the store directory joined with a file name.
///
/// # Errors
///
/// Every method returns the [`io::Error`] of the operation; callers add the path.
pub trait Vfs: Send + Sync + 'static {
    /// Opens the file at `path`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// The names (not paths) of the regular files in `dir`, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// The names of whatever else is in `dir`: directories, links, and files whose names are no
    /// text, with what is no text in them replaced. The engine asks for them to know whether it has
    /// a directory to itself. Default: none.
    fn list_others(&self, dir: &Path) -> io::Result<Vec<String>> {
        let _ = dir;
        Ok(Vec::new())
    }
    /// Creates `dir` and its parents. It is no error if they exist.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file, replacing `to` atomically if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles and maps of it stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives the file at `from` a second name, `to`, which must not exist: a hard link. Both names
    /// stand for one file afterwards; the engine links only files that are never written again.
    ///
    /// Default: [`io::ErrorKind::Unsupported`]. After any error, callers copy.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Creates `to`, which must not exist, as a copy of the whole file at `from` that shares its
    /// blocks until one of the two is written to. The copy is durable as if it had been written:
    /// after a sync of it and of its directory.
    ///
    /// Default: [`io::ErrorKind::Unsupported`], as where the file system cannot do it: nothing was
    /// created then, and callers copy byte by byte.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<Arc<dyn File>> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// `path` in a form that means the same wherever the process goes: the store's directory is
    /// kept so. Default: `path` as it is.
    fn absolute(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
    /// `path` with every link in it resolved, as far as it exists: two paths that lead to the same
    /// place become one. Default: [`Vfs::absolute`].
    fn resolved(&self, path: &Path) -> PathBuf {
        self.absolute(path)
    }
    /// Bytes that files in `dir` can still take, roughly; `None` where nobody knows. The engine
    /// asks before its log grows, to leave compaction the room that it needs; where nobody knows it
    /// holds that room in a file at all times. Default: `None`.
    fn free_space(&self, dir: &Path) -> io::Result<Option<u64>> {
        let _ = dir;
        Ok(None)
    }
    /// Makes all names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock named by `path`, creating its file if needed, and writes `note`
    /// into it. `Ok(Err(note))` when somebody else holds it: `note` is what the holder wrote.
    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>>;
}

/// A held lock; dropping it releases it.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// An open file with positional I/O. All methods may be called from several threads at once.
pub trait File: Send + Sync {
    /// Reads into `buf` from `offset`; returns how many bytes were read, 0 at the end of the file.
    /// Short reads are allowed anywhere.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes `buf` at `offset`; returns how many bytes were written. Short writes are allowed.
    /// Writing past the end extends the file, the gap reads as zeros.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// The length of the file in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file to at least `len` bytes and reserves the blocks, so that later writes
    /// below `len` do not run out of space. New bytes read as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes all bytes written so far, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`File::sync_data`], with all metadata.
    fn sync_all(&self) -> io::Result<()>;
    /// Maps the first `len` bytes for reading, or `None` where files cannot be mapped. The engine
    /// maps sealed segments only: files that are never written or cut again.
    fn map(&self, len: u64) -> io::Result<Option<Map>>;
    /// Gives back what the system holds for an open file. It can be read afterwards as before, if
    /// it still is where it was. Called for sealed segments that are mapped, of which a process
    /// may have more than it may have files open. By default nothing is done.
    fn rest(&self) {}
}

/// Read-only bytes of a sealed file: a memory map, or a shared buffer where there is none.
#[derive(Clone)]
pub enum Map {
    /// A memory map of a real file.
    File(Arc<MappedFile>),
    /// A buffer (simulated and in-memory file systems).
    Memory(Arc<[u8]>),
}

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Map::File(map) => map,
            Map::Memory(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.len()).finish()
    }
}

/// A failed operation on storage: what was tried, on which file, and the error of the system.
#[derive(Debug)]
pub struct IoError {
    /// The operation, as a verb: `write`, `sync`, `open`.
    pub op: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl IoError {
    /// Attaches operation and path to an error of the system.
    pub fn new(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        IoError { op, path: path.into(), source }
    }

    /// True if the device or the quota is full: free space and try again.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl Clone for IoError {
    fn clone(&self) -> Self {
        let source = match self.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        IoError { op: self.op, path: self.path.clone(), source }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.op, self.path.display(), self.source)
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Interrupted calls are repeated this often before the interruption is returned as an error, so
/// that a system that only ever interrupts cannot hang the caller.
const INTERRUPTS_MAX: u32 = 128;

/// Writes all of `buf` at `offset`, over short writes and interruptions.
pub(crate) fn write_all_at(file: &dyn File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    let mut interrupts = 0;
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "wrote no bytes")),
            Ok(n) => {
                buf = buf.get(n..).unwrap_or(&[]);
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted && interrupts < INTERRUPTS_MAX => {
                interrupts += 1;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills `buf` from `offset` as far as the file reaches; returns the bytes read. A short read is
/// not taken for the end of the file: only a read of zero bytes is.
pub(crate) fn read_full_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    let mut interrupts = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) if planted!(ShortReadIsEnd) => return Ok(done + n),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted && interrupts < INTERRUPTS_MAX => {
                interrupts += 1;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
