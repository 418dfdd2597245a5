//! Looking up nodes and triplets.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::PropertyGraphStore;
use super::properties::Wanted;
use super::view::{Listed, Nodes, RelationRecord, View};
use crate::kv::{Map, Text};
use crate::model::{LabelledNode, Relation};
use crate::stores::StoreError;

/// What relations are looked for: all that is given must hold; what is empty is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphFilter {
    /// One end has one of these ids.
    pub entity_names: Vec<Text>,
    /// The label is one of these.
    pub relation_names: Vec<Text>,
    /// The relation or one of its ends has any of these properties.
    pub properties: Map,
    /// One end has one of these ids.
    pub ids: Vec<Text>,
}

impl GraphFilter {
    /// Looks for entities by name.
    pub fn entities<T: Into<Text>>(names: impl IntoIterator<Item = T>) -> Self {
        let entity_names = names.into_iter().map(Into::into).collect();
        GraphFilter { entity_names, ..GraphFilter::default() }
    }

    /// Looks for relations by label.
    pub fn relations<T: Into<Text>>(names: impl IntoIterator<Item = T>) -> Self {
        let relation_names = names.into_iter().map(Into::into).collect();
        GraphFilter { relation_names, ..GraphFilter::default() }
    }

    /// Looks for any of some properties.
    pub fn properties(properties: Map) -> Self {
        GraphFilter { properties, ..GraphFilter::default() }
    }

    /// Looks for nodes by id.
    pub fn ids<T: Into<Text>>(ids: impl IntoIterator<Item = T>) -> Self {
        let ids = ids.into_iter().map(Into::into).collect();
        GraphFilter { ids, ..GraphFilter::default() }
    }

    /// True if nothing is given.
    pub fn is_empty(&self) -> bool {
        let GraphFilter { entity_names, relation_names, properties, ids } = self;
        entity_names.is_empty()
            && relation_names.is_empty()
            && properties.is_empty()
            && ids.is_empty()
    }
}

/// A relation with the nodes at its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Triplet {
    /// The node that the relation comes from.
    pub source: Arc<LabelledNode>,
    /// The relation.
    pub relation: Relation,
    /// The node that the relation leads to.
    pub target: Arc<LabelledNode>,
}

/// Nodes that are looked for by id and by property.
pub(super) struct NodeFilter<'a> {
    wanted: Wanted,
    /// Each must contain the id; none is empty.
    ids: Vec<HashSet<&'a Text>>,
}

impl<'a> NodeFilter<'a> {
    pub(super) fn new(properties: &Map, ids: &[&'a [Text]]) -> Self {
        let given = ids.iter().filter(|ids| !ids.is_empty());
        let ids = given.map(|ids| ids.iter().collect()).collect();
        NodeFilter { wanted: Wanted::new(properties), ids }
    }

    fn matches(&self, id: &Text, properties: &Map) -> bool {
        self.ids.iter().all(|ids| ids.contains(id))
            && (self.wanted.is_empty() || self.wanted.is_in(properties))
    }

    /// The numbers of the nodes that match, in the order of insertion.
    pub(super) fn numbers(&self, view: View<'_>) -> Result<Vec<u64>, StoreError> {
        let mut numbers = BTreeSet::new();
        if let Some(ids) = self.ids.iter().min_by_key(|ids| ids.len()) {
            for id in ids {
                numbers.extend(view.node_number(id)?);
            }
        } else if !self.wanted.is_empty() && !self.wanted.is_null_wanted {
            for (key, value) in self.wanted.pairs() {
                view.collect(Listed::NodeProperty(key, value), &mut numbers)?;
            }
        } else {
            let [nodes, _] = view.next_numbers()?;
            numbers = (0..nodes).collect();
        }
        let mut found = Vec::new();
        for number in numbers {
            let Some(record) = view.find_node(number)? else { continue };
            if self.matches(&record.node.id, &record.node.properties) {
                found.push(number);
            }
        }
        Ok(found)
    }
}

/// Relations that are looked for.
pub(super) struct RelationFilter<'a> {
    entity_names: HashSet<&'a Text>,
    ids: HashSet<&'a Text>,
    labels: HashSet<&'a Text>,
    wanted: Wanted,
}

impl<'a> RelationFilter<'a> {
    pub(super) fn new(filter: &'a GraphFilter) -> Self {
        RelationFilter {
            entity_names: filter.entity_names.iter().collect(),
            ids: filter.ids.iter().collect(),
            labels: filter.relation_names.iter().collect(),
            wanted: Wanted::new(&filter.properties),
        }
    }

