//! Backups: made while writes go on, interrupted at every moment, made again.
//!
//! `SILTSTONE_BACKUP_SEEDS` sets how many workloads are put through crashes and faults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use siltstone::testing::store::{BackupTest, fingerprint_of};
use siltstone::testing::{CallKind, CrashOptions, Fault, FaultPlan, Fingerprint, Model, SimVfs};
use siltstone::vfs::Vfs;
use siltstone::{
    BackupError, BackupOptions, BackupReport, CompactionOptions, Db, Durability, OpenError,
    Options, PersistOptions, Retention, SnapshotError, WriteBatch,
};

fn seeds() -> u64 {
    std::env::var("SILTSTONE_BACKUP_SEEDS").map_or(20, |n| n.parse().unwrap())
}

/// Goal: a backup that the power cut short is the earlier one or the new one, and the next one is
/// equal to the store. Method: every crash state of workloads with backups in them.
#[test]
fn every_crash_leaves_the_earlier_backup_or_the_new_one() {
    let options = CrashOptions { subsets_max: 6, samples: 12, contexts: 1, tears: 3, seed: 1 };
    let mut test = BackupTest::new(options);
    for seed in 1..=seeds() {
        test.crash(seed).unwrap_or_else(|e| panic!("{e}"));
    }
    let tally = test.tally;
    say!("backup crashes: {tally:?}, 0 violations");
    assert!(tally.backups > 2 * seeds() && tally.distinct > 100 * seeds());
    assert!(tally.segments.iter().all(|count| *count > 0));
}

/// Goal: whatever call fails, the store goes on and the target is the earlier backup or the new
/// one. Method: every call of a backup fails in turn, in every way.
#[test]
fn every_failing_call_leaves_the_earlier_backup_or_the_new_one() {
    let faults = [
        Fault::Error(Fault::EIO),
        Fault::Error(Fault::ENOSPC),
        Fault::Error(Fault::EINTR),
        Fault::ErrorAfter(Fault::EIO),
        Fault::ErrorAfterAll(Fault::ENOSPC),
        Fault::Short(7),
        Fault::Kill,
    ];
    let mut test = BackupTest::new(CrashOptions::default());
    for seed in 1..=seeds() / 2 {
        for fault in faults {
            for forever in [false, true] {
                let mut n = 0;
                loop {
                    let plan = FaultPlan { times: 1, ..FaultPlan::once(n, fault) };
                    let plan = if forever { FaultPlan::forever(n, fault) } else { plan };
                    if !test.fault(seed, &plan).unwrap_or_else(|e| panic!("{e}")) {
                        break;
                    }
                    n += 1;
                }
            }
        }
        for kind in [CallKind::Link, CallKind::Copy] {
            let plan = FaultPlan::forever(0, Fault::Error(Fault::EXDEV)).of(&[kind]);
            test.fault(seed, &plan).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    say!("backup faults: {:?}, 0 violations", test.tally);
    assert!(test.tally.errors > 100 * seeds());
}

/// A batch of a few records, some of them deletions, that follows from its number.
fn batch(number: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for i in 0..1 + number % 7 {
        let key = (number.wrapping_mul(0x9e37_79b9) + i) % 3000;
        let collection = ["nodes", "hashes"][usize::from(key.is_multiple_of(3))];
        if number % 11 == 3 {
            batch.delete(collection, &key.to_le_bytes()).unwrap();
        } else {
            let len = usize::try_from(20 + key % 900).unwrap();
            let mut value = vec![number as u8; len];
            value[..8].copy_from_slice(&number.to_le_bytes());
            batch.put(collection, &key.to_le_bytes(), &value).unwrap();
        }
    }
    batch
}

/// Records of a few segments that nothing overwrites.
fn unchanging() -> WriteBatch {
    let mut batch = WriteBatch::new();
    for key in 0..1000u32 {
        batch.put("texts", &key.to_le_bytes(), &[7; 1000]).unwrap();
    }
    batch
}

fn options() -> Options {
    Options::new().segment_len(256 << 10)
}

/// Opens a store that keeps its segments as they are.
fn open_still(dir: &Path) -> Db {
    options().compaction(CompactionOptions::manual()).open(dir).unwrap()
}

fn read_only(dir: &Path) -> Db {
    options().read_only(true).create(false).open(dir).unwrap()
}

/// Opens a backup for reading, verifies it, and returns what is in it.
fn verified(dir: &Path) -> Fingerprint {
    let backup = read_only(dir);
    let check = backup.check().unwrap();
    assert!(check.is_ok(), "{:?}", check.defects);
    fingerprint_of(&backup).unwrap()
}

/// Goal: a backup that is made while others write holds the state at the sequence number that it
/// names. Method: one thread writes and notes what the store held at which number; backups into
/// three targets go on meanwhile, and each is compared with what was noted.
#[test]
fn backups_during_an_ingest_hold_the_state_they_name() {
    let temp = tempfile::tempdir().unwrap();
    let db = options().open(temp.path().join("store")).unwrap();
    let done = AtomicBool::new(false);
    let (history, made) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut model, mut history) = (Model::default(), BTreeMap::new());
            history.insert(1, model.fingerprint());
            for number in 0.. {
                // What never changes is what later backups need not bring again.
                let mut batch = if number == 0 { unchanging() } else { batch(number) };
                let durability =
                    if number % 50 == 0 { Durability::Sync } else { Durability::Buffered };
                db.write(&mut batch, durability).unwrap();
                model.apply(&batch);
                history.insert(db.stats().next_seqno, model.fingerprint());
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
            history
        });
        let writes_end = common::OnDrop(|| done.store(true, Ordering::Relaxed));
        let mut made = Vec::new();
        for round in 0..24 {
            let target = temp.path().join(format!("backup-{}", round % 3));
            let options = BackupOptions::new().hard_links(round % 3 != 1).verify(true);
            let report = db.backup_to(&target, options).unwrap();
            made.push((report, verified(&target)));
        }
        drop(writes_end);
        (writer.join().unwrap(), made)
    });
    for (report, print) in &made {
        assert_eq!(history.get(&report.seqno), Some(print), "{report:?}");
    }
    let last = made[made.len() - 3..].iter().map(|(report, _)| report);
    let kept: u64 = made.iter().map(|(report, _)| report.segments_kept).sum();
    assert!(kept > 0, "incremental");
    for (round, report) in last.enumerate() {
        assert!(report.segments_linked == 0 || round != 1, "{report:?}");
    }
    let seqno = made.last().map(|(report, _)| report.seqno);
    say!("backups during an ingest: {} made, the last at sequence number {seqno:?}", made.len());
}

