//! A property graph as plain lists that are searched from the start, with Python's equality
//! written out a second time.

use std::sync::Arc;

use super::super::{GraphFilter, GraphSchema, PropertyKind, Triplet};
use crate::kv::{Map, Text, Value};
use crate::model::{LabelledNode, Relation};

#[derive(Default)]
pub(super) struct Model {
    /// In the order of insertion, as the relations.
    pub(super) nodes: Vec<LabelledNode>,
    pub(super) relations: Vec<Relation>,
}

/// `a == b` in Python, for the values that the tests use.
fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    };
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => a == b,
            _ => false,
        },
    }
}

/// True if any pair of `wanted` is in `properties`.
fn any(wanted: &Map, properties: &Map) -> bool {
    wanted.iter().any(|(key, value)| equal(properties.get(key).unwrap_or(&Value::Null), value))
}

fn touches(relation: &Relation, ids: &[Text]) -> bool {
    ids.contains(&relation.source_id) || ids.contains(&relation.target_id)
}

impl Model {
    fn node(&self, id: &Text) -> &LabelledNode {
        self.nodes.iter().find(|node| node.id == *id).expect("both ends are there")
    }

    pub(super) fn upsert_node(&mut self, node: &LabelledNode) {
        match self.nodes.iter_mut().find(|known| known.id == node.id) {
            Some(known) => *known = node.clone(),
            None => self.nodes.push(node.clone()),
        }
    }

    pub(super) fn upsert_relation(&mut self, relation: &Relation) {
        for id in [&relation.source_id, &relation.target_id] {
            if self.nodes.iter().all(|node| node.id != *id) {
                self.nodes.push(LabelledNode::entity(id));
            }
        }
        let is_it = |known: &&mut Relation| {
            (&known.source_id, &known.label, &known.target_id)
                == (&relation.source_id, &relation.label, &relation.target_id)
        };
        match self.relations.iter_mut().find(is_it) {
            Some(known) => *known = relation.clone(),
            None => self.relations.push(relation.clone()),
        }
    }

    pub(super) fn get(&self, properties: &Map, ids: &[&[Text]]) -> Vec<LabelledNode> {
        let matches = |node: &&LabelledNode| {
            (properties.is_empty() || any(properties, &node.properties))
                && ids.iter().all(|ids| ids.is_empty() || ids.contains(&node.id))
        };
        self.nodes.iter().filter(matches).cloned().collect()
    }

    fn matching(&self, filter: &GraphFilter) -> Vec<Relation> {
        let matches = |relation: &&Relation| {
            let wanted = &filter.properties;
            (filter.entity_names.is_empty() || touches(relation, &filter.entity_names))
                && (filter.ids.is_empty() || touches(relation, &filter.ids))
                && (filter.relation_names.is_empty()
                    || filter.relation_names.contains(&relation.label))
                && (wanted.is_empty()
                    || any(wanted, &relation.properties)
                    || any(wanted, &self.node(&relation.source_id).properties)
                    || any(wanted, &self.node(&relation.target_id).properties))
        };
        match filter.is_empty() {
            true => Vec::new(),
            false => self.relations.iter().filter(matches).cloned().collect(),
        }
    }

    fn triplet(&self, relation: &Relation) -> Triplet {
        Triplet {
            source: Arc::new(self.node(&relation.source_id).clone()),
            relation: relation.clone(),
            target: Arc::new(self.node(&relation.target_id).clone()),
        }
    }

    pub(super) fn get_triplets(&self, filter: &GraphFilter) -> Vec<Triplet> {
        self.matching(filter).iter().map(|relation| self.triplet(relation)).collect()
    }

    /// LlamaIndex's loop, with all that was given remembered.
    pub(super) fn rel_map(&self, ids: &[Text], depth: i64, ignored: &[Text]) -> Vec<Triplet> {
        let mut found: Vec<Relation> = Vec::new();
        let mut level = ids.to_vec();
        for _ in 0..depth {
            let touched = self.relations.iter().filter(|relation| touches(relation, &level));
            let new: Vec<_> = touched.filter(|relation| !found.contains(relation)).collect();
            level = new.iter().map(|relation| relation.target_id.clone()).collect();
            found.extend(new.into_iter().cloned());
        }
        found.retain(|relation| !ignored.contains(&relation.label));
        found.iter().map(|relation| self.triplet(relation)).collect()
    }

    pub(super) fn delete(&mut self, filter: &GraphFilter) {
        if filter.is_empty() {
            return;
        }
        let relations = self.matching(filter);
        let nodes = match filter.relation_names.is_empty() {
            true => self.get(&filter.properties, &[&filter.ids, &filter.entity_names]),
            false => Vec::new(),
        };
        let ids: Vec<Text> = nodes.into_iter().map(|node| node.id).collect();
        self.relations.retain(|relation| !relations.contains(relation) && !touches(relation, &ids));
        self.nodes.retain(|node| !ids.contains(&node.id));
    }

    /// Counted anew.
    pub(super) fn schema(&self) -> GraphSchema {
        let mut schema = GraphSchema::default();
        let nodes = self.nodes.iter().map(|node| (true, &node.label, &node.properties));
        let relations = self.relations.iter();
        let relations = relations.map(|relation| (false, &relation.label, &relation.properties));
        for (is_node, label, properties) in nodes.chain(relations) {
            let labels = if is_node { &mut schema.nodes } else { &mut schema.relations };
            let label = labels.entry(label.clone()).or_default();
            label.count += 1;
            for (key, value) in properties.iter() {
                let kinds = label.properties.entry(key.clone()).or_default();
                *kinds.entry(PropertyKind::of(value)).or_default() += 1;
            }
        }
        schema
    }

    pub(super) fn vector_query(
        &self,
        query: &[f64],
        top_k: usize,
        keep: impl Fn(&LabelledNode) -> bool,
    ) -> Vec<(LabelledNode, f64)> {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let score = |stored: &[f64]| {
            product(query, stored) / (product(query, query).sqrt() * product(stored, stored).sqrt())
        };
        let mut all: Vec<(LabelledNode, f64)> = self
            .nodes
            .iter()
            .filter(|node| keep(node))
            .filter_map(|node| Some((node.clone(), score(node.embedding.as_deref()?))))
            .filter(|(_, score)| score.is_finite())
            .collect();
        all.sort_by(|(_, a), (_, b)| b.partial_cmp(a).expect("all are finite"));
        all.truncate(top_k);
        all
    }
}
