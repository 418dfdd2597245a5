//! [`Space`]: a part of the store that an import fills and an export takes.

use std::fmt;
use std::sync::Arc;

use super::contents::{LISTS, any, holds_our_structs, holds_ref_docs};
use super::load::is_struct;
use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore};
use crate::stores::{
    ChatStore, DocumentStore, GraphStore, IndexStore, MEMBERS, PropertyGraphStore, StoreError,
    VectorStore,
};

/// A store in its namespace, or a collection of no store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    /// The document store of this namespace.
    Documents(String),
    /// The index store of this namespace.
    Structs(String),
    /// The vector store of this namespace.
    Vectors(String),
    /// The graph store.
    Graph,
    /// The property graph store.
    PropertyGraph,
    /// The chat store.
    Chats,
    /// A collection that belongs to no store.
    Collection(String),
}

impl Space {
    /// True if there is nothing in it.
    pub(super) fn is_empty(&self, kv: &Arc<dyn KvStore>) -> Result<bool, StoreError> {
        match self {
            Space::Documents(namespace) => {
                let store = documents(kv, namespace);
                Ok(store.holds_nothing()?
                    || !store.holds_more_than_bodies()? && !holds_nodes(kv, namespace)?)
            }
            Space::Structs(namespace) => Ok(!holds_structs(kv, namespace)?),
            Space::Vectors(namespace) => vectors(kv, namespace).is_empty(),
            Space::Graph => GraphStore::new(kv.clone()).is_empty(),
            Space::PropertyGraph => is_empty_graph(&PropertyGraphStore::new(kv.clone())),
            Space::Chats => Ok(ChatStore::new(kv.clone()).get_keys()?.is_empty()),
            Space::Collection(name) => Ok(kv.len(name)? == 0),
        }
    }

    /// Removes everything that is in it.
    pub(super) fn clear(&self, kv: &Arc<dyn KvStore>) -> Result<(), StoreError> {
        match self {
            // The two have one collection in common, if they have the namespace.
            Space::Documents(namespace) => match holds_structs(kv, namespace)? {
                true => documents(kv, namespace).clear_but(&is_struct),
                false => documents(kv, namespace).clear(),
            },
            Space::Structs(namespace) => match holds_nodes(kv, namespace)? {
                true => structs(kv, namespace).clear_but(&|record| !is_struct(record)),
                false => structs(kv, namespace).clear(),
            },
            Space::Vectors(namespace) => vectors(kv, namespace).clear(),
            Space::Graph => GraphStore::new(kv.clone()).clear(),
            Space::PropertyGraph => PropertyGraphStore::new(kv.clone()).clear(),
            Space::Chats => ChatStore::new(kv.clone()).clear(),
            Space::Collection(name) => clear_collection(kv, name),
        }
    }
}

/// True if there is an index struct in the collection that a document store and an index store of
/// one namespace share.
fn holds_structs(kv: &Arc<dyn KvStore>, namespace: &str) -> Result<bool, StoreError> {
    Ok(any(&**kv, &format!("{namespace}/data"), |_, record| is_struct(record))?)
}

/// True if there is a node in it.
fn holds_nodes(kv: &Arc<dyn KvStore>, namespace: &str) -> Result<bool, StoreError> {
    Ok(any(&**kv, &format!("{namespace}/data"), |_, record| !is_struct(record))?)
}

pub(super) fn vectors(kv: &Arc<dyn KvStore>, namespace: &str) -> VectorStore {
    VectorStore::with_namespace(kv.clone(), namespace)
}

/// True if the graph has neither nodes nor relations.
pub(super) fn is_empty_graph(store: &PropertyGraphStore) -> Result<bool, StoreError> {
    Ok(store.node_count()? == 0 && store.relation_count()? == 0)
}

fn clear_collection(kv: &Arc<dyn KvStore>, name: &str) -> Result<(), StoreError> {
    let mut batch = KvBatch::new();
    batch.clear(name)?;
    // What a store with names of its own keeps beside it goes with it.
    if holds_ref_docs(&**kv, name)? {
        batch.clear(&format!("{name}{LISTS}"))?;
    }
    if holds_our_structs(&**kv, name)? {
        batch.clear(&format!("{name}{MEMBERS}"))?;
    }
    kv.write(batch, Durability::Buffered)?;
    Ok(())
}

pub(super) fn structs(kv: &Arc<dyn KvStore>, namespace: &str) -> IndexStore {
    IndexStore::with_namespace(kv.clone(), namespace)
}

pub(super) fn documents(kv: &Arc<dyn KvStore>, namespace: &str) -> DocumentStore {
    DocumentStore::with_namespace(kv.clone(), namespace)
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Space::Documents(namespace) => {
                write!(f, "the document store \"{}\"", namespace.escape_debug())
            }
            Space::Structs(namespace) => {
                write!(f, "the index store \"{}\"", namespace.escape_debug())
            }
            Space::Vectors(namespace) => {
                write!(f, "the vector store \"{}\"", namespace.escape_debug())
            }
            Space::Graph => write!(f, "a graph"),
            Space::PropertyGraph => write!(f, "a property graph"),
            Space::Chats => write!(f, "conversations"),
            Space::Collection(name) => write!(f, "the collection \"{}\"", name.escape_debug()),
        }
    }
}
