//! One change of a property graph: records read, changed and put back inside one batch.

use std::collections::{BTreeMap, BTreeSet};

use super::properties::canonical;
use super::view::{Listed, NodeRecord, RelationRecord, View, number_key, pair_key};
use super::{Names, schema};
use crate::kv::{KvStore, Map, Text, Value};
use crate::model::{LabelledNode, Relation};
use crate::stores::StoreError;
use crate::stores::list::List;

/// A change in the making.
pub(super) struct Txn<'a> {
    pub(super) view: View<'a>,
    /// The numbers not given out yet, of nodes and of relations; `None` until one is needed.
    next: Option<[u64; 2]>,
    /// By how much the counts of the schema change.
    counts: BTreeMap<schema::Counted, i64>,
}

/// Whose properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Node,
    Relation,
}

impl Of {
    fn list<'a>(self, key: &'a Text, value: &'a [u8]) -> Listed<'a> {
        match self {
            Of::Node => Listed::NodeProperty(key, value),
            Of::Relation => Listed::RelationProperty(key, value),
        }
    }
}

impl<'a> Txn<'a> {
    pub(super) fn new(kv: &'a dyn KvStore, names: &'a Names) -> Self {
        Txn { view: View { kv, names }, next: None, counts: BTreeMap::new() }
    }

