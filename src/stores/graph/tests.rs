//! The store against LlamaIndex's rules on plain lists, reopened in between.

use super::*;
use crate::kv::{LogKv, MemoryKv};
use crate::testing::Rng;

/// LlamaIndex's rules on plain lists, with a delete that deletes.
#[derive(Default)]
struct Model {
    subjects: Vec<(String, Vec<(String, String)>)>,
}

impl Model {
    fn edges(&mut self, subj: &str) -> Option<&mut Vec<(String, String)>> {
        self.subjects.iter_mut().find(|(known, _)| known == subj).map(|(_, edges)| edges)
    }

    fn upsert(&mut self, subj: &str, rel: &str, obj: &str) {
        let edge = (rel.to_owned(), obj.to_owned());
        match self.edges(subj) {
            Some(edges) if edges.contains(&edge) => {}
            Some(edges) => edges.push(edge),
            None => self.subjects.push((subj.to_owned(), vec![edge])),
        }
    }

    fn delete(&mut self, subj: &str, rel: &str, obj: &str) {
        if let Some(edges) = self.edges(subj) {
            edges.retain(|edge| *edge != (rel.to_owned(), obj.to_owned()));
        }
        self.subjects.retain(|(_, edges)| !edges.is_empty());
    }

    /// LlamaIndex's recursion, word for word in what it gives.
    fn walk(&mut self, subj: &str, depth: i64, limit: i64) -> Vec<TextTriplet> {
        let mut found = Vec::new();
        if depth == 0 {
            return found;
        }
        let edges = self.edges(subj).cloned().unwrap_or_default();
        for (rel, obj) in edges.into_iter().take(usize::try_from(limit).unwrap_or(0)) {
            found.push((subj.into(), rel.as_str().into(), obj.as_str().into()));
            found.extend(self.walk(&obj, depth - 1, 30));
        }
        found
    }

    fn rel_map(
        &mut self,
        subjs: Option<Vec<String>>,
        depth: i64,
        limit: i64,
    ) -> Vec<(Text, Vec<TextTriplet>)> {
        let all = self.subjects.iter().map(|(subj, _)| subj.clone()).collect();
        let mut count = 0;
        let mut map: Vec<(Text, Vec<TextTriplet>)> = Vec::new();
        for subj in subjs.unwrap_or(all) {
            if map.iter().any(|(known, _)| *known == *subj) {
                continue;
            }
            let mut found = self.walk(&subj, depth, limit);
            if count + found.len() as i64 > limit {
                found.truncate(usize::try_from(limit - count).unwrap_or(0));
                map.push((subj.into(), found));
                break;
            }
            count += found.len() as i64;
            map.push((subj.into(), found));
        }
        map
    }

    fn dict(&self) -> Value {
        let edge = |(rel, obj): &(String, String)| {
            Value::List(vec![rel.as_str().into(), obj.as_str().into()])
        };
        let list = |edges: &Vec<_>| edges.iter().map(edge).collect::<Vec<Value>>();
        let graph: Map = self.subjects.iter().map(|(subj, edges)| (subj, list(edges))).collect();
        [("graph_dict", graph)].into_iter().collect::<Map>().into()
    }
}

fn ok<T>(result: Result<T, StoreError>) -> T {
    result.expect("the store works")
}

/// The dictionary with its order, which `Value`'s equality does not look at.
fn shown(dict: &Value) -> String {
    crate::kv::json::to_string(dict, crate::kv::json::Style::Compact)
}

/// A random name, with few different ones so that they meet.
fn name(rng: &mut Rng, kind: &str) -> String {
    format!("{kind}{}", rng.below(7))
}

