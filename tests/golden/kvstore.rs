//! Traces of `SimpleKVStore`.

use std::sync::Arc;

use siltstone::Durability;
use siltstone::kv::{DEFAULT_COLLECTION, KvBatch, KvError, KvStore, Map, Text, Value};

use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct KvRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    store: Option<Arc<dyn KvStore>>,
}

impl<'a> KvRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend, init: &Value) -> Result<Self, String> {
        let store = backend.open();
        load(&*store, init.get("data")).map_err(|e| e.to_string())?;
        Ok(KvRunner { backend, store: Some(store) })
    }
}

/// Writes `{collection: {key: value}}` in one batch.
fn load(store: &dyn KvStore, data: Option<&Value>) -> Result<(), KvError> {
    let mut batch = KvBatch::new();
    for (collection, records) in data.and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        for (key, value) in records.as_map().into_iter().flat_map(Map::iter) {
            batch.put(&collection.to_string(), key.as_bytes(), value)?;
        }
    }
    store.write(batch, Durability::Buffered).map(drop)
}

impl Runner for KvRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        if op.name == "persist_reload" {
            let open = self.store.as_ref().ok_or("the store is closed")?;
            open.persist().map_err(|e| e.to_string())?;
            self.store = None;
            self.store = Some(self.backend.open());
            return Ok(Ok(Value::Null));
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        let outcome = run(&**store, op)?;
        Ok(outcome.map_err(|e| match e {
            KvError::InvalidArgument(message) => Raised { class: "ValueError", message },
            other => Raised { class: "OSError", message: other.to_string() },
        }))
    }
}

fn run(store: &dyn KvStore, op: &Op<'_>) -> Result<Result<Value, KvError>, String> {
    let collection = op.args.get("collection").and_then(Value::as_text);
    let collection = collection.map_or(DEFAULT_COLLECTION.to_owned(), Text::to_string);
    let collection = collection.as_str();
    let key = || op.args.get("key").and_then(Value::as_text).ok_or("no key");
    let value = || op.args.get("val").ok_or("no value");
    let nothing = |done: Result<(), KvError>| done.map(|()| Value::Null);
    Ok(match op.name {
        "put" => nothing(store.put(collection, key()?.as_bytes(), value()?)),
        "aput" => nothing(block_on(store.aput(collection, key()?.as_bytes(), value()?))),
        "get" => store.get(collection, key()?.as_bytes()).map(Value::from),
        "aget" => block_on(store.aget(collection, key()?.as_bytes())).map(Value::from),
        "get_all" => store.get_all(collection).map(records),
        "aget_all" => block_on(store.aget_all(collection)).map(records),
        "delete" => store.delete(collection, key()?.as_bytes()).map(Value::Bool),
        "adelete" => block_on(store.adelete(collection, key()?.as_bytes())).map(Value::Bool),
        "put_all" | "aput_all" => {
            let pairs = op.args.get("kv_pairs").and_then(Value::as_list).ok_or("no pairs")?;
            let pair = |pair: &'_ Value| match pair.as_list() {
                Some([Value::Text(key), value]) => Ok((key.clone(), value.clone())),
                _ => Err("no pair"),
            };
            let pairs: Vec<(Text, Value)> = pairs.iter().map(pair).collect::<Result<_, _>>()?;
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_bytes(), value)).collect();
            let size = op.args.get("batch_size").map_or(Some(1), Value::as_int);
            let size = usize::try_from(size.ok_or("no batch size")?).map_err(|e| e.to_string())?;
            nothing(match op.name {
                "put_all" => store.put_all(collection, &pairs, size),
                _ => block_on(store.aput_all(collection, &pairs, size)),
            })
        }
        "to_dict" => to_dict(store),
        other => return Err(format!("unknown operation {other}")),
    })
}

pub(crate) fn to_dict(store: &dyn KvStore) -> Result<Value, KvError> {
    let mut dict = Map::new();
    for (name, len) in store.collections()? {
        let all = store.get_all(&name)?;
        assert_eq!(all.len() as u64, len, "len of {name}");
        dict.insert(name, records(all));
    }
    Ok(dict.into())
}

fn records(records: Vec<(Vec<u8>, Value)>) -> Value {
    let text = |key: Vec<u8>| Text::from_bytes(key).expect("only texts are used as keys");
    records.into_iter().map(|(key, value)| (text(key), value)).collect::<Map>().into()
}

pub(crate) use pollster::block_on;
