//! Read-modify-write against every other kind of write.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use siltstone::vfs::mem::MemVfs;
use siltstone::{
    Db, Durability, Options, SnapshotError, Update, UpdateError, WriteBatch, WriteError,
};

use super::model::options;

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

fn one_more(old: Option<&[u8]>) -> Update {
    Update::Put((old.map_or(0, number) + 1).to_le_bytes().to_vec())
}

fn small_store() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(16 << 10).open(dir.path()).unwrap();
    (dir, db)
}

/// Goal: no increment is lost, whatever else goes on.
#[test]
fn eight_threads_count_without_losing_one() {
    const EACH: u64 = 300;
    let (dir, db) = small_store();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counters: Vec<_> = (0..8)
            .map(|thread| {
                let db = &db;
                scope.spawn(move || {
                    for n in 0..EACH {
                        if thread % 2 == 0 {
                            db.fetch_update("counts", b"k", one_more).unwrap();
                        } else {
                            count_by_compare_and_set(db);
                        }
                        // Others in the same collection, and in the same segments.
                        db.put("counts", &[thread, n as u8], &[0; 100]).unwrap();
                    }
                })
            })
            .collect();
        let (db, is_over) = (&db, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                let held = db.snapshot();
                db.compact_now().unwrap();
                db.persist().unwrap();
                assert!(held.seqno() <= db.stats().next_seqno);
            }
        });
        counters.into_iter().for_each(|counter| counter.join().unwrap());
        is_over.store(true, Ordering::Release);
    });
    assert_eq!(number(&db.get("counts", b"k").unwrap().unwrap()), 8 * EACH);
    assert!(db.check().unwrap().is_ok());
    drop(db);
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(number(&db.get("counts", b"k").unwrap().unwrap()), 8 * EACH);
}

fn count_by_compare_and_set(db: &Db) {
    let mut known = db.get("counts", b"k").unwrap();
    loop {
        let next = known.as_deref().map_or(1, |old| number(old) + 1).to_le_bytes();
        match db.compare_and_set("counts", b"k", known.as_deref(), Some(&next)).unwrap() {
            Ok(_) => return,
            Err(current) => known = current.0,
        }
    }
}

/// Goal: every value is taken by one update at most, with clears, deletes, expiry, batches and
/// rollbacks in between. Method: each update puts a number of its own, and what it was computed
/// from is noted: no number may be noted twice.
#[test]
fn no_value_is_taken_twice() {
    let (_dir, db) = small_store();
    let (next, clock) = (AtomicU64::new(1), AtomicU64::new(1));
    let taken: Mutex<Vec<u64>> = Mutex::default();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let updaters: Vec<_> = (0..4)
            .map(|thread| {
                let (db, next, clock, taken) = (&db, &next, &clock, &taken);
                scope.spawn(move || {
                    for n in 0..400u64 {
                        let own = next.fetch_add(1, Ordering::AcqRel).to_le_bytes().to_vec();
                        let done = db.fetch_update("c", b"k", |_| match (thread + n) % 4 {
                            0 => {
                                let soon = clock.load(Ordering::Acquire) + 1;
                                Update::PutExpiring(own.clone(), soon)
                            }
                            1 => Update::Delete,
                            _ => Update::Put(own.clone()),
                        });
                        if let Some(before) = done.unwrap().before {
                            taken.lock().unwrap().push(number(&before));
                        }
                    }
                })
            })
            .collect();
        let (db, next, clock, is_over) = (&db, &next, &clock, &is_over);
        scope.spawn(move || {
            let mut turn = 0;
            while !is_over.load(Ordering::Acquire) {
                turn += 1;
                let mut batch = WriteBatch::new();
                match turn % 5 {
                    0 => batch.clear("c").unwrap(),
                    1 => batch.delete("c", b"k").unwrap(),
                    2 => db.set_time(clock.fetch_add(1, Ordering::AcqRel)),
                    3 => drop(db.compact_now().unwrap()),
                    _ => {
                        let own = next.fetch_add(1, Ordering::AcqRel).to_le_bytes();
                        batch.put("c", b"k", &own).unwrap();
                        batch.put("other", b"k", &own).unwrap();
                    }
                }
                db.write(&mut batch, Durability::Buffered).unwrap();
            }
        });
        updaters.into_iter().for_each(|updater| updater.join().unwrap());
        is_over.store(true, Ordering::Release);
    });
    let taken = taken.into_inner().unwrap();
    let distinct: HashSet<u64> = taken.iter().copied().collect();
    assert!(taken.len() > 100, "{} values were found", taken.len());
    assert_eq!(distinct.len(), taken.len(), "a value was taken twice");
}

