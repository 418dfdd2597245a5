//! The store against plain lists, reopened in between; its costs; what it takes in and gives out.

mod model;

use std::collections::BTreeMap;

use super::*;
use crate::kv::{LogKv, Map, MemoryKv, Staged, Text, json};
use crate::model::Node;
use crate::testing::Rng;

use model::Model;

fn ok<T>(result: Result<T, StoreError>) -> T {
    result.expect("the store works")
}

fn in_memory() -> PropertyGraphStore {
    PropertyGraphStore::new(Arc::new(MemoryKv::new()))
}

fn read(text: &str) -> Value {
    json::from_slice(text.as_bytes()).expect("it is JSON")
}

fn texts(names: &[&str]) -> Vec<Text> {
    names.iter().map(|name| Text::from(*name)).collect()
}

/// A value of any kind; few different ones, so that they meet, and some that are equal in Python.
fn value(rng: &mut Rng) -> Value {
    let choices = [
        Value::Null,
        true.into(),
        1.into(),
        Value::Float(1.0),
        Value::Float(f64::NAN),
        Value::Float(0.5),
        "text".into(),
        "long ".repeat(100).into(),
        vec![Value::from(1), Value::Null].into(),
        [("k", 1)].into_iter().collect::<Map>().into(),
    ];
    choices[rng.below(choices.len())].clone()
}

fn properties(rng: &mut Rng) -> Map {
    (0..rng.below(3)).map(|_| (format!("p{}", rng.below(3)), value(rng))).collect()
}

/// Names with quotes and underscores, which are what LlamaIndex stumbles over.
fn name(rng: &mut Rng) -> Text {
    let names = ["a", "a_b", "b", "\"q\"", " q ", "", "x_", "_", "c_d"];
    names[rng.below(names.len())].into()
}

fn label(rng: &mut Rng) -> Text {
    ["r", "b_c", "_", "s"][rng.below(4)].into()
}

fn node(rng: &mut Rng) -> LabelledNode {
    let mut node = match rng.below(4) {
        0 => LabelledNode::chunk(name(rng), "words"),
        _ => LabelledNode::entity(name(rng)),
    };
    node.properties = properties(rng);
    if rng.percent(30) {
        node.label = label(rng);
    }
    if rng.percent(40) {
        node.embedding = Some((0..3).map(|_| rng.below(5) as f64 - 2.0).collect());
    }
    node
}

fn relation(rng: &mut Rng) -> Relation {
    let mut relation = Relation::new(name(rng), label(rng), name(rng));
    relation.properties = properties(rng);
    relation
}

fn filter(rng: &mut Rng) -> GraphFilter {
    let mut filter = GraphFilter::default();
    if rng.percent(30) {
        filter.entity_names = (0..1 + rng.below(2)).map(|_| name(rng)).collect();
    }
    if rng.percent(30) {
        filter.relation_names = (0..1 + rng.below(2)).map(|_| label(rng)).collect();
    }
    if rng.percent(30) {
        filter.ids = (0..1 + rng.below(2)).map(|_| name(rng)).collect();
    }
    if rng.percent(40) {
        filter.properties = properties(rng);
    }
    filter
}

/// Everything that can be asked is as in the model.
fn compare(graph: &PropertyGraphStore, model: &Model, rng: &mut Rng) {
    let filter = filter(rng);
    let nodes = ok(graph.get(&filter.properties, &filter.ids));
    assert_eq!(nodes, model.get(&filter.properties, &[&filter.ids]), "{filter:?}");
    assert_eq!(ok(graph.get_triplets(&filter)), model.get_triplets(&filter), "{filter:?}");
    assert_eq!(ok(graph.get(&Map::new(), &[])), model.nodes);
    assert_eq!(ok(graph.node_count()), model.nodes.len() as u64);
    assert_eq!(ok(graph.relation_count()), model.relations.len() as u64);
    assert_eq!(ok(graph.get_schema()), model.schema());
    let (depth, ignored) = (rng.below(5) as i64 - 1, [label(rng)]);
    let all = ok(graph.get_rel_map(&filter.ids, depth, i64::MAX, &ignored));
    let expected = model.rel_map(&filter.ids, depth, &ignored);
    let sorted = |triplets: &[Triplet]| {
        let mut shown: Vec<String> = triplets.iter().map(|t| format!("{t:?}")).collect();
        shown.sort();
        shown
    };
    assert_eq!(sorted(&all), sorted(&expected), "{filter:?} depth {depth} but {ignored:?}");
    let limit = rng.below(6);
    let cut = ok(graph.get_rel_map(&filter.ids, depth, limit as i64, &ignored));
    assert_eq!(cut, all[..limit.min(all.len())]);
    let query: Vec<f64> = (0..3).map(|_| rng.below(5) as f64 - 2.0).collect();
    let keep = |node: &LabelledNode| node.label != "s";
    let found = ok(graph.vector_query(&query, limit, keep));
    assert_eq!(found, model.vector_query(&query, limit, keep));
}

