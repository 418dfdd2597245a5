//! [`Contents`]: what a store holds, as the collections and their records tell.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{QUEUES, Records, is_internal};
use super::load::is_struct;
use super::report::Ignored;
use super::space::Space;
use crate::kv::{KvError, KvStore, Map, Text, Value};
use crate::stores::MEMBERS;

/// The collection of an ingestion cache that was given no other.
const CACHE: &str = "llama_cache";
/// What the name of the collection with the long lists of ref docs ends with.
pub(super) const LISTS: &str = ".nodes";

/// What a store holds, by the collections that are there.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Document stores, index stores, and collections of no store.
    pub(super) key_value: BTreeSet<Space>,
    /// Collections with ref docs of document stores whose collections have names of their own.
    pub(super) ref_docs: BTreeSet<String>,
    /// Collections of index stores that have names of their own.
    pub(super) structs: BTreeSet<String>,
    /// Collections of no store that hold index structs.
    pub(super) struct_collections: BTreeSet<String>,
    /// Namespaces of document stores among whose nodes index structs were found.
    pub(super) more_structs: RefCell<BTreeSet<String>>,
    /// Collections of ingestion caches.
    pub(super) caches: BTreeSet<String>,
    pub(super) left_out: Vec<Ignored>,
    /// How many records there are, about.
    pub(super) records: u64,
}

impl Contents {
    pub(super) fn of(kv: &dyn KvStore) -> Result<Contents, KvError> {
        let filled: BTreeMap<String, u64> =
            kv.collections()?.into_iter().filter(|(_, len)| *len > 0).collect();
        let mut contents = Contents::default();
        for (name, len) in &filled {
            contents.records += len;
            match Records::of(&name.as_str().into()) {
                Records::Data(namespace) => contents.add_data(kv, namespace)?,
                Records::Metadata(namespace) | Records::RefDocs(namespace) => {
                    contents.key_value.insert(Space::Documents(namespace));
                }
                Records::Other => contents.add_other(kv, name, &filled)?,
            }
        }
        Ok(contents)
    }

    /// Nodes, index structs, or both: the records tell. One kind is found when it is written.
    fn add_data(&mut self, kv: &dyn KvStore, namespace: String) -> Result<(), KvError> {
        let name = format!("{namespace}/data");
        let begins_with_structs = first_that(kv, &name, |_, record| Some(is_struct(record)))?;
        if begins_with_structs == Some(true) {
            self.key_value.insert(Space::Structs(namespace.clone()));
            if !any(kv, &name, |_, record| !is_struct(record))? {
                return Ok(());
            }
        }
        self.key_value.insert(Space::Documents(namespace));
        Ok(())
    }

    fn add_other(
        &mut self,
        kv: &dyn KvStore,
        name: &str,
        filled: &BTreeMap<String, u64>,
    ) -> Result<(), KvError> {
        let mut leave_out = |why: &str| {
            self.left_out.push(Ignored { name: name.to_owned(), why: why.to_owned() });
        };
        if name.starts_with(QUEUES) {
            leave_out(QUEUES_WHY);
        } else if is_internal(name) {
            // The files of its store have it.
        } else if let Some(why) = of_another_store(kv, name)? {
            leave_out(why);
        } else if holds_ref_docs(kv, name)? {
            self.ref_docs.insert(name.to_owned());
            self.key_value.insert(Space::Collection(name.to_owned()));
        } else if let Some(base) =
            name.strip_suffix(LISTS).filter(|base| filled.contains_key(*base))
            && holds_ref_docs(kv, base)?
        {
            // Its ref docs are written with these lists in them.
        } else if holds_our_structs(kv, name)? {
            self.structs.insert(name.to_owned());
        } else if let Some(base) =
            name.strip_suffix(MEMBERS).filter(|base| filled.contains_key(*base))
            && holds_our_structs(kv, base)?
        {
            // The structs are written with these members in them.
        } else if any(kv, name, |key, _| Text::from_bytes(key).is_err())? {
            leave_out("a key of it is no text, as JSON needs it");
        } else if holds_cache(kv, name)? {
            self.caches.insert(name.to_owned());
        } else if !any(kv, name, |_, record| !is_plain_struct(record))? {
            self.struct_collections.insert(name.to_owned());
        } else {
            self.key_value.insert(Space::Collection(name.to_owned()));
        }
        Ok(())
    }
}

/// True for an index struct as LlamaIndex keeps it.
fn is_plain_struct(record: &Value) -> bool {
    is_struct(record) && record.get("__data__").is_some()
}

/// True if a record of the collection is an index struct as our index store keeps it.
pub(super) fn holds_our_structs(kv: &dyn KvStore, name: &str) -> Result<bool, KvError> {
    any(kv, name, |_, record| {
        let is_number = record.get("#order").is_some_and(|order| order.as_int().is_some());
        is_number && is_struct(record) && record.get("#summary").is_some()
    })
}