#[test]
fn random_operations_give_what_the_model_gives() {
    for seed in 0..12 {
        eprintln!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let open = || GraphStore::new(Arc::new(LogKv::open(dir.path()).expect("it opens")));
        let (mut store, mut model) = (Some(open()), Model::default());
        for step in 0..400 {
            let graph = store.as_ref().expect("it is open");
            let (subj, rel, obj) = (name(&mut rng, "n"), name(&mut rng, "r"), name(&mut rng, "n"));
            match rng.below(100) {
                0..50 => {
                    ok(graph.upsert_triplet(&subj, &rel, &obj));
                    model.upsert(&subj, &rel, &obj);
                }
                50..75 => {
                    // Mostly one that is there.
                    let known = model.edges(&subj).and_then(|edges| edges.first().cloned());
                    let (rel, obj) = known.filter(|_| seed % 2 == 0).unwrap_or((rel, obj));
                    ok(graph.delete(&subj, &rel, &obj));
                    model.delete(&subj, &rel, &obj);
                    assert!(!ok(graph.contains(&subj, &rel, &obj)), "step {step}");
                }
                75..95 => {
                    let (depth, limit) = (rng.below(5) as i64, rng.below(40) as i64 - 2);
                    let subjs = (rng.below(4) > 0).then(|| vec![subj, obj, "n0".to_owned()]);
                    let texts: Option<Vec<Text>> =
                        subjs.as_ref().map(|subjs| subjs.iter().map(Text::from).collect());
                    let found = ok(graph.get_rel_map(texts.as_deref(), depth, limit));
                    assert_eq!(found, model.rel_map(subjs, depth, limit), "step {step}");
                }
                95..97 => {
                    drop(store.take());
                    store = Some(open());
                }
                _ => assert_eq!(shown(&ok(graph.to_dict())), shown(&model.dict()), "step {step}"),
            }
        }
        let graph = store.expect("it is open");
        let dict = ok(graph.to_dict());
        assert_eq!(shown(&dict), shown(&model.dict()));
        let copy = GraphStore::with_namespace(Arc::new(MemoryKv::new()), "other");
        ok(copy.load_dict(&dict));
        assert_eq!(shown(&ok(copy.to_dict())), shown(&dict));
        let all: Vec<TextTriplet> =
            model.rel_map(None, 1, i64::MAX).into_iter().flat_map(|(_, edges)| edges).collect();
        assert_eq!(ok(graph.len()), all.len() as u64);
        for (subj, rel, obj) in all {
            ok(graph.delete(subj, rel, obj));
        }
        for collection in graph.names.all() {
            assert_eq!(graph.writer.kv().len(collection).expect("it counts"), 0, "{collection}");
        }
    }
}

/// Goal: neither cycles nor depth nor limit make the walk long or deep. Method: a complete graph,
/// whose walks are 11 ^ depth long, and a path of 20,000 steps, at every extreme.
#[test]
fn the_limit_bounds_the_walk() {
    let graph = GraphStore::new(Arc::new(MemoryKv::new()));
    let mut triplets = Vec::new();
    for from in 0..12 {
        for to in 0..12 {
            triplets.push((format!("c{from}").into(), "r".into(), format!("c{to}").into()));
        }
    }
    for step in 0..20_000 {
        let next = step + 1;
        triplets.push((format!("p{step}").into(), "r".into(), format!("p{next}").into()));
    }
    ok(graph.upsert_triplets(&triplets));
    for depth in [1000, i64::MAX, -1, i64::MIN] {
        for limit in [0, 1, 5000] {
            let found = ok(graph.get_rel_map(Some(&["c0".into()]), depth, limit));
            assert_eq!(found[0].1.len() as i64, limit);
        }
        let found = ok(graph.get_rel_map(Some(&["c0".into()]), depth, -3));
        assert_eq!(found, [("c0".into(), Vec::new())]);
    }
    for depth in [1000, -1] {
        let refused = graph.get_rel_map(Some(&["c0".into()]), depth, i64::MAX);
        assert!(matches!(refused, Err(StoreError::InvalidArgument(_))), "{depth}");
    }
    let found = ok(graph.get_rel_map(Some(&["p0".into()]), -1, i64::MAX));
    assert_eq!(found[0].1.len(), 20_000);
}

