//! `siltstone query` and `siltstone graph`, run as a process: results for people and for machines,
//! and what is said of wrong use.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use siltstone::StorageContext;
use siltstone::model::{ChatMessage, LabelledNode, MessageRole, Node, Relation};
use siltstone::stores::{AddOptions, MessageStatus, VectorStore};

use crate::program::{complains, complains_with_input, ok, ok_json, ok_with_input, run};

fn query(dir: &Path, more: &[&str], input: &str) -> Value {
    let args = [&["query", "store", "--embedding", "-", "--json"], more].concat();
    serde_json::from_str(&ok_with_input(dir, &args, input)).unwrap()
}

fn ids(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|result| result["id"].as_str().unwrap()).collect()
}

/// Three nodes with embeddings, of which the document store has two; one row in `titles`; graphs.
fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let context = StorageContext::open(dir.path().join("store")).unwrap();
    let rows = [
        ("n1", 2019, "en", [1.0, 0.0], "\nFirst line.\nSecond line."),
        ("n2", 2021, "en", [0.6, 0.8], "Another text"),
        ("n3", 2024, "de", [0.0, 1.0], "Ein Text"),
    ];
    let nodes = rows.map(|(id, year, lang, embedding, text)| {
        let mut node = Node::text(id, text).with_source("a.txt");
        node.metadata.insert("year", year);
        node.metadata.insert("lang", lang);
        node.embedding = Some(embedding.to_vec());
        node
    });
    context.docstore().add_documents(&nodes[..2], &AddOptions::default()).unwrap();
    context.vector_store().unwrap().add(&nodes).unwrap();
    let mut title = Node::text("t1", "Title");
    title.embedding = Some(vec![1.0, 2.0, 3.0]);
    VectorStore::with_namespace(context.kv().clone(), "titles").add(&[title]).unwrap();
    let graph = context.graph_store();
    for (a, b) in [("Ann", "Bob"), ("Bob", "Cid"), ("Cid", "Ann"), ("Cid", "Dan")] {
        graph.upsert_triplet(a, "knows", b).unwrap();
    }
    let properties = context.property_graph_store();
    let ann = LabelledNode::entity("Ann").with_label("PERSON").with_property("age", 28);
    properties.upsert_nodes(&[ann, LabelledNode::chunk("c1", "Some text")]).unwrap();
    let likes = Relation::new("Ann", "LIKES", "Tea").with_property("since", 2001);
    properties.upsert_relations(&[likes]).unwrap();
    context.persist().unwrap();
    dir
}

#[test]
fn query_prints_the_nearest_with_what_is_known_of_them() {
    let dir = store();
    let dir = dir.path();
    fs::write(dir.join("q.json"), "[1, 0.0]\n").unwrap();
    let text = ok(dir, &["query", "store", "--embedding", "q.json", "--top-k", "3"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "1.000000  n1  a.txt  First line.",
            "0.600000  n2  a.txt  Another text",
            "0.000000  n3  a.txt"
        ]
    );
    let answer = query(dir, &["--top-k", "1"], "[0, 2.5]");
    let expected = json!({
        "namespace": "default", "mode": "default",
        "results": [{"id": "n3", "score": 1.0, "ref_doc_id": "a.txt", "text": null}],
    });
    assert_eq!(answer, expected);
    let answer = query(dir, &["--namespace", "titles"], "[1, 2, 3]");
    assert_eq!(ids(&answer), ["t1"]);
    assert_eq!(answer["results"][0]["ref_doc_id"], Value::Null);
}

#[test]
fn query_takes_filters_and_modes() {
    let dir = store();
    let dir = dir.path();
    let filtered = |filter: &str| {
        let answer = query(dir, &["--filter", filter], "[1, 0]");
        ids(&answer).join(" ")
    };
    assert_eq!(filtered("year>=2020 and lang==\"en\""), "n2");
    assert_eq!(filtered("not lang == 'en' or year < 2020"), "n1 n3");
    assert_eq!(filtered("lang not in ['en']"), filtered("lang nin ['en']"));
    assert_eq!(filtered("year > 3000"), "");
    assert_eq!(filtered(""), "n1 n2 n3");
    let modes = ["mmr", "dot_product", "euclidean"].map(|mode| {
        let answer = query(dir, &["--mode", mode, "--top-k", "2"], "[0.8, 0.6]");
        assert_eq!(answer["mode"], mode);
        ids(&answer).join(" ")
    });
    // Of n2, which is nearest, n1 is more unlike than n3.
    assert_eq!(modes, ["n2 n1", "n2 n1", "n2 n1"]);
}

