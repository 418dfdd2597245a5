//! [`GivenStores`]: stores that an export writes in the place of those of the key-value store.

use super::export::{Failed, Out};
use crate::kv::Value;
use crate::stores::{
    ChatStore, DocumentStore, GraphStore, IndexStore, PropertyGraphStore, StoreError, VectorStore,
};

/// A store that is not in the key-value store that is exported, or not where that has it.
pub(crate) enum Given<'a, T> {
    /// One of this crate's, written record by record.
    Ours(&'a T),
    /// Any other: gives itself as LlamaIndex's dictionary of such a store.
    Other(Box<dyn Fn() -> Result<Value, StoreError> + 'a>),
}

/// The stores that are given. `None` stands for that of the key-value store.
#[derive(Default)]
pub(crate) struct GivenStores<'a> {
    pub(crate) documents: Option<Given<'a, DocumentStore>>,
    pub(crate) structs: Option<Given<'a, IndexStore>>,
    pub(crate) graph: Option<Given<'a, GraphStore>>,
    pub(crate) property_graph: Option<Given<'a, PropertyGraphStore>>,
    pub(crate) chats: Option<Given<'a, ChatStore>>,
    /// Chats are not asked for.
    pub(crate) without_chats: bool,
    /// All namespaces there are, with the given stores; else the key-value store says which.
    pub(crate) vectors: Option<Vec<(String, Option<Given<'a, VectorStore>>)>>,
}

impl<T> Given<'_, T> {
    /// Writes the file of the store; `write` does it for one of this crate's.
    pub(super) fn write(
        &self,
        out: &mut Out<'_>,
        write: impl FnOnce(&mut Out<'_>, &T) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        match self {
            Given::Ours(store) => write(out, store),
            Given::Other(to_dict) => out.item(&to_dict()?),
        }
    }
}

impl Given<'_, ChatStore> {
    /// True if it is known to hold nothing.
    pub(super) fn is_empty(&self) -> Result<bool, StoreError> {
        match self {
            Given::Ours(store) => Ok(store.get_keys()?.is_empty()),
            Given::Other(_) => Ok(false),
        }
    }
}
