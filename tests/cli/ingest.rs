//! `siltstone ingest`: which files and records become which documents, and what a second run does.

use std::fs;

use serde_json::{Value, json};

use crate::program::{
    counts, ingest, keys, ok, siltstone, siltstone_with_input, stderr, stdout, tree, value,
};

#[test]
fn ingest_stores_files_as_documents_and_chunks() {
    let dir = tree();
    let dir = dir.path();
    let report = ingest(dir, &["tree"]);
    assert_eq!(counts(&report), [5, 0, 0, 0]);
    assert_eq!(report["skipped"], json!({"not_utf8": 1, "binary": 1, "other_extension": 1}));
    assert_eq!(report["documents"]["skipped"], 3);
    assert!(report["fsyncs"].as_u64().unwrap() >= 1, "persist");
    assert_eq!(report["interrupted"], false);

    let long = fs::read_to_string(dir.join("tree/sub/long.md")).unwrap();
    let document = &value(dir, "docstore/data", "tree/sub/long.md")["__data__"];
    assert_eq!(document["class_name"], "Document");
    assert_eq!(document["text_resource"]["text"], long);
    let info = value(dir, "docstore/ref_doc_info", "tree/sub/long.md");
    assert_eq!(info["metadata"]["file_path"], "tree/sub/long.md");
    assert_eq!(info["metadata"]["file_size"], long.len());
    let ids = info["node_ids"].as_array().unwrap();
    assert!(ids.len() > 4);
    assert_eq!(report["chunks"], ids.len() + 3);

    let chars: Vec<char> = long.chars().collect();
    let document_hash = &value(dir, "docstore/metadata", "tree/sub/long.md")["doc_hash"];
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(*id, format!("tree/sub/long.md#{place:04}"));
        let node = value(dir, "docstore/data", id.as_str().unwrap());
        assert_eq!(node["__type__"], "1");
        let node = &node["__data__"];
        let at = |field: &str| usize::try_from(node[field].as_u64().unwrap()).unwrap();
        let text: String = chars[at("start_char_idx")..at("end_char_idx")].iter().collect();
        assert_eq!(node["text"], text, "offsets count characters");
        assert!(text.chars().count() <= 1024);
        let related = &node["relationships"];
        assert_eq!(related["1"]["node_id"], "tree/sub/long.md");
        assert_eq!(related["1"]["hash"], *document_hash);
        let previous = place.checked_sub(1).map(|p| ids[p].clone()).unwrap_or_default();
        assert_eq!(related["2"]["node_id"], previous);
        assert_eq!(related["3"]["node_id"], ids.get(place + 1).cloned().unwrap_or_default());
        let modified = node["metadata"]["last_modified_date"].as_str().unwrap();
        assert!(modified.len() == 20 && modified.ends_with('Z'), "{modified}");
    }
    // An empty file is a document without chunks.
    assert_eq!(value(dir, "docstore/data", "tree/empty.txt")["__type__"], "4");
    assert!(!keys(dir, "docstore/ref_doc_info").contains(&"tree/empty.txt".to_owned()));
}

/// The hash is LlamaIndex's of a document without metadata: sha256 of the text's sha256.
#[test]
fn document_hashes_are_those_of_llamaindex() {
    let dir = tree();
    ingest(dir.path(), &["tree"]);
    let hash = value(dir.path(), "docstore/metadata", "tree/a.txt")["doc_hash"].clone();
    let node = siltstone::model::Node::document("any", "First.\n\nSecond paragraph, caf\u{e9}.");
    assert_eq!(hash, node.hash().unwrap().to_string());
}

#[test]
fn a_tree_always_gives_the_same_store() {
    let dir = tree();
    let dir = dir.path();
    let mut dumps = Vec::new();
    for (store, args) in [
        ("one", &["tree", "--jobs", "1", "--batch", "2"][..]),
        ("four", &["tree", "--jobs", "4", "--batch", "2"]),
        ("twice", &["./tree/sub", "tree//", "--batch", "2", "--durability", "sync"]),
    ] {
        let mut all = vec!["ingest", "--store", store];
        all.extend(args);
        ok(dir, &all);
        dumps.push(ok(dir, &["dump", store]));
    }
    assert!(dumps[0].lines().count() > 20);
    assert_eq!(dumps[0], dumps[1], "threads do not matter");
    assert_eq!(dumps[0], dumps[2], "neither do the order and the spelling of the paths");
}