/// Goal: a backup and its store never change each other, although they share files. Method: both
/// are opened for writing, overwritten and closed; sealed files stay equal and shared.
#[cfg(unix)]
#[test]
fn linked_files_are_never_written_to() {
    use std::os::unix::fs::MetadataExt;
    let temp = tempfile::tempdir().unwrap();
    let (store, target) = (temp.path().join("store"), temp.path().join("backup"));
    let db = open_still(&store);
    for number in 0..2000 {
        db.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    // A close seals what is full.
    db.close().unwrap();
    let db = open_still(&store);
    let report = db.backup_to(&target, BackupOptions::new()).unwrap();
    let wanted = verified(&target);
    assert!(report.segments_linked >= 3 && report.segments_copied >= 1, "{report:?}");
    let shared = || -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap());
        let linked = entries.filter(|entry| entry.metadata().unwrap().nlink() == 2);
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        linked.map(read).collect()
    };
    let before = shared();
    assert_eq!(before.len() as u64, report.segments_linked);
    for number in 2000..4000 {
        db.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    assert!(verified(&target) == wanted, "writes to the store show in its backup");
    let kept = fingerprint_of(&db).unwrap();
    let backup = open_still(&target);
    for number in 4000..6000 {
        backup.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    backup.close().unwrap();
    db.close().unwrap();
    let after = shared();
    assert!(!after.is_empty() && after.iter().all(|(name, bytes)| before.get(name) == Some(bytes)));
    assert!(verified(&store) == kept, "writes to the backup show in its store");
    let db = options().open(&store).unwrap();
    assert!(fingerprint_of(&db).unwrap() == kept);
    let refused = db.backup_to(&target, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, BackupError::Diverged { .. }), "{refused}");
}

