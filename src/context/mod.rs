//! [`StorageContext`]: the stores of an application, over one key-value store.

mod builder;
mod dict;
mod load;
mod slot;
mod vectors;

use std::path::Path;
use std::sync::Arc;

pub use load::{IndexGraph, IndexSource};
pub use slot::Persist;

use crate::engine::{Durability, OpenError, Options};
use crate::kv::{KvError, KvStore, LogKv, MemoryKv, Staged};
use crate::stores::{
    ChatQueue, ChatStore, DEFAULT_VECTOR_STORE, DocumentStore, GraphStore, IndexStore,
    PropertyGraphStore, Registry, StoreError, VectorStore, Writer, has_property_graph,
};
use crate::transfer::{refuse_persisted, undo_cut_import};

use builder::{Choice, VectorChoice};
use slot::Slot;
use vectors::Vectors;

/// LlamaIndex's stores over one key-value store, so that one [`StorageContext::persist`] makes all
/// of them durable, at one point. Clones share the stores.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use siltstone::StorageContext;
/// use siltstone::model::Node;
/// use siltstone::stores::{AddOptions, VectorQuery};
///
/// let context = StorageContext::open(dir.path())?;
/// let mut node = Node::text("n1", "First paragraph.").with_source("a.txt");
/// node.embedding = Some(vec![0.6, 0.8]);
/// context.docstore().add_documents(&[node.clone()], &AddOptions::default())?;
/// context.vector_store()?.add(&[node])?;
/// context.persist()?;
/// drop(context);
///
/// let context = StorageContext::open(dir.path())?;
/// assert!(context.docstore().document_exists("n1")?);
/// let found = context.vector_store()?.query(&VectorQuery::new([1.0, 0.0], 1))?;
/// assert_eq!(found.ids, ["n1"]);
/// # Ok(()) }
/// ```
///
/// # Stores of the caller's own
///
/// [`StorageContext::builder`] takes any of the stores from the caller: of the same type over
/// another key-value store, or of any other type. The type parameters say which; those who replace
/// none need not know of them. The context hands such a store out as it is, persists it with the
/// others ([`Persist`]), and loads indices from it ([`IndexSource`]). What lies in another place
/// cannot be in the same write batch: a [transaction](StorageContext::transaction) and the one
/// point of time of [`StorageContext::persist`] hold for the context's own stores.
pub struct StorageContext<
    D = DocumentStore,
    I = IndexStore,
    V = VectorStore,
    G = GraphStore,
    P = PropertyGraphStore,
    C = ChatStore,
> {
    writer: Writer,
    docstore: Slot<D>,
    index_store: Slot<I>,
    vectors: Vectors<V>,
    graph_store: Slot<G>,
    property_graph_store: Slot<P>,
    chat_store: Slot<C>,
    chat_queue: Slot<ChatQueue>,
}

/// Opens the log of a context.
fn open_log(dir: &Path, options: Options) -> Result<LogKv, OpenError> {
    refuse_persisted(dir, &options)?;
    let log = LogKv::open_with(dir, options)?;
    undo_cut_import(&log)?;
    Ok(log)
}

/// A [`StorageContext`] that is being put together: see [`StorageContext::builder`].
#[must_use = "it makes a context when it is told where"]
pub struct StorageContextBuilder<
    D = DocumentStore,
    I = IndexStore,
    V = VectorStore,
    G = GraphStore,
    P = PropertyGraphStore,
    C = ChatStore,
> {
    docstore: Choice<D>,
    index_store: Choice<I>,
    vectors: VectorChoice<V>,
    graph_store: Choice<G>,
    property_graph_store: Choice<P>,
    chat_store: Choice<C>,
    registry: Registry,
}

impl StorageContext {
    /// Empty stores in memory, gone with the last clone.
    pub fn from_defaults() -> Self {
        StorageContext::from_kv(Arc::new(MemoryKv::new()))
    }

