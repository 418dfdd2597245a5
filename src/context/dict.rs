//! A context as LlamaIndex's files and dictionaries, and back.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::slot::Slot;
use super::{Persist, StorageContext};
use crate::kv::json::{self, Style};
use crate::kv::{KvStore, Map, MemoryKv, Value};
use crate::stores::StoreError;
use crate::transfer::{
    ExportReport, FileEntry, FileNames, Given, GivenStores, Import, ImportOptions, Source, Target,
    TransferError, export_with,
};

/// What `to_dict` calls the stores, in LlamaIndex's order.
const DICT_KEYS: [&str; 5] =
    ["vector_store", "doc_store", "index_store", "graph_store", "property_graph_store"];

/// What is said of a store of the caller's that gives no dictionary.
macro_rules! refusal {
    ($store:literal) => {
        concat!(
            "to_dict only available when using simple doc/index/vector stores: the ",
            $store,
            " of this context is the caller's; implement Persist::to_dict for its type, or export \
             it by its own means"
        )
    };
}

/// Files in memory.
#[derive(Default)]
pub(super) struct Files(BTreeMap<String, Vec<u8>>);

impl Target for Files {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>> {
        Ok(Box::new(self.0.entry(name.to_owned()).or_default()))
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Files {
    fn files(&self) -> io::Result<Vec<FileEntry>> {
        let entry = |(name, bytes): (&String, &Vec<u8>)| FileEntry {
            name: name.clone(),
            len: bytes.len() as u64,
        };
        Ok(self.0.iter().map(entry).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        match self.0.get(name) {
            Some(bytes) => Ok(Box::new(bytes.as_slice())),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl StorageContext {
    /// The context of a directory that LlamaIndex persisted, over an empty `kv`: what its
    /// `from_defaults(persist_dir)` loads. Persisted in the end. All or nothing if `kv` is a log:
    /// see [`Import::write_to_log`].
    ///
    /// [`Import`] takes more: directories without these files, stores that hold something, damaged
    /// files.
    ///
    /// # Errors
    ///
    /// [`TransferError::Open`] if `docstore.json` or `index_store.json` is not there,
    /// [`TransferError::Occupied`] if `kv` holds what the files would fill, else as
    /// [`Import::check`], and as [`Import::write_to_log`] or [`Import::write`].
    pub fn import(source: &dyn Source, kv: Arc<dyn KvStore>) -> Result<Self, TransferError> {
        let files = source.files().map_err(TransferError::Source)?;
        for needed in ["docstore.json", "index_store.json"] {
            if !files.iter().any(|file| file.name == needed) {
                let source = io::ErrorKind::NotFound.into();
                return Err(TransferError::Open { file: needed.to_owned(), source });
            }
        }
        let import = Import::check(source, ImportOptions::new(), &mut |_, _| {})?;
        StorageContext::imported(import, kv)
    }

    fn imported(import: Import<'_>, kv: Arc<dyn KvStore>) -> Result<Self, TransferError> {
        let import = import.into_context();
        match kv.log() {
            Some(log) => import.write_to_log(log, &mut |_, _| {})?,
            None => import.write(&kv, &mut |_, _| {})?,
        };
        Ok(StorageContext::from_kv(kv))
    }

    /// The context of such a dictionary, in memory.
    ///
    /// # Errors
    ///
    /// [`TransferError::NoKey`] if one of the five keys is missing; as [`Import::check`], with
    /// `storage_context.json` for the dictionary as JSON.
    pub fn from_dict(dict: &Value) -> Result<Self, TransferError> {
        let missing = DICT_KEYS.iter().find(|key| dict.get(key).is_none());
        if let Some(key) = missing {
            return Err(TransferError::NoKey { key });
        }
        let bytes = json::to_string(dict, Style::Python).into_bytes();
        let files = Files(BTreeMap::from([("storage_context.json".to_owned(), bytes)]));
        let import = Import::check(&files, ImportOptions::new(), &mut |_, _| {})?;
        StorageContext::imported(import, Arc::new(MemoryKv::new()))
    }
}

impl<D, I, V, G, P, C> StorageContext<D, I, V, G, P, C>
where
    D: Persist + 'static,
    I: Persist + 'static,
    V: Persist + Clone + 'static,
    G: Persist + 'static,
    P: Persist + 'static,
    C: Persist + 'static,
{
    /// Writes the files that LlamaIndex loads the context from: see
    /// [`export`](crate::transfer::export()).
    ///
    /// Stores that the caller gave have the whole file of their kind, under LlamaIndex's default
    /// names; what the context's own key-value store holds under them, and shows nobody, is not
    /// written. Those of this crate's types are written record by record, whatever they stand on;
    /// others must implement [`Persist::to_dict`].
    ///
    /// # Errors
    ///
    /// As [`export`](crate::transfer::export()); [`StoreError::Unsupported`] in
    /// [`TransferError::Read`] names a store that the caller gave and that gives no dictionary.
    pub fn export(
        &self,
        target: &mut dyn Target,
        options: &FileNames,
    ) -> Result<ExportReport, TransferError> {
        self.write(target, options, false)
    }

    fn write(
        &self,
        target: &mut dyn Target,
        names: &FileNames,
        without_chats: bool,
    ) -> Result<ExportReport, TransferError> {
        let listed = self.vectors.listed().map_err(TransferError::Read)?;
        let vectors = self.vectors.has_given().then(|| {
            let given = |store| as_given(store, refusal!("vector store"));
            listed.iter().map(|(name, store)| (name.clone(), store.as_ref().map(given))).collect()
        });
        let stores = GivenStores {
            documents: given(&self.docstore, refusal!("document store")),
            structs: given(&self.index_store, refusal!("index store")),
            graph: given(&self.graph_store, refusal!("graph store")),
            property_graph: given(&self.property_graph_store, refusal!("property graph store")),
            chats: given(&self.chat_store, refusal!("chat store")),
            without_chats,
            vectors,
        };
        export_with(self.kv(), &stores, target, names, &mut |_, _| {})
    }

    /// The whole context as LlamaIndex's `StorageContext.to_dict` gives it. Memory holds all of
    /// it: [`StorageContext::export`] is for large ones. `property_graph_store` is null unless
    /// there is one, and its `triplets` are a list where LlamaIndex has a set.
    ///
    /// LlamaIndex's dictionary has five keys, none of them for chats or caches, and so has this
    /// one; [`StorageContext::export`] writes those too, [`ChatStore::to_dict`] gives chats.
    ///
    /// [`ChatStore::to_dict`]: crate::stores::ChatStore::to_dict
    ///
    /// # Errors
    ///
    /// As [`StorageContext::export`].
    pub fn to_dict(&self) -> Result<Value, TransferError> {
        let mut files = Files::default();
        let names = FileNames::default();
        self.write(&mut files, &names, true)?;
        let (mut dict, mut vectors) = (Map::new(), Map::new());
        for (name, bytes) in files.0 {
            let parsed = json::from_slice(&bytes);
            let value = parsed.map_err(|e| TransferError::Read(unreadable(e)))?;
            let key = match name.strip_suffix(&format!("__{}", names.vector_store)) {
                Some(namespace) => {
                    vectors.insert(namespace, value);
                    continue;
                }
                None if name == names.docstore => "doc_store",
                None if name == names.index_store => "index_store",
                None if name == names.graph_store => "graph_store",
                None if name == names.property_graph_store => "property_graph_store",
                // Caches are no part of it.
                None => continue,
            };
            dict.set(key, value);
        }
        dict.set("vector_store", vectors);
        let value = |key: &str| dict.get(key).cloned().unwrap_or(Value::Null);
        Ok(DICT_KEYS.map(|key| (key, value(key))).into_iter().collect::<Map>().into())
    }
}

/// The store of a slot, if the caller gave it.
fn given<'a, S: Persist + 'static, T: 'static>(
    slot: &'a Slot<S>,
    refusal: &'static str,
) -> Option<Given<'a, T>> {
    slot.is_given().then(|| as_given(&slot.store, refusal))
}

/// A store that the caller gave, as one of this crate's if it is one.
fn as_given<'a, S: Persist + 'static, T: 'static>(
    store: &'a S,
    refusal: &'static str,
) -> Given<'a, T> {
    let any: &dyn Any = store;
    let shared = || any.downcast_ref::<Arc<T>>().map(|shared| &**shared);
    match any.downcast_ref::<T>().or_else(shared) {
        Some(ours) => Given::Ours(ours),
        None => Given::Other(Box::new(move || {
            store.to_dict().map_err(|e| match e {
                StoreError::Unsupported(_) => StoreError::Unsupported(refusal),
                other => other,
            })
        })),
    }
}

/// What was just written cannot be read: the store holds what JSON has no form for.
fn unreadable(e: impl std::fmt::Display) -> StoreError {
    StoreError::InvalidArgument(format!("the store cannot be written as JSON: {e}"))
}
