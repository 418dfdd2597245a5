//! Record by record in and out of the files that LlamaIndex's `SimpleDocumentStore` persists:
//! memory follows the largest record.

use std::collections::BTreeMap;

use super::dict::without_own_fields;
use super::members::Found;
use super::read::order;
use super::txn::Txn;
use super::{DocumentStore, Inner, RefDocInfo};
use crate::engine::Durability;
use crate::kv::{KvBatch, Map, Text, Value};
use crate::stores::StoreError;

impl RefDocInfo {
    /// Reads a record as LlamaIndex stores it, new form or old. `None` if it is no such thing;
    /// an empty one is `Some(None)`, as LlamaIndex takes it.
    pub(crate) fn from_record(record: &Value) -> Option<Option<RefDocInfo>> {
        match Found::read(Some(record))? {
            Found::Nothing => Some(None),
            Found::Plain(info) => Some(Some(info)),
            Found::Ours(ref_doc) => {
                let info = RefDocInfo { node_ids: ref_doc.ids, metadata: ref_doc.metadata };
                // The other fields are ours, and no file of LlamaIndex has them.
                Some(Some(info))
            }
        }
    }
}

impl DocumentStore {
    /// Removes everything from the store.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        self.change(|numbers| {
            let mut batch = KvBatch::new();
            for name in [&names.data, &names.metadata, &names.ref_docs, &names.chunks] {
                batch.clear(name)?;
            }
            self.write(|| kv.write(batch, Durability::Buffered))?;
            *numbers = None;
            Ok(())
        })
    }

    /// As [`DocumentStore::clear`], except for records among those of the nodes that `is_kept` is
    /// true for: they are another store's.
    pub(crate) fn clear_but(&self, is_kept: &dyn Fn(&Value) -> bool) -> Result<(), StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        self.change(|numbers| {
            let mut batch = KvBatch::new();
            for name in [&names.metadata, &names.ref_docs, &names.chunks] {
                batch.clear(name)?;
            }
            kv.scan(&names.data, &mut |key, record| match is_kept(&record) {
                true => Ok(()),
                false => batch.delete(&names.data, key),
            })?;
            self.write(|| kv.write(batch, Durability::Buffered))?;
            *numbers = None;
            Ok(())
        })
    }

    /// True if there is anything but nodes' records.
    pub(crate) fn holds_more_than_bodies(&self) -> Result<bool, StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        Ok(kv.len(&names.metadata)? > 0 || kv.len(&names.ref_docs)? > 0)
    }

    /// True if the store holds nothing at all.
    pub(crate) fn holds_nothing(&self) -> Result<bool, StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        for name in [&names.data, &names.metadata, &names.ref_docs] {
            if kv.len(name)? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stores a node's record as it is, without looking at it.
    pub(crate) fn import_body(&self, id: &Text, record: &Value) -> Result<(), StoreError> {
        Ok(self.inner.kv.put(&self.inner.names.data, id.as_bytes(), record)?)
    }

    /// Stores the record with a document's hash, after those that are there. Requires: the ref doc
    /// that it names comes later.
    pub(crate) fn import_metadata(&self, id: &Text, record: &Map) -> Result<(), StoreError> {
        self.import(|txn| {
            let known = txn.metadata(id)?.and_then(|known| known.get("#order").cloned());
            let mut record = own_fields_removed(record);
            record.set("#order", known.unwrap_or_else(|| txn.number().into()));
            txn.set_metadata(id, Some(record));
            Ok(())
        })
    }

    /// Stores a ref doc and its list. Requires: the records with the hashes of its nodes are
    /// there, as far as they will be.
    pub(crate) fn import_ref_doc(&self, id: &Text, info: RefDocInfo) -> Result<(), StoreError> {
        self.import(|txn| {
            if let Some(old) = txn.take_ref_doc(id)? {
                txn.remove_ref_doc(id, old)?;
            }
            let mut ref_doc = txn.new_ref_doc();
            ref_doc.metadata = info.metadata;
            let mut chunks = BTreeMap::new();
            for node in info.node_ids {
                let chunk = txn.push_member(&mut ref_doc, &node);
                chunks.entry(node).or_insert(chunk);
            }
            txn.prefetch(chunks.keys())?;
            for (node, chunk) in chunks {
                let is_linked =
                    |map: &&Map| map.get("ref_doc_id").and_then(Value::as_text) == Some(id);
                match txn.metadata(&node)?.filter(is_linked).cloned() {
                    Some(mut metadata) => {
                        metadata.set("#chunk", chunk);
                        txn.set_metadata(&node, Some(metadata));
                    }
                    None => ref_doc.stale += 1,
                }
            }
            txn.put_ref_doc(id, ref_doc);
            Ok(())
        })
    }

    /// Makes a change to the bookkeeping.
    fn import(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        self.change(|numbers| {
            let mut txn = Txn::new(&**kv, names, *numbers)?;
            change(&mut txn)?;
            let mut batch = KvBatch::new();
            let used = txn.finish(&mut batch)?;
            self.write(|| kv.write(batch, Durability::Buffered))?;
            *numbers = Some(used);
            Ok(())
        })
    }

    /// Calls `visit` with every node's record as it is stored.
    pub(crate) fn export_bodies(
        &self,
        visit: &mut dyn FnMut(Text, Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.scan(&self.inner.names.data, visit)
    }

    /// Calls `visit` with every record of a hash, as LlamaIndex has it, in the order of a Python
    /// dictionary. Holds all ids.
    pub(crate) fn export_metadata(
        &self,
        visit: &mut dyn FnMut(Text, Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        let mut ids = Vec::new();
        self.scan(&names.metadata, &mut |id, record| {
            ids.push((order(&record), id));
            Ok(())
        })?;
        ids.sort();
        for (_, id) in ids {
            if let Some(record) = kv.get(&names.metadata, id.as_bytes())? {
                visit(id, without_own_fields(record))?;
            }
        }
        Ok(())
    }

    /// Calls `visit` with every ref doc's record, as LlamaIndex has it. Holds all ids.
    pub(crate) fn export_ref_docs(
        &self,
        visit: &mut dyn FnMut(Text, Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut ids = Vec::new();
        self.scan(&self.inner.names.ref_docs, &mut |id, _| {
            ids.push(id);
            Ok(())
        })?;
        for id in ids {
            if let Some(info) = self.get_ref_doc_info(id.clone())? {
                visit(id, info.to_value())?;
            }
        }
        Ok(())
    }
}

fn own_fields_removed(record: &Map) -> Map {
    let theirs = record.iter().filter(|(field, _)| !field.as_bytes().starts_with(b"#"));
    theirs.map(|(field, value)| (field.clone(), value.clone())).collect()
}
