//! Stores that the caller gives, of this crate's types and of others.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::transfer::FileNames;

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
    super::add(&StorageContext::from_kv(kv.clone()), "n1").expect("add");
    let loaded = made().over(kv).expect("a context over what was stored");
    assert_eq!(loaded.vector_namespaces().expect("names"), ["default"]);
    let foreign = StorageContext::builder().vector_store(Counting::default());
    let foreign = foreign.in_memory().expect("a context");
    assert_eq!(foreign.vector_namespaces().expect("names"), ["default"]);
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
