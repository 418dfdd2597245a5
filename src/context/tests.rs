#[cfg(feature = "testing")]
mod readers;
mod vectors;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use std::ops::ControlFlow;

use crate::kv::{Map, Text, Value};
use crate::model::{ChatMessage, LabelledNode, MessageRole, Node};
use crate::stores::{
    AddOptions, IndexStruct, MessageStatus, StructKind, StructMethods, VectorQuery,
};
#[cfg(feature = "testing")]
use crate::testing::Rng;
use crate::transfer::FileNames;
use crate::vfs::mem::MemVfs;
use crate::vfs::{OpenMode, Vfs};

fn add(context: &StorageContext, id: &str) -> Result<(), StoreError> {
    let node = Node::text(id, "text").with_source("a.txt");
    context.docstore().add_documents(&[node], &AddOptions::default())?;
    context.graph_store().upsert_triplet(id, "is in", "a.txt")
}

/// Goal: a transaction that fails leaves no trace in any store, one that does not is one
/// batch, and the stores go on well after both. Method: reopening in between, so that what the
/// stores keep in memory cannot hide what is stored.
#[test]
fn a_transaction_is_all_or_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || StorageContext::open(dir.path()).expect("open");
    let context = open();
    add(&context, "n0").expect("add");
    let failed = context.transaction(|inside| {
        add(inside, "n1")?;
        assert!(inside.docstore().document_exists("n1")?, "it sees its own changes");
        assert_eq!(inside.graph_store().get("n1")?.len(), 1);
        Err::<(), _>(StoreError::InvalidArgument("enough".into()))
    });
    assert!(matches!(failed, Err(StoreError::InvalidArgument(_))));
    let batches_before = context.kv().len("docstore/data").expect("len");
    assert_eq!(batches_before, 1, "nothing of the failed one is there");
    for round in 0..3 {
        let id = format!("t{round}");
        let done = context.transaction(|inside| add(inside, &id));
        done.expect("a transaction");
        add(&context, &format!("s{round}")).expect("add outside");
    }
    let info = context.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
    let ids: Vec<String> = info.node_ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["n0", "t0", "s0", "t1", "s1", "t2", "s2"]);
    drop(context);
    let context = open();
    let again = context.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
    assert_eq!(again, info);
    assert!(!context.docstore().document_exists("n1").expect("exists"));
    assert_eq!(context.graph_store().get("t2").expect("get").len(), 1);
    assert!(context.graph_store().get("n1").expect("get").is_empty());
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

/// Goal: every store takes part in a transaction. Method: all stores are changed in one that fails
/// and one that does not, with queries before, in between and after, since vector stores keep
/// tables of their rows; then what is read must be what another handle reads.
#[test]
fn every_store_takes_part_in_a_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || StorageContext::open(dir.path()).expect("open");
    let context = open();
    add_everywhere(&context, "n0").expect("add");
    let before = contents(&context);
    let counts = context.kv().collections().expect("counts");
    let failed = context.transaction(|inside| {
        add_everywhere(inside, "failed")?;
        assert!(contents(inside).len() > before.len(), "it sees its own changes");
        assert_eq!(context.kv().collections()?, counts, "nobody else does");
        Err::<(), _>(StoreError::InvalidArgument("enough".into()))
    });
    assert!(matches!(failed, Err(StoreError::InvalidArgument(_))));
    assert_eq!(contents(&context), before, "a failed transaction leaves no trace");
    let mut within = String::new();
    let done = context.transaction(|inside| -> Result<(), StoreError> {
        add_everywhere(inside, "n1")?;
        add_everywhere(inside, "n2")?;
        within = contents(inside);
        Ok(())
    });
    done.expect("a transaction");
    assert_eq!(contents(&context), within);
    add_everywhere(&context, "n3").expect("add outside");
    let after = contents(&context);
    for id in ["n0", "n1", "n2", "n3"] {
        // Documents, the members of the index, two vector stores, two graphs, two chats.
        assert!(after.matches(&format!("\"{id}\"")).count() >= 8, "{id} in {after}");
    }
    drop(context);
    assert_eq!(contents(&open()), after, "as another handle reads it");
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

