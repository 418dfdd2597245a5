//! Power cuts while every store of a context is used: what is found afterwards is the context as it
//! was before a call or after it, never some of it, with everything that was persisted.
//!
//! `SILTSTONE_CRASH_STATES` sets how many different states are looked at, `SILTSTONE_CRASH_SEED`
//! the first seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

use siltstone::kv::{KvStore, LogKv, Text};
use siltstone::model::{ChatMessage, LabelledNode, MessageRole, Node, Relation};
use siltstone::stores::{
    AddOptions, GraphFilter, IndexStruct, IngestionCache, MessageStatus, Missing, StoreError,
    StoredStruct, StructKind, StructMethods, VectorQuery,
};
use siltstone::testing::{CrashOptions, Rng, SimVfs};
use siltstone::{CompactionOptions, Options, StorageContext};

/// Fewer different states fail the test.
const STATES: u64 = 60_000;
const DIR: &str = "/store";
const NAMESPACES: [&str; 3] = ["default", "image", "titles"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// The context and the log below it.
struct Opened {
    context: StorageContext,
    log: Arc<LogKv>,
}

fn open(sim: &SimVfs) -> Opened {
    let options = Options::new()
        .vfs(Arc::new(sim.clone()))
        .segment_len(16 << 10)
        .inline_maintenance(true)
        .compaction(CompactionOptions::manual())
        .store_id(*b"siltstone-tests!");
    let log = Arc::new(LogKv::open_with(DIR, options).expect("the store opens"));
    Opened { context: StorageContext::from_kv(log.clone()), log }
}

/// Every record of every collection.
fn records(kv: &dyn KvStore) -> u64 {
    let mut collections = kv.collections().unwrap();
    collections.sort();
    let mut hasher = DefaultHasher::new();
    for (name, len) in collections.into_iter().filter(|(_, len)| *len > 0) {
        let mut all = Vec::new();
        kv.scan(&name, &mut |key, value| {
            all.push((key.to_vec(), format!("{value:?}")));
            Ok(())
        })
        .unwrap();
        all.sort();
        assert_eq!(all.len() as u64, len, "{name}");
        hasher.write(format!("{name} {all:?}").as_bytes());
    }
    hasher.finish()
}

/// What the stores say.
fn contents(context: &StorageContext) -> String {
    let mut all = String::new();
    let docs = context.docstore();
    write!(all, "{:?} {:?} ", docs.docs().unwrap(), docs.get_all_ref_doc_info().unwrap()).unwrap();
    write!(all, "{:?} ", context.index_store().index_structs().unwrap()).unwrap();
    let cache = IngestionCache::new(context.kv().clone());
    for n in 0..4 {
        write!(all, "{:?} ", cache.get(format!("made{n}")).unwrap()).unwrap();
    }
    for name in context.vector_namespaces().unwrap() {
        let store = context.vector_store_in(&name).unwrap();
        let found = store.query(&VectorQuery::new([1.0, 0.5, 0.25, 0.5], 100)).unwrap();
        write!(all, "{name} {:?} {:?} ", store.ids().unwrap(), found.ids).unwrap();
    }
    write!(all, "{:?} ", context.graph_store().to_dict().unwrap()).unwrap();
    write!(all, "{:?} ", context.property_graph_store().to_dict().unwrap()).unwrap();
    for key in context.chat_store().get_keys().unwrap() {
        let messages = context.chat_store().get_messages(&key).unwrap();
        write!(all, "{key} {messages:?} ").unwrap();
    }
    for key in context.chat_queue().get_keys().unwrap() {
        let rows = context.chat_queue().get_rows(&key, None, None, 0).unwrap();
        write!(all, "{key} {rows:?} ").unwrap();
    }
    all
}

fn any<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())]
}

fn name(rng: &mut Rng, of: &str, below: usize) -> Text {
    format!("{of}{}", rng.below(below)).into()
}

fn nodes(rng: &mut Rng) -> Vec<Node> {
    let one = |rng: &mut Rng| {
        let id = name(rng, "n", 12);
        let text = format!("text {} ", rng.below(1000)).repeat(1 + rng.below(20));
        let mut node = Node::text(&id, text).with_source(name(rng, "d", 3));
        node.embedding = Some((0..4).map(|_| rng.below(100) as f64 / 64.0).collect());
        node
    };
    (0..=rng.below(4)).map(|_| one(rng)).collect()
}

