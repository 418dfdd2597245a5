//! The program, run as a process: every verb, its exit codes, its output for machines, wrong use.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use siltstone::kv::{self, KvStore, LogKv};
use tempfile::TempDir;

/// Runs the program in `dir`.
fn siltstone(dir: &Path, args: &[&str]) -> Output {
    siltstone_with_input(dir, args, b"")
}

fn siltstone_with_input(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(dir, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not want the input may end before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siltstone"));
    command.current_dir(dir).args(args);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs the program, which must end well; its output.
fn ok(dir: &Path, args: &[&str]) -> String {
    let output = siltstone(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    assert_eq!(stderr(&output), "", "{args:?}");
    stdout(&output)
}

/// Runs the program, which must end with `code` and say so in one line; that line.
fn complains(dir: &Path, args: &[&str], code: i32) -> String {
    let output = siltstone(dir, args);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
    assert!(line.starts_with("siltstone: ") && line.ends_with('\n'), "{args:?}: {line:?}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line:?}");
    line
}

/// Ingests into `store` and returns the report.
fn ingest(dir: &Path, args: &[&str]) -> Value {
    let mut all = vec!["ingest", "--store", "store", "--json"];
    all.extend(args);
    let report: Value = serde_json::from_str(&ok(dir, &all)).unwrap();
    assert_eq!(report["complete"], true);
    report
}

/// New, changed, unchanged, deleted.
fn counts(report: &Value) -> [u64; 4] {
    ["new", "changed", "unchanged", "deleted"].map(|k| report["documents"][k].as_u64().unwrap())
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The value of a key, as the store holds it.
fn value(dir: &Path, collection: &str, key: &str) -> Value {
    serde_json::from_str(&ok(dir, &["get", "store", collection, key])).unwrap()
}

fn keys(dir: &Path, collection: &str) -> Vec<String> {
    let mut keys: Vec<String> =
        ok(dir, &["list", "store", collection]).lines().map(str::to_owned).collect();
    keys.sort();
    keys
}

/// A tree of a few files; one is long, some are no text.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("tree").join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    fs::write(at("a.txt"), "First.\n\nSecond paragraph, caf\u{e9}.").unwrap();
    let lines = (0..200).map(|n| format!("Line {n} says na\u{ef}ve things.\n"));
    fs::write(at("sub/long.md"), lines.collect::<String>()).unwrap();
    fs::write(at("sub/deep/code.rs"), "fn main() {}\n").unwrap();
    fs::write(at("empty.txt"), "").unwrap();
    fs::write(at("latin1.txt"), b"caf\xe9").unwrap();
    fs::write(at("nul.txt"), b"a\0b").unwrap();
    fs::write(at("picture.png"), b"\x89PNG").unwrap();
    fs::write(at("a.txt#0000.txt"), "fine: it does not end in digits").unwrap();
    fs::write(at(".hidden.txt"), "not read").unwrap();
    fs::write(at("ignored.txt"), "not read").unwrap();
    fs::write(at(".gitignore"), "ignored.txt\n").unwrap();
    dir
}

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

#[test]
fn get_and_list_answer_and_say_no() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let line = ok(dir, &["get", "store", "docstore/metadata", "tree/a.txt", "--json"]);
    let found: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&found["found"], &found["key"]), (&json!(true), &json!("tree/a.txt")));
    assert!(found["value"]["doc_hash"].is_string());

    let error = complains(dir, &["get", "store", "docstore/data", "nothing"], 1);
    assert!(error.contains("no key \"nothing\" in collection \"docstore/data\""), "{error}");
    let absent = siltstone(dir, &["get", "store", "nowhere", "k", "--json"]);
    assert_eq!(absent.status.code(), Some(1));
    let absent: Value = serde_json::from_str(&stdout(&absent)).unwrap();
    assert_eq!(absent, json!({"found": false, "collection": "nowhere", "key": "k"}));

    let collections = json_lines(&ok(dir, &["list", "store", "--json"]));
    let data = collections.iter().find(|line| line["collection"] == "docstore/data").unwrap();
    let listed = json_lines(&ok(dir, &["list", "store", "docstore/data", "--json"]));
    assert_eq!(data["keys"], listed.len());
    assert!(listed.contains(&json!({"key": "tree/a.txt"})));
    assert!(ok(dir, &["list", "store"]).contains("  docstore/data\n"));
    for verb in ["list", "dump"] {
        let error = complains(dir, &[verb, "store", "nowhere"], 1);
        assert!(error.contains("\"docstore/data\""), "names what is there: {error}");
    }
}

#[test]
fn dump_prints_a_line_per_key() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let all = json_lines(&ok(dir, &["dump", "store"]));
    let one = json_lines(&ok(dir, &["dump", "store", "docstore/data"]));
    let keys: u64 = json_lines(&ok(dir, &["list", "store", "--json"]))
        .iter()
        .map(|line| line["keys"].as_u64().unwrap())
        .sum();
    assert_eq!(all.len() as u64, keys);
    assert!(one.iter().all(|line| line["collection"] == "docstore/data"));
    let line = one.iter().find(|line| line["key"] == "tree/a.txt").unwrap();
    assert_eq!(line["value"], value(dir, "docstore/data", "tree/a.txt"));
}

