//! The files of `SimpleKVStore`: `{collection: {key: record}}`. Document stores of any number of
//! namespaces, index stores, ingestion caches; collections of no store are kept as they are.

use super::contents::{Contents, hash_record};
use super::error::Stop;
use super::export::{Failed, Out};
use super::kinds::{Records, is_internal};
use super::load::{Json, Load, is_struct, of, shown};
use super::space::{Space, documents, structs};
use crate::kv::{KvError, Map, Text, Value};
use crate::model::{Node, NodeKind};
use crate::stores::{
    DocumentStore, DocumentStoreOptions, IndexStore, IndexStoreOptions, IndexStruct, RefDocInfo,
    StructKind,
};

/// The namespace of an index store that was given none.
const INDEX_NAMESPACE: &str = "index_store";
/// The namespace of a document store that was given none.
const DOCUMENT_NAMESPACE: &str = "docstore";
const NO_STRUCT: &str = "is no index struct";

/// What a file may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Anything.
    Anything,
    /// Index structs: the file of an index store.
    Structs,
}

/// Walks through the file.
///
/// Ref docs wait for the hashes of their nodes, which say where in the list they stand: they are
/// taken in a second walk if they come first.
pub(super) fn walk(json: &mut Json<'_>, load: &mut Load<'_>, holds: Holds) -> Result<(), Stop> {
    if !load.enter(json, "the file")? {
        return Ok(());
    }
    let mut ref_docs_seen = false;
    while let Some(name) = json.key()? {
        let Some(collection) = load.collection(json, &name)? else { continue };
        if is_internal(&collection) && Records::of(&name) == Records::Other {
            json.skip()?;
            load.bad(json, || format!("collection {} is one of Siltstone's own", shown(&name)))?;
            continue;
        }
        if !load.is_last(json, &name)
            || !load.enter(json, &format!("collection {}", shown(&name)))?
        {
            continue;
        }
        match Records::of(&name) {
            Records::Data(namespace) => data(json, load, &collection, &namespace, holds)?,
            Records::Metadata(_) | Records::RefDocs(_) if holds == Holds::Structs => {
                while let Some(key) = json.key()? {
                    json.skip()?;
                    load.bad(json, || of(&collection, &key, NO_STRUCT))?;
                }
            }
            Records::Metadata(namespace) => {
                load.learned.needs_second |= ref_docs_seen;
                metadata(json, load, &collection, &namespace)?;
            }
            Records::RefDocs(namespace) => {
                ref_docs_seen = true;
                ref_docs(json, load, &collection, &namespace)?;
            }
            Records::Other => {
                load.claim(json, Space::Collection(collection.clone()))?;
                while let Some(key) = json.key()? {
                    let record = json.value()?;
                    if holds == Holds::Structs && !is_struct(&record) {
                        load.bad(json, || of(&collection, &key, NO_STRUCT))?;
                        continue;
                    }
                    if holds == Holds::Structs
                        && is_faulty(json, load, &collection, &key, &record, false)?
                    {
                        continue;
                    }
                    other(json, load, &collection, &key, &record)?;
                }
            }
        }
    }
    Ok(())
}