/// Goal: the backup of a durable snapshot opens with its state, and the store stays as it is.
#[test]
fn a_snapshot_can_be_backed_up() {
    let temp = tempfile::tempdir().unwrap();
    let db = options().open(temp.path().join("store")).unwrap();
    for number in 0..800 {
        db.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    let (then, snapshot) = (fingerprint_of(&db).unwrap(), db.persist().unwrap());
    for number in 800..1600 {
        db.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    let now = fingerprint_of(&db).unwrap();
    let (target, none) = (temp.path().join("backup"), temp.path().join("none"));
    let missing = db.backup_snapshot_to(&none, snapshot.id + 7, BackupOptions::new());
    assert!(matches!(missing, Err(BackupError::Snapshot(_))) && !none.exists());
    let options = BackupOptions::new().verify(true);
    db.backup_snapshot_to(&target, snapshot.id, options.clone()).unwrap();
    assert!(verified(&target) == then);
    assert!(fingerprint_of(&db).unwrap() == now);
}

/// The bytes of all files in `dir`.
fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    named.collect()
}

/// Goal: a backup of a snapshot that is there already is found to be, whatever the store has done
/// since; any other backup into its target is refused. Both leave the target as it was.
#[test]
fn a_snapshot_backed_up_already_is_left_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let db = options().open(temp.path().join("store")).unwrap();
    let write = |db: &Db, numbers: std::ops::Range<u64>| {
        for number in numbers {
            db.write(&mut batch(number), Durability::Buffered).unwrap();
        }
    };
    write(&db, 0..300);
    let first = db.persist().unwrap();
    write(&db, 300..600);
    let second = db.persist_with(PersistOptions::named("second")).unwrap();
    write(&db, 600..610);
    let (one, two) = (temp.path().join("one"), temp.path().join("two"));
    let plain = temp.path().join("plain");
    db.backup_to(&plain, BackupOptions::new()).unwrap();
    db.backup_snapshot_to(&one, first.id, BackupOptions::new()).unwrap();
    db.backup_snapshot_to(&two, second.id, BackupOptions::new()).unwrap();
    let now = || [&one, &two, &plain].map(|dir| files_in(dir));
    let before = now();
    let again = |db: &Db, dir: &Path, id: u64| {
        let report = db.backup_snapshot_to(dir, id, BackupOptions::new().verify(true)).unwrap();
        assert!(report.already_there && report.segments_kept > 0, "{report:?}");
        assert_eq!((report.segments_copied, report.segments_linked), (0, 0), "{report:?}");
        report.seqno
    };
    let taken = |result: Result<BackupReport, BackupError>, what: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, BackupError::Taken { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    for round in 0..3 {
        assert_eq!(again(&db, &one, first.id), first.seqno, "round {round}");
        assert_eq!(again(&db, &two, second.id), second.seqno, "round {round}");
        taken(db.backup_snapshot_to(&one, second.id, BackupOptions::new()), "of snapshot 1;");
        taken(db.backup_snapshot_to(&two, first.id, BackupOptions::new()), "2 \"second\"");
        taken(db.backup_snapshot_to(&plain, first.id, BackupOptions::new()), "not of a snapshot");
        taken(db.backup_to(&one, BackupOptions::new()), "of snapshot 1;");
        // The segment with the snapshot goes on, is sealed, and is compacted.
        write(&db, 610 + 400 * round..1010 + 400 * round);
        if round == 1 {
            db.compact_now().unwrap();
        }
    }
    assert!(now() == before);
    // What is not whole is not taken for it, and what was written to neither.
    let segment = files_in(&one).into_keys().find(|name| name.ends_with(".seg")).unwrap();
    fs::rename(one.join(&segment), temp.path().join("away")).unwrap();
    let refused = db.backup_snapshot_to(&one, first.id, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, BackupError::Target(_)), "{refused}");
    fs::rename(temp.path().join("away"), one.join(&segment)).unwrap();
    again(&db, &one, first.id);
    open_still(&one).put("c", b"own", b"1").unwrap();
    taken(db.backup_snapshot_to(&one, first.id, BackupOptions::new()), "for writing since");
    fs::write(two.join("SNAPSHOT"), b"SILTSNP1 what is this").unwrap();
    taken(db.backup_snapshot_to(&two, second.id, BackupOptions::new()), "cannot be read");
}