#[test]
fn random_operations_give_what_the_model_gives() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..16).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        eprintln!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let open = || PropertyGraphStore::new(Arc::new(LogKv::open(dir.path()).expect("it opens")));
        let (mut store, mut model) = (Some(open()), Model::default());
        for _ in 0..150 {
            let graph = store.as_ref().expect("it is open");
            match rng.below(100) {
                0..35 => {
                    let nodes: Vec<_> = (0..rng.below(4)).map(|_| node(&mut rng)).collect();
                    ok(graph.upsert_nodes(&nodes));
                    nodes.iter().for_each(|node| model.upsert_node(node));
                }
                35..75 => {
                    let relations: Vec<_> = (0..rng.below(5)).map(|_| relation(&mut rng)).collect();
                    ok(graph.upsert_relations(&relations));
                    relations.iter().for_each(|relation| model.upsert_relation(relation));
                }
                75..90 => {
                    let filter = filter(&mut rng);
                    ok(graph.delete(&filter));
                    model.delete(&filter);
                }
                90..95 => {
                    drop(store.take());
                    store = Some(open());
                }
                _ => {
                    // Out and in again is the same.
                    let dict = ok(graph.to_dict());
                    let text = json::to_string(&dict, json::Style::Python);
                    ok(graph.load_dict(&read(&text)));
                    assert_eq!(ok(graph.to_dict()), dict);
                }
            }
            compare(store.as_ref().expect("it is open"), &model, &mut rng);
        }
        let graph = store.expect("it is open");
        let ids: Vec<Text> = model.nodes.iter().map(|node| node.id.clone()).collect();
        ok(graph.delete(&GraphFilter { ids, ..GraphFilter::default() }));
        let left = graph.writer.kv().collections().expect("it lists");
        let left: Vec<_> = left.into_iter().filter(|(_, len)| *len > 0).collect();
        assert_eq!(left, [("property_graph_store/numbers".to_owned(), 1)], "nothing leaks");
    }
}

/// Goal: a change writes the same number of bytes whatever the degree of the nodes, the size of
/// the graph, and how many others share label and properties. Method: two graphs, of 148 and of
/// 10,100 relations that all touch one node, and the batches that a change of each takes.
#[test]
fn a_change_costs_the_same_at_any_degree() {
    let spoke = |n: u32| {
        Relation::new("hub", "r", format!("node {n:06}")).with_property("shared", "by all")
    };
    let graphs = [148, 10_100].map(|len| {
        let graph = in_memory();
        let nodes: Vec<_> = (0..len)
            .map(|n| LabelledNode::entity(format!("node {n:06}")).with_property("shared", 1))
            .collect();
        ok(graph.upsert_nodes(&nodes));
        ok(graph.upsert_relations(&(0..len).map(spoke).collect::<Vec<_>>()));
        graph
    });
    let cost = |graph: &PropertyGraphStore, change: &dyn Fn(&PropertyGraphStore)| {
        let staged = Arc::new(Staged::new(graph.writer.kv().clone()));
        let before = staged.batch().expect("it is empty").byte_len();
        change(&PropertyGraphStore::new(staged.clone()));
        staged.batch().expect("it fits").byte_len() - before
    };
    let changes: [(&str, &dyn Fn(&PropertyGraphStore)); 5] = [
        ("add a relation", &|graph| ok(graph.upsert_relations(&[spoke(999_999)]))),
        ("update a relation", &|graph| {
            ok(graph.upsert_relations(&[spoke(40).with_property("new", 1)]));
        }),
        ("delete a node", &|graph| ok(graph.delete(&GraphFilter::ids(["node 000050"])))),
        ("replace the hub", &|graph| {
            ok(graph.upsert_nodes(&[LabelledNode::entity("hub").with_property("shared", 2)]));
        }),
        ("delete a relation", &|graph| {
            let filter = GraphFilter {
                relation_names: vec!["r".into()],
                ..GraphFilter::entities(["node 000070"])
            };
            ok(graph.delete(&filter));
        }),
    ];
    for (what, change) in changes {
        let [small, large] = [0, 1].map(|which: usize| cost(&graphs[which], change));
        assert!(small > 0, "{what} changes something");
        assert!(large < small + 200, "{what}: {large} bytes, in a small graph {small}");
    }
}

