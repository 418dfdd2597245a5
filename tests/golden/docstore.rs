//! Traces of `SimpleDocumentStore` and `KVDocumentStore`.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use siltstone::kv::{Map, Text, Value, json};
use siltstone::model::{ModelError, Node};
use siltstone::stores::{
    AddOptions, DocumentStore, DocumentStoreOptions, Missing, RefDocInfo, StoreError,
};

use crate::kvstore::block_on;
use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct DocRunner<'a> {
    backend: &'a mut dyn Backend,
    options: DocumentStoreOptions,
    /// Absent only while the store is closed.
    store: Option<DocumentStore>,
}

impl<'a> DocRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend, init: &Value) -> Result<Self, String> {
        let text = |field: &str| match init.get(field) {
            Some(Value::Text(text)) => text.to_string(),
            _ => String::new(),
        };
        let mut options = DocumentStoreOptions::default();
        options.namespace = text("namespace");
        options.node_collection_suffix = text("node_collection_suffix");
        options.ref_doc_collection_suffix = text("ref_doc_collection_suffix");
        options.metadata_collection_suffix = text("metadata_collection_suffix");
        let mut runner = DocRunner { backend, options, store: None };
        let store = runner.open()?;
        if let Some(data) = init.get("data") {
            store.load_dict(data).map_err(|e| e.to_string())?;
        }
        runner.store = Some(store);
        Ok(runner)
    }

    fn open(&mut self) -> Result<DocumentStore, String> {
        DocumentStore::with_options(self.backend.open(), &self.options).map_err(|e| e.to_string())
    }

    /// Closes the key-value store and opens it again; then takes everything out as JSON text and
    /// loads that, so that both ways of keeping a store are passed.
    fn reload(&mut self) -> Result<(), String> {
        let store = self.store.take().ok_or("the store is closed")?;
        store.persist().map_err(|e| e.to_string())?;
        drop(store);
        let store = self.open()?;
        let dict = store.to_dict().map_err(|e| e.to_string())?;
        let text = json::to_string(&dict, json::Style::Python);
        let read = json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
        store.load_dict(&read).map_err(|e| e.to_string())?;
        self.store = Some(store);
        Ok(())
    }
}

impl Runner for DocRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        if op.name == "persist_reload" {
            return self.reload().map(|()| Ok(Value::Null));
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        let outcome = match write(store, op)? {
            Some(outcome) => outcome,
            None => read(store, op)?,
        };
        Ok(outcome.map_err(raised))
    }
}

