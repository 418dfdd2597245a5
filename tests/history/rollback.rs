//! Differences and rollbacks against models of the store as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use siltstone::vfs::mem::MemVfs;
use siltstone::vfs::{OpenMode, Vfs};
use siltstone::{
    CollectionOptions, Compression, Db, Durability, Options, ReadError, SnapshotError, WriteBatch,
    WriteError,
};

use super::model::{Model, Rng, contents, contents_at, expected, found, options, values};

const COLLECTIONS: [&str; 3] = ["a", "b", ""];

/// A store, what it should hold, and the same for each durable snapshot.
struct Subject {
    vfs: MemVfs,
    db: Option<Db>,
    now: Model,
    time: u64,
    durable: BTreeMap<u64, Model>,
    seed: u64,
}

impl Subject {
    fn new(seed: u64) -> Self {
        let vfs = MemVfs::new();
        let db = options(&vfs).open("/store").unwrap();
        let compressed = CollectionOptions::new().compression(Compression::Lz4);
        db.configure("b", compressed).unwrap();
        let (now, durable) = (Model::new(), BTreeMap::new());
        Subject { vfs, db: Some(db), now, time: 0, durable, seed }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn write(&mut self, rng: &mut Rng, step: u64) {
        let mut batch = WriteBatch::new();
        for _ in 0..=rng.below(6) {
            let name = COLLECTIONS[rng.below(3) as usize];
            let key = vec![b'k', rng.below(12) as u8];
            let at = (name.to_owned(), key.clone());
            match rng.below(20) {
                0 => {
                    batch.clear(name).unwrap();
                    self.now.retain(|(n, _), _| n != name);
                }
                1..=4 => {
                    batch.delete(name, &key).unwrap();
                    self.now.remove(&at);
                }
                5 => {
                    // The same bytes again: no difference.
                    if let Some((value, None)) = self.now.get(&at) {
                        batch.put(name, &key, value).unwrap();
                    }
                }
                6 | 7 => {
                    let expires = self.time + rng.below(9);
                    batch.put_expiring(name, &key, b"not for long", expires).unwrap();
                    self.now.insert(at, (b"not for long".to_vec(), Some(expires)));
                }
                _ => {
                    let mut value = step.to_le_bytes().to_vec();
                    value.resize(8 + rng.below(150) as usize, step as u8);
                    batch.put(name, &key, &value).unwrap();
                    self.now.insert(at, (value, None));
                }
            }
        }
        self.db().write(&mut batch, Durability::Buffered).unwrap();
    }

    fn any_snapshot(&self, rng: &mut Rng) -> Option<u64> {
        let nth = rng.below(self.durable.len().max(1) as u64) as usize;
        self.durable.keys().nth(nth).copied()
    }

    fn rollback(&mut self, id: u64) {
        let differences = expected(&self.now, &self.durable[&id], self.time);
        let count = |of: usize| differences.values().map(|l| l[of].len() as u64).sum::<u64>();
        let (restored, deleted) = (count(0) + count(1), count(2));
        let done = self.db().rollback_to(id).unwrap();
        assert_eq!((done.restored, done.deleted), (restored, deleted), "seed {}", self.seed);
        assert_eq!(done.undo.name, Some(format!("before rollback to {id}")));
        let before = std::mem::replace(&mut self.now, self.durable[&id].clone());
        self.durable.insert(done.undo.id, before);
        let left = self.db().diff(id, None).unwrap();
        assert!(left.is_empty(), "seed {}: {left:?} after a rollback to {id}", self.seed);
    }

    fn step(&mut self, rng: &mut Rng, step: u64) {
        match rng.below(24) {
            0 | 1 => {
                let info = self.db().persist().unwrap();
                self.durable.insert(info.id, self.now.clone());
            }
            2 if self.durable.len() > 4 => {
                let id = self.any_snapshot(rng).unwrap();
                self.db().drop_snapshot(id).unwrap();
                self.durable.remove(&id);
            }
            3 => {
                let db = self.db.take().unwrap();
                if rng.below(2) == 0 {
                    db.close().unwrap()
                } else {
                    drop(db)
                }
                self.db = Some(options(&self.vfs).time(self.time).open("/store").unwrap());
            }
            4 => {
                self.time += rng.below(4);
                self.db().set_time(self.time);
            }
            5 | 6 => {
                if let Some(id) = self.any_snapshot(rng) {
                    self.rollback(id);
                }
            }
            7 | 8 => drop(self.db().compact_now().unwrap()),
            _ => self.write(rng, step),
        }
        self.check(rng, step);
    }

    fn check(&self, rng: &mut Rng, step: u64) {
        let place = format!("seed {} step {step}", self.seed);
        assert_eq!(contents(self.db()), values(&self.now, self.time), "{place}");
        for (id, model) in &self.durable {
            let at = contents_at(&self.db().open_snapshot(*id).unwrap());
            assert_eq!(at, values(model, self.time), "{place}, snapshot {id}");
            let diff = self.db().diff(*id, None).unwrap();
            assert_eq!(found(&diff), expected(model, &self.now, self.time), "{place}, from {id}");
        }
        let pair = (self.any_snapshot(rng), self.any_snapshot(rng));
        if let (Some(from), Some(to)) = pair {
            let diff = self.db().diff(from, to).unwrap();
            let expected = expected(&self.durable[&from], &self.durable[&to], self.time);
            assert_eq!(found(&diff), expected, "{place}, {from} to {to}");
        }
    }

    /// A reader from another process must say the same.
    fn check_reader(&self) {
        let reader = options(&self.vfs).read_only(true).time(self.time).open("/store").unwrap();
        for (id, model) in &self.durable {
            let place = format!("seed {}, reader, snapshot {id}", self.seed);
            let at = contents_at(&reader.open_snapshot(*id).unwrap());
            assert_eq!(at, values(model, self.time), "{place}");
            let diff = reader.diff(*id, None).unwrap();
            assert_eq!(found(&diff), expected(model, &self.now, self.time), "{place}");
            let refused = reader.rollback_to(*id).unwrap_err();
            assert!(matches!(refused, SnapshotError::Write(WriteError::ReadOnly)), "{refused}");
        }
    }
}

/// Goal: a diff names every key that differs and no other, between any two snapshots and to now,
/// and a rollback brings back exactly what was there; all through overwrites, deletes, clears,
/// expiry, compression, compaction, reopening, and rollbacks of rollbacks. Method: every state is
/// remembered and compared after every step.
#[test]
fn diffs_and_rollbacks_agree_with_what_was_there() {
    for seed in 1..=80u64 {
        let mut rng = Rng::of_seed(seed);
        let mut subject = Subject::new(seed);
        for step in 0..80 {
            subject.step(&mut rng, step);
        }
        subject.check_reader();
        let check = subject.db().check().unwrap();
        assert!(check.is_ok(), "seed {seed}: {:?}", check.defects);
    }
}

/// Batches that are written while a rollback is under way are undone as a whole, if they came
/// before it, or not at all.
#[test]
fn rollback_is_alone_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(64 << 10).open(dir.path()).unwrap();
    let write = |db: &Db, thread: u64, n: u64| {
        let mut batch = WriteBatch::new();
        let key = [thread.to_le_bytes(), n.to_le_bytes()].concat();
        batch.put("left", &key, &n.to_le_bytes()).unwrap();
        batch.put("count", &thread.to_le_bytes(), &n.to_le_bytes()).unwrap();
        batch.put("right", &key, &n.to_le_bytes()).unwrap();
        db.write(&mut batch, Durability::Buffered).unwrap();
    };
    for thread in 0..3 {
        write(&db, thread, 1);
    }
    let target = db.persist().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let (db, is_over, written) = (db.clone(), is_over.clone(), written.clone());
            std::thread::spawn(move || {
                let mut n = 2;
                while !is_over.load(Ordering::Acquire) || n < 100 {
                    write(&db, thread, n);
                    written.fetch_add(1, Ordering::AcqRel);
                    n += 1;
                }
            })
        })
        .collect();
    let mut undos = Vec::new();
    for _ in 0..4 {
        let seen = written.load(Ordering::Acquire);
        while written.load(Ordering::Acquire) < seen + 500 {
            std::thread::yield_now();
        }
        undos.push(db.rollback_to(target.id).unwrap().undo);
    }
    is_over.store(true, Ordering::Release);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let undo = db.open_snapshot(undos.last().unwrap().id).unwrap();
    for thread in 0..3u64 {
        let last = number(&undo.get("count", &thread.to_le_bytes()).unwrap().unwrap());
        for name in ["left", "right"] {
            for n in 2..=last {
                let key = [thread.to_le_bytes(), n.to_le_bytes()].concat();
                let is_there = db.contains(name, &key).unwrap();
                assert!(!is_there, "batch {n} of thread {thread} was before the rollback");
            }
        }
    }
    assert_eq!(db.len("left"), db.len("right"));
    assert!(db.check().unwrap().is_ok());
}