#[test]
fn unchanged_files_are_skipped_and_changed_ones_replaced() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let before = ok(dir, &["dump", "store"]);
    // Written again with the same content: the modification time alone changes nothing.
    let file = fs::File::options().write(true).open(dir.join("tree/a.txt")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let report = ingest(dir, &["tree"]);
    assert_eq!(counts(&report), [0, 0, 5, 0]);
    assert_eq!((&report["chunks"], &report["log_bytes"]), (&json!(0), &json!(0)));
    assert_eq!(ok(dir, &["dump", "store"]), before);

    fs::write(dir.join("tree/sub/long.md"), "Short now.").unwrap();
    fs::write(dir.join("tree/new.txt"), "New.").unwrap();
    fs::remove_file(dir.join("tree/a.txt")).unwrap();
    assert_eq!(counts(&ingest(dir, &["tree"])), [1, 1, 3, 0]);
    let ids = keys(dir, "docstore/data");
    let of_long: Vec<_> = ids.iter().filter(|id| id.contains("long.md")).collect();
    assert_eq!(of_long, ["tree/sub/long.md", "tree/sub/long.md#0000"], "old chunks are gone");
    assert!(ids.contains(&"tree/a.txt".to_owned()), "upserts deletes nothing");
    assert_eq!(
        value(dir, "docstore/ref_doc_info", "tree/sub/long.md")["metadata"]["file_size"],
        10,
        "the ref doc has the metadata of the new file"
    );

    let report = ingest(dir, &["tree", "--force", "--chunk-size", "5", "--chunk-overlap", "0"]);
    assert_eq!(counts(&report), [0, 5, 0, 0]);
    assert!(keys(dir, "docstore/data").contains(&"tree/sub/long.md#0001".to_owned()));
    ok(dir, &["check", "store"]);
}

#[test]
fn upserts_and_delete_deletes_what_is_not_in_the_input() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    fs::remove_file(dir.join("tree/a.txt")).unwrap();
    fs::remove_file(dir.join("tree/empty.txt")).unwrap();
    let report = ingest(dir, &["tree", "--strategy", "upserts-and-delete"]);
    assert_eq!(counts(&report), [0, 0, 3, 2]);
    // The same as if they had never been there.
    ok(dir, &["ingest", "--store", "other", "tree"]);
    for collection in ["docstore/data", "docstore/metadata", "docstore/ref_doc_info"] {
        let fresh = ok(dir, &["list", "other", collection]);
        let mut fresh: Vec<&str> = fresh.lines().collect();
        fresh.sort_unstable();
        assert_eq!(keys(dir, collection), fresh);
    }
    let report = ingest(dir, &["tree", "--strategy", "upserts-and-delete"]);
    assert_eq!(counts(&report), [0, 0, 3, 0]);
}

#[test]
fn nothing_is_deleted_if_a_part_of_the_input_is_unreadable() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    fs::remove_file(dir.join("tree/a.txt")).unwrap();
    fs::write(dir.join("tree/bad.jsonl"), "{\"text\": 1}\n").unwrap();
    let args = ["ingest", "--store", "store", "tree", "--strategy", "upserts-and-delete"];
    let output = siltstone(dir, &args);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nothing is deleted"), "{}", stderr(&output));
    assert!(keys(dir, "docstore/data").contains(&"tree/a.txt".to_owned()));
}

#[test]
fn duplicates_only_leaves_equal_documents_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, text) in [("a.txt", "one"), ("b.txt", "two"), ("c.txt", "one")] {
        fs::write(dir.join(name), text).unwrap();
    }
    let only = &["--strategy", "duplicates-only", "--batch", "1", "."];
    let report = ingest(dir, only);
    assert_eq!((counts(&report), &report["documents"]["duplicate"]), ([2, 0, 0, 0], &json!(1)));
    assert_eq!(keys(dir, "docstore/ref_doc_info"), ["a.txt", "b.txt"]);
    fs::write(dir.join("a.txt"), "three").unwrap();
    let report = ingest(dir, only);
    // The original of c.txt is gone, so it is new.
    assert_eq!((counts(&report), &report["documents"]["duplicate"]), ([1, 1, 1, 0], &json!(0)));
}

