//! The files of `SimpleKVStore`: `{collection: {key: record}}`. Document stores of any number of
//! namespaces, index stores, ingestion caches; collections of no store are kept as they are.

use super::error::Stop;
use super::export::{Contents, Failed, Out};
use super::kinds::{Records, is_internal};
use super::load::{Json, Load, is_struct, of, shown};
use super::space::{Space, documents, structs};
use crate::kv::{KvError, KvStore, Map, Text, Value};
use crate::stores::RefDocInfo;

/// The namespace of an index store that was given none.
const INDEX_NAMESPACE: &str = "index_store";
/// The collection of an ingestion cache that was given no other.
const CACHE: &str = "llama_cache";

/// Walks through the file.
///
/// Ref docs wait for the hashes of their nodes, which say where in the list they stand: they are
/// taken in a second walk if they come first.
pub(super) fn walk(json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
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
            Records::Data(namespace) => data(json, load, &collection, &namespace)?,
            Records::Metadata(namespace) => {
                load.learned.needs_second |= ref_docs_seen;
                metadata(json, load, &collection, &namespace)?;
            }
            Records::RefDocs(namespace) => {
                ref_docs_seen = true;
                ref_docs(json, load, &collection, &namespace)?;
            }
            Records::Other => {
                load.claim(Space::Collection(collection.clone()))?;
                while let Some(key) = json.key()? {
                    let record = json.value()?;
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
) -> Result<(), Stop> {
    let store = load.kv().map(|kv| documents(&kv, namespace));
    load.claim(match namespace {
        INDEX_NAMESPACE => Space::Structs(namespace.to_owned()),
        _ => Space::Documents(namespace.to_owned()),
    })?;
    // A collection holds the ones or the others: they are kept differently.
    let mut kind = (namespace == INDEX_NAMESPACE).then_some(true);
    while let Some(id) = json.key()? {
        let record = json.value()?;
        if record.as_map().is_none() {
            load.bad(json, || of(collection, &id, "is no dictionary"))?;
            continue;
        }
        let found = is_struct(&record);
        if *kind.get_or_insert(found) != found {
            let what = if found { "an index struct among nodes" } else { "no index struct" };
            load.bad(json, || of(collection, &id, &format!("is {what}")))?;
            continue;
        }
        if found {
            load.claim(Space::Structs(namespace.to_owned()))?;
            index_struct(json, load, collection, namespace, &id, &record)?;
            continue;
        }
        if !load.is_first() || !load.fits(json, &id)? {
            load.read_upto(json)?;
            continue;
        }
        if let Some(store) = &store {
            store.import_body(&id, &record)?;
        }
        load.taken(json)?;
    }
    Ok(())
}

fn metadata(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    namespace: &str,
) -> Result<(), Stop> {
    let store = load.kv().map(|kv| documents(&kv, namespace));
    load.claim(Space::Documents(namespace.to_owned()))?;
    while let Some(id) = json.key()? {
        let record = json.value()?;
        if !load.is_first() || !load.fits(json, &id)? {
            load.read_upto(json)?;
            continue;
        }
        let Value::Map(record) = record else {
            load.bad(json, || of(collection, &id, "is no dictionary"))?;
            continue;
        };
        for field in record.keys().filter(|field| is_own(field)) {
            load.leave_out(json, || of(collection, &id, &format!("has a field {}", shown(field))));
        }
        if let Some(store) = &store {
            store.import_metadata(&id, &record)?;
        }
        load.taken(json)?;
    }
    Ok(())
}

fn ref_docs(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    collection: &str,
    namespace: &str,
) -> Result<(), Stop> {
    let store = load.kv().map(|kv| documents(&kv, namespace));
    load.claim(Space::Documents(namespace.to_owned()))?;
    while let Some(id) = json.key()? {
        let record = json.value()?;
        if !load.is_for_waiting() || !load.fits(json, &id)? {
            load.read_upto(json)?;
            continue;
        }
        let Some(info) = RefDocInfo::from_record(&record) else {
            load.bad(json, || of(collection, &id, "is no ref doc record"))?;
            continue;
        };
        let Some(info) = info else {
            load.leave_out(json, || of(collection, &id, "is empty, which stands for nothing"));
            continue;
        };
        let fields = record.as_map().into_iter().flat_map(Map::keys);
        for field in fields.filter(|field| !is_of_ref_docs(field)) {
            load.leave_out(json, || of(collection, &id, &format!("has a field {}", shown(field))));
        }
        if let Some(store) = &store {
            store.import_ref_doc(&id, info)?;
        }
        load.taken(json)?;
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

/// A record of an index store. One of a type without a class is kept as it is.
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
    if let Some(kv) = load.kv() {
        structs(&kv, namespace).put_record(id, record)?;
    }
    load.taken(json)
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
                // The hashes come first, so that an import needs one walk only.
                let name = |suffix| format!("{namespace}/{suffix}");
                out.records(&name("metadata"), |visit| store.export_metadata(visit))?;
                out.records(&name("data"), |visit| store.export_bodies(visit))?;
                out.records(&name("ref_doc_info"), |visit| store.export_ref_docs(visit))?;
            }
            Space::Collection(name) => write_collection(out, name)?,
            _ => {}
        }
    }
    out.close()
}

