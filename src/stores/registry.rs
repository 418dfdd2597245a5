//! Which stores of a context there are: those that hold nothing yet cannot tell by themselves.
//!
//! One record says it: collection `storage_context/stores`, key `stores`, value
//! `{vector_stores: [namespace, ..], property_graph: bool [, image_beside_given: true]}`. Without
//! that record a context has the vector stores `default` and `image`, as LlamaIndex's has, and
//! whatever else holds rows.
//! Each change is one atomic batch.

use std::sync::Arc;

use super::vector::VectorStore;
use super::{DEFAULT_VECTOR_STORE, IMAGE_VECTOR_STORE, StoreError};
use crate::kv::{KvStore, Map, Text, Value};

const COLLECTION: &str = "storage_context/stores";
const KEY: &[u8] = b"stores";
const VECTOR_STORES: &str = "vector_stores";
const PROPERTY_GRAPH: &str = "property_graph";
const IMAGE_BESIDE_GIVEN: &str = "image_beside_given";

/// The record, as it is read and written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// `None`: nobody has said; the usual ones.
    pub(crate) vector_stores: Option<Vec<String>>,
    /// True if a property graph store was asked for, though it may be empty.
    pub(crate) property_graph: bool,
    /// True if the context was made with vector stores of the caller's: it has its own `image`
    /// beside them.
    pub(crate) image_beside_given: bool,
}

impl Registry {
    pub(crate) fn get(kv: &dyn KvStore) -> Result<Self, StoreError> {
        let Some(found) = kv.get(COLLECTION, KEY)? else { return Ok(Registry::default()) };
        let corrupt = |what| StoreError::corrupt(COLLECTION, KEY, what);
        let record = found.as_map().ok_or_else(|| corrupt("is no dictionary"))?;
        let vector_stores = match record.get(VECTOR_STORES) {
            None | Some(Value::Null) => None,
            Some(names) => {
                let names = names.as_list().ok_or_else(|| corrupt("names no vector stores"))?;
                let name = |name: &Value| Some(name.as_text()?.as_str()?.to_owned());
                let names: Option<Vec<String>> = names.iter().map(name).collect();
                Some(names.ok_or_else(|| corrupt("holds a name that is no text"))?)
            }
        };
        let is_true = |name| matches!(record.get(name), Some(Value::Bool(true)));
        let property_graph = is_true(PROPERTY_GRAPH);
        let image_beside_given = is_true(IMAGE_BESIDE_GIVEN);
        Ok(Registry { vector_stores, property_graph, image_beside_given })
    }

    pub(crate) fn put(&self, kv: &dyn KvStore) -> Result<(), StoreError> {
        let mut record = Map::with_capacity(2);
        if let Some(names) = &self.vector_stores {
            let names = names.iter().map(|name| Value::Text(Text::from(name)));
            record.set(VECTOR_STORES, names.collect::<Vec<_>>());
        }
        record.set(PROPERTY_GRAPH, self.property_graph);
        if self.image_beside_given {
            record.set(IMAGE_BESIDE_GIVEN, true);
        }
        Ok(kv.put(COLLECTION, KEY, &record.into())?)
    }

    /// The namespaces of the vector stores: those named, then others that hold rows.
    pub(crate) fn vector_namespaces(&self, kv: &dyn KvStore) -> Result<Vec<String>, StoreError> {
        let mut names = self.vector_stores.clone().unwrap_or_else(usual);
        for name in VectorStore::namespaces(kv)? {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Enters a vector store; true if it was not there.
    pub(crate) fn add_vector_store(&mut self, namespace: &str) -> bool {
        let mut names = self.vector_stores.clone().unwrap_or_else(usual);
        let is_new = !names.iter().any(|name| name == namespace);
        if is_new {
            names.push(namespace.to_owned());
            self.vector_stores = Some(names);
        }
        is_new
    }
}

/// What a context of LlamaIndex's has if nobody asks for anything else.
fn usual() -> Vec<String> {
    vec![DEFAULT_VECTOR_STORE.to_owned(), IMAGE_VECTOR_STORE.to_owned()]
}

/// Whether a context with this store has a property graph: one was asked for, or holds something.
pub(crate) fn has_property_graph(kv: &Arc<dyn KvStore>) -> Result<bool, StoreError> {
    if Registry::get(&**kv)?.property_graph {
        return Ok(true);
    }
    let graph = super::PropertyGraphStore::new(kv.clone());
    Ok(graph.node_count()? > 0 || graph.relation_count()? > 0)
}
