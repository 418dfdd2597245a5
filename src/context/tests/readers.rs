//! Reads beside changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::model::Relation;
use crate::stores::Missing;

/// A read that waits for what waits for it is told from a slow one by this.
const HUNG: Duration = Duration::from_secs(60);

/// A context in memory, and one over a log in a directory.
fn contexts() -> (tempfile::TempDir, [StorageContext; 2]) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = StorageContext::open(dir.path()).expect("open");
    (dir, [StorageContext::from_defaults(), log])
}

/// The same, with something of every kind in them.
fn filled_contexts() -> (tempfile::TempDir, [StorageContext; 2]) {
    let (dir, contexts) = contexts();
    contexts.iter().for_each(|context| add_everywhere(context, "n1").expect("add"));
    (dir, contexts)
}

/// Reads all of the context on a thread of its own; what it found comes through the channel.
fn read_elsewhere(context: &StorageContext) -> Receiver<String> {
    let (found, receiver) = channel();
    let context = context.clone();
    std::thread::spawn(move || {
        let _gone = found.send(contents(&context));
    });
    receiver
}

/// Goal: while a transaction is held open, others read all stores, and see what was before.
/// Method: the transaction waits for them, so it would hang if they waited for it.
#[test]
fn a_transaction_that_is_open_holds_up_no_reader() {
    let (_dir, contexts) = filled_contexts();
    for context in &contexts {
        let before = contents(context);
        let done = context.transaction(|inside| {
            add_everywhere(inside, "n2")?;
            let readers = [(); 3].map(|()| read_elsewhere(context));
            for reader in readers {
                let found = reader.recv_timeout(HUNG).expect("a reader waits for the transaction");
                assert_eq!(found, before);
            }
            assert_ne!(contents(inside), before, "the transaction sees what it did");
            assert_eq!(contents(context), before, "and its own thread reads outside of it");
            Ok::<(), StoreError>(())
        });
        done.expect("a transaction");
        assert_ne!(contents(context), before);
    }
}

/// Goal: readers do not exclude each other, not even if a change waits to be written. Method: a
/// reader that is called back waits for another one, while changes are made all the time.
#[test]
fn a_read_that_waits_for_another_one_is_not_held_up() {
    let (_dir, contexts) = filled_contexts();
    for context in &contexts {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    context.graph_store().upsert_triplet("a", "b", "c").expect("upsert");
                    context.graph_store().delete("a", "b", "c").expect("delete");
                }
            });
            for _ in 0..20 {
                let visit = &mut |_| {
                    let reader = read_elsewhere(context);
                    let found = reader.recv_timeout(HUNG);
                    is_over.fetch_or(found.is_err(), Ordering::Relaxed);
                    found.expect("a reader waits for another one");
                    Ok(ControlFlow::Break(()))
                };
                context.chat_store().for_each_message("chat", 0, visit).expect("read");
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

/// Goal: a change that a read calls back is refused, and the lock is free afterwards.
#[test]
fn a_change_within_a_read_is_refused() {
    let (_dir, contexts) = filled_contexts();
    for context in &contexts {
        let before = contents(context);
        let refused = context
            .chat_store()
            .for_each_message("chat", 0, &mut |_| {
                add_everywhere(context, "n2").map(|()| ControlFlow::Continue(()))
            })
            .expect_err("it changes what it reads")
            .to_string();
        assert!(refused.contains("a read of it is under way"), "{refused}");
        assert_eq!(contents(context), before);
        add_everywhere(context, "n3").expect("the lock is free again");
    }
}

/// Goal: a read of several records never sees half of a batch. Method: a thread puts in and takes
/// out long lists of every kind, in one transaction each; others find all of a list or nothing.
#[test]
fn a_read_sees_whole_batches() {
    const LEN: usize = 150;
    let (_dir, contexts) = contexts();
    for (seed, context) in (1..).zip(&contexts) {
        eprintln!("seed {seed}");
        let is_over = AtomicBool::new(false);
        let over = Over(&is_over);
        std::thread::scope(|scope| {
            for who in 0..2 {
                let (is_over, mut rng) = (&is_over, Rng::new(seed * 2 + who));
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let (what, len) = read_one(context, rng.below(6));
                        assert!(len == 0 || len == LEN, "{what}: {len} of {LEN}");
                    }
                });
            }
            let mut rng = Rng::new(seed);
            for _ in 0..40 {
                context.transaction(|inside| put_all(inside, LEN)).expect("put");
                for _ in 0..rng.below(4) {
                    context.graph_store().upsert_triplet("x", "is", "y").expect("upsert");
                }
                context.transaction(take_all).expect("take");
            }
            drop(over);
        });
    }
}

/// Stops the others, also if this thread panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn put_all(context: &StorageContext, len: usize) -> Result<(), StoreError> {
    let names: Vec<Text> = (0..len).map(|i| Text::from(format!("n{i}"))).collect();
    let nodes: Vec<Node> =
        (0..len).map(|i| Node::text(format!("n{i}"), "text").with_source("a.txt")).collect();
    context.docstore().add_documents(&nodes, &AddOptions::default())?;
    for name in &names {
        context.graph_store().upsert_triplet("hub", "to", name)?;
    }
    let message = ChatMessage::new(MessageRole::User, "text");
    context.chat_store().set_messages("chat", &vec![message.clone(); len])?;
    context.chat_queue().set_messages("queue", &vec![message; len], MessageStatus::Active)?;
    let ends: Vec<LabelledNode> = names.iter().map(LabelledNode::entity).collect();
    context.property_graph_store().upsert_nodes(&ends)?;
    let hub: Vec<Relation> = names.iter().map(|name| Relation::new("n0", "to", name)).collect();
    context.property_graph_store().upsert_relations(&hub)?;
    let mut list = IndexStruct::new(StructKind::List, "list");
    names.iter().try_for_each(|name| list.add_node(name))?;
    context.index_store().add_index_struct(&list)
}

fn take_all(context: &StorageContext) -> Result<(), StoreError> {
    context.docstore().delete_ref_doc("a.txt", Missing::Skip)?;
    for (rel, obj) in context.graph_store().get("hub")? {
        context.graph_store().delete("hub", rel, obj)?;
    }
    context.chat_store().delete_messages("chat")?;
    context.chat_queue().delete_messages("queue", None)?;
    context.property_graph_store().clear()?;
    context.index_store().delete_index_struct("list").map(drop)
}

/// The length of one of the lists as a read finds it.
fn read_one(context: &StorageContext, which: usize) -> (&'static str, usize) {
    let (what, len) = match which {
        0 => {
            let info = context.docstore().get_ref_doc_info("a.txt");
            ("ref doc", info.map(|info| info.map_or(0, |info| info.node_ids.len())))
        }
        1 => ("graph", context.graph_store().get("hub").map(|edges| edges.len())),
        2 => ("chat", context.chat_store().get_messages("chat").map(|all| all.len())),
        3 => {
            let all = context.chat_queue().get_messages("queue", None, None, 0);
            ("queue", all.map(|all| all.len()))
        }
        4 => {
            let n0 = [Text::from("n0")];
            let found = context.property_graph_store().get_rel_map(&n0, 1, 1000, &[]);
            ("property graph", found.map(|found| found.len()))
        }
        _ => {
            let found = context.index_store().get_index_struct("list");
            let nodes = found.map(|found| {
                let found = found?;
                Some(found.field("nodes")?.as_list()?.len())
            });
            ("index", nodes.map(Option::unwrap_or_default))
        }
    };
    match len {
        Ok(len) => (what, len),
        Err(e) => panic!("{what}: {e}"),
    }
}
