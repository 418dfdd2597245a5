//! Imported, exported, and imported again, everything is as it was.

use super::*;

/// The files that an export writes of what was never there.
fn is_made_for_loading(name: &str) -> bool {
    [
        "docstore.json",
        "index_store.json",
        "graph_store.json",
        "default__vector_store.json",
        "image__vector_store.json",
    ]
    .contains(&name)
}

/// A file without what does not count: empty collections, the form of JSON in strings, the order
/// of sets.
fn plain(name: &str, text: &[u8]) -> Value {
    let mut value = parse(text);
    if let Value::Text(inner) = &value {
        value = parse(inner.as_bytes());
    }
    let Value::Map(map) = value else { return value };
    if name == "property_graph_store.json" {
        return with_sorted_triplets(map);
    }
    if name == "docstore.json" || name == "index_store.json" {
        let is_empty = |v: &Value| v.as_map().is_some_and(|map| map.is_empty());
        let kept = map.into_iter().filter(|(_, v)| !is_empty(v));
        return Value::Map(kept.map(|(key, v)| (key, with_parsed_data(v))).collect());
    }
    map.into()
}

/// Triplets are a set.
fn with_sorted_triplets(mut graph: siltstone::kv::Map) -> Value {
    if let Some(Value::List(triplets)) = graph.get_mut("triplets") {
        triplets.sort_by_key(|triplet| json::to_string(triplet, json::Style::Canonical));
    }
    graph.into()
}

/// Index structs hold JSON in a string, with sets as lists.
fn with_parsed_data(collection: Value) -> Value {
    let Value::Map(records) = collection else { return collection };
    let record = |(key, record): (siltstone::kv::Text, Value)| {
        let Value::Map(mut map) = record else { return (key, record) };
        if let Some(Value::Text(data)) = map.get("__data__") {
            let mut data = parse(data.as_bytes());
            if let Value::Map(fields) = &mut data
                && let Some(Value::Map(table)) = fields.get("table")
            {
                let sorted = table.iter().map(|(word, ids)| {
                    let mut ids: Vec<Value> = ids.as_list().unwrap().to_vec();
                    ids.sort_by_key(|id| id.as_text().cloned());
                    (word.clone(), Value::List(ids))
                });
                let sorted: siltstone::kv::Map = sorted.collect();
                fields.set("table", sorted);
            }
            map.set("__data__", data);
        }
        (key, map.into())
    };
    Value::Map(records.into_iter().map(record).collect())
}

/// Goal: what the original wrote comes out again, file by file, and an import of that gives the
/// same store, record by record. Method: every directory, on both key-value stores.
#[test]
fn every_directory_comes_back() {
    let mut tried = 0;
    for path in inputs() {
        let files = Files::read(&path);
        let first = memory();
        let report = match import(&files, &first, ImportOptions::new()) {
            Ok(report) => report,
            Err(e) => {
                println!("{}: {e}", path.display());
                let is_whole = files.files.values().all(|text| json::from_slice(text).is_ok());
                assert!(!is_whole || matches!(e, TransferError::NothingFound), "{e}");
                assert_eq!(everything(&*first), Everything::new());
                continue;
            }
        };
        println!("{}: {} records", path.display(), report.records());
        assert!(!path.is_dir() || report.ignored.is_empty(), "{report:?}");
        assert!(report.files.iter().all(|file| file.left_out.count == 0), "{report:?}");
        tried += 1;

        let out = exported(&first);
        for (name, text) in &files.files {
            if report.ignored.iter().any(|other| other.name == *name) || !path.is_dir() {
                continue;
            }
            let found = out.files.get(name).unwrap_or_else(|| panic!("{name} was not exported"));
            assert_eq!(plain(name, found), plain(name, text), "{}: {name}", path.display());
        }
        for name in
            out.files.keys().filter(|name| path.is_dir() && !files.files.contains_key(*name))
        {
            assert!(is_made_for_loading(name), "{}: {name} came out", path.display());
        }

        let second = memory();
        import(&out, &second, ImportOptions::new()).unwrap();
        assert_eq!(comparable(&*second), comparable(&*first), "{}", path.display());
        assert_eq!(exported(&second), out, "{}", path.display());

        let dir = tempfile::tempdir().unwrap();
        let log = LogKv::open(dir.path()).unwrap();
        import_to_log(&files, &log, ImportOptions::new()).unwrap();
        assert!(log.db().snapshots().iter().all(|s| s.name.is_none()), "no snapshot is left");
        let log: Arc<dyn KvStore> = Arc::new(log);
        let of_log = exported(&log);
        assert_eq!(of_log.files.len(), out.files.len());
        for (name, text) in &of_log.files {
            assert_eq!(plain(name, text), plain(name, &out.files[name]), "{name}");
        }
    }
    assert!(tried >= 8, "tried {tried} only");
}

/// The store without the numbers that say in which order it was filled.
fn comparable(kv: &dyn KvStore) -> Everything {
    let is_ours = |key: &siltstone::kv::Text| key.as_bytes().starts_with(b"#");
    let strip = |value: Value| match value {
        Value::Map(map) => Value::Map(map.into_iter().filter(|(key, _)| !is_ours(key)).collect()),
        other => other,
    };
    // These number what was done, and where lists and blocks of rows are cut.
    let is_kept = |name: &str| !name.ends_with(".nodes") && !name.starts_with("vector_store/");
    let all = everything(kv).into_iter().filter(|((name, _), _)| is_kept(name));
    all.map(|(place, value)| (place, strip(value))).collect()
}

