//! Stored structs against structs in memory, what changes cost, and what faults leave behind.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::kind::Field;
use super::methods::Members;
use super::*;
use crate::kv::{MemoryKv, json};
use crate::stores::test_kv::{Counting, Random, seeds};

impl Random {
    fn text(&mut self, kind: &str, most: u64) -> Text {
        format!("{kind}{}", self.below(most)).into()
    }

    fn texts(&mut self, kind: &str, most: u64) -> Vec<Text> {
        (0..self.below(4)).map(|_| self.text(kind, most)).collect()
    }
}

/// One random method that fits the kind, with the same choices for every struct it is given.
fn change(random: &mut Random, index: &mut impl StructMethods) -> Result<String, StoreError> {
    let node = random.text("n", 90);
    let shown = |done: Result<(), StoreError>| match done {
        Ok(()) => Ok("done".to_owned()),
        Err(StoreError::NotFound { what, id }) => Ok(format!("no {what} {id}")),
        Err(other) => Err(other),
    };
    match index.struct_kind() {
        StructKind::Tree => {
            let number = (!random.one_in(3)).then(|| random.below(60) as i64);
            let (parent, children) = (random.text("n", 90), random.texts("n", 90));
            match random.below(4) {
                0 => index.insert_under_parent(node, None, number).map(|()| "root".to_owned()),
                1 => index.insert(node, number, &children).map(|()| "node".to_owned()),
                2 => {
                    let children = index.get_children(Some(&parent));
                    shown(children.map(drop))
                }
                _ => shown(index.insert_under_parent(node, Some(&parent), number)),
            }
        }
        StructKind::List if random.one_in(3) => Ok(index.delete_node(node)?.to_string()),
        StructKind::List => shown(index.add_node(node)),
        StructKind::VectorStore | StructKind::Multimodal => match random.below(5) {
            0 => shown(index.delete(node)),
            1 => Ok(index.delete_node(node)?.to_string()),
            2 => shown(index.add_vector(random.text("v", 40), node)),
            3 => Ok(format!("{:?}", index.node_of_vector(node)?)),
            _ => shown(index.add_node(node)),
        },
        StructKind::KeywordTable | StructKind::Kg => match random.below(6) {
            0 | 1 => Ok(index.delete_node(node)?.to_string()),
            2 => Ok(format!("{:?}", index.search_node_by_keyword(random.text("k", 12))?)),
            3 if index.struct_kind() == StructKind::Kg => {
                index
                    .add_to_embedding_dict(random.text("t", 40), &[random.below(9) as f64, 0.5])?;
                Ok("embedding".to_owned())
            }
            _ => shown(index.add_keywords(&random.texts("k", 12), node)),
        },
        StructKind::DocumentSummary => match random.below(6) {
            0 => shown(index.delete(random.text("d", 20))),
            1 => Ok(index.delete_node(node)?.to_string()),
            _ => {
                let (doc, nodes) = (random.text("d", 20), random.texts("n", 90));
                let summary = random.text("s", 30);
                // LlamaIndex breaks where a node moves to another summary; here it is not done.
                let free = nodes
                    .iter()
                    .all(|node| matches!(index.entry(kind::Field::NodeSummary, node), Ok(None)));
                if free {
                    index.add_summary_and_nodes(summary, Some(&doc), &nodes)?;
                }
                Ok(format!("summary {free}"))
            }
        },
        StructKind::Sql => shown(index.set_context(random.text("t", 40), node)),
        _ => Ok(index.size()?.to_string()),
    }
}

