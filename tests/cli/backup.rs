//! `siltstone backup`, `restore` and `snapshots`, run as a process: what is done again, what is
//! refused, and what is left of a process that was killed.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use siltstone::testing::store::fingerprint_of;
use siltstone::testing::{Fingerprint, Rng};
use siltstone::{CompactionOptions, Db, Options, PersistOptions, WriteError};

use crate::program::{command, complains, ok, ok_json};

fn open(dir: &Path) -> Db {
    Options::new().compaction(CompactionOptions::manual()).segment_len(64 << 10).open(dir).unwrap()
}

fn fill(db: &Db, keys: std::ops::Range<u32>) {
    for key in keys {
        db.put("c", &key.to_le_bytes(), &[7; 500]).unwrap();
    }
    db.sync().unwrap();
}

fn held(dir: &Path) -> Fingerprint {
    let db = Options::new().read_only(true).create(false).open(dir).unwrap();
    fingerprint_of(&db).unwrap()
}

#[test]
fn a_snapshots_backup_is_made_once() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let db = open(&dir.join("store"));
    fill(&db, 0..300);
    db.close().unwrap();
    ok(dir, &["snapshots", "create", "store"]);
    ok(dir, &["snapshots", "create", "store", "--name", "nightly"]);
    fill(&open(&dir.join("store")), 200..400);
    let backup = |id: &'static str| ["backup", "--snapshot", id, "store", "target"];
    assert!(ok(dir, &backup("1")).starts_with("backed up everything below"));
    let said = ok(dir, &backup("1"));
    assert!(said.starts_with("already there: everything below sequence number"), "{said}");
    let said = ok_json(dir, &[&backup("1")[..], &["--json", "--verify"]].concat());
    assert_eq!((&said["already_there"], &said["bytes_copied"]), (&true.into(), &0.into()));
    let said = complains(dir, &backup("2"), 2);
    assert!(said.contains("holds the backup of snapshot 1; nothing was changed"), "{said}");
    assert!(said.contains("choose another target"), "{said}");
    let said = complains(dir, &["backup", "store", "target"], 2);
    assert!(said.contains("holds the backup of snapshot 1; nothing was changed"), "{said}");
    ok(dir, &["backup", "store", "plain"]);
    let said = complains(dir, &["backup", "--snapshot", "2", "store", "plain"], 2);
    assert!(said.contains("of a store as it is, not of a snapshot"), "{said}");
    let said = ok_json(dir, &["backup", "store", "plain", "--json"]);
    assert_eq!(said["already_there"], false);
}

/// Goal: a snapshot is named as the other verbs name it, and a backup that would not last is none.
#[test]
fn a_snapshot_is_backed_up_by_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let db = Db::open(dir.join("store")).unwrap();
    db.put("c", b"key", b"value").unwrap();
    db.close().unwrap();
    ok(dir, &["snapshots", "create", "store", "--name", "nightly"]);
    let said = ok(dir, &["backup", "--snapshot", "nightly", "store", "target"]);
    assert!(said.contains("backed up everything below"), "{said}");
    let said = complains(dir, &["backup", "--snapshot", "weekly", "store", "other"], 2);
    assert!(said.contains("there is no snapshot \"weekly\"; there are: 1"), "{said}");
    assert!(!dir.join("other").exists());
    let said = complains(dir, &["backup", "store", "memory:///target"], 2);
    let why = if cfg!(feature = "object-store") { "would be gone" } else { "was built without" };
    assert!(said.contains(why), "{said}");
}

/// Goal: a backup of a snapshot that is killed at any moment ends well when it is made again.
#[test]
fn killed_backups_of_snapshots_are_made_again() {
    let kills: u32 = std::env::var("SILTSTONE_KILLS").map_or(20, |n| n.parse().unwrap());
    let seed = std::env::var("SILTSTONE_SEED").map_or(11, |n| n.parse().unwrap());
    say!("killed backups of snapshots: SILTSTONE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let db = open(&dir.join("store"));
    fill(&db, 0..3000);
    db.persist().unwrap();
    let wanted = fingerprint_of(&db).unwrap();
    fill(&db, 1000..4000);
    let args = ["backup", "--snapshot", "1", "store", "target", "--copy"];
    let target = dir.join("target");
    ok(dir, &args);
    fs::remove_dir_all(&target).unwrap();
    // The second one finds everything in memory, as the others will.
    let started = Instant::now();
    ok(dir, &args);
    let time = started.elapsed();
    let mut there = 0;
    for kill in 0..kills {
        fs::remove_dir_all(&target).unwrap();
        let mut child =
            command(dir, &args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        // The last part is where it becomes whole.
        let from = if rng.percent(50) { 70 } else { 0 };
        let percent = u32::try_from(rng.below(111 - from) + from).unwrap();
        std::thread::sleep(time * percent / 100 + Duration::from_micros(rng.below(100) as u64));
        child.kill().unwrap();
        let is_done = child.wait().unwrap().success();
        let said = ok_json(dir, &[&args[..], &["--json"]].concat());
        assert!(said["already_there"] == true || !is_done, "kill {kill}");
        there += u32::from(said["already_there"] == true);
        assert!(held(&target) == wanted, "after kill {kill} the end differs");
    }
    say!("killed backups of snapshots: {kills} kills, {there} found there, of {time:?}");
}

#[test]
fn snapshots_have_no_empty_name() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let db = open(&dir.join("store"));
    fill(&db, 0..3);
    let refused = db.persist_with(PersistOptions::named("")).unwrap_err();
    assert!(matches!(refused, WriteError::Invalid(_)), "{refused}");
    assert!(refused.to_string().contains("nothing was written: the name of a snapshot is empty"));
    assert!(db.snapshots().is_empty());
    db.close().unwrap();
    let said = complains(dir, &["snapshots", "create", "store", "--name", "7"], 2);
    assert!(said.contains("a name that is a number"), "{said}");
    let said = complains(dir, &["snapshots", "create", "store", "--name", ""], 2);
    assert!(said.contains("--name"), "{said}");
    assert_eq!(ok(dir, &["snapshots", "list", "store"]), "");
    ok(dir, &["snapshots", "create", "store", "--name", " "]);
}

#[test]
fn a_rollback_can_be_undone_by_a_snapshot_with_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fill(&open(&dir.join("store")), 0..3);
    let created = ok_json(dir, &["snapshots", "create", "store", "--json"]);
    fill(&open(&dir.join("store")), 3..5);
    let done = ok_json(dir, &["snapshots", "rollback", "store", "1", "--json"]);
    let (then, undone) = (created["time"].as_u64().unwrap(), done["undo"]["time"].as_u64());
    assert!(undone.is_some_and(|time| time >= then), "{created} {done}");
    let listed = ok(dir, &["snapshots", "list", "store"]);
    assert!(listed.lines().all(|line| !line.contains(" - ")), "{listed}");
}
