//! Random operations against a plain model, reopened in between.

use std::sync::Arc;

use super::distance::Measure;
use super::*;
use crate::engine::{Durability, Options};
use crate::kv::{LogKv, MemoryKv, Staged, Value};
use crate::testing::Rng;

/// The rows in the order of insertion.
#[derive(Clone, Default)]
struct Model {
    rows: Vec<VectorEntry>,
}

impl Model {
    fn add(&mut self, entry: &VectorEntry) {
        match self.rows.iter_mut().find(|row| row.id == entry.id) {
            Some(row) => *row = entry.clone(),
            None => self.rows.push(entry.clone()),
        }
    }

    /// LlamaIndex's loop over all rows, ties as [`VectorStore::query`] breaks them.
    fn query(&self, query: &VectorQuery, measure: Measure) -> Vec<(f64, Text)> {
        let embedding = query.embedding.clone().unwrap_or_default();
        let mut found: Vec<(f64, Text)> = self
            .rows
            .iter()
            .filter(|row| row.embedding.len() == embedding.len())
            .filter(|row| query.node_ids.as_ref().is_none_or(|ids| ids.contains(&row.id)))
            .filter(|row| {
                query
                    .doc_ids
                    .as_ref()
                    .is_none_or(|ids| row.ref_doc_id.as_ref().is_some_and(|id| ids.contains(id)))
            })
            .filter(|row| query.filters.as_ref().is_none_or(|filters| matches(filters, row)))
            .map(|row| (measure.exact(row.embedding.iter().copied(), &embedding), row.id.clone()))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)));
        found.truncate(query.top_k.unwrap_or(usize::MAX));
        found
    }
}

fn matches(filters: &MetadataFilters, row: &VectorEntry) -> bool {
    let one = |filter: &Filter| match filter {
        Filter::Group(group) => matches(group, row),
        Filter::One(one) => {
            let found = row.metadata.as_ref().and_then(|map| map.get(one.key.as_bytes()));
            one.matches(found).expect("kinds that go together")
        }
    };
    let mut each = filters.filters.iter().map(one);
    match filters.condition {
        _ if filters.filters.is_empty() => true,
        FilterCondition::And => each.all(|yes| yes),
        FilterCondition::Or => each.any(|yes| yes),
        FilterCondition::Not => !each.any(|yes| yes),
    }
}

fn id(rng: &mut Rng, ids: usize) -> Text {
    format!("n{}", rng.below(ids)).into()
}

fn ref_doc(rng: &mut Rng) -> Text {
    format!("d{}", rng.below(6)).into()
}

fn embedding(rng: &mut Rng, dim: usize) -> Vec<f64> {
    let is_single = rng.percent(60);
    let float = |rng: &mut Rng| rng.below(2001) as f64 / 1000.0 - 1.0;
    (0..dim)
        .map(|_| {
            let float = float(rng) + 0.0001;
            if is_single { f64::from(float as f32) } else { float }
        })
        .collect()
}

fn entry(rng: &mut Rng, ids: usize, dim: usize) -> VectorEntry {
    let mut metadata = Map::new();
    metadata.insert("year", 2000 + rng.below(8) as i64);
    if rng.percent(70) {
        metadata.insert("lang", ["en", "de", "fr"][rng.below(3)]);
    }
    VectorEntry {
        id: id(rng, ids),
        embedding: embedding(rng, dim),
        ref_doc_id: rng.percent(80).then(|| ref_doc(rng)),
        metadata: Some(metadata),
    }
}

fn filters(rng: &mut Rng) -> MetadataFilters {
    let texts = [
        "year >= 2004",
        "lang == 'en'",
        "lang in ['de', 'fr'] and year < 2006",
        "not (lang == 'en' or year == 2001)",
        "lang is_empty",
        "missing != 1",
        "(year == 2000 or year == 2003.0) and lang != 'fr'",
    ];
    MetadataFilters::parse(texts[rng.below(texts.len())]).expect("filters")
}

