//! [`DocumentBatch`]: changes to several documents that are made together or not at all.

use std::collections::{BTreeMap, BTreeSet};

use super::txn::{Link, Txn, link};
use super::{AddOptions, DocumentStore, Inner};
use crate::engine::Durability;
use crate::kv::{KvBatch, Map, Text, Value};
use crate::model::Node;
use crate::stores::StoreError;

/// Changes to a [`DocumentStore`], made in one atomic batch by [`DocumentBatch::commit`].
///
/// Nodes are encoded when they are added, so batches can be filled on many threads; the store is
/// not touched, nor any lock held, before the commit. A batch that is dropped changes nothing.
///
/// ```
/// # use std::sync::Arc;
/// # use siltstone::{Durability, kv::MemoryKv, model::Node, stores::DocumentStore};
/// # let store = DocumentStore::new(Arc::new(MemoryKv::new()));
/// let mut batch = store.begin();
/// for name in ["a.txt", "b.txt"] {
///     let chunk = Node::text(format!("{name}#0"), "text").with_source(name);
///     batch.replace_ref_doc(name, &[chunk], Some("hash of the file".into()))?;
/// }
/// batch.commit(Durability::Sync)?;
/// assert_eq!(store.get_all_ref_doc_info()?.len(), 2);
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Debug)]
pub struct DocumentBatch {
    store: DocumentStore,
    /// Node bodies so far; the commit adds the rest.
    kv: KvBatch,
    changes: Vec<Change>,
    /// A change could only be added in part.
    broken: bool,
}

/// One change, to be worked out against the store at commit.
#[derive(Debug)]
enum Change {
    Add { nodes: Vec<Staged>, allow_update: bool },
    Replace { ref_doc_id: Text, nodes: Vec<Staged>, hash: Option<Text> },
    DeleteDocument(Text),
    DeleteRefDoc(Text),
    SetHash(Text, Text),
}

/// What the bookkeeping needs of a node.
#[derive(Debug)]
struct Staged {
    id: Text,
    hash: Text,
    ref_doc_id: Option<Text>,
    /// For the ref doc; empty if there is none.
    metadata: Map,
    has_body: bool,
}

impl DocumentBatch {
    pub(super) fn new(store: DocumentStore) -> Self {
        DocumentBatch { store, kv: KvBatch::new(), changes: Vec::new(), broken: false }
    }

