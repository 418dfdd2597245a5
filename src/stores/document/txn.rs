//! [`Txn`]: changes to the bookkeeping, made in memory and turned into one batch.
//!
//! A transaction reads through to the key-value store, sees its own changes, and follows
//! LlamaIndex's rules step by step; what it leaves behind is the difference. Requires: the store's
//! lock is held from its start until its batch is written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::members::{Chunk, Found, RefDoc, chunk_key, number};
use super::{CHUNK_LEN_MAX, Names};
use crate::kv::{KvBatch, KvStore, Map, Text, Value};
use crate::stores::StoreError;

/// Numbers are promised in blocks of this many, so that the counter is seldom written.
const NUMBERS_RESERVED: u64 = 4096;

/// The counter that places and chunks are numbered by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    next: u64,
    /// The first number that the stored record does not promise.
    reserved: u64,
}

/// A record as the transaction sees it.
struct Slot<T> {
    value: Option<T>,
    changed: bool,
    /// It is in the key-value store, so going needs a deletion.
    stored: bool,
}

impl<T> Slot<T> {
    /// A record as it was read.
    fn read(value: Option<T>) -> Self {
        Slot { changed: false, stored: value.is_some(), value }
    }
}

/// Whether a node's body is there.
struct Body {
    present: bool,
    /// It is in the key-value store or in the batch, so going needs a deletion.
    stored: bool,
}

pub(super) struct Txn<'a> {
    kv: &'a dyn KvStore,
    names: &'a Names,
    numbers: Numbers,
    bodies: BTreeMap<Text, Body>,
    metadata: BTreeMap<Text, Slot<Map>>,
    ref_docs: BTreeMap<Text, Slot<RefDoc>>,
    chunks: BTreeMap<u64, Slot<Chunk>>,
}

/// The fields of a metadata record that link a node to its ref doc.
pub(super) struct Link {
    pub(super) ref_doc_id: Text,
    pub(super) chunk: Option<u64>,
}

/// The link in a metadata record; an empty id is none.
pub(super) fn link(metadata: &Map) -> Option<Link> {
    let ref_doc_id = metadata.get("ref_doc_id")?.as_text()?.clone();
    let chunk = number(metadata, "#chunk");
    Some(Link { ref_doc_id, chunk }).filter(|link| !link.ref_doc_id.is_empty())
}

impl<'a> Txn<'a> {
    pub(super) fn new(
        kv: &'a dyn KvStore,
        names: &'a Names,
        numbers: Option<Numbers>,
    ) -> Result<Self, StoreError> {
        let numbers = match numbers {
            Some(known) => known,
            None => {
                let record = kv.get(&names.chunks, b"")?;
                let reserved = record.as_ref().and_then(Value::as_map);
                let next = reserved.and_then(|map| number(map, "#reserved")).unwrap_or(0);
                Numbers { next, reserved: next }
            }
        };
        Ok(Txn {
            kv,
            names,
            numbers,
            bodies: BTreeMap::new(),
            metadata: BTreeMap::new(),
            ref_docs: BTreeMap::new(),
            chunks: BTreeMap::new(),
        })
    }

    /// Adds the changes to `batch`, in which the bodies already are; returns the counter, which
    /// holds once the batch is written.
    pub(super) fn finish(mut self, batch: &mut KvBatch) -> Result<Numbers, StoreError> {
        let Names { data, metadata, ref_docs, chunks } = self.names;
        for (id, body) in &self.bodies {
            if body.stored && !body.present {
                batch.delete(data, id.as_bytes())?;
            }
        }
        let key = |id: &Text| id.as_bytes().to_vec();
        emit(batch, metadata, self.metadata, key, Value::Map)?;
        emit(batch, ref_docs, self.ref_docs, key, |r| r.to_value())?;
        let key = |chunk: &u64| chunk_key(*chunk).to_vec();
        emit(batch, chunks, self.chunks, key, |c| c.to_value())?;
        if self.numbers.next > self.numbers.reserved {
            self.numbers.reserved = self.numbers.next + NUMBERS_RESERVED;
            let mut record = Map::new();
            record.set("#reserved", self.numbers.reserved);
            batch.put(chunks, b"", &record.into())?;
        }
        Ok(self.numbers)
    }

