//! The file of `SimpleVectorStore`, three dictionaries with the same keys: `{"embedding_dict": {id:
//! [floats]}, "text_id_to_ref_doc_id": {id: id}, "metadata_dict": {id: {}}}`.
//!
//! A row is made of an entry of each. They stand far apart in the file, so it is read at three
//! places at once, which works without holding more than some rows since LlamaIndex fills the
//! three in the same order. Entries that stand in another order are put in afterwards, row by row.
//!
//! The file of a store in half precision has a fourth key, `{"siltstone": {"precision": "half"}}`,
//! so that importing it gives an equal store. LlamaIndex reads the three that it knows; an import
//! does without, too.

use super::error::Stop;
use super::export::{Failed, Out};
use super::load::{Json, Load, of, shown};
use super::space::{Space, vectors};
use crate::kv::json::StreamError;
use crate::kv::{Map, Text, Value};
use crate::limits::KEY_LEN_MAX;
use crate::stores::{OWNER_LEN_MAX, VectorEntry, VectorStore};

/// What the dictionary of embeddings is called.
const EMBEDDINGS: &str = "embedding_dict";
/// What the dictionary of ref docs is called.
const REF_DOCS: &str = "text_id_to_ref_doc_id";
/// What the dictionary of metadata is called.
const METADATA: &str = "metadata_dict";

/// What the key of what only this crate reads is called. It comes last, since files may be known by
/// their first.
const OURS: &str = "siltstone";

/// What stands there if embeddings are kept in half precision.
fn half_mark() -> Value {
    let mut mark = Map::new();
    mark.set("precision", "half");
    mark.into()
}

/// Rows that are given to the store at a time, at most: as many as it keeps together.
const ROWS_MAX: usize = 256;
/// Floats that are given to the store at a time, or a little more.
const FLOATS_MAX: usize = 1 << 17;

/// What LlamaIndex stores where there is no ref doc.
const NO_REF_DOC: &str = "None";

/// Walks through the store of `namespace`, to which `path` leads in the file.
pub(super) fn walk(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    namespace: &str,
    path: &[&str],
) -> Result<(), Stop> {
    if !load.claim(json, Space::Vectors(namespace.to_owned()))? {
        return Ok(json.skip()?);
    }
    match load.kv() {
        None => check(json, load, path),
        Some(kv) => {
            if load.is_first() {
                let store = vectors(&kv, namespace);
                if load.learned.halves.contains(&place(path, OURS)) {
                    store.keep_half_precision()?;
                }
                fill(load, &store, path)?;
            }
            Ok(json.pass()?)
        }
    }
}

/// Looks at everything. Rows are counted by their embeddings.
fn check(json: &mut Json<'_>, load: &mut Load<'_>, path: &[&str]) -> Result<(), Stop> {
    if !load.enter(json, "the vector store")? {
        return Ok(());
    }
    while let Some(part) = json.key()? {
        let name = part.to_string();
        if name == OURS && json.value()? == half_mark() {
            load.learned.halves.insert(place(path, OURS));
            continue;
        }
        if ![EMBEDDINGS, REF_DOCS, METADATA].contains(&name.as_str()) {
            load.leave_out(json, || format!("vector store: {}", shown(&part)));
            continue;
        }
        load.is_last(json, &place(path, &name));
        if !load.enter(json, &name)? {
            continue;
        }
        while let Some(id) = json.key()? {
            let value = json.value()?;
            let (is_right, wanted) = match name.as_str() {
                EMBEDDINGS => (embedding(&value).is_some(), "is no list of numbers"),
                REF_DOCS => (ref_doc(&value).is_some(), "is no text"),
                _ => (value.as_map().is_some(), "is no dictionary"),
            };
            if !is_right {
                load.bad(json, || of(&name, &id, wanted))?;
            } else if let Some(long) = (name == REF_DOCS).then(|| too_long(&value)).flatten() {
                let what = format!("has a ref doc id of {long} bytes, more than {OWNER_LEN_MAX}");
                load.bad(json, || of(&name, &id, &what))?;
            } else if load.fits(json, &id)? && name == EMBEDDINGS {
                load.taken(json)?;
            } else {
                load.read_upto(json)?;
            }
        }
    }
    Ok(())
}

