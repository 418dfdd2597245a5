//! Read-only maps of sealed segments: the one file that holds `unsafe` for memory mapping.
//!
//! Invariants that make a map sound here:
//! - only sealed segments are mapped: after sealing the engine neither writes nor cuts the file;
//! - the store directory is locked, so that no second engine does;
//! - a segment that is no longer needed is unlinked, never truncated: the map keeps its blocks.
//!
//! What cannot be ruled out: another program that cuts or rewrites the file, and a medium that
//! fails to deliver a page. Both end in SIGBUS, which no library can turn into an `Err`; who
//! must survive that opens the store with `ReadMode::Pread`.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

/// A read-only memory map of a file's first bytes.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps the first `len` bytes of `file`.
    ///
    /// # Errors
    ///
    /// The file is shorter than `len`, or the system refuses the map.
    pub(super) fn new(file: &File, len: u64) -> io::Result<Self> {
        let actual = file.metadata()?.len();
        if actual < len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("file has {actual} bytes, expected at least {len}"),
            ));
        }
        let len = usize::try_from(len).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "map exceeds address space")
        })?;
        // SAFETY: the caller maps sealed segments only (module invariants): no process that keeps
        // to the store's lock writes or cuts the file while the map lives, and `len` lies within
        // the file, checked above.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(MappedFile(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
