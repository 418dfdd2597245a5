//! Traces of `IngestionPipeline` and of `IngestionCache`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex};

use siltstone::Durability;
use siltstone::kv::{BoxFuture, KvBatch, KvError, KvOp, KvStore, Map, Text, Value, Written};
use siltstone::model::Node;
use siltstone::stores::{
    DEFAULT_CACHE_COLLECTION, DocstoreStrategy, DocumentStore, IngestionCache, IngestionOptions,
    IngestionPipeline, StoreError, Transformation, VectorStore,
};

use crate::kvstore::to_dict;
use crate::{Backend, Op, Outcome, Raised, Runner};

/// LlamaIndex's collections, whose records the calls in the traces are about.
const RECORDED: [&str; 4] =
    ["docstore/data", "docstore/metadata", "docstore/ref_doc_info", DEFAULT_CACHE_COLLECTION];

/// A key-value store that notes which records of the traces' collections are written.
struct Recorder {
    kv: Arc<dyn KvStore>,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    batches: i64,
    written: BTreeMap<String, BTreeSet<String>>,
}

impl Recorder {
    /// What was written since the last call.
    fn take(&self) -> Value {
        let calls = std::mem::take(&mut *self.calls.lock().expect("nobody panics"));
        let list = |keys: BTreeSet<String>| keys.into_iter().map(Value::from).collect::<Vec<_>>();
        let written: Map =
            calls.written.into_iter().map(|(name, keys)| (name, list(keys))).collect();
        let mut map = Map::new();
        map.set("batches", calls.batches);
        map.set("written", written);
        map.into()
    }
}

impl KvStore for Recorder {
    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        self.kv.get(collection, key)
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        self.kv.contains(collection, key)
    }

    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        self.kv.scan(collection, visit)
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        self.kv.len(collection)
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        self.kv.collections()
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<Written, KvError> {
        let mut calls = self.calls.lock().expect("nobody panics");
        calls.batches += 1;
        for op in batch.ops() {
            let (KvOp::Put { collection, key, .. } | KvOp::Delete { collection, key }) = op else {
                continue;
            };
            if RECORDED.contains(&collection) {
                let key = String::from_utf8_lossy(key).into_owned();
                calls.written.entry(collection.to_owned()).or_default().insert(key);
            }
        }
        drop(calls);
        self.kv.write(batch, durability)
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        Box::pin(async move { self.write(batch, durability) })
    }

    fn sync(&self) -> Result<(), KvError> {
        self.kv.sync()
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        self.kv.sync_async()
    }
}

/// The step of the traces, as their recorder had it.
struct Step {
    fails: bool,
}

impl Transformation for Step {
    fn description(&self) -> String {
        "{'class_name': 'base_component'}".to_owned()
    }

    fn apply(&self, nodes: Vec<Node>) -> Result<Vec<Node>, Box<dyn Error + Send + Sync>> {
        if self.fails {
            return Err("transform failed".into());
        }
        let upper = |node: Node| {
            let text = node.content_text().to_string().to_uppercase();
            let mut child = Node::text(format!("u-{}", node.id), text).with_source(&node.id);
            (child.metadata, child.embedding) = (node.metadata, node.embedding);
            child
        };
        Ok(nodes.into_iter().map(upper).collect())
    }
}

pub(crate) struct PipelineRunner {
    kv: Arc<Recorder>,
    strategy: DocstoreStrategy,
    has_vector_store: bool,
}

impl PipelineRunner {
    pub(crate) fn new(backend: &mut dyn Backend, init: &Value) -> Result<Self, String> {
        let strategy = match init.get("strategy").and_then(Value::as_text).and_then(Text::as_str) {
            Some("upserts") => DocstoreStrategy::Upserts,
            Some("duplicates_only") => DocstoreStrategy::DuplicatesOnly,
            Some("upserts_and_delete") => DocstoreStrategy::UpsertsAndDelete,
            other => return Err(format!("unknown strategy {other:?}")),
        };
        let has_vector_store = init.get("vector_store") != Some(&Value::Bool(false));
        let kv = Arc::new(Recorder { kv: backend.open(), calls: Mutex::default() });
        Ok(PipelineRunner { kv, strategy, has_vector_store })
    }