/// Goal: a change writes the same number of bytes whatever the degree. Method: two subjects, one
/// with 10,000 edges, and the batches that a change of each takes.
#[test]
fn a_change_costs_the_same_at_any_degree() {
    let graph = GraphStore::new(Arc::new(MemoryKv::new()));
    let edge = |subj: &str, n: u32| (subj.into(), "r".into(), format!("object {n:05}").into());
    ok(graph.upsert_triplets(&(0..148).map(|n| edge("small", n)).collect::<Vec<_>>()));
    ok(graph.upsert_triplets(&(0..10_100).map(|n| edge("large", n)).collect::<Vec<_>>()));
    let bytes = |change: &dyn Fn(&dyn KvStore) -> Result<(), StoreError>| {
        let staged = crate::kv::Staged::new(graph.writer.kv().clone());
        ok(change(&staged));
        staged.batch().expect("it fits").byte_len()
    };
    for n in [3, 50, 99, 20_000] {
        let object = Text::from(format!("object {n:05}"));
        let cost = |subj: &str| {
            let subj = Text::from(subj);
            match n {
                20_000 => bytes(&|kv| graph.add(kv, &subj, &"r".into(), &object)),
                _ => bytes(&|kv| graph.remove(kv, &subj, &"r".into(), &object)),
            }
        };
        let (small, large) = (cost("small"), cost("large"));
        assert!(large < small + 64, "object {n}: {large} bytes, with few edges {small}");
    }
}

#[test]
fn a_dictionary_that_is_none_changes_nothing() {
    let graph = GraphStore::new(Arc::new(MemoryKv::new()));
    ok(graph.upsert_triplet("a", "r", "b"));
    for (json, pointer) in [
        ("[]", "/"),
        (r#"{"graph_dict": []}"#, "/graph_dict"),
        (r#"{"graph_dict": {"x": [["r", "y"]], "z": 1}}"#, "/graph_dict/z"),
        (r#"{"graph_dict": {"x": [["r", "y"], ["r", 1, 2]]}}"#, "/graph_dict/x/1"),
        (r#"{"graph_dict": {"x": [["r"]]}}"#, "/graph_dict/x/0"),
    ] {
        let dict = crate::kv::json::from_slice(json.as_bytes()).expect("it is JSON");
        match graph.load_dict(&dict) {
            Err(StoreError::Dict { pointer: found, .. }) => assert_eq!(found, pointer),
            other => panic!("{json}: {other:?}"),
        }
        assert_eq!(ok(graph.get("a")), [("r".into(), "b".into())]);
        assert_eq!(ok(graph.len()), 1);
    }
    ok(graph.load_dict(&Map::new().into()));
    assert!(ok(graph.is_empty()));
}

#[test]
fn subjects_without_edges_are_kept() {
    let graph = GraphStore::new(Arc::new(MemoryKv::new()));
    let json = br#"{"graph_dict": {"a": [], "b": [["r", "a"], ["r", "a"]]}}"#;
    ok(graph.load_dict(&crate::kv::json::from_slice(json).expect("it is JSON")));
    assert_eq!(shown(&ok(graph.to_dict())), r#"{"graph_dict":{"a":[],"b":[["r","a"]]}}"#);
    ok(graph.add_subject("c"));
    let found = ok(graph.get_rel_map(None, 2, 30));
    assert_eq!(found.iter().map(|(_, found)| found.len()).collect::<Vec<_>>(), [0, 1, 0]);
}

/// Goal: what is no text in a triplet is what LlamaIndex makes of it when it loads the dictionary.
/// Method: the texts are those that `SimpleGraphStore.from_persist_path` of 0.14.25 returned.
#[test]
fn what_is_no_text_is_as_python_shows_it() {
    let graph = GraphStore::new(Arc::new(MemoryKv::new()));
    let json = br#"{"graph_dict": {"a": [["age", 30], ["h", 1.5], ["z", 1e16], ["t", true],
        [null, "x"], ["l", [1, "b"]], ["m", {"k": null}], ["age", "30"]]}}"#;
    ok(graph.load_dict(&crate::kv::json::from_slice(json).expect("it is JSON")));
    let found: Vec<String> =
        ok(graph.get("a")).iter().map(|(rel, obj)| format!("{rel}={obj}")).collect();
    let expected =
        ["age=30", "h=1.5", "z=1e+16", "t=True", "None=x", "l=[1, 'b']", "m={'k': None}"];
    assert_eq!(found, expected);
}
