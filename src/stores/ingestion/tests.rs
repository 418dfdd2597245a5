//! Runs against plain dictionaries, and what failing ones leave behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::kv::{KvStore, MemoryKv, Text};
use crate::model::{Node, Related, RelatedNode, Relationship};
use crate::stores::test_kv::{Counting, Random, seeds};
use crate::stores::{DocstoreStrategy, DocumentStore, StoreError, VectorStore};

const STRATEGIES: [DocstoreStrategy; 3] = [
    DocstoreStrategy::Upserts,
    DocstoreStrategy::DuplicatesOnly,
    DocstoreStrategy::UpsertsAndDelete,
];

/// Makes a node of each word.
#[derive(Default)]
struct Words {
    is_broken: Cell<bool>,
    calls: Cell<u64>,
}

impl Transformation for Words {
    fn description(&self) -> String {
        "words".to_owned()
    }

    fn apply(&self, nodes: Vec<Node>) -> Result<Vec<Node>, Box<dyn Error + Send + Sync>> {
        self.calls.set(self.calls.get() + 1);
        if self.is_broken.get() {
            return Err("no words today".into());
        }
        let mut words = Vec::new();
        for node in nodes {
            for (n, word) in node.content_text().to_string().split_whitespace().enumerate() {
                let mut node = Node::text(format!("{}#{n}", node.id), word).with_source(&node.id);
                node.embedding = Some(vec![word.len() as f64, 1.0]);
                words.push(node);
            }
        }
        Ok(words)
    }
}

/// The stores and what should be in them.
struct Model {
    docs: BTreeMap<String, String>,
    vectors: BTreeMap<String, String>,
}

impl Model {
    /// Judges one document after the other; returns how many nodes come out.
    fn run(&mut self, strategy: DocstoreStrategy, input: &[(String, String)]) -> usize {
        let mut chosen = BTreeMap::new();
        for (id, text) in input {
            let known = self.docs.get(id);
            let is_duplicate = strategy == DocstoreStrategy::DuplicatesOnly
                && known.is_none()
                && self.docs.values().any(|other| other == text);
            if known != Some(text) && !is_duplicate {
                self.docs.insert(id.clone(), text.clone());
                chosen.insert(id.clone(), text.clone());
            }
        }
        if strategy == DocstoreStrategy::UpsertsAndDelete {
            self.docs.retain(|id, _| input.iter().any(|(seen, _)| seen == id));
            self.vectors.retain(|_, doc| self.docs.contains_key(doc));
        }
        self.vectors.retain(|_, doc| !chosen.contains_key(doc));
        let words = |(id, text): (&String, &String)| {
            let count = text.split_whitespace().count();
            (0..count).map(|n| (format!("{id}#{n}"), id.clone())).collect::<Vec<_>>()
        };
        let made: Vec<_> = chosen.iter().flat_map(words).collect();
        self.vectors.extend(made.iter().cloned());
        made.len()
    }

    fn check(&self, docstore: &DocumentStore, vectors: &VectorStore, step: usize) {
        let mut docs = BTreeMap::new();
        for (id, node) in docstore.docs().expect("docs") {
            let hash = docstore.get_document_hash(&id).expect("get");
            assert_eq!(hash, node.hash().ok(), "step {step}: {id}");
            docs.insert(id.to_string(), node.content_text().to_string());
        }
        assert_eq!(docs, self.docs, "step {step}");
        assert_eq!(docstore.get_all_document_hashes().expect("hashes").is_empty(), docs.is_empty());
        let mut rows = BTreeMap::new();
        let mut visit = |entry: crate::stores::VectorEntry| {
            let doc = entry.ref_doc_id.map(|id| id.to_string());
            rows.insert(entry.id.to_string(), doc.unwrap_or_default());
            Ok(())
        };
        vectors.for_each_entry(&mut visit).expect("rows");
        assert_eq!(rows, self.vectors, "step {step}");
    }
}

fn documents(input: &[(String, String)]) -> Vec<Node> {
    input.iter().map(|(id, text)| Node::document(id.as_str(), text.as_str())).collect()
}

/// One key-value store or two; a step that fails now and then, or a store.
#[test]
fn runs_leave_what_was_put_in_last() {
    for seed in seeds(24) {
        eprintln!("SEED={seed}");
        let mut random = Random(seed);
        let strategy = STRATEGIES[random.below(3) as usize];
        let counting = Arc::new(Counting::default());
        let is_one = random.one_in(2);
        let other: Arc<dyn KvStore> =
            if is_one { counting.clone() } else { Arc::new(MemoryKv::new()) };
        let (step, cache) = (Words::default(), IngestionCache::new(Arc::new(MemoryKv::new())));
        let mut model = Model { docs: BTreeMap::new(), vectors: BTreeMap::new() };
        for round in 0..60 {
            let docstore = DocumentStore::new(counting.clone());
            let vectors = VectorStore::new(other.clone());
            let mut pipeline = IngestionPipeline::new(strategy)
                .with_docstore(&docstore)
                .with_vector_store(&vectors);
            if random.one_in(2) {
                pipeline = pipeline.with_cache(&cache);
            }
            let input: Vec<(String, String)> = (0..random.below(8))
                .map(|_| {
                    let words = (0..random.below(3)).map(|_| ["a", "bb"][random.below(2) as usize]);
                    let text = words.collect::<Vec<_>>().join(" ");
                    (format!("d{}", random.below(6)), text)
                })
                .collect();
            let options = IngestionOptions::default();
            if random.one_in(3) {
                // It fails, if there is anything to do.
                step.is_broken.set(random.one_in(2));
                counting.full.store(!step.is_broken.get() && is_one, Ordering::Relaxed);
                let failed = pipeline.run(&documents(&input), &[&step], &options);
                step.is_broken.set(false);
                counting.full.store(false, Ordering::Relaxed);
                match failed {
                    Ok(_) => {
                        model.run(strategy, &input);
                    }
                    Err(StoreError::Transformation(_) | StoreError::Kv(_)) => {}
                    Err(e) => panic!("step {round}: {e}"),
                }
                model.check(&docstore, &vectors, round);
            }
            counting.take();
            let made = pipeline.run(&documents(&input), &[&step], &options).expect("a run");
            assert_eq!(made.len(), model.run(strategy, &input), "step {round}");
            model.check(&docstore, &vectors, round);
            // Nothing is new now, and nothing is written or made.
            counting.take();
            let calls = step.calls.get();
            let mut last = documents(&input);
            last.retain(|node| model.docs.get(&node.id.to_string()) == Some(&node_text(node)));
            if strategy != DocstoreStrategy::UpsertsAndDelete {
                assert!(pipeline.run(&last, &[&step], &options).expect("a run").is_empty());
                assert_eq!((counting.take()[1], step.calls.get()), (0, calls), "step {round}");
            }
        }
    }
}

