//! The changes that are measured: how a store of a size is made, how the change is made a number
//! of times, and how it is undone, which is not measured.

use std::sync::Arc;
use std::time::Duration;

use siltstone::Db;
use siltstone::kv::{KvStore, LogKv, Text};
use siltstone::model::{ChatMessage, MessageRole, Node, Relation};
use siltstone::stores::{
    AddOptions, ChatQueue, ChatStore, DocumentStore, GraphFilter, GraphStore, IndexStore,
    IndexStruct, MessageStatus, Missing, PropertyGraphStore, StructKind, StructMethods,
    VectorEntry, VectorStore,
};
use tempfile::TempDir;

use super::common::{Rng, dir, time};

/// Makes the change so many times and undoes it; how long the change took.
type Run = Box<dyn FnMut(u64) -> Duration>;

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// The change is made to all n at once, and its cost is that of one of them.
    pub(crate) is_whole: bool,
    /// Fills a store with n.
    make: fn(kv: Arc<dyn KvStore>, n: u64) -> Run,
}

/// One store of one size.
pub(crate) struct Subject {
    run: Run,
    parts: u32,
    db: Db,
    _dir: TempDir,
}

impl Subject {
    pub(crate) fn new(operation: &Operation, n: u64) -> Self {
        let dir = dir();
        let kv = LogKv::open(dir.path()).unwrap();
        let db = kv.db().clone();
        let run = (operation.make)(Arc::new(kv), n);
        let parts = if operation.is_whole { u32::try_from(n).unwrap() } else { 1 };
        Subject { run, parts, db, _dir: dir }
    }

    pub(crate) fn run(&mut self, count: u64) -> Duration {
        (self.run)(count)
    }

    /// In how many parts the cost of a change is divided.
    pub(crate) fn parts(&self) -> u32 {
        self.parts
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }
}

const fn of(name: &'static str, make: fn(Arc<dyn KvStore>, u64) -> Run) -> Operation {
    Operation { name, is_whole: false, make }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    of("add a node to a ref doc of n nodes", add_node),
    Operation {
        name: "delete a ref doc of n nodes, per node",
        is_whole: true,
        make: delete_ref_doc,
    },
    of("add 100 nodes again, to a ref doc of n", add_again),
    of("add a node to a vector store's index of n", |kv, n| {
        add_to_index(kv, n, StructKind::VectorStore)
    }),
    of("add a node to a list index of n", |kv, n| add_to_index(kv, n, StructKind::List)),
    of("append a message to n", append_message),
    of("append a message to a queue of n", append_to_queue),
    of("upsert a triplet, its subject has n", upsert_triplet),
    of("upsert a relation, its source has n", upsert_relation),
    of("delete a vector of n", delete_vector),
];

/// Most that goes into a store in one batch.
const BATCH: u64 = 1_000;
const DIM: usize = 128;

/// The numbers up to n, in batches.
fn batches(n: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..n).step_by(BATCH as usize).map(move |start| start..n.min(start + BATCH))
}

fn nodes(numbers: impl Iterator<Item = u64>) -> Vec<Node> {
    let text = "Siltstone is a sedimentary rock. ".repeat(8);
    let node = |i| Node::text(format!("node-{i}"), format!("{i} {text}")).with_source("a.txt");
    numbers.map(node).collect()
}

/// A document store in which one ref doc has n nodes.
fn docstore(kv: Arc<dyn KvStore>, n: u64) -> DocumentStore {
    let store = DocumentStore::new(kv);
    fill(&store, n);
    store
}

fn fill(store: &DocumentStore, n: u64) {
    for batch in batches(n) {
        store.add_documents(&nodes(batch), &AddOptions::default()).unwrap();
    }
    store.persist().unwrap();
}

fn add_node(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = docstore(kv, n);
    Box::new(move |count| {
        let new = nodes(n..n + count);
        let took = time(|| {
            for node in &new {
                store.add_documents(std::slice::from_ref(node), &AddOptions::default()).unwrap();
            }
        });
        for node in new {
            store.delete_document(node.id, Missing::Error).unwrap();
        }
        took
    })
}

fn delete_ref_doc(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = docstore(kv, n);
    Box::new(move |count| {
        let mut took = Duration::ZERO;
        for _ in 0..count {
            took += time(|| store.delete_ref_doc("a.txt", Missing::Error).unwrap());
            fill(&store, n);
        }
        took
    })
}

fn add_again(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = docstore(kv, n);
    let mut rng = Rng(17);
    Box::new(move |count| {
        (0..count)
            .map(|_| {
                // A hundred that were added one after another, from anywhere.
                let start = rng.below(n - 100);
                let again = nodes(start..start + 100);
                time(|| store.add_documents(&again, &AddOptions::default()).unwrap())
            })
            .sum()
    })
}