#[test]
fn the_order_of_a_python_dictionary_is_kept() {
    let text = r#"{"docstore/metadata": {"z": {"doc_hash": "h"}, "a": {"doc_hash": "h"},
        "m": {"doc_hash": "h", "ref_doc_id": "r"}}, "docstore/data": {},
        "docstore/ref_doc_info": {"r": {"node_ids": ["m"], "metadata": {"k": 1}}}}"#;
    let kv = memory();
    import(&Files::of(&[("docstore.json", text)]), &kv, ImportOptions::new()).unwrap();
    let store = siltstone::stores::DocumentStore::new(kv.clone());
    assert_eq!(store.get_all_document_hashes().unwrap()[&siltstone::kv::Text::from("h")], "m");
    let out = exported(&kv);
    let Value::Map(map) = parse(&out.files["docstore.json"]) else { panic!("no dictionary") };
    let ids = map.get("docstore/metadata").and_then(Value::as_map).unwrap();
    assert_eq!(ids.keys().map(ToString::to_string).collect::<Vec<_>>(), ["z", "a", "m"]);
}

/// Goal: an imported document store works as one that was filled by its methods. Method: the last
/// node of an imported ref doc is deleted, in a store whose file has ref docs first or last.
#[test]
fn imported_ref_docs_are_alive() {
    let ids: Vec<String> = (0..100).map(|i| format!("\"n{i}\"")).collect();
    let hashes: Vec<String> =
        (0..100).map(|i| format!(r#""n{i}": {{"doc_hash": "h{i}", "ref_doc_id": "r"}}"#)).collect();
    let refs = format!(
        r#""docstore/ref_doc_info": {{"r": {{"node_ids": [{}], "metadata": {{}}}}}}"#,
        ids.join(", ")
    );
    let hashes = format!(r#""docstore/metadata": {{{}}}"#, hashes.join(", "));
    for text in [format!("{{{refs}, {hashes}}}"), format!("{{{hashes}, {refs}}}")] {
        let kv = memory();
        import(&Files::of(&[("docstore.json", &text)]), &kv, ImportOptions::new()).unwrap();
        let store = siltstone::stores::DocumentStore::new(kv);
        let missing = siltstone::stores::Missing::Skip;
        for i in 0..100 {
            let info = store.get_ref_doc_info("r").unwrap().expect("some are left");
            assert_eq!(info.node_ids.len(), 100 - i);
            store.delete_document(format!("n{i}"), missing).unwrap();
        }
        assert_eq!(store.get_ref_doc_info("r").unwrap(), None);
        assert!(store.holds_no_hash());
    }
}

trait HoldsNoHash {
    fn holds_no_hash(&self) -> bool;
}

impl HoldsNoHash for siltstone::stores::DocumentStore {
    fn holds_no_hash(&self) -> bool {
        self.get_all_document_ids().unwrap().is_empty()
    }
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts() {
    let text = r#"{"c": {"a": 1, "b": 2}, "docstore/metadata": {"x": {"doc_hash": "old"}},
        "c": {"a": 3, "a": 4}, "docstore/metadata": {"y": {"doc_hash": "new"}}}"#;
    let kv = memory();
    import(&Files::of(&[("docstore.json", text)]), &kv, ImportOptions::new()).unwrap();
    assert_eq!(kv.get("c", b"a").unwrap(), Some(Value::Int(4)));
    assert_eq!(kv.get("c", b"b").unwrap(), None);
    assert_eq!(kv.len("docstore/metadata").unwrap(), 1);
    assert!(kv.contains("docstore/metadata", b"y").unwrap());
}

/// Goal: rows are put together right, in whatever order the three dictionaries stand and whatever
/// order their keys have. Method: the same four rows, written down in four ways.
#[test]
fn vectors_are_put_together_in_any_order() {
    let embeddings = r#""embedding_dict": {"a": [1, 2.5], "b": [0.1, NaN], "c": [], "d": [3, 4]}"#;
    let refs = r#""text_id_to_ref_doc_id": {"a": "A", "b": "None", "c": "C", "x": "X"}"#;
    let turned = r#""text_id_to_ref_doc_id": {"x": "X", "c": "C", "b": "None", "a": "A"}"#;
    let metadata = r#""metadata_dict": {"a": {"k": 1}, "b": {}, "c": {"_node_type": "T"}}"#;
    let old = r#""embedding_dict": {"old": [1]}"#;
    let mut stores = Vec::new();
    for text in [
        format!("{{{embeddings}, {refs}, {metadata}}}"),
        format!("{{{metadata}, {turned}, {embeddings}}}"),
        format!("{{{old}, {refs}, {embeddings}, {metadata}}}"),
        format!("{{{turned}, {metadata}, {refs}, {embeddings}, \"more\": [1]}}"),
    ] {
        for (name, text) in [
            ("a/b__c__vector_store.json", text.clone()),
            (
                "dump.json",
                format!(r#"{{"doc_store": {{}}, "vector_store": {{"a/b__c": {text}}}}}"#),
            ),
        ] {
            let kv = memory();
            import(&Files::of(&[(name, &text)]), &kv, ImportOptions::new()).unwrap();
            stores.push(exported(&kv).files["a/b__c__vector_store.json"].clone());
        }
    }
    let first = String::from_utf8(stores[0].clone()).unwrap();
    assert_eq!(
        first,
        r#"{"embedding_dict": {"a": [1.0, 2.5], "b": [0.1, NaN], "c": [], "d": [3.0, 4.0]}, "#
            .to_owned()
            + r#""text_id_to_ref_doc_id": {"a": "A", "b": "None", "c": "C", "d": "None"}, "#
            + r#""metadata_dict": {"a": {"k": 1}, "b": {}, "c": {"_node_type": "T"}}}"#
    );
    for other in stores {
        assert_eq!(String::from_utf8(other).unwrap(), first);
    }
}
