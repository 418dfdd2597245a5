//! Snapshots, in memory and durable, against models of the store as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{Db, Durability, Options, PersistOptions, Retention, Snapshot, WriteBatch};

type Model = BTreeMap<(String, Vec<u8>), Vec<u8>>;

const COLLECTIONS: [&str; 3] = ["a", "b", ""];

fn options(vfs: &MemVfs) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .segment_len(1024)
        .inline_maintenance(true)
        .retention(Retention::count(100))
        .store_id(*b"snapshots' tests")
}

/// A small generator, so that a failure is its seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn contents(db: &Db) -> Model {
    let mut model = Model::new();
    for (name, len) in db.collections() {
        let before = model.len();
        for entry in db.iter(&name) {
            let entry = entry.unwrap();
            model.insert((name.clone(), entry.key), entry.value.to_vec());
        }
        assert_eq!((model.len() - before) as u64, len, "len of {name:?}");
    }
    model
}

fn contents_at(snapshot: &Snapshot) -> Model {
    let mut model = Model::new();
    for (name, len) in snapshot.collections() {
        let before = model.len();
        for entry in snapshot.iter(&name) {
            let entry = entry.unwrap();
            let got = snapshot.get(&name, &entry.key).unwrap();
            assert_eq!(got.as_deref(), Some(&*entry.value), "get and iter at the snapshot");
            model.insert((name.clone(), entry.key), entry.value.to_vec());
        }
        assert_eq!((model.len() - before) as u64, len, "len of {name:?} at {}", snapshot.seqno());
    }
    model
}

/// A store, what it should hold, and the same for each snapshot.
struct Subject {
    vfs: MemVfs,
    db: Option<Db>,
    now: Model,
    durable: BTreeMap<u64, Model>,
    held: Vec<(Snapshot, Model)>,
    seed: u64,
}

impl Subject {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    fn write(&mut self, rng: &mut Rng, step: u64) {
        let mut batch = WriteBatch::new();
        for _ in 0..=rng.below(6) {
            let name = COLLECTIONS[rng.below(3) as usize];
            let key = vec![b'k', rng.below(12) as u8];
            match rng.below(20) {
                0 => {
                    batch.clear(name).unwrap();
                    self.now.retain(|(n, _), _| n != name);
                }
                1..=5 => {
                    batch.delete(name, &key).unwrap();
                    self.now.remove(&(name.to_owned(), key));
                }
                _ => {
                    let mut value = step.to_le_bytes().to_vec();
                    value.resize(8 + rng.below(90) as usize, step as u8);
                    batch.put(name, &key, &value).unwrap();
                    self.now.insert((name.to_owned(), key), value);
                }
            }
        }
        self.db().write(&mut batch, Durability::Buffered).unwrap();
    }

    fn step(&mut self, rng: &mut Rng, step: u64) {
        match rng.below(22) {
            0 | 1 => {
                let info = self.db().persist().unwrap();
                self.durable.insert(info.id, self.now.clone());
            }
            2 => self.held.push((self.db().snapshot(), self.now.clone())),
            3 if !self.held.is_empty() => {
                let at = rng.below(self.held.len() as u64) as usize;
                self.held.swap_remove(at);
            }
            4 if self.durable.len() > 2 => {
                let nth = rng.below(self.durable.len() as u64) as usize;
                let id = *self.durable.keys().nth(nth).expect("counted");
                self.db().drop_snapshot(id).unwrap();
                self.durable.remove(&id);
            }
            5 => {
                self.held.clear();
                let db = self.db.take().expect("open");
                if rng.below(2) == 0 {
                    db.close().unwrap();
                } else {
                    drop(db);
                }
                self.db = Some(options(&self.vfs).open("/store").unwrap());
            }
            6 | 7 => drop(self.db().compact_now().unwrap()),
            _ => self.write(rng, step),
        }
        self.check(step);
    }

    fn check(&self, step: u64) {
        let place = format!("seed {} step {step}", self.seed);
        assert_eq!(contents(self.db()), self.now, "{place}");
        let ids: Vec<u64> = self.db().snapshots().iter().map(|s| s.id).collect();
        assert_eq!(ids, self.durable.keys().copied().collect::<Vec<_>>(), "{place}");
        for (id, model) in &self.durable {
            let snapshot = self.db().open_snapshot(*id).unwrap();
            assert_eq!(&contents_at(&snapshot), model, "{place}, durable snapshot {id}");
        }
        for (snapshot, model) in &self.held {
            let seqno = snapshot.seqno();
            assert_eq!(&contents_at(snapshot), model, "{place}, snapshot at {seqno}");
        }
    }
}

