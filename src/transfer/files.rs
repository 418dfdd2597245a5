//! [`Source`] and [`Target`]: the directories that are read and written, wherever they are.

use std::io::{self, Read, Write};

/// A file of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// A directory that LlamaIndex persisted into. Files are read from front to back, several times.
pub trait Source {
    /// The files, in any order. What lies in directories below is left out.
    ///
    /// # Errors
    ///
    /// Why the directory cannot be read.
    fn files(&self) -> io::Result<Vec<FileEntry>>;

    /// Opens a file at its start. Several may be open at a time, the same one too.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>>;
}

/// A directory that LlamaIndex will load from.
pub trait Target {
    /// Makes a file, which need not be seen before [`Target::commit`]. It is dropped before the
    /// next one is made.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>>;

    /// Called once, after the last file was written whole: makes all of them seen, and durable.
    ///
    /// # Errors
    ///
    /// Why that cannot be done.
    fn commit(&mut self) -> io::Result<()>;
}