#[test]
fn rollback_to_what_is_there_writes_nothing_but_its_snapshot() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/store").unwrap();
    db.put("c", b"k", b"v").unwrap();
    let info = db.persist().unwrap();
    let done = db.rollback_to(info.id).unwrap();
    assert_eq!((done.restored, done.deleted), (0, 0));
    assert!(db.diff(done.undo.id, None).unwrap().is_empty());
    let missing = db.rollback_to(77).unwrap_err();
    assert_eq!(missing.to_string(), "there is no snapshot 77, there are 1, 2");
    assert!(matches!(db.diff(77, None), Err(SnapshotError::Missing { id: 77, .. })));
    assert_eq!(db.snapshots().len(), 2, "a refused rollback leaves no snapshot");
}

/// The number of a snapshot is not used twice, rollbacks included.
#[test]
fn undo_snapshot_is_numbered_like_others() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/store").unwrap();
    db.put("c", b"k", b"v").unwrap();
    let first = db.persist().unwrap();
    drop(db);
    let db = options(&vfs).open("/store").unwrap();
    let undo = db.rollback_to(first.id).unwrap().undo;
    assert_eq!((first.id, undo.id), (1, 2));
    db.drop_snapshot(undo.id).unwrap();
    assert_eq!(db.persist().unwrap().id, 3);
}

/// Goal: an old value that cannot be read fails the rollback and changes nothing. Method: the file
/// is changed below an open store.
#[test]
fn damaged_old_value_fails_the_rollback() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/store").unwrap();
    let old = b"an old value that is easy to find in its file";
    db.put("c", b"k", old).unwrap();
    db.put("c", b"other", b"1").unwrap();
    let info = db.persist().unwrap();
    db.put("c", b"k", b"new").unwrap();
    db.put("c", b"other", b"2").unwrap();
    for (path, bytes) in vfs.snapshot() {
        if let Some(at) = bytes.windows(old.len()).position(|window| window == old) {
            let file = vfs.open(&path, OpenMode::ReadWrite).unwrap();
            file.write_at(b"X", at as u64).unwrap();
        }
    }
    let before = contents(&db);
    let refused = db.rollback_to(info.id).unwrap_err();
    assert!(matches!(refused, SnapshotError::Read(ReadError::Corrupt(_))), "{refused}");
    assert_eq!(contents(&db), before);
    assert_eq!(db.snapshots().len(), 1);
    db.put("c", b"still", b"writable").unwrap();
}
