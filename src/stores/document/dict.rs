//! In and out of the dictionary that LlamaIndex's `SimpleDocumentStore` persists.

use std::collections::HashMap;

use super::members::Found;
use super::read::order;
use super::txn::Txn;
use super::{DocumentStore, Inner, Names};
use crate::engine::Durability;
use crate::kv::{KvBatch, Map, Text, Value};
use crate::stores::StoreError;

impl DocumentStore {
    /// All of the store as LlamaIndex has it: `{collection: {key: record}}`, with whole lists in
    /// the ref docs and without the fields of our own. Empty collections are left out. Documents
    /// are in the order in which a Python dictionary would have their hashes.
    ///
    /// Holds everything in memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if bookkeeping is damaged.
    pub fn to_dict(&self) -> Result<Value, StoreError> {
        let Names { data, metadata, ref_docs, .. } = &self.inner.names;
        let mut dict = Map::new();
        let mut records = Vec::new();
        self.scan(data, &mut |id, value| {
            records.push((id, value));
            Ok(())
        })?;
        add(&mut dict, data, std::mem::take(&mut records).into_iter().collect());
        self.scan(metadata, &mut |id, value| {
            records.push((id, value));
            Ok(())
        })?;
        records.sort_by_cached_key(|(_, value)| order(value));
        let plain = |(id, value): (Text, Value)| (id, without_own_fields(value));
        add(&mut dict, metadata, records.into_iter().map(plain).collect());
        let infos = self.get_all_ref_doc_info()?.into_iter();
        add(&mut dict, ref_docs, infos.map(|(id, info)| (id, info.to_value())).collect());
        Ok(dict.into())
    }

    /// Replaces everything in the store by what LlamaIndex persisted, in one atomic batch. Other
    /// collections of the dictionary, such as those of other namespaces, are left alone. Nodes and
    /// ref docs may be in the old forms; what is no node shows when it is read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if the dictionary is no such thing: nothing was changed.
    pub fn load_dict(&self, dict: &Value) -> Result<(), StoreError> {
        let Inner { kv, names, .. } = &*self.inner;
        let empty = Map::new();
        let collection = |name: &str| match dict.get(name) {
            None => Ok(&empty),
            Some(Value::Map(map)) => Ok(map),
            Some(_) => Err(bad(name, None, "is no dictionary")),
        };
        if dict.as_map().is_none() {
            return Err(StoreError::Dict { pointer: "/".into(), what: "is no dictionary" });
        }
        let mut batch = KvBatch::new();
        for name in [&names.data, &names.metadata, &names.ref_docs, &names.chunks] {
            batch.clear(name)?;
        }
        for (id, node) in collection(&names.data)?.iter() {
            batch.put(&names.data, id.as_bytes(), node)?;
        }
        self.change(|numbers| {
            let mut txn = Txn::new(&**kv, names, *numbers)?;
            let mut members = list_members(&mut txn, names, collection(&names.ref_docs)?)?;
            for (id, record) in collection(&names.metadata)?.iter() {
                let Value::Map(record) = record else {
                    return Err(bad(&names.metadata, Some(id), "is no dictionary"));
                };
                let mut record = record.clone();
                if let Some(Value::Text(ref_doc_id)) = record.get("ref_doc_id") {
                    let chunk = members.remove(&(ref_doc_id.clone(), id.clone()));
                    if let Some(chunk) = chunk {
                        record.set("#chunk", chunk);
                    }
                }
                record.set("#order", txn.number());
                txn.set_metadata(id, Some(record));
            }
            for ((ref_doc_id, _), _) in members {
                if let Some(mut ref_doc) = txn.take_ref_doc(&ref_doc_id)? {
                    ref_doc.stale += 1;
                    ref_doc.changed = true;
                    txn.put_ref_doc(&ref_doc_id, ref_doc);
                }
            }
            txn.renew_counter();
            let used = txn.finish(&mut batch)?;
            self.write(|| kv.write(batch, Durability::Buffered))?;
            *numbers = Some(used);
            Ok(())
        })
    }
}

/// Enters the ref docs; returns the chunk of each node that they list.
fn list_members(
    txn: &mut Txn<'_>,
    names: &Names,
    ref_docs: &Map,
) -> Result<HashMap<(Text, Text), u64>, StoreError> {
    let mut members = HashMap::new();
    for (id, record) in ref_docs.iter() {
        let info = match Found::read(Some(record)) {
            Some(Found::Plain(info)) => info,
            Some(Found::Nothing) => continue,
            _ => return Err(bad(&names.ref_docs, Some(id), "is no ref doc record")),
        };
        let mut ref_doc = txn.new_ref_doc();
        ref_doc.metadata = info.metadata;
        for node in info.node_ids {
            let chunk = txn.push_member(&mut ref_doc, &node);
            members.entry((id.clone(), node)).or_insert(chunk);
        }
        txn.put_ref_doc(id, ref_doc);
    }
    Ok(members)
}

fn bad(collection: &str, key: Option<&Text>, what: &'static str) -> StoreError {
    // A JSON pointer writes `~` as `~0` and `/` as `~1`.
    let escape = |part: &str| part.replace('~', "~0").replace('/', "~1");
    let mut pointer = format!("/{}", escape(collection));
    if let Some(key) = key {
        pointer = format!("{pointer}/{}", escape(&key.to_string_lossy()));
    }
    StoreError::Dict { pointer, what }
}

fn add(dict: &mut Map, collection: &str, records: Map) {
    if !records.is_empty() {
        dict.insert(collection, records);
    }
}

pub(super) fn without_own_fields(record: Value) -> Value {
    match record {
        Value::Map(map) => {
            let theirs = map.into_iter().filter(|(field, _)| !field.as_bytes().starts_with(b"#"));
            theirs.collect::<Map>().into()
        }
        other => other,
    }
}