/// Goal: two copies of a store that each went their own way may call different states by the same
/// number; a backup of the one's is not taken for the other's.
#[test]
fn a_snapshot_of_another_copy_of_the_store_is_another_one() {
    let temp = tempfile::tempdir().unwrap();
    let db = options().open(temp.path().join("store")).unwrap();
    for number in 0..300 {
        db.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    let copies = ["one", "two"].map(|name| {
        let dir = temp.path().join(name);
        db.backup_to(&dir, BackupOptions::new()).unwrap();
        let copy = open_still(&dir);
        copy.put("c", b"who", name.as_bytes()).unwrap();
        let snapshot = copy.persist().unwrap();
        copy.put("c", b"who", b"later").unwrap();
        (copy, snapshot)
    });
    let [(one, snapshot), (two, same)] = copies;
    assert_eq!(snapshot, same);
    let target = temp.path().join("target");
    one.backup_snapshot_to(&target, snapshot.id, BackupOptions::new()).unwrap();
    let before = files_in(&target);
    let refused = two.backup_snapshot_to(&target, same.id, BackupOptions::new()).unwrap_err();
    assert!(refused.to_string().contains("another copy of this store"), "{refused}");
    assert!(files_in(&target) == before);
    let again = one.backup_snapshot_to(&target, snapshot.id, BackupOptions::new()).unwrap();
    assert!(again.already_there);
}

/// Goal: what the target holds of the open segment stays if nothing has come since, and only then.
#[test]
fn a_backup_with_nothing_new_copies_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (store, target) = (temp.path().join("store"), temp.path().join("backup"));
    // Sealed at once when they are full: what is sealed since the last backup is new.
    let open = || {
        let options = Options::new().segment_len(64 << 10).inline_maintenance(true);
        options.compaction(CompactionOptions::manual()).open(&store).unwrap()
    };
    let put = |db: &Db, key: u32| db.put("c", &key.to_le_bytes(), &[7; 500]).unwrap();
    let mut db = open();
    for key in 0..300 {
        put(&db, key);
    }
    let backup = |db: &Db| db.backup_to(&target, BackupOptions::new().verify(true)).unwrap();
    let first = backup(&db);
    assert!(first.segments_copied > 0, "{first:?}");
    for round in 0..3 {
        let before = files_in(&target);
        let again = backup(&db);
        assert_eq!((again.segments_copied, again.bytes_copied), (0, 0), "{round}: {again:?}");
        assert_eq!(again.segments_linked, 0, "{round}: {again:?}");
        let segments = |files: BTreeMap<String, Vec<u8>>| {
            files.into_iter().filter(|(name, _)| name.ends_with(".seg")).collect::<Vec<_>>()
        };
        assert!(segments(files_in(&target)) == segments(before), "{round}");
        if round == 1 {
            // Neither has a reopened store anything new.
            db.close().unwrap();
            db = open();
            continue;
        }
        put(&db, 300 + round);
        let grown = backup(&db);
        assert_eq!(grown.segments_copied, 1, "{round}: {grown:?}");
        assert!(verified(&target) == fingerprint_of(&db).unwrap(), "{round}");
    }
    // What is longer or shorter there is replaced; what is another is not taken for it.
    let open = files_in(&target).into_keys().rfind(|name| name.ends_with(".seg")).unwrap();
    let whole = fs::read(target.join(&open)).unwrap();
    let longer = [&whole[..], &[0; 4096]].concat();
    for other in [&longer, &whole[..whole.len() - 1]] {
        fs::write(target.join(&open), other).unwrap();
        assert_eq!(backup(&db).segments_copied, 1);
        assert_eq!(fs::read(target.join(&open)).unwrap(), whole);
    }
    for at in [20, whole.len() / 2, whole.len() - 1] {
        let mut other = whole.clone();
        other[at] ^= 1;
        fs::write(target.join(&open), &other).unwrap();
        let refused = db.backup_to(&target, BackupOptions::new()).unwrap_err();
        assert!(matches!(refused, BackupError::Diverged { .. }), "byte {at}: {refused}");
    }
}

