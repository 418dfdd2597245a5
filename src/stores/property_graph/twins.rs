//! Async twins, named as in LlamaIndex. They answer at once: reads come from memory or the page
//! cache, and writes wait for no device.

use super::{GraphFilter, GraphSchema, PropertyGraphStore, Triplet};
use crate::kv::{Map, Text, Value};
use crate::model::{LabelledNode, Node, Relation};
use crate::stores::StoreError;

/// Methods whose async twin calls them.
macro_rules! twins {
    ($($(#[$doc:meta])* $twin:ident = $method:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl PropertyGraphStore {
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
    /// Async twin of [`PropertyGraphStore::get`].
    aget = get(properties: &Map, ids: &[Text]) -> Vec<LabelledNode>;
    /// Async twin of [`PropertyGraphStore::get_triplets`].
    aget_triplets = get_triplets(filter: &GraphFilter) -> Vec<Triplet>;
    /// Async twin of [`PropertyGraphStore::get_rel_map`].
    aget_rel_map = get_rel_map(
        ids: &[Text],
        depth: i64,
        limit: i64,
        ignore_rels: &[Text]
    ) -> Vec<Triplet>;
    /// Async twin of [`PropertyGraphStore::get_llama_nodes`].
    aget_llama_nodes = get_llama_nodes(node_ids: &[Text]) -> Vec<Node>;
    /// Async twin of [`PropertyGraphStore::upsert_nodes`].
    aupsert_nodes = upsert_nodes(nodes: &[LabelledNode]) -> ();
    /// Async twin of [`PropertyGraphStore::upsert_relations`].
    aupsert_relations = upsert_relations(relations: &[Relation]) -> ();
    /// Async twin of [`PropertyGraphStore::upsert_llama_nodes`].
    aupsert_llama_nodes = upsert_llama_nodes(nodes: &[Node]) -> ();
    /// Async twin of [`PropertyGraphStore::delete`].
    adelete = delete(filter: &GraphFilter) -> ();
    /// Async twin of [`PropertyGraphStore::delete_llama_nodes`].
    adelete_llama_nodes = delete_llama_nodes(node_ids: &[Text], ref_doc_ids: &[Text]) -> ();
    /// Async twin of [`PropertyGraphStore::get_schema`].
    aget_schema = get_schema() -> GraphSchema;
    /// Async twin of [`PropertyGraphStore::structured_query`].
    astructured_query = structured_query(query: &str) -> Value;
    /// Async twin of [`PropertyGraphStore::vector_query`].
    avector_query = vector_query(
        embedding: &[f64],
        top_k: usize,
        keep: impl Fn(&LabelledNode) -> bool
    ) -> Vec<(LabelledNode, f64)>;
}

impl PropertyGraphStore {
    /// Async twin of [`PropertyGraphStore::persist`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn apersist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist_async().await?)
    }
}