/// True if the collection is that of an ingestion cache, which LlamaIndex keeps in a file of its
/// own: every record is the list of nodes that a transformation made.
fn holds_cache(kv: &dyn KvStore, name: &str) -> Result<bool, KvError> {
    let is_entry = |record: &Value| {
        let map = record.as_map().filter(|map| map.len() == 1);
        map.and_then(|map| map.get("nodes")).is_some_and(|nodes| nodes.as_list().is_some())
    };
    Ok(name == CACHE || !any(kv, name, |_, record| !is_entry(record))?)
}

/// True if a record of the collection is a ref doc as our document store keeps it.
pub(super) fn holds_ref_docs(kv: &dyn KvStore, name: &str) -> Result<bool, KvError> {
    any(kv, name, |_, record| {
        let is_number = |field| record.get(field).is_some_and(|value| value.as_int().is_some());
        is_number("#tail") && record.get("node_ids").is_some()
    })
}

/// The record of a hash without what only our document store has in it, if it is one.
pub(super) fn hash_record(record: &Value) -> Option<Value> {
    let map = record.as_map().filter(|map| map.contains_key("#order"))?;
    let is_theirs = |field: &Text| !field.as_bytes().starts_with(b"#");
    if !["doc_hash", "ref_doc_id"].iter().any(|field| map.get(*field).is_some()) {
        return None;
    }
    let theirs = map.iter().filter(|(field, _)| is_theirs(field));
    Some(theirs.map(|(field, value)| (field.clone(), value.clone())).collect::<Map>().into())
}

const QUEUES_WHY: &str = "LlamaIndex keeps queues of messages in a database";
const CHATS_WHY: &str = "LlamaIndex has one file of chats: that of the default namespace";
const GRAPH_WHY: &str = "LlamaIndex has one graph store: that of the default namespace";
const PROPERTY_GRAPH_WHY: &str =
    "LlamaIndex has one property graph store: that of the default namespace";

/// Why the collection is left out, if it belongs to a store in another namespace than the default
/// one, of a kind that LlamaIndex has no namespaces for.
fn of_another_store(kv: &dyn KvStore, name: &str) -> Result<Option<&'static str>, KvError> {
    let Some((namespace, suffix)) = name.rsplit_once('/') else { return Ok(None) };
    let first = |suffix: &str| kv.get(&format!("{namespace}/{suffix}"), b"");
    let is_directory = |record: &Option<Value>| {
        let record = record.as_ref();
        record.is_some_and(|record| record.get("#next").is_some() && record.get("#ids").is_some())
    };
    if matches!(suffix, "chats" | "messages") && is_directory(&first("messages")?) {
        return Ok(Some(CHATS_WHY));
    }
    if matches!(suffix, "queues" | "rows") && is_directory(&first("rows")?) {
        return Ok(Some(QUEUES_WHY));
    }
    let of_property_graph =
        ["ids", "nodes", "embeddings", "pairs", "relations", "lists", "schema", "numbers"];
    if of_property_graph.contains(&suffix) {
        let numbers = first("numbers")?;
        if numbers.as_ref().and_then(Value::as_list).is_some_and(|both| both.len() == 2) {
            return Ok(Some(PROPERTY_GRAPH_WHY));
        }
    }
    if matches!(suffix, "subjects" | "lists" | "order" | "edges") {
        let subjects = format!("{namespace}/subjects");
        let is_subject =
            |record: &Value| record.get("#order").is_some() && record.get("edges").is_some();
        let is_there = kv.len(&subjects)? > 0;
        if is_there
            && first_that(kv, &subjects, |_, record| Some(is_subject(record)))? == Some(true)
        {
            return Ok(Some(GRAPH_WHY));
        }
    }
    Ok(None)
}

/// True if `test` is true for any record of the collection.
pub(super) fn any(
    kv: &dyn KvStore,
    name: &str,
    mut test: impl FnMut(&[u8], &Value) -> bool,
) -> Result<bool, KvError> {
    let found = first_that(kv, name, |key, record| test(key, record).then_some(()))?;
    Ok(found.is_some())
}

/// What `test` says of the first record of which it says anything.
fn first_that<T>(
    kv: &dyn KvStore,
    name: &str,
    mut test: impl FnMut(&[u8], &Value) -> Option<T>,
) -> Result<Option<T>, KvError> {
    let mut found = None;
    let scanned = kv.scan(name, &mut |key, record| {
        found = test(key, &record);
        match found {
            Some(_) => Err(KvError::InvalidArgument("one record is enough".into())),
            None => Ok(()),
        }
    });
    if found.is_some() { Ok(found) } else { scanned.map(|()| None) }
}
