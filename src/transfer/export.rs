//! The export: the files that `StorageContext.persist` writes, and those of chat stores and caches.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use super::error::TransferError;
use super::files::Target;
use super::graph;
use super::keyvalue;
use super::kinds::{NAMESPACE_SEPARATOR, Records};
use super::property_graph;
use super::space::{Space, is_empty_graph};
use super::vectors;
use crate::kv::json::{JsonWriter, Style};
use crate::kv::{KvError, KvStore, Text, Value};
use crate::stores::{PropertyGraphStore, StoreError, VectorStore};

/// The collection of an ingestion cache, and the name of its file.
const CACHE: &str = "llama_cache";

/// How an export is done: the names of the files. The defaults are those that LlamaIndex loads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// Default: `docstore.json`.
    pub docstore_fname: String,
    /// Default: `index_store.json`.
    pub index_store_fname: String,
    /// Default: `graph_store.json`.
    pub graph_store_fname: String,
    /// Default: `property_graph_store.json`.
    pub pg_graph_store_fname: String,
    /// What follows a namespace and `__`. Default: `vector_store.json`.
    pub vector_store_fname: String,
    /// Default: `chat_store.json`.
    pub chat_store_fname: String,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions {
            docstore_fname: "docstore.json".into(),
            index_store_fname: "index_store.json".into(),
            graph_store_fname: "graph_store.json".into(),
            pg_graph_store_fname: "property_graph_store.json".into(),
            vector_store_fname: "vector_store.json".into(),
            chat_store_fname: "chat_store.json".into(),
        }
    }
}

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// The files, in the order in which they were written.
    pub files: Vec<ExportedFile>,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedFile {
    /// Its name.
    pub name: String,
    /// How many records it holds.
    pub records: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Writes everything that LlamaIndex has a file for into `target`; see the
/// [module](crate::transfer) for which. `progress` is told the records that were written, and how
/// many there are.
///
/// Others may write to the store meanwhile: each record is as it was at some moment of the export.
///
/// Costs memory for the largest record, and for all keys of one collection.
///
/// # Errors
///
/// [`TransferError::Read`], [`TransferError::Write`].
pub fn export(
    kv: &Arc<dyn KvStore>,
    target: &mut dyn Target,
    options: &ExportOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ExportReport, TransferError> {
    let collections = kv.collections().map_err(|e| TransferError::Read(e.into()))?;
    let contents = Contents::of(&**kv, &collections).map_err(|e| TransferError::Read(e.into()))?;
    let total = contents.records;
    let mut export = Export { kv, target, progress, total, done: 0, report: <_>::default() };
    export.file(&options.docstore_fname, Style::Python, |out| keyvalue::write(out, &contents))?;
    export.file(&options.index_store_fname, Style::Python, |out| {
        keyvalue::write_structs(out, &contents)
    })?;
    export.file(&options.graph_store_fname, Style::Python, graph::write)?;
    // These two belong to every context that LlamaIndex makes.
    let mut namespaces = BTreeSet::from(["default".to_owned(), "image".to_owned()]);
    namespaces.extend(VectorStore::namespaces(&**kv).map_err(TransferError::Read)?);
    for namespace in &namespaces {
        let name = format!("{namespace}{NAMESPACE_SEPARATOR}{}", options.vector_store_fname);
        export.file(&name, Style::Python, |out| vectors::write(out, namespace))?;
    }
    let graph = PropertyGraphStore::new(kv.clone());
    if !is_empty_graph(&graph).map_err(TransferError::Read)? {
        export.file(&options.pg_graph_store_fname, Style::Utf8, property_graph::write)?;
    }
    if contents.has_cache {
        export.file(CACHE, Style::Python, |out| {
            out.open_map()?;
            keyvalue::write_collection(out, CACHE)?;
            out.close()
        })?;
    }
    let Export { report, .. } = export;
    let failed = |source| TransferError::Write { file: String::new(), source };
    target.commit().map_err(failed)?;
    Ok(report)
}

/// What a store holds, by the collections that are there.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Document stores, and collections of no store.
    pub(super) key_value: BTreeSet<Space>,
    has_cache: bool,
    /// How many records there are, about.
    records: u64,
}

impl Contents {
    fn of(kv: &dyn KvStore, collections: &[(String, u64)]) -> Result<Contents, KvError> {
        let mut contents = Contents::default();
        for (name, len) in collections.iter().filter(|(_, len)| *len > 0) {
            contents.records += len;
            let space = match Records::of(&name.as_str().into()) {
                Records::Data(ns) if keyvalue::holds_structs(kv, &ns)? => Space::Structs(ns),
                Records::Data(ns) | Records::Metadata(ns) | Records::RefDocs(ns) => {
                    Space::Documents(ns)
                }
                Records::Other if name == CACHE => {
                    contents.has_cache = true;
                    continue;
                }
                Records::Other if is_internal(name) => continue,
                Records::Other => Space::Collection(name.clone()),
            };
            contents.key_value.insert(space);
        }
        Ok(contents)
    }
}

/// True for collections in which stores keep what LlamaIndex has no place for.
fn is_internal(collection: &str) -> bool {
    let of_stores = ["graph_store/", "property_graph_store/", "vector_store/"];
    let parts_of_records = ["/ref_doc_info.nodes", "/data.members"];
    parts_of_records.iter().any(|end| collection.ends_with(end))
        || of_stores.iter().any(|prefix| collection.starts_with(prefix))
}

struct Export<'a> {
    kv: &'a Arc<dyn KvStore>,
    target: &'a mut dyn Target,
    progress: &'a mut dyn FnMut(u64, u64),
    total: u64,
    done: u64,
    report: ExportReport,
}

