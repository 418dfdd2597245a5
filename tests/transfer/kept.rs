//! Stores that share a namespace, have names of their own, or hold what is no record of theirs.

use siltstone::StorageContext;
use siltstone::kv::Map;
use siltstone::model::Node;
use siltstone::stores::{
    AddOptions, DocumentStore, DocumentStoreOptions, IndexStore, IndexStoreOptions, IndexStruct,
    StructKind, StructMethods, VectorEntry, VectorStore,
};

use super::*;

fn nodes(count: usize) -> Vec<Node> {
    let node = |i| {
        let text = format!(
            r#"{{"__type__": "1", "__data__": {{"id_": "n{i}", "text": "t{i}", "relationships":
            {{"1": {{"node_id": "r", "node_type": "4", "metadata": {{"k": 1}}, "hash": "h"}}}}}}}}"#
        );
        Node::from_value(&parse(text.as_bytes())).unwrap()
    };
    (0..count).map(node).collect()
}

/// Goal: a document store whose collections have names of their own is exported as LlamaIndex
/// keeps it, with all members of a ref doc, and none of our fields. Method: a list of one record,
/// one of many; all three names given, and single ones.
#[test]
fn a_document_store_with_names_of_its_own_is_exported_whole() {
    let all = ["/d", "_refs", "/m"];
    for (n, suffixes) in
        [all, ["", "_refs", ""], ["/nodes", "", ""], ["", "", "/hashes"]].into_iter().enumerate()
    {
        for count in [1, 3000] {
            let mut options = DocumentStoreOptions::default();
            options.namespace = format!("mine{n}");
            options.node_collection_suffix = suffixes[0].into();
            options.ref_doc_collection_suffix = suffixes[1].into();
            options.metadata_collection_suffix = suffixes[2].into();
            let kv = memory();
            let store = DocumentStore::with_options(kv.clone(), &options).unwrap();
            store.add_documents(&nodes(count), &AddOptions::default()).unwrap();
            let out = exported(&kv);
            let text = String::from_utf8(out.files["docstore.json"].clone()).unwrap();
            assert!(!text.contains("\"#"), "{suffixes:?}: a field of ours is in it");
            let dict = parse(text.as_bytes());
            for (collection, records) in store.to_dict().unwrap().as_map().unwrap().iter() {
                let collection = collection.as_str().unwrap();
                assert_eq!(dict.get(collection), Some(records), "{suffixes:?}: {collection}");
            }
            let again = memory();
            import(&out, &again, ImportOptions::new()).unwrap();
            let same = DocumentStore::with_options(again, &options).unwrap();
            let info = same.get_ref_doc_info("r").unwrap();
            assert_eq!(info, store.get_ref_doc_info("r").unwrap());
            assert_eq!(info.unwrap().node_ids.len(), count);
            assert_eq!(same.docs().unwrap().len(), count);
        }
    }
}

/// Goal: a document store and an index store of one namespace are told apart record by record.
/// Method: ids of both sorts before and after one another.
#[test]
fn stores_that_share_a_namespace_are_told_apart() {
    for ids in [["a", "z"], ["m", "n"], ["z1", "z2"]] {
        let kv = memory();
        let docs = DocumentStore::with_namespace(kv.clone(), "mine");
        docs.add_documents(&nodes(3), &AddOptions::default()).unwrap();
        let structs = IndexStore::with_namespace(kv.clone(), "mine");
        for id in ids {
            structs.add_index_struct(&IndexStruct::new(StructKind::VectorStore, id)).unwrap();
            structs.edit(id, |index| index.add_node("n1")).unwrap();
        }
        let out = exported(&kv);
        let keys = |file: &str| -> Vec<String> {
            let dict = parse(&out.files[file]);
            let records = dict.get("mine/data").and_then(Value::as_map).unwrap();
            let mut keys: Vec<String> = records.keys().map(|key| key.to_string()).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys("docstore.json"), ["n0", "n1", "n2"]);
        assert_eq!(keys("index_store.json"), ids);
        let again = memory();
        import(&out, &again, ImportOptions::new()).unwrap();
        assert_eq!(exported(&again), out);
        let structs = IndexStore::with_namespace(again, "mine");
        assert_eq!(structs.get_index_struct(ids[0]).unwrap().unwrap().size().unwrap(), 1);
    }
}