/// Nodes, or index structs: the records tell.
fn data(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    namespace: &str,
    holds: Holds,
) -> Result<(), Stop> {
    let store = load.kv().map(|kv| documents(&kv, namespace));
    let space = |of_structs| match of_structs {
        true => Space::Structs(namespace.to_owned()),
        false => Space::Documents(namespace.to_owned()),
    };
    // A collection holds the ones or the others: they are kept differently.
    let mut kind = (namespace == INDEX_NAMESPACE || holds == Holds::Structs).then_some(true);
    if kind == Some(true) && !load.claim(json, space(true))? {
        return pass_rest(json);
    }
    while let Some(id) = json.key()? {
        let record = json.value()?;
        if record.as_map().is_none() {
            load.bad(json, || of(collection, &id, "is no dictionary"))?;
            continue;
        }
        let found = is_struct(&record);
        if kind != Some(true) && !is_node(&record) && !is_known_struct(&record) {
            load.bad(json, || of(collection, &id, "has no type that LlamaIndex knows"))?;
            continue;
        }
        if kind.is_none() && !load.claim(json, space(found))? {
            return pass_rest(json);
        }
        if *kind.get_or_insert(found) != found {
            let what = if found { "is an index struct among nodes" } else { NO_STRUCT };
            load.bad(json, || of(collection, &id, what))?;
            continue;
        }
        if found {
            index_struct(json, load, collection, namespace, &id, &record)?;
            continue;
        }
        if !load.is_first() || !load.fits(json, &id)? {
            load.read_upto(json)?;
            continue;
        }
        if load.is_to_check()
            && let Err(e) = Node::from_stored(&record, Some(&id))
        {
            load.bad(json, || of(collection, &id, &format!("is no node: {e}")))?;
            continue;
        }
        if let Some(store) = &store {
            store.import_body(&id, &record)?;
        }
        load.taken(json)?;
    }
    if kind.is_none() {
        load.claim(json, space(false))?;
    }
    Ok(())
}

/// Passes over what is left of a collection that cannot be stored.
fn pass_rest(json: &mut Json<'_>) -> Result<(), Stop> {
    while json.key()?.is_some() {}
    Ok(())
}

/// True for a record that names a class of nodes.
fn is_node(record: &Value) -> bool {
    let code = record.get("__type__").and_then(Value::as_text);
    code.and_then(NodeKind::from_code).is_some()
}

/// True for a record that names a class of index structs.
fn is_known_struct(record: &Value) -> bool {
    let name = record.get("__type__").and_then(Value::as_text).and_then(Text::as_str);
    name.and_then(StructKind::from_name).is_some()
}

fn metadata(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    namespace: &str,
) -> Result<(), Stop> {
    let store = load.kv().map(|kv| documents(&kv, namespace));
    if !load.claim(json, Space::Documents(namespace.to_owned()))? {
        return pass_rest(json);
    }
    let is_now = load.is_first();
    each(json, load, is_now, |json, load, id, record| {
        let Value::Map(record) = record else {
            load.bad(json, || of(collection, id, "is no dictionary"))?;
            return Ok(false);
        };
        for field in record.keys().filter(|field| is_own(field)) {
            load.leave_out(json, || of(collection, id, &format!("has a field {}", shown(field))));
        }
        if let Some(store) = &store {
            store.import_metadata(id, &record)?;
        }
        Ok(true)
    })
}

fn ref_docs(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    namespace: &str,
) -> Result<(), Stop> {
    let store = load.kv().map(|kv| documents(&kv, namespace));
    if !load.claim(json, Space::Documents(namespace.to_owned()))? {
        return pass_rest(json);
    }
    let is_now = load.is_for_waiting();
    each(json, load, is_now, |json, load, id, record| {
        let Some(info) = RefDocInfo::from_record(&record) else {
            load.bad(json, || of(collection, id, "is no ref doc record"))?;
            return Ok(false);
        };
        let Some(info) = info else {
            load.leave_out(json, || of(collection, id, "is empty, which stands for nothing"));
            return Ok(false);
        };
        let fields = record.as_map().into_iter().flat_map(Map::keys);
        for field in fields.filter(|field| !is_of_ref_docs(field)) {
            load.leave_out(json, || of(collection, id, &format!("has a field {}", shown(field))));
        }
        if let Some(store) = &store {
            store.import_ref_doc(id, info)?;
        }
        Ok(true)
    })
}

/// Calls `take` with each record of a collection that can be stored, if it is the walk for it;
/// `take` says whether it took the record.
fn each(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    is_now: bool,
    mut take: impl FnMut(&Json<'_>, &mut Load<'_>, &Text, Value) -> Result<bool, Stop>,
) -> Result<(), Stop> {
    while let Some(id) = json.key()? {
        let record = json.value()?;
        if !is_now || !load.fits(json, &id)? {
            load.read_upto(json)?;
        } else if take(json, load, &id, record)? {
            load.taken(json)?;
        }
    }
    Ok(())
}