fn raised(e: StoreError) -> Raised {
    let class = match &e {
        StoreError::Node { source: ModelError::Missing { .. }, .. } => "KeyError",
        StoreError::Node { source: ModelError::Invalid { .. }, .. } => "ValidationError",
        StoreError::Kv(_) | StoreError::Corrupt { .. } => "OSError",
        _ => "ValueError",
    };
    let message = match e {
        StoreError::Node { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    Raised { class, message }
}

type Ran = Result<Value, StoreError>;

/// Runs an operation that writes; `None` if it is none.
fn write(store: &DocumentStore, op: &Op<'_>) -> Result<Option<Ran>, String> {
    let done = |result: Result<(), StoreError>| Ok(Some(result.map(|()| Value::Null)));
    match op.name {
        "add_documents" | "async_add_documents" => {
            let nodes = op.args.get("nodes").and_then(Value::as_list).ok_or("no nodes")?;
            let nodes = nodes.iter().map(Node::from_value).collect::<Result<Vec<_>, _>>();
            let nodes = nodes.map_err(|e| e.to_string())?;
            let mut options = AddOptions::default();
            options.allow_update = flag(op, "allow_update");
            options.store_text = flag(op, "store_text");
            let size = op.args.get("batch_size").and_then(Value::as_int);
            options.batch_size = size.and_then(|size| usize::try_from(size).ok());
            match op.name {
                "add_documents" => done(store.add_documents(&nodes, &options)),
                _ => done(block_on(store.async_add_documents(&nodes, &options))),
            }
        }
        "delete_document" => done(store.delete_document(text(op, "doc_id")?, missing(op))),
        "adelete_document" => {
            done(block_on(store.adelete_document(text(op, "doc_id")?, missing(op))))
        }
        "delete_ref_doc" => done(store.delete_ref_doc(text(op, "ref_doc_id")?, missing(op))),
        "adelete_ref_doc" => {
            done(block_on(store.adelete_ref_doc(text(op, "ref_doc_id")?, missing(op))))
        }
        "set_document_hash" => {
            done(store.set_document_hash(text(op, "doc_id")?, text(op, "doc_hash")?))
        }
        "aset_document_hash" => {
            done(block_on(store.aset_document_hash(text(op, "doc_id")?, text(op, "doc_hash")?)))
        }
        "set_document_hashes" => done(store.set_document_hashes(hashes(op)?)),
        "aset_document_hashes" => done(block_on(store.aset_document_hashes(hashes(op)?))),
        _ => Ok(None),
    }
}

/// Runs an operation that reads.
fn read(store: &DocumentStore, op: &Op<'_>) -> Result<Ran, String> {
    let id = || text(op, "doc_id");
    let ref_id = || text(op, "ref_doc_id");
    let stored = |node: Result<Node, StoreError>| node.map(|node| node.to_value());
    Ok(match op.name {
        "get_document" => match missing(op) {
            Missing::Error => stored(store.get_document(id()?)),
            Missing::Skip => found(store.find_document(id()?)),
        },
        "aget_document" => match missing(op) {
            Missing::Error => stored(block_on(store.aget_document(id()?))),
            Missing::Skip => found(block_on(store.afind_document(id()?))),
        },
        "get_node" => match missing(op) {
            Missing::Error => stored(store.get_node(text(op, "node_id")?)),
            Missing::Skip => found(store.find_document(text(op, "node_id")?)),
        },
        "get_nodes" => {
            let ids = op.args.get("node_ids").and_then(Value::as_list).ok_or("no ids")?;
            let ids: Vec<Text> = ids.iter().filter_map(|id| id.as_text().cloned()).collect();
            let nodes = store.get_nodes(&ids, missing(op));
            nodes.map(|nodes| nodes.iter().map(Node::to_value).collect::<Vec<_>>().into())
        }
        "get_node_dict" => {
            let ids = op.args.get("node_id_dict").and_then(Value::as_map).ok_or("no ids")?;
            let number = |(number, id): (&Text, &Value)| {
                Some((number.to_string().parse().ok()?, id.as_text()?.clone()))
            };
            let ids: BTreeMap<i64, Text> = ids.iter().filter_map(number).collect();
            store.get_node_dict(&ids).map(|nodes| {
                let nodes = nodes.into_iter();
                dict(nodes.map(|(number, node)| (number.to_string(), node.to_value())))
            })
        }
        "document_exists" => store.document_exists(id()?).map(Value::Bool),
        "adocument_exists" => block_on(store.adocument_exists(id()?)).map(Value::Bool),
        "ref_doc_exists" => store.ref_doc_exists(ref_id()?).map(Value::Bool),
        "aref_doc_exists" => block_on(store.aref_doc_exists(ref_id()?)).map(Value::Bool),
        "get_ref_doc_info" => info(store.get_ref_doc_info(ref_id()?)),
        "aget_ref_doc_info" => info(block_on(store.aget_ref_doc_info(ref_id()?))),
        "get_all_ref_doc_info" => store
            .get_all_ref_doc_info()
            .map(|infos| dict(infos.into_iter().map(|(id, info)| (id, info.to_value())))),
        "get_document_hash" => store.get_document_hash(id()?).map(Value::from),
        "aget_document_hash" => block_on(store.aget_document_hash(id()?)).map(Value::from),
        "get_all_document_hashes" => store.get_all_document_hashes().map(dict),
        "aget_all_document_hashes" => block_on(store.aget_all_document_hashes()).map(dict),
        "docs" => {
            let docs = store.docs();
            docs.map(|docs| dict(docs.into_iter().map(|(id, node)| (id, node.to_value()))))
        }
        "docs_ids" => {
            store.docs().map(|docs| docs.into_keys().map(Value::from).collect::<Vec<_>>().into())
        }
        "node_hash" => {
            let node = op.args.get("node").ok_or("no node")?;
            let node = Node::from_value(node).map_err(|e| e.to_string())?;
            Ok(node.hash().map_err(|e| e.to_string())?.into())
        }
        "to_dict" => store.to_dict(),
        "state_digest" => store.to_dict().map(|dict| {
            let canonical = json::to_string(&dict, json::Style::Canonical);
            let digest = Sha256::digest(canonical.as_bytes());
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }),
        other => return Err(format!("unknown operation {other}")),
    })
}

fn flag(op: &Op<'_>, name: &str) -> bool {
    op.args.get(name) != Some(&Value::Bool(false))
}

fn missing(op: &Op<'_>) -> Missing {
    if flag(op, "raise_error") { Missing::Error } else { Missing::Skip }
}

fn text(op: &Op<'_>, name: &str) -> Result<Text, String> {
    op.args.get(name).and_then(Value::as_text).cloned().ok_or_else(|| format!("no {name}"))
}

fn hashes(op: &Op<'_>) -> Result<Vec<(Text, Text)>, String> {
    let hashes = op.args.get("doc_hashes").and_then(Value::as_map).ok_or("no hashes")?;
    let pair = |(id, hash): (&Text, &Value)| Some((id.clone(), hash.as_text()?.clone()));
    hashes.iter().map(pair).collect::<Option<_>>().ok_or_else(|| "no hash".to_owned())
}

fn dict<K: Into<Text>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Value {
    entries.into_iter().collect::<Map>().into()
}

fn found(node: Result<Option<Node>, StoreError>) -> Ran {
    node.map(|node| node.map(|node| node.to_value()).into())
}

fn info(info: Result<Option<RefDocInfo>, StoreError>) -> Ran {
    info.map(|info| info.map(|info| info.to_value()).into())
}
