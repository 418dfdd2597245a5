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
