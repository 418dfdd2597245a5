//! In and out of the dictionary that LlamaIndex's `SimplePropertyGraphStore` persists:
//! `{"nodes": {id: node}, "relations": {key: relation}, "triplets": [[source, label, target]]}`.
//!
//! **Quotes.** LlamaIndex computes an entity's id from its name, with spaces for double quotes, and
//! looks for that when the entity is put in again. So an entity `a"b` is given out under `a b`, and
//! relations name it so, unless another node has that id: then it goes out under its own. Its name
//! is given out as it is, from which taking in restores the id.

use std::collections::HashMap;

use super::PropertyGraphStore;
use super::import::Aliases;
use super::txn::Txn;
use super::view::{View, as_number};
use crate::kv::{Map, Text, Value};
use crate::model::Relation;
use crate::stores::StoreError;

/// Relations whose LlamaIndex key has at most so many underscores are told from others with the
/// same key; each possible way to read the key costs a lookup.
const UNDERSCORES_MAX: usize = 40;

impl PropertyGraphStore {
    /// Calls `visit` with the key and the value of every entry of LlamaIndex's `nodes`, in the
    /// order of insertion, holding one at a time, and in memory the names with double quotes. The
    /// key is LlamaIndex's id, which has spaces for those, unless another node has it.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; otherwise as [`PropertyGraphStore::get`].
    pub fn for_each_node(
        &self,
        visit: &mut dyn FnMut(Text, Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let ([nodes, _], given_out) =
            self.read(|view| Ok((view.next_numbers()?, GivenOut::read(view)?)))?;
        for number in 0..nodes {
            if let Some(node) = self.read(|view| view.find_whole_node(number))? {
                visit(given_out.id(&node.id).clone(), node.to_value())?;
            }
        }
        Ok(())
    }

    /// Calls `visit` with the key of every entry of LlamaIndex's `relations` and the relation, in
    /// the order of insertion, as [`PropertyGraphStore::for_each_node`] does. Its ends are named by
    /// the keys that their nodes have there. Its entry of `triplets` is source, label and target.
    ///
    /// The key is the three joined by `_`, as LlamaIndex looks it up. Where two relations have the
    /// same, the later one has another key, which LlamaIndex does not look at: it sees the
    /// properties of the former for both, but what is read back here is all.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; otherwise as [`PropertyGraphStore::get`].
    pub fn for_each_relation(
        &self,
        visit: &mut dyn FnMut(Text, Relation) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let ([_, relations], given_out) =
            self.read(|view| Ok((view.next_numbers()?, GivenOut::read(view)?)))?;
        for number in 0..relations {
            let found = self.read(|view| {
                let Some(record) = view.find_relation(number)? else { return Ok(None) };
                let mut relation = record.relation;
                for end in [&mut relation.source_id, &mut relation.target_id] {
                    *end = given_out.id(end).clone();
                }
                Ok(Some((relation_key(view, &given_out, number, &relation)?, relation)))
            })?;
            if let Some((key, relation)) = found {
                visit(key, relation)?;
            }
        }
        Ok(())
    }

    /// All of the store as LlamaIndex has it, with the triplets as a list. Holds everything in
    /// memory.
    ///
    /// # Errors
    ///
    /// As [`PropertyGraphStore::get`].
    pub fn to_dict(&self) -> Result<Value, StoreError> {
        let (mut nodes, mut relations, mut triplets) = (Map::new(), Map::new(), Vec::new());
        self.for_each_node(&mut |key, value| {
            nodes.insert(key, value);
            Ok(())
        })?;
        self.for_each_relation(&mut |key, relation| {
            let value = relation.to_value();
            let Relation { label, source_id, target_id, .. } = relation;
            triplets.push(Value::List(vec![source_id.into(), label.into(), target_id.into()]));
            relations.insert(key, value);
            Ok(())
        })?;
        let mut dict = Map::with_capacity(3);
        dict.set("nodes", nodes);
        dict.set("relations", relations);
        dict.set("triplets", triplets);
        Ok(dict.into())
    }

    /// Replaces everything in the store by what LlamaIndex persisted, in one atomic batch. See
    /// [`PropertyGraphImport`](super::PropertyGraphImport) for ids with quotes and for relations
    /// that dangle.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if the dictionary is no such thing, [`StoreError::Node`] if a node or
    /// a relation in it is none: nothing was changed.
    pub fn load_dict(&self, dict: &Value) -> Result<(), StoreError> {
        let nodes = field(dict, "nodes")?;
        let nodes = nodes.ok_or_else(|| bad("nodes", "is missing"))?;
        let nodes = nodes.as_map().ok_or_else(|| bad("nodes", "is no dictionary"))?;
        let relations = match field(dict, "relations")? {
            None => &Map::new(),
            Some(found) => found.as_map().ok_or_else(|| bad("relations", "is no dictionary"))?,
        };
        let triplets = match field(dict, "triplets")? {
            None => &[],
            Some(found) => found.as_list().ok_or_else(|| bad("triplets", "is no list"))?,
        };
        self.writer.change(|kv| {
            self.wipe(kv)?;
            let (mut txn, mut aliases) = (Txn::new(kv, &self.names), Aliases::default());
            for (key, node) in nodes.iter() {
                aliases.node(&mut txn, key, node)?;
            }
            for (key, relation) in relations.iter() {
                aliases.relation(&mut txn, key, relation)?;
            }
            for triplet in triplets {
                aliases.triplet(&mut txn, triplet)?;
            }
            txn.finish()
        })
    }
}

fn field<'a>(dict: &'a Value, name: &str) -> Result<Option<&'a Value>, StoreError> {
    match dict.as_map() {
        Some(map) => Ok(map.get(name)),
        None => Err(bad("", "is no dictionary")),
    }
}