    /// The stores in the directory `dir`, which is created if there is none. An import into it that
    /// was cut off by a kill or a power cut is undone first ([`undo_cut_import`]).
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed. [`OpenError::HalfImported`] if the options are for
    /// reading only and an import was cut off, or still runs; [`OpenError::NoStore`] for a
    /// directory that LlamaIndex persisted: [`StorageContext::import`] makes a store of it in
    /// another place.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        StorageContext::open_with(dir, Options::default())
    }

    /// As [`StorageContext::open`], with other options for the engine.
    ///
    /// # Errors
    ///
    /// As [`StorageContext::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Ok(StorageContext::from_kv(Arc::new(open_log(dir.as_ref(), options)?)))
    }

    /// The stores in the default namespaces of `kv`. Reads and writes nothing: for a log whose last
    /// import may have been cut off call [`undo_cut_import`] first.
    pub fn from_kv(kv: Arc<dyn KvStore>) -> Self {
        StorageContext::builder().build(Writer::new(kv)).1
    }

    /// A context whose stores are chosen one by one.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use siltstone::StorageContext;
    /// use siltstone::kv::MemoryKv;
    /// use siltstone::stores::VectorStore;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// // Everything on disk but the vectors, of which there are two stores.
    /// let memory = Arc::new(MemoryKv::new());
    /// let titles = VectorStore::with_namespace(memory.clone(), "titles");
    /// let context = StorageContext::builder()
    ///     .vector_store(VectorStore::new(memory))
    ///     .vector_store_in("titles", titles)
    ///     .open(dir.path())?;
    /// assert_eq!(context.vector_namespaces()?, ["default", "titles", "image"]);
    /// # Ok::<(), siltstone::stores::StoreError>(())
    /// ```
    pub fn builder() -> StorageContextBuilder {
        StorageContextBuilder::default()
    }
}

impl<D, I, V, G, P, C> StorageContext<D, I, V, G, P, C> {
    /// The key-value store below.
    pub fn kv(&self) -> &Arc<dyn KvStore> {
        self.writer.kv()
    }

    /// The document store.
    pub fn docstore(&self) -> &D {
        &self.docstore.store
    }

    /// The index store.
    pub fn index_store(&self) -> &I {
        &self.index_store.store
    }

    /// The graph store.
    pub fn graph_store(&self) -> &G {
        &self.graph_store.store
    }

    /// The property graph store. There always is one, where LlamaIndex has `None` unless it is
    /// given one; [`StorageContext::has_property_graph`] tells.
    pub fn property_graph_store(&self) -> &P {
        &self.property_graph_store.store
    }

    /// The chat store, which LlamaIndex keeps beside its contexts.
    pub fn chat_store(&self) -> &C {
        &self.chat_store.store
    }

    /// The chat store shaped like a queue, of LlamaIndex's newer memory classes.
    pub fn chat_queue(&self) -> &ChatQueue {
        &self.chat_queue.store
    }

    /// True if the property graph store was given or asked for
    /// ([`StorageContextBuilder::with_property_graph`]), or holds anything.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn has_property_graph(&self) -> Result<bool, StoreError> {
        Ok(self.property_graph_store.is_given() || has_property_graph(self.kv())?)
    }
}

impl<D, I, V: Clone, G, P, C> StorageContext<D, I, V, G, P, C> {
    /// The vector store of the namespace `default`.
    ///
    /// # Errors
    ///
    /// As [`StorageContext::vector_store_in`].
    pub fn vector_store(&self) -> Result<V, StoreError> {
        self.vector_store_in(DEFAULT_VECTOR_STORE)
    }

    /// The vector store of a namespace. Clones of one store share what it keeps in memory; each
    /// call returns such a clone.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the context has none of that name: see
    /// [`StorageContext::create_vector_store`]. [`StoreError::Kv`] if it cannot be told.
    pub fn vector_store_in(&self, namespace: &str) -> Result<V, StoreError> {
        let found = self.vectors.get(namespace)?;
        let what = "vector store";
        found.ok_or_else(|| StoreError::NotFound { what, id: namespace.into() })
    }

    /// The namespaces of the vector stores: by default `default` and `image`, else as
    /// [`StorageContextBuilder::vector_stores`] says.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] and [`StoreError::Corrupt`] if they cannot be read.
    pub fn vector_namespaces(&self) -> Result<Vec<String>, StoreError> {
        self.vectors.namespaces()
    }

    /// Gives the context and its clones a vector store of the caller's, in the place of any other
    /// of that namespace (LlamaIndex's `add_vector_store`). It is not there after opening again,
    /// nor after a transaction that failed, if it was added to the context within.
    pub fn add_vector_store(&self, store: V, namespace: &str) {
        self.vectors.give(namespace.to_owned(), store);
    }