/// Bytes that no key-value store wrote are shown with escapes, and can be asked for with them.
#[test]
fn raw_keys_and_values_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let db = siltstone::Db::open(dir.join("store")).unwrap();
    db.put("raw", b"\xff\n", b"\xfe text").unwrap();
    db.close().unwrap();
    assert_eq!(ok(dir, &["get", "store", "raw", r"\xff\n", "--escaped"]), "\\xfe text\n");
    assert_eq!(ok(dir, &["list", "store", "raw"]), "\\xff\\n\n");
    let line: Value = serde_json::from_str(&ok(dir, &["dump", "store"])).unwrap();
    let expected =
        json!({"collection": "raw", "key_bytes": "\\xff\\n", "value_bytes": "\\xfe text"});
    assert_eq!(line, expected);
    complains(dir, &["get", "store", "raw", r"\q", "--escaped"], 2);
}

#[test]
fn stats_draws_the_segments() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let text = ok(dir, &["stats", "store"]);
    for word in ["keys ", "log ", "index ", "watermark ", "open ", "[####", "% live"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let stats: Value = serde_json::from_str(&ok(dir, &["stats", "store", "--json"])).unwrap();
    let lines = ok(dir, &["dump", "store"]).lines().count();
    assert_eq!(stats["keys"], lines);
    assert_eq!(stats["watermark"], stats["next_seqno"], "all of it was persisted");
    assert_eq!(stats["open"]["clean"], true);
    let segment = &stats["segments"][0];
    let bytes = |field: &str| segment[field].as_u64().unwrap();
    assert_eq!(bytes("log_bytes"), bytes("live_bytes") + bytes("dead_bytes"));
}

