//! [`IndexStruct`]: a whole index struct in memory, and LlamaIndex's forms of it.

use super::kind::{Field, Shape, StructKind, set};
use super::methods::Members;
use crate::kv::{Map, Text, Value, json};
use crate::stores::StoreError;

/// What an index knows of its nodes, in memory.
///
/// The methods of LlamaIndex's classes are in [`StructMethods`](super::StructMethods). To change
/// one node of a stored struct use [`IndexStore::edit`](super::IndexStore::edit), which does not
/// read or write the others.
///
/// ```
/// use siltstone::stores::{IndexStruct, StructKind, StructMethods};
/// let mut index = IndexStruct::new(StructKind::List, "my-index");
/// index.add_node("n1")?;
/// assert_eq!(index.node_ids()?.len(), 1);
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStruct {
    kind: StructKind,
    index_id: Text,
    summary: Option<Text>,
    /// In the order of [`StructKind::fields`], each a list or a dictionary.
    fields: Vec<(Field, Value)>,
}

impl IndexStruct {
    /// A struct without nodes. LlamaIndex takes a random UUID for the id.
    pub fn new(kind: StructKind, index_id: impl Into<Text>) -> Self {
        let empty = |field: &Field| match field.shape() {
            Shape::List => (*field, Value::List(Vec::new())),
            _ => (*field, Map::new().into()),
        };
        let fields = kind.fields().iter().map(empty).collect();
        IndexStruct { kind, index_id: index_id.into(), summary: None, fields }
    }

    /// The kind of index it belongs to.
    pub fn kind(&self) -> StructKind {
        self.kind
    }

    /// Its id.
    pub fn index_id(&self) -> &Text {
        &self.index_id
    }

    /// What the index is about, if that was set.
    pub fn summary(&self) -> Option<&Text> {
        self.summary.as_ref()
    }

    /// Says what the index is about.
    pub fn set_summary(&mut self, summary: Option<Text>) {
        self.summary = summary;
    }

    /// A field by LlamaIndex's name, as a list or a dictionary: `nodes`, `nodes_dict`, `table` ...
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| field.name() == name).map(|(_, value)| value)
    }

    pub(super) fn content(&self, field: Field) -> Result<&Value, StoreError> {
        let found = self.fields.iter().find(|(known, _)| *known == field);
        found.map(|(_, value)| value).ok_or_else(|| lacks(self.kind, field))
    }

    fn content_mut(&mut self, field: Field) -> Result<&mut Value, StoreError> {
        let kind = self.kind;
        let found = self.fields.iter_mut().find(|(known, _)| *known == field);
        found.map(|(_, value)| value).ok_or_else(|| lacks(kind, field))
    }

    pub(super) fn set_content(&mut self, field: Field, value: Value) {
        if let Ok(content) = self.content_mut(field) {
            *content = value;
        }
    }

    /// The fields of LlamaIndex's class, as a dictionary. Sets are sorted lists.
    pub fn to_data(&self) -> Value {
        let mut data = Map::with_capacity(2 + self.fields.len());
        data.set("index_id", &self.index_id);
        data.set("summary", self.summary.clone());
        for (field, value) in &self.fields {
            data.set(field.name(), value.clone());
        }
        data.into()
    }

    /// The record that LlamaIndex stores: `__type__`, and the fields as JSON text in `__data__`.
    pub fn to_value(&self) -> Value {
        let mut record = Map::with_capacity(2);
        record.set("__type__", self.kind.name());
        record.set("__data__", json::to_string(&self.to_data(), json::Style::Python));
        record.into()
    }

    /// Reads the fields of LlamaIndex's class. Fields that are missing are empty, others are
    /// ignored; without an id it is `id`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if a field is not what the kind has there.
    pub fn from_data(kind: StructKind, id: &Text, data: &Value) -> Result<Self, StoreError> {
        let map = data.as_map().ok_or_else(|| bad(id, "", "is no dictionary"))?;
        let text = |name: &str| match map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(bad(id, name, "is no text")),
        };
        let mut read = IndexStruct::new(kind, text("index_id")?.unwrap_or_else(|| id.clone()));
        read.summary = text("summary")?;
        for (field, content) in &mut read.fields {
            let found = field.read(map.get(field.name()));
            *content = found.map_err(|what| bad(id, field.name(), what))?;
        }
        Ok(read)
    }

    /// Reads a record that LlamaIndex stored under `id`, in the present form or the old one, in
    /// which `__data__` is a dictionary.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownType`] if there is no class for the type, [`StoreError::Dict`] if the
    /// record is malformed.
    pub fn from_value(id: &Text, record: &Value) -> Result<Self, StoreError> {
        let name = record.get("__type__").and_then(Value::as_text);
        let name = name.ok_or_else(|| bad(id, "__type__", "is no text"))?;
        let kind = name.as_str().and_then(StructKind::from_name);
        let kind = kind.ok_or_else(|| StoreError::UnknownType {
            what: "index struct",
            id: id.clone(),
            name: name.clone(),
        })?;
        match record.get("__data__") {
            Some(Value::Text(text)) => {
                let data = json::from_slice(text.as_bytes());
                let data = data.map_err(|_| bad(id, "__data__", "is no JSON"))?;
                IndexStruct::from_data(kind, id, &data)
            }
            Some(data) => IndexStruct::from_data(kind, id, data),
            None => Err(bad(id, "__data__", "is missing")),
        }
    }

    /// What keeps LlamaIndex from reading a record of a type that it has a class for; `None` if
    /// nothing does, also where it makes something of a record that [`IndexStruct::from_value`]
    /// does not. With `in_parts` also what keeps an index store from keeping it in parts.
    pub(crate) fn fault(record: &Value, in_parts: bool) -> Option<String> {
        let name = record.get("__type__").and_then(Value::as_text)?;
        let kind = name.as_str().and_then(StructKind::from_name)?;
        let read;
        let data = match record.get("__data__") {
            Some(Value::Text(text)) => match json::from_slice(text.as_bytes()) {
                Ok(data) => {
                    read = data;
                    Some(&read)
                }
                Err(e) => return Some(format!("has __data__ that is no JSON: {e}")),
            },
            data => data,
        };
        let Some(map) = data.and_then(Value::as_map) else {
            return Some("has __data__ that is no dictionary".to_owned());
        };
        let fault = |field: &Field| {
            let found = map.get(field.name())?;
            let long = || field.too_long(found).filter(|_| in_parts);
            let what = field.fault(found).map(str::to_owned).or_else(long)?;
            Some(format!("has a field {} that {what}", field.name()))
        };
        kind.fields().iter().find_map(fault)
    }
}

