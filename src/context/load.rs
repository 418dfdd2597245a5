//! Which index a context holds: what LlamaIndex's `load_index_from_storage` and its kin look up
//! before they make an index object of it.

use super::StorageContext;
use crate::kv::Text;
use crate::stores::{IndexStore, IndexStruct, StoreError};

/// A store that index structs can be loaded from. Give a context an index store of your own with
/// it, and the functions that load indices work on that.
pub trait IndexSource {
    /// All structs, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// The store's.
    fn index_structs(&self) -> Result<Vec<IndexStruct>, StoreError>;

    /// The struct of that id, if there is one.
    ///
    /// # Errors
    ///
    /// The store's.
    fn index_struct(&self, id: &Text) -> Result<Option<IndexStruct>, StoreError>;
}

impl IndexSource for IndexStore {
    fn index_structs(&self) -> Result<Vec<IndexStruct>, StoreError> {
        IndexStore::index_structs(self)
    }

    fn index_struct(&self, id: &Text) -> Result<Option<IndexStruct>, StoreError> {
        self.get_index_struct(id)
    }
}

impl<T: IndexSource + ?Sized> IndexSource for std::sync::Arc<T> {
    fn index_structs(&self) -> Result<Vec<IndexStruct>, StoreError> {
        (**self).index_structs()
    }

    fn index_struct(&self, id: &Text) -> Result<Option<IndexStruct>, StoreError> {
        (**self).index_struct(id)
    }
}

/// What LlamaIndex makes a `ComposableGraph` of.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexGraph {
    /// The id of the index that queries start from.
    pub root_id: Text,
    /// All indices of the context.
    pub indices: Vec<IndexStruct>,
}

impl IndexGraph {
    /// The struct of the index that queries start from.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is none of that id, which loading does not check, as
    /// LlamaIndex's does not.
    pub fn root(&self) -> Result<&IndexStruct, StoreError> {
        let found = self.indices.iter().find(|index| *index.index_id() == self.root_id);
        found.ok_or_else(|| StoreError::NotFound { what: "index_id", id: self.root_id.clone() })
    }
}

impl<D, I: IndexSource, V, G, P, C> StorageContext<D, I, V, G, P, C> {
    /// The struct of the index `id`, or of the only one there is (LlamaIndex's
    /// `load_index_from_storage`). [`StructKind::index_class`] says which class it is of.
    ///
    /// [`StructKind::index_class`]: crate::stores::StructKind::index_class
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] with LlamaIndex's text if there is none of that id, or, when
    /// none is named, not exactly one; else the index store's.
    pub fn load_index(&self, id: Option<&Text>) -> Result<IndexStruct, StoreError> {
        let mut found = match id {
            Some(id) => self.load_indices(Some(std::slice::from_ref(id)))?,
            None => self.load_indices(None)?,
        };
        match (found.len(), found.pop()) {
            (1, Some(index)) => Ok(index),
            (0, _) => Err(StoreError::InvalidArgument(
                "No index in storage context, check if you specified the right persist_dir."
                    .to_owned(),
            )),
            (len, _) => Err(StoreError::InvalidArgument(format!(
                "Expected to load a single index, but got {len} instead. Please specify index_id."
            ))),
        }
    }

    /// The structs of these indices in this order, or of all (LlamaIndex's
    /// `load_indices_from_storage`).
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] with LlamaIndex's text for the first id of which there is
    /// none; else the index store's.
    pub fn load_indices(&self, ids: Option<&[Text]>) -> Result<Vec<IndexStruct>, StoreError> {
        let store = self.index_store();
        let Some(ids) = ids else { return store.index_structs() };
        let load = |id: &Text| {
            let missing = || {
                let id = crate::kv::escape_key(id.as_bytes());
                StoreError::InvalidArgument(format!("Failed to load index with ID {id}"))
            };
            store.index_struct(id)?.ok_or_else(missing)
        };
        ids.iter().map(load).collect()
    }

    /// All indices, and the one to start from (LlamaIndex's `load_graph_from_storage`).
    ///
    /// # Errors
    ///
    /// The index store's.
    pub fn load_graph(&self, root_id: impl Into<Text>) -> Result<IndexGraph, StoreError> {
        Ok(IndexGraph { root_id: root_id.into(), indices: self.load_indices(None)? })
    }
}
