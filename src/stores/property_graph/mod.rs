//! The property graph store: LlamaIndex's `SimplePropertyGraphStore`, labelled nodes and relations
//! with properties, found without a scan.
//!
//! # What is kept
//!
//! With the default namespace `property_graph_store`, where a *number* is an unsigned integer given
//! to each node and to each relation once, in the order of insertion:
//!
//! ```text
//! collection    key                   value
//! ../ids        node id               number
//! ../nodes      number                {id, label, properties, name | text, #handles, ..}
//! ../embeddings number                [floats]
//! ../pairs      source, label, target number (the ends by number)
//! ../relations  number                {label, source_id, target_id, properties, #places, #handles}
//! ../lists      see List              numbers: relations from a node, to a node, with a label;
//!                                     nodes and relations with a property of a value
//! ../schema     label [, key, kind]   {of, label [, key, kind], count}
//! ../numbers    (empty)               [next node, next relation]
//! ```
//!
//! Numbers are little-endian `u64`. A record tells where it stands in each list, so a change
//! touches its own records and one chunk of each list that it is in, whatever the degree of a node
//! and the size of the graph. Embeddings are records of their own: relations and lookups do not
//! drag them along, and a vector query reads nothing else.
//!
//! **Properties** are found by the value's canonical form ([`properties`]), which is the same for
//! values that Python finds equal; long forms are hashed. What a list gives is verified against the
//! record. Only `None` needs a scan: it also matches where the property is missing.
//!
//! **Ids** are kept as they are, and keys are made of parts with their lengths, so that none
//! collide; LlamaIndex replaces quotes and joins with `_`. What is given out has LlamaIndex's ids
//! ([`dict`]).
//!
//! # Atomicity and concurrency
//!
//! Each call that changes is one atomic batch. Reads of several records run under the same lock,
//! so that they see whole changes only.

mod delete;
mod dict;
mod import;
mod llama;
mod properties;
mod read;
mod rel_map;
mod schema;
mod twins;
mod txn;
mod vector;
mod view;

use std::sync::Arc;

pub use import::PropertyGraphImport;
pub use read::{GraphFilter, Triplet};
pub use rel_map::TRIPLETS_LEN_MAX;
pub use schema::{GraphSchema, LabelSchema, PropertyKind};

use txn::Txn;
use view::View;

use super::writer::Writer;
use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore, Value};
use crate::model::{LabelledNode, Relation};
use crate::stores::StoreError;

/// The namespace when the caller names none.
const NAMESPACE: &str = "property_graph_store";

/// Stores labelled nodes and the relations between them.
///
/// Clones share one store.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::{LabelledNode, Relation};
/// use siltstone::stores::{GraphFilter, PropertyGraphStore};
///
/// let graph = PropertyGraphStore::new(Arc::new(MemoryKv::new()));
/// graph.upsert_nodes(&[LabelledNode::entity("Ann").with_property("age", 28)])?;
/// graph.upsert_relations(&[Relation::new("Ann", "KNOWS", "Bob")])?;
///
/// let known = graph.get_triplets(&GraphFilter::relations(["KNOWS"]))?;
/// assert_eq!(known[0].target.id, "Bob");
/// let aged = [("age", 28.0)].into_iter().collect();
/// assert_eq!(graph.get(&aged, &[])?[0].id, "Ann");
/// graph.delete(&GraphFilter::ids(["Ann"]))?;
/// assert_eq!(graph.get(&Default::default(), &[])?.len(), 1);
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct PropertyGraphStore {
    writer: Writer,
    names: Arc<Names>,
}

/// The collections of a store.
struct Names {
    ids: String,
    nodes: String,
    embeddings: String,
    pairs: String,
    relations: String,
    lists: String,
    schema: String,
    numbers: String,
}

