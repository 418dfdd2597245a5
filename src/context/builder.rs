//! [`StorageContextBuilder`]: a context whose stores are chosen one by one.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::slot::Slot;
use super::vectors::{MakeVectors, Vectors};
use super::{StorageContext, StorageContextBuilder, open_log};
use crate::engine::Options;
use crate::kv::{KvError, KvStore, MemoryKv};
use crate::stores::{
    ChatQueue, ChatStore, DEFAULT_VECTOR_STORE, GraphStore, IMAGE_VECTOR_STORE, IndexStore,
    PropertyGraphStore, Registry, StoreError, VectorStore, Writer,
};

/// How a store that was not given is made.
type Make<T> = fn(&Writer) -> Slot<T>;

/// A store that will be in a context.
pub(super) enum Choice<T> {
    Own(Make<T>),
    Given(T),
}

impl<T> Choice<T> {
    fn slot(self, writer: &Writer) -> Slot<T> {
        match self {
            Choice::Own(make) => make(writer),
            Choice::Given(store) => Slot::given(store),
        }
    }
}

/// The vector stores that will be in a context.
pub(super) struct VectorChoice<V> {
    own: OwnVectors<V>,
    given: BTreeMap<String, V>,
}

/// Which vector stores of its own a context will have.
enum OwnVectors<V> {
    All(MakeVectors<V>),
    /// `image`, if the context is new or had it before.
    Image(MakeVectors<V>),
    None,
}

impl<V> OwnVectors<V> {
    fn make(&self, writer: &Writer) -> Vectors<V> {
        match self {
            OwnVectors::All(make) => Vectors::own(writer, *make),
            OwnVectors::Image(make) => Vectors::own_image(writer, *make),
            OwnVectors::None => Vectors::none(),
        }
    }

    /// Those beside the caller's: an `image` store, if they are of its type.
    fn beside_given() -> Self
    where
        V: 'static,
    {
        let make: MakeVectors<VectorStore> = VectorStore::over;
        let same_type = (&make as &dyn Any).downcast_ref::<MakeVectors<V>>();
        same_type.map_or(OwnVectors::None, |make| OwnVectors::Image(*make))
    }
}

impl Default for StorageContextBuilder {
    fn default() -> Self {
        StorageContextBuilder {
            docstore: Choice::Own(Slot::documents),
            index_store: Choice::Own(|writer| {
                Slot::own(writer, |writer| IndexStore::from_writer(writer.clone(), ""))
            }),
            vectors: VectorChoice {
                own: OwnVectors::All(VectorStore::over),
                given: BTreeMap::new(),
            },
            graph_store: Choice::Own(|writer| {
                Slot::own(writer, |writer| GraphStore::from_writer(writer.clone(), ""))
            }),
            property_graph_store: Choice::Own(|writer| {
                Slot::own(writer, |writer| PropertyGraphStore::from_writer(writer.clone(), ""))
            }),
            chat_store: Choice::Own(|writer| {
                Slot::own(writer, |writer| ChatStore::from_writer(writer.clone(), ""))
            }),
            registry: Registry::default(),
        }
    }
}

/// The builder with another store in `field`, and another type therefore. The list is that of all
/// fields.
macro_rules! with {
    ($builder:ident, $field:ident = $value:expr, [$($all:ident)*]) => {{
        let StorageContextBuilder { $($all),* } = $builder;
        drop($field);
        let $field = $value;
        StorageContextBuilder { $($all),* }
    }};
}

impl<D, I, V, G, P, C> StorageContextBuilder<D, I, V, G, P, C> {
    /// A document store of the caller's.
    pub fn docstore<T>(self, store: T) -> StorageContextBuilder<T, I, V, G, P, C> {
        with!(
            self,
            docstore = Choice::Given(store),
            [docstore index_store vectors graph_store property_graph_store chat_store registry]
        )
    }

    /// An index store of the caller's.
    pub fn index_store<T>(self, store: T) -> StorageContextBuilder<D, T, V, G, P, C> {
        with!(
            self,
            index_store = Choice::Given(store),
            [docstore index_store vectors graph_store property_graph_store chat_store registry]
        )
    }

    /// A graph store of the caller's.
    pub fn graph_store<T>(self, store: T) -> StorageContextBuilder<D, I, V, T, P, C> {
        with!(
            self,
            graph_store = Choice::Given(store),
            [docstore index_store vectors graph_store property_graph_store chat_store registry]
        )
    }

    /// A property graph store of the caller's.
    pub fn property_graph_store<T>(self, store: T) -> StorageContextBuilder<D, I, V, G, T, C> {
        with!(
            self,
            property_graph_store = Choice::Given(store),
            [docstore index_store vectors graph_store property_graph_store chat_store registry]
        )
    }

    /// A chat store of the caller's.
    pub fn chat_store<T>(self, store: T) -> StorageContextBuilder<D, I, V, G, P, T> {
        with!(
            self,
            chat_store = Choice::Given(store),
            [docstore index_store vectors graph_store property_graph_store chat_store registry]
        )
    }