/// Every id with its kind, random changes to structs of all kinds, some of them whole.
#[test]
fn stored_structs_are_what_structs_in_memory_would_be() {
    for seed in seeds(12) {
        eprintln!("SEED={seed}");
        let mut random = Random(seed);
        let kv = Arc::new(MemoryKv::new());
        let mut store = IndexStore::new(kv.clone());
        let mut model: Vec<IndexStruct> = Vec::new();
        for step in 0..900 {
            let id = random.text("index ", 8);
            let known = model.iter().position(|index| *index.index_id() == id);
            match (known, random.below(60)) {
                (None, _) | (_, 0) => {
                    let kind = StructKind::ALL[random.below(11) as usize];
                    let mut new = IndexStruct::new(kind, id);
                    new.set_summary(random.one_in(2).then(|| Text::from("about")));
                    for _ in 0..random.below(200) {
                        change(&mut random, &mut new).expect("a change");
                    }
                    store.add_index_struct(&new).expect("add");
                    match known {
                        Some(place) => model[place] = new,
                        None => model.push(new),
                    }
                }
                (Some(place), 1) => {
                    assert!(store.delete_index_struct(&id).expect("delete"));
                    model.remove(place);
                }
                (Some(place), 2..=6) => {
                    for _ in 0..random.below(20) {
                        change(&mut random, &mut model[place]).expect("a change");
                    }
                    store.add_index_struct(&model[place]).expect("add again");
                }
                (Some(place), _) => {
                    for _ in 0..random.below(6) {
                        let mut same = Random(random.0);
                        let expected = change(&mut random, &mut model[place]).expect("a change");
                        let stored = store.edit(&id, |index| change(&mut same, index));
                        assert_eq!(stored.expect("edit"), expected, "step {step}");
                    }
                }
            }
            if random.one_in(10) {
                store = IndexStore::new(kv.clone());
            }
            assert_eq!(store.index_structs().expect("all"), model, "step {step}");
        }
        // In and out as LlamaIndex has it; and nothing stays of what is deleted.
        let dict = store.to_dict().expect("to_dict");
        let text = json::to_string(&dict, json::Style::Python);
        let copy = IndexStore::new(Arc::new(MemoryKv::new()));
        copy.load_dict(&json::from_slice(text.as_bytes()).expect("JSON")).expect("load_dict");
        assert_eq!(copy.index_structs().expect("all"), model);
        for index in model {
            assert!(store.delete_index_struct(index.index_id()).expect("delete"));
        }
        let left: Vec<(String, u64)> = kv.collections().expect("collections");
        let left: BTreeMap<String, u64> = left.into_iter().filter(|(_, len)| *len > 0).collect();
        assert_eq!(left, BTreeMap::from([("index_store/data.members".to_owned(), 1)]));
    }
}

/// Goal: one node costs the same in a large index. Method: reads, writes and bytes of adding and
/// deleting one node are counted with 500 and with 20,000 nodes.
#[test]
fn a_node_more_or_less_costs_the_same_in_any_index() {
    for kind in [
        StructKind::List,
        StructKind::VectorStore,
        StructKind::KeywordTable,
        StructKind::DocumentSummary,
        StructKind::Tree,
    ] {
        let cost = |nodes: u64| {
            let counting = Arc::new(Counting::default());
            let store = IndexStore::new(counting.clone());
            let mut index = IndexStruct::new(kind, "i");
            let id = |n: u64| Text::from(format!("node {n:06}"));
            // Table and list of one keyword and one summary grow with the nodes.
            store.add_index_struct(&index).expect("add");
            let enter = |index: &mut StoredStruct<'_>, n: u64| match kind {
                StructKind::KeywordTable => {
                    index.add_keywords(&["all".into(), format!("key {n}").into()], id(n))
                }
                StructKind::DocumentSummary => {
                    index.add_summary_and_nodes("s", Some(&"d".into()), &[id(n)])
                }
                StructKind::Tree => index.insert_under_parent(id(n), Some(&id(0)), None),
                _ => index.add_node(id(n)),
            };
            store.edit("i", |index| (0..nodes).try_for_each(|n| enter(index, n))).expect("fill");
            counting.take();
            let mut most = [0; 3];
            // As many as fill a chunk, so that the dearest is among them.
            for n in 0..40 {
                store.edit("i", |index| enter(index, nodes + n)).expect("add one");
                if kind != StructKind::Tree {
                    assert!(store.delete_node("i", id(nodes / 2 + n)).expect("delete one"));
                }
                let cost = counting.take();
                most = [0, 1, 2].map(|i| cost[i].max(most[i]));
            }
            index = store.get_index_struct("i").expect("get").expect("it is there");
            let left = if kind == StructKind::Tree { nodes + 40 } else { nodes };
            let size = if kind == StructKind::DocumentSummary { 1 } else { left };
            let size = if kind == StructKind::KeywordTable { left + 1 } else { size };
            assert_eq!(index.size().expect("size"), size, "{kind:?}");
            most
        };
        let (small, large) = (cost(500), cost(20_000));
        eprintln!("{kind:?}: reads, writes, bytes {small:?} of 500, {large:?} of 20,000");
        for i in 0..3 {
            assert!(large[i] <= small[i] * 5 / 4 + 2, "{kind:?}: {small:?} {large:?}");
        }
    }
}

