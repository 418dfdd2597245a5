//! The export: the files that `StorageContext.persist` writes, and those of chat stores and caches.

use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;

use super::chat;
use super::contents::Contents;
use super::error::TransferError;
use super::files::{FileNames, Target};
use super::given::{Given, GivenStores};
use super::graph;
use super::keyvalue;
use super::kinds::{FileKind, NAMESPACE_SEPARATOR};
use super::property_graph;
use super::report::Ignored;
use super::space::{self, Space};
use super::vectors;
use crate::kv::json::{JsonWriter, Style};
use crate::kv::{KvStore, Text, Value};
use crate::stores::{
    ChatStore, GraphStore, PropertyGraphStore, Registry, StoreError, VectorStore,
    has_property_graph,
};

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// The files, in the order in which they were written.
    pub files: Vec<ExportedFile>,
    /// What LlamaIndex has no file for, and why.
    pub left_out: Vec<Ignored>,
    /// What LlamaIndex will read otherwise than it is here.
    pub warnings: Vec<String>,
    /// Files that were there and were removed: LlamaIndex would load them, and the store has
    /// nothing for them.
    pub removed: Vec<String>,
    /// How many vector stores are among what was left out, since no file can be named after them.
    pub vector_stores_left_out: u64,
}

impl ExportReport {
    /// True if each store that LlamaIndex has a file for was written.
    pub fn is_whole(&self) -> bool {
        self.vector_stores_left_out == 0
    }
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
/// [`TransferError::SameName`]: nothing was written. [`TransferError::Read`],
/// [`TransferError::Write`].
pub fn export(
    kv: &Arc<dyn KvStore>,
    target: &mut dyn Target,
    names: &FileNames,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ExportReport, TransferError> {
    export_with(kv, &GivenStores::default(), target, names, progress)
}

/// As [`export`], with other stores in the place of some.
pub(crate) fn export_with(
    kv: &Arc<dyn KvStore>,
    given: &GivenStores<'_>,
    target: &mut dyn Target,
    names: &FileNames,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ExportReport, TransferError> {
    names.check()?;
    let mut contents = Contents::of(&**kv).map_err(|e| TransferError::Read(e.into()))?;
    let total = contents.records;
    let mut export = Export { kv, target, progress, total, done: 0, report: <_>::default() };
    export.file(&names.docstore, Style::Python, |out| match &given.documents {
        Some(store) => store.write(out, keyvalue::write_documents),
        None => keyvalue::write(out, &contents),
    })?;
    export.file(&names.index_store, Style::Python, |out| match &given.structs {
        Some(store) => store.write(out, keyvalue::write_structs_of),
        None => keyvalue::write_structs(out, &contents),
    })?;
    export.file(&names.graph_store, Style::Python, |out| match &given.graph {
        Some(store) => store.write(out, graph::write),
        None => graph::write(out, &GraphStore::new(kv.clone())),
    })?;
    export.vector_stores(given, names, &mut contents.left_out)?;
    match &given.property_graph {
        Some(store) => export.file(&names.property_graph_store, Style::Utf8, |out| {
            store.write(out, property_graph::write)
        })?,
        None if has_property_graph(kv).map_err(TransferError::Read)? => {
            let store = PropertyGraphStore::new(kv.clone());
            let write = |out: &mut Out<'_>| property_graph::write(out, &store);
            export.file(&names.property_graph_store, Style::Utf8, write)?;
        }
        None => {}
    }
    let own_chats = Given::Ours(&ChatStore::new(kv.clone()));
    let chats = given.chats.as_ref().unwrap_or(&own_chats);
    if !given.without_chats && !chats.is_empty().map_err(TransferError::Read)? {
        export.file(&names.chat_store, Style::Utf8, |out| chats.write(out, chat::write))?;
    }
    if !contents.caches.is_empty() {
        export.file(&names.cache, Style::Python, |out| keyvalue::write_caches(out, &contents))?;
    }
    let Export { mut report, .. } = export;
    report.left_out = contents.left_out;
    let failed = |source| TransferError::Write { file: String::new(), source };
    let is_known = |name: &str| FileKind::of_name(name, names).is_some();
    report.removed = target.replace(&is_known).map_err(failed)?;
    target.commit().map_err(failed)?;
    Ok(report)
}

/// What LlamaIndex makes of the vector store `namespace`, if it takes it for another: it reads the
/// name of the file up to the first `__`.
fn misread(namespace: &str, file: &str, all: &[String]) -> Option<String> {
    let (front, _) = namespace.split_once(NAMESPACE_SEPARATOR)?;
    let is_there = all.iter().any(|other| other == front);
    let loss = if is_there { ", of which it reads one only" } else { "" };
    let (file, front) = (file.escape_debug(), front.escape_debug());
    Some(format!("LlamaIndex takes {file} for the vector store \"{front}\"{loss}"))
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
    /// Writes the files of all vector stores.
    fn vector_stores(
        &mut self,
        given: &GivenStores<'_>,
        names: &FileNames,
        left_out: &mut Vec<Ignored>,
    ) -> Result<(), TransferError> {
        let kv = self.kv;
        let of_kv = || Registry::get(&**kv)?.vector_namespaces(&**kv);
        let mut stores: Vec<(String, Option<&Given<'_, VectorStore>>)> = match &given.vectors {
            Some(stores) => stores.iter().map(|(name, s)| (name.clone(), s.as_ref())).collect(),
            None => of_kv().map_err(TransferError::Read)?.into_iter().map(|n| (n, None)).collect(),
        };
        stores.sort_by(|a, b| a.0.cmp(&b.0));
        let namespaces: Vec<String> = stores.iter().map(|(name, _)| name.clone()).collect();
        for (namespace, store) in stores {
            let name = format!("{namespace}{NAMESPACE_SEPARATOR}{}", names.vector_store);
            if let Some(why) = self.target.refuses(&name) {
                let why = format!("its file would be called \"{name}\": {why}");
                left_out.push(Ignored { name: Space::Vectors(namespace).to_string(), why });
                self.report.vector_stores_left_out += 1;
                continue;
            }
            self.report.warnings.extend(misread(&namespace, &name, &namespaces));
            let own = Given::Ours(&space::vectors(kv, &namespace));
            let store = store.unwrap_or(&own);
            self.file(&name, Style::Python, |out| store.write(out, vectors::write))?;
        }
        Ok(())
    }

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
