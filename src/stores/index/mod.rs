//! The index store: LlamaIndex's `KVIndexStore`, with the members of an index as records.
//!
//! # What is kept
//!
//! With the default namespace `index_store`:
//!
//! ```text
//! collection                 key         value
//! index_store/data           index id    {__type__, #order, #summary [, #index_id]}
//! index_store/data.members   "", "#.."   the ids in their order, see `stores/directory.rs`
//!                            others      see `stored.rs`
//! ```
//!
//! LlamaIndex keeps a struct as one record, its fields as JSON text in `__data__`, and writes all
//! of it anew for each node that comes or goes. Here what the struct holds is records of its own
//! (see `stored.rs`), and [`IndexStore::edit`] changes one without touching the others. A record
//! with `__data__` is LlamaIndex's own, as import puts it if it cannot be taken apart; it is read
//! like any other and taken apart when it is first changed.
//!
//! `#order` is the struct's serial number in the directory, under which its members are kept.
//! `index_structs` has the order of a Python dictionary: overwriting keeps a struct's place.
//!
//! # Atomicity
//!
//! Each call that writes is one atomic batch, so a crash leaves all of it or nothing.

mod dict;
mod kind;
mod methods;
mod reversed;
mod stored;
mod structure;
mod twins;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::StoreError;
use super::directory::Directory;
use super::list::number;
use super::writer::Writer;
use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore, Map, Text, Value};

pub use kind::StructKind;
pub use methods::StructMethods;
pub use stored::StoredStruct;
pub use structure::IndexStruct;

use stored::Head;

/// Stores index structs: what an index knows of its nodes.
///
/// Clones share one store; so do others made over the same key-value store, if that has a
/// [`writer_lock`](KvStore::writer_lock) of its own, as ours have.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::stores::{IndexStore, IndexStruct, StructKind, StructMethods};
///
/// let store = IndexStore::new(Arc::new(MemoryKv::new()));
/// store.add_index_struct(&IndexStruct::new(StructKind::VectorStore, "my-index"))?;
/// // One node more: costs the same whether the index has ten nodes or a million.
/// store.edit("my-index", |index| index.add_node("n1"))?;
/// let index = store.get_index_struct("my-index")?;
/// assert_eq!(index.map(|index| index.size()).transpose()?, Some(1));
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct IndexStore {
    writer: Writer,
    names: Arc<Names>,
}

/// What follows the name of a store's collection in that of the one with the members.
pub(crate) const MEMBERS: &str = ".members";

/// Name of an index store's collection: the namespace followed by a suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexStoreOptions {
    /// Default: `index_store`, also if it is empty.
    pub namespace: String,
    /// Default: `/data`, also if it is empty.
    pub collection_suffix: String,
}

impl Default for IndexStoreOptions {
    fn default() -> Self {
        IndexStoreOptions {
            namespace: "index_store".to_owned(),
            collection_suffix: "/data".to_owned(),
        }
    }
}

/// The collections of a store.
struct Names {
    data: String,
    members: String,
}

/// A struct's record, as found.
enum Found {
    /// Its members are records.
    Ours(Head),
    /// Written by LlamaIndex.
    Plain(Value),
}