    /// Adds nodes (see [`DocumentStore::add_documents`]). Of the options, `batch_size` and
    /// `durability` do not apply.
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] if a node has no hash or several sources, [`StoreError::Kv`] if one is
    /// over a limit. The batch cannot be committed any more.
    pub fn add_documents(
        &mut self,
        nodes: &[Node],
        options: &AddOptions,
    ) -> Result<(), StoreError> {
        let nodes = self.stage(nodes, options.store_text)?;
        self.changes.push(Change::Add { nodes, allow_update: options.allow_update });
        Ok(())
    }

    /// Makes `nodes` the nodes of `ref_doc_id`: nodes it had before and does not have now go, with
    /// its own body, and `hash`, if given, becomes its document hash. If it has no nodes and no
    /// hash, it goes altogether.
    ///
    /// Each of the nodes has the ref doc as its source, or is the ref doc's own document.
    ///
    /// # Errors
    ///
    /// As [`DocumentBatch::add_documents`]; [`StoreError::InvalidArgument`] if a node belongs to
    /// another ref doc.
    pub fn replace_ref_doc(
        &mut self,
        ref_doc_id: impl Into<Text>,
        nodes: &[Node],
        hash: Option<Text>,
    ) -> Result<(), StoreError> {
        let ref_doc_id = ref_doc_id.into();
        let nodes = self.stage(nodes, true)?;
        let stray = nodes
            .iter()
            .find(|node| node.id != ref_doc_id && node.ref_doc_id.as_ref() != Some(&ref_doc_id));
        if let Some(stray) = stray {
            self.broken = true;
            return Err(StoreError::InvalidArgument(format!(
                "node {} does not name {ref_doc_id} as its source",
                stray.id
            )));
        }
        self.changes.push(Change::Replace { ref_doc_id, nodes, hash });
        Ok(())
    }

    /// Deletes a node; it is no error if it is not there.
    pub fn delete_document(&mut self, id: impl Into<Text>) {
        self.changes.push(Change::DeleteDocument(id.into()));
    }

    /// Deletes a ref doc with all its nodes; it is no error if it is not there.
    pub fn delete_ref_doc(&mut self, id: impl Into<Text>) {
        self.changes.push(Change::DeleteRefDoc(id.into()));
    }

    /// Sets the hash of a document, which need not be stored.
    pub fn set_document_hash(&mut self, id: impl Into<Text>, hash: impl Into<Text>) {
        self.changes.push(Change::SetHash(id.into(), hash.into()));
    }

    /// True if there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many changes were added.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Bytes that the nodes added so far take in the log. The bookkeeping comes on top, some 150
    /// bytes a node.
    pub fn byte_len(&self) -> usize {
        self.kv.byte_len()
    }

    /// Makes all changes, in order, or none.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`] if a node may not be updated and is there,
    /// [`StoreError::InvalidArgument`] if adding a change had failed: nothing was changed.
    /// [`StoreError::Kv`]: the source says what became of the data.
    pub fn commit(self, durability: Durability) -> Result<(), StoreError> {
        self.apply(durability).map(drop)
    }

    /// As [`DocumentBatch::commit`], without blocking the thread while the device syncs.
    pub async fn commit_async(self, durability: Durability) -> Result<(), StoreError> {
        self.apply_async(durability).await.map(drop)
    }

    /// Commits; returns whether the last change found what it was to delete.
    pub(super) fn apply(self, durability: Durability) -> Result<bool, StoreError> {
        let (inner, found) = self.write()?;
        if durability == Durability::Sync {
            inner.inner.kv.sync()?;
        }
        Ok(found)
    }

    pub(super) async fn apply_async(self, durability: Durability) -> Result<bool, StoreError> {
        let (inner, found) = self.write()?;
        if durability == Durability::Sync {
            inner.inner.kv.sync_async().await?;
        }
        Ok(found)
    }

    /// Hands the changes to the key-value store. The sync, if any, comes after the lock.
    fn write(mut self) -> Result<(DocumentStore, bool), StoreError> {
        if self.broken {
            return Err(StoreError::InvalidArgument(
                "a change could only be added in part, so the batch cannot be committed".into(),
            ));
        }
        let Inner { kv, names, .. } = &*self.store.inner;
        let found = self.store.change(|numbers| {
            let mut txn = Txn::new(&**kv, names, *numbers)?;
            let mut found = true;
            for change in self.changes {
                found = change.apply(&mut txn)?;
            }
            let used = txn.finish(&mut self.kv)?;
            if !self.kv.is_empty() {
                self.store.write(|| kv.write(self.kv, Durability::Buffered))?;
            }
            *numbers = Some(used);
            Ok(found)
        })?;
        Ok((self.store, found))
    }

    fn stage(&mut self, nodes: &[Node], has_body: bool) -> Result<Vec<Staged>, StoreError> {
        let staged = nodes.iter().map(|node| self.stage_one(node, has_body)).collect();
        self.broken |= Result::is_err(&staged);
        staged
    }

    fn stage_one(&mut self, node: &Node, has_body: bool) -> Result<Staged, StoreError> {
        let invalid = |source| StoreError::Node { id: node.id.clone(), source };
        let ref_doc_id = node.ref_doc_id().map_err(invalid)?.cloned();
        let hash = node.hash().map_err(invalid)?;
        if has_body {
            let data = &self.store.inner.names.data;
            self.kv.put(data, node.id.as_bytes(), &node.to_value())?;
        }
        let metadata = match ref_doc_id {
            Some(_) => node.metadata.clone(),
            None => Map::new(),
        };
        Ok(Staged { id: node.id.clone(), hash, ref_doc_id, metadata, has_body })
    }
}

