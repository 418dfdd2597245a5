//! What holds for every verb: wrong use is said in one line, and a reader may go away.

use std::process::Stdio;

use crate::program::{command, complains, ingest, ok, stderr, tree};

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