impl IndexStore {
    /// The store in the default namespace of `kv`, `index_store`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        IndexStore::with_namespace(kv, "")
    }

    /// The store in another namespace; an empty one stands for the default.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        IndexStore::from_writer(Writer::new(kv), namespace)
    }

    /// The store in a collection of another name: LlamaIndex's
    /// `KVIndexStore(kvstore, namespace, collection_suffix)`.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use siltstone::kv::{KvStore, MemoryKv};
    /// # use siltstone::stores::{IndexStore, IndexStoreOptions, IndexStruct, StructKind};
    /// let mut options = IndexStoreOptions::default();
    /// options.collection_suffix = "_structs".into();
    /// let kv = Arc::new(MemoryKv::new());
    /// let store = IndexStore::with_options(kv.clone(), &options);
    /// store.add_index_struct(&IndexStruct::new(StructKind::List, "list"))?;
    /// assert_eq!(kv.len("index_store_structs")?, 1);
    /// # Ok::<(), siltstone::stores::StoreError>(())
    /// ```
    pub fn with_options(kv: Arc<dyn KvStore>, options: &IndexStoreOptions) -> Self {
        IndexStore::from_options(Writer::new(kv), options)
    }

    /// As [`IndexStore::with_namespace`], with a lock that other stores share.
    pub(crate) fn from_writer(writer: Writer, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        IndexStore::from_options(writer, &IndexStoreOptions { namespace, ..<_>::default() })
    }

    fn from_options(writer: Writer, options: &IndexStoreOptions) -> Self {
        let default = IndexStoreOptions::default();
        let or = |given: &str, default: String| {
            if given.is_empty() { default } else { given.to_owned() }
        };
        let mut data = or(&options.namespace, default.namespace);
        data.push_str(&or(&options.collection_suffix, default.collection_suffix));
        let names = Names { members: format!("{data}{MEMBERS}"), data };
        IndexStore { writer, names: Arc::new(names) }
    }

    /// Stores a struct under its id. If there is one of that id and kind, only what differs is
    /// written; to add or remove a few nodes use [`IndexStore::edit`], which does not even read the
    /// others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written, [`StoreError::Corrupt`] if what is there
    /// is damaged.
    pub fn add_index_struct(&self, index: &IndexStruct) -> Result<(), StoreError> {
        self.writer.change(|kv| self.put(kv, index.index_id(), index))
    }

    /// Removes the struct stored under `id`; true if there was one.
    ///
    /// # Errors
    ///
    /// As [`IndexStore::add_index_struct`].
    pub fn delete_index_struct(&self, id: impl Into<Text>) -> Result<bool, StoreError> {
        let id = id.into();
        self.writer.change(|kv| self.delete(kv, &id))
    }

    /// The struct stored under `id`, all of it, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownType`] or [`StoreError::Dict`] if LlamaIndex's record is of a type
    /// without a class or malformed; [`StoreError::Corrupt`] if ours are damaged.
    pub fn get_index_struct(&self, id: impl Into<Text>) -> Result<Option<IndexStruct>, StoreError> {
        let id = id.into();
        self.writer.read(|kv| self.get(kv, &id))
    }

    /// The only struct that is stored (LlamaIndex's `get_index_struct` without an id).
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if there is not exactly one; else as
    /// [`IndexStore::get_index_struct`].
    pub fn single_index_struct(&self) -> Result<IndexStruct, StoreError> {
        let ids = self.index_ids()?;
        let found = match ids.as_slice() {
            [only] => self.get_index_struct(only)?,
            _ => None,
        };
        found.ok_or_else(|| {
            let message = format!("there are {} index structs, so an id is needed", ids.len());
            StoreError::InvalidArgument(message)
        })
    }

    /// All structs in the order in which they were first added. Holds all of them in memory: see
    /// [`IndexStore::index_ids`].
    ///
    /// # Errors
    ///
    /// As [`IndexStore::get_index_struct`].
    pub fn index_structs(&self) -> Result<Vec<IndexStruct>, StoreError> {
        let mut all = Vec::new();
        for id in self.index_ids()? {
            all.extend(self.get_index_struct(id)?);
        }
        Ok(all)
    }

    /// The ids of all structs in the order in which they were first added.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if bookkeeping is damaged.
    pub fn index_ids(&self) -> Result<Vec<Text>, StoreError> {
        self.writer.read(|kv| {
            let mut ids = Directory::load(kv, &self.names.members)?.ids()?;
            if kv.len(&self.names.data)? != ids.len() as u64 {
                // LlamaIndex wrote some into the key-value store itself; those come last.
                let listed: BTreeSet<Text> = ids.iter().cloned().collect();
                kv.scan(&self.names.data, &mut |key, _| {
                    ids.extend(Text::from_bytes(key).ok().filter(|id| !listed.contains(id)));
                    Ok(())
                })?;
            }
            Ok(ids)
        })
    }

    /// Changes the struct stored under `id` in one atomic batch, or not at all if `edit` fails.
    /// Each method of [`StructMethods`] that changes a node costs the same whatever the size of
    /// the struct. `edit` may read other stores; a
    /// change of one that it begins is refused.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is none, and `edit`'s own.
    pub fn edit<T>(
        &self,
        id: impl Into<Text>,
        edit: impl FnOnce(&mut StoredStruct<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let id = id.into();
        self.writer.change(|kv| {
            let head = match self.find(kv, &id)? {
                Some(Found::Ours(head)) => head,
                Some(Found::Plain(record)) => {
                    self.put(kv, &id, &IndexStruct::from_value(&id, &record)?)?;
                    let Some(Found::Ours(head)) = self.find(kv, &id)? else {
                        return Err(self.malformed(&id));
                    };
                    head
                }
                None => return Err(StoreError::NotFound { what: "index_id", id }),
            };
            let mut stored = StoredStruct::new(kv, &self.names.members, head);
            let done = edit(&mut stored)?;
            if let Some(head) = stored.finish()? {
                kv.put(&self.names.data, id.as_bytes(), &head.to_value(&id))?;
            }
            Ok(done)
        })
    }

    /// Reads parts of the struct stored under `id`, without reading the others. `read` must not
    /// call the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is none, [`StoreError::InvalidArgument`] if it is still in
    /// LlamaIndex's form, and `read`'s own.
    pub fn view<T>(
        &self,
        id: impl Into<Text>,
        read: impl FnOnce(&StoredStruct<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let id = id.into();
        self.writer.read(|kv| match self.find(kv, &id)? {
            Some(Found::Ours(head)) => read(&StoredStruct::new(kv, &self.names.members, head)),
            Some(Found::Plain(_)) => Err(StoreError::InvalidArgument(format!(
                "index struct {id} is still in LlamaIndex's form; add it to the store first"
            ))),
            None => Err(StoreError::NotFound { what: "index_id", id }),
        })
    }

    /// [`StructMethods::add_node`] on the struct stored under `id`.
    ///
    /// # Errors
    ///
    /// As [`IndexStore::edit`].
    pub fn add_node(
        &self,
        id: impl Into<Text>,
        node_id: impl Into<Text>,
    ) -> Result<(), StoreError> {
        self.edit(id, |index| index.add_node(node_id))
    }

    /// [`StructMethods::delete_node`] on the struct stored under `id`.
    ///
    /// # Errors
    ///
    /// As [`IndexStore::edit`].
    pub fn delete_node(
        &self,
        id: impl Into<Text>,
        node_id: impl Into<Text>,
    ) -> Result<bool, StoreError> {
        self.edit(id, |index| index.delete_node(node_id))
    }

    /// Removes everything from the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.writer.change(|kv| self.empty(kv))
    }

    /// Makes everything written so far durable, in all stores over the same key-value store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; its source says what became of the data.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist()?)
    }

    // What the methods do within a change.

    fn empty(&self, kv: &dyn KvStore) -> Result<(), StoreError> {
        let mut batch = KvBatch::new();
        for name in [&self.names.data, &self.names.members] {
            batch.clear(name)?;
        }
        kv.write(batch, Durability::Buffered)?;
        Ok(())
    }

    /// Removes everything but records that `is_kept` is true for: they are another store's.
    pub(crate) fn clear_but(&self, is_kept: &dyn Fn(&Value) -> bool) -> Result<(), StoreError> {
        self.writer.change(|kv| {
            let mut batch = KvBatch::new();
            batch.clear(&self.names.members)?;
            kv.scan(&self.names.data, &mut |key, record| match is_kept(&record) {
                true => Ok(()),
                false => batch.delete(&self.names.data, key),
            })?;
            kv.write(batch, Durability::Buffered)?;
            Ok(())
        })
    }

    fn get(&self, kv: &dyn KvStore, id: &Text) -> Result<Option<IndexStruct>, StoreError> {
        match self.find(kv, id)? {
            None => Ok(None),
            Some(Found::Plain(record)) => IndexStruct::from_value(id, &record).map(Some),
            Some(Found::Ours(head)) => {
                StoredStruct::new(kv, &self.names.members, head).assemble().map(Some)
            }
        }
    }

    fn put(&self, kv: &dyn KvStore, id: &Text, index: &IndexStruct) -> Result<(), StoreError> {
        let serial = match self.find(kv, id)? {
            Some(Found::Ours(head)) if head.kind == index.kind() => head.serial,
            Some(Found::Ours(head)) => {
                let serial = head.serial;
                let mut old = StoredStruct::new(kv, &self.names.members, head);
                old.clear()?;
                old.finish()?;
                serial
            }
            Some(Found::Plain(record)) => match record.as_map().and_then(serial) {
                Some(serial) => serial,
                None => self.enter(kv, id)?,
            },
            None => self.enter(kv, id)?,
        };
        let head = Head {
            kind: index.kind(),
            index_id: index.index_id().clone(),
            summary: index.summary().cloned(),
            serial,
        };
        kv.put(&self.names.data, id.as_bytes(), &head.to_value(id))?;
        let mut stored = StoredStruct::new(kv, &self.names.members, head);
        stored.become_like(index)?;
        stored.finish().map(drop)
    }

    fn delete(&self, kv: &dyn KvStore, id: &Text) -> Result<bool, StoreError> {
        let serial = match self.find(kv, id)? {
            None => return Ok(false),
            Some(Found::Plain(record)) => record.as_map().and_then(serial),
            Some(Found::Ours(head)) => {
                let serial = head.serial;
                let mut stored = StoredStruct::new(kv, &self.names.members, head);
                stored.clear()?;
                stored.finish()?;
                Some(serial)
            }
        };
        kv.delete(&self.names.data, id.as_bytes())?;
        if let Some(serial) = serial {
            let mut directory = Directory::load(kv, &self.names.members)?;
            directory.leave(serial, id)?;
            directory.save()?;
        }
        Ok(true)
    }

    /// Lists a new id; returns its serial number.
    fn enter(&self, kv: &dyn KvStore, id: &Text) -> Result<u64, StoreError> {
        let mut directory = Directory::load(kv, &self.names.members)?;
        let serial = directory.enter(id)?;
        directory.save()?;
        Ok(serial)
    }

    fn find(&self, kv: &dyn KvStore, id: &Text) -> Result<Option<Found>, StoreError> {
        let Some(record) = kv.get(&self.names.data, id.as_bytes())? else { return Ok(None) };
        if record.get("__data__").is_some() {
            return Ok(Some(Found::Plain(record)));
        }
        let head = record.as_map().and_then(|map| Head::read(id, map));
        head.map(Found::Ours).map(Some).ok_or_else(|| self.malformed(id))
    }

    fn malformed(&self, id: &Text) -> StoreError {
        StoreError::corrupt(&self.names.data, id.as_bytes(), "is no index struct")
    }
}

impl Head {
    fn to_value(&self, key: &Text) -> Value {
        let mut map = Map::with_capacity(4);
        map.set("__type__", self.kind.name());
        map.set("#order", self.serial);
        map.set("#summary", self.summary.clone());
        if self.index_id != *key {
            map.set("#index_id", &self.index_id);
        }
        map.into()
    }

    /// Reads the record. `None` if it is malformed.
    fn read(key: &Text, map: &Map) -> Option<Head> {
        Some(Head {
            kind: StructKind::from_name(map.get("__type__")?.as_text()?.as_str()?)?,
            index_id: map.get("#index_id").map_or(Some(key), Value::as_text)?.clone(),
            summary: map.get("#summary").and_then(Value::as_text).cloned(),
            serial: serial(map)?,
        })
    }
}

fn serial(record: &Map) -> Option<u64> {
    number(record, "#order")
}

impl std::fmt::Debug for IndexStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexStore").field("data", &self.names.data).finish()
    }
}

#[cfg(test)]
mod tests;