/// A store of the caller's own: it counts.
#[derive(Clone, Default)]
struct Counting {
    persisted: Arc<AtomicUsize>,
    fails: bool,
}

impl Persist for Counting {
    fn persist(&self) -> Result<(), StoreError> {
        self.persisted.fetch_add(1, Ordering::Relaxed);
        match self.fails {
            true => Err(StoreError::InvalidArgument("it is full".into())),
            false => Ok(()),
        }
    }
}

impl IndexSource for Counting {
    fn index_structs(&self) -> Result<Vec<IndexStruct>, StoreError> {
        Ok(vec![IndexStruct::new(StructKind::Tree, "mine")])
    }

    fn index_struct(&self, id: &Text) -> Result<Option<IndexStruct>, StoreError> {
        Ok(self.index_structs()?.into_iter().find(|index| index.index_id() == id))
    }
}

/// Goal: any store can be the caller's; it is handed out, persisted and used for loading, and its
/// failure to persist comes out after the context's own stores are durable.
#[test]
fn stores_of_the_caller_s_own_take_their_place() {
    let mine = Counting::default();
    let context = StorageContext::builder()
        .docstore(mine.clone())
        .index_store(mine.clone())
        .vector_store(mine.clone())
        .vector_store_in("titles", mine.clone())
        .graph_store(mine.clone())
        .property_graph_store(mine.clone())
        .chat_store(mine.clone())
        .in_memory()
        .expect("a context");
    context.persist().expect("persist");
    assert_eq!(mine.persisted.load(Ordering::Relaxed), 7, "each of them once");
    assert_eq!(context.vector_namespaces().expect("names"), ["default", "titles"]);
    assert!(context.create_vector_store("more").is_err(), "they are the caller's");
    context.add_vector_store(mine.clone(), "more");
    context.vector_store_in("more").expect("there").persist().expect("persist");
    assert_eq!(mine.persisted.load(Ordering::Relaxed), 8);
    assert_eq!(context.load_index(None).expect("load").kind(), StructKind::Tree);
    assert!(context.has_property_graph().expect("known"));
    let done = context.transaction(|inside| -> Result<(), StoreError> {
        inside.docstore().persist()?;
        Ok(())
    });
    done.expect("a transaction");
    assert_eq!(mine.persisted.load(Ordering::Relaxed), 9, "it is the same inside");

    let dir = tempfile::tempdir().expect("a directory");
    let failing = Counting { fails: true, ..Counting::default() };
    let built = StorageContext::builder().graph_store(failing).open(dir.path());
    let context = built.expect("a context");
    context
        .docstore()
        .add_documents(&[Node::text("n1", "text")], &AddOptions::default())
        .expect("add");
    let failed = context.persist().expect_err("the caller's store fails");
    assert!(failed.to_string().contains("it is full"), "{failed}");
    drop(context);
    let context = StorageContext::open(dir.path()).expect("open");
    assert!(context.docstore().document_exists("n1").expect("exists"));
}