/// Goal: one mention more or less of a node costs the same however many there are: of keywords that
/// it is under, of places in a list, of its summary. Method: as above, with 50 and 5,000 mentions
/// of one node.
#[test]
fn a_mention_more_or_less_costs_the_same_for_any_node() {
    let key = |n: u64| Text::from(format!("key {n:06}"));
    for kind in [StructKind::List, StructKind::KeywordTable, StructKind::DocumentSummary] {
        let cost = |mentions: u64| {
            let counting = Arc::new(Counting::default());
            let store = IndexStore::new(counting.clone());
            store.add_index_struct(&IndexStruct::new(kind, "i")).expect("add");
            let enter = |index: &mut StoredStruct<'_>, n: u64| match kind {
                StructKind::KeywordTable => index.add_keywords(&[key(n)], "n"),
                StructKind::DocumentSummary => {
                    index.add_summary_and_nodes("s", Some(&"d".into()), &["n".into()])
                }
                _ => index.add_node("n"),
            };
            let (field, only) = match kind {
                StructKind::KeywordTable => (Field::Table, None),
                StructKind::DocumentSummary => (Field::SummaryNodes, Some(Text::from("s"))),
                _ => (Field::Nodes, Some(Text::default())),
            };
            store.edit("i", |index| (0..mentions).try_for_each(|n| enter(index, n))).expect("fill");
            counting.take();
            let mut most = [0; 3];
            for n in 0..40 {
                store.edit("i", |index| enter(index, mentions + n)).expect("add one");
                let removed = only.clone().unwrap_or_else(|| key(mentions / 2 + n));
                let removed =
                    store.edit("i", |index| index.remove_item(field, &removed, &"n".into()));
                assert!(removed.expect("remove one"));
                let cost = counting.take();
                most = [0, 1, 2].map(|i| cost[i].max(most[i]));
            }
            let left = store.view("i", |index| match &only {
                Some(key) => index.entry_len(field, key),
                None => Ok(index.keys_with(field, &"n".into())?.len() as u64),
            });
            assert_eq!(left.expect("count"), mentions, "{kind:?}");
            if kind != StructKind::DocumentSummary {
                assert!(store.delete_node("i", "n").expect("delete"), "{kind:?}");
                assert!(!store.delete_node("i", "n").expect("delete again"), "{kind:?}");
            }
            store.delete_index_struct("i").expect("delete");
            let left = counting.kv.len("index_store/data.members").expect("len");
            assert_eq!(left, 1, "{kind:?}: nothing but the directory of structs");
            most
        };
        let (small, large) = (cost(50), cost(5000));
        eprintln!("{kind:?}: reads, writes, bytes {small:?} of 50, {large:?} of 5,000");
        for i in 0..3 {
            assert!(large[i] <= small[i] * 5 / 4 + 2, "{kind:?}: {small:?} {large:?}");
        }
    }
}

