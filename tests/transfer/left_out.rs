//! Nothing is left out in silence: what no store has a place for is in the report.

use siltstone::model::ChatMessage;
use siltstone::stores::{ChatQueue, ChatStore, GraphStore, MessageStatus, PropertyGraphStore};
use siltstone::transfer::Listed;

use super::*;

fn reported(name: &str, text: &str) -> ImportReport {
    let report = import(&Files::of(&[(name, text)]), &memory(), ImportOptions::new()).unwrap();
    assert!(report.is_whole());
    report
}

/// What is listed, in words; the bytes up to each end with what it names.
fn lines(listed: &Listed, text: &str) -> Vec<String> {
    assert_eq!(listed.count, listed.first.len() as u64);
    for found in &listed.first {
        let name = found.what.split('"').nth(1).unwrap();
        let before = &text[..found.byte as usize];
        let at = before.rfind(name).unwrap_or_else(|| panic!("{found:?}"));
        assert!(before.len() - at < 80, "{found:?}");
    }
    listed.first.iter().map(|found| found.what.clone()).collect()
}

#[test]
fn what_no_store_has_a_place_for_is_listed() {
    for (name, text, expected) in [
        (
            "docstore.json",
            r##"{"docstore/metadata": {"a": {"doc_hash": "h", "#order": 1}},
            "docstore/ref_doc_info": {"r": {}, "s": {"node_ids": ["a"], "color": 1}},
            "c": {"k": 1}, "c": {"k": 2}}"##,
            &[
                r##"docstore/metadata: "a" has a field "#order""##,
                r#"docstore/ref_doc_info: "r" is empty, which stands for nothing"#,
                r#"docstore/ref_doc_info: "s" has a field "color""#,
                r#""c" comes again: the earlier one"#,
            ][..],
        ),
        ("graph_store.json", r#"{"graph_dict": {}, "more": [1]}"#, &[r#"graph store: "more""#]),
        (
            "property_graph_store.json",
            r#"{"nodes": {"a": {"name": "a", "label": "l", "properties": {}, "color": 1}},
            "relations": {}, "triplets": [], "more": 1}"#,
            &[r#"nodes: "a" /color"#, r#"property graph store: "more""#],
        ),
        (
            "vector_store.json",
            r#"{"embedding_dict": {"a": [1]}, "text_id_to_ref_doc_id": {"x": "r", "y": "None"},
            "metadata_dict": {"z": {}}, "more": 1}"#,
            &[
                r#"vector store: "more""#,
                r#"text_id_to_ref_doc_id: "x" has no embedding"#,
                r#"text_id_to_ref_doc_id: "y" has no embedding"#,
                r#"metadata_dict: "z" has no embedding"#,
            ],
        ),
        (
            "chat_store.json",
            r#"{"store": {"a": [{"role": "user", "content": "b", "mood": 1}]}, "more": 1}"#,
            &[r#"store: "a": a message's /mood"#, r#"chat store: "more""#],
        ),
        (
            "dump.json",
            r#"{"doc_store": null, "vector_store": {}, "audio_store": {"a": 1}}"#,
            &[r#"storage context: "audio_store""#],
        ),
    ] {
        let report = reported(name, text);
        assert_eq!(lines(&report.files[0].left_out, text), expected, "{name}");
    }
}

#[test]
fn files_that_are_not_read_are_named_with_the_reason() {
    let files = Files::of(&[
        ("docstore.json", "{}"),
        ("a.json", "[1]"),
        ("b.json", "{}"),
        ("c.json", r#"{"name": 1}"#),
        ("d.txt", "notes"),
        ("e.json", ""),
        ("f.json", "{\"docst"),
        ("vector_store.json", r#"{"embedding_dict": {"old": [1]}}"#),
        ("default__vector_store.json", r#"{"embedding_dict": {"new": [1]}}"#),
    ]);
    let kv = memory();
    let report = import(&files, &kv, ImportOptions::new()).unwrap();
    let said: Vec<String> =
        report.ignored.iter().map(|other| format!("{}: {}", other.name, other.why)).collect();
    assert_eq!(
        said,
        [
            "a.json: it is no JSON dictionary",
            "b.json: its name is none of LlamaIndex's, and the dictionary in it is empty",
            "c.json: it begins with no key of LlamaIndex's",
            "d.txt: it is no JSON dictionary",
            "e.json: it is no JSON dictionary",
            "f.json: its name is none of LlamaIndex's, and its first key cannot be read",
            "vector_store.json: default__vector_store.json has taken its place",
        ]
    );
    let out = exported(&kv);
    let vectors = String::from_utf8_lossy(&out.files["default__vector_store.json"]);
    assert!(vectors.contains("new") && !vectors.contains("old"));
}

/// Files that would fill the same, and have no known name: none of them wins.
#[test]
fn two_files_with_the_same_store_are_refused() {
    let hashes = r#"{"docstore/metadata": {"a": {"doc_hash": "h"}}}"#;
    let vectors = r#"{"embedding_dict": {"a": [1]}}"#;
    for (one, other, text, space) in [
        ("a.json", "my.json", hashes, "the document store \"docstore\""),
        ("a__u.json", "a__v.json", vectors, "the vector store \"a\""),
        ("c.json", "d.json", r#"{"graph_dict": {}}"#, "a graph"),
    ] {
        for salvage in [false, true] {
            let (kv, files) = (memory(), Files::of(&[(one, text), (other, text)]));
            let options = ImportOptions::new().salvage(salvage);
            let said = import(&files, &kv, options).unwrap_err().to_string();
            assert_eq!(
                said,
                format!(
                    "{other} and {one} both hold {space}; nothing was imported; import the right \
                     one by its path"
                )
            );
            assert_eq!(everything(&*kv), Everything::new());
        }
    }
}

/// Goal: a copy beside a file of a known name does no harm, wherever its name stands in the order,
/// and leaves nothing of what only it holds.
#[test]
fn a_copy_gives_way_to_the_file_of_a_known_name() {
    let of = |id: &str, more: &str| {
        format!(r#"{{{more}"docstore/metadata": {{"{id}": {{"doc_hash": "h"}}}}}}"#)
    };
    let (right, wrong) = (of("right", ""), of("wrong", r#""mine/metadata": {"a": {}}, "#));
    let alone = memory();
    import(&Files::of(&[("docstore.json", &right)]), &alone, ImportOptions::new()).unwrap();
    let held = "docstore.json holds the document store \"docstore\"";
    let copied = "docstore.json is there, of which it seems to be a copy";
    for (name, text, why) in [
        ("a.json", wrong.as_str(), held),
        ("old.json", &wrong, held),
        ("docstore.json.bak", &wrong, copied),
        ("docstore.json~", r#"{"docstore/metadata": {"a"#, copied),
        (".docstore.json.swp", &wrong, copied),
        (".docstore.json.siltstone-export", &wrong, "an export that did not end left it"),
        (".a__vector_store.json.siltstone-export", "{", "an export that did not end left it"),
    ] {
        let (kv, files) = (memory(), Files::of(&[("docstore.json", &right), (name, text)]));
        let report = import(&files, &kv, ImportOptions::new()).unwrap();
        assert_eq!((report.records(), report.files.len()), (1, 1), "{name}");
        assert_eq!((report.ignored[0].name.as_str(), report.ignored[0].why.as_str()), (name, why));
        assert!(kv.contains("docstore/metadata", b"right").unwrap());
        assert_eq!(everything(&*kv), everything(&*alone), "{name}");
    }
}

#[test]
fn files_of_other_names_are_found_and_written() {
    let files = Files::of(&[
        ("docs", r#"{"data": {"k": 1}}"#),
        ("structs", "{}"),
        ("t__v", r#"{"embedding_dict": {"a": [1]}}"#),
        ("cache", r#"{"mine": {"k": {"nodes": []}, "l": {"nodes": []}}}"#),
    ]);
    let kv = memory();
    let unknown = import(&files, &kv, ImportOptions::new()).unwrap();
    assert_eq!(unknown.ignored.len(), 3, "{unknown:?}");
    let mut names = FileNames::default();
    (names.docstore, names.index_store) = ("docs".into(), "structs".into());
    (names.vector_store, names.cache) = ("v".into(), "cache".into());
    let kv = memory();
    let report = import(&files, &kv, ImportOptions::new().names(names.clone())).unwrap();
    assert_eq!((report.records(), report.ignored.len()), (4, 0));
    let mut out = Files::default();
    export(&kv, &mut out, &names, &mut |_, _| {}).unwrap();
    for name in ["docs", "structs", "cache"] {
        assert_eq!(parse(&out.files[name]), parse(&files.files[name]), "{name}");
    }
    assert!(out.files.contains_key("t__v") && out.files.contains_key("image__v"));
    let again = memory();
    import(&out, &again, ImportOptions::new().names(names)).unwrap();
    assert_eq!(again.get("mine", b"l").unwrap(), kv.get("mine", b"l").unwrap());
}

/// Goal: of a file of a name that was given and one of the usual name, the given one counts.
#[test]
fn a_given_name_wins() {
    let metadata =
        |id: &str| format!(r#"{{"docstore/metadata": {{"{id}": {{"doc_hash": "h"}}}}}}"#);
    let row = |id: &str| format!(r#"{{"embedding_dict": {{"{id}": [1.0]}}}}"#);
    for (given, usual, is_vectors) in [
        ("my_docs.json", "docstore.json", false),
        ("a__my_rows.json", "a__vector_store.json", true),
        ("default__my_rows.json", "default__vector_store.json", true),
        ("my_rows.json", "default__vector_store.json", true),
        ("default__my_rows.json", "vector_store.json", true),
    ] {
        let text = |id| if is_vectors { row(id) } else { metadata(id) };
        let files = Files::of(&[(given, &text("right")), (usual, &text("wrong"))]);
        let mut names = FileNames::default();
        (names.docstore, names.vector_store) = ("my_docs.json".into(), "my_rows.json".into());
        let kv = memory();
        let report = import(&files, &kv, ImportOptions::new().names(names)).unwrap();
        assert_eq!(report.ignored.len(), 1, "{usual}");
        let ignored = &report.ignored[0];
        let why = format!("{given} has taken its place");
        assert_eq!((ignored.name.as_str(), &ignored.why), (usual, &why));
        let alone = memory();
        let files = Files::of(&[(given, &text("right"))]);
        let mut names = FileNames::default();
        (names.docstore, names.vector_store) = ("my_docs.json".into(), "my_rows.json".into());
        import(&files, &alone, ImportOptions::new().names(names)).unwrap();
        assert_eq!(everything(&*kv), everything(&*alone), "{usual}");
    }
    // Alone, the usual name is as good as any.
    let files = Files::of(&[("docstore.json", &metadata("a"))]);
    let mut names = FileNames::default();
    names.docstore = "my_docs.json".into();
    let report = import(&files, &memory(), ImportOptions::new().names(names)).unwrap();
    assert_eq!((report.records(), report.ignored.len()), (1, 0));
}

#[test]
fn collections_of_our_own_are_not_taken_for_others() {
    for name in ["graph_store/edges", "vector_store/a/rows", "docstore/ref_doc_info.nodes"] {
        let text = format!(r#"{{"{name}": {{"k": 1}}, "c": {{"k": 1}}}}"#);
        let (kv, files) = (memory(), Files::of(&[("docstore.json", &text)]));
        let said = import(&files, &kv, ImportOptions::new()).unwrap_err().to_string();
        let expected = format!("collection \"{name}\" is one of Siltstone's own; nothing was");
        assert!(said.contains(&expected), "{said}");
        let report = import(&files, &kv, ImportOptions::new().salvage(true)).unwrap();
        assert_eq!((report.records(), report.files[0].problems.count), (1, 1));
    }
}

/// Index structs and nodes are kept differently, so a collection is of the one kind or the other.
#[test]
fn a_collection_of_structs_and_nodes_is_refused() {
    let node = r#"{"__data__": {"text": "t"}, "__type__": "1"}"#;
    let structure =
        r#"{"__data__": "{\"index_id\": \"s\", \"summary\": null}", "__type__": "list"}"#;
    for (namespace, first, then, what) in [
        ("a", node, structure, "\"2\" is an index struct among nodes; nothing was"),
        ("a", structure, node, "\"2\" is no index struct; nothing was"),
        ("index_store", node, structure, "\"1\" is no index struct; nothing was"),
    ] {
        let text = format!(r#"{{"{namespace}/data": {{"1": {first}, "2": {then}}}}}"#);
        let (kv, files) = (memory(), Files::of(&[("docstore.json", &text)]));
        let said = import(&files, &kv, ImportOptions::new()).unwrap_err().to_string();
        assert!(said.contains(what), "{said}");
        let report = import(&files, &kv, ImportOptions::new().salvage(true)).unwrap();
        assert_eq!((report.records(), report.files[0].problems.count), (1, 1));
        let kept = exported(&kv).files.into_values().map(|text| String::from_utf8(text).unwrap());
        let found = kept.filter(|text| text.contains(&format!("{namespace}/data\": {{\"")));
        assert_eq!(found.count(), 1, "it comes out again");
    }
}

/// Goal: what LlamaIndex has no file for is named, and not written as if it were a collection of
/// the user's. Those of like names are the user's.
#[test]
fn an_export_says_what_it_has_no_file_for() {
    let kv = memory();
    for namespace in ["", "mine"] {
        ChatQueue::with_namespace(kv.clone(), namespace)
            .add_message("a", &ChatMessage::default(), MessageStatus::Active)
            .unwrap();
    }
    GraphStore::with_namespace(kv.clone(), "mine").upsert_triplet("a", "knows", "b").unwrap();
    ChatStore::with_namespace(kv.clone(), "mine")
        .set_messages("a", &[ChatMessage::default()])
        .unwrap();
    let node = siltstone::model::LabelledNode::entity("a");
    PropertyGraphStore::with_namespace(kv.clone(), "yours").upsert_nodes(&[node]).unwrap();
    kv.put("c", b"\xff", &Value::from(1)).unwrap();
    for name in ["d", "plain/nodes", "plain/rows", "plain/order", "plain/chats"] {
        kv.put(name, b"k", &Value::from(1)).unwrap();
    }
    let mut files = Files::default();
    let report = export(&kv, &mut files, &FileNames::default(), &mut |_, _| {}).unwrap();
    let names: Vec<&str> = report.left_out.iter().map(|left| left.name.as_str()).collect();
    println!("{:?}", report.left_out);
    for name in ["c", "chat_queue/rows", "mine/queues", "mine/rows", "mine/chats", "mine/messages"]
    {
        assert!(names.contains(&name), "{name}");
    }
    for name in ["mine/subjects", "mine/order", "mine/edges", "yours/nodes"] {
        assert!(names.contains(&name), "{name}");
    }
    let docs = parse(&files.files["docstore.json"]);
    let mut written: Vec<String> =
        docs.as_map().unwrap().keys().map(|key| key.to_string()).collect();
    written.sort();
    assert_eq!(written, ["d", "plain/chats", "plain/nodes", "plain/order", "plain/rows"]);
    assert_eq!(docs.get("d").and_then(|d| d.get("k")), Some(&Value::Int(1)));
}

/// Goal: an ingestion cache with a file name and a collection of its own is taken, and comes back.
#[test]
fn a_cache_of_any_name_is_found() {
    let text = r#"{"mine": {"k": {"nodes": [{"__data__": {"id_": "a"}, "__type__": "1"}]},
        "l": {"nodes": []}}}"#;
    let kv = memory();
    let report = import(&Files::of(&[("mycache", text)]), &kv, ImportOptions::new()).unwrap();
    assert_eq!((report.records(), report.files[0].kind), (2, "key-value store"));
    assert_eq!(parse(&exported(&kv).files["llama_cache"]), parse(text.as_bytes()));
}
