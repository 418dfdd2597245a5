//! Traces of `SimpleVectorStore`.

use siltstone::kv::{Map, Text, Value, json};
use siltstone::model::Node;
use siltstone::stores::{
    MetadataFilters, QueryMode, StoreError, VectorEntry, VectorQuery, VectorQueryResult,
    VectorStore,
};

use crate::kvstore::block_on;
use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct VectorRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    store: Option<VectorStore>,
}

type Ran = Result<Value, StoreError>;

impl<'a> VectorRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend, init: &Value) -> Result<Self, String> {
        let store = VectorStore::new(backend.open());
        if let Some(data) = init.get("data") {
            store.add_entries(&entries(data)?).map_err(|e| e.to_string())?;
        }
        Ok(VectorRunner { backend, store: Some(store) })
    }

    /// Closes the key-value store and opens it again; then takes everything out as JSON text and
    /// loads that.
    fn reload(&mut self) -> Result<(), String> {
        let store = self.store.take().ok_or("the store is closed")?;
        store.persist().map_err(|e| e.to_string())?;
        drop(store);
        let store = VectorStore::new(self.backend.open());
        let text =
            json::to_string(&to_dict(&store).map_err(|e| e.to_string())?, json::Style::Python);
        let read = json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
        store.clear().map_err(|e| e.to_string())?;
        store.add_entries(&entries(&read)?).map_err(|e| e.to_string())?;
        self.store = Some(store);
        Ok(())
    }
}

/// The rows of what LlamaIndex persists.
fn entries(data: &Value) -> Result<Vec<VectorEntry>, String> {
    let part = |name: &str| data.get(name).and_then(Value::as_map);
    let embeddings = part("embedding_dict").ok_or("no embeddings")?;
    let entry = |(id, embedding): (&Text, &Value)| {
        let ref_doc_id = part("text_id_to_ref_doc_id").and_then(|ids| ids.get(id.as_bytes()));
        let metadata = part("metadata_dict").and_then(|all| all.get(id.as_bytes()));
        Ok(VectorEntry {
            id: id.clone(),
            embedding: floats(embedding).ok_or("no list of floats")?,
            ref_doc_id: ref_doc_id.and_then(|id| id.as_text().filter(|id| **id != "None").cloned()),
            metadata: metadata.and_then(Value::as_map).cloned(),
        })
    };
    embeddings.iter().map(entry).collect()
}

fn floats(list: &Value) -> Option<Vec<f64>> {
    let float = |value: &Value| match value {
        Value::Float(float) => Some(*float),
        Value::Int(int) => Some(*int as f64),
        _ => None,
    };
    list.as_list()?.iter().map(float).collect()
}

fn list(floats: Vec<f64>) -> Value {
    Value::List(floats.into_iter().map(Value::Float).collect())
}

fn to_dict(store: &VectorStore) -> Ran {
    let (mut embeddings, mut refs, mut metadata) = (Map::new(), Map::new(), Map::new());
    store.for_each_entry(&mut |entry| {
        embeddings.insert(&entry.id, list(entry.embedding));
        refs.insert(&entry.id, entry.ref_doc_id.unwrap_or(Text::from_static("None")));
        if let Some(found) = entry.metadata {
            metadata.insert(&entry.id, found);
        }
        Ok(())
    })?;
    let mut dict = Map::new();
    dict.set("embedding_dict", embeddings);
    dict.set("text_id_to_ref_doc_id", refs);
    dict.set("metadata_dict", metadata);
    Ok(dict.into())
}

fn texts(value: Option<&Value>) -> Option<Vec<Text>> {
    let list = value?.as_list()?;
    Some(list.iter().filter_map(|text| text.as_text().cloned()).collect())
}

fn raised(e: StoreError) -> Raised {
    let (class, message) = match &e {
        StoreError::NotFound { id, .. } => ("KeyError", format!("'{id}'")),
        StoreError::Type(_) => ("TypeError", e.to_string()),
        StoreError::Unsupported(_) => ("NotImplementedError", e.to_string()),
        StoreError::InvalidArgument(what) => ("ValueError", what.clone()),
        _ => ("OSError", e.to_string()),
    };
    Raised { class, message }
}