/// Where in the file a dictionary is.
fn place(path: &[&str], name: &str) -> Text {
    path.iter().chain([&name]).copied().collect::<Vec<_>>().join("/").into()
}

fn embedding(value: &Value) -> Option<Vec<f64>> {
    let number = |value: &Value| match value {
        Value::Float(float) => Some(*float),
        Value::Int(int) => Some(*int as f64),
        Value::BigInt(big) => Some(big.to_f64()),
        _ => None,
    };
    value.as_list()?.iter().map(number).collect()
}

/// The ref doc, if there is one; `None` if the value is none.
fn ref_doc(value: &Value) -> Option<Option<Text>> {
    match value {
        Value::Null => Some(None),
        Value::Text(id) => Some(Some(id.clone()).filter(|id| *id != NO_REF_DOC)),
        _ => None,
    }
}

/// The length of a ref doc's id that cannot be stored: the rows of one are a list that it owns.
fn too_long(value: &Value) -> Option<usize> {
    Some(value.as_text()?.len()).filter(|len| *len > OWNER_LEN_MAX)
}

/// The ref doc that a row gets, as far as there is one that can be stored.
fn kept_ref_doc(value: &Value) -> Option<Option<Text>> {
    ref_doc(value).filter(|_| too_long(value).is_none())
}

/// One of the three dictionaries, as it is read beside the others.
struct Side<'s> {
    json: Option<Json<'s>>,
    /// The key that was read, and whose value comes next.
    next: Option<Text>,
}

impl<'s> Side<'s> {
    /// Finds the dictionary `name` in the store at `path`.
    fn find(load: &Load<'s>, path: &[&str], name: &str) -> Result<Self, Stop> {
        let mut json = load.open_again()?;
        let mut side = Side { json: None, next: None };
        for part in path {
            if !enter_nth(&mut json, part, 1)? {
                return Ok(side);
            }
        }
        // Of a key that comes twice, Python keeps the last.
        if !enter_nth(&mut json, name, load.occurrences(&place(path, name)))? {
            return Ok(side);
        }
        if json.enter()? {
            side.json = Some(json);
            side.step()?;
        }
        Ok(side)
    }

    fn step(&mut self) -> Result<(), StreamError> {
        self.next = match &mut self.json {
            Some(json) => json.key()?,
            None => None,
        };
        Ok(())
    }

    /// The key that comes next and its value; `None` at the end.
    fn take(&mut self) -> Result<Option<(Text, Value)>, StreamError> {
        let (Some(json), Some(key)) = (&mut self.json, self.next.take()) else { return Ok(None) };
        let value = json.value()?;
        self.step()?;
        Ok(Some((key, value)))
    }

    /// The value of `id`, if that comes next.
    fn take_of(&mut self, id: &Text) -> Result<Option<Value>, StreamError> {
        if self.next.as_ref() != Some(id) {
            return Ok(None);
        }
        Ok(self.take()?.map(|(_, value)| value))
    }
}

/// Steps into the dictionary that comes next and to the value of `key` that comes as number `nth`.
fn enter_nth(json: &mut Json<'_>, key: &str, nth: u32) -> Result<bool, Stop> {
    if !json.enter()? {
        return Ok(false);
    }
    let mut seen = 0;
    while let Some(found) = json.key()? {
        seen += u32::from(found == *key);
        if seen == nth {
            return Ok(true);
        }
        json.pass()?;
    }
    Ok(false)
}

