//! [`StoredStruct`]: an index struct whose members are records.
//!
//! In the collection of members, for the struct of serial number `S`, each field by its letter `F`:
//!
//! ```text
//! list                       of                                    for the shapes
//! directory  "SF"            keys, or [key, text] where they       all; with `List` it is the
//!                            differ                                list itself
//! contents   "SF/{key}"      the texts under a key                 Lists, Sets
//!
//! record                     holds
//! "eSF{key}"                 Texts: the chunk of the directory in which the key is
//!                            Lists, Sets: [chunk, head of the contents]
//!                            Values: [chunk, the value]
//! ```
//!
//! Where the texts of reversed fields are stands in records of their own, see `reversed.rs`.
//!
//! So entering and removing a member touches its own records, the heads of two lists and at most
//! two chunks of each; reading the whole reads the directories and nothing twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use super::kind::{Field, Shape, StructKind};
use super::methods::Members;
use super::reversed::Reversed;
use super::structure::{IndexStruct, lacks};
use crate::kv::{KvStore, Map, Text, Value};
use crate::stores::StoreError;
use crate::stores::list::List;

/// An index struct as it is stored. See [`IndexStore::edit`](super::IndexStore::edit) and
/// [`StructMethods`](super::StructMethods).
pub struct StoredStruct<'a> {
    kv: &'a dyn KvStore,
    /// Name of the collection of members.
    members: &'a str,
    head: Head,
    /// Directories that were changed.
    open: BTreeMap<Field, List<'a>>,
    head_changed: bool,
}

/// A struct's own record.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) kind: StructKind,
    pub(super) index_id: Text,
    pub(super) summary: Option<Text>,
    pub(super) serial: u64,
}

/// The record of a key.
struct Entry {
    /// The chunk of the directory in which the key is.
    handle: u64,
    /// Head of the contents, or the value.
    rest: Option<Value>,
}

impl<'a> StoredStruct<'a> {
    pub(super) fn new(kv: &'a dyn KvStore, members: &'a str, head: Head) -> Self {
        StoredStruct { kv, members, head, open: BTreeMap::new(), head_changed: false }
    }

    /// Its id.
    pub fn index_id(&self) -> &Text {
        &self.head.index_id
    }

    /// The kind of index it belongs to.
    pub fn kind(&self) -> StructKind {
        self.head.kind
    }

    /// Says what the index is about.
    pub fn set_summary(&mut self, summary: Option<Text>) {
        self.head.summary = summary;
        self.head_changed = true;
    }

    /// Writes the heads of changed lists; returns the struct's record if that changed.
    pub(super) fn finish(self) -> Result<Option<Head>, StoreError> {
        for directory in self.open.values() {
            directory.save()?;
        }
        Ok(Some(self.head).filter(|_| self.head_changed))
    }

    /// The whole struct.
    pub(super) fn assemble(&self) -> Result<IndexStruct, StoreError> {
        let mut whole = IndexStruct::new(self.head.kind, self.head.index_id.clone());
        whole.set_summary(self.head.summary.clone());
        for field in self.head.kind.fields() {
            whole.set_content(*field, self.read_field(*field)?);
        }
        Ok(whole)
    }

    fn read_field(&self, field: Field) -> Result<Value, StoreError> {
        if field.shape() == Shape::List {
            return self.with(field, |list| Ok(list.values()?.into()));
        }
        let items = self.with(field, List::values)?;
        let mut map = Map::with_capacity(items.len());
        for item in items {
            match field.shape() {
                Shape::Texts => {
                    let (key, value) = pair(&item).ok_or_else(|| self.damaged(field))?;
                    map.insert(key, value);
                }
                _ => {
                    let key = item.as_text().ok_or_else(|| self.damaged(field))?;
                    map.insert(key, self.entry(field, key)?);
                }
            }
        }
        Ok(map.into())
    }

    /// Makes the stored struct equal to `whole`, which has the same kind, and writes what differs.
    pub(super) fn become_like(&mut self, whole: &IndexStruct) -> Result<(), StoreError> {
        for field in self.head.kind.fields() {
            let new = whole.content(*field)?;
            let old = self.read_field(*field)?;
            match (old, new) {
                (Value::Map(old), Value::Map(new)) => self.replace_map(*field, &old, new)?,
                (Value::List(old), Value::List(new)) => {
                    let kept = if new.starts_with(&old) { old.len() } else { 0 };
                    if kept < old.len() {
                        self.clear_field(*field)?;
                    }
                    for item in new.iter().skip(kept).filter_map(Value::as_text) {
                        self.append(*field, &Text::default(), item)?;
                    }
                }
                _ => return Err(self.damaged(*field)),
            }
        }
        Ok(())
    }