/// The query, or what Python says of a mode that it does not know.
fn query(args: &Value) -> Result<VectorQuery, StoreError> {
    let mut query = VectorQuery::default();
    query.embedding = args.get("query_embedding").and_then(floats);
    query.top_k = match args.get("similarity_top_k") {
        None => Some(1),
        Some(k) => k.as_int().map(|k| usize::try_from(k).unwrap_or(0)),
    };
    if let Some(mode) = args.get("mode").and_then(Value::as_text) {
        query.mode = QueryMode::from_name(&mode.to_string_lossy())?;
    }
    query.filters = args.get("filters").map(MetadataFilters::from_value).transpose()?;
    query.node_ids = texts(args.get("node_ids"));
    query.doc_ids = texts(args.get("doc_ids"));
    let threshold = args.get("mmr_threshold_kwarg").or(args.get("mmr_threshold_field"));
    query.mmr_threshold = threshold.and_then(|threshold| match threshold {
        Value::Float(float) => Some(*float),
        other => other.as_int().map(|int| int as f64),
    });
    Ok(query)
}

fn found(result: VectorQueryResult) -> Value {
    let mut map = Map::new();
    map.set("ids", result.ids.into_iter().map(Value::from).collect::<Vec<_>>());
    map.set("similarities", list(result.similarities));
    map.into()
}

/// One filter, as the group that holds it reads it.
fn validate(filter: &Value) -> Outcome {
    let mut group = Map::new();
    group.set("filters", vec![filter.clone()]);
    match MetadataFilters::from_value(&group.into()) {
        Ok(read) => match read.filters.first() {
            Some(siltstone::stores::Filter::One(one)) => Ok(one.to_value()),
            _ => Ok(Value::Null),
        },
        Err(e) => Err(Raised { class: "ValidationError", message: e.to_string() }),
    }
}

impl Runner for VectorRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        if op.name == "persist_reload" {
            return self.reload().map(|()| Ok(Value::Null));
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        let arg = |name: &str| op.args.get(name);
        let text =
            |name: &str| arg(name).and_then(Value::as_text).cloned().ok_or(format!("no {name}"));
        let ids = |ids: Vec<Text>| Value::List(ids.into_iter().map(Value::from).collect());
        let ran: Ran = match op.name {
            "add" | "async_add" => {
                let nodes = arg("nodes").and_then(Value::as_list).ok_or("no nodes")?;
                let nodes = nodes.iter().map(Node::from_value).collect::<Result<Vec<_>, _>>();
                let nodes = nodes.map_err(|e| e.to_string())?;
                match op.name {
                    "add" => store.add(&nodes),
                    _ => block_on(store.async_add(&nodes)),
                }
                .map(ids)
            }
            "get" => store.get(text("text_id")?).map(list),
            "get_nodes" => store.get_nodes().map(|_| Value::Null),
            "ids" => store.ids().map(ids),
            "to_dict" => to_dict(store),
            "clear" => store.clear().map(|()| Value::Null),
            "delete" => store.delete(text("ref_doc_id")?).map(|()| Value::Null),
            "adelete" => block_on(store.adelete(text("ref_doc_id")?)).map(|()| Value::Null),
            "delete_nodes" => {
                let ids = texts(arg("node_ids"));
                let filters = arg("filters").map(MetadataFilters::from_value).transpose();
                let filters = filters.map_err(|e| e.to_string())?;
                store.delete_nodes(ids.as_deref(), filters.as_ref()).map(|()| Value::Null)
            }
            "query" => query(op.args).and_then(|query| store.query(&query)).map(found),
            "validate_filter" => return Ok(validate(arg("filter").ok_or("no filter")?)),
            other => return Err(format!("unknown operation {other}")),
        };
        Ok(ran.map_err(raised))
    }
}
