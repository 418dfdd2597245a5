//! The store against a naive model, its costs counted, and what faults leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::kv::MemoryKv;
use crate::model::Node;
use crate::stores::test_kv::{Counting, Random};

/// LlamaIndex's rules on plain lists, with the corrections that this store makes.
#[derive(Default)]
struct Oracle {
    bodies: BTreeMap<Text, Node>,
    /// Id, hash, ref doc; in the order of a Python dictionary.
    metadata: Vec<(Text, Text, Option<Text>)>,
    ref_docs: BTreeMap<Text, RefDocInfo>,
}

impl Oracle {
    fn ref_of(&self, id: &Text) -> Option<Text> {
        self.metadata.iter().find(|(known, ..)| known == id)?.2.clone()
    }

    fn set(&mut self, id: &Text, hash: Option<Text>, ref_doc_id: Option<Option<Text>>) {
        match self.metadata.iter_mut().find(|(known, ..)| known == id) {
            Some((_, old, old_ref)) => {
                *old = hash.unwrap_or(old.clone());
                *old_ref = ref_doc_id.unwrap_or(old_ref.clone());
            }
            None => {
                let hash = hash.expect("a new record has a hash");
                self.metadata.push((id.clone(), hash, ref_doc_id.flatten()));
            }
        }
    }

    fn forget(&mut self, id: &Text) {
        self.metadata.retain(|(known, ..)| known != id);
        self.bodies.remove(id);
    }

    fn detach(&mut self, id: &Text, ref_doc_id: &Text) {
        let Some(info) = self.ref_docs.get_mut(ref_doc_id) else { return };
        info.node_ids.retain(|listed| listed != id);
        if info.node_ids.is_empty() {
            self.ref_docs.remove(ref_doc_id);
            self.forget(ref_doc_id);
        }
    }

    fn delete_document(&mut self, id: &Text) {
        if let Some(ref_doc_id) = self.ref_of(id) {
            self.detach(id, &ref_doc_id);
        }
        self.forget(id);
    }

    fn delete_ref_doc(&mut self, id: &Text) {
        let Some(info) = self.ref_docs.get(id).cloned() else { return };
        info.node_ids.iter().for_each(|node| self.delete_document(node));
        self.ref_docs.remove(id);
        self.forget(id);
    }

    fn add(&mut self, nodes: &[Node]) {
        let ref_of = |node: &Node| node.ref_doc_id().expect("one source").cloned();
        let last: BTreeMap<Text, Option<Text>> =
            nodes.iter().map(|node| (node.id.clone(), ref_of(node))).collect();
        let places: Vec<Text> = self.metadata.iter().map(|(id, ..)| id.clone()).collect();
        for (id, new) in &last {
            if let Some(old) = self.ref_of(id).filter(|old| Some(old) != new.as_ref()) {
                self.detach(id, &old);
                if self.metadata.iter().any(|(known, ..)| known == id) {
                    self.set(id, None, Some(None));
                }
            }
        }
        let had: BTreeSet<Text> = self
            .ref_docs
            .iter()
            .filter(|(_, info)| !info.metadata.is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        for node in nodes {
            let ref_doc_id = ref_of(node).filter(|id| last[&node.id].as_ref() == Some(id));
            if let Some(ref_doc_id) = &ref_doc_id {
                let info = self.ref_docs.entry(ref_doc_id.clone()).or_default();
                if !info.node_ids.contains(&node.id) {
                    info.node_ids.push(node.id.clone());
                }
                if !had.contains(ref_doc_id) {
                    info.metadata.update(&node.metadata);
                }
            }
            self.set(&node.id, Some(node.hash().expect("a hash")), Some(ref_doc_id));
            self.bodies.insert(node.id.clone(), node.clone());
        }
        // A record that went and came back within the call keeps its place.
        let place = |id: &Text| places.iter().position(|known| known == id);
        self.metadata.sort_by_key(|(id, ..)| place(id).unwrap_or(usize::MAX));
    }

    fn replace(&mut self, id: &Text, nodes: &[Node], hash: Option<Text>) {
        let new: BTreeSet<&Text> = nodes.iter().map(|node| &node.id).collect();
        for node in self.ref_docs.remove(id).unwrap_or_default().node_ids {
            if !new.contains(&node) {
                self.delete_document(&node);
            } else if self.ref_of(&node).as_ref() == Some(id) {
                self.set(&node, None, Some(None));
            }
        }
        if !new.contains(id) {
            self.bodies.remove(id);
        }
        self.add(nodes);
        match hash {
            Some(hash) => self.set(id, Some(hash), None),
            None if nodes.is_empty() => self.forget(id),
            None => {}
        }
    }

    fn check(&self, store: &DocumentStore, step: usize) {
        assert_eq!(store.get_all_ref_doc_info().expect("infos"), self.ref_docs, "step {step}");
        assert_eq!(store.docs().expect("docs"), self.bodies, "step {step}");
        let hashes: BTreeMap<Text, Text> =
            self.metadata.iter().map(|(id, hash, _)| (hash.clone(), id.clone())).collect();
        assert_eq!(store.get_all_document_hashes().expect("hashes"), hashes, "step {step}");
        let ids: BTreeSet<Text> = self.metadata.iter().map(|(id, ..)| id.clone()).collect();
        assert_eq!(store.get_all_document_ids().expect("ids"), ids, "step {step}");
    }
}

/// What the tests choose from.
impl Random {
    /// Mostly nodes; sometimes a document that is a ref doc of others.
    fn id(&mut self) -> Text {
        match self.below(10) {
            0 => format!("D{}", self.below(3)).into(),
            _ => format!("n{}", self.below(150)).into(),
        }
    }

