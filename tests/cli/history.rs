//! What was: `snapshots` and their `rollback`, and the batches that `tail` prints.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{command, complains, ingest, json_lines, ok, ok_json, tree};

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
    let back = ok_json(dir, &args);
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