/// Everything that can be seen agrees with the model.
fn check(store: &VectorStore, model: &Model, rng: &mut Rng, dim: usize) {
    let mut seen = Vec::new();
    store
        .for_each_entry(&mut |entry| {
            seen.push(entry);
            Ok(())
        })
        .expect("entries");
    assert_eq!(seen, model.rows);
    assert_eq!(store.len().expect("len"), model.rows.len() as u64);
    for _ in 0..3 {
        let mut query = VectorQuery::new(embedding(rng, dim), rng.below(12));
        query.filters = rng.percent(50).then(|| filters(rng));
        query.node_ids = rng.percent(20).then(|| (0..30).map(|n| format!("n{n}").into()).collect());
        query.doc_ids = rng.percent(20).then(|| vec![ref_doc(rng), ref_doc(rng)]);
        query.threads = rng.below(3);
        if rng.percent(10) {
            query.top_k = None;
        }
        let (mode, measure) = [
            (QueryMode::Default, Measure::Cosine),
            (QueryMode::DotProduct, Measure::Dot),
            (QueryMode::Euclidean, Measure::Euclidean),
        ][rng.below(3)];
        query.mode = mode;
        let found = store.query(&query).expect("query");
        let found: Vec<_> = found.similarities.into_iter().zip(found.ids).collect();
        assert_eq!(found, model.query(&query, measure), "{query:?}");
    }
}

/// One random change to the store and to the model.
fn change(store: &VectorStore, model: &mut Model, rng: &mut Rng, dim: usize) {
    let ids = 400;
    match rng.below(12) {
        0..=4 => {
            let entry = entry(rng, ids, dim);
            store.add_entries(std::slice::from_ref(&entry)).expect("add");
            model.add(&entry);
        }
        5..=6 => {
            let many = 1 + rng.below(90);
            let entries: Vec<_> = (0..many).map(|_| entry(rng, ids, dim)).collect();
            store.add_entries(&entries).expect("add");
            entries.iter().for_each(|entry| model.add(entry));
        }
        7..=8 => {
            let ids: Vec<Text> = (0..rng.below(20)).map(|_| id(rng, ids)).collect();
            store.delete_nodes(Some(&ids), None).expect("delete");
            model.rows.retain(|row| !ids.contains(&row.id));
        }
        9 => {
            let doc = ref_doc(rng);
            store.delete(&doc).expect("delete");
            model.rows.retain(|row| row.ref_doc_id.as_ref() != Some(&doc));
        }
        10 => {
            let filters = filters(rng);
            let ids: Option<Vec<Text>> =
                rng.percent(70).then(|| (0..60).map(|_| id(rng, ids)).collect());
            store.delete_nodes(ids.as_deref(), Some(&filters)).expect("delete");
            model.rows.retain(|row| {
                let named = ids.as_ref().is_none_or(|ids| ids.contains(&row.id));
                !(named && matches(&filters, row))
            });
        }
        _ if rng.percent(10) => {
            store.clear().expect("clear");
            model.rows.clear();
        }
        _ => {
            store.delete_nodes(None, None).expect("nothing is named");
        }
    }
}

/// Goal: the store does what LlamaIndex's does, whatever was done before. Method: random changes,
/// from two handles that do not know of each other, compared with a list of rows.
#[test]
fn two_handles_in_memory_follow_the_model() {
    for seed in 0..40u64 {
        eprintln!("seed {seed}");
        let mut rng = Rng::new(seed);
        let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
        let stores = [VectorStore::new(kv.clone()), VectorStore::new(kv)];
        let (mut model, dim) = (Model::default(), 1 + rng.below(40));
        for _ in 0..60 {
            change(&stores[rng.below(2)], &mut model, &mut rng, dim);
            if rng.percent(40) {
                check(&stores[rng.below(2)], &model, &mut rng, dim);
            }
        }
        stores.iter().for_each(|store| check(store, &model, &mut rng, dim));
    }
}

/// Goal: a store that is opened again is as it was, after any number of changes. Method: segments
/// so small that blocks are sealed and compacted, opened again after every few changes.
#[test]
fn a_store_that_is_opened_again_follows_the_model() {
    for seed in 0..12u64 {
        eprintln!("seed {seed}");
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().expect("dir");
        let open = || {
            let options = Options::new().segment_len(16 << 10).inline_maintenance(true);
            LogKv::open_with(dir.path(), options).expect("open")
        };
        let (mut model, dim) = (Model::default(), 1 + rng.below(40));
        for _ in 0..12 {
            let kv = open();
            let store = VectorStore::new(Arc::new(kv.clone()));
            check(&store, &model, &mut rng, dim);
            for _ in 0..1 + rng.below(8) {
                change(&store, &mut model, &mut rng, dim);
            }
            check(&store, &model, &mut rng, dim);
            if rng.percent(30) {
                kv.db().compact_now().expect("compact");
                check(&store, &model, &mut rng, dim);
            }
            store.persist().expect("persist");
        }
    }
}

