//! A salvage takes what is whole, of files of every kind, wherever they are cut.

use siltstone::kv::Map;
use siltstone::stores::ChatStore;

use super::*;

/// True if `part` is the beginning of `whole`: some of its keys, and of its lists the first items.
fn is_part(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Map(part), Value::Map(whole)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| is_part(part, whole)))
        }
        (Value::List(part), Value::List(whole)) => {
            part.len() <= whole.len()
                && part.iter().zip(whole).all(|(part, whole)| is_part(part, whole))
        }
        // NaN is equal to itself.
        (part, whole) => format!("{part:?}") == format!("{whole:?}"),
    }
}

/// What of an export comes from the file: without what stands for ends that were cut off.
fn of_file(name: &str, text: &[u8]) -> Value {
    let Value::Map(mut map) = parse(text) else { panic!("{name} is no dictionary") };
    if name.ends_with("vector_store.json") {
        let embeddings = map.get("embedding_dict").cloned().unwrap();
        map = [("embedding_dict", embeddings)].into_iter().collect::<Map>();
    }
    map.into()
}

/// Goal: whatever is taken of a cut file is what the whole file has, the report counts it, and the
/// longer the file, the more it is. Method: every file of every directory, cut at many places, one
/// by one; the export of what was taken is laid over that of the whole.
#[test]
fn a_file_of_any_kind_can_be_cut_anywhere() {
    let (mut cuts, mut kinds) = (0, std::collections::BTreeSet::new());
    for path in inputs() {
        for (name, text) in Files::read(&path).files {
            let source = |text: &[u8]| {
                let mut files = Files::default();
                files.files.insert(name.clone(), text.to_vec());
                files
            };
            let whole = memory();
            let Ok(report) = import(&source(&text), &whole, ImportOptions::new()) else { continue };
            kinds.insert(report.files[0].kind);
            let out = exported(&whole);
            let mut most = 0;
            let step = (text.len() / 40).max(1);
            for len in (0..text.len()).step_by(step) {
                let (files, kv) = (source(&text[..len]), memory());
                let at = format!("{}: {name} cut at {len} of {}", path.display(), text.len());
                if import(&files, &kv, ImportOptions::new()).is_ok() {
                    panic!("{at}: was taken for whole");
                }
                assert_eq!(everything(&*kv), Everything::new(), "{at}");
                let salvage = ImportOptions::new().salvage(true);
                let report = match import(&files, &kv, salvage) {
                    Ok(report) => report,
                    // Of a file without a known name, the first key is needed.
                    Err(TransferError::NothingFound) => continue,
                    Err(e) => panic!("{at}: {e}"),
                };
                let [file] = &report.files[..] else { panic!("{report:?}") };
                assert!(file.problems.count > 0, "{at}");
                assert!(report.records() >= most, "{at}");
                most = report.records();
                for (name, text) in exported(&kv).files {
                    let whole = out.files.get(&name).unwrap_or_else(|| panic!("{at}: {name}"));
                    let (part, whole) = (of_file(&name, &text), of_file(&name, whole));
                    assert!(is_part(&part, &whole), "{at}: {name}: {part:?}");
                }
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts of files of {kinds:?}");
    assert!(kinds.len() >= 6 && cuts > 500);
}

#[test]
fn messages_and_edges_before_the_cut_are_taken() {
    let message =
        |i| format!(r#"{{"role": "user", "blocks": [], "additional_kwargs": {{"n": {i}}}}}"#);
    let messages: Vec<String> = (0..700).map(message).collect();
    let text = format!(r#"{{"store": {{"a": [{}, {{"role": "us"#, messages.join(", "));
    let kv = memory();
    let salvage = ImportOptions::new().salvage(true);
    let files = Files::of(&[("chat_store.json", &text)]);
    let report = import(&files, &kv, salvage.clone()).unwrap();
    assert_eq!(report.records(), 700);
    assert_eq!(ChatStore::new(kv).get_messages("a").unwrap().len(), 700);

    let edges: Vec<String> = (0..700).map(|i| format!(r#"["r", "o{i}"]"#)).collect();
    let text = format!(r#"{{"graph_dict": {{"s": [{}, ["r", "#, edges.join(", "));
    let kv = memory();
    let report = import(&Files::of(&[("graph_store.json", &text)]), &kv, salvage).unwrap();
    assert_eq!(report.records(), 700);
    let store = siltstone::stores::GraphStore::new(kv);
    assert_eq!(store.get("s").unwrap().len(), 700);
}

/// Old versions of LlamaIndex wrote a JSON string that holds the dictionary.
#[test]
fn chats_in_a_string_are_chats() {
    let plain = r#"{"store": {"a": [{"role": "user", "content": "hello"}], "b": []}}"#;
    let text = json::to_string(&plain.into(), json::Style::Python);
    let mut stores = Vec::new();
    for text in [plain, &text] {
        let kv = memory();
        let files = Files::of(&[("chat_store.json", text)]);
        let report = import(&files, &kv, ImportOptions::new()).unwrap();
        assert_eq!((report.records(), report.files[0].left_out.count), (1, 0));
        stores.push(exported(&kv).files["chat_store.json"].clone());
    }
    assert_eq!(
        String::from_utf8(stores[0].clone()).unwrap(),
        r#"{"store":{"a":[{"role":"user","additional_kwargs":{},"blocks":[{"block_type":"text","#
            .to_owned()
            + r#""text":"hello"}]}],"b":[]},"class_name":"SimpleChatStore"}"#
    );
    assert_eq!(stores[0], stores[1]);
    let kv = memory();
    let files = Files::of(&[("chat_store.json", &text[..text.len() - 9])]);
    let said = import(&files, &kv, ImportOptions::new()).unwrap_err().to_string();
    assert!(said.starts_with("chat_store.json: Unterminated string starting"), "{said}");
}

/// An index struct of an index store's file.
fn index_struct(kind: &str, fields: &str) -> String {
    let data = json::to_string(&Value::from(fields), json::Style::Python);
    format!(r#"{{"__type__": "{kind}", "__data__": {data}}}"#)
}

/// Goal: what is too long for the keys and names under which it would be stored is found before
/// anything is written, in a file and at a place, and a salvage takes all but it.
#[test]
fn what_is_too_long_to_be_stored_is_found_first() {
    let (long, word) = ("k".repeat(65_535), "k".repeat(100_000));
    let of_structs = |kind: &str, fields: String| {
        let (wrong, right) = (index_struct(kind, &fields), index_struct("list", "{}"));
        format!(r#"{{"index_store/data": {{"a": {wrong}, "b": {right}}}}}"#)
    };
    let of_documents = |namespace: &str| {
        let node = r#"{"__data__": {"id_": "n"}, "__type__": "1"}"#;
        format!(
            r#"{{"{namespace}/data": {{"n": {node}}}, "{namespace}/metadata": {{"n": {{}}}},
            "docstore/metadata": {{"a": {{"doc_hash": "h"}}}}}}"#
        )
    };
    let vectors = r#"{"embedding_dict": {"a": [1.0], "b": [2.0]}, "text_id_to_ref_doc_id": "#;
    let namespace = "n".repeat(236);
    let of_namespace = format!("{namespace}__vector_store.json");
    let list = index_struct("list", "{}");
    for (name, text, what, records) in [
        (
            "index_store.json",
            of_structs("keyword_table", format!(r#"{{"table": {{"{word}": ["n"]}}}}"#)),
            "\"a\" has a field table that has an entry that is 100000 bytes long",
            1,
        ),
        (
            "index_store.json",
            of_structs("vector_store", format!(r#"{{"nodes_dict": {{"{long}": "n"}}}}"#)),
            "\"a\" has a field nodes_dict that has an entry that is 65535 bytes long",
            1,
        ),
        (
            "default__vector_store.json",
            format!(r#"{vectors}{{"a": "{long}", "b": "r"}}, "metadata_dict": {{}}}}"#),
            "text_id_to_ref_doc_id: \"a\" has a ref doc id of 65535 bytes",
            2,
        ),
        (
            "graph_store.json",
            format!(r#"{{"graph_dict": {{"{long}": [["r", "o"]], "a": [["r", "o"]]}}}}"#),
            "a key is 65535 bytes long",
            1,
        ),
        (&of_namespace, format!("{vectors}{{}}}}"), "would have names of more than 255 bytes", 0),
        (
            "docstore.json",
            of_documents(&format!("{namespace}0123456789")),
            "would have names of more than 255 bytes",
            1,
        ),
        (
            "index_store.json",
            format!(
                r#"{{"{namespace}0123456789/data": {{"a": {list}}},
                "index_store/data": {{"b": {list}}}}}"#
            ),
            "would have names of more than 255 bytes",
            1,
        ),
    ] {
        let files = Files::of(&[(name, &text), ("chat_store.json", r#"{"store": {}}"#)]);
        let refused = Import::check(&files, ImportOptions::new(), &mut |_, _| {}).unwrap_err();
        let said = refused.to_string();
        assert!(said.starts_with(&format!("{name}: byte ")), "{said}");
        assert!(said.contains(what), "{what}: {said}");
        let kv = memory();
        let report = import(&files, &kv, ImportOptions::new().salvage(true)).unwrap();
        let problems: u64 = report.files.iter().map(|file| file.problems.count).sum();
        assert!(problems > 0, "{said}");
        assert_eq!(report.records(), records, "{said}");
        let again = memory();
        let taken = import(&exported(&kv), &again, ImportOptions::new()).unwrap();
        assert_eq!(taken.records(), records, "{said}");
    }
}

/// Goal: whatever passes the check can be written. Method: ids, keywords and names of lengths
/// around the longest, each with so many entries that lists of them are kept in several records.
#[test]
fn what_passes_the_check_can_be_written() {
    let (mut refused, mut taken) = (0, 0);
    let each = |item: &dyn Fn(usize) -> String| (0..100).map(item).collect::<Vec<_>>().join(", ");
    let mut try_one = |name: &str, text: &str| {
        let files = Files::of(&[(name, text)]);
        match Import::check(&files, ImportOptions::new(), &mut |_, _| {}) {
            Err(_) => refused += 1,
            Ok(import) => {
                import.write(&memory(), &mut |_, _| {}).unwrap();
                taken += 1;
            }
        }
    };
    for len in (65_470..65_540).step_by(3) {
        let long = "k".repeat(len);
        let ids = each(&|i| format!("\"n{i}\""));
        for (kind, fields) in [
            ("keyword_table", format!(r#"{{"table": {{"{long}": [{ids}], "a": ["{long}"]}}}}"#)),
            ("vector_store", format!(r#"{{"nodes_dict": {{"{long}": "{long}"}}}}"#)),
            ("list", format!(r#"{{"nodes": ["{long}", {ids}, "{long}"]}}"#)),
            (
                "tree",
                format!(
                    r#"{{"all_nodes": {{"0": "{long}"}},
                    "node_id_to_children_ids": {{"{long}": [{ids}]}}}}"#
                ),
            ),
        ] {
            let record = index_struct(kind, &fields);
            try_one(
                "index_store.json",
                &format!(r#"{{"index_store/data": {{"{long}": {record}}}}}"#),
            );
        }
        let edges = each(&|i| format!("[\"r\", \"o{i}\"]"));
        try_one("graph_store.json", &format!(r#"{{"graph_dict": {{"{long}": [{edges}]}}}}"#));
        let (rows, refs) =
            (each(&|i| format!("\"n{i}\": [1.0]")), each(&|i| format!("\"n{i}\": \"{long}\"")));
        let text = format!(
            r#"{{"embedding_dict": {{{rows}, "{long}": [1.0]}},
            "text_id_to_ref_doc_id": {{{refs}}}}}"#
        );
        try_one("default__vector_store.json", &text);
        let messages = each(&|_| r#"{"role": "user", "content": "hello"}"#.to_owned());
        try_one("chat_store.json", &format!(r#"{{"store": {{"{long}": [{messages}]}}}}"#));
        let text = format!(
            r#"{{"docstore/metadata": {{"{long}": {{"doc_hash": "h", "ref_doc_id": "{long}"}}}},
            "docstore/ref_doc_info": {{"{long}": {{"node_ids": [{ids}, "{long}"]}}}}}}"#
        );
        try_one("docstore.json", &text);
        let text = format!(
            r#"{{"nodes": {{"{long}": {{"label": "{long}", "name": "{long}", "properties": {{}}}}}},
            "relations": {{}}, "triplets": [["{long}", "{long}", "{long}"]]}}"#
        );
        try_one("property_graph_store.json", &text);
    }
    for len in 225..255 {
        let namespace = "n".repeat(len);
        try_one(&format!("{namespace}__vector_store.json"), r#"{"embedding_dict": {"a": [1.0]}}"#);
        let record = index_struct("keyword_table", r#"{"table": {"w": ["n"]}}"#);
        try_one("index_store.json", &format!(r#"{{"{namespace}/data": {{"a": {record}}}}}"#));
        let info = r#"{"r": {"node_ids": ["a"]}}"#;
        try_one("docstore.json", &format!(r#"{{"{namespace}/ref_doc_info": {info}}}"#));
    }
    assert!(refused > 50 && taken > 150, "{refused} refused, {taken} taken");
}
