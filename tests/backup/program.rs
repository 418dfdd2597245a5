//! Backups by the program: what it says, and kills at every moment.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use siltstone::testing::store::fingerprint_of;
use siltstone::testing::{Fingerprint, Rng};
use siltstone::{Db, Durability};

use super::{batch, open_still, options, verified};

fn siltstone(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siltstone"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str], code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = siltstone(dir, args).output().unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{args:?}: {out}{err}");
    (out, err)
}

/// Writes batches of these numbers; returns what the store holds.
fn write(db: &Db, numbers: std::ops::Range<u64>) -> Fingerprint {
    for number in numbers {
        db.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    db.sync().unwrap();
    fingerprint_of(db).unwrap()
}

#[test]
fn backup_and_restore_say_what_they_did() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let db = open_still(&dir.join("store"));
    let wanted = write(&db, 0..1500);
    db.close().unwrap();
    let db = open_still(&dir.join("store"));
    let (out, err) = run(dir, &["backup", "store", "backup", "--verify"], 0);
    assert!(out.starts_with("backed up everything below sequence number "), "{out}");
    assert!(out.contains("linked"), "{out}");
    assert_eq!(err, "");
    let (out, _) = run(dir, &["backup", "store", "backup", "--json"], 0);
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(shown["segments_kept"].as_u64() > Some(1), "{out}");
    let (out, _) = run(dir, &["restore", "backup", "restored", "--json"], 0);
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["check"]["ok"], true, "{out}");
    assert_eq!(shown["segments_linked"], 0, "{out}");
    assert!(verified(&dir.join("restored")) == wanted);
    let (_, err) = run(dir, &["restore", "backup", "restored"], 2);
    assert!(err.contains("there is a store in"), "{err}");
    let (_, err) = run(dir, &["backup", "store", "store"], 2);
    assert!(err.contains("lies within the directory of the store itself"), "{err}");
    let (_, err) = run(dir, &["backup", "nowhere", "backup"], 2);
    assert!(err.contains("nowhere"), "{err}");
    // A restored store goes its own way; the backup is none of its earlier states any more.
    write(&options().open(dir.join("restored")).unwrap(), 0..10);
    run(dir, &["backup", "restored", "own"], 0);
    write(&db, 1500..1510);
    run(dir, &["backup", "store", "backup"], 0);
    let (_, err) = run(dir, &["backup", "restored", "backup"], 2);
    assert!(err.contains("no earlier state"), "{err}");
}

#[test]
fn damage_in_a_backup_shows_when_it_is_restored() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(&open_still(&dir.join("store")), 0..1500);
    run(dir, &["backup", "store", "backup", "--copy"], 0);
    let files = fs::read_dir(dir.join("backup")).unwrap().map(|entry| entry.unwrap());
    let largest = files.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(largest.path()).unwrap();
    bytes[5000] ^= 1;
    fs::write(largest.path(), bytes).unwrap();
    let (out, _) = run(dir, &["restore", "backup", "restored"], 1);
    let name = largest.file_name().into_string().unwrap();
    assert!(out.contains("damage: ") && out.contains(&name), "{out}");
}

/// Goal: a backup that is killed is the earlier one or the new one, and the next one is equal
/// to the store. Method: `kill -9` of the program at random moments, while the store grows.
#[test]
fn killed_backups_go_on_and_end_equal() {
    let kills: u32 = std::env::var("SILTSTONE_KILLS").map_or(20, |n| n.parse().unwrap());
    let seed = std::env::var("SILTSTONE_SEED").map_or(7, |n| n.parse().unwrap());
    say!("killed backups: SILTSTONE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let db = options().open(dir.join("store")).unwrap();
    let mut number = 4000;
    let mut wanted = write(&db, 0..number);
    let started = Instant::now();
    run(dir, &["backup", "store", "first", "--copy"], 0);
    let time = started.elapsed();
    let target = dir.join("backup");
    let mut legal = None;
    let (mut killed, mut midway, mut attempts) = (0, 0, 0);
    while killed < kills {
        attempts += 1;
        assert!(attempts < 50 * kills, "{killed} kills only");
        let copy: &[&str] = if rng.percent(70) { &["--copy"] } else { &[] };
        let args = [&["backup", "store", "backup"], copy].concat();
        let mut child = siltstone(dir, &args).stdout(Stdio::null()).spawn().unwrap();
        let micros = usize::try_from(time.as_micros()).unwrap();
        std::thread::sleep(Duration::from_micros(rng.below(micros + 1) as u64));
        child.kill().unwrap();
        let is_done = child.wait().unwrap().success();
        killed += u32::from(!is_done);
        if target.join("MANIFEST").exists() {
            let found = verified(&target);
            assert!(found == wanted || !is_done && Some(found) == legal, "kill {killed}");
            midway += u32::from(found != wanted);
            legal = Some(found);
        } else {
            assert!(legal.is_none() && !is_done);
            midway += 1;
        }
        if is_done || rng.percent(30) {
            run(dir, &args, 0);
            assert!(verified(&target) == wanted, "after kill {killed} the end differs");
            legal = Some(wanted);
            wanted = write(&db, number..number + 700);
            number += 700;
            if rng.percent(20) {
                fs::remove_dir_all(&target).unwrap();
                legal = None;
            }
        }
    }
    run(dir, &["backup", "store", "backup", "--verify"], 0);
    assert!(verified(&target) == wanted);
    say!("killed backups: {killed} kills, {midway} of them before the end, of {time:?}");
}
