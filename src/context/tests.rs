mod given;
#[cfg(feature = "testing")]
mod readers;
mod transactions;
mod vectors;

use std::fmt::Write as _;

use super::*;
use std::ops::ControlFlow;

use crate::kv::{Text, Value};
use crate::model::{ChatMessage, LabelledNode, MessageRole, Node};
use crate::stores::{
    AddOptions, IndexStruct, MessageStatus, StructKind, StructMethods, VectorQuery,
};
#[cfg(feature = "testing")]
use crate::testing::Rng;
use crate::vfs::mem::MemVfs;
use crate::vfs::{OpenMode, Vfs};

fn add(context: &StorageContext, id: &str) -> Result<(), StoreError> {
    let node = Node::text(id, "text").with_source("a.txt");
    context.docstore().add_documents(&[node], &AddOptions::default())?;
    context.graph_store().upsert_triplet(id, "is in", "a.txt")
}

/// What every store of the context holds, by reading each one.
fn contents(context: &StorageContext) -> String {
    let mut all = String::new();
    let ids = context.docstore().get_all_document_ids().expect("ids");
    write!(all, "{ids:?} ").expect("text");
    write!(all, "{:?} ", context.index_store().index_structs().expect("structs")).expect("text");
    for namespace in context.vector_namespaces().expect("namespaces") {
        let store = context.vector_store_in(&namespace).expect("a store");
        let found = store.query(&VectorQuery::new([1.0, 0.0], 100)).expect("query");
        write!(all, "{namespace} {found:?} ").expect("text");
    }
    write!(all, "{:?} ", context.graph_store().to_dict().expect("graph")).expect("text");
    write!(all, "{:?} ", context.chat_store().get_messages("chat").expect("chat")).expect("text");
    write!(all, "{:?} ", context.chat_queue().get_messages("queue", None, None, 0).expect("queue"))
        .expect("text");
    write!(all, "{:?}", context.property_graph_store().to_dict().expect("graph")).expect("text");
    all
}

fn add_everywhere(context: &StorageContext, id: &str) -> Result<(), StoreError> {
    add(context, id)?;
    let mut node = Node::text(id, "text");
    node.embedding = Some(vec![1.0, id.len() as f64]);
    context.vector_store()?.add(std::slice::from_ref(&node))?;
    context.create_vector_store("titles")?.add(&[node])?;
    if context.index_store().index_ids()?.is_empty() {
        context.index_store().add_index_struct(&IndexStruct::new(StructKind::List, "list"))?;
    }
    context.index_store().add_node("list", id)?;
    let message = ChatMessage::new(MessageRole::User, id);
    context.chat_store().add_message("chat", &message, None)?;
    context.chat_queue().add_message("queue", &message, MessageStatus::Active)?;
    context.property_graph_store().upsert_nodes(&[LabelledNode::entity(id)])
}

/// Goal: vector stores without rows are there after opening again, and only those asked for.
#[test]
fn namespaces_are_remembered() {
    let dir = tempfile::tempdir().expect("a directory");
    let context = StorageContext::open(dir.path()).expect("open");
    assert_eq!(context.vector_namespaces().expect("names"), ["default", "image"]);
    assert!(!context.has_property_graph().expect("known"));
    context.create_vector_store("titles").expect("create");
    context.create_vector_store("titles").expect("again");
    let missing = context.vector_store_in("bodies").expect_err("there is none");
    assert_eq!(missing.to_string(), "vector store bodies not found.");
    drop(context);
    let context = StorageContext::builder().with_property_graph().open(dir.path()).expect("open");
    assert_eq!(context.vector_namespaces().expect("names"), ["default", "image", "titles"]);
    drop(context);
    let chosen = StorageContext::builder().vector_namespaces(["only"]);
    let context = chosen.open(dir.path()).expect("open");
    assert!(context.has_property_graph().expect("known"), "it was asked for");
    assert_eq!(context.vector_namespaces().expect("names"), ["only", "image"]);
    assert!(context.vector_store().is_err());
    let mut node = Node::text("n1", "text");
    node.embedding = Some(vec![1.0]);
    VectorStore::new(context.kv().clone()).add(&[node]).expect("add");
    assert_eq!(context.vector_namespaces().expect("names"), ["only", "image", "default"]);
}