/// Makes the rows. Where the file ends early, which the check has told, they are made of what is
/// there.
fn fill(load: &mut Load<'_>, store: &VectorStore, path: &[&str]) -> Result<(), Stop> {
    let (mut ref_docs, mut metadata) = (side(load, path, REF_DOCS)?, side(load, path, METADATA)?);
    let mut rows: Vec<VectorEntry> = Vec::new();
    let mut floats = 0;
    let mut embeddings = side(load, path, EMBEDDINGS)?;
    while let Some((id, value)) = load.tolerate(embeddings.take())?.flatten() {
        let found_ref = load.tolerate(ref_docs.take_of(&id))?.flatten();
        let found_map = load.tolerate(metadata.take_of(&id))?.flatten();
        let Some(embedding) = embedding(&value).filter(|_| id.len() <= KEY_LEN_MAX) else {
            continue;
        };
        floats += embedding.len();
        let ref_doc_id = found_ref.as_ref().and_then(kept_ref_doc).flatten();
        rows.push(VectorEntry { id, embedding, ref_doc_id, metadata: found_map.and_then(map) });
        if rows.len() >= ROWS_MAX || floats >= FLOATS_MAX {
            store.add_entries(&rows)?;
            rows.clear();
            floats = 0;
            if let Some(json) = &embeddings.json {
                load.read_upto(json)?;
            }
        }
    }
    store.add_entries(&rows)?;
    // What stands in another order than the embeddings.
    while let Some((id, value)) = load.tolerate(ref_docs.take())?.flatten() {
        if let Some(ref_doc_id) = kept_ref_doc(&value)
            && !change(store, &id, |entry| entry.ref_doc_id = ref_doc_id)?
        {
            orphan(load, &ref_docs, REF_DOCS, &id);
        }
        load.commit_if_large()?;
    }
    while let Some((id, value)) = load.tolerate(metadata.take())?.flatten() {
        if let Some(map) = map(value)
            && !change(store, &id, |entry| entry.metadata = Some(map))?
        {
            orphan(load, &metadata, METADATA, &id);
        }
        load.commit_if_large()?;
    }
    Ok(())
}

fn side<'s>(load: &Load<'s>, path: &[&str], name: &str) -> Result<Side<'s>, Stop> {
    match Side::find(load, path, name) {
        // The file ends before the dictionary.
        Err(Stop::Json(_)) if load.is_salvage => Ok(Side { json: None, next: None }),
        other => other,
    }
}

fn map(value: Value) -> Option<Map> {
    match value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// Changes the row of `id`; false if there is none.
fn change(
    store: &VectorStore,
    id: &Text,
    change: impl FnOnce(&mut VectorEntry),
) -> Result<bool, Stop> {
    let Some(mut entry) = store.find(id.clone())? else { return Ok(false) };
    change(&mut entry);
    store.add_entries(&[entry])?;
    Ok(true)
}

/// What belongs to no embedding makes no row.
fn orphan(load: &mut Load<'_>, side: &Side<'_>, name: &str, id: &Text) {
    let byte = side.json.as_ref().map_or(0, Json::byte);
    load.report.left_out.add(byte as u64, of(name, id, "has no embedding"));
}

/// Writes a store.
pub(super) fn write(out: &mut Out<'_>, store: &VectorStore) -> Result<(), Failed> {
    out.open_map()?;
    out.records(EMBEDDINGS, |visit| {
        store.for_each_entry(&mut |entry| visit(entry.id, floats(&entry.embedding)))
    })?;
    out.uncounted(REF_DOCS, |visit| {
        store.for_each_entry(&mut |entry| {
            let id = entry.ref_doc_id.unwrap_or(Text::from_static(NO_REF_DOC));
            visit(entry.id, id.into())
        })
    })?;
    out.uncounted(METADATA, |visit| {
        store.for_each_entry(&mut |entry| match entry.metadata {
            Some(metadata) => visit(entry.id, metadata.into()),
            None => Ok(()),
        })
    })?;
    if store.is_half_precision()? {
        out.json.key(&Text::from_static(OURS))?;
        out.json.value(&half_mark())?;
    }
    out.close()
}

fn floats(embedding: &[f64]) -> Value {
    Value::List(embedding.iter().map(|float| Value::Float(*float)).collect())
}
