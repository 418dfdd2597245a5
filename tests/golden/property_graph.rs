//! Traces of `SimplePropertyGraphStore`.

use siltstone::kv::{Map, Text, Value};
use siltstone::model::{LabelledContent, LabelledNode, ModelError, Node, Relation};
use siltstone::stores::{GraphFilter, PropertyGraphStore, StoreError, Triplet};

use crate::kvstore::block_on;
use crate::reload::reload;
use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct PropertyGraphRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    store: Option<PropertyGraphStore>,
    /// Every second call goes to the async twin.
    calls: usize,
}

impl<'a> PropertyGraphRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend, init: &Value) -> Result<Self, String> {
        let store = PropertyGraphStore::new(backend.open());
        if let Some(data) = init.get("data") {
            store.load_dict(data).map_err(|e| e.to_string())?;
        }
        Ok(PropertyGraphRunner { backend, store: Some(store), calls: 0 })
    }
}

impl Runner for PropertyGraphRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        self.calls += 1;
        let twin = self.calls.is_multiple_of(2);
        match op.name {
            "persist_reload" => {
                return reload(self.backend, &mut self.store).map(|()| Ok(Value::Null));
            }
            // Of the file, which whoever imports it looks for.
            "load_missing" => {
                let message = "there is no such file".to_owned();
                return Ok(Err(Raised { class: "FileNotFoundError", message }));
            }
            _ => {}
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        let outcome = match write(store, op, twin)? {
            Some(done) => done.map(|()| Value::Null),
            None => read(store, op, twin)?,
        };
        Ok(outcome.map_err(raised))
    }
}

fn raised(e: StoreError) -> Raised {
    let class = match &e {
        StoreError::Unsupported(_) => "NotImplementedError",
        StoreError::Dict { what: "is missing", .. } => "KeyError",
        StoreError::Kv(_) | StoreError::Corrupt { .. } => "OSError",
        _ => "ValueError",
    };
    let message = match e {
        StoreError::Node { source: source @ ModelError::UnknownGraphNode(_), .. } => {
            source.to_string()
        }
        other => other.to_string(),
    };
    Raised { class, message }
}

/// Runs an operation that writes; `None` if it is none.
fn write(
    store: &PropertyGraphStore,
    op: &Op<'_>,
    twin: bool,
) -> Result<Option<Result<(), StoreError>>, String> {
    Ok(Some(match (op.name, twin) {
        ("upsert_nodes", _) => {
            let nodes = list(op, "nodes")?.iter().map(|node| {
                let data = node.get("data").ok_or("no data")?;
                LabelledNode::from_value(data, None).map_err(|e| e.to_string())
            });
            let nodes = nodes.collect::<Result<Vec<_>, String>>()?;
            match twin {
                true => block_on(store.aupsert_nodes(&nodes)),
                false => store.upsert_nodes(&nodes),
            }
        }
        ("upsert_relations", _) => {
            let relations = list(op, "relations")?.iter().map(Relation::from_value);
            let relations = relations.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
            match twin {
                true => block_on(store.aupsert_relations(&relations)),
                false => store.upsert_relations(&relations),
            }
        }
        ("upsert_llama_nodes", _) => {
            let nodes = list(op, "nodes")?.iter().map(Node::from_value);
            let nodes = nodes.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
            match twin {
                true => block_on(store.aupsert_llama_nodes(&nodes)),
                false => store.upsert_llama_nodes(&nodes),
            }
        }
        ("delete", true) => block_on(store.adelete(&filter(op)?)),
        ("delete", false) => store.delete(&filter(op)?),
        ("delete_llama_nodes", _) => {
            let (ids, ref_doc_ids) = (texts(op, "node_ids")?, texts(op, "ref_doc_ids")?);
            match twin {
                true => block_on(store.adelete_llama_nodes(&ids, &ref_doc_ids)),
                false => store.delete_llama_nodes(&ids, &ref_doc_ids),
            }
        }
        ("load_dict", _) => store.load_dict(op.args.get("data").ok_or("no data")?),
        _ => return Ok(None),
    }))
}

