//! Damage, as `check` names it, `inspect` shows it and `repair` takes it out; and what `inspect`
//! shows of records that are whole.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{complains, ingest, json_lines, ok, ok_json, siltstone, stdout, tree};

#[test]
fn check_names_the_file_and_the_place_of_damage() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    assert!(ok(dir, &["check", "store"]).starts_with("ok: verified "));
    let report = ok_json(dir, &["check", "store", "--json"]);
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

/// Goal: one place is named once, however the directory is given; and a store that has lost its
/// manifest is a damaged one, not none.
#[test]
fn check_of_a_refused_store_names_each_place_once() {
    let dir = tree();
    let dir = dir.path();
    ingest(dir, &["tree"]);
    let segment = fs::read_dir(dir.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let places = |store: &str| {
        let output = siltstone(dir, &["check", store]);
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        assert!(stdout(&output).ends_with("`siltstone repair --dry-run` says what can be saved\n"));
        stdout(&output).lines().filter(|line| line.starts_with("damage: ")).count()
    };
    assert_eq!(places("store"), 1);
    assert_eq!(places(dir.join("store").to_str().unwrap()), 1);
    fs::write(&segment, &whole).unwrap();
    let manifest = dir.join("store/MANIFEST");
    let listed = fs::read(&manifest).unwrap();
    for at in [70, listed.len() - 40] {
        let mut bytes = listed.clone();
        bytes[at] ^= 4;
        fs::write(&manifest, bytes).unwrap();
        assert_eq!(places("store"), 1, "byte {at}");
    }
    fs::write(&manifest, listed).unwrap();
    let mut bytes = whole.clone();
    bytes[71] ^= 4;
    fs::write(&segment, bytes).unwrap();
    assert_eq!(places("store"), 1);
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let said = complains(dir, &["get", "store", "docstore/data", "a"], 2);
    assert!(said.contains("nothing was changed: `siltstone repair --dry-run` says"), "{said}");

    fs::write(&segment, whole).unwrap();
    fs::remove_file(dir.join("store/MANIFEST")).unwrap();
    assert_eq!(places("store"), 1);
    complains(dir, &["check", "tree"], 2);
    for verb in ["check", "stats", "inspect", "repair", "tail", "compact"] {
        let said = complains(dir, &[verb, segment.to_str().unwrap()], 2);
        assert!(said.contains("a file, not the directory of a store"), "{verb}: {said}");
    }
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

/// All records of a store, as `inspect` shows them: in words and as JSON.
fn inspected(dir: &Path) -> (String, Vec<Value>) {
    let seen = ok_json(dir, &["inspect", "store", "--json"]);
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
    let seen = ok_json(dir, &["inspect", "store", "--json"]);
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
    // All is there, which nobody knows without the list of segments.
    let (code, said, _) = crate::program::run(dir, &["repair", "store"], "");
    assert_eq!(code, 1, "{said}");
    assert!(said.ends_with("repaired: nothing is known to be lost, see the note\n"), "{said}");
    assert_eq!(ok(dir, &["dump", "store"]), left);
    complains(dir, &["repair", "nowhere"], 2);
}
