//! Async twins, named as in LlamaIndex. Reads come from memory or the page cache and writes are
//! buffered: all of them answer at once.

use super::{MetadataFilters, VectorQuery, VectorQueryResult, VectorStore};
use crate::kv::Text;
use crate::model::Node;
use crate::stores::StoreError;

/// Twins that call their methods.
macro_rules! twins {
    ($($(#[$doc:meta])* $twin:ident = $method:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl VectorStore {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// As its twin.
                pub async fn $twin(&self, $($arg: $kind),*) -> Result<$out, StoreError> {
                    self.$method($($arg),*)
                }
            )*
        }
    };
}

twins! {
    /// Async twin of [`VectorStore::add`].
    async_add = add(nodes: &[Node]) -> Vec<Text>;
    /// Async twin of [`VectorStore::delete`].
    adelete = delete(ref_doc_id: impl Into<Text>) -> ();
    /// Async twin of [`VectorStore::delete_nodes`].
    adelete_nodes = delete_nodes(
        node_ids: Option<&[Text]>,
        filters: Option<&MetadataFilters>
    ) -> ();
    /// Async twin of [`VectorStore::clear`].
    aclear = clear() -> ();
    /// Async twin of [`VectorStore::query`].
    aquery = query(query: &VectorQuery) -> VectorQueryResult;
    /// Async twin of [`VectorStore::get_nodes`].
    aget_nodes = get_nodes() -> Vec<Node>;
}

impl VectorStore {
    /// Async twin of [`VectorStore::persist`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn apersist(&self) -> Result<(), StoreError> {
        Ok(self.inner.writer.kv().persist_async().await?)
    }
}