/// True for fields that only stores of this crate set.
fn is_own(field: &Text) -> bool {
    field.as_bytes().starts_with(b"#")
}

fn is_of_ref_docs(field: &Text) -> bool {
    let known = ["node_ids", "metadata", "doc_ids", "extra_info"];
    field.as_str().is_some_and(|field| known.contains(&field))
}

/// A record of an index store. One of a type without a class is kept as it is, and so is one that
/// LlamaIndex reads in a way of its own.
fn index_struct(
    json: &Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    namespace: &str,
    id: &Text,
    record: &Value,
) -> Result<(), Stop> {
    if !load.is_first() || !load.fits(json, id)? {
        return load.read_upto(json);
    }
    if record.get("__data__").is_none() {
        return load.bad(json, || of(collection, id, "is no record of an index struct"));
    }
    if is_faulty(json, load, collection, id, record, true)? {
        return Ok(());
    }
    if let Some(kv) = load.kv() {
        structs(&kv, namespace).put_record(id, record)?;
    }
    load.taken(json)
}

/// True for an index struct that LlamaIndex cannot read: it would read none of that file. Also for
/// one that an index store cannot keep, if it is to keep it `in_parts`.
fn is_faulty(
    json: &Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    id: &Text,
    record: &Value,
    in_parts: bool,
) -> Result<bool, Stop> {
    let fault = if load.is_to_check() { IndexStruct::fault(record, in_parts) } else { None };
    match &fault {
        Some(what) => load.bad(json, || of(collection, id, what)).map(|()| true),
        None => Ok(false),
    }
}

/// A record of no store.
fn other(
    json: &Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    key: &Text,
    record: &Value,
) -> Result<(), Stop> {
    if !load.is_first() || !load.fits(json, key)? {
        return load.read_upto(json);
    }
    if let Some(kv) = load.kv() {
        kv.put(collection, key.as_bytes(), record)?;
    }
    load.taken(json)
}

/// Writes the document stores and the collections of no store.
pub(super) fn write(out: &mut Out<'_>, contents: &Contents) -> Result<(), Failed> {
    out.open_map()?;
    for space in &contents.key_value {
        match space {
            Space::Documents(namespace) => {
                let store = documents(out.kv, namespace);
                if store.holds_nothing()? {
                    continue;
                }
                write_store(out, namespace, &store, || {
                    contents.more_structs.borrow_mut().insert(namespace.clone());
                })?;
            }
            Space::Collection(name) if contents.ref_docs.contains(name) => {
                let store = with_ref_docs_in(out, name)?;
                out.records(name, |visit| store.export_ref_docs(visit))?;
            }
            Space::Collection(name) => write_collection(out, name)?,
            _ => {}
        }
    }
    out.close()
}

/// Writes the file of one document store, under the names that LlamaIndex gives to it if it is told
/// no others: there it looks for what it loads.
pub(super) fn write_documents(out: &mut Out<'_>, store: &DocumentStore) -> Result<(), Failed> {
    out.open_map()?;
    if !store.holds_nothing()? {
        write_store(out, DOCUMENT_NAMESPACE, store, || {})?;
    }
    out.close()
}

/// Writes the collections of a document store. `on_struct` is told of each index struct among the
/// nodes, which is left out.
fn write_store(
    out: &mut Out<'_>,
    namespace: &str,
    store: &DocumentStore,
    mut on_struct: impl FnMut(),
) -> Result<(), Failed> {
    // The hashes come first, so that an import needs one walk only.
    let name = |suffix| format!("{namespace}/{suffix}");
    out.records(&name("metadata"), |visit| store.export_metadata(visit))?;
    out.records(&name("data"), |visit| {
        store.export_bodies(&mut |id, record| {
            if is_struct(&record) {
                on_struct();
                return Ok(());
            }
            visit(id, record)
        })
    })?;
    out.records(&name("ref_doc_info"), |visit| store.export_ref_docs(visit))
}