/// Goal: what is looked up or deleted costs what the rarest of the things given costs, whatever the
/// others. Method: a hub with 3,000 relations of one label, and the reads of filters that name it
/// together with something rare.
#[test]
fn the_rarest_of_what_is_given_narrows() {
    let kv = Arc::new(crate::stores::test_kv::Counting::default());
    let graph = PropertyGraphStore::new(kv.clone());
    let spoke = |n: u32| Relation::new("hub", "r", format!("leaf {n}")).with_property("all", 1);
    ok(graph.upsert_relations(&(0..3000).map(spoke).collect::<Vec<_>>()));
    let rare = Relation::new("hub", "rare", "leaf 7").with_property("few", 1);
    ok(graph.upsert_relations(&[rare]));
    let hub = || GraphFilter::entities(["hub"]);
    let relation_names = || texts(&["r"]);
    let property = |name: &str| [(name, 1)].into_iter().collect::<Map>();
    let ids = texts(&["leaf 7", "leaf 8", "nowhere"]);
    let filters = [
        (GraphFilter { ids: ids.clone(), ..hub() }, 3),
        (GraphFilter { entity_names: ids.clone(), ..GraphFilter::ids(["hub"]) }, 3),
        (GraphFilter { relation_names: texts(&["rare"]), ..hub() }, 1),
        (GraphFilter { relation_names: relation_names(), ..GraphFilter::ids(ids) }, 2),
        (GraphFilter { properties: property("few"), ..hub() }, 1),
        (GraphFilter { properties: property("few"), ..GraphFilter::relations(["r"]) }, 0),
        (GraphFilter { properties: property("all"), ..GraphFilter::relations(["rare"]) }, 0),
    ];
    for (filter, found) in &filters {
        kv.take();
        assert_eq!(ok(graph.get_triplets(filter)).len(), *found, "{filter:?}");
        let [reads, ..] = kv.take();
        assert!(reads < 60, "{filter:?} reads {reads} records");
    }
    for (filter, found) in &filters[..4] {
        // What was deleted by the one before is not there any more.
        let before = ok(graph.relation_count());
        kv.take();
        ok(graph.delete(filter));
        let [reads, ..] = kv.take();
        assert!(reads < 120, "to delete {filter:?} reads {reads} records");
        assert!(before - ok(graph.relation_count()) <= *found as u64, "{filter:?}");
    }
    assert_eq!(ok(graph.relation_count()), 2998);
}