/// Goal: a snapshot shows its state and nothing else, through overwrites, deletes, clears,
/// compactions, other snapshots coming and going, and, if it is durable, reopening; a deleted key
/// never returns and a live one is never lost. Method: every state is remembered and compared
/// after every step.
#[test]
fn snapshots_show_what_was_there() {
    for seed in 1..=150u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let vfs = MemVfs::new();
        let db = Some(options(&vfs).open("/store").unwrap());
        let (now, durable) = (Model::new(), BTreeMap::new());
        let mut subject = Subject { vfs, db, now, durable, held: Vec::new(), seed };
        for step in 0..80 {
            subject.step(&mut rng, step);
        }
        let check = subject.db().check().unwrap();
        assert!(check.is_ok(), "seed {seed}: {:?}", check.defects);
    }
}

/// Goal: `persist` without a change since the newest snapshot records none, in the process that
/// recorded it or a later one; with a change, a name or a time it records one. Method: the log's
/// end is looked at after each call.
#[test]
fn persisting_without_a_change_returns_the_newest_snapshot() {
    let vfs = MemVfs::new();
    let open = || options(&vfs).open("/store").unwrap();
    let mut db = open();
    db.put("a", b"k", b"1").unwrap();
    let first = db.persist().unwrap();
    let end = |db: &Db| db.stats().next_seqno;
    let after_first = end(&db);
    assert_eq!(db.persist().unwrap(), first);
    for is_closed in [true, false] {
        if is_closed {
            db.close().unwrap();
        } else {
            drop(db);
        }
        db = open();
        assert_eq!((db.persist().unwrap(), end(&db)), (first.clone(), after_first));
        db.compact_now().unwrap();
        assert_eq!((db.persist().unwrap(), end(&db)), (first.clone(), after_first));
    }
    let named = db.persist_with(PersistOptions::named("mine")).unwrap();
    assert!(named.id > first.id && end(&db) > after_first);
    let timed = db.persist_with(PersistOptions::default().at(7)).unwrap();
    assert!(timed.id > named.id, "who gives a time gets a snapshot with it");
    drop(db);
    db = open();
    let own = db.persist().unwrap();
    assert!(own.id > timed.id, "what has a time or a name may be dropped by whoever gave it");
    assert_eq!(db.persist().unwrap(), own);
    db.put("a", b"k", b"1").unwrap();
    let second = db.persist().unwrap();
    assert!(second.id > own.id);
    db.drop_snapshot(second.id).unwrap();
    let third = db.persist().unwrap();
    assert!(third.id > second.id, "the newest one that is left is of an earlier log");
    db.put("a", b"k", b"2").unwrap();
    let undo = db.rollback_to(first.id).unwrap().undo;
    drop(db);
    db = open();
    let last = db.persist().unwrap();
    assert!(last.id > undo.id, "a rollback writes behind the snapshot that it records");
    assert_eq!(db.persist().unwrap(), last);
}

/// Goal: `stats` says how much the oldest snapshot needs, however much of that later ones need as
/// well. Method: all later ones are dropped; what is kept then is kept for the oldest alone.
#[test]
fn stats_says_what_the_oldest_snapshot_needs() {
    let mut shared = 0;
    for seed in 1..=60u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let vfs = MemVfs::new();
        let db = options(&vfs).open("/store").unwrap();
        let mut held = Vec::new();
        let mut has_cleared = false;
        for step in 0..300u64 {
            let name = COLLECTIONS[rng.below(3) as usize];
            let key = [rng.below(20) as u8];
            match rng.below(60) {
                0..3 if held.len() < 6 => held.push(db.snapshot()),
                3 => drop(db.compact_now().unwrap()),
                4 if seed % 3 == 0 => {
                    has_cleared = true;
                    let mut batch = WriteBatch::new();
                    batch.clear(name).unwrap();
                    db.write(&mut batch, Durability::Buffered).unwrap();
                }
                5..10 => drop(db.delete(name, &key).unwrap()),
                _ => {
                    let value = vec![step as u8; rng.below(120) as usize];
                    db.put(name, &key, &value).unwrap();
                }
            }
        }
        let before = db.stats();
        assert!(before.oldest_snapshot_pinned <= before.oldest_snapshot_needs, "seed {seed}");
        assert!(before.oldest_snapshot_needs <= before.pinned_bytes(), "seed {seed}");
        shared += u64::from(before.oldest_snapshot_pinned < before.oldest_snapshot_needs);
        held.truncate(1);
        let after = db.stats();
        assert_eq!(after.oldest_snapshot_needs, after.oldest_snapshot_pinned, "seed {seed}");
        assert_eq!(after.oldest_snapshot_needs, after.pinned_bytes(), "seed {seed}");
        // What a clear took is handed on as a whole, with what is younger than the oldest.
        if has_cleared {
            assert!(before.oldest_snapshot_needs <= after.pinned_bytes(), "seed {seed}");
        } else {
            assert_eq!(before.oldest_snapshot_needs, after.pinned_bytes(), "seed {seed}");
        }
    }
    assert!(shared > 20, "{shared} stores only in which snapshots share what they need");
}