/// Writes the index stores.
pub(super) fn write_structs(out: &mut Out<'_>, contents: &Contents) -> Result<(), Failed> {
    out.open_map()?;
    for space in &contents.key_value {
        if let Space::Structs(namespace) = space {
            let store = structs(out.kv, namespace);
            out.records(&format!("{namespace}/data"), |visit| {
                for id in store.index_ids()? {
                    if let Some(record) = store.get_record(&id)? {
                        visit(id, record)?;
                    }
                }
                Ok(())
            })?;
        }
    }
    out.close()
}

/// True if the collection `{namespace}/data` is that of an index store.
pub(super) fn holds_structs(kv: &dyn KvStore, namespace: &str) -> Result<bool, KvError> {
    if namespace == INDEX_NAMESPACE {
        return Ok(true);
    }
    first_that(kv, &format!("{namespace}/data"), |_, record| Some(is_struct(record)))
        .map(|found| found.unwrap_or(false))
}

/// True if the collection is that of an ingestion cache, which LlamaIndex keeps in a file of its
/// own: every record is the list of nodes that a transformation made.
pub(super) fn holds_cache(kv: &dyn KvStore, name: &str) -> Result<bool, KvError> {
    if name == CACHE {
        return Ok(true);
    }
    let is_entry = |record: &Value| {
        let map = record.as_map().filter(|map| map.len() == 1);
        map.and_then(|map| map.get("nodes")).is_some_and(|nodes| nodes.as_list().is_some())
    };
    let other = first_that(kv, name, |_, record| (!is_entry(record)).then_some(()))?;
    Ok(other.is_none())
}

/// True if a key of the collection is no text, so that no file of JSON can hold it.
pub(super) fn has_key_of_no_text(kv: &dyn KvStore, name: &str) -> Result<bool, KvError> {
    let found = first_that(kv, name, |key, _| Text::from_bytes(key).is_err().then_some(()))?;
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

/// Writes the ingestion caches.
pub(super) fn write_caches(out: &mut Out<'_>, contents: &Contents) -> Result<(), Failed> {
    out.open_map()?;
    for name in &contents.caches {
        write_collection(out, name)?;
    }
    out.close()
}

/// Writes one collection as it is.
fn write_collection(out: &mut Out<'_>, name: &str) -> Result<(), Failed> {
    let kv = out.kv.clone();
    out.records(name, |visit| {
        let mut failed = None;
        let scanned = kv.scan(name, &mut |key, value| {
            let key = Text::from_bytes(key).map_err(|_| {
                KvError::InvalidArgument(format!("{name}: a key is no text, as JSON needs it"))
            })?;
            visit(key, value).map_err(|e| {
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