    /// A number that was never given out before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers.next += 1;
        self.numbers.next
    }

    /// Makes the batch write the counter anew, for it clears the collection that holds it.
    pub(super) fn renew_counter(&mut self) {
        self.numbers.reserved = 0;
    }

    // Bodies.

    pub(super) fn add_body(&mut self, id: &Text) {
        self.bodies.insert(id.clone(), Body { present: true, stored: true });
    }

    /// Removes a body; true if it was there.
    pub(super) fn remove_body(&mut self, id: &Text) -> Result<bool, StoreError> {
        let was = self.has_body(id)?;
        self.bodies.entry(id.clone()).and_modify(|body| body.present = false);
        Ok(was)
    }

    pub(super) fn has_body(&mut self, id: &Text) -> Result<bool, StoreError> {
        if let Some(body) = self.bodies.get(id) {
            return Ok(body.present);
        }
        let present = self.kv.contains(&self.names.data, id.as_bytes())?;
        self.bodies.insert(id.clone(), Body { present, stored: present });
        Ok(present)
    }

    // Metadata records.

    /// Reads the metadata records of `ids` that are not known yet, in one go.
    pub(super) fn prefetch<'i>(
        &mut self,
        ids: impl IntoIterator<Item = &'i Text>,
    ) -> Result<(), StoreError> {
        let ids: Vec<&Text> =
            ids.into_iter().filter(|id| !self.metadata.contains_key(*id)).collect();
        let keys: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
        let found = self.kv.get_many(&self.names.metadata, &keys)?;
        for (id, value) in ids.into_iter().zip(found) {
            let value = match value {
                None => None,
                Some(Value::Map(map)) => Some(map),
                Some(_) => return Err(self.corrupt(&self.names.metadata, id, "is no dictionary")),
            };
            self.metadata.insert(id.clone(), Slot::read(value));
        }
        Ok(())
    }

    pub(super) fn metadata(&mut self, id: &Text) -> Result<Option<&Map>, StoreError> {
        self.prefetch([id])?;
        Ok(self.metadata.get(id).and_then(|slot| slot.value.as_ref()))
    }

    pub(super) fn set_metadata(&mut self, id: &Text, value: Option<Map>) {
        let stored = self.metadata.get(id).is_none_or(|slot| slot.stored);
        self.metadata.insert(id.clone(), Slot { value, changed: true, stored });
    }

    /// Removes a metadata record without taking the node out of its ref doc's list, as LlamaIndex
    /// does when a document goes with its last node.
    fn forget_metadata(&mut self, id: &Text) -> Result<(), StoreError> {
        let Some(link) = self.metadata(id)?.and_then(link) else {
            self.set_metadata(id, None);
            return Ok(());
        };
        self.set_metadata(id, None);
        if let Some(mut ref_doc) = self.take_ref_doc(&link.ref_doc_id)? {
            ref_doc.stale += 1;
            ref_doc.changed = true;
            self.put_ref_doc(&link.ref_doc_id, ref_doc);
        }
        Ok(())
    }

    /// Removes a document's body and metadata record, and nothing else.
    pub(super) fn forget(&mut self, id: &Text) -> Result<(), StoreError> {
        self.forget_metadata(id)?;
        self.remove_body(id)?;
        Ok(())
    }

    // Ref docs.

    /// The ref doc, to be changed. What is taken must be put back or removed.
    pub(super) fn take_ref_doc(&mut self, id: &Text) -> Result<Option<RefDoc>, StoreError> {
        if let Some(slot) = self.ref_docs.get_mut(id) {
            return Ok(slot.value.take());
        }
        let found = self.kv.get(&self.names.ref_docs, id.as_bytes())?;
        let ref_doc = match Found::read(found.as_ref()) {
            Some(Found::Nothing) => None,
            Some(Found::Ours(ref_doc)) => Some(ref_doc),
            Some(Found::Plain(info)) => Some(RefDoc::from_plain(info, self.number())),
            None => return Err(self.corrupt(&self.names.ref_docs, id, "is no ref doc record")),
        };
        let slot = Slot { value: None, changed: false, stored: found.is_some() };
        self.ref_docs.insert(id.clone(), slot);
        Ok(ref_doc)
    }

    /// A ref doc without nodes.
    pub(super) fn new_ref_doc(&mut self) -> RefDoc {
        RefDoc::new(self.number())
    }

    /// Puts back what was taken.
    pub(super) fn put_ref_doc(&mut self, id: &Text, ref_doc: RefDoc) {
        let stored = self.ref_docs.get(id).is_none_or(|slot| slot.stored);
        let slot = Slot { changed: ref_doc.changed, value: Some(ref_doc), stored };
        self.ref_docs.insert(id.clone(), slot);
    }

    /// Removes the ref doc's records; returns the ids it listed.
    pub(super) fn remove_ref_doc(
        &mut self,
        id: &Text,
        ref_doc: RefDoc,
    ) -> Result<Vec<Text>, StoreError> {
        let mut ids = Vec::new();
        for chunk in self.chunk_numbers(id, &ref_doc)? {
            let slot = self.chunk(id, chunk)?;
            ids.append(&mut slot.value.take().map(|chunk| chunk.ids).unwrap_or_default());
            slot.changed = true;
        }
        ids.extend(ref_doc.ids);
        let stored = self.ref_docs.get(id).is_none_or(|slot| slot.stored);
        self.ref_docs.insert(id.clone(), Slot { value: None, changed: true, stored });
        Ok(ids)
    }

    /// The numbers of the chunks before the tail, in order.
    fn chunk_numbers(&mut self, id: &Text, ref_doc: &RefDoc) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = ref_doc.ends.map_or(ref_doc.tail, |(head, _)| head);
        while next != ref_doc.tail {
            if !seen.insert(next) {
                return Err(self.corrupt(&self.names.ref_docs, id, "lists its nodes in circles"));
            }
            numbers.push(next);
            next = match &self.chunk(id, next)?.value {
                Some(chunk) => chunk.next,
                None => return Err(lost_chunk(self.names, id)),
            };
        }
        Ok(numbers)
    }

    /// All ids that the ref doc lists.
    pub(super) fn node_ids(
        &mut self,
        id: &Text,
        ref_doc: &RefDoc,
    ) -> Result<Vec<Text>, StoreError> {
        let mut ids = Vec::new();
        for chunk in self.chunk_numbers(id, ref_doc)? {
            if let Some(chunk) = &self.chunk(id, chunk)?.value {
                ids.extend_from_slice(&chunk.ids);
            }
        }
        ids.extend_from_slice(&ref_doc.ids);
        Ok(ids)
    }

    /// A chunk that `id` names, to be looked at or changed.
    fn chunk(&mut self, id: &Text, chunk: u64) -> Result<&mut Slot<Chunk>, StoreError> {
        let (kv, names) = (self.kv, self.names);
        match self.chunks.entry(chunk) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let found = kv.get(&names.chunks, &chunk_key(chunk))?;
                match found.as_ref().and_then(Chunk::read) {
                    Some(chunk) => Ok(unknown.insert(Slot::read(Some(chunk)))),
                    None => Err(lost_chunk(names, id)),
                }
            }
        }
    }

    /// Adds `node` at the end of the list; returns its chunk.
    pub(super) fn push_member(&mut self, ref_doc: &mut RefDoc, node: &Text) -> u64 {
        while ref_doc.ids.len() >= CHUNK_LEN_MAX {
            let rest = ref_doc.ids.split_off(CHUNK_LEN_MAX);
            let ids = std::mem::replace(&mut ref_doc.ids, rest);
            let full = ref_doc.tail;
            ref_doc.tail = self.number();
            let prev = ref_doc.ends.map(|(_, last)| last);
            let chunk = Chunk { ids, prev, next: ref_doc.tail };
            let slot = Slot { value: Some(chunk), changed: true, stored: false };
            self.chunks.insert(full, slot);
            ref_doc.ends = Some((ref_doc.ends.map_or(full, |(head, _)| head), full));
        }
        ref_doc.ids.push(node.clone());
        ref_doc.changed = true;
        ref_doc.tail
    }

    /// The chunk that lists `node`, given what its metadata record says.
    pub(super) fn find_member(
        &mut self,
        id: &Text,
        ref_doc: &mut RefDoc,
        node: &Text,
        linked: Option<&Link>,
    ) -> Result<Option<u64>, StoreError> {
        let linked = linked.filter(|link| link.ref_doc_id == *id);
        if let Some(chunk) = linked.and_then(|link| link.chunk) {
            return Ok(Some(chunk));
        }
        if ref_doc.stale == 0 && linked.is_none() {
            return Ok(None);
        }
        let mut found = ref_doc.ids.contains(node).then_some(ref_doc.tail);
        if found.is_none() {
            for chunk in self.chunk_numbers(id, ref_doc)? {
                let listed = self.chunk(id, chunk)?.value.as_ref();
                if listed.is_some_and(|listed| listed.ids.contains(node)) {
                    found = Some(chunk);
                    break;
                }
            }
        }
        if found.is_some() && ref_doc.stale > 0 {
            ref_doc.stale -= 1;
            ref_doc.changed = true;
        }
        Ok(found)
    }

    /// Takes `node` out of `chunk`.
    pub(super) fn remove_member(
        &mut self,
        id: &Text,
        ref_doc: &mut RefDoc,
        node: &Text,
        chunk: u64,
    ) -> Result<(), StoreError> {
        let ids = if chunk == ref_doc.tail {
            ref_doc.changed = true;
            &mut ref_doc.ids
        } else {
            let slot = self.chunk(id, chunk)?;
            slot.changed = true;
            match &mut slot.value {
                Some(chunk) => &mut chunk.ids,
                None => return Err(lost_chunk(self.names, id)),
            }
        };
        if let Some(place) = ids.iter().position(|listed| listed == node) {
            ids.remove(place);
        }
        if chunk != ref_doc.tail && ids.is_empty() {
            self.unlink(id, ref_doc, chunk)?;
        }
        Ok(())
    }

    /// Removes an empty chunk from the chain.
    fn unlink(&mut self, id: &Text, ref_doc: &mut RefDoc, chunk: u64) -> Result<(), StoreError> {
        let Some(Chunk { prev, next, .. }) = self.chunk(id, chunk)?.value.take() else {
            return Err(lost_chunk(self.names, id));
        };
        if let Some(prev) = prev {
            let slot = self.chunk(id, prev)?;
            slot.changed = true;
            slot.value.iter_mut().for_each(|chunk| chunk.next = next);
        }
        let next_is_chunk = next != ref_doc.tail;
        if next_is_chunk {
            let slot = self.chunk(id, next)?;
            slot.changed = true;
            slot.value.iter_mut().for_each(|chunk| chunk.prev = prev);
        }
        let ends = ref_doc.ends;
        ref_doc.ends = ends.and_then(|(head, last)| {
            let head = if head == chunk { next_is_chunk.then_some(next)? } else { head };
            let last = if last == chunk { prev? } else { last };
            Some((head, last))
        });
        ref_doc.changed |= ref_doc.ends != ends;
        Ok(())
    }

    fn corrupt(&self, collection: &str, key: &Text, what: &'static str) -> StoreError {
        StoreError::Corrupt { collection: collection.to_owned(), key: key.clone(), what }
    }
}

fn lost_chunk(names: &Names, id: &Text) -> StoreError {
    let what = "names a part of its list that is not there";
    StoreError::Corrupt { collection: names.ref_docs.clone(), key: id.clone(), what }
}

/// Adds the changed records of one collection to `batch`.
fn emit<K, T>(
    batch: &mut KvBatch,
    collection: &str,
    slots: BTreeMap<K, Slot<T>>,
    key: impl Fn(&K) -> Vec<u8>,
    to_value: impl Fn(T) -> Value,
) -> Result<(), StoreError> {
    for (id, slot) in slots {
        match slot {
            Slot { changed: false, .. } => {}
            Slot { value: Some(value), .. } => {
                batch.put(collection, &key(&id), &to_value(value))?
            }
            Slot { value: None, stored: false, .. } => {}
            Slot { value: None, .. } => batch.delete(collection, &key(&id))?,
        }
    }
    Ok(())
}
