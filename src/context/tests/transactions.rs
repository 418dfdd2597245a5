//! Transactions over all stores, and calls beside and within each other.

use super::*;
use crate::kv::Map;

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