    /// The context's own vector store of that namespace, from now on one of its own, also after
    /// opening again.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if the context was given all its vector stores by the
    /// caller, or the namespace is too long: the names of collections, which hold it, have at most
    /// [`COLLECTION_NAME_LEN_MAX`](crate::limits::COLLECTION_NAME_LEN_MAX) bytes;
    /// [`StoreError::Kv`] and [`StoreError::Corrupt`]: nothing was changed.
    pub fn create_vector_store(&self, namespace: &str) -> Result<V, StoreError> {
        let made = self.vectors.create(namespace)?;
        made.ok_or_else(|| {
            let what = "the vector stores of this context are the caller's; use add_vector_store";
            StoreError::InvalidArgument(what.to_owned())
        })
    }
}

impl<D: Clone, I: Clone, V: Clone, G: Clone, P: Clone, C: Clone> StorageContext<D, I, V, G, P, C> {
    /// Changes several stores in one atomic write batch: all of what `change` does to the context
    /// that it is given, or nothing if it fails. That context sees its own changes; nobody else
    /// sees any before the end. Buffered: [`StorageContext::persist`] makes it durable.
    ///
    /// Other changes of the stores wait meanwhile; reads do not. `change` may read from this
    /// context, which shows what was before, and may wait for others who do; to change it there,
    /// instead of in the one it is given, is refused. Memory holds what is changed, encoded. What
    /// is kept of the given context beyond the call leads nowhere. A query of vectors inside costs
    /// what it does outside, and after changes of them there, once more memory for the rows. Stores
    /// that the caller gave are as they are outside: what is changed in them is changed at once.
    /// Which vector stores the caller gave
    /// ([`StorageContext::add_vector_store`]) is part of the transaction.
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
        change: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut change = Some(change);
        let mut done = None;
        self.writer.alone(|| {
            self.docstore.alone(&mut || {
                done = change.take().map(|change| self.commit(change));
            })
        })??;
        let lost = || KvError::custom("cannot change the stores", "the change was not run");
        done.unwrap_or_else(|| Err(lost().into()))
    }

    fn commit<T, E: From<KvError>>(
        &self,
        change: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let staged = Arc::new(Staged::new(Arc::clone(self.kv())));
        let writer = Writer::new(staged.clone());
        let inside = StorageContext {
            docstore: self.docstore.over(&writer),
            index_store: self.index_store.over(&writer),
            vectors: self.vectors.over(&writer),
            graph_store: self.graph_store.over(&writer),
            property_graph_store: self.property_graph_store.over(&writer),
            chat_store: self.chat_store.over(&writer),
            chat_queue: self.chat_queue.over(&writer),
            writer,
        };
        let done = change(&inside)?;
        self.writer.lock().write(|| staged.commit(Durability::Buffered))?;
        self.vectors.adopt(&inside.vectors);
        Ok(done)
    }
}

impl<D: Persist, I: Persist, V: Persist + Clone, G: Persist, P: Persist, C: Persist>
    StorageContext<D, I, V, G, P, C>
{
    /// Makes everything written so far durable: the context's own stores at one point, then each
    /// store that the caller gave. Costs what was written since the last time, not what is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; the source says what became of the data. The first of the given stores'.
    pub fn persist(&self) -> Result<(), StoreError> {
        self.kv().persist()?;
        self.persist_given()
    }

    /// As [`StorageContext::persist`], without blocking the thread that polls; stores that the
    /// caller gave block as they do there.
    ///
    /// # Errors
    ///
    /// As [`StorageContext::persist`].
    pub async fn apersist(&self) -> Result<(), StoreError> {
        self.kv().persist_async().await?;
        self.persist_given()
    }

    fn persist_given(&self) -> Result<(), StoreError> {
        self.docstore.persist_given()?;
        self.index_store.persist_given()?;
        self.graph_store.persist_given()?;
        self.property_graph_store.persist_given()?;
        self.chat_store.persist_given()?;
        self.vectors.persist_given()
    }
}

impl<D: Clone, I: Clone, V, G: Clone, P: Clone, C: Clone> Clone
    for StorageContext<D, I, V, G, P, C>
{
    fn clone(&self) -> Self {
        StorageContext {
            writer: self.writer.clone(),
            docstore: self.docstore.clone(),
            index_store: self.index_store.clone(),
            vectors: self.vectors.clone(),
            graph_store: self.graph_store.clone(),
            property_graph_store: self.property_graph_store.clone(),
            chat_store: self.chat_store.clone(),
            chat_queue: self.chat_queue.clone(),
        }
    }
}

impl<D, I, V, G, P, C> std::fmt::Debug for StorageContext<D, I, V, G, P, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageContext").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