/// Goal: a context that is made with vector stores of the caller's has an image store of its own
/// beside them, for good, and one that is loaded has none, as LlamaIndex's `from_defaults`.
#[test]
fn image_stands_beside_given_vector_stores() {
    let dir = tempfile::tempdir().expect("a directory");
    let given = || VectorStore::new(Arc::new(MemoryKv::new()));
    let made = || StorageContext::builder().vector_store(given());
    let context = made().open(dir.path()).expect("open");
    assert_eq!(context.vector_namespaces().expect("names"), ["default", "image"]);
    let mut node = Node::text("n1", "text");
    node.embedding = Some(vec![1.0]);
    let add = |context: &StorageContext| {
        context.vector_store_in("image").expect("there").add(std::slice::from_ref(&node))
    };
    add(&context).expect("add");
    let failed = context.transaction(|inside| {
        inside.vector_store_in("image")?.clear()?;
        Err::<(), _>(StoreError::InvalidArgument("enough".into()))
    });
    failed.expect_err("it fails");
    assert!(context.create_vector_store("more").is_err(), "the others are the caller's");
    drop(context);
    let context = made().open(dir.path()).expect("open again");
    let ids = context.vector_store_in("image").expect("there").ids().expect("ids");
    assert_eq!(ids, ["n1"], "it is stored with the context");
    drop(context);
    let mine = given();
    let built = made().vector_store_in("image", mine.clone()).open(dir.path()).expect("open");
    add(&built).expect("add");
    assert_eq!(mine.ids().expect("ids"), ["n1"], "a given one is in its place");

    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    super::tests::add(&StorageContext::from_kv(kv.clone()), "n1").expect("add");
    let loaded = made().over(kv).expect("a context over what was stored");
    assert_eq!(loaded.vector_namespaces().expect("names"), ["default"]);
    let foreign = StorageContext::builder().vector_store(Counting::default());
    let foreign = foreign.in_memory().expect("a context");
    assert_eq!(foreign.vector_namespaces().expect("names"), ["default"]);
}

/// Goal: a vector store that is added in a transaction is there if the transaction is, also one
/// within another.
#[test]
fn vector_stores_are_added_with_their_transaction() {
    let context = StorageContext::from_defaults();
    let store = || VectorStore::new(Arc::new(MemoryKv::new()));
    let names = || context.vector_namespaces().expect("names");
    let failed = context.transaction(|inside| {
        inside.add_vector_store(store(), "failed");
        inside.add_vector_store(store(), "default");
        assert_eq!(inside.vector_namespaces()?, ["default", "image", "failed"]);
        Err::<(), _>(StoreError::InvalidArgument("enough".into()))
    });
    failed.expect_err("it fails");
    assert_eq!(names(), ["default", "image"]);
    let mut node = Node::text("n1", "text");
    node.embedding = Some(vec![1.0]);
    context.vector_store().expect("there").add(&[node]).expect("add");
    let own = VectorStore::new(context.kv().clone());
    assert_eq!(own.ids().expect("ids"), ["n1"], "the context's own is in its place");
    let done = context.transaction(|inside| -> Result<(), StoreError> {
        inside.add_vector_store(store(), "done");
        let failed = inside.transaction(|innermost| {
            innermost.add_vector_store(store(), "innermost");
            assert!(innermost.vector_store_in("done").is_ok());
            Err::<(), _>(StoreError::InvalidArgument("enough".into()))
        });
        assert!(failed.is_err());
        inside.transaction(|innermost| -> Result<(), StoreError> {
            innermost.add_vector_store(store(), "inner");
            Ok(())
        })
    });
    done.expect("a transaction");
    assert_eq!(names(), ["default", "image", "done", "inner"]);
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

/// Goal: stores of this crate's types that the caller gave, in whatever namespace, are in the
/// dictionary and in the files in the place of the context's own.
#[test]
fn given_stores_are_exported() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let aside: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    add_everywhere(&StorageContext::from_kv(kv.clone()), "hidden").expect("add");
    let vectors = VectorStore::with_namespace(aside.clone(), "v");
    let given = StorageContext::builder()
        .docstore(DocumentStore::with_namespace(aside.clone(), "d"))
        .index_store(IndexStore::with_namespace(aside.clone(), "i"))
        .vector_stores([("default".to_owned(), vectors.clone()), ("titles".to_owned(), vectors)])
        .graph_store(GraphStore::with_namespace(aside.clone(), "g"))
        .property_graph_store(PropertyGraphStore::with_namespace(aside.clone(), "p"))
        .chat_store(Arc::new(ChatStore::with_namespace(aside, "c")))
        .over(kv)
        .expect("a context");
    let node = {
        let mut node = Node::text("n1", "text").with_source("a.txt");
        node.embedding = Some(vec![1.0, 2.0]);
        node
    };
    given
        .docstore()
        .add_documents(std::slice::from_ref(&node), &AddOptions::default())
        .expect("add");
    let list = IndexStruct::new(StructKind::List, "list");
    given.index_store().add_index_struct(&list).expect("add");
    given.vector_store().expect("there").add(&[node]).expect("add");
    given.graph_store().upsert_triplet("n1", "is in", "a.txt").expect("add");
    given.property_graph_store().upsert_nodes(&[LabelledNode::entity("n1")]).expect("add");
    let message = ChatMessage::new(MessageRole::User, "n1");
    given.chat_store().add_message("chat", &message, None).expect("add");

    let dict = given.to_dict().expect("a dictionary");
    let keys: Vec<String> = dict.as_map().expect("a map").keys().map(ToString::to_string).collect();
    let theirs =
        ["vector_store", "doc_store", "index_store", "graph_store", "property_graph_store"];
    assert_eq!(keys, theirs, "LlamaIndex's keys and no others");
    let mut files = dict::Files::default();
    given.export(&mut files, &FileNames::default()).expect("export");
    let loaded = [
        StorageContext::from_dict(&dict).expect("a context"),
        StorageContext::import(&files, Arc::new(MemoryKv::new())).expect("a context"),
    ];
    for again in &loaded {
        let docs = |store: &DocumentStore| format!("{:?}", store.docs().expect("docs"));
        assert_eq!(docs(again.docstore()), docs(given.docstore()));
        let info = again.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
        assert_eq!(info.node_ids, ["n1"]);
        assert_eq!(again.index_store().index_ids().expect("ids"), ["list"]);
        assert_eq!(again.vector_namespaces().expect("names"), ["default", "titles"]);
        assert_eq!(again.vector_store().expect("there").ids().expect("ids"), ["n1"]);
        let graph = again.graph_store().to_dict().expect("graph");
        assert_eq!(graph, given.graph_store().to_dict().expect("graph"));
        assert_eq!(again.property_graph_store().node_count().expect("count"), 1);
    }
    let chat = loaded[1].chat_store().get_messages("chat").expect("get");
    assert_eq!(chat, given.chat_store().get_messages("chat").expect("get"));
    assert!(!contents(&loaded[1]).contains("hidden"), "the context does not show it");
}

