//! LlamaIndex's nodes as chunks of the graph.

use super::PropertyGraphStore;
use crate::kv::{Map, Text};
use crate::model::{KeptContent, LabelledNode, Node};
use crate::stores::StoreError;

impl PropertyGraphStore {
    /// Adds nodes as chunks of text under their ids; what else they are becomes properties
    /// ([`Node::to_metadata_dict`]). One atomic batch.
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] if a node names several source documents; otherwise as
    /// [`PropertyGraphStore::upsert_nodes`]. Nothing was changed.
    pub fn upsert_llama_nodes(&self, nodes: &[Node]) -> Result<(), StoreError> {
        let chunks: Result<Vec<_>, _> = nodes.iter().map(chunk).collect();
        self.upsert_nodes(&chunks?)
    }

    /// The nodes that were added as chunks under these ids, in the order of insertion, without
    /// their embeddings; all of them if no id is given, as in LlamaIndex. Documents come back as
    /// text nodes. What is none of them is left out.
    ///
    /// # Errors
    ///
    /// As [`PropertyGraphStore::get`].
    pub fn get_llama_nodes(&self, node_ids: &[Text]) -> Result<Vec<Node>, StoreError> {
        let found = self.get(&Map::new(), node_ids)?;
        let node = |chunk: &LabelledNode| {
            let text = chunk.text()?;
            Node::from_metadata_dict(&chunk.properties, Some(text)).ok()
        };
        Ok(found.iter().filter_map(node).collect())
    }
}

fn chunk(node: &Node) -> Result<LabelledNode, StoreError> {
    let properties = node
        .to_metadata_dict(KeptContent::WithoutText)
        .map_err(|source| StoreError::Node { id: node.id.clone(), source })?;
    let mut chunk = LabelledNode::chunk(&node.id, node.content_text());
    chunk.properties = properties;
    chunk.embedding = node.embedding.clone();
    Ok(chunk)
}