/// Goal: a transaction over a staged view is seen by the outer store when it is committed, and
/// leaves no trace when it is not. Method: random ones of both kinds.
#[test]
fn transactions_are_seen_whole_or_not_at_all() {
    for seed in 0..30u64 {
        eprintln!("seed {seed}");
        let mut rng = Rng::new(seed);
        let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
        let store = VectorStore::new(kv.clone());
        let (mut model, dim) = (Model::default(), 8);
        for _ in 0..25 {
            let staged = Arc::new(Staged::new(kv.clone()));
            let inner = VectorStore::new(staged.clone());
            let mut changed = model.clone();
            for _ in 0..1 + rng.below(4) {
                change(&inner, &mut changed, &mut rng, dim);
            }
            check(&inner, &changed, &mut rng, dim);
            check(&store, &model, &mut rng, dim);
            if rng.percent(60) {
                staged.commit(Durability::Buffered).expect("commit");
                model = changed;
            }
            check(&store, &model, &mut rng, dim);
        }
    }
}

/// Goal: queries beside writers see rows that belong together. Method: pairs of rows are added and
/// removed in one change each, while others count the rows.
#[test]
fn queries_beside_changes_see_whole_changes() {
    let dir = tempfile::tempdir().expect("dir");
    let store = VectorStore::new(Arc::new(LogKv::open(dir.path()).expect("open")));
    let pair = |n: usize| {
        ["a", "b"].map(|side| VectorEntry {
            id: format!("{side}{n}").into(),
            embedding: vec![1.0, n as f64],
            ..VectorEntry::default()
        })
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rng = Rng::new(1);
            for n in 0..1500usize {
                store.add_entries(&pair(n)).expect("add");
                if rng.percent(60) {
                    let ids = pair(rng.below(n + 1)).map(|entry| entry.id);
                    store.delete_nodes(Some(&ids), None).expect("delete");
                }
            }
        });
        while !writer.is_finished() {
            let mut query = VectorQuery::new([1.0, 1.0], 1);
            query.top_k = None;
            let found = store.query(&query).expect("query");
            let ids: BTreeSet<String> = found.ids.iter().map(Text::to_string).collect();
            assert_eq!(ids.len(), found.ids.len(), "no row twice");
            for id in &ids {
                let other = id.replace('a', "c").replace('b', "a").replace('c', "b");
                assert!(ids.contains(&other), "{id} without {other}");
            }
        }
    });
}

/// Goal: rows that come alone end up in full blocks, and dead ones do not pile up. Method: count
/// the blocks after single additions, and after removing all but a few.
#[test]
fn blocks_are_merged_and_dropped() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let store = VectorStore::new(kv.clone());
    let mut rng = Rng::new(3);
    let blocks = || kv.len(&store.inner.names.blocks).expect("len");
    let one = |n: usize, rng: &mut Rng| VectorEntry {
        id: format!("n{n}").into(),
        embedding: embedding(rng, 4),
        ..VectorEntry::default()
    };
    for n in 0..3000 {
        store.add_entries(&[one(n, &mut rng)]).expect("add");
        assert!(blocks() <= 30 + n as u64 / 256, "{} blocks of {n} rows", blocks());
    }
    let ids: Vec<Text> = (0..3000).filter(|n| n % 10 > 0).map(|n| format!("n{n}").into()).collect();
    for id in &ids {
        store.delete_nodes(Some(std::slice::from_ref(id)), None).expect("delete");
    }
    assert_eq!(store.len().expect("len"), 300);
    assert!(blocks() <= 31, "{} blocks", blocks());
    store.delete_nodes(Some(&store.ids().expect("ids")), None).expect("delete");
    assert_eq!(blocks(), 0);
    let left = kv.collections().expect("collections");
    let left: u64 = left.iter().map(|(_, records)| records).sum();
    assert_eq!(left, 2, "only the state is left");
}