/// Goal: whatever happens to the key while the update is computed makes it run again.
#[test]
fn update_runs_again_when_the_key_was_changed_under_it() {
    type Meddle = fn(&Db);
    let meddlers: [(&str, Meddle, Option<&[u8]>); 6] = [
        ("put", |db| db.put("c", b"k", b"other").unwrap(), Some(b"other")),
        // Changed and changed back is changed.
        ("same", |db| db.put("c", b"k", b"old").unwrap(), Some(b"old")),
        ("delete", |db| assert!(db.delete("c", b"k").unwrap()), None),
        (
            "clear",
            |db| {
                let mut batch = WriteBatch::new();
                batch.clear("c").unwrap();
                db.write(&mut batch, Durability::Buffered).unwrap();
            },
            None,
        ),
        ("rollback", |db| drop(db.rollback_to(1).unwrap()), Some(b"first")),
        ("expiry", |db| db.set_time(10), None),
    ];
    for (what, meddle, expected) in meddlers {
        let vfs = MemVfs::new();
        let db = options(&vfs).open("/store").unwrap();
        db.put("c", b"k", b"first").unwrap();
        db.persist().unwrap();
        let mut batch = WriteBatch::new();
        match what {
            "expiry" => batch.put_expiring("c", b"k", b"old", 10).unwrap(),
            _ => batch.put("c", b"k", b"old").unwrap(),
        }
        db.write(&mut batch, Durability::Buffered).unwrap();
        let mut seen = Vec::new();
        let done = db
            .fetch_update("c", b"k", |old| {
                seen.push(old.map(<[u8]>::to_vec));
                if seen.len() == 1 {
                    meddle(&db);
                }
                Update::Put(b"new".to_vec())
            })
            .unwrap();
        assert_eq!(seen, [Some(b"old".to_vec()), expected.map(<[u8]>::to_vec)], "{what}");
        assert_eq!(done.before.as_deref(), expected, "{what}");
        assert_eq!(db.get("c", b"k").unwrap().as_deref(), Some(&b"new"[..]), "{what}");
    }
}

/// Compaction moves records, and what is moved is the same.
#[test]
fn update_does_not_mind_compaction() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/store").unwrap();
    db.put("c", b"k", b"old").unwrap();
    for n in 0..60u8 {
        db.put("c", b"overwritten", &[n; 100]).unwrap();
    }
    let mut runs = 0;
    let done = db.fetch_update("c", b"k", |old| {
        runs += 1;
        assert_eq!(old, Some(&b"old"[..]));
        db.compact_now().unwrap();
        Update::Delete
    });
    assert_eq!(done.unwrap().commit.deleted, 1);
    assert_eq!((runs, db.get("c", b"k").unwrap().is_none()), (1, true));
}

#[test]
fn compare_and_set_answers_with_what_is_there() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/store").unwrap();
    let set = |expected, new| db.compare_and_set("c", b"k", expected, new).unwrap();
    let get = || db.get("c", b"k").unwrap().map(|value| value.to_vec());
    let empty = db.stats().next_seqno;
    assert!(set(None, None).is_ok());
    assert_eq!(db.stats().next_seqno, empty, "nothing to write");
    assert!(set(Some(b"1"), Some(b"2")).unwrap_err().0.is_none());
    assert!(set(None, Some(b"1")).is_ok());
    assert_eq!(set(None, Some(b"2")).unwrap_err().0.as_deref(), Some(&b"1"[..]));
    assert!(set(Some(b"1"), Some(b"2")).is_ok());
    assert_eq!(get(), Some(b"2".to_vec()));
    assert_eq!(set(Some(b"2"), None).unwrap().deleted, 1);
    assert_eq!(get(), None);
    // The empty value is a value.
    assert!(set(None, Some(b"")).is_ok());
    assert!(set(None, Some(b"x")).is_err());
    let commit = set(Some(b""), Some(b"durable")).unwrap();
    db.sync_commit(&commit).unwrap();
    assert_eq!(db.stats().watermark, db.stats().next_seqno);
    let kept = db.fetch_update("c", b"k", |_| Update::Keep).unwrap();
    assert_eq!(kept.before.as_deref(), Some(&b"durable"[..]));
    drop(db);
    let reader = options(&vfs).read_only(true).open("/store").unwrap();
    let refused = reader.fetch_update("c", b"k", |_| Update::Delete).unwrap_err();
    assert!(matches!(refused, UpdateError::Write(WriteError::ReadOnly)), "{refused}");
    let refused = reader.rollback_to(1).unwrap_err();
    assert!(matches!(refused, SnapshotError::Write(WriteError::ReadOnly)), "{refused}");
}
