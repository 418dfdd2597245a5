//! The schema: labels, kinds of relations and their properties, counted as they come and go.

use std::collections::BTreeMap;

use super::PropertyGraphStore;
use super::view::{View, as_number};
use crate::kv::{KvError, Map, Text, Value};
use crate::stores::StoreError;
use crate::stores::graph::joined;

/// What a graph holds: see [`PropertyGraphStore::get_schema`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphSchema {
    /// The labels of nodes.
    pub nodes: BTreeMap<Text, LabelSchema>,
    /// The labels of relations.
    pub relations: BTreeMap<Text, LabelSchema>,
}

/// What has a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSchema {
    /// How many nodes or relations have it.
    pub count: u64,
    /// Their properties: how many have a value of each kind.
    pub properties: BTreeMap<Text, BTreeMap<PropertyKind, u64>>,
}

/// The kind of a property's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PropertyKind {
    /// `None`.
    Null,
    /// True or false.
    Bool,
    /// An integer of any size.
    Int,
    /// A float.
    Float,
    /// A text.
    Text,
    /// A list.
    List,
    /// A dictionary.
    Map,
}

impl PropertyKind {
    const ALL: [PropertyKind; 7] = {
        use PropertyKind::*;
        [Null, Bool, Int, Float, Text, List, Map]
    };

    /// Its name, as Python has it: `NoneType`, `bool`, `int`, `float`, `str`, `list`, `dict`.
    pub fn name(self) -> &'static str {
        match self {
            PropertyKind::Null => "NoneType",
            PropertyKind::Bool => "bool",
            PropertyKind::Int => "int",
            PropertyKind::Float => "float",
            PropertyKind::Text => "str",
            PropertyKind::List => "list",
            PropertyKind::Map => "dict",
        }
    }

    /// The kind of `value`.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => PropertyKind::Null,
            Value::Bool(_) => PropertyKind::Bool,
            Value::Int(_) | Value::BigInt(_) => PropertyKind::Int,
            Value::Float(_) => PropertyKind::Float,
            Value::Text(_) => PropertyKind::Text,
            Value::List(_) => PropertyKind::List,
            Value::Map(_) => PropertyKind::Map,
        }
    }
}

impl GraphSchema {
    /// The schema as a dictionary: `{"nodes": {label: {"count", "properties": {key: {kind:
    /// count}}}}, "relations": ..}`.
    pub fn to_value(&self) -> Value {
        let labels = |labels: &BTreeMap<Text, LabelSchema>| {
            labels.iter().map(|(label, schema)| (label, schema.to_value())).collect::<Map>()
        };
        let mut map = Map::with_capacity(2);
        map.set("nodes", labels(&self.nodes));
        map.set("relations", labels(&self.relations));
        map.into()
    }
}

impl LabelSchema {
    fn to_value(&self) -> Value {
        let kinds = |kinds: &BTreeMap<PropertyKind, u64>| {
            kinds.iter().map(|(kind, count)| (kind.name(), *count)).collect::<Map>()
        };
        let properties: Map =
            self.properties.iter().map(|(key, found)| (key, kinds(found))).collect();
        let mut map = Map::with_capacity(2);
        map.set("count", self.count);
        map.set("properties", properties);
        map.into()
    }
}

/// Whose label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Node,
    Relation,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Of::Node => "node",
            Of::Relation => "relation",
        }
    }
}

/// Something that is counted, in a record of its own: a label, or a kind of property of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    of: Of,
    label: Text,
    property: Option<(Text, PropertyKind)>,
}

impl Counted {
    /// A label and its properties.
    pub(super) fn all(
        of: Of,
        label: &Text,
        properties: &Map,
    ) -> impl Iterator<Item = Counted> + use<> {
        let property = |(key, value): (&Text, &Value)| Some((key.clone(), PropertyKind::of(value)));
        let properties: Vec<_> = properties.iter().map(property).collect();
        let label = label.clone();
        let each = std::iter::once(None).chain(properties);
        each.map(move |property| Counted { of, label: label.clone(), property })
    }

    /// Adds `change` to its count; a count of nothing has no record.
    pub(super) fn add(&self, view: View<'_>, change: i64) -> Result<(), StoreError> {
        if change == 0 {
            return Ok(());
        }
        let View { kv, names } = view;
        let key = self.key();
        let count = kv.get(&names.schema, &key)?.map_or(Some(0), |record| record_count(&record));
        let count = count.and_then(|count| count.checked_add_signed(change));
        let what = "counts other than there is";
        match count.ok_or_else(|| StoreError::corrupt(&names.schema, &key, what))? {
            0 => drop(kv.delete(&names.schema, &key)?),
            count => kv.put(&names.schema, &key, &self.record(count))?,
        }
        Ok(())
    }

    fn key(&self) -> Vec<u8> {
        let (of, label) = (self.of.name().as_bytes(), self.label.as_bytes());
        match &self.property {
            None => joined(&[of, label]),
            Some((key, kind)) => joined(&[of, label, key.as_bytes(), kind.name().as_bytes()]),
        }
    }

    fn record(&self, count: u64) -> Value {
        let mut record = Map::with_capacity(5);
        record.set("of", Text::from_static(self.of.name()));
        record.set("label", &self.label);
        if let Some((key, kind)) = &self.property {
            record.set("key", key);
            record.set("kind", Text::from_static(kind.name()));
        }
        record.set("count", count);
        record.into()
    }

    fn read(record: &Value) -> Option<(Self, u64)> {
        let text = |field| record.get(field).and_then(Value::as_text);
        let named = text("of")?;
        let of = [Of::Node, Of::Relation].into_iter().find(|of| *named == of.name())?;
        let property = match text("key") {
            None => None,
            Some(key) => {
                let named = text("kind")?;
                let kind = PropertyKind::ALL.into_iter().find(|kind| *named == kind.name())?;
                Some((key.clone(), kind))
            }
        };
        Some((Counted { of, label: text("label")?.clone(), property }, record_count(record)?))
    }
}

fn record_count(record: &Value) -> Option<u64> {
    as_number(record.get("count")?)
}

impl PropertyGraphStore {
    /// The labels of nodes and of relations, how often each occurs, and with which properties of
    /// which kinds. (LlamaIndex's simple store has none.)
    ///
    /// Cost: as many small records as the schema has labels and properties; nodes and relations
    /// are not read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read, [`StoreError::Corrupt`] if a count is
    /// damaged.
    pub fn get_schema(&self) -> Result<GraphSchema, StoreError> {
        self.read(|view| {
            let mut schema = GraphSchema::default();
            let mut damaged = None;
            let scanned = view.kv.scan(&view.names.schema, &mut |key, record| {
                let Some((counted, count)) = Counted::read(&record) else {
                    damaged = Some(key.to_vec());
                    return Err(KvError::InvalidArgument("a record is damaged".into()));
                };
                let labels = match counted.of {
                    Of::Node => &mut schema.nodes,
                    Of::Relation => &mut schema.relations,
                };
                let label = labels.entry(counted.label).or_default();
                match counted.property {
                    None => label.count = count,
                    Some((key, kind)) => {
                        label.properties.entry(key).or_default().insert(kind, count);
                    }
                }
                Ok(())
            });
            match (scanned, damaged) {
                (_, Some(key)) => Err(StoreError::corrupt(&view.names.schema, &key, "is no count")),
                (scanned, None) => Ok(scanned.map(|()| schema)?),
            }
        })
    }
}