impl Members for IndexStruct {
    fn struct_kind(&self) -> StructKind {
        self.kind
    }

    fn struct_summary(&self) -> Option<&Text> {
        self.summary.as_ref()
    }

    fn count(&self, field: Field) -> Result<u64, StoreError> {
        Ok(match self.content(field)? {
            Value::List(list) => list.len() as u64,
            other => other.as_map().map_or(0, Map::len) as u64,
        })
    }

    fn entry(&self, field: Field, key: &Text) -> Result<Option<Value>, StoreError> {
        Ok(match self.content(field)? {
            Value::Map(map) => map.get(key).cloned(),
            list => Some(list.clone()),
        })
    }

    fn entry_len(&self, field: Field, key: &Text) -> Result<u64, StoreError> {
        let entry = self.entry(field, key)?;
        Ok(entry.as_ref().and_then(Value::as_list).map_or(0, <[Value]>::len) as u64)
    }

    fn keys(&self, field: Field) -> Result<Vec<Text>, StoreError> {
        let map = self.content(field)?.as_map();
        Ok(map.map(|map| map.keys().cloned().collect()).unwrap_or_default())
    }

    fn keys_with(&self, field: Field, item: &Text) -> Result<Vec<Text>, StoreError> {
        let is_it = |value: &Value| value.as_text() == Some(item);
        let holds =
            |value: &Value| is_it(value) || value.as_list().is_some_and(|l| l.iter().any(is_it));
        Ok(match self.content(field)? {
            Value::Map(map) => {
                map.iter().filter(|(_, value)| holds(value)).map(|(key, _)| key.clone()).collect()
            }
            list if holds(list) => vec![Text::default()],
            _ => Vec::new(),
        })
    }

    fn set(&mut self, field: Field, key: &Text, value: Value) -> Result<(), StoreError> {
        if let Value::Map(map) = self.content_mut(field)? {
            map.insert(key, value);
        }
        Ok(())
    }

    fn remove(&mut self, field: Field, key: &Text) -> Result<Option<Value>, StoreError> {
        Ok(match self.content_mut(field)? {
            Value::Map(map) => map.remove(key),
            _ => None,
        })
    }

    fn append(&mut self, field: Field, key: &Text, item: &Text) -> Result<(), StoreError> {
        let list = match self.content_mut(field)? {
            Value::Map(map) => {
                if !map.contains_key(key) {
                    map.insert(key, Value::List(Vec::new()));
                }
                map.get_mut(key)
            }
            list => Some(list),
        };
        if let Some(Value::List(list)) = list {
            list.push(item.into());
            if field.shape() == Shape::Sets {
                *list = set(std::mem::take(list));
            }
        }
        Ok(())
    }

    fn remove_item(&mut self, field: Field, key: &Text, item: &Text) -> Result<bool, StoreError> {
        let list = match self.content_mut(field)? {
            Value::Map(map) => map.get_mut(key),
            list => Some(list),
        };
        let Some(Value::List(list)) = list else { return Ok(false) };
        let Some(place) = list.iter().position(|value| value.as_text() == Some(item)) else {
            return Ok(false);
        };
        list.remove(place);
        Ok(true)
    }
}

/// The error of asking a struct for what it does not have.
pub(super) fn lacks(kind: StructKind, field: Field) -> StoreError {
    let (kind, field) = (kind.name(), field.name());
    StoreError::InvalidArgument(format!("an index struct of type \"{kind}\" has no {field}"))
}

fn bad(id: &Text, field: &str, what: &'static str) -> StoreError {
    let id = id.to_string_lossy().replace('~', "~0").replace('/', "~1");
    let slash = if field.is_empty() { "" } else { "/" };
    StoreError::Dict { pointer: format!("/{id}{slash}{field}"), what }
}