impl Export<'_> {
    /// Writes one file.
    fn file(
        &mut self,
        name: &str,
        style: Style,
        write: impl FnOnce(&mut Out<'_>) -> Result<(), Failed>,
    ) -> Result<(), TransferError> {
        let failed = |source| TransferError::Write { file: name.to_owned(), source };
        let len = Cell::new(0);
        let file = Counted { file: self.target.create(name).map_err(failed)?, len: &len };
        let (done, total) = (self.done, self.total);
        let progress: &mut dyn FnMut(u64, u64) = self.progress;
        let mut out = Out {
            kv: self.kv,
            json: JsonWriter::new(file, style),
            records: 0,
            tell: &mut |records| progress((done + records).min(total), total),
        };
        let written = write(&mut out).and_then(|()| Ok(out.json.finish()?));
        let records = out.records;
        drop(out);
        written.map_err(|e| match e {
            Failed::Read(e) => TransferError::Read(e),
            Failed::Write(e) => failed(e),
        })?;
        self.done += records;
        self.report.files.push(ExportedFile { name: name.to_owned(), records, len: len.get() });
        Ok(())
    }
}

/// Counts the bytes that pass.
pub(super) struct Counted<'a> {
    file: Box<dyn Write + 'a>,
    len: &'a Cell<u64>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.len.set(self.len.get() + written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file that is being written.
pub(super) struct Out<'a> {
    pub(super) kv: &'a Arc<dyn KvStore>,
    pub(super) json: JsonWriter<Counted<'a>>,
    records: u64,
    tell: &'a mut dyn FnMut(u64),
}

/// A failure within a visit: stores pass their own errors only, so that of the file waits here.
#[derive(Default)]
pub(super) struct Caught(Option<Failed>);

impl Caught {
    /// What a visitor returns.
    pub(super) fn pass(&mut self, done: Result<(), Failed>) -> Result<(), StoreError> {
        done.map_err(|e| {
            self.0 = Some(e);
            StoreError::InvalidArgument("the file cannot be written".into())
        })
    }

    /// What came of the visits.
    pub(super) fn settle(self, given: Result<(), StoreError>) -> Result<(), Failed> {
        match self.0 {
            Some(e) => Err(e),
            None => Ok(given?),
        }
    }
}

/// Why a file could not be written.
pub(super) enum Failed {
    Read(StoreError),
    Write(std::io::Error),
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        Failed::Read(e)
    }
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        Failed::Write(e)
    }
}

/// What a store calls with each record that it gives away.
pub(super) type Visit<'v> = dyn FnMut(Text, Value) -> Result<(), StoreError> + 'v;

impl Out<'_> {
    pub(super) fn open_map(&mut self) -> Result<(), Failed> {
        Ok(self.json.open_map()?)
    }

    pub(super) fn close(&mut self) -> Result<(), Failed> {
        Ok(self.json.close()?)
    }

    /// One record under its key.
    pub(super) fn record(&mut self, key: &Text, value: &Value) -> Result<(), Failed> {
        self.json.key(key)?;
        self.item(value)
    }

    /// One record of a list, or under a key that was written.
    pub(super) fn item(&mut self, value: &Value) -> Result<(), Failed> {
        self.json.value(value)?;
        self.records += 1;
        if self.records.is_multiple_of(256) {
            (self.tell)(self.records);
        }
        Ok(())
    }

    /// The dictionary `name` with all records that `give` visits.
    pub(super) fn records(
        &mut self,
        name: &str,
        give: impl FnOnce(&mut Visit<'_>) -> Result<(), StoreError>,
    ) -> Result<(), Failed> {
        self.json.key(&name.into())?;
        self.json.open_map()?;
        let mut caught = Caught::default();
        let given = give(&mut |key, value| caught.pass(self.record(&key, &value)));
        caught.settle(given)?;
        self.close()
    }

    /// As [`Out::records`], with what belongs to records that were counted.
    pub(super) fn uncounted(
        &mut self,
        name: &str,
        give: impl FnOnce(&mut Visit<'_>) -> Result<(), StoreError>,
    ) -> Result<(), Failed> {
        let counted = self.records;
        let written = self.records(name, give);
        self.records = counted;
        written
    }
}