/// Goal: neither cycles nor depth nor limit make the walk long. Method: a complete graph, whose
/// walks are 30 ^ depth long, and a path, at every extreme.
#[test]
fn a_walk_reads_each_relation_once() {
    let graph = in_memory();
    let mut relations = Vec::new();
    for from in 0..30 {
        for to in 0..30 {
            relations.push(Relation::new(format!("c{from}"), "r", format!("c{to}")));
        }
    }
    for step in 0..2000 {
        relations.push(Relation::new(format!("p{step}"), "s", format!("p{}", step + 1)));
    }
    ok(graph.upsert_relations(&relations));
    let len = |start: &str, depth, limit, ignored: &[&str]| {
        ok(graph.get_rel_map(&texts(&[start]), depth, limit, &texts(ignored))).len()
    };
    assert_eq!(len("c0", i64::MAX, i64::MAX, &[]), 900);
    assert_eq!(len("c0", 2, i64::MAX, &[]), 900);
    assert_eq!(len("c0", 1, i64::MAX, &[]), 59);
    assert_eq!(len("c0", i64::MAX, 31, &[]), 31);
    assert_eq!(len("c0", i64::MAX, i64::MAX, &["r"]), 0);
    assert_eq!(len("p0", i64::MAX, i64::MAX, &[]), 2000);
    for none in [0, -1, i64::MIN] {
        assert_eq!(len("c0", none, i64::MAX, &[]), 0);
        assert_eq!(len("c0", 3, none, &[]), 0);
    }
}

#[test]
fn what_llamaindex_left_dangling_is_repaired() {
    let graph = in_memory();
    let json = r#"{
        "nodes": {
            "say  hi ": {"name": "say \"hi\"", "properties": {"p": 1}},
            "C": {"name": "C"}
        },
        "relations": {
            "say  hi _R_C": {"label": "R", "source_id": "say  hi ", "target_id": "C"},
            "say \"hi\"_S_C": {"label": "S", "source_id": "say \"hi\"", "target_id": "C"},
            "B_R_C": {"label": "R", "source_id": "B", "target_id": "C", "properties": {"w": 2}}
        },
        "triplets": [["say  hi ", "R", "C"], ["say  hi ", "S", "C"], ["B", "R", "C"],
                     ["C", "T", "say  hi "]]
    }"#;
    ok(graph.load_dict(&read(json)));
    let triplets = ok(graph.get_triplets(&GraphFilter::ids(["C"])));
    let shown: Vec<_> = triplets
        .iter()
        .map(|t| format!("{} {} {}", t.source.id, t.relation.label, t.target.id))
        .collect();
    assert_eq!(shown, ["say \"hi\" R C", "say \"hi\" S C", "B R C", "C T say \"hi\""]);
    assert_eq!(ok(graph.node_count()), 3);
    // The same, record by record.
    let dict = read(json);
    let (copy, entries) = (in_memory(), |field| dict.get(field).and_then(Value::as_map));
    let mut import = copy.import();
    for (key, node) in entries("nodes").expect("nodes").iter() {
        ok(import.node(key, node));
    }
    for (key, relation) in entries("relations").expect("relations").iter() {
        ok(import.relation(key, relation));
    }
    for triplet in dict.get("triplets").and_then(Value::as_list).expect("triplets") {
        ok(import.triplet(triplet));
    }
    assert_eq!(ok(copy.to_dict()), ok(graph.to_dict()));
}

