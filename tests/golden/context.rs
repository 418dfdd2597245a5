//! Traces of `StorageContext`. Its directories are kept in memory: what is persisted is exported
//! into them, and what is loaded is imported.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use siltstone::StorageContext;
use siltstone::engine::Durability;
use siltstone::kv::{KvBatch, MemoryKv, Text, Value, json};
use siltstone::model::{LabelledNode, Node};
use siltstone::stores::{AddOptions, IndexStruct, StoreError, VectorStore};
use siltstone::transfer::{FileEntry, FileNames, Source, Target, TransferError};

use crate::{Backend, Op, Outcome, Raised, Runner, index_store};

/// The files of a directory.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Source for Files {
    fn files(&self) -> io::Result<Vec<FileEntry>> {
        let entry = |(name, bytes): (&String, &Vec<u8>)| FileEntry {
            name: name.clone(),
            len: bytes.len() as u64,
        };
        Ok(self.0.iter().map(entry).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.get(name).ok_or(io::ErrorKind::NotFound)?.as_slice()))
    }
}

impl Target for Files {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>> {
        let file = self.0.entry(name.to_owned()).or_default();
        file.clear();
        Ok(Box::new(file))
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct ContextRunner<'a> {
    backend: &'a mut dyn Backend,
    dirs: BTreeMap<String, Files>,
    context: Option<StorageContext>,
}

/// An error of the original, or of the harness.
enum Failed {
    Store(StoreError),
    Transfer(TransferError),
    Harness(String),
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        Failed::Store(e)
    }
}

impl From<TransferError> for Failed {
    fn from(e: TransferError) -> Self {
        Failed::Transfer(e)
    }
}

impl From<String> for Failed {
    fn from(e: String) -> Self {
        Failed::Harness(e)
    }
}

