//! [`StorageContext`]: the stores of an application, over one key-value store.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Durability, OpenError, Options};
use crate::kv::{KvError, KvStore, LogKv, MemoryKv, Staged};
use crate::stores::{DocumentStore, GraphStore, Writer};

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
    writer: Writer,
    docstore: DocumentStore,
    graph_store: GraphStore,
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
        let docstore = DocumentStore::new(kv.clone());
        let writer = Writer::new(kv);
        let graph_store = GraphStore::from_writer(writer.clone(), "");
        StorageContext { writer, docstore, graph_store }
    }

    /// The key-value store below.
    pub fn kv(&self) -> &Arc<dyn KvStore> {
        self.writer.kv()
    }

    /// The document store.
    pub fn docstore(&self) -> &DocumentStore {
        &self.docstore
    }

    /// The graph store.
    pub fn graph_store(&self) -> &GraphStore {
        &self.graph_store
    }

    /// Changes several stores in one atomic write batch: all of what `change` does to the context
    /// that it is given, or nothing if it fails. That context sees its own changes; nobody else
    /// sees any before the end. Buffered: [`StorageContext::persist`] makes it durable.
    ///
    /// Other changes through this context and its clones wait meanwhile, and `change` must not use
    /// those: it would wait for itself. Memory holds what is changed, encoded. What is kept of the
    /// given context beyond the call leads nowhere.
    ///
    /// ```
    /// use siltstone::StorageContext;
    /// use siltstone::model::Node;
    /// use siltstone::stores::{AddOptions, StoreError};
    ///
    /// let context = StorageContext::from_defaults();
    /// context.transaction(|context| -> Result<(), StoreError> {
    ///     let node = Node::text("n1", "Ann knows Bob.");
    ///     context.docstore().add_documents(&[node], &AddOptions::default())?;
    ///     context.graph_store().upsert_triplet("ann", "knows", "bob")
    /// })?;
    /// assert!(context.docstore().document_exists("n1")?);
    /// assert_eq!(context.graph_store().get("ann")?.len(), 1);
    /// # Ok::<(), StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `change`: nothing was changed. [`KvError`] of the batch; the source says what
    /// became of the data.
    pub fn transaction<T, E: From<KvError>>(
        &self,
        change: impl FnOnce(&StorageContext) -> Result<T, E>,
    ) -> Result<T, E> {
        self.writer.alone(|| {
            self.docstore.alone(|| {
                let staged = Arc::new(Staged::new(Arc::clone(self.kv())));
                let done = change(&StorageContext::from_kv(staged.clone()))?;
                staged.commit(Durability::Buffered)?;
                Ok(done)
            })
        })
    }

    /// Makes everything written so far durable. Costs what was written since the last time, not
    /// what is stored.
    ///
    /// # Errors
    ///
    /// [`KvError`]; the source says what became of the data.
    pub fn persist(&self) -> Result<(), KvError> {
        self.kv().persist()
    }

    /// As [`StorageContext::persist`], without blocking the thread that polls.
    ///
    /// # Errors
    ///
    /// As [`StorageContext::persist`].
    pub async fn apersist(&self) -> Result<(), KvError> {
        self.kv().persist_async().await
    }
}

impl std::fmt::Debug for StorageContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageContext")
            .field("docstore", &self.docstore)
            .field("graph_store", &self.graph_store)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;
    use crate::stores::{AddOptions, StoreError};

    fn add(context: &StorageContext, id: &str) -> Result<(), StoreError> {
        let node = Node::text(id, "text").with_source("a.txt");
        context.docstore().add_documents(&[node], &AddOptions::default())?;
        context.graph_store().upsert_triplet(id, "is in", "a.txt")
    }

    /// Goal: a transaction that fails leaves no trace in any store, one that does not is one
    /// batch, and the stores go on well after both. Method: reopening in between, so that what the
    /// stores keep in memory cannot hide what is stored.
    #[test]
    fn a_transaction_is_all_or_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || StorageContext::open(dir.path()).expect("open");
        let context = open();
        add(&context, "n0").expect("add");
        let failed = context.transaction(|inside| {
            add(inside, "n1")?;
            assert!(inside.docstore().document_exists("n1")?, "it sees its own changes");
            assert_eq!(inside.graph_store().get("n1")?.len(), 1);
            Err::<(), _>(StoreError::InvalidArgument("enough".into()))
        });
        assert!(matches!(failed, Err(StoreError::InvalidArgument(_))));
        let batches_before = context.kv().len("docstore/data").expect("len");
        assert_eq!(batches_before, 1, "nothing of the failed one is there");
        for round in 0..3 {
            let id = format!("t{round}");
            let done = context.transaction(|inside| add(inside, &id));
            done.expect("a transaction");
            add(&context, &format!("s{round}")).expect("add outside");
        }
        let info = context.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
        let ids: Vec<String> = info.node_ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["n0", "t0", "s0", "t1", "s1", "t2", "s2"]);
        drop(context);
        let context = open();
        let again = context.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
        assert_eq!(again, info);
        assert!(!context.docstore().document_exists("n1").expect("exists"));
        assert_eq!(context.graph_store().get("t2").expect("get").len(), 1);
        assert!(context.graph_store().get("n1").expect("get").is_empty());
    }
}