/// A graph store of the caller's own type that can be written.
struct Writable(Value);

impl Persist for Writable {
    fn persist(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn to_dict(&self) -> Result<Value, StoreError> {
        Ok(self.0.clone())
    }
}

/// Goal: a store of another type is exported if it says how, and named if it does not.
#[test]
fn foreign_stores_are_exported_if_they_can_be() {
    let graph = GraphStore::new(Arc::new(MemoryKv::new()));
    graph.upsert_triplet("ann", "knows", "bob").expect("add");
    let writable = Writable(graph.to_dict().expect("graph"));
    let built = StorageContext::builder().graph_store(Arc::new(writable)).in_memory();
    let dict = built.expect("a context").to_dict().expect("a dictionary");
    let again = StorageContext::from_dict(&dict).expect("a context");
    assert_eq!(again.graph_store().get("ann").expect("get").len(), 1);

    let refused = |done: Result<Value, crate::transfer::TransferError>, name: &str| {
        let said = done.expect_err("it gives no dictionary").to_string();
        assert!(said.contains("to_dict only available when using simple"), "{said}");
        assert!(said.contains(&format!("the {name} of this context")), "{said}");
        assert!(said.contains("implement Persist::to_dict"), "{said}");
    };
    let foreign = Counting::default;
    let builder = StorageContext::builder;
    let built = builder().docstore(foreign()).in_memory().expect("a context");
    refused(built.to_dict(), "document store");
    let built = builder().index_store(foreign()).in_memory().expect("a context");
    refused(built.to_dict(), "index store");
    let built = builder().vector_store(foreign()).in_memory().expect("a context");
    refused(built.to_dict(), "vector store");
    let built = builder().property_graph_store(foreign()).in_memory().expect("a context");
    refused(built.to_dict(), "property graph store");
    let built = builder().chat_store(foreign()).in_memory().expect("a context");
    built.to_dict().expect("chats are no part of it");
    let files = built.export(&mut dict::Files::default(), &FileNames::default());
    refused(files.map(|_| Value::Null), "chat store");
}

/// Goal: handles that know nothing of each other do not harm each other, as long as they stand on
/// one store. Method: two contexts over two handles of one log, on two threads, both adding to the
/// same ref doc, vector store, graphs and conversation; one clears the documents now and then.
#[test]
fn contexts_over_one_log_share_their_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = LogKv::open(dir.path()).expect("open");
    let contexts =
        [(); 2].map(|()| StorageContext::from_kv(Arc::new(LogKv::new(log.db().clone()))));
    std::thread::scope(|scope| {
        for (who, context) in contexts.iter().enumerate() {
            scope.spawn(move || {
                for i in 0..100 {
                    add_everywhere(context, &format!("{who}-{i:03}")).expect("add");
                }
            });
        }
    });
    let [context, _] = &contexts;
    let info = context.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
    assert_eq!(info.node_ids.len(), 200);
    assert_eq!(context.vector_store().expect("there").ids().expect("ids").len(), 200);
    assert_eq!(context.graph_store().len().expect("len"), 200);
    assert_eq!(context.property_graph_store().node_count().expect("count"), 200);
    assert_eq!(context.chat_store().count_messages("chat").expect("count"), 200);
    let index = context.index_store().get_index_struct("list").expect("get").expect("there");
    assert_eq!(index.field("nodes").and_then(|nodes| Some(nodes.as_list()?.len())), Some(200));
    // A store that is emptied by another handle gives its numbers out anew.
    for round in 0..4 {
        let [one, other] = &contexts;
        one.docstore().load_dict(&Map::new().into()).expect("clear");
        for i in 0..60 {
            add(if (i + round) % 2 == 0 { one } else { other }, &format!("n{i}")).expect("add");
        }
        let info = other.docstore().get_ref_doc_info("a.txt").expect("get").expect("there");
        let ids: Vec<String> = (0..60).map(|i| format!("n{i}")).collect();
        let found: Vec<String> = info.node_ids.iter().map(ToString::to_string).collect();
        assert_eq!(found, ids);
    }
}