#[test]
fn check_names_the_file_and_the_place_of_damage() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    assert!(ok(dir, &["check", "store"]).starts_with("ok: verified "));
    let report: Value = serde_json::from_str(&ok(dir, &["check", "store", "--json"])).unwrap();
    assert_eq!((&report["ok"], &report["defects"]), (&json!(true), &json!([])));

    let segment = fs::read_dir(dir.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[3000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = siltstone(dir, &["check", "store"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let text = stdout(&output);
    assert!(text.contains("damage: store/") && text.contains(" at byte "), "{text}");
    let output = siltstone(dir, &["check", "store", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report["defects"][0]["file"].as_str().unwrap().ends_with(".seg"), "{report}");
    assert!(report["defects"][0]["offset"].is_u64(), "{report}");
}

/// Goal: what compression gave is shown of a store that was just opened. Method: a store made with
/// the library, compacted so that a dictionary is trained, and reopened by the program.
#[cfg(feature = "compression")]
#[test]
fn stats_shows_compression_and_snapshots_after_a_reopen() {
    use siltstone::{CollectionOptions, Compression, Db, Options};
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let db = Options::new().segment_len(1 << 16).open(dir.join("store")).unwrap();
    let options = CollectionOptions::new().compression(Compression::Dictionary);
    db.configure("chunks", options).unwrap();
    let text = |key: u32, round: u32| {
        format!("chunk {key} of round {round}: silt settles in still water. {}", key * 7919)
    };
    let mut raw = 0;
    for round in 0..3 {
        for key in 0..3000u32 {
            raw += if round == 2 { text(key, round).len() } else { 0 };
            db.put("chunks", &key.to_le_bytes(), text(key, round).as_bytes()).unwrap();
        }
        if round == 1 {
            db.persist().unwrap();
        }
    }
    db.compact_now().unwrap();
    let pinned = db.stats().oldest_snapshot_pinned;
    assert!(pinned > 0 && pinned == db.stats().pinned_bytes(), "{pinned}");
    db.close().unwrap();

    let shown: Value =
        serde_json::from_str(&ok(dir, &["stats", "store", "--exact", "--json"])).unwrap();
    let values = &shown["stored_values"][0];
    assert_eq!((&values["collection"], &values["values"]), (&json!("chunks"), &json!(3000)));
    assert_eq!(values["raw_bytes"], raw);
    let ratio = values["stored_bytes"].as_f64().unwrap() / raw as f64;
    assert!(ratio < 0.9 && (values["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{values}");
    assert!(values["compressed"].as_u64().unwrap() > 1000, "{values}");
    assert_eq!(values["dictionaries"], 1);
    assert_eq!(shown["oldest_snapshot_pinned"], pinned);
    assert_eq!(shown["oldest_snapshot_needs"], pinned);
    assert_eq!(shown["poisoned"], Value::Null);
    assert_eq!(shown["since_open"]["is_compacting"], false);
    assert_eq!(shown["since_open"]["compaction"]["runs"], 0);
    assert_eq!(shown["since_open"]["appended_bytes"], 0);
    assert_eq!(shown["since_open"]["compression"][0]["dictionaries"], 1);

    let text = ok(dir, &["stats", "store"]);
    assert!(text.contains("compressed chunks: 1 dictionary; --exact measures it\n"), "{text}");
    assert!(text.contains("\nsnapshots  1, the oldest 3,00"), "{text}");
    let text = ok(dir, &["stats", "store", "--exact"]);
    assert!(text.contains(" of 3,000 values, ") && text.contains(", ratio 0."), "{text}");
    assert!(Db::open(dir.join("store")).unwrap().check().unwrap().is_ok());
}

/// Goal: what several snapshots keep together is seen, although none of them keeps it alone.
#[test]
fn stats_shows_what_snapshots_keep_together() {
    use siltstone::{Db, PersistOptions};
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let db = Db::open(dir.join("store")).unwrap();
    let put_all = |value: &[u8]| {
        (0..300u32).for_each(|key| db.put("c", &key.to_le_bytes(), value).unwrap());
    };
    put_all(&[1; 1000]);
    db.persist_with(PersistOptions::named("one")).unwrap();
    db.persist_with(PersistOptions::named("two")).unwrap();
    put_all(&[2; 1000]);
    db.close().unwrap();
    let shown: Value = serde_json::from_str(&ok(dir, &["stats", "store", "--json"])).unwrap();
    assert!(shown["oldest_snapshot_needs"].as_u64() > Some(300_000), "{shown}");
    assert!(shown["oldest_snapshot_pinned"].as_u64() < Some(100), "{shown}");
    let text = ok(dir, &["stats", "store"]);
    assert!(text.contains(" back, which keeps 30") && text.contains(" B of it alone\n"), "{text}");
}

/// All records of a store, as `inspect` shows them: in words and as JSON.
fn inspected(dir: &Path) -> (String, Vec<Value>) {
    let seen: Value = serde_json::from_str(&ok(dir, &["inspect", "store", "--json"])).unwrap();
    let (mut text, mut items) = (String::new(), Vec::new());
    for segment in seen["segments"].as_array().unwrap() {
        let id = segment["id"].to_string();
        text += &ok(dir, &["inspect", "store", &id]);
        items.extend(json_lines(&ok(dir, &["inspect", "store", &id, "--json"])));
    }
    (text, items)
}

/// Goal: `inspect` shows values as they were written, however they are stored, and says how.
/// Method: one collection for each way, compacted; then the dictionary is damaged.
#[test]
fn inspect_shows_compressed_values() {
    use siltstone::{CollectionOptions, Compression, Options};
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let options = Options::new().segment_len(64 << 10).dictionary_records(500);
    let db = options.open(dir.join("store")).unwrap();
    let text = |name: &str, key: &str, round: u32| {
        format!("chunk {key} of {name}, silt settles in still water, {round}").repeat(3)
    };
    for (name, how) in [("quick", Compression::Lz4), ("small", Compression::Dictionary)] {
        db.configure(name, CollectionOptions::new().compression(how)).unwrap();
        for round in 0..2 {
            for key in 0..2000u32 {
                let text = format!("chunk {key} of {name}, silt settles in still water, {round}");
                db.put(name, format!("{name}-{key}").as_bytes(), text.repeat(3).as_bytes())
                    .unwrap();
            }
        }
    }
    db.compact_now().unwrap();
    db.close().unwrap();
    let (shown, items) = inspected(dir);
    for (name, how) in [("quick", "lz4"), ("small", "zstd, dict 1")] {
        let is_meant = |item: &&Value| item["collection"] == name && item["compression"] == how;
        let found: Vec<&Value> = items.iter().filter(is_meant).collect();
        assert!(found.len() > 500, "{} records by {how}", found.len());
        for item in found {
            let key = item["key"].as_str().unwrap().strip_prefix(&format!("{name}-")).unwrap();
            let is_right =
                (0..2).any(|round| item["value_bytes"] == text(name, key, round).as_str());
            assert!(is_right, "{item}");
            assert!(item["stored_len"].as_u64() < item["compressed_from"].as_u64(), "{item}");
        }
        assert!(shown.contains(&format!(" B by {how} = \"chunk ")), "{shown}");
    }
    let is_dictionary = |item: &&Value| item["system"] == "dictionary 1 of collection \"small\"";
    // Somewhere in the dictionary, in whichever segment has it.
    let at = items.iter().find(is_dictionary).unwrap()["offset"].as_u64().unwrap() + 500;
    let at = usize::try_from(at).unwrap();
    let files = fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let is_undecodable = |item: &Value| item["undecodable"] == "there is no whole dictionary 1";
    let mut segments = files.filter(|path| path.extension().is_some_and(|e| e == "seg"));
    let is_told = segments.any(|path| {
        let bytes = fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        let Some(byte) = damaged.get_mut(at) else { return false };
        *byte ^= 1;
        fs::write(&path, &damaged).unwrap();
        let is_told = inspected(dir).1.iter().any(is_undecodable);
        fs::write(&path, &bytes).unwrap();
        is_told
    });
    assert!(is_told, "no segment has the dictionary at {at}");
}

/// Goal: what becomes of the engine's own records is told in words. Method: the record of a durable
/// snapshot is damaged.
#[test]
fn damaged_records_of_the_engine_are_named() {
    use siltstone::{Db, PersistOptions};
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let db = Db::open(dir.join("store")).unwrap();
    db.put("c", b"key", b"value").unwrap();
    let info = db.persist_with(PersistOptions::named("before the flood")).unwrap();
    db.put("c", b"key", b"later").unwrap();
    db.persist().unwrap();
    db.close().unwrap();
    let (text, items) = inspected(dir);
    let wanted = format!("(engine) durable snapshot {} \"before the flood\"", info.id);
    assert!(text.contains(&wanted), "{text}");
    assert!(text.contains("(engine) the number of the next durable snapshot"), "{text}");
    assert!(items.iter().any(|item| item["system"] == "durable snapshot 2"));
    let path = dir.join("store/0000000000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(16).position(|w| w == b"before the flood").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let shown = siltstone(dir, &["check", "store"]);
    assert!(stdout(&shown).contains(", durable snapshot 1\n"), "{}", stdout(&shown));
    let shown = siltstone(dir, &["repair", "store", "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(report["lost"][0]["system"], "durable snapshot 1", "{report}");
    assert_eq!(report["lost"][0]["collection"], "(engine)");
    let shown = stdout(&siltstone(dir, &["repair", "store"]));
    assert!(shown.contains(", a put of durable snapshot 1, "), "{shown}");
    assert!(!shown.contains("(engine)") && !shown.contains("#42949"), "{shown}");
    let left = json_lines(&ok(dir, &["snapshots", "list", "store", "--json"]));
    assert_eq!(left.len(), 1, "{left:?}");
}

/// The program is told the time; the store is not.
#[test]
fn what_has_expired_is_not_shown_when_the_time_is_told() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let db = siltstone::Db::open(dir.join("store")).unwrap();
    let mut batch = siltstone::WriteBatch::new();
    batch.put_expiring("c", b"early", b"1", 100).unwrap();
    batch.put_expiring("c", b"late", b"2", 200).unwrap();
    db.write(&mut batch, siltstone::Durability::Sync).unwrap();
    db.close().unwrap();
    for (time, keys) in [("99", 2), ("100", 1), ("200", 0)] {
        let [list, dump] = ["list", "dump"].map(|verb| {
            let shown = ok(dir, &[verb, "store", "c", "--time", time]);
            shown.lines().count()
        });
        assert_eq!((list, dump), (keys, keys), "{time}");
        let got = siltstone(dir, &["get", "store", "c", "early", "--time", time]);
        assert_eq!(got.status.code(), Some(i32::from(keys < 2)), "{time}");
    }
    assert_eq!(ok(dir, &["list", "store", "c"]).lines().count(), 2);
    complains(dir, &["get", "store", "c", "early", "--time", "now"], 2);
}

/// A checkpoint that the open passes over is damage; one that is merely out of date is not.
#[test]
fn check_names_a_damaged_checkpoint_and_only_notes_a_stale_one() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree/a.txt"]);
    let path = dir.join("store/CHECKPOINT");
    let old = fs::read(&path).unwrap();
    let mut bytes = old.clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = siltstone(dir, &["check", "store"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let text = stdout(&output);
    assert!(text.contains("store/CHECKPOINT is corrupt at byte "), "{text}");
    assert!(text.contains("1 place damaged: verified "), "{text}");

    // An open for writing removes it, and the store is whole again.
    ingest(dir, &["tree"]);
    ok(dir, &["check", "store"]);
    let other = tree();
    ingest(other.path(), &["tree/a.txt"]);
    fs::copy(other.path().join("store/CHECKPOINT"), &path).unwrap();
    let text = ok(dir, &["check", "store"]);
    assert!(text.contains("note: ") && text.contains("stale checkpoint"), "{text}");
}

#[test]
fn wrong_use_ends_with_one_line_and_code_2() {
    let dir = tree();
    let dir = dir.path();
    for verb in ["list", "dump", "stats", "check"] {
        let error = complains(dir, &[verb, "nowhere"], 2);
        assert!(error.contains("there is no store in ") && error.contains("nowhere"), "{error}");
    }
    assert!(!dir.join("nowhere").exists(), "reading creates nothing");
    for (args, word) in [
        (&["ingest", "tree"][..], "--store"),
        (&["ingest", "--store", "s"], "<PATH>"),
        (&["ingest", "tree", "--store", "s", "--strategy", "x"], "upserts"),
        (&["ingest", "tree", "--store", "s", "--chunk-size", "0"], "--chunk-size"),
        (&["ingest", "tree", "--store", "s", "--chunk-overlap", "1024"], "--chunk-overlap"),
        (&["ingest", "tree", "--store", "s", "--batch", "0"], "--batch"),
        (&["ingest", "tree", "--store", "s", "--jobs", "0"], "--jobs"),
        (&["ingest", "missing.txt", "--store", "s"], "missing.txt"),
        (&["get", "s"], "<COLLECTION>"),
        (&["melt", "s"], "melt"),
        (&["stats", "s", "--what"], "--what"),
    ] {
        let error = complains(dir, args, 2);
        assert!(error.contains(word), "{args:?}: {error}");
    }
    assert!(!dir.join("s").exists(), "wrong use creates nothing");
    complains(dir, &["ingest", "tree", "--store", "tree/a.txt"], 2);
    assert!(ok(dir, &["--help"]).contains("ingest"));
    assert!(ok(dir, &["--version"]).starts_with("siltstone "));
}

/// `siltstone dump DIR | head -1` ends quietly.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = tree();
    ingest(dir.path(), &["tree", "--chunk-size", "20", "--chunk-overlap", "0"]);
    let mut child = command(dir.path(), &["dump", "store"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

/// While records come in, the store can be read; Ctrl-C then ends the writer although its input
/// is silent, and everything it acknowledged is there.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_acknowledged_and_readers_may_look_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let args =
        ["ingest", "-", "--stdin-format", "jsonl", "--store", "store", "--batch", "1", "--json"];
    let mut child = command(dir, &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for n in 0..20 {
        writeln!(input, "{{\"id\": \"r{n}\", \"text\": \"record {n}\"}}").unwrap();
    }
    let there = || {
        let output = siltstone(dir, &["list", "store", "docstore/ref_doc_info"]);
        stdout(&output).lines().count()
    };
    while there() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let error = complains(dir, &["ingest", "-", "--store", "store"], 2);
    assert!(error.contains("open for writing in process"), "{error}");

    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["interrupted"], &report["complete"]), (&json!(true), &json!(false)));
    assert_eq!(counts(&report), [20, 0, 0, 0]);
    assert_eq!(there(), 20);
    ok(dir, &["check", "store"]);
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_named_and_their_documents_stay() {
    use std::os::unix::fs::symlink;
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree", "tree/a.txt"]);
    // A file that is not there any more when it is read: named on the command line through a link
    // that leads nowhere, which no user may read, root included.
    fs::remove_file(dir.join("tree/a.txt")).unwrap();
    symlink("nowhere", dir.join("tree/a.txt")).unwrap();
    let error = complains(dir, &["ingest", "tree/a.txt", "--store", "store"], 2);
    assert!(error.contains("tree/a.txt"), "{error}");
    let report = ingest(dir, &["tree"]);
    assert_eq!(report["skipped"]["not_a_file"], 1);
    assert!(keys(dir, "docstore/data").contains(&"tree/a.txt".to_owned()));
}

#[test]
fn snapshots_are_listed_compared_and_rolled_back_to() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let good = ok(dir, &["dump", "store"]);
    fs::write(dir.join("tree/a.txt"), "Spoilt.").unwrap();
    fs::write(dir.join("tree/bad.txt"), "Not wanted.").unwrap();
    ingest(dir, &["tree"]);
    ok(dir, &["snapshots", "create", "store", "--name", "spoilt"]);
    let list = json_lines(&ok(dir, &["snapshots", "list", "store", "--json"]));
    assert_eq!(list.iter().map(|s| s["id"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((&list[0]["name"], &list[2]["name"]), (&Value::Null, &json!("spoilt")));
    assert!(list[0]["time"].as_u64().unwrap() > 1_600_000_000);
    let table = ok(dir, &["snapshots", "list", "store"]);
    assert!(table.lines().count() == 3 && table.contains("  spoilt\n"), "{table}");

    let diff = ok(dir, &["snapshots", "diff", "store", "1", "--keys"]);
    assert!(
        diff.contains("\n  + tree/bad.txt#0000\n") && diff.contains("\n  ~ tree/a.txt\n"),
        "{diff}"
    );
    let args = ["snapshots", "diff", "store", "spoilt", "1", "--keys", "--json"];
    let back: Value = serde_json::from_str(&ok(dir, &args)).unwrap();
    let changes = |of: &str| -> u64 {
        back["collections"].as_array().unwrap().iter().map(|c| c[of].as_u64().unwrap()).sum()
    };
    assert!(changes("deleted") > 0 && changes("changed") > 0 && changes("added") == 0, "{back}");
    let keys = &back["collections"][0]["keys"];
    assert!(keys.as_array().is_some_and(|keys| !keys.is_empty()), "{back}");

    let report = ok(dir, &["snapshots", "rollback", "store", "1"]);
    assert!(report.contains("to undo: siltstone snapshots rollback store 4"), "{report}");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ok(dir, &["dump", "store"])), sorted(&good));
    assert_eq!(ok(dir, &["snapshots", "diff", "store", "1"]), "no difference\n");
    ok(dir, &["snapshots", "rollback", "store", "before rollback to 1", "--json"]);
    assert_eq!(ok(dir, &["snapshots", "diff", "store", "spoilt"]), "no difference\n");

    ok(dir, &["snapshots", "drop", "store", "spoilt"]);
    let line = complains(dir, &["snapshots", "drop", "store", "spoilt"], 1);
    assert!(line.contains("there is no snapshot \"spoilt\"; there are: 1, 2, 4, 5"), "{line}");
    complains(dir, &["snapshots", "rollback", "store", "9"], 1);
    complains(dir, &["snapshots", "diff", "store", "1", "9"], 1);
    complains(dir, &["snapshots", "list", "nowhere"], 2);
    ok(dir, &["snapshots", "create", "store", "--name", "twice"]);
    ok(dir, &["snapshots", "create", "store", "--name", "twice"]);
    let line = complains(dir, &["snapshots", "drop", "store", "twice"], 2);
    assert!(line.contains("give the number"), "{line}");
}

/// Goal: `tail` prints every batch, can be taken up at each of its positions, follows a store that
/// is written to, and refuses a position that is not there.
#[test]
fn tail_prints_batches_and_goes_on_anywhere() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::write(dir.join("one.txt"), "the first text").unwrap();
    ingest(dir, &["one.txt"]);
    let all = json_lines(&ok(dir, &["tail", "store", "--json"]));
    let commits: Vec<&Value> = all.iter().filter(|line| line["op"] == "commit").collect();
    assert!(!commits.is_empty() && all.last() == commits.last().copied());
    let puts = all.iter().filter(|line| line["op"] == "put");
    assert!(puts.clone().any(|put| put["collection"] == "docstore/data"));
    assert!(puts.clone().all(|put| put["key"].is_string() || put["key_bytes"].is_string()));
    let end = commits.last().unwrap()["position"].as_str().unwrap();
    let shown = ok(dir, &["tail", "store"]);
    assert!(shown.contains(&format!("position {end}\n")), "{shown}");
    assert_eq!(shown.lines().filter(|l| l.starts_with("batch ")).count(), commits.len());
    assert_eq!(ok(dir, &["tail", "store", "--durable"]), shown);
    assert_eq!(ok(dir, &["tail", "store", "--since", end]), "");
    let next = commits.last().unwrap()["next"].as_u64().unwrap();
    let line = complains(dir, &["tail", "store", "--since", &(next + 1000).to_string()], 2);
    assert!(line.contains("start anew from a snapshot"), "{line}");
    let other = format!("{next}-1-00000000");
    let line = complains(dir, &["tail", "store", "--since", &other], 2);
    assert!(line.contains("is not the one that was seen"), "{line}");
    complains(dir, &["tail", "store", "--since", "x"], 2);

    let mut follower = command(dir, &["tail", "store", "--follow", "--json", "--since", end])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(dir.join("two.txt"), "the second text").unwrap();
    ingest(dir, &["two.txt"]);
    let mut seen = String::new();
    let mut out = std::io::BufReader::new(follower.stdout.take().unwrap());
    while !seen.contains("the second text") {
        assert!(std::io::BufRead::read_line(&mut out, &mut seen).unwrap() > 0, "{seen}");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// Goal: damage is named by `check`, shown by `inspect`, repaired by `repair`, and what it cost is
/// said each time. Method: one bit of a stored text, then the manifest gone.
#[test]
fn damage_is_checked_inspected_and_repaired() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for (name, text) in [("one.txt", "the first text"), ("two.txt", "the second text")] {
        fs::write(dir.join(name), text).unwrap();
    }
    ingest(dir, &["one.txt", "two.txt", "--batch", "1"]);
    let whole = ok(dir, &["dump", "store"]);
    assert!(ok(dir, &["repair", "store"]).ends_with("ok: nothing to repair\n"));
    assert!(!dir.join("store/quarantine").exists());
    let seen: Value = serde_json::from_str(&ok(dir, &["inspect", "store", "--json"])).unwrap();
    let id = seen["segments"][0]["id"].to_string();
    let file = seen["segments"][0]["file"].as_str().unwrap().to_owned();
    let items = json_lines(&ok(dir, &["inspect", "store", &id, "--json"]));
    let hit = items
        .iter()
        .find(|item| item["kind"] == "put" && item.to_string().contains("the first text"));
    let (offset, seqno) = (hit.unwrap()["offset"].clone(), hit.unwrap()["seqno"].clone());
    let key = hit.unwrap()["key"].as_str().unwrap().to_owned();
    let place = format!("{id}:{offset}");
    let shown = ok(dir, &["inspect", "store", &place, "--limit", "1"]);
    assert!(shown.contains(&key) && shown.contains("put"), "{shown}");
    assert!(ok(dir, &["inspect", "store"]).contains("docstore/data"));
    complains(dir, &["inspect", "store", "999"], 1);
    complains(dir, &["inspect", "store", "x"], 2);

    let path = dir.join(&file);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(14).position(|w| w == b"the first text").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let checked = siltstone(dir, &["check", "store", "--json", "--rate", "100"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).contains(&file), "{}", stdout(&checked));
    let dry = siltstone(dir, &["repair", "store", "--dry-run", "--json"]);
    assert_eq!(fs::read(&path).unwrap(), bytes, "a dry run changes nothing");
    let shown = ok(dir, &["inspect", "store", &place, "--limit", "1"]);
    assert!(shown.contains("DAMAGE"), "{shown}");
    let repaired = siltstone(dir, &["repair", "store", "--json"]);
    assert_eq!((dry.status.code(), repaired.status.code()), (Some(1), Some(1)));
    let [dry, repaired]: [Value; 2] =
        [dry, repaired].map(|output| serde_json::from_str(&stdout(&output)).unwrap());
    assert_eq!(dry["lost"], repaired["lost"]);
    let lost = &repaired["lost"][0];
    assert_eq!((&lost["seqno"], lost["key"].as_str()), (&seqno, Some(key.as_str())));
    let kept = dir.join(repaired["quarantined"][0].as_str().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes);
    assert!(dir.join(repaired["report_file"].as_str().unwrap()).exists());
    ok(dir, &["check", "store"]);
    let left = ok(dir, &["dump", "store"]);
    assert_eq!(left.lines().count() + 1, whole.lines().count(), "one key is lost");
    let again = ok(dir, &["repair", "store"]);
    assert!(again.contains("an earlier repair has left"), "{again}");

    fs::remove_file(dir.join("store/MANIFEST")).unwrap();
    let line = complains(dir, &["get", "store", "docstore/data", "k"], 2);
    assert!(line.contains("siltstone"), "{line}");
    ok(dir, &["repair", "store"]);
    assert_eq!(ok(dir, &["dump", "store"]), left);
    complains(dir, &["repair", "nowhere"], 2);
}

/// A directory as LlamaIndex persists it: two nodes of one ref doc.
fn llama_dir(dir: &Path) {
    let node = |id: &str| {
        format!(
            r#""{id}": {{"__data__": {{"id_": "{id}", "text": "t", "metadata": {{}},
            "relationships": {{}}, "class_name": "TextNode"}}, "__type__": "1"}}"#
        )
    };
    let text = format!(
        r#"{{"docstore/data": {{{}, {}}}, "docstore/metadata": {{
        "a": {{"doc_hash": "h1", "ref_doc_id": "r"}},
        "b": {{"doc_hash": "h2", "ref_doc_id": "r"}}}},
        "docstore/ref_doc_info": {{"r": {{"node_ids": ["a", "b"], "metadata": {{}}}}}}}}"#,
        node("a"),
        node("b")
    );
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("docstore.json"), text).unwrap();
    fs::write(dir.join("index_store.json"), "{}").unwrap();
    fs::write(dir.join("notes.txt"), "mine").unwrap();
}

#[test]
fn import_and_export_are_each_others_inverse() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    llama_dir(&dir.join("llama"));
    fs::create_dir(dir.join("llama/old")).unwrap();
    let said = ok(dir, &["import", "llama", "--store", "store"]);
    assert!(said.starts_with("imported 5 records of 2 files\n"), "{said}");
    let left =
        "not imported: notes.txt: it is no JSON dictionary\nnot imported: old: it is no file\n";
    assert!(said.ends_with(left), "{said}");
    assert_eq!(value(dir, "docstore/metadata", "a")["doc_hash"], "h1");

    let line = complains(dir, &["import", "llama", "--store", "store"], 2);
    assert!(line.contains("holds the document store \"docstore\" already"), "{line}");
    ok(dir, &["import", "llama", "--store", "store", "--replace"]);

    let report: Value =
        serde_json::from_str(&ok(dir, &["export", "store", "out", "--json"])).unwrap();
    assert_eq!(report["records"], 5);
    let parsed = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(dir.join(path)).unwrap()).unwrap()
    };
    assert_eq!(parsed("out/docstore.json"), parsed("llama/docstore.json"));
    let line = complains(dir, &["export", "store", "out"], 2);
    assert!(line.contains("out is not empty; nothing was written"), "{line}");
    ok(dir, &["export", "store", "out", "--force"]);
    let names = fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().starts_with('.')));

    // Under other names.
    ok(dir, &["export", "store", "named", "--docstore-fname", "d", "--index-store-fname", "i"]);
    assert_eq!(parsed("named/d"), parsed("llama/docstore.json"));
    let said = ok(dir, &["import", "named", "--store", "again", "--index-store-fname", "i"]);
    assert!(said.starts_with("imported 5 records of 5 files\n"), "{said}");

    // One file alone.
    ok(dir, &["import", "out/docstore.json", "--store", "other"]);
    assert_eq!(ok(dir, &["list", "other"]), ok(dir, &["list", "store"]));
}

