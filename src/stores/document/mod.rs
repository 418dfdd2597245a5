//! The document store: LlamaIndex's `KVDocumentStore`, with every change atomic.
//!
//! # What is kept
//!
//! With the default namespace `docstore` and the default suffixes:
//!
//! ```text
//! collection                    key          value
//! docstore/data                 node id      stored form of the node (see model)
//! docstore/metadata             node id      {doc_hash [, ref_doc_id, #chunk], #order}
//! docstore/ref_doc_info         ref doc id   {node_ids, metadata, #tail
//!                                             [, #head, #last] [, #stale]}
//! docstore/ref_doc_info.nodes   chunk no     {node_ids, #next [, #prev]}
//!                               (empty)      {#reserved}
//! ```
//!
//! The first three are LlamaIndex's; fields that start with `#` are ours and are left out of
//! [`DocumentStore::to_dict`].
//!
//! **Members of a ref doc.** LlamaIndex keeps the ids of a ref doc's nodes in one list and rewrites
//! it for every node, which is quadratic. Here the list is cut into chunks of at most
//! [`CHUNK_LEN_MAX`] ids, numbered across the namespace and doubly linked. The last chunk, the
//! *tail*, lives in the ref doc's own record (so a small ref doc is one record, in LlamaIndex's
//! form); when it is full it becomes a record of its own, under the number it always had. A node's
//! metadata record names its chunk, so adding and removing one node touch one chunk, and nothing
//! ever searches or rewrites the list.
//!
//! The one exception is LlamaIndex's own: when the last node of a ref doc goes, the ref doc's
//! document goes too, but stays listed if it is itself a node of another ref doc. `#stale` counts
//! such ids; only while it is not zero does adding an unknown node search the list. The same holds
//! for records that LlamaIndex wrote into this store itself.
//!
//! **Order.** `get_all_document_hashes` gives, for equal hashes, the id that came last in the
//! order of a Python dictionary: overwriting keeps a key's place, deleting and adding moves it to
//! the end. `#order` is that place. Numbers for it and for chunks come from one counter, of which
//! `#reserved` holds the first number not yet promised; it is written once for many numbers, so a
//! crash wastes some, which is harmless.
//!
//! # Atomicity and concurrency
//!
//! Each call that writes, and each [`DocumentBatch`], is one atomic batch over all collections.
//! Nodes are encoded before the store's lock is taken; under it the bookkeeping is read and the
//! batch handed to the key-value store; it is released before anything waits for the device, so
//! that many threads share one sync. The lock is that of the key-value store
//! ([`KvStore::writer_lock`]), so handles that were made separately do each other no harm.

mod batch;
mod dict;
mod members;
mod read;
mod sources;
mod transfer;
mod twins;
mod txn;
mod write;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::Durability;
use crate::kv::{KvError, KvStore, Map, Numberer, Text, Value, WriterLock};
use crate::stores::{StoreError, Writer};

pub use batch::DocumentBatch;

use txn::Numbers;

/// Most node ids in one chunk of a ref doc's list: adding a node rewrites at most this many.
const CHUNK_LEN_MAX: usize = 32;

/// Stores nodes, their hashes, and which document they were cut from.
///
/// Clones share one store. See the [module](crate::stores) for how to get one.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::Node;
/// use siltstone::stores::{AddOptions, DocumentStore};
///
/// let store = DocumentStore::new(Arc::new(MemoryKv::new()));
/// let node = Node::text("n1", "First paragraph.").with_source("a.txt");
/// store.add_documents(&[node.clone()], &AddOptions::default())?;
/// assert_eq!(store.get_document("n1")?, node);
/// let info = store.get_ref_doc_info("a.txt")?;
/// assert_eq!(info.map(|info| info.node_ids.len()), Some(1));
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct DocumentStore {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn KvStore>,
    names: Names,
    /// Held while bookkeeping is read, changed and handed to `kv`; never while a sync runs.
    lock: WriterLock,
    /// Locked within `lock` only.
    numbers: Mutex<Option<Numbers>>,
    numberer: Numberer,
}

/// The collections of a store.
#[derive(Clone)]
struct Names {
    data: String,
    metadata: String,
    ref_docs: String,
    chunks: String,
}

/// Names of a document store's collections: the namespace followed by a suffix each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentStoreOptions {
    /// Default: `docstore`, also if it is empty.
    pub namespace: String,
    /// Default: `/data`, also if it is empty.
    pub node_collection_suffix: String,
    /// Default: `/ref_doc_info`, also if it is empty.
    pub ref_doc_collection_suffix: String,
    /// Default: `/metadata`, also if it is empty.
    pub metadata_collection_suffix: String,
}

impl Default for DocumentStoreOptions {
    fn default() -> Self {
        DocumentStoreOptions {
            namespace: "docstore".to_owned(),
            node_collection_suffix: "/data".to_owned(),
            ref_doc_collection_suffix: "/ref_doc_info".to_owned(),
            metadata_collection_suffix: "/metadata".to_owned(),
        }
    }
}

/// How nodes are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddOptions {
    /// Whether a node may replace a stored one of the same id. Default: true.
    pub allow_update: bool,
    /// Whether nodes are stored, or only their hashes and ref docs. Default: true.
    pub store_text: bool,
    /// Nodes in one atomic batch. Default: all in one, also if it is 0.
    pub batch_size: Option<usize>,
    /// When the call returns. Default: [`Durability::Buffered`].
    pub durability: Durability,
}