fn bad(name: &str, what: &'static str) -> StoreError {
    StoreError::Dict { pointer: format!("/{name}"), what }
}

/// The nodes that are given out under another id than their own: LlamaIndex's.
#[derive(Default)]
struct GivenOut {
    /// That id, by their own.
    ids: HashMap<Text, Text>,
    /// Their numbers, by that id.
    numbers: HashMap<Text, u64>,
}

impl GivenOut {
    fn read(view: View<'_>) -> Result<Self, StoreError> {
        let mut quoted = Vec::new();
        view.kv.scan(&view.names.ids, &mut |id, value| {
            if id.contains(&b'"') {
                quoted.extend(as_number(&value));
            }
            Ok(())
        })?;
        // Of two with the same id in LlamaIndex it is the earlier one's.
        quoted.sort_unstable();
        let mut given_out = GivenOut::default();
        for number in quoted {
            let Some(record) = view.find_node(number)? else { continue };
            let id = record.node.llama_id();
            let is_taken = given_out.numbers.contains_key(&id) || view.node_number(&id)?.is_some();
            if !is_taken {
                given_out.numbers.insert(id.clone(), number);
                given_out.ids.insert(record.node.id, id);
            }
        }
        Ok(given_out)
    }

    /// The id under which the node with this one is given out.
    fn id<'a>(&'a self, id: &'a Text) -> &'a Text {
        self.ids.get(id).unwrap_or(id)
    }

    /// The number of the node that is given out under this id.
    fn number(&self, view: View<'_>, id: &Text) -> Result<Option<u64>, StoreError> {
        match self.numbers.get(id) {
            Some(number) => Ok(Some(*number)),
            None if self.ids.contains_key(id) => Ok(None),
            None => view.node_number(id),
        }
    }
}

/// LlamaIndex's key of a relation, whose ends are named as they are given out; another one if it is
/// that of an earlier relation.
fn relation_key(
    view: View<'_>,
    given_out: &GivenOut,
    number: u64,
    relation: &Relation,
) -> Result<Text, StoreError> {
    let Relation { label, source_id, target_id, .. } = relation;
    let key = [source_id.as_bytes(), label.as_bytes(), target_id.as_bytes()].join(&b'_');
    let text = |key: Vec<u8>| {
        // Texts joined by a text are one.
        Text::from_bytes(key).map_err(|_| {
            StoreError::corrupt(&view.names.relations, &number.to_le_bytes(), "has ids of no text")
        })
    };
    let breaks: Vec<usize> =
        key.iter().enumerate().filter(|(_, byte)| **byte == b'_').map(|(at, _)| at).collect();
    if breaks.len() == 2 || breaks.len() > UNDERSCORES_MAX {
        return text(key);
    }
    let part = |from: usize, to: usize| match Text::from_bytes(key.get(from..to).unwrap_or(b"")) {
        Ok(id) => given_out.number(view, &id),
        Err(_) => Ok(None),
    };
    // Counted, not numbered: what is given out and taken in again has the same keys.
    let mut earlier = 0;
    for (place, first) in breaks.iter().enumerate() {
        let Some(source) = part(0, *first)? else { continue };
        for second in breaks.iter().skip(place + 1) {
            let Some(target) = part(second + 1, key.len())? else { continue };
            let label = text(key.get(first + 1..*second).unwrap_or_default().to_vec())?;
            let other = view.relation_number(source, &label, target)?;
            earlier += u32::from(other.is_some_and(|other| other < number));
        }
    }
    match earlier {
        0 => text(key),
        earlier => text([&key[..], format!("#{earlier}").as_bytes()].concat()),
    }
}
