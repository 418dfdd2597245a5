//! Async twins, named as in LlamaIndex. They answer at once: reads come from memory or the page
//! cache, and writes are buffered.

use super::{IndexStore, IndexStruct};
use crate::kv::Text;
use crate::stores::StoreError;

impl IndexStore {
    /// Async twin of [`IndexStore::add_index_struct`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn async_add_index_struct(&self, index: &IndexStruct) -> Result<(), StoreError> {
        self.add_index_struct(index)
    }

    /// Async twin of [`IndexStore::delete_index_struct`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn adelete_index_struct(&self, id: impl Into<Text>) -> Result<bool, StoreError> {
        self.delete_index_struct(id)
    }

    /// Async twin of [`IndexStore::get_index_struct`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn aget_index_struct(
        &self,
        id: impl Into<Text>,
    ) -> Result<Option<IndexStruct>, StoreError> {
        self.get_index_struct(id)
    }

    /// Async twin of [`IndexStore::single_index_struct`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn asingle_index_struct(&self) -> Result<IndexStruct, StoreError> {
        self.single_index_struct()
    }

    /// Async twin of [`IndexStore::index_structs`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn async_index_structs(&self) -> Result<Vec<IndexStruct>, StoreError> {
        self.index_structs()
    }

    /// Async twin of [`IndexStore::persist`]; waits for the device without a thread.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn apersist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist_async().await?)
    }
}