impl PropertyGraphStore {
    /// The store in the default namespace of `kv`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        PropertyGraphStore::with_namespace(kv, NAMESPACE)
    }

    /// The store in another namespace; an empty one stands for the default.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        PropertyGraphStore::from_writer(Writer::new(kv), namespace)
    }

    /// The store in a namespace, with the lock of `writer`.
    pub(crate) fn from_writer(writer: Writer, namespace: &str) -> Self {
        let namespace = if namespace.is_empty() { NAMESPACE } else { namespace };
        let name = |suffix| format!("{namespace}/{suffix}");
        let names = Names {
            ids: name("ids"),
            nodes: name("nodes"),
            embeddings: name("embeddings"),
            pairs: name("pairs"),
            relations: name("relations"),
            lists: name("lists"),
            schema: name("schema"),
            numbers: name("numbers"),
        };
        PropertyGraphStore { writer, names: Arc::new(names) }
    }

    /// Adds nodes, each replacing the one with its id, as one atomic batch. Relations of a
    /// replaced node stay.
    ///
    /// Cost: for each node its record, its embedding, and one chunk for each property that is not
    /// as it was.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written, an id is longer than a key may be
    /// ([`KEY_LEN_MAX`](crate::limits::KEY_LEN_MAX)) or a property is nested too deeply: nothing
    /// was changed.
    pub fn upsert_nodes(&self, nodes: &[LabelledNode]) -> Result<(), StoreError> {
        self.change(|txn| nodes.iter().try_for_each(|node| txn.upsert_node(node).map(drop)))
    }

    /// Adds relations as one atomic batch; an end that is not there becomes an entity. A relation
    /// that is there takes the new properties. (LlamaIndex keeps the old ones.)
    ///
    /// Cost: for each relation its record, one chunk each at both ends and for its label, and one
    /// for each property that is not as it was, whatever the degree of its ends.
    ///
    /// # Errors
    ///
    /// As [`PropertyGraphStore::upsert_nodes`].
    pub fn upsert_relations(&self, relations: &[Relation]) -> Result<(), StoreError> {
        self.change(|txn| relations.iter().try_for_each(|relation| txn.upsert_relation(relation)))
    }

    /// How many nodes there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn node_count(&self) -> Result<u64, StoreError> {
        Ok(self.writer.kv().len(&self.names.nodes)?)
    }

    /// How many relations there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn relation_count(&self) -> Result<u64, StoreError> {
        Ok(self.writer.kv().len(&self.names.relations)?)
    }

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written: nothing was changed.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.writer.change(|kv| self.wipe(kv))
    }

    /// Makes everything written to the key-value store durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if that failed.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist()?)
    }

    /// Not offered, as in LlamaIndex: there is no query language.
    ///
    /// # Errors
    ///
    /// Always [`StoreError::Unsupported`].
    pub fn structured_query(&self, _query: &str) -> Result<Value, StoreError> {
        Err(StoreError::Unsupported(
            "Structured query not implemented for SimplePropertyGraphStore.",
        ))
    }

    fn wipe(&self, kv: &dyn KvStore) -> Result<(), StoreError> {
        let Names { ids, nodes, embeddings, pairs, relations, lists, schema, numbers } =
            &*self.names;
        let mut batch = KvBatch::new();
        for name in [ids, nodes, embeddings, pairs, relations, lists, schema, numbers] {
            batch.clear(name)?;
        }
        kv.write(batch, Durability::Buffered)?;
        Ok(())
    }

    /// Runs `change` as one atomic batch.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.writer.change(|kv| {
            let mut txn = Txn::new(kv, &self.names);
            let done = change(&mut txn)?;
            txn.finish()?;
            Ok(done)
        })
    }

    /// Runs `read` while no change is written.
    fn read<T>(
        &self,
        read: impl FnOnce(View<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.writer.read(|kv| read(View { kv, names: &self.names }))
    }
}

impl std::fmt::Debug for PropertyGraphStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PropertyGraphStore").field("nodes", &self.names.nodes).finish()
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