    fn ref_doc_id(&mut self) -> Text {
        format!("D{}", self.below(3)).into()
    }

    fn node(&mut self) -> Node {
        let mut node = Node::text(self.id(), format!("text {}", self.below(20)));
        if self.below(3) == 0 {
            node.metadata.insert(format!("k{}", self.below(3)), self.below(3));
        }
        match self.below(6) {
            0 => node,
            _ => node.with_source(self.ref_doc_id()),
        }
    }
}

#[test]
fn random_changes_leave_what_plain_lists_would() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=30).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        eprintln!("SEED={seed}");
        let mut random = Random(seed);
        let mut oracle = Oracle::default();
        let kv = Arc::new(MemoryKv::new());
        let mut store = DocumentStore::new(kv.clone());
        for step in 0..250 {
            match random.below(12) {
                0..=4 => {
                    let nodes: Vec<Node> = (0..random.below(60)).map(|_| random.node()).collect();
                    oracle.add(&nodes);
                    store.add_documents(&nodes, &AddOptions::default()).expect("add");
                }
                5 => {
                    let node = random.node();
                    oracle.add(std::slice::from_ref(&node));
                    store.add_documents(&[node], &AddOptions::default()).expect("add");
                }
                6..=8 => {
                    for _ in 0..random.below(40) {
                        let id = random.id();
                        oracle.delete_document(&id);
                        store.delete_document(id, Missing::Skip).expect("delete");
                    }
                }
                9 => {
                    let id = random.ref_doc_id();
                    oracle.delete_ref_doc(&id);
                    store.delete_ref_doc(id, Missing::Skip).expect("delete");
                }
                10 => {
                    let id = random.ref_doc_id();
                    let nodes = (0..random.below(80)).map(|_| random.node().with_source(&id));
                    let nodes: Vec<Node> = nodes.collect();
                    let hash = [None, Some(Text::from("h"))][random.below(2) as usize].clone();
                    oracle.replace(&id, &nodes, hash.clone());
                    store.replace_ref_doc(id, &nodes, hash, Durability::Sync).expect("replace");
                }
                _ if random.below(2) == 0 => store = DocumentStore::new(kv.clone()),
                _ => {
                    let id = random.id();
                    oracle.set(&id, Some("set".into()), None);
                    store.set_document_hash(&id, "set").expect("set");
                }
            }
            oracle.check(&store, step);
        }
        let dict = store.to_dict().expect("to_dict");
        let copy = DocumentStore::new(Arc::new(MemoryKv::new()));
        copy.load_dict(&dict).expect("load_dict");
        oracle.check(&copy, 251);
        assert_eq!(copy.to_dict().expect("to_dict"), dict);
        // What was loaded goes on as if it had been built here.
        for id in ["D0", "D1", "n1", "n2", "n3"].map(Text::from) {
            oracle.delete_document(&id);
            copy.delete_document(&id, Missing::Skip).expect("delete");
            oracle.delete_ref_doc(&id);
            copy.delete_ref_doc(&id, Missing::Skip).expect("delete");
            oracle.check(&copy, 252);
        }
    }
}

fn nodes(count: usize) -> Vec<Node> {
    let node = |n| {
        let mut node = Node::text(format!("node {n:06}"), "some text").with_source("D");
        node.metadata.insert("title", "The document");
        node
    };
    (0..count).map(node).collect()
}

/// What one way of using a store with `n` nodes costs.
type Use = fn(&DocumentStore, &Counting, &[Node]) -> [u64; 3];

fn add_all(store: &DocumentStore, counting: &Counting, nodes: &[Node]) -> [u64; 3] {
    store.add_documents(nodes, &AddOptions::default()).expect("add");
    counting.take()
}