/// A document store whose ref docs are in the collection `name`.
fn with_ref_docs_in(out: &Out<'_>, name: &str) -> Result<DocumentStore, Failed> {
    let mut options = DocumentStoreOptions::default();
    (options.namespace, options.ref_doc_collection_suffix) = split(name);
    Ok(DocumentStore::with_options(out.kv.clone(), &options)?)
}

/// Some namespace and suffix that make up the name of a collection.
fn split(name: &str) -> (String, String) {
    let first = name.chars().next().map_or(0, char::len_utf8);
    let (namespace, suffix) = name.split_at(first);
    (namespace.to_owned(), suffix.to_owned())
}

/// Writes the index stores. Requires: the document stores were written.
pub(super) fn write_structs(out: &mut Out<'_>, contents: &Contents) -> Result<(), Failed> {
    let of_structs = |space: &Space| match space {
        Space::Structs(namespace) => Some(namespace.clone()),
        _ => None,
    };
    let mut namespaces = contents.more_structs.take();
    namespaces.extend(contents.key_value.iter().filter_map(of_structs));
    out.open_map()?;
    for namespace in namespaces {
        let (kv, name) = (out.kv.clone(), format!("{namespace}/data"));
        let is_shared = contents.key_value.contains(&Space::Documents(namespace.clone()));
        let store = structs(&kv, &namespace);
        out.records(&name, |visit| {
            for id in store.index_ids()? {
                let is_node = is_shared
                    && !kv.get(&name, id.as_bytes())?.is_some_and(|record| is_struct(&record));
                if is_node {
                    continue;
                }
                if let Some(record) = store.get_record(&id)? {
                    visit(id, record)?;
                }
            }
            Ok(())
        })?;
    }
    for name in &contents.structs {
        let (namespace, collection_suffix) = split(name);
        let mut options = IndexStoreOptions::default();
        (options.namespace, options.collection_suffix) = (namespace, collection_suffix);
        write_structs_in(out, name, &IndexStore::with_options(out.kv.clone(), &options))?;
    }
    for name in &contents.struct_collections {
        write_collection(out, name)?;
    }
    out.close()
}

/// Writes the file of one index store, under the names that LlamaIndex looks for.
pub(super) fn write_structs_of(out: &mut Out<'_>, store: &IndexStore) -> Result<(), Failed> {
    out.open_map()?;
    if !store.index_ids()?.is_empty() {
        write_structs_in(out, &format!("{INDEX_NAMESPACE}/data"), store)?;
    }
    out.close()
}

/// Writes the structs of an index store under the name of a collection.
fn write_structs_in(out: &mut Out<'_>, name: &str, store: &IndexStore) -> Result<(), Failed> {
    out.records(name, |visit| {
        for id in store.index_ids()? {
            // Nodes may be in the same collection.
            if let Some(record) = store.get_record(&id)?.filter(is_struct) {
                visit(id, record)?;
            }
        }
        Ok(())
    })
}

/// Writes the ingestion caches.
pub(super) fn write_caches(out: &mut Out<'_>, contents: &Contents) -> Result<(), Failed> {
    out.open_map()?;
    for name in &contents.caches {
        write_collection(out, name)?;
    }
    out.close()
}

/// Writes one collection as it is, but for what only stores of this crate add to hashes.
fn write_collection(out: &mut Out<'_>, name: &str) -> Result<(), Failed> {
    let kv = out.kv.clone();
    out.records(name, |visit| {
        let mut failed = None;
        let scanned = kv.scan(name, &mut |key, value| {
            let key = Text::from_bytes(key).map_err(|_| {
                KvError::InvalidArgument(format!("{name}: a key is no text, as JSON needs it"))
            })?;
            visit(key, hash_record(&value).unwrap_or(value)).map_err(|e| {
                failed = Some(e);
                KvError::InvalidArgument("the visitor stopped the scan".into())
            })
        });
        match failed {
            Some(e) => Err(e),
            None => Ok(scanned?),
        }
    })
}
