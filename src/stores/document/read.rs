//! Looking things up.

use std::collections::{BTreeMap, BTreeSet};

use super::members::{Found, number};
use super::txn::Txn;
use super::{DocumentStore, Missing, RefDocInfo};
use crate::kv::{KvError, Map, Text, Value};
use crate::model::Node;
use crate::stores::StoreError;

impl DocumentStore {
    /// The node stored under `id`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is none, [`StoreError::Node`] if what is stored is none.
    pub fn get_document(&self, id: impl Into<Text>) -> Result<Node, StoreError> {
        let id = id.into();
        let found = self.find_document(&id)?;
        found.ok_or(StoreError::NotFound { what: "doc_id", id })
    }

    /// The node stored under `id`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] if what is stored is none.
    pub fn find_document(&self, id: impl Into<Text>) -> Result<Option<Node>, StoreError> {
        let id = id.into();
        let value = self.inner.kv.get(&self.inner.names.data, id.as_bytes())?;
        value.map(|value| read_node(&id, &value)).transpose()
    }

    /// True if a node is stored under `id`. Reads no node.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn document_exists(&self, id: impl Into<Text>) -> Result<bool, StoreError> {
        Ok(self.inner.kv.contains(&self.inner.names.data, id.into().as_bytes())?)
    }

    /// As [`DocumentStore::get_document`]: every stored document is a node.
    ///
    /// # Errors
    ///
    /// As [`DocumentStore::get_document`].
    pub fn get_node(&self, id: impl Into<Text>) -> Result<Node, StoreError> {
        self.get_document(id)
    }

    /// The nodes stored under `ids`, in their order, repeats included.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] for the first that is missing, unless `missing` says to skip it;
    /// [`StoreError::Node`] if what is stored is none.
    pub fn get_nodes(&self, ids: &[Text], missing: Missing) -> Result<Vec<Node>, StoreError> {
        let keys: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
        let values = self.inner.kv.get_many(&self.inner.names.data, &keys)?;
        let mut nodes = Vec::with_capacity(ids.len());
        for (id, value) in ids.iter().zip(values) {
            match value {
                Some(value) => nodes.push(read_node(id, &value)?),
                None if missing == Missing::Skip => {}
                None => return Err(StoreError::NotFound { what: "doc_id", id: id.clone() }),
            }
        }
        Ok(nodes)
    }

    /// The nodes stored under the ids of a numbered list.
    ///
    /// # Errors
    ///
    /// As [`DocumentStore::get_nodes`] with [`Missing::Error`].
    pub fn get_node_dict(
        &self,
        ids: &BTreeMap<i64, Text>,
    ) -> Result<BTreeMap<i64, Node>, StoreError> {
        let list: Vec<Text> = ids.values().cloned().collect();
        let nodes = self.get_nodes(&list, Missing::Error)?;
        Ok(ids.keys().copied().zip(nodes).collect())
    }

    /// Calls `visit` with every stored node, in no promised order, without holding more than one.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; [`StoreError::Node`] if what is stored is no node.
    pub fn for_each_document(
        &self,
        visit: &mut dyn FnMut(Text, Node) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.scan(&self.inner.names.data, &mut |id, value| {
            let node = read_node(&id, &value)?;
            visit(id, node)
        })
    }

    /// Every stored node by id (LlamaIndex `docs`). Holds all of them in memory: see
    /// [`DocumentStore::for_each_document`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] if what is stored is no node.
    pub fn docs(&self) -> Result<BTreeMap<Text, Node>, StoreError> {
        let mut docs = BTreeMap::new();
        self.for_each_document(&mut |id, node| {
            docs.insert(id, node);
            Ok(())
        })?;
        Ok(docs)
    }

    /// How many nodes are stored.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn len(&self) -> Result<u64, StoreError> {
        Ok(self.inner.kv.len(&self.inner.names.data)?)
    }

    /// True if no node is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// The nodes of a ref doc, if it has any.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if its records are damaged.
    pub fn get_ref_doc_info(&self, id: impl Into<Text>) -> Result<Option<RefDocInfo>, StoreError> {
        let id = id.into();
        let value = self.inner.kv.get(&self.inner.names.ref_docs, id.as_bytes())?;
        self.ref_doc_info(&id, value.as_ref())
    }

    /// Reads a ref doc from its own record, and its chunks if it has some.
    fn ref_doc_info(
        &self,
        id: &Text,
        value: Option<&Value>,
    ) -> Result<Option<RefDocInfo>, StoreError> {
        let names = &self.inner.names;
        match Found::read(value) {
            Some(Found::Nothing) => return Ok(None),
            Some(Found::Plain(info)) => return Ok(Some(info)),
            Some(Found::Ours(ref_doc)) if ref_doc.ends.is_none() => {
                return Ok(Some(RefDocInfo { node_ids: ref_doc.ids, metadata: ref_doc.metadata }));
            }
            _ => {}
        }
        // Several records: read them while no change is written, so that they fit together. The
        // known numbers are left alone, whoever changes the store holds them until it has written.
        self.inner.lock.read(|| {
            let mut txn = Txn::new(&*self.inner.kv, names, None)?;
            let Some(ref_doc) = txn.take_ref_doc(id)? else { return Ok(None) };
            let node_ids = txn.node_ids(id, &ref_doc)?;
            Ok(Some(RefDocInfo { node_ids, metadata: ref_doc.metadata }))
        })
    }

    /// The nodes of every ref doc.
    ///
    /// # Errors
    ///
    /// As [`DocumentStore::get_ref_doc_info`].
    pub fn get_all_ref_doc_info(&self) -> Result<BTreeMap<Text, RefDocInfo>, StoreError> {
        let mut records = Vec::new();
        self.scan(&self.inner.names.ref_docs, &mut |id, value| {
            records.push((id, value));
            Ok(())
        })?;
        let mut all = BTreeMap::new();
        for (id, value) in records {
            if let Some(info) = self.ref_doc_info(&id, Some(&value))? {
                all.insert(id, info);
            }
        }
        Ok(all)
    }

    /// True if the ref doc has nodes.
    ///
    /// # Errors
    ///
    /// As [`DocumentStore::get_ref_doc_info`].
    pub fn ref_doc_exists(&self, id: impl Into<Text>) -> Result<bool, StoreError> {
        let id = id.into();
        let value = self.inner.kv.get(&self.inner.names.ref_docs, id.as_bytes())?;
        Ok(value.and_then(|value| Some(!value.as_map()?.is_empty())).unwrap_or(false))
    }

    /// The hash of a document, which may be stored without a body.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn get_document_hash(&self, id: impl Into<Text>) -> Result<Option<Text>, StoreError> {
        let value = self.inner.kv.get(&self.inner.names.metadata, id.into().as_bytes())?;
        Ok(value.and_then(|value| value.get("doc_hash")?.as_text().cloned()))
    }

    /// Calls `visit` with the id and the hash of every document, in no promised order.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; [`StoreError::Kv`] if the store cannot be read.
    pub fn for_each_document_hash(
        &self,
        visit: &mut dyn FnMut(Text, Text) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.scan(&self.inner.names.metadata, &mut |id, value| match value.get("doc_hash") {
            Some(Value::Text(hash)) => visit(id, hash.clone()),
            _ => Ok(()),
        })
    }

    /// Every hash with the id of the document that has it (LlamaIndex's direction); of several
    /// with the same hash the one that was added last. Empty hashes are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn get_all_document_hashes(&self) -> Result<BTreeMap<Text, Text>, StoreError> {
        let mut last: BTreeMap<Text, (Option<u64>, Text)> = BTreeMap::new();
        self.scan(&self.inner.names.metadata, &mut |id, value| {
            if let Some(Value::Text(hash)) = value.get("doc_hash")
                && !hash.is_empty()
            {
                let new = (order(&value), id);
                match last.get_mut(hash) {
                    Some(old) if *old < new => *old = new,
                    Some(_) => {}
                    None => {
                        last.insert(hash.clone(), new);
                    }
                }
            }
            Ok(())
        })?;
        Ok(last.into_iter().map(|(hash, (_, id))| (hash, id)).collect())
    }

    /// The ids of all documents that have a hash, stored with a body or without.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn get_all_document_ids(&self) -> Result<BTreeSet<Text>, StoreError> {
        let mut ids = BTreeSet::new();
        self.scan(&self.inner.names.metadata, &mut |id, _| {
            ids.insert(id);
            Ok(())
        })?;
        Ok(ids)
    }

    /// Calls `visit` with every record of a collection, its key as text.
    pub(super) fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(Text, Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // The key-value store passes its own errors only; ours waits here.
        let mut failed = None;
        let scanned = self.inner.kv.scan(collection, &mut |key, value| {
            let visited = match Text::from_bytes(key) {
                Ok(id) => visit(id, value),
                Err(_) => Err(StoreError::Corrupt {
                    collection: collection.to_owned(),
                    key: Text::from_code_points(key.iter().map(|byte| u32::from(*byte))),
                    what: "has a key that is no text",
                }),
            };
            visited.map_err(|e| {
                failed = Some(e);
                KvError::InvalidArgument("the visitor stopped the scan".into())
            })
        });
        match failed {
            Some(e) => Err(e),
            None => Ok(scanned?),
        }
    }
}

/// A node's place in the order of insertion; records of other origin come first.
pub(super) fn order(metadata: &Value) -> Option<u64> {
    metadata.as_map().and_then(|map: &Map| number(map, "#order"))
}

fn read_node(id: &Text, value: &Value) -> Result<Node, StoreError> {
    let node = Node::from_stored(value, Some(id));
    node.map_err(|source| StoreError::Node { id: id.clone(), source })
}
