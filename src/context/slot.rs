//! [`Slot`]: a store of a context, its own or one that the caller gave.

use crate::kv::{KvError, Value};
use crate::stores::{
    ChatQueue, ChatStore, DocumentStore, GraphStore, IndexStore, PropertyGraphStore, StoreError,
    VectorStore, Writer,
};

/// What a context asks of a store that the caller gives it. Everything else is between the caller
/// and the store: the context hands it out with its own type, whatever methods it has.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex};
/// use siltstone::context::Persist;
/// use siltstone::stores::StoreError;
/// use siltstone::StorageContext;
///
/// /// A graph store of one's own.
/// #[derive(Clone, Default)]
/// struct Tags(Arc<Mutex<BTreeMap<String, String>>>);
///
/// impl Persist for Tags {
///     fn persist(&self) -> Result<(), StoreError> {
///         Ok(()) // A real one would write a file, or ask a server to.
///     }
/// }
///
/// let context = StorageContext::builder().graph_store(Tags::default()).in_memory()?;
/// let tags: &Tags = context.graph_store();
/// tags.0.lock().unwrap().insert("n1".into(), "geology".into());
/// context.persist()?; // calls `Tags::persist` too
/// # Ok::<(), StoreError>(())
/// ```
pub trait Persist {
    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from doing so; [`StoreError::Kv`] with
    /// [`KvError::custom`](crate::kv::KvError::custom) carries errors of other kinds.
    fn persist(&self) -> Result<(), StoreError>;

    /// The store as LlamaIndex's own store of that kind gives it (its `to_dict`, and what is in its
    /// file): [`StorageContext::to_dict`] and [`StorageContext::export`] need it of stores that are
    /// none of this crate's types. Those are written without it.
    ///
    /// [`StorageContext::to_dict`]: crate::StorageContext::to_dict
    /// [`StorageContext::export`]: crate::StorageContext::export
    ///
    /// # Errors
    ///
    /// The store's. Default: [`StoreError::Unsupported`].
    fn to_dict(&self) -> Result<Value, StoreError> {
        Err(StoreError::Unsupported("a store of this type gives no dictionary"))
    }
}

impl<T: Persist + ?Sized> Persist for std::sync::Arc<T> {
    fn persist(&self) -> Result<(), StoreError> {
        (**self).persist()
    }

    fn to_dict(&self) -> Result<Value, StoreError> {
        (**self).to_dict()
    }
}

/// A store, and how to make the same one over another key-value store if it is the context's own.
#[derive(Clone)]
pub(super) struct Slot<T> {
    pub(super) store: T,
    own: Option<Own<T>>,
}

/// What can be done with a context's own store only.
struct Own<T> {
    make: fn(&Writer) -> T,
    /// Runs something while nobody changes the store by a lock of its own.
    alone: fn(&T, &mut dyn FnMut()) -> Result<(), KvError>,
}

impl<T> Clone for Own<T> {
    fn clone(&self) -> Self {
        Own { make: self.make, alone: self.alone }
    }
}

/// For stores that have no lock but the writer's.
fn run_at_once<T>(_: &T, run: &mut dyn FnMut()) -> Result<(), KvError> {
    run();
    Ok(())
}

impl<T> Slot<T> {
    /// A store that changes through the writer only.
    pub(super) fn own(writer: &Writer, make: fn(&Writer) -> T) -> Self {
        Slot { store: make(writer), own: Some(Own { make, alone: run_at_once }) }
    }

    pub(super) fn given(store: T) -> Self {
        Slot { store, own: None }
    }

    pub(super) fn is_given(&self) -> bool {
        self.own.is_none()
    }

    /// Runs `run` while nobody changes the store, if it is the context's own.
    pub(super) fn alone(&self, run: &mut dyn FnMut()) -> Result<(), KvError> {
        match &self.own {
            Some(own) => (own.alone)(&self.store, run),
            None => run_at_once(&self.store, run),
        }
    }
}

impl Slot<DocumentStore> {
    /// The document store, which has a lock of its own.
    pub(super) fn documents(writer: &Writer) -> Self {
        let make = DocumentStore::from_writer;
        Slot { store: make(writer), own: Some(Own { make, alone: |store, run| store.alone(run) }) }
    }
}

impl<T: Clone> Slot<T> {
    /// The store as a transaction sees it: over `writer` if it is the context's own.
    pub(super) fn over(&self, writer: &Writer) -> Self {
        let made = self.own.as_ref().map(|own| (own.make)(writer));
        Slot { store: made.unwrap_or_else(|| self.store.clone()), own: self.own.clone() }
    }
}

impl<T: Persist> Slot<T> {
    /// Persists a store that was given; the context's own ones share one key-value store.
    pub(super) fn persist_given(&self) -> Result<(), StoreError> {
        if self.own.is_some() { Ok(()) } else { self.store.persist() }
    }
}

macro_rules! persist {
    ($($store:ty),*) => {
        $(impl Persist for $store {
            fn persist(&self) -> Result<(), StoreError> {
                <$store>::persist(self)
            }
        })*
    };
}

persist!(
    DocumentStore,
    IndexStore,
    VectorStore,
    GraphStore,
    PropertyGraphStore,
    ChatStore,
    ChatQueue
);