#[test]
fn a_failing_write_leaves_nothing_behind() {
    let counting = Arc::new(Counting::default());
    let store = IndexStore::new(counting.clone());
    let mut index = IndexStruct::new(StructKind::List, "i");
    for n in 0..100 {
        index.add_node(format!("n{n}")).expect("add");
    }
    store.add_index_struct(&index).expect("add");
    counting.full.store(true, Ordering::Relaxed);
    assert!(matches!(store.add_node("i", "more"), Err(StoreError::Kv(_))));
    assert!(store.delete_index_struct("i").is_err());
    assert!(store.load_dict(&Map::new().into()).is_err());
    counting.full.store(false, Ordering::Relaxed);
    // An edit that fails half-way writes nothing either.
    let failed = store.edit("i", |index| {
        index.delete_node("n5")?;
        index.add_keywords(&[], "n7")
    });
    assert!(matches!(failed, Err(StoreError::InvalidArgument(_))), "{failed:?}");
    assert_eq!(store.get_index_struct("i").expect("get"), Some(index));
}

#[test]
fn records_of_llamaindex_are_read_and_taken_apart_when_changed() {
    let store = IndexStore::new(Arc::new(MemoryKv::new()));
    let text = br#"{"index_store/data": {
        "weird": {"__type__": "pinecone", "__data__": "{}"},
        "old": {"__type__": "vector_store",
                "__data__": {"index_id": "old", "nodes_dict": {"a": "b"}}},
        "numbers": {"__type__": "tree", "__data__": "{\"all_nodes\": {\" 007\": \"x\"}}"}}}"#;
    let dict = json::from_slice(text).expect("JSON");
    store.load_dict(&dict).expect("load");
    let weird = store.get_index_struct("weird").expect_err("there is no class");
    assert!(matches!(weird, StoreError::UnknownType { .. }), "{weird}");
    assert!(store.index_structs().is_err());
    assert_eq!(
        store.get_record("weird").expect("get").as_ref(),
        dict.get("index_store/data").and_then(|records| records.get("weird"))
    );
    store.add_node("old", "c").expect("add");
    let nodes = store.view("old", |index| index.node_ids()).expect("view");
    assert_eq!(nodes, ["b", "c"].map(Text::from));
    assert_eq!(store.view("numbers", |index| index.get_index("x")).expect("view"), 7);
    assert_eq!(store.index_ids().expect("ids"), ["weird", "old", "numbers"].map(Text::from));
    assert!(store.delete_index_struct("weird").expect("delete"));
    assert!(!store.delete_index_struct("weird").expect("delete"));
    // One that was put without this store comes last, and is one of them from its first change on.
    let kv = store.writer.kv();
    let mut alien = Map::new();
    alien.set("__type__", "list");
    alien.set("__data__", r#"{"nodes": ["x"]}"#);
    kv.put("index_store/data", b"alien", &alien.clone().into()).expect("put");
    assert_eq!(store.index_ids().expect("ids"), ["old", "numbers", "alien"].map(Text::from));
    store.add_node("alien", "y").expect("add");
    assert_eq!(store.index_ids().expect("ids"), ["old", "numbers", "alien"].map(Text::from));
    assert_eq!(store.get_index_struct("alien").expect("get").map(|i| i.size().ok()), Some(Some(2)));
    kv.put("index_store/data", b"alien 2", &alien.into()).expect("put");
    assert!(store.delete_index_struct("alien 2").expect("delete"));
    assert!(store.delete_index_struct("alien").expect("delete"));
    for bad in [r#"{"index_store/data": 1}"#, "[]", r#"{"index_store/data": {"x": {}}}"#] {
        let bad = json::from_slice(bad.as_bytes()).expect("JSON");
        let failed = store.load_dict(&bad).expect_err("no index store");
        assert!(matches!(failed, StoreError::Dict { .. }), "{failed}");
    }
    assert_eq!(store.index_ids().expect("ids"), ["old", "numbers"].map(Text::from));
}