/// Goal: functions that are given to a store may read others; what changes from within a change is
/// refused, and hangs nobody.
#[test]
fn calls_from_within_calls_read_or_are_refused() {
    let context = StorageContext::from_defaults();
    add_everywhere(&context, "n1").expect("add");
    context
        .chat_store()
        .for_each_message("chat", 0, &mut |_| {
            assert_eq!(context.chat_store().count_messages("chat")?, 1);
            assert_eq!(context.graph_store().get("n1")?.len(), 1);
            Ok(ControlFlow::Continue(()))
        })
        .expect("read");
    let before = contents(&context);
    let refused = context.transaction(|inside| {
        add_everywhere(inside, "n2")?;
        add(&context, "n3")
    });
    let refused = refused.expect_err("the outer context is used").to_string();
    assert!(refused.contains("under way"), "{refused}");
    assert_eq!(contents(&context), before, "nothing of it is there");
    let refused = context.index_store().edit("list", |index| {
        index.add_node("n4")?;
        assert_eq!(context.graph_store().get("n1")?.len(), 1, "reading is fine");
        context.graph_store().upsert_triplet("a", "b", "c")
    });
    assert!(refused.expect_err("a change in a change").to_string().contains("under way"));
    add_everywhere(&context, "n5").expect("the lock is free again");
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