    /// A vector store of the caller's in the namespace `default`; as the only one, but for `image`
    /// as with [`StorageContextBuilder::vector_stores`].
    pub fn vector_store<T: 'static>(self, store: T) -> StorageContextBuilder<D, I, T, G, P, C> {
        self.vector_stores([(DEFAULT_VECTOR_STORE.to_owned(), store)])
    }

    /// Vector stores of the caller's by namespace. Takes the place of all vector stores that were
    /// given before.
    ///
    /// As in LlamaIndex, a context that is made anew has an `image` store of its own beside them,
    /// also after opening again, and one that is loaded has the given ones only. It is a
    /// [`VectorStore`]: stores of another type have none beside them, give it with
    /// [`StorageContextBuilder::vector_store_in`].
    pub fn vector_stores<T: 'static>(
        self,
        stores: impl IntoIterator<Item = (String, T)>,
    ) -> StorageContextBuilder<D, I, T, G, P, C> {
        let own = OwnVectors::beside_given();
        let given = VectorChoice { own, given: stores.into_iter().collect() };
        with!(
            self,
            vectors = given,
            [docstore index_store vectors graph_store property_graph_store chat_store registry]
        )
    }

    /// One vector store more of the caller's, of the type that the context has; it hides what is
    /// stored under that namespace.
    pub fn vector_store_in(mut self, namespace: impl Into<String>, store: V) -> Self {
        self.vectors.given.insert(namespace.into(), store);
        self
    }

    /// Which vector stores of its own the context has, besides `image` and those that hold rows.
    /// Without it: `default`, or those that it had.
    pub fn vector_namespaces<T: Into<String>>(
        mut self,
        namespaces: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut names: Vec<String> = namespaces.into_iter().map(Into::into).collect();
        if !names.iter().any(|name| name == IMAGE_VECTOR_STORE) {
            names.push(IMAGE_VECTOR_STORE.to_owned());
        }
        self.registry.vector_stores = Some(names);
        self
    }

    /// Says that the context has a property graph store though it may be empty: exported
    /// directories hold it. It can be used without that, too.
    pub fn with_property_graph(mut self) -> Self {
        self.registry.property_graph = true;
        self
    }

    /// The context in memory, gone with its last clone; stores that were given are where they are.
    ///
    /// # Errors
    ///
    /// As [`StorageContextBuilder::over`].
    pub fn in_memory(self) -> Result<StorageContext<D, I, V, G, P, C>, StoreError> {
        self.over(Arc::new(MemoryKv::new()))
    }

    /// The context in the directory `dir`, which is created if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] with the [`OpenError`](crate::engine::OpenError) as its source, or as
    /// [`StorageContextBuilder::over`]; nothing was changed.
    pub fn open(
        self,
        dir: impl AsRef<Path>,
    ) -> Result<StorageContext<D, I, V, G, P, C>, StoreError> {
        self.open_with(dir, Options::default())
    }

    /// As [`StorageContextBuilder::open`], with other options for the engine.
    ///
    /// # Errors
    ///
    /// As [`StorageContextBuilder::open`].
    pub fn open_with(
        self,
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<StorageContext<D, I, V, G, P, C>, StoreError> {
        let cannot = |e| KvError::custom("cannot open the store of the context", e);
        self.over(Arc::new(open_log(dir.as_ref(), options).map_err(cannot)?))
    }

    /// The context over `kv`; each of its own stores is in its default namespace.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] and [`StoreError::Corrupt`] if `kv` cannot be read or written.
    pub fn over(
        self,
        kv: Arc<dyn KvStore>,
    ) -> Result<StorageContext<D, I, V, G, P, C>, StoreError> {
        let may_be_image = matches!(self.vectors.own, OwnVectors::Image(_));
        let is_new_image = may_be_image && kv.collections()?.iter().all(|(_, len)| *len == 0);
        let (mut asked, context) = self.build(Writer::new(kv));
        asked.image_beside_given |= is_new_image;
        if asked != Registry::default() {
            context.writer.change(|kv| {
                let mut registry = Registry::get(kv)?;
                registry.property_graph |= asked.property_graph;
                registry.image_beside_given |= asked.image_beside_given;
                if asked.vector_stores.is_some() {
                    registry.vector_stores = asked.vector_stores;
                }
                registry.put(kv)
            })?;
        }
        Ok(context)
    }

    /// The context, and what has to be written down.
    pub(super) fn build(self, writer: Writer) -> (Registry, StorageContext<D, I, V, G, P, C>) {
        let vectors = self.vectors.own.make(&writer);
        for (namespace, store) in self.vectors.given {
            vectors.give(namespace, store);
        }
        let context = StorageContext {
            docstore: self.docstore.slot(&writer),
            index_store: self.index_store.slot(&writer),
            graph_store: self.graph_store.slot(&writer),
            property_graph_store: self.property_graph_store.slot(&writer),
            chat_store: self.chat_store.slot(&writer),
            chat_queue: Slot::own(&writer, |writer| ChatQueue::from_writer(writer.clone(), "")),
            vectors,
            writer,
        };
        (self.registry, context)
    }
}
