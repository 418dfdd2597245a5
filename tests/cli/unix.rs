//! What only Unix has: signals, and links that lead nowhere.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::program::{
    command, complains, counts, ingest, keys, ok, siltstone, stderr, stdout, tree,
};

/// While records come in, the store can be read; Ctrl-C then ends the writer although its input
/// is silent, and everything it acknowledged is there.
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

#[test]
fn unreadable_files_are_named_and_their_documents_stay() {
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