impl Change {
    /// Works the change out; returns whether it found what it was to delete.
    fn apply(self, txn: &mut Txn<'_>) -> Result<bool, StoreError> {
        match self {
            Change::Add { nodes, allow_update } => {
                for node in nodes.iter().filter(|_| !allow_update) {
                    if txn.has_body(&node.id)? {
                        return Err(StoreError::AlreadyExists { id: node.id.clone() });
                    }
                }
                add(txn, nodes)?;
                Ok(true)
            }
            Change::Replace { ref_doc_id, nodes, hash } => {
                replace(txn, &ref_doc_id, nodes, hash)?;
                Ok(true)
            }
            Change::DeleteDocument(id) => delete_document(txn, &id),
            Change::DeleteRefDoc(id) => delete_ref_doc(txn, &id),
            Change::SetHash(id, hash) => {
                set_hash(txn, &id, hash)?;
                Ok(true)
            }
        }
    }
}

/// LlamaIndex `_prepare_kv_pairs`, with nodes leaving the ref doc that they no longer name.
fn add(txn: &mut Txn<'_>, nodes: Vec<Staged>) -> Result<(), StoreError> {
    txn.prefetch(nodes.iter().map(|node| &node.id))?;
    // Of an id that comes twice, the last occurrence says where the node belongs.
    let last: BTreeMap<Text, Option<Text>> =
        nodes.iter().map(|node| (node.id.clone(), node.ref_doc_id.clone())).collect();
    // A node's place in the order stays, even if its record goes below.
    let mut orders = BTreeMap::new();
    for (id, ref_doc_id) in &last {
        let Some(mut metadata) = txn.metadata(id)?.cloned() else { continue };
        if let Some(order) = metadata.get("#order") {
            orders.insert(id.clone(), order.clone());
        }
        let link = link(&metadata).filter(|link| Some(&link.ref_doc_id) != ref_doc_id.as_ref());
        if let Some(link) = link {
            detach(txn, id, &link)?;
            metadata.remove("ref_doc_id");
            metadata.remove("#chunk");
            txn.set_metadata(id, Some(metadata));
        }
    }
    let mut adopts = BTreeMap::new();
    for node in nodes {
        let order = match orders.get(&node.id) {
            Some(order) => Value::clone(order),
            None => Value::from(txn.number()),
        };
        let old = txn.metadata(&node.id)?.and_then(link);
        let mut metadata = Map::with_capacity(4);
        metadata.set("doc_hash", &node.hash);
        let link = match &node.ref_doc_id {
            Some(id) if last.get(&node.id) == Some(&node.ref_doc_id) => {
                let chunk = attach(txn, &mut adopts, &node, id, old.as_ref())?;
                Some(Link { ref_doc_id: id.clone(), chunk: Some(chunk) })
            }
            _ => old,
        };
        if let Some(link) = link {
            metadata.set("ref_doc_id", link.ref_doc_id);
            if let Some(chunk) = link.chunk {
                metadata.set("#chunk", chunk);
            }
        }
        metadata.set("#order", order.clone());
        txn.set_metadata(&node.id, Some(metadata));
        if node.has_body {
            txn.add_body(&node.id);
        }
        orders.insert(node.id, order);
    }
    Ok(())
}

/// Lists a node in its ref doc, unless it is; returns its chunk. A ref doc that had metadata
/// before the call keeps it, else it takes that of all nodes of the call: `adopts` remembers.
fn attach(
    txn: &mut Txn<'_>,
    adopts: &mut BTreeMap<Text, bool>,
    node: &Staged,
    ref_doc_id: &Text,
    old: Option<&Link>,
) -> Result<u64, StoreError> {
    let mut ref_doc = match txn.take_ref_doc(ref_doc_id)? {
        Some(ref_doc) => ref_doc,
        None => txn.new_ref_doc(),
    };
    let adopt = match adopts.get(ref_doc_id) {
        Some(known) => *known,
        None => *adopts.entry(ref_doc_id.clone()).or_insert(ref_doc.metadata.is_empty()),
    };
    if adopt && !node.metadata.is_empty() {
        ref_doc.metadata.update(&node.metadata);
        ref_doc.changed = true;
    }
    let listed = txn.find_member(ref_doc_id, &mut ref_doc, &node.id, old)?;
    let chunk = listed.unwrap_or_else(|| txn.push_member(&mut ref_doc, &node.id));
    txn.put_ref_doc(ref_doc_id, ref_doc);
    Ok(chunk)
}

