//! A context as LlamaIndex's files and dictionaries, and back.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::StorageContext;
use crate::kv::json::{self, Style};
use crate::kv::{KvStore, Map, MemoryKv, Value};
use crate::stores::{Registry, StoreError};
use crate::transfer::{
    ExportReport, FileEntry, FileNames, Import, ImportOptions, Source, Target, TransferError,
    export,
};

/// What `to_dict` calls the stores, in LlamaIndex's order.
const DICT_KEYS: [&str; 5] =
    ["vector_store", "doc_store", "index_store", "graph_store", "property_graph_store"];

/// Files in memory.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

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
    /// `from_defaults(persist_dir)` loads. Persisted in the end.
    ///
    /// [`Import`] takes more: directories without these files, stores that hold something, damaged
    /// files.
    ///
    /// # Errors
    ///
    /// [`TransferError::Open`] if `docstore.json` or `index_store.json` is not there, else as
    /// [`Import::check`] and [`Import::write`].
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
        let namespaces = import.vector_namespaces();
        import.write(&kv, &mut |_, _| {})?;
        let context = StorageContext::from_kv(kv);
        // Only these: a context that LlamaIndex loads has no other vector stores.
        let entered = context.writer.change(|kv| {
            let mut registry = Registry::get(kv)?;
            registry.vector_stores = Some(namespaces);
            registry.put(kv)
        });
        entered.and_then(|()| context.persist()).map_err(TransferError::Read)?;
        Ok(context)
    }

    /// Writes the files that LlamaIndex loads the context from: see [`export`].
    ///
    /// # Errors
    ///
    /// As [`export`]; [`StoreError::InvalidArgument`] in [`TransferError::Read`] if a store was
    /// given by the caller.
    pub fn export(
        &self,
        target: &mut dyn Target,
        options: &FileNames,
    ) -> Result<ExportReport, TransferError> {
        self.refuse_given()?;
        export(self.kv(), target, options, &mut |_, _| {})
    }

    /// The whole context as LlamaIndex's `StorageContext.to_dict` gives it. Memory holds all of
    /// it: [`StorageContext::export`] is for large ones. `property_graph_store` is null unless
    /// there is one, and its `triplets` are a list where LlamaIndex has a set.
    ///
    /// # Errors
    ///
    /// As [`StorageContext::export`].
    pub fn to_dict(&self) -> Result<Value, TransferError> {
        let mut files = Files::default();
        let names = FileNames::default();
        self.export(&mut files, &names)?;
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
                // Chats and caches are no part of it.
                None => continue,
            };
            dict.set(key, value);
        }
        dict.set("vector_store", vectors);
        let value = |key: &str| dict.get(key).cloned().unwrap_or(Value::Null);
        Ok(DICT_KEYS.map(|key| (key, value(key))).into_iter().collect::<Map>().into())
    }

    /// The context of such a dictionary, in memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] in [`TransferError::Read`] if one of the five keys is missing; as
    /// [`Import::check`], with `storage_context.json` for the dictionary as JSON.
    pub fn from_dict(dict: &Value) -> Result<Self, TransferError> {
        let missing = DICT_KEYS.iter().find(|key| dict.get(key).is_none());
        if let Some(key) = missing {
            let what = "key of the dictionary";
            return Err(TransferError::Read(StoreError::NotFound { what, id: (*key).into() }));
        }
        let bytes = json::to_string(dict, Style::Python).into_bytes();
        let files = Files(BTreeMap::from([("storage_context.json".to_owned(), bytes)]));
        let import = Import::check(&files, ImportOptions::new(), &mut |_, _| {})?;
        StorageContext::imported(import, Arc::new(MemoryKv::new()))
    }

    fn refuse_given(&self) -> Result<(), TransferError> {
        let is_given = self.docstore.is_given()
            || self.index_store.is_given()
            || self.graph_store.is_given()
            || self.property_graph_store.is_given()
            || self.vectors.has_given();
        match is_given {
            true => Err(TransferError::Read(StoreError::Unsupported(
                "to_dict only available when using simple doc/index/vector stores",
            ))),
            false => Ok(()),
        }
    }
}

/// What was just written cannot be read: the store holds what JSON has no form for.
fn unreadable(e: impl std::fmt::Display) -> StoreError {
    StoreError::InvalidArgument(format!("the store cannot be written as JSON: {e}"))
}
