//! Directories in memory and on disk, as sources and targets.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::rc::Rc;

use siltstone::transfer::{FileEntry, Source, Target};

/// Files by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Files that were made and not yet committed.
    pub(crate) pending: BTreeMap<String, Vec<u8>>,
    /// Bytes after which a write fails, if any.
    pub(crate) room: Option<usize>,
}

impl Files {
    /// The files of a directory, or the one file.
    pub(crate) fn read(path: &Path) -> Files {
        let paths = match path.is_dir() {
            true => fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect(),
            false => vec![path.to_owned()],
        };
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect();
        Files { files, ..Files::default() }
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Files {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).into()));
        Files { files: files.collect(), ..Files::default() }
    }
}

impl Source for Files {
    fn files(&self) -> io::Result<Vec<FileEntry>> {
        let entry = |(name, text): (&String, &Vec<u8>)| FileEntry {
            name: name.clone(),
            len: text.len() as u64,
        };
        Ok(self.files.iter().map(entry).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        match self.files.get(name) {
            Some(text) => Ok(Box::new(&text[..])),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

struct Limited<'a> {
    text: &'a mut Vec<u8>,
    room: Option<&'a mut usize>,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(room) = &mut self.room {
            match room.checked_sub(bytes.len()) {
                Some(left) => **room = left,
                None => return Err(io::Error::other("no space is left")),
            }
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Files {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>> {
        let text = self.pending.entry(name.to_owned()).or_default();
        Ok(Box::new(Limited { text, room: self.room.as_mut() }))
    }

    fn commit(&mut self) -> io::Result<()> {
        self.files.append(&mut self.pending);
        Ok(())
    }
}

/// A source that makes its file as it is read, so that only the reader's memory counts; and fails
/// after `fails_at` bytes of the open number `fails_on`.
pub(crate) struct Generated {
    pub(crate) name: &'static str,
    pub(crate) head: &'static str,
    pub(crate) tail: &'static str,
    /// What stands between them, this many times, with its number.
    pub(crate) record: fn(u64) -> String,
    pub(crate) records: u64,
    pub(crate) fails_on: Option<(u32, usize)>,
    pub(crate) opens: Cell<u32>,
    pub(crate) bytes_read: Rc<Cell<u64>>,
}

struct Generator<'a> {
    source: &'a Generated,
    next: u64,
    piece: Vec<u8>,
    at: usize,
    is_over: bool,
    fails_at: Option<usize>,
    given: usize,
}

impl Source for Generated {
    fn files(&self) -> io::Result<Vec<FileEntry>> {
        Ok(vec![FileEntry { name: self.name.to_owned(), len: 0 }])
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn Read + '_>> {
        self.opens.set(self.opens.get() + 1);
        let fails_at = self.fails_on.filter(|(open, _)| *open == self.opens.get());
        Ok(Box::new(Generator {
            source: self,
            next: 0,
            piece: self.head.into(),
            at: 0,
            is_over: false,
            fails_at: fails_at.map(|(_, at)| at),
            given: 0,
        }))
    }
}

impl Read for Generator<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.fails_at.is_some_and(|at| self.given >= at) {
            return Err(io::Error::other("the disk is gone"));
        }
        if self.at == self.piece.len() && !self.is_over {
            self.at = 0;
            let text = match self.next < self.source.records {
                true => (self.source.record)(self.next),
                false => self.source.tail.to_owned(),
            };
            let comma = if self.next > 0 && self.next < self.source.records { ", " } else { "" };
            self.piece = format!("{comma}{text}").into_bytes();
            self.is_over = self.next == self.source.records;
            self.next += 1;
        }
        let rest = &self.piece[self.at..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        self.given += len;
        self.source.bytes_read.set(self.source.bytes_read.get() + len as u64);
        Ok(len)
    }
}