    fn replace_map(&mut self, field: Field, old: &Map, new: &Map) -> Result<(), StoreError> {
        // What is kept stands before what is added, in the old order; else it is written anew.
        let kept: Vec<&Text> = old.keys().filter(|key| new.contains_key(key)).collect();
        let keeps_order = new.keys().take(kept.len()).eq(kept);
        if !keeps_order {
            self.clear_field(field)?;
        }
        for key in old.keys().filter(|key| keeps_order && !new.contains_key(key)) {
            self.remove(field, key)?;
        }
        for (key, value) in new.iter() {
            if !keeps_order || old.get(key) != Some(value) {
                self.set(field, key, value.clone())?;
            }
        }
        Ok(())
    }

    /// Removes every record of the struct's members.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        self.head.kind.fields().iter().try_for_each(|field| self.clear_field(*field))
    }

    fn clear_field(&mut self, field: Field) -> Result<(), StoreError> {
        let items = self.with(field, List::values)?;
        for item in &items {
            if field.shape() == Shape::List {
                if let Some(text) = item.as_text() {
                    self.reversed(field).forget(&Text::default(), text)?;
                }
                continue;
            }
            let key = match item {
                Value::List(pair) => pair.first().and_then(Value::as_text),
                other => other.as_text(),
            };
            let key = key.ok_or_else(|| self.damaged(field))?;
            if field.is_reversed() && field.shape() == Shape::Texts {
                let (_, value) = pair(item).ok_or_else(|| self.damaged(field))?;
                self.reversed(field).unlink(key, &value)?;
            }
            self.clear_contents(field, key)?;
            self.kv.delete(self.members, &self.key('e', field, key))?;
        }
        self.directory(field)?.clear()
    }

    /// Removes the list or set under a key, but not the key.
    fn clear_contents(&self, field: Field, key: &Text) -> Result<(), StoreError> {
        if !matches!(field.shape(), Shape::Lists | Shape::Sets) {
            return Ok(());
        }
        let Some(entry) = self.read_entry(field, key)? else { return Ok(()) };
        let mut contents = self.contents(field, key, &entry)?;
        if field.is_reversed() {
            let reversed = self.reversed(field);
            for item in contents.values()? {
                reversed.forget(key, item.as_text().ok_or_else(|| self.damaged(field))?)?;
            }
        }
        contents.clear()
    }

    // Directories.

    /// Owner of the directory of a field, or of the contents of a key.
    fn owner(&self, field: Field, key: Option<&Text>) -> Vec<u8> {
        let mut owner = format!("{}{}", self.head.serial, field.letter()).into_bytes();
        if let Some(key) = key {
            owner.push(b'/');
            owner.extend_from_slice(key.as_bytes());
        }
        owner
    }

    fn check(&self, field: Field) -> Result<(), StoreError> {
        match self.head.kind.fields().contains(&field) {
            true => Ok(()),
            false => Err(lacks(self.head.kind, field)),
        }
    }

    /// The directory of a field, to change it.
    fn directory(&mut self, field: Field) -> Result<&mut List<'a>, StoreError> {
        self.check(field)?;
        let owner = self.owner(field, None);
        match self.open.entry(field) {
            Slot::Occupied(found) => Ok(found.into_mut()),
            Slot::Vacant(free) => Ok(free.insert(List::load(self.kv, self.members, owner)?)),
        }
    }

    /// Runs `read` on the directory of a field.
    fn with<T>(
        &self,
        field: Field,
        read: impl FnOnce(&List<'a>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check(field)?;
        match self.open.get(&field) {
            Some(directory) => read(directory),
            None => read(&List::load(self.kv, self.members, self.owner(field, None))?),
        }
    }

    // Records.

    fn key(&self, sort: char, field: Field, text: &Text) -> Vec<u8> {
        let mut key = format!("{sort}{}{}", self.head.serial, field.letter()).into_bytes();
        key.extend_from_slice(text.as_bytes());
        key
    }

    fn read_entry(&self, field: Field, key: &Text) -> Result<Option<Entry>, StoreError> {
        let record = self.key('e', field, key);
        let read = match self.kv.get(self.members, &record)? {
            None => return Ok(None),
            Some(Value::Int(handle)) => Some((handle, None)),
            Some(Value::List(parts)) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::Int(handle), rest]) => Some((handle, Some(rest))),
                _ => None,
            },
            Some(_) => None,
        };
        let entry = read
            .and_then(|(handle, rest)| Some(Entry { handle: u64::try_from(handle).ok()?, rest }));
        let wrong = || StoreError::corrupt(self.members, &record, "is no entry of an index struct");
        entry.ok_or_else(wrong).map(Some)
    }

    fn put_entry(&self, field: Field, key: &Text, entry: Entry) -> Result<(), StoreError> {
        let handle = Value::from(entry.handle);
        let value = match entry.rest {
            None => handle,
            Some(rest) => Value::List(vec![handle, rest]),
        };
        Ok(self.kv.put(self.members, &self.key('e', field, key), &value)?)
    }

    fn contents(&self, field: Field, key: &Text, entry: &Entry) -> Result<List<'a>, StoreError> {
        let owner = self.owner(field, Some(key));
        match &entry.rest {
            Some(Value::Null) | None => Ok(List::new(self.kv, self.members, owner)),
            Some(head) => List::open(self.kv, self.members, owner, head),
        }
    }

    fn reversed(&self, field: Field) -> Reversed<'a> {
        Reversed { kv: self.kv, members: self.members, serial: self.head.serial, field }
    }

    fn damaged(&self, field: Field) -> StoreError {
        let key = self.owner(field, None);
        StoreError::corrupt(self.members, &key, "lists something that is no member")
    }

    /// Sets a text under a key.
    fn set_text(&mut self, field: Field, key: &Text, value: &Text) -> Result<(), StoreError> {
        let item = match key == value {
            true => Value::from(key),
            false => Value::List(vec![key.into(), value.into()]),
        };
        if let Some(entry) = self.read_entry(field, key)? {
            if field.is_reversed()
                && let Some(Value::Text(old)) = self.entry(field, key)?
            {
                self.reversed(field).unlink(key, &old)?;
            }
            let list = self.directory(field)?;
            if !list.replace_in(entry.handle, |item| has_key(item, key), item)? {
                return Err(self.damaged(field));
            }
        } else {
            let handle = self.directory(field)?.push(item)?;
            self.put_entry(field, key, Entry { handle, rest: None })?;
        }
        if field.is_reversed() {
            self.reversed(field).link(key, value, 0)?;
        }
        Ok(())
    }
}

