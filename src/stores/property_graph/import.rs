//! Taking in what LlamaIndex wrote, record by record.

use std::collections::HashMap;

use super::PropertyGraphStore;
use super::txn::Txn;
use crate::kv::{Text, Value};
use crate::model::{LabelledNode, ModelError, Relation};
use crate::stores::StoreError;

/// Takes records of LlamaIndex's `property_graph_store.json` into a store: its nodes first, then
/// its relations and triplets. Each call is one atomic batch.
///
/// LlamaIndex names an entity in relations by its id, in which double quotes are spaces. This
/// remembers those ids (one for each name with a quote in it) and gives relations the ids that are
/// kept here. An end that is nowhere becomes an entity, which repairs what deletions of LlamaIndex
/// left dangling.
#[derive(Debug)]
pub struct PropertyGraphImport {
    store: PropertyGraphStore,
    aliases: Aliases,
}

/// LlamaIndex's ids of the nodes that have another id here.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<Text, Text>);

impl PropertyGraphStore {
    /// Starts to take in records of LlamaIndex's beside what is there.
    pub fn import(&self) -> PropertyGraphImport {
        PropertyGraphImport { store: self.clone(), aliases: Aliases::default() }
    }
}

impl PropertyGraphImport {
    /// Takes in an entry of `nodes`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] if it is no node; otherwise as [`PropertyGraphStore::upsert_nodes`].
    /// Nothing was changed.
    pub fn node(&mut self, key: &Text, value: &Value) -> Result<(), StoreError> {
        self.store.change(|txn| self.aliases.node(txn, key, value))
    }

    /// Takes in an entry of `relations`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] with its key if it is no relation; otherwise as
    /// [`PropertyGraphStore::upsert_relations`]. Nothing was changed.
    pub fn relation(&mut self, key: &Text, value: &Value) -> Result<(), StoreError> {
        self.store.change(|txn| self.aliases.relation(txn, key, value))
    }

    /// Takes in an entry of `triplets`: a relation without properties, unless it is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if it is no triplet; otherwise as
    /// [`PropertyGraphStore::upsert_relations`]. Nothing was changed.
    pub fn triplet(&mut self, value: &Value) -> Result<(), StoreError> {
        self.store.change(|txn| self.aliases.triplet(txn, value))
    }
}

impl Aliases {
    pub(super) fn node(
        &mut self,
        txn: &mut Txn<'_>,
        key: &Text,
        value: &Value,
    ) -> Result<(), StoreError> {
        let node = LabelledNode::from_value(value, Some(key)).map_err(|e| invalid(key, e))?;
        txn.upsert_node(&node)?;
        if node.id != *key {
            self.0.insert(key.clone(), node.id);
        }
        Ok(())
    }

    pub(super) fn relation(
        &self,
        txn: &mut Txn<'_>,
        key: &Text,
        value: &Value,
    ) -> Result<(), StoreError> {
        let mut relation = Relation::from_value(value).map_err(|e| invalid(key, e))?;
        relation.source_id = self.resolve(relation.source_id);
        relation.target_id = self.resolve(relation.target_id);
        txn.upsert_relation(&relation)
    }

    pub(super) fn triplet(&self, txn: &mut Txn<'_>, value: &Value) -> Result<(), StoreError> {
        let Some([Value::Text(source), Value::Text(label), Value::Text(target)]) = value.as_list()
        else {
            let what = "holds something that is no list of three texts";
            return Err(StoreError::Dict { pointer: "/triplets".into(), what });
        };
        let (source, target) = (self.resolve(source.clone()), self.resolve(target.clone()));
        let ends = (txn.view.node_number(&source)?, txn.view.node_number(&target)?);
        if let (Some(from), Some(to)) = ends
            && txn.view.relation_number(from, label, to)?.is_some()
        {
            return Ok(());
        }
        txn.upsert_relation(&Relation::new(source, label, target))
    }

    /// The id that a node has here.
    fn resolve(&self, id: Text) -> Text {
        self.0.get(&id).cloned().unwrap_or(id)
    }
}

fn invalid(key: &Text, source: ModelError) -> StoreError {
    StoreError::Node { id: key.clone(), source }
}