fn node_text(node: &Node) -> String {
    node.content_text().to_string()
}

#[test]
fn the_cache_spares_a_step_and_survives_a_failure() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let cache = IngestionCache::new(kv.clone());
    let pipeline = IngestionPipeline::new(DocstoreStrategy::Upserts).with_cache(&cache);
    let (first, broken) = (Words::default(), Words::default());
    broken.is_broken.set(true);
    let input = [Node::document("d", "a bb"), Node::document("e", "c")];
    let options = IngestionOptions::default();
    let failed = pipeline.run(&input, &[&first, &broken], &options).expect_err("it is broken");
    assert!(matches!(failed, StoreError::Transformation(_)));
    assert_eq!(failed.to_string(), {
        "a transformation failed: no words today; its documents are not recorded"
    });
    assert_eq!((first.calls.get(), cache.len().expect("len")), (1, 1));
    let made = pipeline.run(&input, &[&first], &options).expect("a run");
    assert_eq!((first.calls.get(), made.len()), (1, 3));
    assert_eq!(pipeline.run(&input, &[&first], &options).expect("a run"), made);
    // The same contents under other ids, or divided otherwise, are other nodes.
    let others = [Node::document("f", "a bb"), Node::document("g", "c")];
    let made = pipeline.run(&others, &[&first], &options).expect("a run");
    assert_eq!((first.calls.get(), made[0].id.to_string()), (2, "f#0".to_owned()));
    let divided = [Node::document("f", "a b"), Node::document("g", "bc")];
    let made = pipeline.run(&divided, &[&first], &options).expect("a run");
    assert_eq!((first.calls.get(), made.len()), (3, 3));
    assert_eq!(cache.len().expect("len"), 1);
    // What is damaged is an error, and no empty result.
    let key = IngestionCache::key(&input, "words").expect("a key");
    kv.put("llama_cache", key.as_bytes(), &7.into()).expect("put");
    assert!(matches!(cache.get(&key), Err(StoreError::Corrupt { .. })));
    cache.clear().expect("clear");
    assert!(cache.is_empty().expect("empty") && cache.get(&key).expect("get").is_none());
}

/// LlamaIndex loses all but one of the nodes that share a source, and runs that one every time.
#[test]
fn documents_that_name_a_source_are_judged_by_their_own_ids() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let (docstore, vectors) = (DocumentStore::new(kv.clone()), VectorStore::new(kv.clone()));
    let pipeline = IngestionPipeline::new(DocstoreStrategy::UpsertsAndDelete)
        .with_docstore(&docstore)
        .with_vector_store(&vectors);
    let mut input: Vec<Node> =
        (0..3).map(|n| Node::text(format!("c{n}"), format!("part {n}")).with_source("d")).collect();
    input.push(Node::document("d", "all parts"));
    let options = IngestionOptions::default();
    assert_eq!(pipeline.run(&input, &[], &options).expect("a run").len(), 4);
    assert!(pipeline.run(&input, &[], &options).expect("a run").is_empty());
    assert!(pipeline.run(&input[..3], &[], &options).expect("a run").is_empty());
    assert!(docstore.document_exists("d").expect("exists"), "its parts keep it");
    assert_eq!(docstore.len().expect("len"), 4);
    // A node of two sources has no place; nothing is written.
    let two = vec![RelatedNode::new("x", crate::model::NodeKind::Document); 2];
    let mut odd = Node::text("odd", "odd");
    odd.relationships.insert(Relationship::Source, Related::Many(two));
    let failed = pipeline.run(&[Node::document("e", "new"), odd], &[], &options);
    assert!(matches!(failed, Err(StoreError::Node { .. })));
    assert!(!docstore.document_exists("e").expect("exists"));
}

#[test]
fn a_text_that_is_not_stored_is_not_left_behind() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let docstore = DocumentStore::new(kv);
    let pipeline = IngestionPipeline::new(DocstoreStrategy::Upserts).with_docstore(&docstore);
    assert_eq!(pipeline.strategy(), DocstoreStrategy::DuplicatesOnly);
    let run = |text: &str, store_doc_text| {
        let options = IngestionOptions { store_doc_text };
        pipeline.run(&[Node::document("d", text)], &[], &options).expect("a run").len()
    };
    assert_eq!(run("old", true), 1);
    assert_eq!(run("new", false), 1);
    assert!(!docstore.document_exists("d").expect("exists"));
    assert_eq!(run("new", true), 0, "its hash is known");
    let hash = docstore.get_document_hash(Text::from("d")).expect("get");
    assert_eq!(hash, Node::document("d", "new").hash().ok());
}