/// Goal: what is not an earlier state of the store is left alone.
#[test]
fn foreign_targets_are_refused_untouched() {
    let temp = tempfile::tempdir().unwrap();
    let fill = |name: &str, from: u64| {
        let db = options().open(temp.path().join(name)).unwrap();
        for number in from..from + 500 {
            db.write(&mut batch(number), Durability::Buffered).unwrap();
        }
        db
    };
    let (one, other) = (fill("one", 0), fill("other", 0));
    let target = temp.path().join("target");
    other.backup_to(&target, BackupOptions::new()).unwrap();
    let before = verified(&target);
    let refused = one.backup_to(&target, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, BackupError::Foreign { .. }), "{refused}");
    assert!(verified(&target) == before);
    // What an interrupted backup of the other store left is none of ours either.
    fs::remove_file(target.join("MANIFEST")).unwrap();
    let refused = one.backup_to(&target, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, BackupError::Foreign { .. }), "{refused}");
    other.backup_to(&target, BackupOptions::new()).unwrap();
    assert!(verified(&target) == before);
    // A target that somebody has open for writing, and the store itself.
    let open = open_still(&target);
    assert!(matches!(
        other.backup_to(&target, BackupOptions::new()),
        Err(BackupError::Target(siltstone::OpenError::Locked { .. }))
    ));
    drop(open);
    assert!(other.backup_to(temp.path().join("other"), BackupOptions::new()).is_err());
    // A later state of the store.
    let later = open_still(&target);
    drop(later);
    let copy = temp.path().join("copy");
    other.backup_to(&copy, BackupOptions::new()).unwrap();
    for number in 0..100 {
        other.write(&mut batch(number), Durability::Buffered).unwrap();
    }
    other.backup_to(&target, BackupOptions::new()).unwrap();
    let gone_back = options().open(&copy).unwrap();
    let refused = gone_back.backup_to(&target, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, BackupError::Diverged { .. }), "{refused}");
}

#[cfg(feature = "cli")]
mod program {
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use siltstone::testing::Rng;

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
        assert!(err.contains("not empty"), "{err}");
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
}

/// Goal: the backup of a snapshot holds it, although retention drops it at that very moment.
/// Method: another thread records snapshots of which only one is kept. Either the snapshot is gone
/// before the backup begins, and nothing is made, or the backup is the snapshot.
#[test]
fn a_snapshot_that_is_being_dropped_is_backed_up_or_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut retention = Retention::default();
    retention.count = 1;
    let db = Options::new().retention(retention).open(temp.path().join("store")).unwrap();
    let (mut made, mut refused) = (0, 0);
    for round in 0..60u32 {
        db.put("c", b"round", &round.to_le_bytes()).unwrap();
        let snapshot = db.persist().unwrap();
        let target = temp.path().join(round.to_string());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0u32.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 20));
                    db.put("c", b"after", &n.to_le_bytes()).unwrap();
                    db.persist().unwrap();
                }
            });
            let result = db.backup_snapshot_to(&target, snapshot.id, BackupOptions::new());
            done.store(true, Ordering::Relaxed);
            match result {
                Ok(_) => {
                    made += 1;
                    let backup = Db::open(&target).unwrap();
                    let found = backup.get("c", b"round").unwrap().unwrap();
                    assert_eq!(*found, round.to_le_bytes(), "round {round}");
                }
                Err(BackupError::Snapshot(SnapshotError::Missing { .. })) => {
                    refused += 1;
                    assert!(!target.join("MANIFEST").exists(), "round {round}: refused half-way");
                }
                Err(e) => panic!("round {round}: {e}"),
            }
        });
        db.delete("c", b"after").unwrap();
    }
    say!("backups of snapshots that were being dropped: {made} made, {refused} refused");
    assert!(made > 0);
}

