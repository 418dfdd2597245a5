//! The graph store: LlamaIndex's `SimpleGraphStore`, triplets of texts by subject.
//!
//! # What is kept
//!
//! With the default namespace `graph_store`:
//!
//! ```text
//! collection             key                 value
//! graph_store/subjects   subject             {edges: head of its list, #order: handle}
//! graph_store/edge_lists see List            chunks of the subjects' lists, items [rel, obj]
//! graph_store/order      see List            all subjects in the order of insertion
//! graph_store/edges      subject, rel, obj   handle of the edge in its subject's list
//! ```
//!
//! LlamaIndex keeps a subject's edges in one list and walks it to find repeats. Here `edges` tells
//! at once whether a triplet is there and in which chunk of the list, so adding and removing one
//! cost the same whatever the degree of its subject and the size of the graph.
//!
//! # Atomicity and concurrency
//!
//! Each call that changes is one atomic batch. Reads of several records run under the same lock,
//! so that they see whole changes only.

mod dict;
mod key;
mod rel_map;
mod twins;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use rel_map::{REL_MAP_LEN_MAX, TextTriplet};

pub(crate) use key::joined;

use super::list::List;
use super::writer::Writer;
use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore, Map, Text, Value};
use crate::stores::StoreError;

/// The namespace when the caller names none.
const NAMESPACE: &str = "graph_store";

/// Stores triplets of texts: subject, relation, object.
///
/// Clones share one store.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::stores::GraphStore;
///
/// let graph = GraphStore::new(Arc::new(MemoryKv::new()));
/// graph.upsert_triplet("ann", "knows", "bob")?;
/// graph.upsert_triplet("bob", "likes", "tea")?;
/// assert_eq!(graph.get("ann")?, [("knows".into(), "bob".into())]);
/// let map = graph.get_rel_map(Some(&["ann".into()]), 2, 30)?;
/// assert_eq!(map[0].1.len(), 2);
/// graph.delete("ann", "knows", "bob")?;
/// assert!(graph.get("ann")?.is_empty());
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct GraphStore {
    writer: Writer,
    names: Arc<Names>,
}

/// The collections of a store.
struct Names {
    subjects: String,
    lists: String,
    order: String,
    edges: String,
}

impl Names {
    fn all(&self) -> [&str; 4] {
        [&self.subjects, &self.lists, &self.order, &self.edges]
    }
}

/// A subject's record.
struct Subject<'a> {
    edges: List<'a>,
    /// Where it stands in the list of subjects.
    order: u64,
}