    /// One run, with handles of its own: nothing but what is stored connects the runs.
    fn run_documents(&self, op: &Op<'_>) -> Result<Result<Value, StoreError>, String> {
        let documents = nodes(op.args.get("documents"))?;
        let step = match op.args.get("transform").and_then(Value::as_text).and_then(Text::as_str) {
            None | Some("none") => None,
            Some("upper") => Some(Step { fails: false }),
            Some("fail") => Some(Step { fails: true }),
            other => return Err(format!("unknown transformation {other:?}")),
        };
        let mut options = IngestionOptions::default();
        if op.args.get("store_doc_text") == Some(&Value::Bool(false)) {
            options.store_doc_text = false;
        }
        let kv: Arc<dyn KvStore> = self.kv.clone();
        let mut pipeline = IngestionPipeline::new(self.strategy)
            .with_docstore(&DocumentStore::new(kv.clone()))
            .with_cache(&IngestionCache::new(kv.clone()));
        if self.has_vector_store {
            pipeline = pipeline.with_vector_store(&VectorStore::new(kv));
        }
        let steps: Vec<&dyn Transformation> = step.iter().map(|step| step as _).collect();
        let made = pipeline.run(&documents, &steps, &options);
        Ok(made.map(|nodes| nodes.iter().map(|node| Value::from(&node.id)).collect()))
            .map(|made| made.map(Value::List))
    }

    fn vector_state(&self) -> Result<Value, StoreError> {
        let mut state = Map::new();
        VectorStore::new(self.kv.clone()).for_each_entry(&mut |entry| {
            state.insert(entry.id, entry.ref_doc_id.unwrap_or_else(|| "None".into()));
            Ok(())
        })?;
        Ok(state.into())
    }
}

impl Runner for PipelineRunner {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        let outcome = match op.name {
            "run" | "arun" => self.run_documents(op)?,
            "kv_calls" => Ok(self.kv.take()),
            "docstore_state" => DocumentStore::new(self.kv.clone()).to_dict(),
            "vector_state" => self.vector_state(),
            "cache_sizes" => {
                self.kv.len(DEFAULT_CACHE_COLLECTION).map_err(StoreError::Kv).map(|len| {
                    let sizes = [(DEFAULT_CACHE_COLLECTION, len)].into_iter();
                    sizes.filter(|(_, len)| *len > 0).collect::<Map>().into()
                })
            }
            other => return Err(format!("unknown operation {other}")),
        };
        Ok(outcome.map_err(|e| match e {
            StoreError::Transformation(source) => {
                Raised { class: "RuntimeError", message: source.to_string() }
            }
            other => Raised { class: "ValueError", message: other.to_string() },
        }))
    }
}

pub(crate) struct CacheRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    kv: Option<Arc<dyn KvStore>>,
}

impl<'a> CacheRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        let kv = Some(backend.open());
        CacheRunner { backend, kv }
    }
}

impl Runner for CacheRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        if op.name == "persist_reload" {
            if let Some(kv) = self.kv.take() {
                IngestionCache::new(kv).persist().map_err(|e| e.to_string())?;
            }
            self.kv = Some(self.backend.open());
            return Ok(Ok(Value::Null));
        }
        let kv = self.kv.clone().ok_or("the store is closed")?;
        let collection = op.args.get("collection").and_then(Value::as_text).and_then(Text::as_str);
        let cache = match collection {
            Some(name) => IngestionCache::with_collection(kv.clone(), name),
            None => IngestionCache::new(kv.clone()),
        };
        let key = || op.args.get("key").and_then(Value::as_text).cloned().ok_or("no key");
        let outcome = match op.name {
            "put" => cache.put(key()?, &nodes(op.args.get("nodes"))?).map(|()| Value::Null),
            "get" => cache.get(key()?).map(|found| {
                let stored = |nodes: Vec<Node>| nodes.iter().map(Node::to_value).collect();
                found.map_or(Value::Null, |nodes| Value::List(stored(nodes)))
            }),
            "clear" => cache.clear().map(|()| Value::Null),
            "raw" => to_dict(&*kv).map_err(StoreError::Kv),
            other => return Err(format!("unknown operation {other}")),
        };
        Ok(outcome.map_err(|e| Raised { class: "ValueError", message: e.to_string() }))
    }
}

fn nodes(list: Option<&Value>) -> Result<Vec<Node>, String> {
    let list = list.and_then(Value::as_list).ok_or("no nodes")?;
    list.iter().map(|node| Node::from_value(node).map_err(|e| e.to_string())).collect()
}