fn add_to_index(kv: Arc<dyn KvStore>, n: u64, kind: StructKind) -> Run {
    let store = IndexStore::new(kv);
    let id = |i: u64| Text::from(format!("node-{i}"));
    store.add_index_struct(&IndexStruct::new(kind, "index")).unwrap();
    for batch in batches(n) {
        let done =
            store.edit("index", |index| batch.into_iter().try_for_each(|i| index.add_node(id(i))));
        done.unwrap();
    }
    Box::new(move |count| {
        let new: Vec<Text> = (n..n + count).map(id).collect();
        let took = time(|| new.iter().for_each(|id| store.add_node("index", id).unwrap()));
        new.iter().for_each(|id| assert!(store.delete_node("index", id).unwrap()));
        took
    })
}

fn message(i: u64) -> ChatMessage {
    ChatMessage::new(MessageRole::User, format!("{i}: what is siltstone?"))
}

fn append_message(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = ChatStore::new(kv);
    for batch in batches(n) {
        store.add_messages("talk", &batch.map(message).collect::<Vec<_>>()).unwrap();
    }
    Box::new(move |count| {
        let new: Vec<ChatMessage> = (n..n + count).map(message).collect();
        let took = time(|| {
            for message in &new {
                store.add_message("talk", message, None).unwrap();
            }
        });
        for _ in new {
            store.delete_last_message("talk").unwrap();
        }
        took
    })
}

fn append_to_queue(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = ChatQueue::new(kv);
    for batch in batches(n) {
        let messages: Vec<ChatMessage> = batch.map(message).collect();
        store.add_messages("talk", &messages, MessageStatus::Active).unwrap();
    }
    Box::new(move |count| {
        let new: Vec<ChatMessage> = (n..n + count).map(message).collect();
        let mut ids = Vec::with_capacity(new.len());
        let took = time(|| {
            for message in &new {
                ids.push(store.add_message("talk", message, MessageStatus::Active).unwrap());
            }
        });
        for id in ids {
            store.delete_message("talk", id).unwrap();
        }
        took
    })
}

fn upsert_triplet(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = GraphStore::new(kv);
    let triplet = |i: u64| (Text::from("hub"), Text::from("knows"), Text::from(format!("t{i}")));
    for batch in batches(n) {
        store.upsert_triplets(&batch.map(triplet).collect::<Vec<_>>()).unwrap();
    }
    Box::new(move |count| {
        let new: Vec<_> = (n..n + count).map(triplet).collect();
        let took = time(|| {
            for (subj, rel, obj) in &new {
                store.upsert_triplet(subj, rel, obj).unwrap();
            }
        });
        for (subj, rel, obj) in &new {
            store.delete(subj, rel, obj).unwrap();
        }
        took
    })
}

fn upsert_relation(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = PropertyGraphStore::new(kv);
    let relation =
        |i: u64| Relation::new("hub", "KNOWS", format!("t{i}")).with_property("since", i);
    for batch in batches(n) {
        store.upsert_relations(&batch.map(relation).collect::<Vec<_>>()).unwrap();
    }
    Box::new(move |count| {
        let new: Vec<Relation> = (n..n + count).map(relation).collect();
        let took = time(|| {
            for relation in &new {
                store.upsert_relations(std::slice::from_ref(relation)).unwrap();
            }
        });
        for relation in new {
            store.delete(&GraphFilter::ids([relation.target_id])).unwrap();
        }
        took
    })
}

fn delete_vector(kv: Arc<dyn KvStore>, n: u64) -> Run {
    let store = VectorStore::new(kv);
    let mut rng = Rng(23);
    let mut entries = move |numbers: &[u64]| -> Vec<VectorEntry> {
        let entry = |i: &u64| VectorEntry {
            id: Text::from(format!("node-{i}")),
            embedding: (0..DIM).map(|_| rng.below(1 << 20) as f64 / f64::from(1 << 20)).collect(),
            ref_doc_id: Some(Text::from("a.txt")),
            metadata: None,
        };
        numbers.iter().map(entry).collect()
    };
    for batch in batches(n) {
        store.add_entries(&entries(&batch.collect::<Vec<_>>())).unwrap();
    }
    let mut next = Rng(29);
    Box::new(move |count| {
        let mut chosen: Vec<u64> = (0..count).map(|_| next.below(n)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let gone = entries(&chosen);
        let took = time(|| {
            for entry in &gone {
                store.delete_nodes(Some(std::slice::from_ref(&entry.id)), None).unwrap();
            }
        });
        store.add_entries(&gone).unwrap();
        took
    })
}
