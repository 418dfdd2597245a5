//! [`DirSource`] and [`DirTarget`]: directories of LlamaIndex's files in the file system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use super::files::{FileEntry, Source, Target};
use super::report::Ignored;
use crate::engine::{Options, store_around};

/// What the names of files end with that are being written; they begin with a dot.
const UNFINISHED: &str = ".siltstone-export";
/// Longest name of a file, in bytes, on the file systems that are in use.
const NAME_LEN_MAX: usize = 255;

/// A directory to import; or a single file, which stands for a directory with nothing else in it.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use siltstone::kv::LogKv;
/// use siltstone::transfer::{DirSource, Import, ImportOptions};
///
/// let source = DirSource::new("storage");
/// let import = Import::check(&source, ImportOptions::new(), &mut |_, _| {})?;
/// let report = import.write_to_log(&LogKv::open("store")?, &mut |_, _| {})?;
/// println!("{} records; not read: {:?}", report.records(), report.ignored);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DirSource {
    dir: PathBuf,
    single: Option<String>,
}

/// What lies in a directory.
enum Found {
    File(FileEntry),
    Other(Ignored),
}

impl DirSource {
    /// The directory at `path`, or the file. Nothing is read yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let single = path.file_name().filter(|_| path.is_file()).and_then(|name| name.to_str());
        match (single, path.parent()) {
            (Some(name), Some(dir)) => DirSource { dir: dir.into(), single: Some(name.into()) },
            _ => DirSource { dir: path.into(), single: None },
        }
    }

    fn list(&self) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let shown = entry.file_name().to_string_lossy().into_owned();
            let other = |why: String| Found::Other(Ignored { name: shown, why });
            // Links are followed.
            let metadata = fs::metadata(entry.path());
            all.push(match (metadata, entry.file_name().into_string()) {
                (Err(e), _) if e.kind() == io::ErrorKind::NotFound => {
                    other("it is a link to nothing".into())
                }
                (Err(e), _) => other(format!("it cannot be looked at: {e}")),
                (Ok(found), _) if !found.is_file() => other("it is no file".into()),
                (Ok(_), Err(_)) => other("LlamaIndex writes no such name".into()),
                (Ok(found), Ok(name)) => Found::File(FileEntry { name, len: found.len() }),
            });
        }
        Ok(all)
    }
}

impl Source for DirSource {
    fn files(&self) -> io::Result<Vec<FileEntry>> {
        if let Some(name) = &self.single {
            let len = fs::metadata(self.dir.join(name))?.len();
            return Ok(vec![FileEntry { name: name.clone(), len }]);
        }
        let file = |found| match found {
            Found::File(file) => Some(file),
            Found::Other(_) => None,
        };
        Ok(self.list()?.into_iter().filter_map(file).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.dir.join(name))?))
    }

    fn others(&self) -> io::Result<Vec<Ignored>> {
        if self.single.is_some() {
            return Ok(Vec::new());
        }
        let other = |found| match found {
            Found::File(_) => None,
            Found::Other(other) => Some(other),
        };
        Ok(self.list()?.into_iter().filter_map(other).collect())
    }
}

/// True for the name of a file that a [`DirTarget`] was writing.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// A directory to export into. Files are written under names that begin with a dot and renamed
/// when all of them are on the device; then other files are removed that LlamaIndex would load
/// with the new ones, whoever wrote them ([`Target::replace`]). If the power fails in between, the
/// directory holds some of the new files, each of them whole, and old ones beside them. Dropped
/// before the commit, it leaves nothing behind.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use siltstone::kv::{KvStore, LogKv};
/// use siltstone::transfer::{DirTarget, FileNames, export};
///
/// let kv: Arc<dyn KvStore> = Arc::new(LogKv::open("store")?);
/// let mut target = DirTarget::new("storage")?;
/// let report = export(&kv, &mut target, &FileNames::default(), &mut |_, _| {})?;
/// println!("{} files; not exported: {:?}", report.files.len(), report.left_out);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DirTarget {
    dir: PathBuf,
    names: BTreeSet<String>,
    stale: Vec<String>,
}

impl DirTarget {
    /// Makes the directory, if it is not there. What lies in it stays, but for files that an
    /// export replaces.
    ///
    /// # Errors
    ///
    /// Why it cannot be made; [`InvalidInput`](io::ErrorKind::InvalidInput) if there is a store in
    /// it, or in a directory above it.
    pub fn new(dir: impl AsRef<Path>) -> io::Result<Self> {
        refuse_store(dir.as_ref())?;
        fs::create_dir_all(&dir)?;
        let dir = dir.as_ref().to_owned();
        Ok(DirTarget { dir, names: BTreeSet::new(), stale: Vec::new() })
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.dir.join(hidden_name(name))
    }
}

/// Refuses a directory that is a store's or a backup's, or lies within one: the files would stand
/// among the log's, and one could take the place of the manifest.
pub(crate) fn refuse_store(dir: &Path) -> io::Result<()> {
    let Some(store) = store_around(Options::new().file_system(), dir) else { return Ok(()) };
    let what = format!(
        "there is a store or a backup in {}; nothing was written; export into another directory",
        store.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

fn hidden_name(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

/// A name that would lead out of the directory is none.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !name.contains(std::path::is_separator)
        && !name.contains('\0')
}

impl Target for DirTarget {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>> {
        if let Some(why) = self.refuses(name) {
            return Err(io::Error::other(why));
        }
        if self.names.contains(name) {
            return Err(io::Error::other("a file of that name was written already"));
        }
        let file = File::create(self.hidden(name))?;
        self.names.insert(name.to_owned());
        Ok(Box::new(BufWriter::new(file)))
    }

    fn refuses(&self, name: &str) -> Option<&'static str> {
        if !is_plain(name) {
            return Some("that is no name of a file");
        }
        let is_long = hidden_name(name).len() > NAME_LEN_MAX;
        is_long.then_some("that is too long for the name of a file")
    }

    fn replace(&mut self, is_known: &dyn Fn(&str) -> bool) -> io::Result<Vec<String>> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A link is removed, and what it leads to stays.
            let is_stale = is_known(&name) && !self.names.contains(&name);
            if is_stale && !entry.file_type()?.is_dir() {
                self.stale.push(name);
            }
        }
        self.stale.sort();
        Ok(self.stale.clone())
    }

    fn commit(&mut self) -> io::Result<()> {
        for name in &self.names {
            File::open(self.hidden(name))?.sync_all()?;
        }
        while let Some(name) = self.names.first() {
            fs::rename(self.hidden(name), self.dir.join(name))?;
            self.names.pop_first();
        }
        for name in self.stale.drain(..) {
            match fs::remove_file(self.dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
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
