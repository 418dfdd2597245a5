//! Directories of LlamaIndex's files in the file system.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::transfer::{FileEntry, Ignored, Source, Target};

/// A directory to import; or a single file, which stands for a directory with nothing else in it.
pub(super) struct DirSource {
    dir: PathBuf,
    single: Option<String>,
}

impl DirSource {
    pub(super) fn new(path: &Path) -> Self {
        let single = path.file_name().filter(|_| path.is_file()).and_then(|name| name.to_str());
        match (single, path.parent()) {
            (Some(name), Some(dir)) => DirSource { dir: dir.into(), single: Some(name.into()) },
            _ => DirSource { dir: path.into(), single: None },
        }
    }

    /// What lies in the directory and is no file that could be imported.
    pub(super) fn others(&self) -> io::Result<Vec<Ignored>> {
        let mut others = Vec::new();
        if self.single.is_some() {
            return Ok(others);
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let why = match (entry.file_name().to_str(), fs::metadata(entry.path())?.is_file()) {
                (Some(_), true) => continue,
                (None, _) => "LlamaIndex writes no such name",
                (_, false) => "it is no file",
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            others.push(Ignored { name, why: why.to_owned() });
        }
        others.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(others)
    }
}

impl Source for DirSource {
    fn files(&self) -> io::Result<Vec<FileEntry>> {
        if let Some(name) = &self.single {
            let len = fs::metadata(self.dir.join(name))?.len();
            return Ok(vec![FileEntry { name: name.clone(), len }]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // Links are followed.
            let metadata = fs::metadata(entry.path())?;
            // LlamaIndex writes names that are text only.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push(FileEntry { name, len: metadata.len() });
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.dir.join(name))?))
    }
}

/// A directory to export into. Files are written under names that begin with a dot and renamed
/// when all of them are on the device. If the power fails between two renames, the directory holds
/// some of the new files, each of them whole. Dropped before the commit, it leaves nothing behind.
pub(super) struct DirTarget {
    dir: PathBuf,
    names: Vec<String>,
}

impl DirTarget {
    /// Makes the directory, if it is not there.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(DirTarget { dir: dir.into(), names: Vec::new() })
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.dir.join(format!(".{name}.siltstone-export"))
    }
}

/// A name that would lead out of the directory is none.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        && !name.contains(std::path::is_separator)
}

impl Target for DirTarget {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>> {
        if !is_plain(name) {
            return Err(io::Error::other("that is no name of a file"));
        }
        let file = File::create(self.hidden(name))?;
        self.names.push(name.to_owned());
        Ok(Box::new(BufWriter::new(file)))
    }

    fn commit(&mut self) -> io::Result<()> {
        for name in &self.names {
            File::open(self.hidden(name))?.sync_all()?;
        }
        while let Some(name) = self.names.pop() {
            let renamed = fs::rename(self.hidden(&name), self.dir.join(&name));
            if let Err(e) = renamed {
                self.names.push(name);
                return Err(e);
            }
        }
        File::open(&self.dir)?.sync_all()
    }
}

impl Drop for DirTarget {
    fn drop(&mut self) {
        for name in &self.names {
            // What cannot be removed is an invisible file that the next export writes over.
            let _ = fs::remove_file(self.hidden(name));
        }
    }
}
