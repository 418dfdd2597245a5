//! [`StorageContext`]: the stores of an application, over one key-value store.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{OpenError, Options};
use crate::kv::{KvError, KvStore, LogKv, MemoryKv};
use crate::stores::DocumentStore;

/// LlamaIndex's stores over one key-value store, so that one [`StorageContext::persist`] makes all
/// of them durable, at one point. Clones share the stores.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use siltstone::StorageContext;
/// use siltstone::model::Node;
/// use siltstone::stores::AddOptions;
///
/// let context = StorageContext::open(dir.path())?;
/// let nodes = [Node::text("n1", "First paragraph.").with_source("a.txt")];
/// context.docstore().add_documents(&nodes, &AddOptions::default())?;
/// context.persist()?;
/// drop(context);
///
/// let context = StorageContext::open(dir.path())?;
/// assert!(context.docstore().document_exists("n1")?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct StorageContext {
    kv: Arc<dyn KvStore>,
    docstore: DocumentStore,
}

impl StorageContext {
    /// Empty stores in memory, gone with the last clone.
    pub fn from_defaults() -> Self {
        StorageContext::from_kv(Arc::new(MemoryKv::new()))
    }

    /// The stores in the directory `dir`, which is created if there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(StorageContext::from_kv(Arc::new(LogKv::open(dir)?)))
    }

    /// As [`StorageContext::open`], with other options for the engine.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed.
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Ok(StorageContext::from_kv(Arc::new(LogKv::open_with(dir, options)?)))
    }

    /// The stores in the default namespaces of `kv`.
    pub fn from_kv(kv: Arc<dyn KvStore>) -> Self {
        StorageContext { docstore: DocumentStore::new(kv.clone()), kv }
    }

    /// The key-value store below.
    pub fn kv(&self) -> &Arc<dyn KvStore> {
        &self.kv
    }

    /// The document store.
    pub fn docstore(&self) -> &DocumentStore {
        &self.docstore
    }

    /// Makes everything written so far durable. Costs what was written since the last time, not
    /// what is stored.
    ///
    /// # Errors
    ///
    /// [`KvError`]; the source says what became of the data.
    pub fn persist(&self) -> Result<(), KvError> {
        self.kv.persist()
    }

    /// As [`StorageContext::persist`], without blocking the thread that polls.
    ///
    /// # Errors
    ///
    /// As [`StorageContext::persist`].
    pub async fn apersist(&self) -> Result<(), KvError> {
        self.kv.persist_async().await
    }
}

impl std::fmt::Debug for StorageContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageContext").field("docstore", &self.docstore).finish_non_exhaustive()
    }
}
