//! The import: two passes over the files, the first of which writes nothing.

use std::sync::Arc;

use super::chat;
use super::context;
use super::dir::is_unfinished;
use super::error::{Left, Stop, TransferError};
use super::files::{FileEntry, FileNames, Source};
use super::graph;
use super::keyvalue::{self, Holds};
use super::kinds::FileKind;
use super::load::{Claims, Json, Learned, Load, Progress, Walk};
use super::marker::{self, Marker};
use super::property_graph;
use super::report::{FileReport, Ignored, ImportReport};
use super::space::Space;
use super::vectors;
use crate::engine::{Durability, PersistOptions};
use crate::kv::json::JsonReader;
use crate::kv::{KvStore, LogKv, Staged};
use crate::stores::{Registry, StoreError};

/// The name of the durable snapshot that an import takes of the store before it.
pub const SNAPSHOT_NAME: &str = "before-import";

/// How an import is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Take what is whole of files that are not, and report the rest. Default: false.
    pub salvage: bool,
    /// Put what is imported in the place of what the store holds of it. Default: false, which
    /// refuses to.
    pub replace: bool,
    /// The names that say what a file is, beside LlamaIndex's own. Default: those.
    pub names: FileNames,
}

impl ImportOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`ImportOptions::salvage`].
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Sets [`ImportOptions::replace`].
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// Sets [`ImportOptions::names`].
    pub fn names(mut self, names: FileNames) -> Self {
        self.names = names;
        self
    }
}

/// A directory that was looked through and can be imported.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::{self, Read};
/// use std::sync::Arc;
/// use siltstone::kv::{KvStore, MemoryKv};
/// use siltstone::stores::DocumentStore;
/// use siltstone::transfer::{FileEntry, Import, ImportOptions, Source};
///
/// struct OneFile(&'static str);
/// impl Source for OneFile {
///     fn files(&self) -> io::Result<Vec<FileEntry>> {
///         Ok(vec![FileEntry { name: "docstore.json".into(), len: self.0.len() as u64 }])
///     }
///     fn open(&self, _: &str) -> io::Result<Box<dyn Read + '_>> {
///         Ok(Box::new(self.0.as_bytes()))
///     }
/// }
///
/// let source = OneFile(r#"{"docstore/metadata": {"n1": {"doc_hash": "abc"}}}"#);
/// let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
/// let checked = Import::check(&source, ImportOptions::new(), &mut |_, _| {})?;
/// let report = checked.write(&kv, &mut |_, _| {})?;
/// assert_eq!(report.records(), 1);
/// assert_eq!(DocumentStore::new(kv).get_document_hash("n1")?, Some("abc".into()));
/// # Ok(()) }
/// ```
pub struct Import<'s> {
    source: &'s dyn Source,
    options: ImportOptions,
    files: Vec<Planned>,
    claims: Claims,
    /// The store becomes a context that LlamaIndex loaded: with the vector stores of the files.
    is_context: bool,
    report: ImportReport,
    /// Bytes of all walks.
    total: u64,
    done: u64,
}

/// Where a walk ended early, and why.
struct Halt {
    /// Empty if it was in no file.
    file: String,
    stop: Box<Stop>,
}

impl Halt {
    fn new(file: &str, stop: Stop) -> Self {
        Halt { file: file.to_owned(), stop: Box::new(stop) }
    }
}

struct Planned {
    kind: FileKind,
    /// Its name says what it is, and not its content.
    is_named: bool,
    learned: Learned,
    report: FileReport,
}