#[test]
fn query_says_what_is_wrong() {
    let dir = store();
    let dir = dir.path();
    let with = |more: &[&str], input: &str, code: i32| {
        let args = [&["query", "store", "--embedding", "-"], more].concat();
        complains_with_input(dir, &args, input, code)
    };
    let line = with(&["--namespace", "nope"], "[1, 0]", 1);
    assert!(line.contains("no vector store \"nope\""), "{line}");
    assert!(line.contains("there are: \"default\", \"image\", \"titles\""), "{line}");
    let line = with(&["--namespace", "image"], "[1, 0]", 1);
    assert!(line.contains("has no rows; those that have some: \"default\", \"titles\""), "{line}");
    let line = with(&[], "[1, 0, 0]", 2);
    assert!(line.contains("has 3 numbers; those in vector store \"default\" have 2"), "{line}");
    let line = with(&["--filter", "year >= "], "[1, 0]", 2);
    assert!(line.contains("filter, character 9: expected a value"), "{line}");
    let line = with(&["--filter", "lang > 5"], "[1, 0]", 2);
    assert!(line.contains("'>' not supported"), "{line}");
    for (input, what) in [
        ("[1, 0", "line 1 column"),
        ("{\"a\": 1}", "not a list of numbers"),
        ("[1, \"x\"]", "number 2 of it is not a finite number"),
        ("[NaN, 1]", "number 1 of it is not a finite number"),
        ("", "standard input: "),
    ] {
        let line = with(&[], input, 2);
        assert!(line.contains(what), "{input}: {line}");
    }
    let line = complains(dir, &["query", "store", "--embedding", "no.json"], 2);
    assert!(line.contains("cannot read the embedding in no.json"), "{line}");
    let line = with(&["--mode", "svm"], "[1, 0]", 2);
    assert!(line.contains("svm"), "{line}");
    let line = complains_with_input(dir, &["query", "none", "--embedding", "-"], "[1]", 2);
    assert!(line.contains("none"), "{line}");
}

/// What `siltstone ingest` makes has no embeddings.
#[test]
fn query_says_that_documents_have_no_embeddings() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let context = StorageContext::open(dir.join("store")).unwrap();
    context.persist().unwrap();
    drop(context);
    let ask = ["query", "store", "--embedding", "-"];
    let line = complains_with_input(dir, &ask, "[1]", 1);
    assert!(line.contains("vector store \"default\" in store has no rows"), "{line}");
    let context = StorageContext::open(dir.join("store")).unwrap();
    let nodes = [Node::text("n1", "words"), Node::text("n2", "words")];
    context.docstore().add_documents(&nodes, &AddOptions::default()).unwrap();
    context.persist().unwrap();
    drop(context);
    let line = complains_with_input(dir, &ask, "[1]", 1);
    assert!(line.contains("documents are in store, but no embeddings: it has 2 nodes"), "{line}");
}

#[test]
fn query_gives_scores_that_every_reader_takes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let context = StorageContext::open(dir.join("store")).unwrap();
    let rows = [("small", [-1e-9, 1.0]), ("zeros", [0.0, 0.0]), ("away", [-1.0, 1.0])];
    let nodes = rows.map(|(id, embedding)| {
        let mut node = Node::text(id, "");
        node.embedding = Some(embedding.to_vec());
        node
    });
    context.vector_store().unwrap().add(&nodes).unwrap();
    context.persist().unwrap();
    drop(context);
    let answer = query(dir, &[], "[1, 0]");
    let zeros = answer["results"].as_array().unwrap().iter().find(|hit| hit["id"] == "zeros");
    assert_eq!(zeros.unwrap()["score"], Value::Null);
    let text = ok_with_input(dir, &["query", "store", "--embedding", "-"], "[1, 0]");
    assert!(text.lines().any(|line| line.starts_with("0.000000  small")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("-0.707107  away")), "{text}");
    let text = ok_with_input(dir, &["query", "store", "--embedding", "-", "--json"], "[0, 0]");
    assert!(!text.contains("NaN") && !text.contains("-0.0"), "{text}");
}

/// Goal: what is stored may hold numbers that JSON has no form for; under `--json` they are null,
/// and without it they are printed as they are.
#[test]
fn json_has_null_for_numbers_without_a_form() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let context = StorageContext::open(dir.join("store")).unwrap();
    let odd = r#"{"a": [NaN, {"b": -Infinity}], "c": Infinity, "d": 0.5}"#;
    let odd = siltstone::kv::json::from_slice(odd.as_bytes()).unwrap();
    let mut node = LabelledNode::entity("Ann");
    node.properties.set("odd", odd.clone());
    let mut relation = Relation::new("Ann", "knows", "Ann");
    relation.properties.set("odd", odd.clone());
    let graph = context.property_graph_store();
    graph.upsert_nodes(&[node]).unwrap();
    graph.upsert_relations(&[relation]).unwrap();
    let mut message = ChatMessage::new(MessageRole::User, "text");
    message.additional_kwargs.set("odd", odd.clone());
    context.chat_store().set_messages("chat", &[message.clone()]).unwrap();
    context.chat_queue().set_messages("chat", &[message], MessageStatus::Active).unwrap();
    context.kv().put("c", b"k", &odd).unwrap();
    context.persist().unwrap();
    drop(context);
    let there = json!({"a": [null, {"b": null}], "c": null, "d": 0.5});
    let lines = |args: &[&str]| -> Vec<Value> {
        let text = ok(dir, args);
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    let reached = &lines(&["graph", "store", "Ann", "--json"])[0];
    assert_eq!(reached["nodes"][0]["properties"]["odd"], there);
    assert_eq!(reached["relations"][0]["properties"]["odd"], there);
    let messages = lines(&["chat", "store", "chat", "--json"]);
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|line| line["additional_kwargs"]["odd"] == there));
    assert_eq!(lines(&["get", "store", "c", "k", "--json"])[0]["value"], there);
    let printed = ok(dir, &["graph", "store", "Ann"]);
    assert!(printed.contains("[NaN, {\"b\": -Infinity}]"), "{printed}");
    assert!(ok(dir, &["chat", "store", "chat"]).contains("Infinity"));
    assert!(ok(dir, &["get", "store", "c", "k"]).contains("NaN"));
}

