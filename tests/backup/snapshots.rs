//! Backups of durable snapshots.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use siltstone::testing::store::fingerprint_of;
use siltstone::testing::{CrashOptions, SimVfs};
use siltstone::vfs::Vfs;
use siltstone::{
    BackupError, BackupOptions, BackupReport, CompactionOptions, Db, Durability, OpenError,
    Options, PersistOptions, Retention, SnapshotError, WriteBatch,
};

use super::{batch, files_in, open_still, options, verified};

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
