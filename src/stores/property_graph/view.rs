//! Reading the records of a property graph.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Names;
use crate::kv::{KvStore, Map, Text, Value};
use crate::model::{LabelledContent, LabelledNode, Relation};
use crate::stores::StoreError;
use crate::stores::graph::joined;
use crate::stores::list::List;

/// The records as one key-value store shows them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) kv: &'a dyn KvStore,
    pub(super) names: &'a Names,
}

/// A node's record.
#[derive(Debug)]
pub(super) struct NodeRecord {
    /// Without the embedding, which is a record of its own.
    pub(super) node: LabelledNode,
    pub(super) has_embedding: bool,
    /// Where each property stands in the list of those with its value; `None` if in none.
    pub(super) handles: Vec<Option<u64>>,
}

/// A relation's record.
#[derive(Debug)]
pub(super) struct RelationRecord {
    pub(super) relation: Relation,
    pub(super) source: u64,
    pub(super) target: u64,
    /// Where it stands among the source's, the target's and its label's relations.
    pub(super) places: [u64; 3],
    /// As of a node.
    pub(super) handles: Vec<Option<u64>>,
}

/// What a list of numbers lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listed<'a> {
    /// The relations that come from a node.
    From(u64),
    /// The relations that lead to a node.
    To(u64),
    /// The relations with a label.
    Label(&'a Text),
    /// The nodes with a property of a value.
    NodeProperty(&'a Text, &'a [u8]),
    /// The relations with a property of a value.
    RelationProperty(&'a Text, &'a [u8]),
}

impl Listed<'_> {
    pub(super) fn owner(self) -> Vec<u8> {
        match self {
            Listed::From(node) => joined(&[b"f", &number_key(node)]),
            Listed::To(node) => joined(&[b"t", &number_key(node)]),
            Listed::Label(label) => joined(&[b"l", label.as_bytes()]),
            Listed::NodeProperty(key, value) => joined(&[b"n", key.as_bytes(), value]),
            Listed::RelationProperty(key, value) => joined(&[b"r", key.as_bytes(), value]),
        }
    }
}

/// Nodes that were read, by number.
pub(super) type Nodes = HashMap<u64, Arc<LabelledNode>>;

impl<'a> View<'a> {
    /// The number of the node with this id.
    pub(super) fn node_number(self, id: &Text) -> Result<Option<u64>, StoreError> {
        let names = self.names;
        match self.kv.get(&names.ids, id.as_bytes())? {
            None => Ok(None),
            Some(value) => as_number(&value).map(Some).ok_or_else(|| {
                StoreError::corrupt(&names.ids, id.as_bytes(), "is no number of a node")
            }),
        }
    }

    /// The record of a node, if there is one.
    pub(super) fn find_node(self, number: u64) -> Result<Option<NodeRecord>, StoreError> {
        let key = number_key(number);
        let Some(value) = self.kv.get(&self.names.nodes, &key)? else { return Ok(None) };
        let read = match value {
            Value::Map(map) => NodeRecord::read(map),
            _ => None,
        };
        let damaged = || StoreError::corrupt(&self.names.nodes, &key, "is no node's record");
        read.ok_or_else(damaged).map(Some)
    }

    /// A node with its embedding, if there is one.
    pub(super) fn find_whole_node(self, number: u64) -> Result<Option<LabelledNode>, StoreError> {
        let Some(record) = self.find_node(number)? else { return Ok(None) };
        let mut node = record.node;
        if record.has_embedding {
            let key = number_key(number);
            let value = self.kv.get(&self.names.embeddings, &key)?;
            node.embedding = value.as_ref().and_then(as_floats);
            if node.embedding.is_none() {
                let what = "is no embedding of a node";
                return Err(StoreError::corrupt(&self.names.embeddings, &key, what));
            }
        }
        Ok(Some(node))
    }

    /// A node that must be there, from `nodes` if it was read before.
    pub(super) fn node(
        self,
        number: u64,
        nodes: &mut Nodes,
    ) -> Result<Arc<LabelledNode>, StoreError> {
        if let Some(node) = nodes.get(&number) {
            return Ok(node.clone());
        }
        let node = self.find_whole_node(number)?.ok_or_else(|| {
            let what = "is missing, although relations or lists name it";
            StoreError::corrupt(&self.names.nodes, &number_key(number), what)
        })?;
        let node = Arc::new(node);
        nodes.insert(number, node.clone());
        Ok(node)
    }

    /// The number of the relation between two nodes with this label.
    pub(super) fn relation_number(
        self,
        source: u64,
        label: &Text,
        target: u64,
    ) -> Result<Option<u64>, StoreError> {
        let key = pair_key(source, label, target);
        match self.kv.get(&self.names.pairs, &key)? {
            None => Ok(None),
            Some(value) => as_number(&value).map(Some).ok_or_else(|| {
                StoreError::corrupt(&self.names.pairs, &key, "is no number of a relation")
            }),
        }
    }

