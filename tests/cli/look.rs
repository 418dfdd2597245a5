//! The verbs that only look: `get`, `list`, `dump` and `stats`.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{complains, ingest, json_lines, ok, ok_json, siltstone, stdout, tree, value};

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
    let line = ok_json(dir, &["dump", "store"]);
    let expected =
        json!({"collection": "raw", "key_bytes": "\\xff\\n", "value_bytes": "\\xfe text"});
    assert_eq!(line, expected);
    complains(dir, &["get", "store", "raw", r"\q", "--escaped"], 2);
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

#[test]
fn stats_draws_the_segments() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let text = ok(dir, &["stats", "store"]);
    for word in ["keys ", "log ", "index ", "watermark ", "open ", "[####", "% live"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let stats = ok_json(dir, &["stats", "store", "--json"]);
    let lines = ok(dir, &["dump", "store"]).lines().count();
    assert_eq!(stats["keys"], lines);
    assert_eq!(stats["watermark"], stats["next_seqno"], "all of it was persisted");
    assert_eq!(stats["open"]["clean"], true);
    let segment = &stats["segments"][0];
    let bytes = |field: &str| segment[field].as_u64().unwrap();
    assert_eq!(bytes("log_bytes"), bytes("live_bytes") + bytes("dead_bytes"));
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

    let shown = ok_json(dir, &["stats", "store", "--exact", "--json"]);
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
    let shown = ok_json(dir, &["stats", "store", "--json"]);
    assert!(shown["oldest_snapshot_needs"].as_u64() > Some(300_000), "{shown}");
    assert!(shown["oldest_snapshot_pinned"].as_u64() < Some(100), "{shown}");
    let text = ok(dir, &["stats", "store"]);
    assert!(text.contains(" back, which keeps 30") && text.contains(" B of it alone\n"), "{text}");
}