#[test]
fn odd_rows_are_ranked_and_come_back() {
    let store = VectorStore::with_namespace(Arc::new(MemoryKv::new()), "odd/rows");
    let embeddings = [
        vec![0.0, 0.0, 0.0],
        vec![1e300, 1e300, 0.0],
        vec![1e-40, 0.0, 0.0],
        vec![f64::INFINITY, 1.0, 0.0],
        vec![f64::NAN, 1.0, 0.0],
        vec![1.0, 2.0, 3.0],
        vec![0.1, 0.2, 0.3],
    ];
    for (n, embedding) in embeddings.iter().enumerate() {
        let entry = VectorEntry {
            id: n.to_string().into(),
            embedding: embedding.clone(),
            ..VectorEntry::default()
        };
        store.add_entries(&[entry]).expect("add");
    }
    for (n, embedding) in embeddings.iter().enumerate() {
        let found: Vec<u64> =
            store.get(n.to_string()).expect("get").iter().map(|f| f.to_bits()).collect();
        assert_eq!(found, embedding.iter().map(|f| f.to_bits()).collect::<Vec<_>>());
    }
    let found = store.query(&VectorQuery::new([1.0, 2.0, 3.0], 2)).expect("query");
    assert!(found.ids.contains(&"5".into()) && found.ids.contains(&"6".into()), "{found:?}");
    let found = store.query(&VectorQuery::new([0.0, 0.0, 0.0], 3)).expect("query");
    assert!(found.similarities.iter().all(|s| s.is_nan()) && found.ids.len() == 3);
    let empty = VectorEntry { id: "empty".into(), ..VectorEntry::default() };
    store.clear().expect("clear");
    store.add_entries(&[empty]).expect("add");
    assert_eq!(store.get("empty").expect("get"), Vec::<f64>::new());
    assert!(store.query(&VectorQuery::new([1.0], 1)).is_err(), "another dimension");
}

#[test]
fn namespaces_do_not_meet() {
    let kv: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
    let names = ["", "a", "a/state", "a/rows", "/", "image", "\u{e9} \"x\""];
    for (n, name) in names.iter().enumerate() {
        let store = VectorStore::with_namespace(kv.clone(), name);
        let entry =
            VectorEntry { id: "n".into(), embedding: vec![n as f64], ..VectorEntry::default() };
        store.add_entries(&[entry]).expect("add");
    }
    for (n, name) in names.iter().enumerate() {
        let store = VectorStore::with_namespace(kv.clone(), name);
        assert_eq!(store.get("n").expect("get"), [n as f64]);
        assert_eq!(store.len().expect("len"), 1);
    }
    let mut sorted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    sorted.sort();
    assert_eq!(VectorStore::namespaces(&*kv).expect("namespaces"), sorted);
}

/// Goal: a type error is raised where LlamaIndex raises it: only for rows that are looked at, and
/// the first of them in the order of insertion.
#[test]
fn type_errors_are_those_of_the_rows_that_are_looked_at() {
    let store = VectorStore::new(Arc::new(MemoryKv::new()));
    for (id, value) in [("a", Value::Int(1)), ("b", "x".into()), ("c", Value::List(Vec::new()))] {
        let mut metadata = Map::new();
        metadata.insert("k", value);
        let entry = VectorEntry {
            id: id.into(),
            embedding: vec![1.0],
            ref_doc_id: None,
            metadata: Some(metadata),
        };
        store.add_entries(&[entry]).expect("add");
    }
    let mut query = VectorQuery::new([1.0], 5);
    query.filters = Some(MetadataFilters::parse("k > 0 or k == 1").expect("filters"));
    let e = store.query(&query).expect_err("a string is not ordered with a number");
    assert_eq!(e.to_string(), "'>' not supported between instances of 'str' and 'int'");
    query.node_ids = Some(vec!["a".into()]);
    assert_eq!(store.query(&query).expect("query").ids, ["a"]);
    store.delete_nodes(Some(&["b".into(), "c".into()]), None).expect("delete");
    query.node_ids = None;
    assert_eq!(store.query(&query).expect("query").ids, ["a"]);
}