/// Goal: no way of adding to one ref doc, or of deleting it, is quadratic. Method: reads, writes
/// and bytes written are counted for doubling numbers of nodes (multiples of a
/// chunk); none may much more than double.
#[test]
fn adding_and_deleting_n_nodes_of_one_ref_doc_costs_order_n() {
    let uses: [(&str, Use); 7] = [
        ("add as one batch", add_all),
        ("add singly", |store, counting, nodes| {
            for node in nodes {
                let node = std::slice::from_ref(node);
                store.add_documents(node, &AddOptions::default()).expect("add");
            }
            counting.take()
        }),
        ("add in batches", |store, counting, nodes| {
            let options = AddOptions { batch_size: Some(100), ..AddOptions::default() };
            store.add_documents(nodes, &options).expect("add");
            counting.take()
        }),
        ("add again", |store, counting, nodes| {
            add_all(store, counting, nodes);
            add_all(store, counting, nodes)
        }),
        ("delete singly, from the front", |store, counting, nodes| {
            add_all(store, counting, nodes);
            for node in nodes {
                store.delete_document(&node.id, Missing::Error).expect("delete");
            }
            assert_eq!(store.get_ref_doc_info("D").expect("info"), None);
            counting.take()
        }),
        ("delete the ref doc", |store, counting, nodes| {
            add_all(store, counting, nodes);
            store.delete_ref_doc("D", Missing::Error).expect("delete");
            assert!(store.is_empty().expect("is_empty"));
            counting.take()
        }),
        ("replace the ref doc", |store, counting, nodes| {
            add_all(store, counting, nodes);
            let half = &nodes[nodes.len() / 2..];
            store.replace_ref_doc("D", half, None, Durability::Buffered).expect("replace");
            counting.take()
        }),
    ];
    for (name, run) in uses {
        let cost = |count| {
            let counting = Arc::new(Counting::default());
            run(&DocumentStore::new(counting.clone()), &counting, &nodes(count))
        };
        let costs: Vec<[u64; 3]> = [1024, 2048, 4096, 8192, 16384].map(cost).into();
        for (pair, what) in costs.windows(2).flat_map(|pair| {
            (0..3).map(move |index| {
                ((pair[0][index], pair[1][index]), ["reads", "writes", "bytes"][index])
            })
        }) {
            // Blocks of numbers and rounding leave a little room.
            let (small, large) = pair;
            assert!(large <= small * 21 / 10 + 10, "{name}: {what} go from {small} to {large}");
        }
        let [reads, writes, bytes] = costs[4].map(|cost| cost as f64 / 16384.0);
        eprintln!("{name}: {reads:.2} reads, {writes:.2} writes, {bytes:.0} bytes a node");
        assert!(reads < 8.0 && writes < 8.0, "{name}");
    }
}

#[test]
fn a_failing_write_leaves_nothing_behind() {
    let counting = Arc::new(Counting::default());
    let store = DocumentStore::new(counting.clone());
    store.add_documents(&nodes(40), &AddOptions::default()).expect("add");
    let before = store.to_dict().expect("to_dict");
    counting.full.store(true, Ordering::Relaxed);
    let failed = store.add_documents(&nodes(80), &AddOptions::default());
    assert!(matches!(failed, Err(StoreError::Kv(_))), "{failed:?}");
    assert!(store.delete_ref_doc("D", Missing::Skip).is_err());
    assert!(store.set_document_hash("x", "h").is_err());
    assert!(store.load_dict(&Map::new().into()).is_err());
    assert_eq!(store.to_dict().expect("to_dict"), before);
    counting.full.store(false, Ordering::Relaxed);
    store.add_documents(&nodes(80), &AddOptions::default()).expect("add");
    let info = store.get_ref_doc_info("D").expect("info").expect("D has nodes");
    assert_eq!(info.node_ids, nodes(80).into_iter().map(|node| node.id).collect::<Vec<_>>());
}

#[test]
fn a_refused_node_refuses_the_whole_call() {
    let store = DocumentStore::new(Arc::new(MemoryKv::new()));
    let options = AddOptions { allow_update: false, batch_size: Some(2), ..AddOptions::default() };
    store.add_documents(&nodes(3)[2..], &options).expect("add");
    let taken = store.add_documents(&nodes(3), &options);
    assert!(matches!(taken, Err(StoreError::AlreadyExists { .. })), "{taken:?}");
    let mut broken = nodes(3);
    broken[1].id = "x".repeat(crate::limits::KEY_LEN_MAX + 1).into();
    assert!(store.add_documents(&broken, &AddOptions::default()).is_err());
    let mut batch = store.begin();
    assert!(batch.add_documents(&broken, &AddOptions::default()).is_err());
    assert!(batch.commit(Durability::Sync).is_err(), "a batch with half a change is refused");
    let stray = store.replace_ref_doc("E", &nodes(1), None, Durability::Sync);
    assert!(matches!(stray, Err(StoreError::InvalidArgument(_))), "{stray:?}");
    assert_eq!(store.len().expect("len"), 1);
}