/// Goal: what has expired does not come back with a backup of a snapshot from before.
#[test]
fn a_backup_of_a_snapshot_knows_the_time() {
    let temp = tempfile::tempdir().unwrap();
    let db = Options::new().time(1_000).open(temp.path().join("store")).unwrap();
    let mut batch = WriteBatch::new();
    batch.put_expiring("c", b"old", b"1", 1_500).unwrap();
    batch.put_expiring("c", b"new", b"2", 9_000).unwrap();
    db.write(&mut batch, Durability::Buffered).unwrap();
    let snapshot = db.persist().unwrap();
    db.delete("c", b"old").unwrap();
    db.delete("c", b"new").unwrap();
    db.set_time(2_000);
    let target = temp.path().join("backup");
    db.backup_snapshot_to(&target, snapshot.id, BackupOptions::new()).unwrap();
    let backup = Db::open(&target).unwrap();
    assert!(backup.get("c", b"old").unwrap().is_none());
    assert_eq!(&*backup.get("c", b"new").unwrap().unwrap(), b"2");
}

/// Goal: the target of a backup of a snapshot is never taken for one while it is none: after a
/// power cut at any operation it holds the snapshot, or does not open; and the next backup into it
/// ends well, or finds that it is there. Method: into a new directory, and into one that an
/// interrupted backup has left segments in, with later batches that the rollback must undo.
#[test]
fn a_power_cut_in_a_backup_of_a_snapshot_leaves_it_or_no_store() {
    let (mut looked, mut unfinished, mut begun_anew, mut there) = (0, 0, 0, 0);
    for has_segments in [false, true] {
        let sim = SimVfs::new();
        let open = |sim: &SimVfs, dir: &str| {
            Options::new()
                .vfs(Arc::new(sim.clone()))
                .segment_len(4 << 10)
                .inline_maintenance(true)
                .compaction(CompactionOptions::manual())
                .open(dir)
        };
        let db = open(&sim, "/store").unwrap();
        let write = |from: u32, to: u32, len: usize| {
            for key in from..to {
                db.put("c", &key.to_le_bytes(), &vec![7; len]).unwrap();
            }
        };
        write(0, 40, 100);
        if has_segments {
            db.backup_to("/backup", BackupOptions::new()).unwrap();
            sim.remove(Path::new("/backup/MANIFEST")).unwrap();
            sim.sync_dir(Path::new("/backup")).unwrap();
        }
        write(20, 60, 120);
        let then = fingerprint_of(&db).unwrap();
        let snapshot = db.persist().unwrap();
        write(0, 80, 90);
        db.sync().unwrap();
        let begun = sim.mark();
        db.backup_snapshot_to("/backup", snapshot.id, BackupOptions::new()).unwrap();
        sim.kill(|| drop(db));
        let options = CrashOptions { subsets_max: 4, samples: 6, contexts: 0, tears: 4, seed: 1 };
        let mut seen = std::collections::HashSet::new();
        let mut states = sim.crash_states(&options);
        while let Some(state) = states.next() {
            if state.point.cut < begun || !seen.insert(state.hash) {
                continue;
            }
            looked += 1;
            let disk = state.disk();
            let holds = |disk: &SimVfs| {
                let reader = Options::new().vfs(Arc::new(disk.clone())).read_only(true);
                reader.create(false).open("/backup").map(|db| fingerprint_of(&db).unwrap())
            };
            let place = || format!("{}: {}", state.point, states.describe());
            let is_done = match holds(&disk) {
                Ok(found) if found == then => true,
                Ok(_) => panic!("another state, {}", place()),
                Err(OpenError::Unfinished { .. }) => {
                    unfinished += 1;
                    false
                }
                Err(OpenError::Missing { .. }) => false,
                Err(e) => panic!("{e}, {}", place()),
            };
            there += u32::from(is_done);
            begun_anew += u32::from(!is_done);
            let db = open(&disk, "/store").unwrap();
            let again = db.backup_snapshot_to("/backup", snapshot.id, BackupOptions::new());
            let again = again.unwrap_or_else(|e| panic!("again: {e}, {}", place()));
            assert_eq!(again.already_there, is_done, "{}", place());
            disk.kill(|| drop(db));
            assert_eq!(holds(&disk).unwrap(), then, "again, {}", place());
        }
    }
    say!(
        "power cuts in backups of a snapshot: {looked} states, {unfinished} unfinished, \
         {begun_anew} begun anew, {there} found there"
    );
    assert!(unfinished > 10 && begun_anew > unfinished && there > 2);
}
