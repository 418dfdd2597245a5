//! `siltstone import` and `siltstone export`: there and back, and what is not taken.

use std::fs;

use serde_json::{Value, json};
use siltstone::kv::{self, KvStore, LogKv};
use tempfile::TempDir;

use crate::program::{complains, ingest, ok, ok_json, siltstone, stderr, value};

/// A directory with another one in it, `llama`, as LlamaIndex persists it: two nodes of one ref
/// doc.
fn with_llama() -> TempDir {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("llama");
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
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("docstore.json"), text).unwrap();
    fs::write(dir.join("index_store.json"), "{}").unwrap();
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    temp
}

#[test]
fn import_and_export_are_each_others_inverse() {
    let dir = with_llama();
    let dir = dir.path();
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

    let report = ok_json(dir, &["export", "store", "out", "--json"]);
    assert_eq!((&report["records"], &report["complete"]), (&json!(5), &json!(true)));
    let parsed = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(dir.join(path)).unwrap()).unwrap()
    };
    assert_eq!(parsed("out/docstore.json"), parsed("llama/docstore.json"));
    let line = complains(dir, &["export", "store", "out"], 2);
    assert!(line.contains("out is not empty; nothing was written"), "{line}");
    fs::write(dir.join("out/chat_store.json"), "{}").unwrap();
    let said = ok(dir, &["export", "store", "out", "--force"]);
    let removed =
        "removed: chat_store.json: LlamaIndex would load it, and the store has nothing for it\n";
    assert!(said.ends_with(removed), "{said}");
    assert!(!dir.join("out/chat_store.json").exists());
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
    let dir = with_llama();
    let dir = dir.path();
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
    let dir = with_llama();
    let dir = dir.path();
    let path = dir.join("llama/docstore.json");
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 60]).unwrap();
    let line = complains(dir, &["import", "llama", "--store", "store"], 2);
    assert!(line.starts_with("siltstone: llama: docstore.json: "), "{line}");
    assert!(line.contains("(byte ") && line.contains("nothing was imported"), "{line}");
    assert!(!dir.join("store").exists(), "no store was made");

    let line = complains(dir, &["import", "llama/docstore.json", "--store", "store"], 2);
    assert!(line.starts_with("siltstone: llama/docstore.json: Unterminated string"), "{line}");

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
    let dir = with_llama();
    let dir = dir.path();
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

/// Goal: a vector store that no file can be named after is told of in words without backslashes,
/// and by the exit code; the rest is written.
#[test]
fn what_is_not_exported_is_said_plainly() {
    let dir = with_vectors_without_a_file();
    let output = siltstone(dir.path(), &["export", "store", "out"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let line = "not exported: the vector store \"a/b\": its file would be called \
                \"a/b__vector_store.json\": that is no name of a file\n";
    assert!(said.contains(line), "{said}");
    assert_eq!(output.status.code(), Some(1));
    let args = ["export", "store", "out", "--force", "--json"];
    let output = siltstone(dir.path(), &args);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["complete"], &report["records"]), (&json!(false), &json!(5)));
}

/// A directory with a store in it, `store`: a document, and a row in a vector store whose namespace
/// makes no name of a file.
fn with_vectors_without_a_file() -> TempDir {
    let temp = with_llama();
    let dir = temp.path();
    ok(dir, &["import", "llama", "--store", "store"]);
    let kv: std::sync::Arc<dyn KvStore> =
        std::sync::Arc::new(LogKv::open(dir.join("store")).unwrap());
    let mut node = siltstone::model::Node::text("n", "t");
    node.embedding = Some(vec![1.0]);
    siltstone::stores::VectorStore::with_namespace(kv, "a/b").add(&[node]).unwrap();
    temp
}

/// Goal: an export in which one file would take another's place is refused, and makes nothing; an
/// import with such names is, too.
#[test]
fn two_files_of_one_name_are_refused() {
    let dir = with_llama();
    let dir = dir.path();
    ok(dir, &["import", "llama", "--store", "store"]);
    let same = ["--docstore-fname", "same.json", "--index-store-fname", "same.json"];
    let line = complains(dir, &[&["export", "store", "out"], &same[..]].concat(), 2);
    assert_eq!(
        line,
        "siltstone: out: same.json is the name of both the document store and the index store; \
         nothing was written\n"
    );
    let vectors = ["--docstore-fname", "default__v.json", "--vector-store-fname", "v.json"];
    let line = complains(dir, &[&["export", "store", "out"], &vectors[..]].concat(), 2);
    assert!(line.contains("the document store and the vector store \"default\""), "{line}");
    assert!(!dir.join("out").exists());
    let line = complains(dir, &[&["import", "llama", "--store", "new"], &same[..]].concat(), 2);
    assert!(line.contains("same.json is the name of both the document store"), "{line}");
    assert!(!dir.join("new").exists());
}

/// Goal: no export puts a file into a store. Method: a store, one whose manifest is lost, a backup,
/// a directory below a store, and a link to one; with and without `--force`. What is only named as
/// a manifest above stands in nobody's way.
#[test]
fn an_export_into_a_store_is_refused() {
    let dir = with_llama();
    let dir = dir.path();
    ok(dir, &["import", "llama", "--store", "store"]);
    ok(dir, &["backup", "store", "copy"]);
    ok(dir, &["import", "llama", "--store", "lost"]);
    fs::remove_file(dir.join("lost/MANIFEST")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("store", dir.join("link")).unwrap();
    let all = |name: &str| -> Vec<_> {
        let entries = fs::read_dir(dir.join(name)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.map(|path| (fs::read(&path).unwrap(), path)).collect();
        files.sort();
        files
    };
    let before = [all("store"), all("copy"), all("lost")];
    for target in ["store", "store/below/far", "copy", "lost", "lost/below", "link", "link/below"] {
        if target.starts_with("link") && !dir.join("link").exists() {
            continue;
        }
        for more in [&[][..], &["--force"], &["--force", "--docstore-fname", "MANIFEST"]] {
            let line = complains(dir, &[&["export", "store", target], more].concat(), 2);
            assert!(line.starts_with(&format!("siltstone: {target}: there is a store")), "{line}");
            assert!(line.contains("nothing was written; export into another"), "{line}");
        }
    }
    assert_eq!([all("store"), all("copy"), all("lost")], before);
    fs::write(dir.join("MANIFEST"), "include *.py").unwrap();
    ok(dir, &["export", "store", "out"]);
}

/// Goal: an import that fails when it writes says what is left, and the next one can use it.
/// Method: no file may grow beyond 32 KiB, which the signal would else end the program for.
#[cfg(target_os = "linux")]
#[test]
fn an_import_that_fails_says_what_is_left() {
    let dir = with_llama();
    let dir = dir.path();
    let import = |rest: &[&str]| {
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(dir).args(["-c", script, env!("CARGO_BIN_EXE_siltstone")]);
        let output = shell.args(["import", "llama", "--store", "store"]).args(rest).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    let line = import(&[]);
    assert!(line.starts_with("siltstone: llama: the import failed: "), "{line}");
    assert!(line.ends_with("; the store that was made for it is empty\n"), "{line}");
    assert_eq!(ok(dir, &["list", "store"]), "");
    let line = import(&[]);
    assert!(line.ends_with("; the store is as it was\n"), "{line}");
    ok(dir, &["import", "llama", "--store", "store"]);
}