#[test]
fn records_that_llamaindex_wrote_here_itself_are_read_and_changed() {
    let kv = Arc::new(MemoryKv::new());
    let ids: Vec<Value> = (0..100).map(|n| format!("n{n}").into()).collect();
    let record: Map =
        [("node_ids", Value::from(ids)), ("metadata", Map::new().into())].into_iter().collect();
    kv.put("docstore/ref_doc_info", b"D", &record.into()).expect("put");
    for n in 0..100 {
        let id = format!("n{n}");
        let metadata: Map = [("doc_hash", "h"), ("ref_doc_id", "D")].into_iter().collect();
        kv.put("docstore/metadata", id.as_bytes(), &metadata.into()).expect("put");
        let node = Node::text(id.as_str(), "").to_value();
        kv.put("docstore/data", id.as_bytes(), &node).expect("put");
    }
    let store = DocumentStore::new(kv);
    let listed =
        || store.get_ref_doc_info("D").expect("info").map_or(0, |info| info.node_ids.len());
    assert_eq!(listed(), 100);
    let node = |n: usize| Node::text(format!("n{n}"), "").with_source("D");
    store.add_documents(&[node(5), node(100)], &AddOptions::default()).expect("add");
    assert_eq!(listed(), 101, "a listed node is not listed twice");
    store.delete_document("n50", Missing::Error).expect("delete");
    store.delete_document("n5", Missing::Error).expect("delete");
    assert_eq!(listed(), 99);
    store.delete_ref_doc("D", Missing::Error).expect("delete");
    assert!(store.is_empty().expect("is_empty"));
}

#[test]
fn damaged_bookkeeping_is_an_error_with_its_place() {
    let kv = Arc::new(MemoryKv::new());
    let store = DocumentStore::new(kv.clone());
    store.add_documents(&nodes(100), &AddOptions::default()).expect("add");
    let chunks = kv.get_all("docstore/ref_doc_info.nodes").expect("get_all");
    let (key, _) = chunks.iter().find(|(key, _)| !key.is_empty()).expect("100 nodes fill a chunk");
    let mut circle = Map::new();
    circle.set("node_ids", Vec::<Value>::new());
    circle.set("#next", crate::format::bytes::u64_at(key, 0));
    kv.put("docstore/ref_doc_info.nodes", key, &circle.into()).expect("put");
    let damaged = store.get_ref_doc_info("D").expect_err("a circle").to_string();
    assert!(damaged.contains("\"D\"") && damaged.contains("circles"), "{damaged}");
    kv.delete("docstore/ref_doc_info.nodes", key).expect("delete");
    let damaged = store.delete_ref_doc("D", Missing::Skip).expect_err("a hole").to_string();
    assert!(damaged.contains("not there"), "{damaged}");
    kv.put("docstore/metadata", b"node 000001", &Value::Int(1)).expect("put");
    assert!(store.add_documents(&nodes(2), &AddOptions::default()).is_err());
}

#[test]
fn futures_can_go_to_other_threads() {
    fn sends<T: Send>(value: T) -> T {
        value
    }
    let store = DocumentStore::new(Arc::new(MemoryKv::new()));
    let work = sends(async move {
        let options = AddOptions { durability: Durability::Sync, ..AddOptions::default() };
        store.async_add_documents(&nodes(3), &options).await?;
        store.areplace_ref_doc("D", &nodes(1), None, Durability::Sync).await?;
        store.adelete_document("node 000000", Missing::Error).await?;
        store.aget_all_ref_doc_info().await
    });
    assert_eq!(pollster::block_on(work).expect("all of it"), BTreeMap::new());
}

#[test]
fn collections_may_not_share_a_name() {
    let options = DocumentStoreOptions {
        metadata_collection_suffix: "/data".into(),
        ..DocumentStoreOptions::default()
    };
    assert!(DocumentStore::with_options(Arc::new(MemoryKv::new()), &options).is_err());
}

#[test]
fn dictionaries_that_are_none_are_refused() {
    let store = DocumentStore::new(Arc::new(MemoryKv::new()));
    store.add_documents(&nodes(1), &AddOptions::default()).expect("add");
    for (json, pointer) in [
        (r#"[]"#, "/ "),
        (r#"{"docstore/data": 1}"#, "/docstore~1data "),
        (r#"{"docstore/metadata": {"a/b": 1}}"#, "/docstore~1metadata/a~1b "),
        (r#"{"docstore/ref_doc_info": {"D": {"node_ids": 1}}}"#, "/docstore~1ref_doc_info/D "),
    ] {
        let dict = crate::kv::json::from_slice(json.as_bytes()).expect("JSON");
        let error = store.load_dict(&dict).expect_err("no dictionary").to_string();
        assert!(error.contains(pointer), "{error}");
    }
    assert_eq!(store.len().expect("len"), 1);
}