fn read(
    store: &PropertyGraphStore,
    op: &Op<'_>,
    twin: bool,
) -> Result<Result<Value, StoreError>, String> {
    Ok(match op.name {
        "get" => {
            let GraphFilter { properties, ids, .. } = filter(op)?;
            let found = match twin {
                true => block_on(store.aget(&properties, &ids)),
                false => store.get(&properties, &ids),
            };
            found.map(|nodes| Value::List(nodes.iter().map(|n| shown(n, &n.to_value())).collect()))
        }
        "get_triplets" => {
            let filter = filter(op)?;
            triplets(match twin {
                true => block_on(store.aget_triplets(&filter)),
                false => store.get_triplets(&filter),
            })
        }
        "get_rel_map" | "get_rel_map_subset" => {
            let int = |name, default| op.args.get(name).map_or(Some(default), Value::as_int);
            let depth = int("depth", 2).ok_or("no depth")?;
            let limit = int("limit", 30).ok_or("no limit")?;
            let (ids, ignored) = (texts(op, "node_ids")?, texts(op, "ignore_rels")?);
            triplets(match twin {
                true => block_on(store.aget_rel_map(&ids, depth, limit, &ignored)),
                false => store.get_rel_map(&ids, depth, limit, &ignored),
            })
        }
        "get_llama_nodes" => {
            let ids = texts(op, "node_ids")?;
            let found = match twin {
                true => block_on(store.aget_llama_nodes(&ids)),
                false => store.get_llama_nodes(&ids),
            };
            found.map(|nodes| Value::List(nodes.iter().map(Node::to_value).collect()))
        }
        "state" => store.to_dict().map(state),
        "get_schema" => store.get_schema().map(|schema| schema.to_value()),
        "structured_query" => store.structured_query("x"),
        "vector_query" => store
            .vector_query(&[1.0, 0.0], 2, |_| true)
            .map(|found| Value::List(found.into_iter().map(|(node, _)| node.id.into()).collect())),
        other => return Err(format!("unknown operation {other}")),
    })
}

/// A node as traces show it.
fn shown(node: &LabelledNode, data: &Value) -> Value {
    let kind = match &node.content {
        LabelledContent::Entity { .. } => "entity",
        _ => "chunk",
    };
    let mut map = Map::new();
    map.insert("kind", kind);
    map.insert("id", &node.id);
    map.insert("data", data.clone());
    map.into()
}

/// A whole store as traces show it.
fn state(mut dict: Value) -> Value {
    if let Value::Map(map) = &mut dict {
        let nodes = map.get("nodes").and_then(Value::as_map).into_iter().flat_map(Map::iter);
        let nodes = nodes.map(|(key, data)| {
            let mut node =
                LabelledNode::from_value(data, Some(key)).expect("the store gave a node");
            // The id that LlamaIndex has then.
            node.id = key.clone();
            (key.clone(), shown(&node, data))
        });
        let nodes = nodes.collect::<Map>();
        map.insert("nodes", nodes);
        if let Some(Value::List(triplets)) = map.get_mut("triplets") {
            triplets.sort_by_cached_key(|triplet| {
                let texts = triplet.as_list().into_iter().flatten().filter_map(Value::as_text);
                texts.cloned().collect::<Vec<Text>>()
            });
        }
    }
    dict
}

fn triplets(found: Result<Vec<Triplet>, StoreError>) -> Result<Value, StoreError> {
    let triplet = |Triplet { source, relation, target }: &Triplet| {
        Value::List(vec![(&source.id).into(), relation.to_value(), (&target.id).into()])
    };
    found.map(|found| Value::List(found.iter().map(triplet).collect()))
}

fn filter(op: &Op<'_>) -> Result<GraphFilter, String> {
    let properties = op.args.get("properties").and_then(Value::as_map);
    Ok(GraphFilter {
        entity_names: texts(op, "entity_names")?,
        relation_names: texts(op, "relation_names")?,
        properties: properties.cloned().unwrap_or_default(),
        ids: texts(op, "ids")?,
    })
}

fn list<'a>(op: &Op<'a>, name: &str) -> Result<&'a [Value], String> {
    op.args.get(name).and_then(Value::as_list).ok_or_else(|| format!("no {name}"))
}

/// Texts; none if they are absent.
fn texts(op: &Op<'_>, name: &str) -> Result<Vec<Text>, String> {
    let list = op.args.get(name).and_then(Value::as_list).unwrap_or_default();
    list.iter().map(|text| text.as_text().cloned().ok_or_else(|| format!("no {name}"))).collect()
}