/// Goal: what an import that was cut off left is shown by no verb, is gone after the next that
/// writes, which says so, and what was there before and comes after stays. Method: the store is put
/// together as such an import leaves it.
#[test]
fn an_import_that_was_cut_off_is_undone() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    llama_dir(&dir.join("llama"));
    fs::write(dir.join("a.txt"), "Sandstone.").unwrap();
    fs::write(dir.join("b.txt"), "Siltstone.").unwrap();
    let cut_off = || {
        let kv = LogKv::open(dir.join("store")).unwrap();
        let before = kv.db().persist_with(siltstone::PersistOptions::named("before-import"));
        let snapshots: kv::Value = vec![kv::Value::from(before.unwrap().id)].into();
        let record: kv::Map = [("snapshots", snapshots)].into_iter().collect();
        kv.put("storage_context/import", b"import", &record.into()).unwrap();
        kv.delete("docstore/data", b"a.txt").unwrap();
        kv.put("docstore/metadata", b"part", &kv::Value::from(1)).unwrap();
        kv.sync().unwrap();
    };
    ingest(dir, &["a.txt"]);
    cut_off();
    let readers: [&[&str]; 8] = [
        &["get", "store", "docstore/data", "a.txt"],
        &["list", "store"],
        &["dump", "store"],
        &["stats", "store"],
        &["chat", "store"],
        &["graph", "store", "a"],
        &["export", "store", "out"],
        &["backup", "store", "copy"],
    ];
    for verb in readers {
        let line = complains(dir, verb, 2);
        assert!(line.contains("a part of an import that was cut off"), "{verb:?}: {line}");
        assert!(line.contains("import again"), "{verb:?}: {line}");
    }
    let output = siltstone(dir, &["ingest", "--store", "store", "b.txt"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with("siltstone: an import into store that was cut off was undone"),
        "{said}"
    );
    for name in ["a.txt", "b.txt"] {
        ok(dir, &["get", "store", "docstore/data", name]);
    }
    let part = siltstone(dir, &["get", "store", "docstore/metadata", "part"]);
    assert_eq!(part.status.code(), Some(1), "{}", stderr(&part));
    // It was no leave to replace what is there.
    cut_off();
    let output = siltstone(dir, &["import", "llama", "--store", "store"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("holds the document store \"docstore\" already"));
    ok(dir, &["get", "store", "docstore/data", "b.txt"]);
    cut_off();
    assert_eq!(siltstone(dir, &["compact", "store"]).status.code(), Some(0));
    ok(dir, &["get", "store", "docstore/data", "a.txt"]);
    ok(dir, &["compact", "store"]);
}

#[test]
fn import_refuses_what_is_not_whole_and_salvages_it_when_asked() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    llama_dir(&dir.join("llama"));
    let path = dir.join("llama/docstore.json");
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 60]).unwrap();
    let line = complains(dir, &["import", "llama", "--store", "store"], 2);
    assert!(line.starts_with("siltstone: llama: docstore.json: "), "{line}");
    assert!(line.contains("(byte ") && line.contains("nothing was imported"), "{line}");
    assert!(!dir.join("store").exists(), "no store was made");

    let output = siltstone(dir, &["import", "llama", "--store", "store", "--salvage", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["records"], &report["complete"]), (&json!(4), &json!(false)));
    assert!(report["files"][0]["problems"][0]["byte"].as_u64().unwrap() > 100);
    let said = stderr(&output);
    assert!(said.starts_with("siltstone: docstore.json: not taken: byte "), "{said}");
    let unread = &report["files"][0]["unread_bytes"];
    let all = text.len() - 60;
    assert!(said.contains(&format!("not taken: the last {unread} of {all} bytes")), "{said}");
    let line = complains(dir, &["import", "nowhere", "--store", "store"], 2);
    assert!(line.starts_with("siltstone: nowhere: cannot read the directory: "), "{line}");
}

