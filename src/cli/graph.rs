//! `siltstone graph DIR NODE`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::failure::{Failure, warn};
use super::output::{Output, count, object, plural, shown_key};
use super::{Outcome, ReadArg};
use crate::kv::{KvStore, LogKv, Text, Value};
use crate::model::LabelledNode;
use crate::stores::{GraphStore, PropertyGraphStore, TextTriplet, Triplet};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read: ReadArg,
    /// The node to start from: a subject, or the id of a node of the property graph
    #[arg(allow_hyphen_values = true)]
    node: String,
    /// How many steps to go
    #[arg(long, value_name = "N", default_value_t = 2)]
    depth: u32,
    /// Most triplets of each graph; the nearest are shown
    #[arg(long, value_name = "L", default_value_t = 1000)]
    limit: u32,
}

/// What is reached from a node.
struct Reached {
    /// In the graph store: each triplet once, the nearest first.
    triplets: Vec<TextTriplet>,
    /// In the property graph.
    relations: Vec<Triplet>,
    /// The node itself in the property graph, if it is there.
    start: Option<LabelledNode>,
    /// True if there are more than the limit.
    is_cut: bool,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let kv: Arc<dyn KvStore> = Arc::new(LogKv::new(args.read.open()?));
    let graph = GraphStore::new(Arc::clone(&kv));
    let properties = PropertyGraphStore::new(kv);
    let reached = walk(args, &graph, &properties)?;
    let is_found = reached.start.is_some() || !graph.get(args.node.as_str())?.is_empty();
    if !is_found {
        let (node, dir) = (args.node.escape_debug(), args.read.store.dir.display());
        let triplets = plural(graph.len()?, "triplet");
        let nodes = plural(properties.node_count()?, "node");
        warn(&format!(
            "no triplet starts from \"{node}\" in {dir}, and the property graph has no such node; \
             there are {triplets}, and {nodes} in the property graph"
        ));
        return Ok(Outcome::No);
    }
    if out.is_json() {
        out.value(&to_json(args, &reached))?;
    } else {
        in_words(args, &reached, out)?;
    }
    Ok(Outcome::Yes)
}

fn walk(
    args: &Args,
    graph: &GraphStore,
    properties: &PropertyGraphStore,
) -> Result<Reached, Failure> {
    let start = [Text::from(args.node.as_str())];
    let limit = args.limit as usize;
    let mut triplets = reached_triplets(graph, &start[0], args.depth, limit)?;
    // One more than is shown, to see whether there is more.
    let (depth, more) = (i64::from(args.depth), i64::from(args.limit) + 1);
    let mut relations = properties.get_rel_map(&start, depth, more, &[])?;
    let is_cut = triplets.len() > limit || relations.len() > limit;
    triplets.truncate(limit);
    relations.truncate(limit);
    let node = properties.get(&Default::default(), &start)?.into_iter().next();
    Ok(Reached { triplets, relations, start: node, is_cut })
}

/// The triplets of the graph store within `depth` steps, the nearest first: `limit` of them, and
/// one more if there is more. (`GraphStore::get_rel_map` is no help: as LlamaIndex's, it leaves out
/// what is beyond 30 edges of a node and repeats cycles.)
fn reached_triplets(
    graph: &GraphStore,
    start: &Text,
    depth: u32,
    limit: usize,
) -> Result<Vec<TextTriplet>, Failure> {
    let mut found = Vec::new();
    // A node's triplets are found where it comes up first, so none is found twice.
    let mut seen = HashSet::from([start.clone()]);
    let mut level = vec![start.clone()];
    for _ in 0..depth {
        let mut next = Vec::new();
        for subject in level {
            graph.for_each_edge(&subject, &mut |relation, object| {
                if found.len() <= limit {
                    if seen.insert(object.clone()) {
                        next.push(object.clone());
                    }
                    found.push((subject.clone(), relation, object));
                }
                Ok(())
            })?;
            if found.len() > limit {
                return Ok(found);
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(found)
}

/// The nodes of the property graph, by id.
fn nodes(reached: &Reached) -> BTreeMap<&Text, &LabelledNode> {
    let ends = reached.relations.iter().flat_map(|r| [&*r.source, &*r.target]);
    reached.start.iter().chain(ends).map(|node| (&node.id, node)).collect()
}

fn to_json(args: &Args, reached: &Reached) -> Value {
    let triplets = reached.triplets.iter();
    let triplets = triplets.map(|(a, b, c)| Value::List([a, b, c].map(Value::from).into()));
    let relations = reached.relations.iter().map(|triplet| triplet.relation.to_value());
    let nodes = nodes(reached).into_values().map(|node| {
        let text = node.text().map_or(Value::Null, Value::from);
        let fields = [
            ("id", Value::from(&node.id)),
            ("label", Value::from(&node.label)),
            ("properties", node.properties.clone().into()),
            ("text", text),
        ];
        object(fields).into()
    });
    object([
        ("node", args.node.as_str().into()),
        ("depth", u64::from(args.depth).into()),
        ("is_cut", reached.is_cut.into()),
        ("triplets", Value::List(triplets.collect())),
        ("relations", Value::List(relations.collect())),
        ("nodes", Value::List(nodes.collect())),
    ])
    .into()
}

fn in_words(args: &Args, reached: &Reached, out: &mut Output) -> Result<(), Failure> {
    let arrow = |from: &Text, label: &Text, to: &Text| {
        let [from, label, to] = [from, label, to].map(|text| shown_key(text.as_bytes()));
        format!("{from} -[{label}]-> {to}")
    };
    for (subject, relation, object) in &reached.triplets {
        out.line(&arrow(subject, relation, object))?;
    }
    for Triplet { relation, .. } in &reached.relations {
        out.line(&arrow(&relation.source_id, &relation.label, &relation.target_id))?;
    }
    for node in nodes(reached).into_values() {
        let (id, label) = (shown_key(node.id.as_bytes()), shown_key(node.label.as_bytes()));
        out.line(&format!("{id}: {label}"))?;
        for (key, value) in node.properties.iter() {
            let value = crate::kv::json::to_string(value, crate::kv::json::Style::Python);
            out.line(&format!("    {}: {value}", shown_key(key.as_bytes())))?;
        }
    }
    if reached.is_cut {
        let limit = count(u64::from(args.limit));
        warn(&format!("there are more than {limit} triplets; --limit shows more of them"));
    }
    Ok(())
}