    /// Puts what was kept back until now: counters.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let View { kv, names } = self.view;
        if let Some(next) = self.next {
            kv.put(&names.numbers, b"", &next.map(Value::from).to_vec().into())?;
        }
        for (counted, change) in self.counts {
            counted.add(self.view, change)?;
        }
        Ok(())
    }

    /// Adds or replaces a node; returns its number.
    pub(super) fn upsert_node(&mut self, node: &LabelledNode) -> Result<u64, StoreError> {
        let View { kv, names } = self.view;
        let (number, old) = match self.view.node_number(&node.id)? {
            Some(number) => (number, self.view.find_node(number)?),
            None => {
                let number = self.take_number(0)?;
                kv.put(&names.ids, node.id.as_bytes(), &number.into())?;
                (number, None)
            }
        };
        let key = number_key(number);
        let had_embedding = old.as_ref().is_some_and(|old| old.has_embedding);
        match &node.embedding {
            Some(floats) => {
                let floats: Vec<Value> = floats.iter().map(|float| Value::Float(*float)).collect();
                kv.put(&names.embeddings, &key, &floats.into())?;
            }
            None if had_embedding => drop(kv.delete(&names.embeddings, &key)?),
            None => {}
        }
        if let Some(old) = &old {
            self.count(schema::Of::Node, &old.node.label, &old.node.properties, -1);
        }
        self.count(schema::Of::Node, &node.label, &node.properties, 1);
        let (empty, none) = (Map::new(), Vec::new());
        let old = old.as_ref().map_or((&empty, &none), |old| (&old.node.properties, &old.handles));
        let handles = self.reindex(Of::Node, number, old, &node.properties)?;
        let has_embedding = node.embedding.is_some();
        let node = LabelledNode { embedding: None, ..node.clone() };
        let record = NodeRecord { node, has_embedding, handles };
        kv.put(&names.nodes, &key, &record.to_value())?;
        Ok(number)
    }

    /// The number of a relation's end, which becomes an entity if there is no such node.
    fn end(&mut self, id: &Text) -> Result<u64, StoreError> {
        match self.view.node_number(id)? {
            Some(number) => Ok(number),
            None => self.upsert_node(&LabelledNode::entity(id)),
        }
    }

    /// Adds a relation, or replaces the properties of the one that is there.
    pub(super) fn upsert_relation(&mut self, relation: &Relation) -> Result<(), StoreError> {
        let View { kv, names } = self.view;
        let (source, target) = (self.end(&relation.source_id)?, self.end(&relation.target_id)?);
        let known = self.view.relation_number(source, &relation.label, target)?;
        let old = known.map(|number| self.view.relation(number)).transpose()?;
        let number = match known {
            Some(number) => number,
            None => self.take_number(1)?,
        };
        let places = match &old {
            Some(old) => {
                self.count(schema::Of::Relation, &relation.label, &old.relation.properties, -1);
                old.places
            }
            None => {
                let key = pair_key(source, &relation.label, target);
                kv.put(&names.pairs, &key, &number.into())?;
                [
                    self.enlist(Listed::From(source), number)?,
                    self.enlist(Listed::To(target), number)?,
                    self.enlist(Listed::Label(&relation.label), number)?,
                ]
            }
        };
        self.count(schema::Of::Relation, &relation.label, &relation.properties, 1);
        let (empty, none) = (Map::new(), Vec::new());
        let old = old.as_ref().map(|old| (&old.relation.properties, &old.handles));
        let old = old.unwrap_or((&empty, &none));
        let handles = self.reindex(Of::Relation, number, old, &relation.properties)?;
        let relation = relation.clone();
        let record = RelationRecord { relation, source, target, places, handles };
        kv.put(&names.relations, &number_key(number), &record.to_value())?;
        Ok(())
    }

    /// Removes a relation; its ends stay. Nothing happens if it is not there.
    pub(super) fn delete_relation(&mut self, number: u64) -> Result<(), StoreError> {
        let View { kv, names } = self.view;
        let Some(record) = self.view.find_relation(number)? else { return Ok(()) };
        let RelationRecord { relation, source, target, places, handles } = &record;
        let [from, to, label] = *places;
        self.delist(Listed::From(*source), from, number)?;
        self.delist(Listed::To(*target), to, number)?;
        self.delist(Listed::Label(&relation.label), label, number)?;
        self.count(schema::Of::Relation, &relation.label, &relation.properties, -1);
        self.reindex(Of::Relation, number, (&relation.properties, handles), &Map::new())?;
        kv.delete(&names.pairs, &pair_key(*source, &relation.label, *target))?;
        kv.delete(&names.relations, &number_key(number))?;
        Ok(())
    }

    /// Removes a node with its relations. Nothing happens if it is not there.
    pub(super) fn delete_node(&mut self, number: u64) -> Result<(), StoreError> {
        let View { kv, names } = self.view;
        let Some(record) = self.view.find_node(number)? else { return Ok(()) };
        let mut relations = BTreeSet::new();
        self.view.collect(Listed::From(number), &mut relations)?;
        self.view.collect(Listed::To(number), &mut relations)?;
        for relation in relations {
            self.delete_relation(relation)?;
        }
        let NodeRecord { node, has_embedding, handles } = &record;
        self.count(schema::Of::Node, &node.label, &node.properties, -1);
        self.reindex(Of::Node, number, (&node.properties, handles), &Map::new())?;
        if *has_embedding {
            kv.delete(&names.embeddings, &number_key(number))?;
        }
        kv.delete(&names.ids, node.id.as_bytes())?;
        kv.delete(&names.nodes, &number_key(number))?;
        Ok(())
    }

    /// Takes `number` out of the lists of values that it no longer has and puts it into those of
    /// new ones. Returns its place in the list of each property.
    fn reindex(
        &mut self,
        of: Of,
        number: u64,
        (old, old_handles): (&Map, &Vec<Option<u64>>),
        new: &Map,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let mut handles = Vec::with_capacity(new.len());
        let mut kept = BTreeSet::new();
        let known: BTreeMap<&Text, (&Value, Option<u64>)> = old
            .iter()
            .zip(old_handles)
            .map(|((key, value), handle)| (key, (value, *handle)))
            .collect();
        for (key, value) in new.iter() {
            let form = canonical(value);
            let old = known.get(key).filter(|(old, _)| canonical(old) == form);
            handles.push(match (form, old) {
                (None, _) => None,
                (Some(_), Some((_, Some(handle)))) => {
                    kept.insert(key);
                    Some(*handle)
                }
                (Some(form), _) => Some(self.enlist(of.list(key, &form), number)?),
            });
        }
        for (key, (value, handle)) in known {
            if let (false, Some(handle), Some(form)) =
                (kept.contains(key), handle, canonical(value))
            {
                self.delist(of.list(key, &form), handle, number)?;
            }
        }
        Ok(handles)
    }

    /// Adds `number` to a list; returns its place there.
    fn enlist(&self, listed: Listed<'_>, number: u64) -> Result<u64, StoreError> {
        let owner = listed.owner();
        let mut list = List::load(self.view.kv, &self.view.names.lists, &*owner)?;
        let handle = list.push(number.into())?;
        list.save()?;
        Ok(handle)
    }

    /// Takes `number` out of a list.
    fn delist(&self, listed: Listed<'_>, handle: u64, number: u64) -> Result<(), StoreError> {
        let owner = listed.owner();
        let lists = &self.view.names.lists;
        let mut list = List::load(self.view.kv, lists, &*owner)?;
        let item = Value::from(number);
        if list.remove_in(handle, |listed| *listed == item)?.is_none() {
            let what = "does not list what says that it is there";
            return Err(StoreError::corrupt(lists, &owner, what));
        }
        list.save()
    }

    /// Counts a label and its properties in the schema.
    fn count(&mut self, of: schema::Of, label: &Text, properties: &Map, change: i64) {
        for counted in schema::Counted::all(of, label, properties) {
            *self.counts.entry(counted).or_default() += change;
        }
    }

    /// A new number of a node (`which` is 0) or of a relation (1).
    fn take_number(&mut self, which: usize) -> Result<u64, StoreError> {
        let next = match &mut self.next {
            Some(next) => next,
            None => self.next.insert(self.view.next_numbers()?),
        };
        let [nodes, relations] = next;
        let next = if which == 0 { nodes } else { relations };
        *next += 1;
        Ok(*next - 1)
    }
}
