//! In and out of what LlamaIndex's `SimpleIndexStore` persists.

use super::{Found, IndexStore, IndexStruct};
use crate::kv::{KvStore, Map, Text, Value};
use crate::stores::StoreError;

impl IndexStore {
    /// The record that LlamaIndex would store under `id`, if there is a struct: one record of an
    /// export.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the struct's records are damaged.
    pub fn get_record(&self, id: impl Into<Text>) -> Result<Option<Value>, StoreError> {
        let id = id.into();
        self.writer.read(|kv| match self.find(kv, &id)? {
            Some(Found::Plain(Value::Map(map))) => {
                let theirs = map.into_iter().filter(|(key, _)| !key.as_bytes().starts_with(b"#"));
                Ok(Some(theirs.collect::<Map>().into()))
            }
            Some(_) => Ok(self.get(kv, &id)?.map(|index| index.to_value())),
            None => Ok(None),
        })
    }

    /// Stores a record of LlamaIndex's under `id`: one record of an import. A record that cannot be
    /// read (of a type without a class, say) is kept as it is, and reading it gives the error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if it is no dictionary with `__data__`, [`StoreError::Kv`] if the store
    /// cannot be written.
    pub fn put_record(&self, id: impl Into<Text>, record: &Value) -> Result<(), StoreError> {
        let id = id.into();
        self.writer.change(|kv| self.take(kv, &id, record))
    }

    fn take(&self, kv: &dyn KvStore, id: &Text, record: &Value) -> Result<(), StoreError> {
        if let Ok(index) = IndexStruct::from_value(id, record) {
            return self.put(kv, id, &index);
        }
        let Some(map) = record.as_map().filter(|map| map.contains_key("__data__")) else {
            let pointer =
                format!("/{}", id.to_string_lossy().replace('~', "~0").replace('/', "~1"));
            return Err(StoreError::Dict { pointer, what: "is no record of an index struct" });
        };
        self.delete(kv, id)?;
        let mut map = map.clone();
        map.set("#order", self.enter(kv, id)?);
        Ok(kv.put(&self.names.data, id.as_bytes(), &map.into())?)
    }

    /// All of the store as LlamaIndex has it: `{collection: {id: record}}`; no collection if there
    /// is no struct. Holds everything in memory.
    ///
    /// # Errors
    ///
    /// As [`IndexStore::get_record`].
    pub fn to_dict(&self) -> Result<Value, StoreError> {
        let mut records = Map::new();
        for id in self.index_ids()? {
            if let Some(record) = self.get_record(&id)? {
                records.insert(id, record);
            }
        }
        let mut dict = Map::new();
        if !records.is_empty() {
            dict.insert(self.names.data.as_str(), records);
        }
        Ok(dict.into())
    }

    /// Replaces everything in the store by what LlamaIndex persisted, in one atomic batch. Other
    /// collections of the dictionary are left alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if the dictionary is no such thing: nothing was changed.
    pub fn load_dict(&self, dict: &Value) -> Result<(), StoreError> {
        let bad = |pointer: String| StoreError::Dict { pointer, what: "is no dictionary" };
        let data = &self.names.data;
        let dict = dict.as_map().ok_or_else(|| bad("/".to_owned()))?;
        let empty = Map::new();
        let records = match dict.get(data.as_str()) {
            None => &empty,
            Some(found) => {
                let pointer = || format!("/{}", data.replace('~', "~0").replace('/', "~1"));
                found.as_map().ok_or_else(|| bad(pointer()))?
            }
        };
        self.writer.change(|kv| {
            self.empty(kv)?;
            records.iter().try_for_each(|(id, record)| self.take(kv, id, record))
        })
    }
}