impl Default for AddOptions {
    fn default() -> Self {
        AddOptions {
            allow_update: true,
            store_text: true,
            batch_size: None,
            durability: Durability::Buffered,
        }
    }
}

/// What to do about an id that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Fail with [`StoreError::NotFound`].
    #[default]
    Error,
    /// Go on without it.
    Skip,
}

/// The nodes of a ref doc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefDocInfo {
    /// Their ids, in the order in which they were added.
    pub node_ids: Vec<Text>,
    /// The metadata of the first nodes that had any.
    pub metadata: Map,
}

impl RefDocInfo {
    /// The dictionary that LlamaIndex stores.
    pub fn to_value(&self) -> Value {
        let ids: Vec<Value> = self.node_ids.iter().map(Value::from).collect();
        let mut map = Map::with_capacity(2);
        map.set("node_ids", ids);
        map.set("metadata", self.metadata.clone());
        map.into()
    }
}

impl DocumentStore {
    /// The store in the default namespace of `kv`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        DocumentStore::from_names(kv, &DocumentStoreOptions::default())
    }

    /// The store in another namespace; an empty one stands for the default.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        let options = DocumentStoreOptions {
            namespace: namespace.to_owned(),
            ..DocumentStoreOptions::default()
        };
        DocumentStore::from_names(kv, &options)
    }

    /// The store in collections of other names.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if two collections would have the same name.
    pub fn with_options(
        kv: Arc<dyn KvStore>,
        options: &DocumentStoreOptions,
    ) -> Result<Self, StoreError> {
        let store = DocumentStore::from_names(kv, options);
        let Names { data, metadata, ref_docs, chunks } = &store.inner.names;
        for (name, others) in
            [(data, &[metadata, ref_docs, chunks][..]), (metadata, &[ref_docs, chunks])]
        {
            if others.contains(&name) {
                return Err(StoreError::InvalidArgument(format!(
                    "two collections of the document store would be named \"{name}\""
                )));
            }
        }
        Ok(store)
    }

    /// Runs `run` while nobody changes this store through its handles; it may be changed below
    /// them.
    pub(crate) fn alone<T>(&self, run: impl FnOnce() -> T) -> Result<T, KvError> {
        let Inner { lock, numbers, .. } = &*self.inner;
        let run = || {
            let done = run();
            // Given out by others, perhaps: to be read again.
            *numbers.lock() = None;
            done
        };
        // Whoever changes several stores has the lock already, if theirs is the same.
        if lock.is_changing() { Ok(run()) } else { lock.change(run) }
    }

    /// Runs `change` with the numbers that are known to be free, while nobody else changes the
    /// store; it leaves those that are free afterwards.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Option<Numbers>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Inner { lock, names, numbers, numberer, .. } = &*self.inner;
        lock.change(|| {
            let mut numbers = numbers.lock();
            if !lock.numbers_on(&names.metadata, numberer) {
                *numbers = None;
            }
            change(&mut numbers)
        })?
    }

    /// Runs `write`, which writes the batch of a change, while nobody reads several records of this
    /// store. Requires: within a change.
    pub(crate) fn write<T>(&self, write: impl FnOnce() -> T) -> T {
        self.inner.lock.write(write)
    }

    /// The key-value store below.
    pub(crate) fn kv(&self) -> &Arc<dyn KvStore> {
        &self.inner.kv
    }

    /// The same collections in another key-value store, such as one laid over this one's.
    pub(crate) fn over(&self, kv: Arc<dyn KvStore>) -> Self {
        DocumentStore::from_parts(kv, self.inner.names.clone())
    }

    fn from_names(kv: Arc<dyn KvStore>, options: &DocumentStoreOptions) -> Self {
        let default = DocumentStoreOptions::default();
        let or = |given: &str, default: String| {
            if given.is_empty() { default } else { given.to_owned() }
        };
        let namespace = or(&options.namespace, default.namespace);
        let name = |given, default| format!("{namespace}{}", or(given, default));
        let ref_docs = name(&options.ref_doc_collection_suffix, default.ref_doc_collection_suffix);
        let names = Names {
            data: name(&options.node_collection_suffix, default.node_collection_suffix),
            metadata: name(&options.metadata_collection_suffix, default.metadata_collection_suffix),
            chunks: format!("{ref_docs}.nodes"),
            ref_docs,
        };
        DocumentStore::from_parts(kv, names)
    }

    fn from_parts(kv: Arc<dyn KvStore>, names: Names) -> Self {
        let lock = kv.writer_lock();
        let numberer = Numberer::new();
        let inner = Inner { kv, names, lock, numbers: Mutex::new(None), numberer };
        DocumentStore { inner: Arc::new(inner) }
    }

    /// The store in the default namespace, with a lock that other stores share.
    pub(crate) fn from_writer(writer: &Writer) -> Self {
        let store = DocumentStore::new(writer.kv().clone());
        let Some(inner) = Arc::into_inner(store.inner) else {
            return DocumentStore::new(writer.kv().clone());
        };
        DocumentStore { inner: Arc::new(Inner { lock: writer.lock().clone(), ..inner }) }
    }
}

impl std::fmt::Debug for DocumentStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentStore").field("data", &self.inner.names.data).finish()
    }
}

#[cfg(test)]
mod tests;