#[test]
fn records_come_with_ids_metadata_and_embeddings() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let metadata = r#"{"big": 18446744073709551616, "nan": NaN, "s": "\ud800"}"#;
    let lines = [
        &format!(r#"{{"id": "r1", "text": "Some text.", "metadata": {metadata}}}"#),
        "",
        r#"{"text": "No id.", "embedding": [0.5, 1]}"#,
    ]
    .join("\n");
    fs::write(dir.join("r.jsonl"), &lines).unwrap();
    assert_eq!(counts(&ingest(dir, &["r.jsonl"])), [2, 0, 0, 0]);
    assert_eq!(keys(dir, "docstore/data"), ["r.jsonl:3", "r.jsonl:3#0000", "r1", "r1#0000"]);
    let printed = ok(dir, &["get", "store", "docstore/data", "r1#0000"]);
    assert!(printed.contains(&format!("\"metadata\": {metadata}")), "{printed}");
    let node = &value(dir, "docstore/data", "r.jsonl:3#0000")["__data__"];
    assert_eq!(node["embedding"], json!([0.5, 1.0]));
    assert_eq!((&node["start_char_idx"], &node["end_char_idx"]), (&json!(0), &json!(6)));
    // Metadata is part of a record's hash.
    fs::write(dir.join("r.jsonl"), lines.replace("NaN", "Infinity")).unwrap();
    assert_eq!(counts(&ingest(dir, &["r.jsonl"])), [0, 1, 1, 0]);
}

/// The same id many times, in batches that are judged at the same time: the last one stays.
#[test]
fn of_records_with_one_id_the_last_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let record = |n: u32| format!("{{\"id\": \"same\", \"text\": \"version {n}\"}}\n");
    let lines: String = (0..300).map(|n| record(n % 100)).collect();
    fs::write(dir.path().join("r.jsonl"), lines).unwrap();
    for batch in ["1", "7", "1000"] {
        let args = ["r.jsonl", "--jobs", "4", "--batch", batch, "--strategy", "upserts-and-delete"];
        ingest(dir.path(), &args);
        let node = value(dir.path(), "docstore/data", "same#0000");
        assert_eq!(node["__data__"]["text"], "version 99");
    }
}

#[test]
fn bad_records_are_named_and_the_others_stored() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let deep = format!(
        "{{\"text\": \"\", \"metadata\": {{\"d\": {}{}}}}}",
        "[".repeat(490),
        "]".repeat(490)
    );
    let long = format!("{{\"text\": \"\", \"id\": \"{}\"}}", "x".repeat(70_000));
    let lines = ["{\"text\": \"good\"}", "{\"text\": }", &deep, &long, "{\"text\": \"good too\"}"];
    fs::write(dir.join("r.jsonl"), lines.join("\n")).unwrap();
    let output = siltstone(dir, &["ingest", "r.jsonl", "--store", "store", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(counts(&report), [2, 0, 0, 0]);
    assert_eq!(report["skipped"], json!({"bad_record": 3}));
    let errors = stderr(&output);
    for line in [2, 3, 4] {
        assert!(errors.contains(&format!("r.jsonl line {line}: ")), "{errors}");
    }
    assert!(errors.contains("3 records could not be read"), "{errors}");
    assert_eq!(errors.lines().count(), 4);
}

#[test]
fn standard_input_is_a_text_or_records() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let output = siltstone_with_input(dir, &["ingest", "-", "--store", "store"], b"Piped text.\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(value(dir, "docstore/data", "-#0000")["__data__"]["text"], "Piped text.");
    let args = ["ingest", "-", "--store", "store", "--stdin-format", "jsonl"];
    let output =
        siltstone_with_input(dir, &args, b"{\"text\": \"a\"}\n{\"id\": \"b\", \"text\": \"b\"}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(keys(dir, "docstore/ref_doc_info"), ["-", "-:1", "b"]);
    let output = siltstone_with_input(dir, &["ingest", "-", "--store", "store"], b"\xff");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("standard input: not UTF-8"), "{}", stderr(&output));
}

#[test]
fn the_store_within_the_tree_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt"), "a").unwrap();
    assert_eq!(counts(&ingest(dir.path(), &["."])), [1, 0, 0, 0]);
    fs::write(dir.path().join("store/stray.txt"), "a").unwrap();
    let report = ingest(dir.path(), &[".", "--no-ignore"]);
    assert_eq!(counts(&report), [0, 0, 1, 0]);
    assert_eq!(report["skipped"], json!({}));
}