/// Enters something into an index of any kind.
fn enter_into(index: &mut StoredStruct<'_>, rng: &mut Rng) -> Result<(), StoreError> {
    let node = name(rng, "n", 12);
    match index.kind() {
        StructKind::Tree => {
            let parent = name(rng, "n", 12);
            let parent = Some(&parent).filter(|_| rng.below(3) > 0);
            index.insert_under_parent(node, parent, None)
        }
        StructKind::KeywordTable | StructKind::Kg => {
            let words: Vec<Text> = (0..=rng.below(4)).map(|_| name(rng, "word", 6)).collect();
            index.add_keywords(&words, node)?;
            match index.kind() {
                StructKind::Kg => index.add_to_embedding_dict(name(rng, "triplet", 3), &[0.5]),
                _ => Ok(()),
            }
        }
        StructKind::DocumentSummary => {
            let (summary, doc) = (name(rng, "s", 3), name(rng, "d", 3));
            index.add_summary_and_nodes(summary, Some(&doc), &[node, name(rng, "n", 12)])
        }
        StructKind::Sql => index.set_context(name(rng, "table", 3), name(rng, "what", 9)),
        StructKind::List | StructKind::VectorStore | StructKind::Multimodal => index.add_node(node),
        _ => {
            index.set_summary(Some(name(rng, "summary", 9)));
            Ok(())
        }
    }
}

/// Removes something from an index of any kind that things can be removed from.
fn remove_from(index: &mut StoredStruct<'_>, rng: &mut Rng) -> Result<(), StoreError> {
    match index.kind() {
        StructKind::DocumentSummary if rng.below(2) == 0 => index.delete(name(rng, "d", 3)),
        StructKind::List
        | StructKind::VectorStore
        | StructKind::Multimodal
        | StructKind::KeywordTable
        | StructKind::Kg
        | StructKind::DocumentSummary => index.delete_node(name(rng, "n", 12)).map(drop),
        _ => {
            index.set_summary(None);
            Ok(())
        }
    }
}

/// One call of one store. Ids are drawn from few, so that many are there already, or not.
fn call(context: &StorageContext, rng: &mut Rng) -> Result<(), StoreError> {
    let message = ChatMessage::new(MessageRole::User, format!("message {}", rng.below(1000)));
    match rng.below(24) {
        0 | 1 => context.docstore().add_documents(&nodes(rng), &AddOptions::default()),
        2 => context.docstore().delete_document(name(rng, "n", 12), Missing::Skip),
        3 => context.docstore().delete_ref_doc(name(rng, "d", 3), Missing::Skip),
        4 | 5 => context.vector_store_in(any(rng, &NAMESPACES))?.add(&nodes(rng)).map(drop),
        6 => context.vector_store_in(any(rng, &NAMESPACES))?.delete(name(rng, "d", 3)),
        7 => {
            let ids = [name(rng, "n", 12), name(rng, "n", 12)];
            context.vector_store_in(any(rng, &NAMESPACES))?.delete_nodes(Some(&ids), None)
        }
        8 => {
            let mut index = IndexStruct::new(any(rng, &StructKind::ALL), name(rng, "i", 4));
            index.set_summary(Some(name(rng, "summary", 9)));
            context.index_store().add_index_struct(&index)
        }
        9 | 10 => context.index_store().edit(name(rng, "i", 4), |index| enter_into(index, rng)),
        11 => context.index_store().edit(name(rng, "i", 4), |index| remove_from(index, rng)),
        12 => {
            let (subj, rel) = (name(rng, "e", 5), name(rng, "r", 3));
            context.graph_store().upsert_triplet(subj, rel, name(rng, "e", 5))
        }
        13 => {
            let (subj, rel) = (name(rng, "e", 5), name(rng, "r", 3));
            context.graph_store().delete(subj, rel, name(rng, "e", 5))
        }
        14 => {
            let nodes = [0, 1].map(|_| LabelledNode::entity(name(rng, "e", 5)));
            context.property_graph_store().upsert_nodes(&nodes)
        }
        15 => {
            let relation = Relation::new(name(rng, "e", 5), name(rng, "r", 3), name(rng, "e", 5));
            context.property_graph_store().upsert_relations(&[relation])
        }
        16 => context.property_graph_store().delete(&GraphFilter::entities([name(rng, "e", 5)])),
        17 => context.chat_store().add_message(name(rng, "c", 3), &message, None),
        18 => context.create_vector_store("titles").map(drop),
        19 => match rng.below(3) {
            0 => context.chat_store().delete_last_message(name(rng, "c", 3)).map(drop),
            1 => context.chat_store().set_messages(name(rng, "c", 3), &[message.clone(), message]),
            _ => context.chat_queue().archive_oldest_messages(name(rng, "q", 2), 1).map(drop),
        },
        20 => IngestionCache::new(context.kv().clone()).put(name(rng, "made", 4), &nodes(rng)),
        21 => context.index_store().edit(name(rng, "i", 4), |index| enter_into(index, rng)),
        22 => match rng.below(4) {
            0 => IngestionCache::new(context.kv().clone()).clear(),
            1 => context.index_store().delete_index_struct(name(rng, "i", 4)).map(drop),
            _ => context.index_store().edit(name(rng, "i", 4), |index| remove_from(index, rng)),
        },
        _ => {
            let status = MessageStatus::Active;
            context.chat_queue().add_message(name(rng, "q", 2), &message, status).map(drop)
        }
    }
}