/// Goal: no verb takes what LlamaIndex persisted for a store, nor makes an empty one of it; each
/// says how it becomes one. A store beside such files is one all the same.
#[test]
fn a_directory_that_llamaindex_persisted_is_no_store() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    llama_dir(&dir.join("llama"));
    fs::write(dir.join("a.txt"), "text").unwrap();
    let names = || fs::read_dir(dir.join("llama")).unwrap().count();
    let before = names();
    let verbs: &[&[&str]] = &[
        &["ingest", "a.txt", "--store", "llama"],
        &["import", "llama", "--store", "llama"],
        &["export", "llama", "out"],
        &["list", "llama"],
        &["chat", "llama"],
        &["stats", "llama"],
        &["check", "llama"],
        &["compact", "llama"],
        &["snapshots", "list", "llama"],
    ];
    for verb in verbs {
        let line = complains(dir, verb, 2);
        assert!(line.contains("docstore.json"), "{verb:?}: {line}");
        assert!(line.contains("`siltstone import llama --store NEW`"), "{verb:?}: {line}");
        assert_eq!(names(), before, "{verb:?} made something");
    }
    ok(dir, &["import", "llama", "--store", "store"]);
    fs::copy(dir.join("llama/docstore.json"), dir.join("store/docstore.json")).unwrap();
    ok(dir, &["list", "store"]);
}