impl<'a> ContextRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        let context = Some(StorageContext::from_kv(backend.open()));
        ContextRunner { backend, dirs: BTreeMap::new(), context }
    }

    /// The key-value store without anything in it, opened anew.
    fn empty(&mut self) -> Result<Arc<dyn siltstone::kv::KvStore>, Failed> {
        self.context = None;
        let kv = self.backend.open();
        let mut batch = KvBatch::new();
        let collections = kv.collections().map_err(StoreError::Kv)?;
        for (name, _) in collections {
            batch.clear(&name).map_err(StoreError::Kv)?;
        }
        kv.write(batch, Durability::Buffered).map_err(StoreError::Kv)?;
        Ok(kv)
    }

    fn new_context(&mut self, args: &Value) -> Result<StorageContext, Failed> {
        let kv = self.empty()?;
        let mut builder = StorageContext::builder();
        if let Some(names) = args.get("vector_namespaces").and_then(Value::as_list) {
            builder = builder.vector_namespaces(names.iter().filter_map(Value::as_text).map(plain));
        }
        if args.get("property_graph").is_some() {
            builder = builder.with_property_graph();
        }
        if args.get("vector_store").is_some() {
            builder = builder.vector_store(VectorStore::new(kv.clone()));
        }
        Ok(builder.over(kv)?)
    }

    fn load(&mut self, args: &Value) -> Result<StorageContext, Failed> {
        let files = self.dirs.get(&text(args, "dir")?).cloned().unwrap_or_default();
        let kv = self.empty()?;
        let context = StorageContext::import(&files, kv.clone())?;
        // What was imported is there after opening, too.
        drop(context);
        drop(kv);
        let kv = self.backend.open();
        let fresh = || VectorStore::new(Arc::new(MemoryKv::new()));
        let mut builder = StorageContext::builder();
        if args.get("vector_store").is_some() {
            builder = builder.vector_store(fresh());
        }
        if args.get("image_store").is_some() {
            builder = builder.vector_store_in("image", fresh());
        }
        Ok(builder.over(kv)?)
    }

    fn persist(&mut self, args: &Value) -> Result<(), Failed> {
        let context = self.context.as_ref().ok_or("no context".to_owned())?;
        let mut options = FileNames::default();
        let names = [
            ("docstore_fname", &mut options.docstore),
            ("index_store_fname", &mut options.index_store),
            ("vector_store_fname", &mut options.vector_store),
            ("graph_store_fname", &mut options.graph_store),
            ("pg_graph_store_fname", &mut options.property_graph_store),
        ];
        for (name, option) in names {
            if args.get(name).is_some() {
                *option = text(args, name)?;
            }
        }
        context.persist()?;
        let dir = self.dirs.entry(text(args, "dir")?).or_default();
        match context.export(dir, &options) {
            // A context with vector stores of the caller's: their files are the caller's too.
            Err(TransferError::Read(StoreError::Unsupported(_))) => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    fn files(&mut self, op: &Op<'_>) -> Result<Value, Failed> {
        let dir = &mut self.dirs.entry(text(op.args, "dir")?).or_default().0;
        match op.name {
            "list_files" => {
                return Ok(dir
                    .keys()
                    .map(|name| Value::from(name.as_str()))
                    .collect::<Vec<_>>()
                    .into());
            }
            "remove_file" => drop(dir.remove(&text(op.args, "name")?)),
            "rename" => {
                let file = dir.remove(&text(op.args, "src")?).ok_or("no such file".to_owned())?;
                dir.insert(text(op.args, "dst")?, file);
            }
            _ => drop(dir.insert(text(op.args, "name")?, text(op.args, "text")?.into_bytes())),
        }
        Ok(Value::Null)
    }

    fn step(&mut self, op: &Op<'_>) -> Result<Value, Failed> {
        // After a load that failed the trace goes on with the context before, of which nothing
        // matters.
        if self.context.is_none() {
            self.context = Some(StorageContext::from_kv(self.empty()?));
        }
        match op.name {
            "new" => self.context = Some(self.new_context(op.args)?),
            "load" => self.context = Some(self.load(op.args)?),
            "persist" => self.persist(op.args)?,
            "list_files" | "remove_file" | "rename" | "write_file" => return self.files(op),
            "dict_roundtrip" => {
                let context = self.context.as_ref().ok_or("no context".to_owned())?;
                let dict = context.to_dict()?;
                let again = StorageContext::from_dict(&dict)?;
                if again.to_dict()? != dict {
                    return Err(Failed::Harness("another dictionary comes back".to_owned()));
                }
                self.context = Some(again);
            }
            _ => {
                let context = self.context.as_ref().ok_or("no context".to_owned())?;
                return call(context, op);
            }
        }
        Ok(Value::Null)
    }
}

fn plain(text: &Text) -> String {
    text.to_string()
}

fn text(args: &Value, name: &str) -> Result<String, Failed> {
    let found = args.get(name).and_then(Value::as_text).map(plain);
    found.ok_or_else(|| Failed::Harness(format!("no {name}")))
}

/// An operation on the stores of the context.
fn call(context: &StorageContext, op: &Op<'_>) -> Result<Value, Failed> {
    let args = op.args;
    let list = |name: &str| args.get(name).and_then(Value::as_list).unwrap_or_default();
    let nodes = || -> Result<Vec<Node>, Failed> {
        list("nodes")
            .iter()
            .map(|n| Node::from_value(n).map_err(|e| e.to_string().into()))
            .collect()
    };
    let texts = |ids: Vec<Text>| Value::List(ids.into_iter().map(Value::Text).collect());
    let index = |index: &IndexStruct| {
        Value::List(vec![index.kind().index_class().into(), index.index_id().into()])
    };
    Ok(match op.name {
        "vector_namespaces" => {
            let mut names = context.vector_namespaces()?;
            names.sort();
            names.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>().into()
        }
        "add_vector_store" => {
            context.create_vector_store(&text(args, "namespace")?)?;
            Value::Null
        }
        "vector_add" => {
            let added = context.vector_store_in(&text(args, "namespace")?)?.add(&nodes()?)?;
            texts(added)
        }
        "vector_ids" => texts(context.vector_store_in(&text(args, "namespace")?)?.ids()?),
        "default_vector_store_ids" => texts(context.vector_store()?.ids()?),
        "docstore_add" => {
            context.docstore().add_documents(&nodes()?, &AddOptions::default())?;
            Value::Null
        }
        "docstore_ids" => {
            let ids = context.docstore().docs()?.into_keys();
            texts(ids.collect())
        }
        "graph_upsert" => {
            let graph = context.graph_store();
            graph.upsert_triplet(text(args, "subj")?, text(args, "rel")?, text(args, "obj")?)?;
            Value::Null
        }
        "graph_dict" => context.graph_store().to_dict()?,
        "index_add" => {
            context.index_store().add_index_struct(&index_store::given(op)?)?;
            Value::Null
        }
        "index_structs" => {
            let all = context.index_store().index_structs()?;
            all.iter().map(index_store::shown).collect::<Vec<_>>().into()
        }
        "pg_upsert_nodes" => {
            let nodes = list("nodes").iter().map(|node| {
                let data = node.get("data").ok_or("no data".to_owned())?;
                LabelledNode::from_value(data, None).map_err(|e| e.to_string())
            });
            let nodes = nodes.collect::<Result<Vec<_>, String>>()?;
            context.property_graph_store().upsert_nodes(&nodes)?;
            Value::Null
        }
        "has_property_graph" => context.has_property_graph()?.into(),
        "to_dict" => context.to_dict()?,
        "to_dict_jsonable" => {
            let dict = context.to_dict()?;
            let written = json::to_string(&dict, json::Style::Python);
            let read = json::from_slice(written.as_bytes()).map_err(|e| e.to_string())?;
            (read == dict).into()
        }
        "load_index" => {
            let id = args.get("index_id").and_then(Value::as_text);
            index(&context.load_index(id)?)
        }
        "load_index_types" => {
            let ids: Option<Vec<Text>> = args
                .get("index_ids")
                .and_then(Value::as_list)
                .map(|ids| ids.iter().filter_map(|id| id.as_text().cloned()).collect());
            let all = context.load_indices(ids.as_deref())?;
            all.iter().map(index).collect::<Vec<_>>().into()
        }
        other => return Err(Failed::Harness(format!("unknown operation {other}"))),
    })
}

impl Runner for ContextRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        Ok(Err(match self.step(op) {
            Ok(value) => return Ok(Ok(value)),
            Err(Failed::Harness(e)) => return Err(e),
            Err(Failed::Store(StoreError::NotFound { id, .. })) => {
                Raised { class: "KeyError", message: format!("'{id}'") }
            }
            Err(Failed::Store(StoreError::InvalidArgument(message))) => {
                Raised { class: "ValueError", message }
            }
            Err(Failed::Store(e)) => Raised { class: "OSError", message: e.to_string() },
            Err(Failed::Transfer(e)) => {
                let class = match &e {
                    TransferError::Open { .. } => "FileNotFoundError",
                    TransferError::File { .. } => "JSONDecodeError",
                    _ => "ValueError",
                };
                Raised { class, message: e.to_string() }
            }
        }))
    }
}