impl<'s> Import<'s> {
    /// Looks through all files of `source`. `progress` is told how many bytes of how many were
    /// read; the second number is a guess at first, since writing reads the files again.
    ///
    /// Costs a pass over the files, and memory for the largest record.
    ///
    /// # Errors
    ///
    /// [`TransferError`] for the first thing that is wrong, unless it is a salvage.
    pub fn check(
        source: &'s dyn Source,
        options: ImportOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, TransferError> {
        options.names.check()?;
        let mut entries = source.files().map_err(TransferError::Source)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut files = Vec::new();
        let mut report = ImportReport::default();
        let all: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        for FileEntry { name, len } in entries {
            match kind_of(source, &name, &all, &options.names) {
                Err(why) => report.ignored.push(Ignored { name, why }),
                Ok((kind, is_named)) => {
                    let report = FileReport::new(name, kind.name(), len);
                    let learned = Learned::default();
                    files.push(Planned { kind, is_named, learned, report });
                }
            }
        }
        if files.is_empty() {
            return Err(TransferError::NothingFound);
        }
        report.ignored.extend(source.others().map_err(TransferError::Source)?);
        // Those first that win.
        files.sort_by_key(|file| !file.is_named);
        let total = 2 * files.iter().map(|file| file.report.len).sum::<u64>();
        let claims = Claims::new();
        let mut import =
            Import { source, options, files, claims, is_context: false, report, total, done: 0 };
        let mut index = 0;
        while index < import.files.len() {
            match import.walk(index, Walk::Check, progress) {
                Ok(()) => index += 1,
                Err(halt) => import.give_way(index, halt)?,
            }
        }
        import.files.sort_by(|a, b| a.report.name.cmp(&b.report.name));
        import.report.ignored.sort_by(|a, b| a.name.cmp(&b.name));
        let again = import.files.iter().filter(|file| file.learned.needs_second);
        import.total += again.map(|file| file.report.len).sum::<u64>();
        Ok(import)
    }

    /// A file that only its content shows to hold what one of a known name holds, a copy for
    /// instance, is not read.
    fn give_way(&mut self, index: usize, halt: Halt) -> Result<(), TransferError> {
        let is_named =
            |name: &str| self.files.iter().any(|file| file.is_named && file.report.name == name);
        match &*halt.stop {
            Stop::Twice { space, other } if is_named(other) && !is_named(&halt.file) => {
                let why = format!("{other} holds {space}");
                let ignored = self.files.remove(index).report;
                self.claims.retain(|_, file| *file != ignored.name);
                self.total = self.total.saturating_sub(2 * ignored.len);
                self.done = self.done.saturating_sub(ignored.len);
                self.report.ignored.push(Ignored { name: ignored.name, why });
                Ok(())
            }
            _ => Err(halt.stop.of_check(&halt.file)),
        }
    }

    /// Bytes that will have been read when all is done.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Writes what was found into `kv`, in batches of some megabytes, and makes it durable. What
    /// the store holds outside of the namespaces of the files stays.
    ///
    /// # Errors
    ///
    /// [`TransferError::Occupied`]: nothing was written. [`TransferError::Broken`]: a part was.
    /// Importing again, with [`ImportOptions::replace`], makes it whole.
    pub fn write(
        self,
        kv: &Arc<dyn KvStore>,
        progress: &mut Progress<'_>,
    ) -> Result<ImportReport, TransferError> {
        self.refuse_occupied(kv)?;
        self.write_over(kv, progress).map_err(|halt| halt.stop.of_write(&halt.file, Left::Part))
    }

    /// As [`Import::write`], all or nothing: a durable snapshot named [`SNAPSHOT_NAME`] is taken
    /// first, which is rolled back to if the import fails, and dropped in the end.
    ///
    /// If the process is killed, or the power cut, a part of the import is left, the snapshot, and
    /// a record that names it. The next opening of a [`StorageContext`] undoes it, as does the next
    /// import and [`undo_cut_import`]; openings for reading only are refused until then. Dropping
    /// the snapshot instead keeps the part for good.
    ///
    /// Nothing else may write meanwhile: it would be rolled back, too.
    ///
    /// [`StorageContext`]: crate::StorageContext
    /// [`undo_cut_import`]: super::undo_cut_import
    ///
    /// # Errors
    ///
    /// [`TransferError::Occupied`]: nothing was written. [`TransferError::Broken`] says what is
    /// left.
    pub fn write_to_log(
        self,
        log: &LogKv,
        progress: &mut Progress<'_>,
    ) -> Result<ImportReport, TransferError> {
        let kv: Arc<dyn KvStore> = Arc::new(log.clone());
        let db = log.db();
        let broken = |e: Box<dyn std::error::Error + Send + Sync>, left| TransferError::Broken {
            file: String::new(),
            source: e,
            left,
        };
        marker::undo_cut_import(log).map_err(|e| broken(Box::new(e), Left::AsItWas))?;
        self.refuse_occupied(&kv)?;
        let before = db
            .persist_with(PersistOptions::named(SNAPSHOT_NAME))
            .map_err(|e| broken(Box::new(e), Left::AsItWas))?;
        let marked = Marker { snapshot: before.id }.put(&*kv);
        let marked = marked.map_err(|e| Halt::new("", e.into()));
        let done = marked.and_then(|()| self.write_over(&kv, progress));
        let report = done.map_err(|halt| {
            let left = match db.rollback_to(before.id) {
                Err(_) => Left::PartBefore(before.id),
                Ok(rollback) => {
                    // What cannot be dropped stays listed, and can be dropped later.
                    let _ = db.drop_snapshot(rollback.undo.id);
                    let _ = db.drop_snapshot(before.id);
                    Left::AsItWas
                }
            };
            halt.stop.of_write(&halt.file, left)
        })?;
        // The import is whole and durable. A snapshot that stays is listed, and does no harm.
        let _ = db.drop_snapshot(before.id);
        Ok(report)
    }

    /// Fails if something would be replaced that may not be.
    fn refuse_occupied(&self, kv: &Arc<dyn KvStore>) -> Result<(), TransferError> {
        if self.options.replace {
            return Ok(());
        }
        let mut spaces = Vec::new();
        for space in self.claims.keys() {
            if !space.is_empty(kv).map_err(|e| Stop::Store(e).of_check(""))? {
                spaces.push(space.to_string());
            }
        }
        if spaces.is_empty() { Ok(()) } else { Err(TransferError::Occupied { spaces }) }
    }

    fn write_over(
        mut self,
        kv: &Arc<dyn KvStore>,
        progress: &mut Progress<'_>,
    ) -> Result<ImportReport, Halt> {
        let at_start = |stop| Halt::new("", stop);
        for space in self.claims.keys() {
            space.clear(kv).map_err(|e| at_start(e.into()))?;
        }
        for index in 0..self.files.len() {
            let staged = || Arc::new(Staged::new(kv.clone()));
            self.walk(index, Walk::First(staged()), progress)?;
            if self.files.get(index).is_some_and(|file| file.learned.needs_second) {
                self.walk(index, Walk::Second(staged()), progress)?;
            }
        }
        let last = Staged::new(kv.clone());
        self.register(&last).map_err(|e| at_start(e.into()))?;
        Marker::remove(&last).map_err(|e| at_start(e.into()))?;
        last.commit(Durability::Buffered).map_err(|e| at_start(e.into()))?;
        kv.persist().map_err(|e| at_start(e.into()))?;
        progress(self.total, self.total);
        self.report.files = self.files.into_iter().map(|file| file.report).collect();
        Ok(self.report)
    }

    /// The store will have no other vector stores than those of the files, as a context that
    /// LlamaIndex loads.
    pub(crate) fn into_context(mut self) -> Self {
        self.is_context = true;
        self
    }

    /// The namespaces of the vector stores that were found, empty ones too.
    fn vector_namespaces(&self) -> Vec<String> {
        let namespace = |space: &Space| match space {
            Space::Vectors(namespace) => Some(namespace.clone()),
            _ => None,
        };
        self.claims.keys().filter_map(namespace).collect()
    }

    /// Enters the stores that were found, since empty ones leave no other trace.
    fn register(&self, kv: &dyn KvStore) -> Result<(), StoreError> {
        let before = Registry::get(kv)?;
        let mut registry = before.clone();
        if self.is_context {
            registry.vector_stores = Some(self.vector_namespaces());
        }
        for namespace in self.vector_namespaces() {
            registry.add_vector_store(&namespace);
        }
        registry.property_graph |= self.claims.contains_key(&Space::PropertyGraph);
        if registry == before { Ok(()) } else { registry.put(kv) }
    }

    /// Walks through one file. A salvage goes on where the file cannot be read any further.
    fn walk(&mut self, index: usize, walk: Walk, progress: &mut Progress<'_>) -> Result<(), Halt> {
        let Import { source, options, files, claims, total, done, .. } = self;
        let Some(Planned { kind, learned, report, .. }) = files.get_mut(index) else {
            return Ok(());
        };
        let is_check = matches!(walk, Walk::Check);
        let name = report.name.clone();
        let (before, all) = (*done, *total);
        let mut tell = |byte: u64| progress(before + byte, all);
        *done += report.len;
        let mut load =
            Load::new(walk, *source, options.salvage, learned, claims, report, &mut tell);
        let walked = match source.open(&name) {
            Ok(file) => {
                let mut json = JsonReader::new(file);
                let walked = walk_kind(kind, &mut json, &mut load);
                walked.and_then(|()| Ok(json.finish()?))
            }
            Err(e) => Err(Stop::Open(e)),
        };
        let committed = load.commit();
        match walked {
            Err(Stop::Json(e)) if options.salvage => {
                if is_check {
                    let byte = match &e {
                        crate::kv::json::StreamError::Json(e) => e.byte,
                        crate::kv::json::StreamError::Io { byte, .. } => *byte,
                    };
                    report.unread = report.len.saturating_sub(byte as u64);
                    report.problems.add(byte as u64, e.to_string());
                }
            }
            other => other.map_err(|stop| Halt::new(&name, stop))?,
        }
        committed.map_err(|stop| Halt::new(&name, stop))
    }
}

/// What a file is, and whether its name says so; why it is not read, else.
fn kind_of(
    source: &dyn Source,
    name: &str,
    all: &[String],
    names: &FileNames,
) -> Result<(FileKind, bool), String> {
    if is_unfinished(name) {
        return Err("an export that did not end left it".to_owned());
    }
    let Some(kind) = FileKind::of_name(name, names) else {
        let shown = name.trim_start_matches('.');
        let is_copied = |known: &&String| {
            FileKind::of_name(known, names).is_some() && shown.starts_with(known.as_str())
        };
        if let Some(known) = all.iter().find(is_copied) {
            return Err(format!("{known} is there, of which it seems to be a copy"));
        }
        let content = source.open(name).map_err(|e| format!("it cannot be opened: {e}"))?;
        return Ok((FileKind::of_content(name, content)?, false));
    };
    // LlamaIndex takes the file of the newer name, too. A name that was given is what was meant.
    let newer = FileKind::newer_name(name, names);
    let given = FileKind::given_names(name, names);
    match newer.into_iter().chain(given).find(|other| all.contains(other)) {
        Some(newer) => Err(format!("{newer} has taken its place")),
        None => Ok((kind, true)),
    }
}

fn walk_kind(kind: &FileKind, json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
    match kind {
        FileKind::KeyValue => keyvalue::walk(json, load, Holds::Anything),
        FileKind::Structs => keyvalue::walk(json, load, Holds::Structs),
        FileKind::Graph => graph::walk(json, load),
        FileKind::PropertyGraph => property_graph::walk(json, load),
        FileKind::Vectors(namespace) => vectors::walk(json, load, namespace, &[]),
        FileKind::Chats => chat::walk(json, load),
        FileKind::Context => context::walk(json, load),
    }
}

impl std::fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import")
            .field("options", &self.options)
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}