/// Goal: what LlamaIndex persisted is not taken for a store, nor made one; one that is there is
/// opened whatever lies beside it.
#[test]
fn what_llamaindex_persisted_is_no_store() {
    let dir = Path::new("/dir");
    let make = |vfs: &MemVfs, name: &str| {
        vfs.create_dir_all(dir).expect("create");
        vfs.open(&dir.join(name), OpenMode::CreateNew).map(drop).expect("create")
    };
    let options = |vfs: &Arc<MemVfs>| Options::new().vfs(vfs.clone());
    for name in ["docstore.json", "index_store.json", "default__vector_store.json"] {
        let vfs = Arc::new(MemVfs::default());
        make(&vfs, name);
        let refused = StorageContext::open_with(dir, options(&vfs)).expect_err("no store");
        assert!(matches!(refused, OpenError::NoStore { .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains(name) && said.contains("StorageContext::import"), "{said}");
        let built = StorageContext::builder().with_property_graph().open_with(dir, options(&vfs));
        let said = built.expect_err("the same").to_string();
        assert!(said.contains("siltstone import"), "{said}");
        assert_eq!(vfs.list(dir).expect("list"), [name], "nothing was made");
    }
    let vfs = Arc::new(MemVfs::default());
    drop(StorageContext::open_with(dir, options(&vfs)).expect("a new store"));
    make(&vfs, "docstore.json");
    StorageContext::open_with(dir, options(&vfs)).expect("the store that is there");
}

/// Goal: the texts of LlamaIndex's errors, and the order of what is loaded.
#[test]
fn indices_are_loaded_as_llamaindex_does() {
    let context = StorageContext::from_defaults();
    let message = |found: Result<IndexStruct, StoreError>| found.expect_err("an error").to_string();
    assert!(message(context.load_index(None)).contains("No index in storage context, check"));
    for (kind, id) in [(StructKind::List, "b"), (StructKind::VectorStore, "a")] {
        context.index_store().add_index_struct(&IndexStruct::new(kind, id)).expect("add");
    }
    assert!(message(context.load_index(None)).contains("but got 2 instead"));
    let missing = message(context.load_index(Some(&"c".into())));
    assert!(missing.contains("Failed to load index with ID c"), "{missing}");
    let found = context.load_index(Some(&"a".into())).expect("load");
    assert_eq!(found.kind().index_class(), "VectorStoreIndex");
    let all = context.load_graph("b").expect("load");
    assert_eq!(all.root().expect("root").kind(), StructKind::List);
    let ids: Vec<_> = all.indices.iter().map(|index| index.index_id().to_string()).collect();
    assert_eq!(ids, ["b", "a"]);
    assert!(context.load_graph("c").expect("load").root().is_err());
}

/// Goal: a context survives being a dictionary, and what cannot be one says so.
#[test]
fn dictionaries_hold_every_store_or_none() {
    let context = StorageContext::from_defaults();
    add_everywhere(&context, "n1").expect("add");
    let dict = context.to_dict().expect("a dictionary");
    let again = StorageContext::from_dict(&dict).expect("a context");
    assert_eq!(again.to_dict().expect("a dictionary"), dict);
    assert_eq!(again.vector_namespaces().expect("names"), ["default", "image", "titles"]);
    assert!(again.docstore().document_exists("n1").expect("exists"));
    for key in ["vector_store", "doc_store", "index_store", "graph_store", "property_graph_store"] {
        let mut less = dict.as_map().expect("a map").clone();
        less.remove(key);
        let refused = StorageContext::from_dict(&less.into()).expect_err("a key is missing");
        let expected = format!("the dictionary has no key \"{key}\"; nothing was loaded");
        assert_eq!(refused.to_string(), expected);
    }
}

/// Goal: a vector store that is created can be filled; one whose name is too long for that is
/// refused, and not entered.
#[test]
fn a_vector_store_with_too_long_a_name_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = StorageContext::open(dir.path()).expect("open");
    for context in [StorageContext::from_defaults(), log] {
        let (mut longest, mut refused) = (0, 0);
        for len in (200..260).chain([1 << 16]) {
            let name = "x".repeat(len);
            let before = context.vector_namespaces().expect("namespaces");
            let mut node = Node::text("n", "text").with_source("a.txt");
            node.embedding = Some(vec![1.0, 0.0]);
            match context.create_vector_store(&name) {
                Ok(store) => {
                    store.add(&[node]).expect("it can be filled");
                    assert_eq!(store.ids().expect("ids").len(), 1);
                    longest = len;
                }
                Err(e) => {
                    assert!(matches!(e, StoreError::InvalidArgument(_)), "{e}");
                    assert!(e.to_string().contains(&format!("has {len} bytes")), "{e}");
                    assert_eq!(context.vector_namespaces().expect("namespaces"), before);
                    let store = VectorStore::with_namespace(context.kv().clone(), &name);
                    store.add(&[node]).expect_err("it could not be filled");
                    refused += 1;
                }
            }
        }
        assert!(longest > 200 && refused > 1, "{longest} is the longest, {refused} refused");
    }
}

/// Goal: a graph and a property graph of one namespace do not meet.
#[test]
fn stores_of_one_namespace_are_apart() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let graph = GraphStore::with_namespace(kv.clone(), "t1");
    let property_graph = PropertyGraphStore::with_namespace(kv.clone(), "t1");
    for i in 0..600 {
        graph.upsert_triplet("ann", "knows", format!("p{i}")).expect("upsert");
        property_graph.upsert_nodes(&[LabelledNode::entity(format!("p{i}"))]).expect("upsert");
    }
    property_graph.clear().expect("clear");
    assert_eq!(graph.get("ann").expect("get").len(), 600);
}
