//! Walking the documents that were not cut from others.

use super::DocumentStore;
use super::txn::link;
use crate::kv::{Text, Value};
use crate::stores::StoreError;

impl DocumentStore {
    /// Calls `visit` with the id and the hash of every document that has no source itself, in no
    /// promised order: what was put in, without the nodes that were cut from it.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; [`StoreError::Kv`] if the store cannot be read.
    pub fn for_each_source(
        &self,
        visit: &mut dyn FnMut(Text, Text) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.scan(&self.inner.names.metadata, &mut |id, value| {
            let Some(metadata) = value.as_map().filter(|map| link(map).is_none()) else {
                return Ok(());
            };
            match metadata.get("doc_hash") {
                Some(Value::Text(hash)) => visit(id, hash.clone()),
                _ => Ok(()),
            }
        })
    }
}