/// Goal: what no store could read again, nor LlamaIndex, is refused, and left by a salvage.
#[test]
fn records_without_a_known_type_are_refused() {
    let structure = r#"{"__type__": "list", "__data__": "{\"index_id\": \"s\"}"}"#;
    let node = r#"{"__type__": "1", "__data__": {"id_": "a"}}"#;
    for (file, collection, record, whole, what) in [
        ("index_store.json", "index_store/data", node, structure, "is no index struct"),
        ("index_store.json", "mine/data", node, structure, "is no index struct"),
        ("index_store.json", "s-lpg", "1", structure, "is no index struct"),
        (
            "index_store.json",
            "index_store/data",
            r#"{"__type__": "vector_store", "__data__": "{\"index_id\": broken"}"#,
            structure,
            "has __data__ that is no JSON: Expecting value: line 1 column 14 (byte 13)",
        ),
        (
            "index_store.json",
            "s-lpg",
            r#"{"__type__": "simple_lpg", "__data__": "[1]"}"#,
            structure,
            "has __data__ that is no dictionary",
        ),
        (
            "index_store.json",
            "index_store/data",
            r#"{"__type__": "tree", "__data__": {"all_nodes": {"one": "n"}}}"#,
            structure,
            "has a field all_nodes that has a key that is no integer",
        ),
        (
            "docstore.json",
            "docstore/data",
            r#"{"__type__": "1", "__data__": {"text": 5}}"#,
            node,
            "is no node: field __data__.text is an integer, expected a string",
        ),
        ("index_store.json", "a/metadata", r#"{"doc_hash": "h"}"#, "", "is no index struct"),
        (
            "docstore.json",
            "docstore/data",
            r#"{"__type__": "9", "__data__": {"id_": "a"}}"#,
            node,
            "has no type that LlamaIndex knows",
        ),
        (
            "docstore.json",
            "docstore/data",
            r#"{"__type__": "lost", "__data__": {"id_": "a"}}"#,
            node,
            "has no type that LlamaIndex knows",
        ),
        (
            "docstore.json",
            "docstore/data",
            r#"{"__data__": {"id_": "a"}}"#,
            node,
            "has no type that LlamaIndex knows",
        ),
    ] {
        let more = if whole.is_empty() { String::new() } else { format!(r#", "s": {whole}"#) };
        let text = format!(r#"{{"{collection}": {{"a": {record}{more}}}}}"#);
        let (kv, files) = (memory(), Files::of(&[(file, &text)]));
        let said = import(&files, &kv, ImportOptions::new()).unwrap_err().to_string();
        assert!(said.contains(&format!("{collection}: \"a\" {what}; nothing was")), "{said}");
        assert_eq!(everything(&*kv), Everything::new());
        let report = import(&files, &kv, ImportOptions::new().salvage(true)).unwrap();
        assert_eq!(report.files[0].problems.count, 1, "{text}");
        assert_eq!(report.records(), u64::from(!whole.is_empty()), "{text}");
        let out = exported(&kv);
        for (name, bytes) in out.files {
            let found = parse(&bytes).get(collection).and_then(Value::as_map).cloned();
            let is_there = name == file && !whole.is_empty();
            assert_eq!(found.is_some_and(|map| !map.is_empty()), is_there, "{name}: {text}");
        }
    }
}

/// Goal: what LlamaIndex has no class for, and what it makes something of that no struct here can
/// hold, goes in and out as it is.
#[test]
fn index_structs_that_only_llamaindex_reads_are_kept() {
    let text = r#"{"index_store/data": {
        "a": {"__type__": "pinecone", "__data__": "broken"},
        "b": {"__type__": "vector_store", "__data__": "{\"nodes_dict\": {\"a\": 5}}"},
        "c": {"__type__": "list", "__data__": {"nodes": "xy"}},
        "d": {"__type__": "tree", "__data__": "{\"all_nodes\": {\"1_0\": \"n\"}}"},
        "e": {"__type__": "keyword_table", "__data__": "{\"table\": {\"k\": null}}"}}}"#;
    let kv = memory();
    let files = Files::of(&[("index_store.json", text)]);
    assert_eq!(import(&files, &kv, ImportOptions::new()).unwrap().records(), 5);
    assert_eq!(parse(&exported(&kv).files["index_store.json"]), parse(text.as_bytes()));
}

/// Goal: an index store whose collection has a name of its own is exported as LlamaIndex keeps it,
/// with all members, and nothing of ours; and comes back.
#[test]
fn an_index_store_with_a_name_of_its_own_is_exported_whole() {
    for (namespace, suffix) in [("", "_structs"), ("mine", ""), ("mine", "/graphs"), ("m", "s")] {
        let mut options = IndexStoreOptions::default();
        (options.namespace, options.collection_suffix) = (namespace.into(), suffix.into());
        let kv = memory();
        let store = IndexStore::with_options(kv.clone(), &options);
        let mut list = IndexStruct::new(StructKind::List, "list");
        for n in 0..100 {
            list.add_node(format!("n{n}")).unwrap();
        }
        store.add_index_struct(&list).unwrap();
        store.add_index_struct(&IndexStruct::new(StructKind::Empty, "empty")).unwrap();
        let out = exported(&kv);
        assert_eq!(parse(&out.files["index_store.json"]), store.to_dict().unwrap(), "{suffix}");
        assert_eq!(parse(&out.files["docstore.json"]), Map::new().into(), "{suffix}");
        let again = memory();
        import(&out, &again, ImportOptions::new()).unwrap();
        let same = IndexStore::with_options(again.clone(), &options);
        let by_id = |store: &IndexStore| {
            let mut all = store.index_structs().unwrap();
            all.sort_by(|a, b| a.index_id().cmp(b.index_id()));
            all
        };
        assert_eq!(by_id(&same), by_id(&store));
        same.edit("list", |index| index.add_node("n100")).unwrap();
        assert_eq!(same.get_index_struct("list").unwrap().unwrap().size().unwrap(), 101);
        import(&out, &again, ImportOptions::new().replace(true)).unwrap();
        assert_eq!(by_id(&same), by_id(&store), "nothing of before is left");
        assert_eq!(same.index_ids().unwrap().len(), 2);
    }
}

/// Goal: replacing the one of a document store and an index store of one namespace leaves the
/// other as it is; nor is a store taken for occupied by the other. Method: as above; each file
/// alone is imported over both.
#[test]
fn of_stores_that_share_a_namespace_one_is_replaced() {
    let fill = |docs: usize, ids: &[&str]| {
        let kv = memory();
        let store = DocumentStore::with_namespace(kv.clone(), "mine");
        store.add_documents(&nodes(docs), &AddOptions::default()).unwrap();
        let structs = IndexStore::with_namespace(kv.clone(), "mine");
        for id in ids {
            structs.add_index_struct(&IndexStruct::new(StructKind::VectorStore, *id)).unwrap();
            structs.edit(*id, |index| index.add_node("n1")).unwrap();
        }
        kv
    };
    let only = |out: &Files, file: &str| {
        let mut one = Files::default();
        one.files.insert(file.to_owned(), out.files[file].clone());
        one
    };
    let replace = || ImportOptions::new().replace(true);
    for ids in [["a", "z"], ["m", "n"], ["z1", "z2"]] {
        let before = exported(&fill(3, &ids));
        let other = exported(&fill(7, &["new"]));
        for (replaced, kept) in
            [("docstore.json", "index_store.json"), ("index_store.json", "docstore.json")]
        {
            let kv = fill(3, &ids);
            let file = only(&other, replaced);
            import(&file, &kv, ImportOptions::new()).expect_err("it holds such a store already");
            import(&file, &kv, replace()).unwrap();
            let after = exported(&kv);
            assert_eq!(after.files[replaced], other.files[replaced], "{replaced} of {ids:?}");
            assert_eq!(after.files[kept], before.files[kept], "{kept} of {ids:?}");
        }
    }
    let kv = fill(0, &["a"]);
    import(&only(&exported(&fill(2, &[])), "docstore.json"), &kv, ImportOptions::new()).unwrap();
    let kv = fill(2, &[]);
    let structs = only(&exported(&fill(0, &["a"])), "index_store.json");
    import(&structs, &kv, ImportOptions::new()).unwrap();
    let docs = DocumentStore::with_namespace(kv.clone(), "mine");
    assert!(docs.document_exists("n0").unwrap() && docs.document_exists("n1").unwrap());
    let list = IndexStore::with_namespace(kv, "mine").get_index_struct("a").unwrap();
    assert_eq!(list.unwrap().size().unwrap(), 1);
}

/// Goal: a vector store in half precision comes back as one, an empty one too, from its file as
/// from a dictionary; one in single precision does not become one, and a value of that key that
/// is none of ours is reported.
#[test]
fn half_precision_comes_back() {
    let kv = memory();
    let row = |id: &str, embedding: &[f64]| VectorEntry {
        id: id.into(),
        embedding: embedding.to_vec(),
        ..VectorEntry::default()
    };
    let numbers = [0.1, -3.3333, 65504.0, 6e-8];
    for namespace in ["default", "empty", "single"] {
        let store = VectorStore::with_namespace(kv.clone(), namespace);
        if namespace != "single" {
            store.keep_half_precision().unwrap();
        }
        if namespace != "empty" {
            store.add_entries(&[row("a", &numbers)]).unwrap();
        }
    }
    let out = exported(&kv);
    let first = parse(&out.files["default__vector_store.json"]);
    let keys: Vec<String> = first.as_map().unwrap().keys().map(ToString::to_string).collect();
    let theirs = ["embedding_dict", "text_id_to_ref_doc_id", "metadata_dict"];
    assert_eq!(keys[..3], theirs, "LlamaIndex reads these and no others");
    let again = memory();
    let report = import(&out, &again, ImportOptions::new()).unwrap();
    assert!(report.files.iter().all(|file| file.left_out.count == 0), "{report:?}");
    assert_eq!(exported(&again), out);
    let dict = StorageContext::from_kv(kv.clone()).to_dict().unwrap();
    let context = StorageContext::from_dict(&dict).unwrap();
    for kv in [&again, context.kv()] {
        for (namespace, is_half) in [("default", true), ("empty", true), ("single", false)] {
            let store = VectorStore::with_namespace(kv.clone(), namespace);
            assert_eq!(store.is_half_precision().unwrap(), is_half, "{namespace}");
            store.add_entries(&[row("b", &[0.1, 1.0, 2.0, 3.0])]).unwrap();
            assert_eq!(store.get("b").unwrap()[0] == 0.1, !is_half, "{namespace}");
        }
    }
    let text = r#"{"embedding_dict": {"a": [0.1]}, "siltstone": {"precision": "quarter"}}"#;
    let report =
        import(&Files::of(&[("vector_store.json", text)]), &memory(), ImportOptions::new());
    let left_out = &report.unwrap().files[0].left_out;
    assert_eq!(left_out.first[0].what, r#"vector store: "siltstone""#);
}

/// Goal: places in a text that are beyond 64 bits, which LlamaIndex writes and reads, stay what
/// they are: in the store, in the typed node, and in an export.
#[test]
fn places_beyond_64_bits_come_back() {
    let text = r#"{"docstore/data": {"n": {"__data__": {"id_": "n", "text": "t",
        "start_char_idx": -1180591620717411303424, "end_char_idx": 9223372036854775808,
        "class_name": "TextNode"}, "__type__": "1"}}}"#;
    let kv = memory();
    import(&Files::of(&[("docstore.json", text)]), &kv, ImportOptions::new()).unwrap();
    let places = |record: &Value| {
        let data = record.get("__data__").unwrap();
        ["start_char_idx", "end_char_idx"].map(|field| data.get(field).cloned())
    };
    let expected = ["-1180591620717411303424", "9223372036854775808"].map(Value::integer);
    let out = parse(&exported(&kv).files["docstore.json"]);
    assert_eq!(places(out.get("docstore/data").unwrap().get("n").unwrap()), expected);
    let store = DocumentStore::new(kv.clone());
    let node = store.get_document("n").unwrap();
    assert_eq!(places(&node.to_value()), expected);
    store.add_documents(&[node], &AddOptions::default()).unwrap();
    assert_eq!(places(&kv.get("docstore/data", b"n").unwrap().unwrap()), expected);
}

#[test]
fn a_graph_of_numbers_is_taken_as_llamaindex_loads_it() {
    let text = r#"{"graph_dict": {"Alice": [["age", 30], [null, true]], "a": [["b", null]]}}"#;
    let kv = memory();
    import(&Files::of(&[("graph_store.json", text)]), &kv, ImportOptions::new()).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&exported(&kv).files["graph_store.json"]),
        r#"{"graph_dict": {"Alice": [["age", "30"], ["None", "True"]], "a": [["b", "None"]]}}"#
    );
}