impl Members for StoredStruct<'_> {
    fn struct_kind(&self) -> StructKind {
        self.head.kind
    }

    fn struct_summary(&self) -> Option<&Text> {
        self.head.summary.as_ref()
    }

    fn count(&self, field: Field) -> Result<u64, StoreError> {
        self.with(field, |list| Ok(list.len()))
    }

    fn entry(&self, field: Field, key: &Text) -> Result<Option<Value>, StoreError> {
        if field.shape() == Shape::List {
            return self.read_field(field).map(Some);
        }
        self.check(field)?;
        let Some(entry) = self.read_entry(field, key)? else { return Ok(None) };
        match field.shape() {
            Shape::Values => Ok(Some(entry.rest.unwrap_or_default())),
            Shape::Texts => {
                let found = self.with(field, |l| l.find_in(entry.handle, |i| has_key(i, key)))?;
                let value = found.as_ref().and_then(pair).map(|(_, value)| value.into());
                value.ok_or_else(|| self.damaged(field)).map(Some)
            }
            _ => {
                let mut values = self.contents(field, key, &entry)?.values()?;
                if field.shape() == Shape::Sets {
                    values = super::kind::set(values);
                }
                Ok(Some(values.into()))
            }
        }
    }

    fn entry_len(&self, field: Field, key: &Text) -> Result<u64, StoreError> {
        if field.shape() == Shape::List {
            return self.count(field);
        }
        let Some(entry) = self.read_entry(field, key)? else { return Ok(0) };
        Ok(self.contents(field, key, &entry)?.len())
    }

    fn keys(&self, field: Field) -> Result<Vec<Text>, StoreError> {
        let items = self.with(field, List::values)?;
        let key = |item: Value| match item {
            Value::Text(key) => Ok(key),
            other => pair(&other).map(|(key, _)| key).ok_or_else(|| self.damaged(field)),
        };
        items.into_iter().map(key).collect()
    }

    fn keys_with(&self, field: Field, item: &Text) -> Result<Vec<Text>, StoreError> {
        self.check(field)?;
        self.reversed(field).keys_with(item)
    }

    fn set(&mut self, field: Field, key: &Text, value: Value) -> Result<(), StoreError> {
        self.check(field)?;
        match (field.shape(), &value) {
            (Shape::Texts, Value::Text(text)) => self.set_text(field, key, text),
            (Shape::Lists | Shape::Sets, Value::List(items)) => {
                self.clear_contents(field, key)?;
                let handle = match self.read_entry(field, key)? {
                    Some(entry) => entry.handle,
                    None => self.directory(field)?.push(key.into())?,
                };
                self.put_entry(field, key, Entry { handle, rest: Some(Value::Null) })?;
                let mut items = items.iter().filter_map(Value::as_text);
                items.try_for_each(|item| self.append(field, key, item))
            }
            (Shape::Values, _) => {
                let handle = match self.read_entry(field, key)? {
                    Some(entry) => entry.handle,
                    None => self.directory(field)?.push(key.into())?,
                };
                self.put_entry(field, key, Entry { handle, rest: Some(value) })
            }
            _ => Err(lacks(self.head.kind, field)),
        }
    }

    fn remove(&mut self, field: Field, key: &Text) -> Result<Option<Value>, StoreError> {
        self.check(field)?;
        let Some(entry) = self.read_entry(field, key)? else { return Ok(None) };
        let removed = self.entry(field, key)?;
        if let (true, Some(Value::Text(old))) = (field.is_reversed(), &removed) {
            self.reversed(field).unlink(key, old)?;
        }
        self.clear_contents(field, key)?;
        self.kv.delete(self.members, &self.key('e', field, key))?;
        let list = self.directory(field)?;
        match list.remove_in(entry.handle, |item| has_key(item, key))? {
            Some(_) => Ok(removed),
            None => Err(self.damaged(field)),
        }
    }

    fn append(&mut self, field: Field, key: &Text, item: &Text) -> Result<(), StoreError> {
        self.check(field)?;
        if field.shape() == Shape::List {
            let handle = self.directory(field)?.push(item.into())?;
            return self.reversed(field).link(key, item, handle);
        }
        if field.shape() == Shape::Sets && self.reversed(field).contains(key, item)? {
            return Ok(());
        }
        let mut entry = match self.read_entry(field, key)? {
            Some(entry) => entry,
            None => Entry { handle: self.directory(field)?.push(key.into())?, rest: None },
        };
        let mut contents = self.contents(field, key, &entry)?;
        let handle = contents.push(item.into())?;
        entry.rest = Some(contents.head());
        self.put_entry(field, key, entry)?;
        if field.is_reversed() {
            self.reversed(field).link(key, item, handle)?;
        }
        Ok(())
    }

    fn remove_item(&mut self, field: Field, key: &Text, item: &Text) -> Result<bool, StoreError> {
        self.check(field)?;
        let is_it = |value: &Value| value.as_text() == Some(item);
        let Some(handle) = self.reversed(field).unlink(key, item)? else { return Ok(false) };
        let removed = if field.shape() == Shape::List {
            self.directory(field)?.remove_in(handle, is_it)?
        } else {
            let Some(mut entry) = self.read_entry(field, key)? else {
                return Err(self.damaged(field));
            };
            let mut contents = self.contents(field, key, &entry)?;
            let removed = contents.remove_in(handle, is_it)?;
            entry.rest = Some(contents.head());
            self.put_entry(field, key, entry)?;
            removed
        };
        if removed.is_some() { Ok(true) } else { Err(self.damaged(field)) }
    }
}

/// Key and text of an item of a directory.
fn pair(item: &Value) -> Option<(Text, Text)> {
    match item {
        Value::Text(both) => Some((both.clone(), both.clone())),
        Value::List(parts) => match parts.as_slice() {
            [Value::Text(key), Value::Text(value)] => Some((key.clone(), value.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// True if the item of a directory is that of `key`.
fn has_key(item: &Value, key: &Text) -> bool {
    match item {
        Value::List(parts) => parts.first().and_then(Value::as_text) == Some(key),
        other => other.as_text() == Some(key),
    }
}
