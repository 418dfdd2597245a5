//! Traces of `SimpleGraphStore`.

use siltstone::kv::{Map, Text, Value};
use siltstone::stores::{GraphStore, StoreError, TextTriplet};

use crate::kvstore::block_on;
use crate::reload::reload;
use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct GraphRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    store: Option<GraphStore>,
    /// Every second call goes to the async twin.
    calls: usize,
}

impl<'a> GraphRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend, init: &Value) -> Result<Self, String> {
        let store = GraphStore::new(backend.open());
        if let Some(data) = init.get("data") {
            store.load_dict(data).map_err(|e| e.to_string())?;
        }
        Ok(GraphRunner { backend, store: Some(store), calls: 0 })
    }
}

impl Runner for GraphRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        self.calls += 1;
        if op.name == "persist_reload" {
            return reload(self.backend, &mut self.store).map(|()| Ok(Value::Null));
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        Ok(run(store, op, self.calls.is_multiple_of(2))?.map_err(raised))
    }
}

fn raised(e: StoreError) -> Raised {
    let class = match &e {
        StoreError::Unsupported(_) => "NotImplementedError",
        StoreError::Kv(_) | StoreError::Corrupt { .. } => "OSError",
        _ => "ValueError",
    };
    Raised { class, message: e.to_string() }
}

fn run(store: &GraphStore, op: &Op<'_>, twin: bool) -> Result<Result<Value, StoreError>, String> {
    let text = |name: &str| {
        op.args.get(name).and_then(Value::as_text).cloned().ok_or_else(|| format!("no {name}"))
    };
    let triplet = || Ok::<_, String>((text("subj")?, text("rel")?, text("obj")?));
    let nothing = |done: Result<(), StoreError>| done.map(|()| Value::Null);
    Ok(match op.name {
        "upsert_triplet" => {
            let (subj, rel, obj) = triplet()?;
            nothing(match twin {
                true => block_on(store.aupsert_triplet(subj, rel, obj)),
                false => store.upsert_triplet(subj, rel, obj),
            })
        }
        "delete" => {
            let (subj, rel, obj) = triplet()?;
            nothing(match twin {
                true => block_on(store.adelete(subj, rel, obj)),
                false => store.delete(subj, rel, obj),
            })
        }
        "get" => {
            let found = match twin {
                true => block_on(store.aget(text("subj")?)),
                false => store.get(text("subj")?),
            };
            found
                .map(|edges| {
                    let edges = edges.into_iter();
                    edges.map(|(rel, obj)| Value::List(vec![rel.into(), obj.into()])).collect()
                })
                .map(Value::List)
        }
        "get_rel_map" => {
            let subjs = op.args.get("subjs").and_then(Value::as_list).map(|subjs| {
                subjs.iter().filter_map(Value::as_text).cloned().collect::<Vec<Text>>()
            });
            let int = |name, default| op.args.get(name).map_or(Some(default), Value::as_int);
            let depth = int("depth", 2).ok_or("no depth")?;
            let limit = int("limit", 30).ok_or("no limit")?;
            let found = match twin {
                true => block_on(store.aget_rel_map(subjs.as_deref(), depth, limit)),
                false => store.get_rel_map(subjs.as_deref(), depth, limit),
            };
            found.map(|map| {
                let list =
                    |found: Vec<TextTriplet>| found.into_iter().map(list).collect::<Vec<_>>();
                map.into_iter().map(|(subj, found)| (subj, list(found))).collect::<Map>().into()
            })
        }
        "to_dict" => store.to_dict(),
        "get_schema" => store.get_schema(),
        "query" => store.query(&text("query")?.to_string()),
        // A file that is not there is an empty store.
        "load_missing" => nothing(store.load_dict(&Map::new().into())),
        other => return Err(format!("unknown operation {other}")),
    })
}

fn list((subj, rel, obj): TextTriplet) -> Value {
    Value::List(vec![subj.into(), rel.into(), obj.into()])
}