    /// The record of a relation, if there is one.
    pub(super) fn find_relation(self, number: u64) -> Result<Option<RelationRecord>, StoreError> {
        let key = number_key(number);
        let Some(value) = self.kv.get(&self.names.relations, &key)? else { return Ok(None) };
        let read = match value {
            Value::Map(map) => RelationRecord::read(map),
            _ => None,
        };
        let damaged =
            || StoreError::corrupt(&self.names.relations, &key, "is no relation's record");
        read.ok_or_else(damaged).map(Some)
    }

    /// The record of a relation that must be there.
    pub(super) fn relation(self, number: u64) -> Result<RelationRecord, StoreError> {
        self.find_relation(number)?.ok_or_else(|| {
            let what = "is missing, although a list names it";
            StoreError::corrupt(&self.names.relations, &number_key(number), what)
        })
    }

    /// Calls `visit` with the numbers of a list, in the order in which they were added.
    pub(super) fn visit(
        self,
        listed: Listed<'_>,
        visit: &mut dyn FnMut(u64) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let owner = listed.owner();
        let list = List::load(self.kv, &self.names.lists, &*owner)?;
        list.visit(0, &mut |_, value| match as_number(&value) {
            Some(number) => visit(number),
            None => Err(StoreError::corrupt(&self.names.lists, &owner, "lists no number")),
        })
    }

    /// How many numbers a list has, from its head.
    pub(super) fn list_len(self, listed: Listed<'_>) -> Result<u64, StoreError> {
        Ok(List::load(self.kv, &self.names.lists, listed.owner())?.len())
    }

    /// Adds the numbers of a list to `numbers`.
    pub(super) fn collect(
        self,
        listed: Listed<'_>,
        numbers: &mut BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        self.visit(listed, &mut |number| {
            numbers.insert(number);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The numbers not given out yet, of nodes and of relations.
    pub(super) fn next_numbers(self) -> Result<[u64; 2], StoreError> {
        let Some(value) = self.kv.get(&self.names.numbers, b"")? else { return Ok([0, 0]) };
        let read = value.as_list().and_then(|list| match list {
            [nodes, relations] => Some([as_number(nodes)?, as_number(relations)?]),
            _ => None,
        });
        let what = "is no pair of numbers";
        read.ok_or_else(|| StoreError::corrupt(&self.names.numbers, b"", what))
    }
}

impl NodeRecord {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(6);
        map.set("id", &self.node.id);
        map.set("label", &self.node.label);
        map.set("properties", self.node.properties.clone());
        match &self.node.content {
            LabelledContent::Entity { name } => map.set("name", name),
            LabelledContent::Chunk { text } => map.set("text", text),
        };
        if self.has_embedding {
            map.set("#embedding", true);
        }
        map.set("#handles", handles_value(&self.handles));
        map.into()
    }

    fn read(mut map: Map) -> Option<Self> {
        let text = |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        };
        let content = match map.remove("name") {
            Some(name) => LabelledContent::Entity { name: text(name)? },
            None => LabelledContent::Chunk { text: text(map.remove("text")?)? },
        };
        let (id, label) = (text(map.remove("id")?)?, text(map.remove("label")?)?);
        let handles = read_handles(map.get("#handles")?)?;
        let has_embedding = map.contains_key("#embedding");
        let Value::Map(properties) = map.remove("properties")? else { return None };
        let node = LabelledNode { id, label, embedding: None, properties, content };
        Some(NodeRecord { node, has_embedding, handles })
    }
}

impl RelationRecord {
    pub(super) fn to_value(&self) -> Value {
        let Value::Map(mut map) = self.relation.to_value() else { return Value::Null };
        let [from, to, label] = self.places;
        let ours = [self.source, self.target, from, to, label].map(Value::from);
        map.set("#places", ours.to_vec());
        map.set("#handles", handles_value(&self.handles));
        map.into()
    }

    fn read(map: Map) -> Option<Self> {
        let places: Option<Vec<u64>> =
            map.get("#places")?.as_list()?.iter().map(as_number).collect();
        let [source, target, from, to, label] = <[u64; 5]>::try_from(places?).ok()?;
        let handles = read_handles(map.get("#handles")?)?;
        let relation = Relation::from_value(&map.into()).ok()?;
        Some(RelationRecord { relation, source, target, places: [from, to, label], handles })
    }
}

/// The key of a record that is found by its number.
pub(super) fn number_key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// The key under which a relation is found by its ends.
pub(super) fn pair_key(source: u64, label: &Text, target: u64) -> Vec<u8> {
    joined(&[&number_key(source), &number_key(target), label.as_bytes()])
}

pub(super) fn as_number(value: &Value) -> Option<u64> {
    u64::try_from(value.as_int()?).ok()
}

pub(super) fn as_floats(value: &Value) -> Option<Vec<f64>> {
    let float = |value: &Value| match value {
        Value::Float(float) => Some(*float),
        _ => None,
    };
    value.as_list()?.iter().map(float).collect()
}

fn handles_value(handles: &[Option<u64>]) -> Value {
    Value::List(handles.iter().map(|handle| Value::from(*handle)).collect())
}

fn read_handles(value: &Value) -> Option<Vec<Option<u64>>> {
    let handle = |value: &Value| match value {
        Value::Null => Some(None),
        other => as_number(other).map(Some),
    };
    value.as_list()?.iter().map(handle).collect()
}