impl GraphStore {
    /// The store in the default namespace of `kv`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        GraphStore::with_namespace(kv, NAMESPACE)
    }

    /// The store in another namespace; an empty one stands for the default.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        GraphStore::from_writer(Writer::new(kv), namespace)
    }

    /// The store in a namespace, with the lock of `writer`.
    pub(crate) fn from_writer(writer: Writer, namespace: &str) -> Self {
        let namespace = if namespace.is_empty() { NAMESPACE } else { namespace };
        let name = |suffix| format!("{namespace}/{suffix}");
        let names = Names {
            subjects: name("subjects"),
            lists: name("edge_lists"),
            order: name("order"),
            edges: name("edges"),
        };
        GraphStore { writer, names: Arc::new(names) }
    }

    /// Adds a triplet; nothing changes if it is there.
    ///
    /// Cost: the same whatever the degree of the subject and the size of the graph.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written or `subj` is longer than a key may be
    /// ([`KEY_LEN_MAX`](crate::limits::KEY_LEN_MAX), less a few bytes): nothing was changed.
    pub fn upsert_triplet(
        &self,
        subj: impl Into<Text>,
        rel: impl Into<Text>,
        obj: impl Into<Text>,
    ) -> Result<(), StoreError> {
        self.upsert_triplets(&[(subj.into(), rel.into(), obj.into())])
    }

    /// Adds triplets as one atomic batch.
    ///
    /// # Errors
    ///
    /// As [`GraphStore::upsert_triplet`].
    pub fn upsert_triplets(&self, triplets: &[TextTriplet]) -> Result<(), StoreError> {
        self.writer.change(|kv| {
            triplets.iter().try_for_each(|(subj, rel, obj)| self.add(kv, subj, rel, obj))
        })
    }

    /// Removes a triplet; its subject goes with the last one. Nothing changes if it is not there.
    /// (LlamaIndex's never removes anything.)
    ///
    /// Cost: as [`GraphStore::upsert_triplet`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store fails, [`StoreError::Corrupt`] if its records are damaged:
    /// nothing was changed.
    pub fn delete(
        &self,
        subj: impl Into<Text>,
        rel: impl Into<Text>,
        obj: impl Into<Text>,
    ) -> Result<(), StoreError> {
        let (subj, rel, obj) = (subj.into(), rel.into(), obj.into());
        self.writer.change(|kv| self.remove(kv, &subj, &rel, &obj))
    }

    /// The relations and objects of a subject, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read, [`StoreError::Corrupt`] if its records are
    /// damaged.
    pub fn get(&self, subj: impl Into<Text>) -> Result<Vec<(Text, Text)>, StoreError> {
        let subj = subj.into();
        self.writer.read(|kv| self.edges(kv, &subj, 0, usize::MAX))
    }

    /// True if the triplet is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn contains(
        &self,
        subj: impl Into<Text>,
        rel: impl Into<Text>,
        obj: impl Into<Text>,
    ) -> Result<bool, StoreError> {
        let key = edge_key(&subj.into(), &rel.into(), &obj.into());
        Ok(self.writer.kv().contains(&self.names.edges, &key)?)
    }

    /// How many triplets there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn len(&self) -> Result<u64, StoreError> {
        Ok(self.writer.kv().len(&self.names.edges)?)
    }

    /// True if there is no triplet.
    ///
    /// # Errors
    ///
    /// As [`GraphStore::len`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
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

    /// Not offered, as in LlamaIndex; the property graph store has a schema.
    ///
    /// # Errors
    ///
    /// Always [`StoreError::Unsupported`].
    pub fn get_schema(&self) -> Result<Value, StoreError> {
        Err(StoreError::Unsupported("SimpleGraphStore does not support get_schema"))
    }

    /// Not offered, as in LlamaIndex.
    ///
    /// # Errors
    ///
    /// Always [`StoreError::Unsupported`].
    pub fn query(&self, _query: &str) -> Result<Value, StoreError> {
        Err(StoreError::Unsupported("SimpleGraphStore does not support query"))
    }

    fn wipe(&self, kv: &dyn KvStore) -> Result<(), StoreError> {
        let mut batch = KvBatch::new();
        for name in self.names.all() {
            batch.clear(name)?;
        }
        kv.write(batch, Durability::Buffered)?;
        Ok(())
    }

    /// Adds a triplet. Requires: runs inside a change.
    fn add(&self, kv: &dyn KvStore, subj: &Text, rel: &Text, obj: &Text) -> Result<(), StoreError> {
        let key = edge_key(subj, rel, obj);
        if kv.contains(&self.names.edges, &key)? {
            return Ok(());
        }
        let mut subject = self.subject_or_new(kv, subj)?;
        let handle = subject.edges.push(Value::List(vec![rel.into(), obj.into()]))?;
        kv.put(&self.names.edges, &key, &handle.into())?;
        self.put_subject(kv, subj, &subject)
    }

    fn remove(
        &self,
        kv: &dyn KvStore,
        subj: &Text,
        rel: &Text,
        obj: &Text,
    ) -> Result<(), StoreError> {
        let key = edge_key(subj, rel, obj);
        let Some(handle) = kv.get(&self.names.edges, &key)? else { return Ok(()) };
        let lost =
            || StoreError::corrupt(&self.names.edges, &key, "names an edge that is not there");
        let handle = handle.as_int().and_then(|handle| u64::try_from(handle).ok());
        let mut subject = self.subject(kv, subj)?.ok_or_else(lost)?;
        let edge = Value::List(vec![rel.into(), obj.into()]);
        subject
            .edges
            .remove_in(handle.ok_or_else(lost)?, |item| *item == edge)?
            .ok_or_else(lost)?;
        kv.delete(&self.names.edges, &key)?;
        if !subject.edges.is_empty() {
            return self.put_subject(kv, subj, &subject);
        }
        kv.delete(&self.names.subjects, subj.as_bytes())?;
        let mut order = List::load(kv, &self.names.order, b"")?;
        order.remove_in(subject.order, |item| item.as_text() == Some(subj))?.ok_or_else(lost)?;
        order.save()
    }

    fn subject<'a>(
        &'a self,
        kv: &'a dyn KvStore,
        subj: &'a Text,
    ) -> Result<Option<Subject<'a>>, StoreError> {
        let Some(record) = kv.get(&self.names.subjects, subj.as_bytes())? else { return Ok(None) };
        let damaged =
            || StoreError::corrupt(&self.names.subjects, subj.as_bytes(), "is no subject's record");
        let order = record.get("#order").and_then(Value::as_int);
        let order = order.and_then(|order| u64::try_from(order).ok()).ok_or_else(damaged)?;
        let head = record.get("edges").ok_or_else(damaged)?;
        let edges = List::open(kv, &self.names.lists, subj.as_bytes(), head)?;
        Ok(Some(Subject { edges, order }))
    }

    /// A subject, entered into the list of subjects if it is new.
    fn subject_or_new<'a>(
        &'a self,
        kv: &'a dyn KvStore,
        subj: &'a Text,
    ) -> Result<Subject<'a>, StoreError> {
        if let Some(subject) = self.subject(kv, subj)? {
            return Ok(subject);
        }
        let mut subjects = List::load(kv, &self.names.order, b"")?;
        let order = subjects.push(subj.into())?;
        subjects.save()?;
        Ok(Subject { edges: List::new(kv, &self.names.lists, subj.as_bytes()), order })
    }

    fn put_subject(
        &self,
        kv: &dyn KvStore,
        subj: &Text,
        subject: &Subject<'_>,
    ) -> Result<(), StoreError> {
        let mut record = Map::with_capacity(2);
        record.set("edges", subject.edges.head());
        record.set("#order", subject.order);
        Ok(kv.put(&self.names.subjects, subj.as_bytes(), &record.into())?)
    }

    /// Relation and object of at most `len` edges of `subj`, from the one at `position` on.
    fn edges(
        &self,
        kv: &dyn KvStore,
        subj: &Text,
        position: u64,
        len: usize,
    ) -> Result<Vec<(Text, Text)>, StoreError> {
        let mut page = Vec::new();
        let Some(subject) = self.subject(kv, subj)? else { return Ok(page) };
        subject.edges.visit(position, &mut |_, item| {
            let Value::List(pair) = item else { return Err(self.bad_edge(subj)) };
            let Ok([Value::Text(rel), Value::Text(obj)]) = <[Value; 2]>::try_from(pair) else {
                return Err(self.bad_edge(subj));
            };
            page.push((rel, obj));
            Ok(if page.len() < len { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(page)
    }

    fn bad_order(&self) -> StoreError {
        StoreError::corrupt(&self.names.order, b"", "lists something that is no subject")
    }

    fn bad_edge(&self, subj: &Text) -> StoreError {
        let what = "lists something that is no edge";
        StoreError::corrupt(&self.names.subjects, subj.as_bytes(), what)
    }
}

/// The key of a triplet.
fn edge_key(subj: &Text, rel: &Text, obj: &Text) -> Vec<u8> {
    joined(&[subj.as_bytes(), rel.as_bytes(), obj.as_bytes()])
}

impl std::fmt::Debug for GraphStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphStore").field("subjects", &self.names.subjects).finish()
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