#[test]
fn graph_prints_what_is_reached() {
    let dir = store();
    let dir = dir.path();
    let text = ok(dir, &["graph", "store", "Ann", "--depth", "9"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "Ann -[knows]-> Bob",
            "Bob -[knows]-> Cid",
            "Cid -[knows]-> Ann",
            "Cid -[knows]-> Dan",
            "Ann -[LIKES]-> Tea",
            "Ann: PERSON",
            "    age: 28",
            "Tea: entity",
        ]
    );
    let json = |args: &[&str]| -> Value {
        let args = [&["graph", "store", "--json"], args].concat();
        ok_json(dir, &args)
    };
    let answer = json(&["Bob", "--depth", "1"]);
    assert_eq!(answer["triplets"], json!([["Bob", "knows", "Cid"]]));
    assert_eq!((&answer["relations"], &answer["is_cut"]), (&json!([]), &json!(false)));
    let answer = json(&["Ann", "--depth", "2"]);
    assert_eq!(answer["triplets"].as_array().unwrap().len(), 2);
    let likes = &answer["relations"][0];
    assert_eq!((&likes["source_id"], &likes["target_id"]), (&json!("Ann"), &json!("Tea")));
    assert_eq!(likes["properties"], json!({"since": 2001}));
    assert_eq!(answer["nodes"][0]["properties"], json!({"age": 28}));
    let answer = json(&["c1"]);
    assert_eq!(answer["nodes"][0]["text"], "Some text");
    assert_eq!(answer["triplets"], json!([]));
}

#[test]
fn graph_says_what_is_missing_or_cut() {
    let dir = store();
    let dir = dir.path();
    let line = complains(dir, &["graph", "store", "Eve"], 1);
    assert!(line.contains("no triplet starts from \"Eve\""), "{line}");
    assert!(line.contains("4 triplets"), "{line}");
    let (code, out, err) = run(dir, &["graph", "store", "Ann", "--limit", "1"], "");
    assert_eq!((code, out.lines().next()), (0, Some("Ann -[knows]-> Bob")));
    assert!(err.contains("more than 1 triplet"), "{err}");
}

/// LlamaIndex's walk follows 30 edges of an inner node and repeats cycles; neither is cut by that.
#[test]
fn graph_is_cut_only_where_the_limit_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let context = StorageContext::open(dir.join("store")).unwrap();
    let graph = context.graph_store();
    graph.upsert_triplet("a", "to", "b").unwrap();
    for leaf in 0..100 {
        graph.upsert_triplet("b", "to", format!("c{leaf}")).unwrap();
    }
    // Five nodes, each of which leads to the next and to the one before.
    for node in 0..5 {
        for other in [(node + 1) % 5, (node + 4) % 5] {
            graph.upsert_triplet(format!("r{node}"), "to", format!("r{other}")).unwrap();
        }
    }
    context.persist().unwrap();
    drop(context);
    let answer = |args: &[&str]| -> (usize, bool) {
        let args = [&["graph", "store", "--json"], args].concat();
        let answer = ok_json(dir, &args);
        let triplets = answer["triplets"].as_array().unwrap();
        let nearest: Vec<&str> =
            triplets.iter().take(2).map(|triplet| triplet[0].as_str().unwrap()).collect();
        assert!(matches!(nearest[..], ["a" | "r0", ..]), "{nearest:?}");
        (triplets.len(), answer["is_cut"].as_bool().unwrap())
    };
    assert_eq!(answer(&["a"]), (101, false));
    assert_eq!(answer(&["a", "--depth", "1"]), (1, false));
    assert_eq!(answer(&["a", "--limit", "101"]), (101, false));
    assert_eq!(answer(&["a", "--limit", "100"]), (100, true));
    assert_eq!(answer(&["r0", "--depth", "6", "--limit", "50"]), (10, false));
    assert_eq!(answer(&["r0", "--depth", "4000000000", "--limit", "10"]), (10, false));
    // The nearest: both edges of the node itself before any of others.
    let text = run(dir, &["graph", "store", "r0", "--limit", "3"], "");
    assert_eq!(text.1, "r0 -[to]-> r1\nr0 -[to]-> r4\nr1 -[to]-> r2\n");
    assert!(text.2.contains("there are more than 3 triplets"), "{}", text.2);
}
