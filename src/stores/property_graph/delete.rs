//! Deleting what matches.

use super::PropertyGraphStore;
use super::read::{GraphFilter, NodeFilter, RelationFilter};
use super::txn::Txn;
use super::view::Nodes;
use crate::kv::{Map, Text};
use crate::stores::StoreError;

impl PropertyGraphStore {
    /// Removes the relations that match all of `filter` ([`PropertyGraphStore::get_triplets`]);
    /// unless labels of relations are given, also the nodes that match all of it, with their
    /// relations. The other ends of relations stay. One atomic batch.
    ///
    /// A filter that is empty removes nothing. (LlamaIndex's removes both ends of every relation
    /// that matches, and all nodes if neither properties nor ids are given.)
    ///
    /// Cost: that of looking up, and for each relation and node that goes its own records.
    ///
    /// # Errors
    ///
    /// As [`PropertyGraphStore::get`]: nothing was changed.
    pub fn delete(&self, filter: &GraphFilter) -> Result<(), StoreError> {
        if filter.is_empty() {
            return Ok(());
        }
        self.change(|txn| {
            let mut relations = Vec::new();
            let mut nodes = Nodes::new();
            RelationFilter::new(filter).visit(txn.view, &mut nodes, &mut |number, _, _| {
                relations.push(number);
                Ok(())
            })?;
            for number in relations {
                txn.delete_relation(number)?;
            }
            if filter.relation_names.is_empty() {
                delete_nodes(txn, &filter.properties, &[&filter.ids, &filter.entity_names])?;
            }
            Ok(())
        })
    }

    /// Removes what came from LlamaIndex's nodes: the nodes with these ids, those whose
    /// `triplet_source_id` is one of them, and those whose `ref_doc_id` is one of `ref_doc_ids`;
    /// with their relations. One atomic batch. Nothing given removes nothing.
    ///
    /// # Errors
    ///
    /// As [`PropertyGraphStore::delete`].
    pub fn delete_llama_nodes(
        &self,
        node_ids: &[Text],
        ref_doc_ids: &[Text],
    ) -> Result<(), StoreError> {
        self.change(|txn| {
            if !node_ids.is_empty() {
                delete_nodes(txn, &Map::new(), &[node_ids])?;
            }
            let named = node_ids.iter().map(|id| ("triplet_source_id", id));
            for (key, id) in named.chain(ref_doc_ids.iter().map(|id| ("ref_doc_id", id))) {
                delete_nodes(txn, &[(key, id)].into_iter().collect(), &[])?;
            }
            Ok(())
        })
    }
}

/// Removes the nodes with any of `properties` and one of each of `ids` that is not empty.
/// Requires: something is given.
fn delete_nodes(txn: &mut Txn<'_>, properties: &Map, ids: &[&[Text]]) -> Result<(), StoreError> {
    for number in NodeFilter::new(properties, ids).numbers(txn.view)? {
        txn.delete_node(number)?;
    }
    Ok(())
}