/// Takes a node out of its ref doc's list. If it was the last, the ref doc goes, with its
/// document's body and metadata (LlamaIndex `_remove_from_ref_doc_node`).
fn detach(txn: &mut Txn<'_>, id: &Text, link: &Link) -> Result<(), StoreError> {
    let ref_doc_id = &link.ref_doc_id;
    let Some(mut ref_doc) = txn.take_ref_doc(ref_doc_id)? else { return Ok(()) };
    if let Some(chunk) = txn.find_member(ref_doc_id, &mut ref_doc, id, Some(link))? {
        txn.remove_member(ref_doc_id, &mut ref_doc, id, chunk)?;
    }
    if !ref_doc.is_empty() {
        txn.put_ref_doc(ref_doc_id, ref_doc);
        return Ok(());
    }
    txn.remove_ref_doc(ref_doc_id, ref_doc)?;
    txn.forget(ref_doc_id)
}

/// LlamaIndex `delete_document`; true if the body was there after the clean-up.
fn delete_document(txn: &mut Txn<'_>, id: &Text) -> Result<bool, StoreError> {
    if let Some(link) = txn.metadata(id)?.and_then(link) {
        detach(txn, id, &link)?;
    }
    let found = txn.remove_body(id)?;
    txn.set_metadata(id, None);
    Ok(found)
}

/// LlamaIndex `delete_ref_doc`; true if the ref doc was there.
fn delete_ref_doc(txn: &mut Txn<'_>, id: &Text) -> Result<bool, StoreError> {
    let Some(ref_doc) = txn.take_ref_doc(id)? else { return Ok(false) };
    let nodes = txn.remove_ref_doc(id, ref_doc)?;
    txn.prefetch(&nodes)?;
    for node in &nodes {
        // Another ref doc may have the node by now; its own list is already gone.
        delete_document(txn, node)?;
    }
    txn.forget(id)?;
    Ok(true)
}

fn replace(
    txn: &mut Txn<'_>,
    id: &Text,
    nodes: Vec<Staged>,
    hash: Option<Text>,
) -> Result<(), StoreError> {
    let new: BTreeSet<Text> = nodes.iter().map(|node| node.id.clone()).collect();
    if let Some(ref_doc) = txn.take_ref_doc(id)? {
        let old = txn.remove_ref_doc(id, ref_doc)?;
        txn.prefetch(&old)?;
        for node in old {
            let Some(mut metadata) = txn.metadata(&node)?.cloned() else {
                txn.remove_body(&node)?;
                continue;
            };
            if !new.contains(&node) {
                delete_document(txn, &node)?;
            } else if link(&metadata).is_some_and(|link| link.ref_doc_id == *id) {
                // It will be listed anew.
                metadata.remove("ref_doc_id");
                metadata.remove("#chunk");
                txn.set_metadata(&node, Some(metadata));
            }
        }
    }
    let has_document = new.contains(id);
    if !has_document {
        txn.remove_body(id)?;
    }
    let empty = new.is_empty();
    add(txn, nodes)?;
    match hash {
        Some(hash) => set_hash(txn, id, hash),
        None if empty => txn.forget(id),
        None => Ok(()),
    }
}

/// Sets the hash and keeps the link to the ref doc, which LlamaIndex drops.
fn set_hash(txn: &mut Txn<'_>, id: &Text, hash: Text) -> Result<(), StoreError> {
    let mut metadata = match txn.metadata(id)? {
        Some(metadata) => metadata.clone(),
        None => {
            let mut metadata = Map::with_capacity(2);
            metadata.set("#order", txn.number());
            metadata
        }
    };
    metadata.set("doc_hash", hash);
    txn.set_metadata(id, Some(metadata));
    Ok(())
}

impl DocumentStore {
    /// An empty batch of changes to this store.
    pub fn begin(&self) -> DocumentBatch {
        DocumentBatch::new(self.clone())
    }
}