    /// Calls `visit` with the relations that match, in the order of insertion.
    pub(super) fn visit(
        &self,
        view: View<'_>,
        nodes: &mut Nodes,
        visit: &mut dyn FnMut(u64, RelationRecord, &mut Nodes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for number in self.candidates(view)? {
            let Some(record) = view.find_relation(number)? else { continue };
            if self.matches(view, &record, nodes)? {
                visit(number, record, nodes)?;
            }
        }
        Ok(())
    }

    fn matches(
        &self,
        view: View<'_>,
        record: &RelationRecord,
        nodes: &mut Nodes,
    ) -> Result<bool, StoreError> {
        let Relation { label, source_id, target_id, properties } = &record.relation;
        let touches = |ids: &HashSet<&Text>| {
            ids.is_empty() || ids.contains(source_id) || ids.contains(target_id)
        };
        let is_labelled = self.labels.is_empty() || self.labels.contains(label);
        if !touches(&self.entity_names) || !touches(&self.ids) || !is_labelled {
            return Ok(false);
        }
        Ok(self.wanted.is_empty()
            || self.wanted.is_in(properties)
            || self.wanted.is_in(&view.node(record.source, nodes)?.properties)
            || self.wanted.is_in(&view.node(record.target, nodes)?.properties))
    }

    /// Numbers among which are all that match, from what narrows them most.
    fn candidates(&self, view: View<'_>) -> Result<BTreeSet<u64>, StoreError> {
        let mut numbers = BTreeSet::new();
        let Some(side) = self.narrowest(view)? else {
            let [_, relations] = view.next_numbers()?;
            return Ok((0..relations).collect());
        };
        self.lists(side, view, &mut |listed| {
            if !matches!(listed, Listed::NodeProperty(..)) {
                view.collect(listed, &mut numbers)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(numbers)
    }

    /// What is given whose lists are the shortest; `None` if nothing given narrows. Costs no more
    /// reads for each thing given than the shortest lists are long.
    fn narrowest(&self, view: View<'_>) -> Result<Option<Side<'_, 'a>>, StoreError> {
        let mut ends = [&self.entity_names, &self.ids];
        ends.sort_by_key(|ids| ids.len());
        let given = ends.into_iter().filter(|ids| !ids.is_empty()).map(Side::Ends);
        let labels = (!self.labels.is_empty()).then_some(Side::Labels);
        let is_narrow = !self.wanted.is_empty() && !self.wanted.is_null_wanted;
        let properties = is_narrow.then_some(Side::Properties);
        let sides: Vec<Side<'_, 'a>> = given.chain(labels).chain(properties).collect();
        if let [only] = sides[..] {
            return Ok(Some(only));
        }
        let (mut narrowest, mut least) = (None, u64::MAX);
        for side in sides {
            let mut cost = 0_u64;
            self.lists(side, view, &mut |listed| {
                // An empty list is to be looked for, too.
                cost = cost.saturating_add(view.list_len(listed)?).saturating_add(1);
                Ok(if cost < least { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if cost < least {
                (narrowest, least) = (Some(side), cost);
            }
        }
        Ok(narrowest)
    }

    /// Calls `visit` with each list of relations, or of nodes that lead to such, that `side` says
    /// to look into, until it breaks.
    fn lists(
        &self,
        side: Side<'_, 'a>,
        view: View<'_>,
        visit: &mut dyn FnMut(Listed<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        match side {
            Side::Ends(ids) => {
                for id in ids {
                    if let Some(node) = view.node_number(id)?
                        && touching(node, visit)?.is_break()
                    {
                        break;
                    }
                }
            }
            Side::Labels => {
                for label in &self.labels {
                    if visit(Listed::Label(label))?.is_break() {
                        break;
                    }
                }
            }
            Side::Properties => {
                for (key, value) in self.wanted.pairs() {
                    let nodes = Listed::NodeProperty(key, value);
                    if visit(Listed::RelationProperty(key, value))?.is_break()
                        || visit(nodes)?.is_break()
                    {
                        break;
                    }
                    let mut flow = ControlFlow::Continue(());
                    view.visit(nodes, &mut |node| {
                        flow = touching(node, visit)?;
                        Ok(flow)
                    })?;
                    if flow.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is given of a filter that narrows the relations.
#[derive(Clone, Copy)]
enum Side<'s, 'a> {
    /// One end is one of these.
    Ends(&'s HashSet<&'a Text>),
    Labels,
    Properties,
}

/// Calls `visit` with the lists of the relations that touch a node, until it breaks.
fn touching(
    node: u64,
    visit: &mut dyn FnMut(Listed<'_>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<ControlFlow<()>, StoreError> {
    if visit(Listed::From(node))?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    visit(Listed::To(node))
}

impl PropertyGraphStore {
    /// The nodes with any of `properties` and one of `ids`, in the order of insertion; what is
    /// empty does not narrow, so that nothing given is all nodes.
    ///
    /// Values are equal as in Python: `1` is `1.0` and `True`; `None` equals a missing property,
    /// and looking for it reads all nodes unless there are ids. Otherwise the cost is that of the
    /// nodes that have one of the properties.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read, [`StoreError::Corrupt`] if its records are
    /// damaged.
    pub fn get(&self, properties: &Map, ids: &[Text]) -> Result<Vec<LabelledNode>, StoreError> {
        self.read(|view| {
            let mut found = Vec::new();
            for number in NodeFilter::new(properties, &[ids]).numbers(view)? {
                found.extend(view.find_whole_node(number)?);
            }
            Ok(found)
        })
    }

    /// The relations that match all of `filter`, with their ends, in the order of insertion; none
    /// if nothing is given.
    ///
    /// Cost: that of the fewest relations of: those that touch the entities given, those that touch
    /// the ids given, those with the labels given, those with the properties given at themselves or
    /// at an end. What has more relations is not read, a hub as little as a label that all share.
    /// Looking for `None` alone reads all relations.
    ///
    /// # Errors
    ///
    /// As [`PropertyGraphStore::get`].
    pub fn get_triplets(&self, filter: &GraphFilter) -> Result<Vec<Triplet>, StoreError> {
        if filter.is_empty() {
            return Ok(Vec::new());
        }
        self.read(|view| {
            let (mut triplets, mut nodes) = (Vec::new(), Nodes::new());
            RelationFilter::new(filter).visit(view, &mut nodes, &mut |_, record, nodes| {
                triplets.push(view.triplet(record, nodes)?);
                Ok(())
            })?;
            Ok(triplets)
        })
    }
}

impl View<'_> {
    /// A relation with its ends.
    pub(super) fn triplet(
        self,
        record: RelationRecord,
        nodes: &mut Nodes,
    ) -> Result<Triplet, StoreError> {
        let source = self.node(record.source, nodes)?;
        let target = self.node(record.target, nodes)?;
        Ok(Triplet { source, relation: record.relation, target })
    }
}