/// A call, or several in one transaction. What is not there cannot be changed: such a call, and
/// the transaction around it, changes nothing.
fn change(context: &StorageContext, rng: &mut Rng) {
    let done = match rng.below(4) {
        0 => {
            context.transaction(|inside| (0..2 + rng.below(4)).try_for_each(|_| call(inside, rng)))
        }
        _ => call(context, rng),
    };
    assert!(matches!(done, Ok(()) | Err(StoreError::NotFound { .. })), "{done:?}");
}

/// The states that a context was in.
#[derive(Default)]
struct History {
    /// Records, what the stores say, and where the disk stood when it was begun.
    states: Vec<(u64, String, usize)>,
    /// From where on the disk holds which state at least.
    promises: Vec<(usize, usize)>,
}

impl History {
    fn push(&mut self, begun: usize, opened: &Opened) {
        self.states.push((records(&*opened.log), contents(&opened.context), begun));
    }

    fn promise(&mut self, sim: &SimVfs) {
        self.promises.push((sim.mark(), self.states.len() - 1));
    }

    /// What may be found after a power cut.
    fn legal(&self, cut: usize) -> Range<usize> {
        let kept = self.promises.iter().rev().find(|(from, _)| *from <= cut);
        let begun = self.states.iter().filter(|(_, _, begun)| *begun <= cut).count();
        kept.map_or(0, |(_, state)| *state)..begun.max(1)
    }
}

fn run(seed: u64, sim: &SimVfs) -> History {
    let mut rng = Rng::new(seed);
    let mut history = History::default();
    let mut opened = open(sim);
    history.push(0, &opened);
    history.promise(sim);
    for _ in 0..25 + rng.below(25) {
        let begun = sim.position();
        match rng.below(16) {
            0 | 1 => {
                opened.context.persist().unwrap();
                history.promise(sim);
            }
            2 => {
                let Opened { context, log } = opened;
                drop(context);
                sim.kill(|| drop(log));
                opened = open(sim);
                history.promise(sim);
            }
            3 => {
                opened.log.db().compact_now().unwrap();
            }
            _ => {
                change(&opened.context, &mut rng);
                history.push(begun, &opened);
            }
        }
    }
    let Opened { context, log } = opened;
    drop(context);
    sim.kill(|| drop(log));
    history
}

/// Goal: the context is all-before or all-after each call, each transaction and each persist. A
/// state is found by its records; what the stores say must then be what they said in that state,
/// and they must go on from there.
#[test]
fn a_context_is_never_mixed() {
    let floor = setting("SILTSTONE_CRASH_STATES", STATES);
    let first = setting("SILTSTONE_CRASH_SEED", 0);
    let (mut looked, mut lost, mut seed) = (0, 0, first);
    while looked < floor {
        let sim = SimVfs::new();
        let history = run(seed, &sim);
        let options = CrashOptions { subsets_max: 3, samples: 3, contexts: 0, tears: 6, seed };
        let mut seen = HashSet::new();
        let mut states = sim.crash_states(&options);
        while let Some(state) = states.next() {
            // Before the store was there nothing was promised.
            if state.point.cut < history.promises[0].0 || !seen.insert(state.hash) {
                continue;
            }
            looked += 1;
            let place = || format!("seed {seed}, {}: {}", state.point, states.describe());
            let disk = state.disk();
            let Opened { context, log } = open(&disk);
            let found = records(&*log);
            let legal = history.legal(state.point.cut);
            let before = legal.end - 1;
            let is_found = |index: &usize| history.states[*index].0 == found;
            let index = legal.clone().rev().find(is_found);
            let Some(index) = index else {
                let any = history.states.iter().position(|(records, ..)| *records == found);
                panic!("{}\nfound {any:?}, legal are {legal:?}", place());
            };
            lost += u64::from(index < before);
            assert_eq!(contents(&context), history.states[index].1, "{}", place());
            if looked % 8 == 0 {
                let mut rng = Rng::new(state.hash);
                (0..4).for_each(|_| change(&context, &mut rng));
                let after = contents(&context);
                context.persist().unwrap();
                drop(context);
                disk.kill(|| drop(log));
                assert_eq!(contents(&open(&disk).context), after, "{}", place());
            }
        }
        seed += 1;
    }
    assert!(lost > looked / 100, "no state lost anything: {lost} of {looked}");
    say!("{looked} states of {} runs, {lost} of them with calls lost", seed - first);
}