/// Else it would make a second node of an entity that is put in again.
#[test]
fn llamaindex_gets_its_own_ids_of_names_with_quotes() {
    let graph = in_memory();
    let quoted = LabelledNode::entity("a\"b").with_property("p", 1);
    ok(graph.upsert_nodes(&[quoted, LabelledNode::chunk("c\"d", "words")]));
    let relations = [
        Relation::new("a\"b", "r", "c\"d").with_property("w", 2),
        Relation::new("x\"y z", "r", "x y\"z"),
        // Keys that are the same only as LlamaIndex has them.
        Relation::new("e\"_f", "g", "h").with_property("n", 1),
        Relation::new("e ", "f_g", "h").with_property("n", 2),
    ];
    ok(graph.upsert_relations(&relations));
    let shown = |graph: &PropertyGraphStore| {
        let dict = ok(graph.to_dict());
        let keys = |field| -> Vec<String> {
            let map = dict.get(field).and_then(Value::as_map).expect("it is a map");
            map.iter().map(|(key, _)| key.to_string()).collect()
        };
        let triplets = dict.get("triplets").expect("there are triplets");
        let first = triplets.as_list().expect("it is a list")[0].clone();
        (keys("nodes"), keys("relations"), json::to_string(&first, json::Style::Python))
    };
    let (nodes, keys, first) = shown(&graph);
    assert_eq!(nodes, ["a b", "c\"d", "x y z", "x y\"z", "e _f", "h", "e "]);
    assert_eq!(keys, ["a b_r_c\"d", "x y z_r_x y\"z", "e _f_g_h", "e _f_g_h#1"]);
    assert_eq!(first, r#"["a b", "r", "c\"d"]"#);
    // Another node has that id now.
    ok(graph.upsert_nodes(&[LabelledNode::entity("a b")]));
    let (nodes, keys, first) = shown(&graph);
    assert_eq!((nodes[0].as_str(), nodes[7].as_str()), ("a\"b", "a b"));
    assert_eq!(keys[0], "a\"b_r_c\"d");
    assert_eq!(first, r#"["a\"b", "r", "c\"d"]"#);
    for without in [None, Some("a b")] {
        let ids: Vec<Text> = without.into_iter().map(Text::from).collect();
        ok(graph.delete(&GraphFilter::ids(ids)));
        let copy = in_memory();
        ok(copy.load_dict(&ok(graph.to_dict())));
        let all = |graph: &PropertyGraphStore| ok(graph.get(&Map::new(), &[]));
        assert_eq!(all(&copy), all(&graph));
        let filter = GraphFilter::relations(["r", "g", "f_g"]);
        assert_eq!(ok(copy.get_triplets(&filter)), ok(graph.get_triplets(&filter)));
    }
}

#[test]
fn relations_with_one_key_are_both_given_out() {
    let graph = in_memory();
    let pair = [
        Relation::new("a_b", "c", "d").with_property("n", 1),
        Relation::new("a", "b_c", "d").with_property("n", 2),
    ];
    ok(graph.upsert_relations(&pair));
    let mut keys = Vec::new();
    ok(graph.for_each_relation(&mut |key, _| {
        keys.push(key.to_string());
        Ok(())
    }));
    assert_eq!(keys, ["a_b_c_d", "a_b_c_d#1"]);
    // Also if numbers were given out in between, so that they differ in the copy.
    ok(graph.delete(&GraphFilter::relations(["c"])));
    ok(graph.upsert_relations(&[pair[0].clone(), Relation::new("a_b_c", "d", "d")]));
    ok(graph.delete(&GraphFilter::relations(["b_c"])));
    ok(graph.upsert_relations(&pair[1..]));
    let copy = in_memory();
    ok(copy.load_dict(&ok(graph.to_dict())));
    assert_eq!(ok(copy.to_dict()), ok(graph.to_dict()));
    ok(copy.delete(&GraphFilter::entities(["a_b_c"])));
    let found = ok(copy.get_triplets(&GraphFilter::ids(["d"])));
    let found: Vec<_> = found.into_iter().map(|triplet| triplet.relation).collect();
    assert_eq!(found, pair);
}

#[test]
fn a_dictionary_that_is_none_changes_nothing() {
    let graph = in_memory();
    ok(graph.upsert_relations(&[Relation::new("a", "r", "b")]));
    let before = ok(graph.to_dict());
    for bad in [
        "[]",
        r#"{"relations": {}}"#,
        r#"{"nodes": []}"#,
        r#"{"nodes": {"x": {"label": "y"}}}"#,
        r#"{"nodes": {"x": {"name": "x"}}, "relations": {"k": {"label": "r"}}}"#,
        r#"{"nodes": {}, "triplets": [["a", "b"]]}"#,
        r#"{"nodes": {}, "triplets": {}}"#,
    ] {
        assert!(graph.load_dict(&read(bad)).is_err(), "{bad}");
        assert_eq!(ok(graph.to_dict()), before);
    }
}

#[test]
fn nodes_of_llamaindex_go_with_what_was_found_in_them() {
    let graph = in_memory();
    let nodes = [
        Node::text("n1", "one").with_source("doc"),
        Node::text("n2", "two").with_source("doc"),
        Node::text("n3", "three"),
    ];
    ok(graph.upsert_llama_nodes(&nodes));
    let found = LabelledNode::entity("found in n3").with_property("triplet_source_id", "n3");
    ok(graph.upsert_nodes(&[found, LabelledNode::entity("other")]));
    ok(graph.upsert_relations(&[Relation::new("n3", "MENTIONS", "other")]));
    assert_eq!(ok(graph.get_llama_nodes(&[])), nodes);
    ok(graph.delete_llama_nodes(&[], &[]));
    ok(graph.delete_llama_nodes(&texts(&["nope"]), &texts(&["nope"])));
    assert_eq!(ok(graph.node_count()), 5);
    ok(graph.delete_llama_nodes(&[], &texts(&["doc"])));
    assert_eq!(ok(graph.get_llama_nodes(&[])), nodes[2..]);
    ok(graph.delete_llama_nodes(&texts(&["n3"]), &[]));
    let left = ok(graph.get(&Map::new(), &[]));
    assert_eq!(left, [LabelledNode::entity("other")]);
    assert_eq!(ok(graph.relation_count()), 0);
}

/// Those of nodes that are not asked for do not matter.
#[test]
fn embeddings_of_another_dimension_are_refused() {
    let graph = in_memory();
    ok(graph.upsert_nodes(&[LabelledNode::entity("a").with_embedding(vec![1.0, 2.0])]));
    let refused = graph.vector_query(&[1.0], 3, |_| true);
    assert!(matches!(refused, Err(StoreError::InvalidArgument(_))), "{refused:?}");
    let other = LabelledNode::entity("b").with_label("other").with_embedding(vec![2.0]);
    ok(graph.upsert_nodes(std::slice::from_ref(&other)));
    let refused = graph.vector_query(&[1.0], 3, |_| true);
    let said = refused.expect_err("a is compared").to_string();
    assert!(said.contains("has 1 dimensions, that of node \"a\" has 2"), "{said}");
    let found = ok(graph.vector_query(&[1.0], 3, |node| node.label == "other"));
    assert_eq!(found, [(other.clone(), 1.0)]);
    ok(graph.upsert_nodes(&[LabelledNode::entity("a")]));
    assert_eq!(ok(graph.vector_query(&[1.0], 3, |_| true)), [(other, 1.0)]);
}

#[test]
fn a_failing_change_leaves_nothing_behind() {
    let graph = in_memory();
    ok(graph.upsert_nodes(&[LabelledNode::entity("a")]));
    let before = ok(graph.to_dict());
    let mut deep = Value::Null;
    for _ in 0..=crate::limits::VALUE_DEPTH_MAX {
        deep = vec![deep].into();
    }
    let nodes = [LabelledNode::entity("b"), LabelledNode::entity("c").with_property("deep", deep)];
    assert!(graph.upsert_nodes(&nodes).is_err());
    let long = "x".repeat(crate::limits::KEY_LEN_MAX + 1);
    assert!(graph.upsert_relations(&[Relation::new("a", "r", long.as_str())]).is_err());
    assert_eq!(ok(graph.to_dict()), before);
    assert_eq!(ok(graph.get_schema()).nodes.len(), 1);
    // Labels may be of any length.
    ok(graph.upsert_relations(&[Relation::new("a", long.as_str(), "a")]));
    assert_eq!(ok(graph.get_triplets(&GraphFilter::relations([long]))).len(), 1);
}

#[test]
fn a_damaged_record_is_reported() {
    let graph = in_memory();
    ok(graph.upsert_relations(&[Relation::new("a", "r", "b").with_property("p", 1)]));
    let kv = graph.writer.kv().clone();
    let damaged = BTreeMap::from([("ids", &b"a"[..]), ("nodes", &[0; 8]), ("relations", &[0; 8])]);
    for (suffix, key) in damaged {
        let collection = format!("property_graph_store/{suffix}");
        let whole = kv.get(&collection, key).expect("it reads").expect("it is there");
        kv.put(&collection, key, &"damaged".into()).expect("it writes");
        let found = graph.get_triplets(&GraphFilter::ids(["a"]));
        assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{suffix}: {found:?}");
        kv.put(&collection, key, &whole).expect("it writes");
    }
    assert_eq!(ok(graph.get_triplets(&GraphFilter::ids(["a"]))).len(), 1);
}
