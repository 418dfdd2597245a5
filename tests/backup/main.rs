//! Backups: made while writes go on, interrupted at every moment, made again.
//!
//! `SILTSTONE_BACKUP_SEEDS` sets how many workloads are put through crashes and faults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;
mod heal;
#[cfg(feature = "cli")]
mod program;
mod snapshots;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use siltstone::testing::store::{BackupTest, fingerprint_of};
use siltstone::testing::{CallKind, CrashOptions, Fault, FaultPlan, Fingerprint, Model};
use siltstone::{
    BackupError, BackupOptions, CompactionOptions, Db, Durability, Options, WriteBatch,
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

/// The bytes of all files in `dir`.
fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    named.collect()
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
    // What is longer or shorter there is replaced, and so is what is damaged.
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
        let report = db.backup_to(&target, BackupOptions::new()).unwrap();
        assert_eq!(report.segments_copied, 1, "byte {at}");
        assert_eq!(fs::read(target.join(&open)).unwrap(), whole, "byte {at}");
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
