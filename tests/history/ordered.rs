//! Keys in their order, against `BTreeMap`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use siltstone::vfs::mem::MemVfs;
use siltstone::{
    CollectionOptions, Db, Durability, Options, Range, RangeError, Snapshot, WriteBatch,
};

use super::model::{Rng, options};

type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

/// A short key of few letters, the last of all bytes among them: many share a prefix.
fn key(rng: &mut Rng) -> Vec<u8> {
    let letters = [0, b'a', b'b', 0xff];
    (0..rng.below(4)).map(|_| letters[rng.below(4) as usize]).collect()
}

fn bound(rng: &mut Rng) -> Bound<Vec<u8>> {
    match rng.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(rng)),
        _ => Bound::Excluded(key(rng)),
    }
}

/// What a tree holds within bounds, which may be empty or the wrong way round.
fn within(tree: &Tree, start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_behind = |key: &Vec<u8>| match start {
        Bound::Unbounded => true,
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
    };
    let is_before = |key: &Vec<u8>| match end {
        Bound::Unbounded => true,
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
    };
    let inside = tree.iter().filter(|(key, _)| is_behind(key) && is_before(key));
    inside.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Takes entries from both ends in a random order; the same from what is expected.
fn compare(range: Range, expected: Vec<(Vec<u8>, Vec<u8>)>, rng: &mut Rng, place: &str) {
    let (mut range, mut expected) = (range, expected.into_iter());
    let backward_percent = [0, 50, 100][rng.below(3) as usize];
    loop {
        let is_back = rng.below(100) < backward_percent;
        let got = if is_back { range.next_back() } else { range.next() };
        let want = if is_back { expected.next_back() } else { expected.next() };
        let got = got.map(|entry| entry.unwrap()).map(|e| (e.key, e.value.to_vec()));
        assert_eq!(got, want, "{place}");
        if want.is_none() {
            break;
        }
    }
    assert!(range.next().is_none() && range.next_back().is_none(), "{place}: it goes on");
}

struct Subject {
    vfs: MemVfs,
    db: Option<Db>,
    now: Tree,
    held: Vec<(Snapshot, Tree)>,
    durable: BTreeMap<u64, Tree>,
    /// Ranges that were begun and not gone through.
    begun: Vec<(Range, Vec<(Vec<u8>, Vec<u8>)>)>,
    is_ordered: bool,
}

impl Subject {
    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn write(&mut self, rng: &mut Rng, step: u64) {
        let mut batch = WriteBatch::new();
        for _ in 0..=rng.below(8) {
            let key = key(rng);
            match rng.below(16) {
                0 => {
                    batch.clear("c").unwrap();
                    self.now.clear();
                }
                1..=5 => {
                    batch.delete("c", &key).unwrap();
                    self.now.remove(&key);
                }
                _ => {
                    let value = vec![step as u8; rng.below(60) as usize];
                    batch.put("c", &key, &value).unwrap();
                    self.now.insert(key, value);
                }
            }
        }
        self.db().write(&mut batch, Durability::Buffered).unwrap();
    }

    fn step(&mut self, rng: &mut Rng, step: u64) {
        match rng.below(24) {
            0 => {
                let info = self.db().persist().unwrap();
                self.durable.insert(info.id, self.now.clone());
            }
            1 | 2 => self.held.push((self.db().snapshot(), self.now.clone())),
            3 | 4 if !self.held.is_empty() => {
                let at = rng.below(self.held.len() as u64) as usize;
                self.held.swap_remove(at);
            }
            5 if !self.durable.is_empty() => {
                let nth = rng.below(self.durable.len() as u64) as usize;
                let id = *self.durable.keys().nth(nth).unwrap();
                self.db().drop_snapshot(id).unwrap();
                self.durable.remove(&id);
            }
            6 => {
                self.held.clear();
                self.begun.clear();
                drop(self.db.take());
                self.db = Some(options(&self.vfs).open("/store").unwrap());
            }
            7 => {
                self.is_ordered = !self.is_ordered || rng.below(2) == 0;
                let ordered = CollectionOptions::new().ordered(self.is_ordered);
                self.db().configure("c", ordered).unwrap();
            }
            8 => drop(self.db().compact_now().unwrap()),
            9 if self.is_ordered => {
                let all = self.now.clone().into_iter().collect();
                self.begun.push((self.db().range("c", ..).unwrap(), all));
            }
            10 if !self.begun.is_empty() => {
                let at = rng.below(self.begun.len() as u64) as usize;
                let (range, expected) = self.begun.swap_remove(at);
                compare(range, expected, rng, &format!("step {step}, begun before"));
            }
            _ => self.write(rng, step),
        }
    }

    fn check(&self, rng: &mut Rng, place: &str) {
        let (start, end) = (bound(rng), bound(rng));
        let bounds = (start.as_ref().map(|k| &k[..]), end.as_ref().map(|k| &k[..]));
        if !self.is_ordered {
            let refused = self.db().range("c", bounds).unwrap_err();
            assert!(matches!(refused, RangeError::NotOrdered { .. }), "{place}: {refused}");
            return;
        }
        let place = format!("{place}, {bounds:?}");
        let range = self.db().range("c", bounds).unwrap();
        compare(range, within(&self.now, &start, &end), rng, &place);
        let prefix = key(rng);
        let starting = |tree: &Tree| {
            let starting = tree.iter().filter(|(key, _)| key.starts_with(&prefix));
            starting.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
        };
        let place = format!("{place}, prefix {prefix:?}");
        compare(self.db().prefix("c", &prefix).unwrap(), starting(&self.now), rng, &place);
        for (snapshot, tree) in &self.held {
            let place = format!("{place}, at {}", snapshot.seqno());
            let range = snapshot.range("c", bounds).unwrap();
            compare(range, within(tree, &start, &end), rng, &place);
            compare(snapshot.prefix("c", &prefix).unwrap(), starting(tree), rng, &place);
        }
        for (id, tree) in &self.durable {
            let place = format!("{place}, durable {id}");
            let range = self.db().open_snapshot(*id).unwrap().range("c", bounds).unwrap();
            compare(range, within(tree, &start, &end), rng, &place);
        }
    }
}

/// Goal: a walk shows what was there at its point, in order, from both ends, within any bounds,
/// through overwrites, deletes, clears, snapshots that come and go, compaction, reopening, and the
/// order being given up and built again. Method: `BTreeMap`, for every state that can be seen.
#[test]
fn ranges_agree_with_a_tree() {
    for seed in 1..=120u64 {
        let mut rng = Rng::of_seed(seed);
        let vfs = MemVfs::new();
        let db = options(&vfs).open("/store").unwrap();
        db.configure("c", CollectionOptions::new().ordered(true)).unwrap();
        let mut subject = Subject {
            vfs,
            db: Some(db),
            now: Tree::new(),
            held: Vec::new(),
            durable: BTreeMap::new(),
            begun: Vec::new(),
            is_ordered: true,
        };
        for step in 0..100 {
            subject.step(&mut rng, step);
            if rng.below(3) > 0 {
                subject.check(&mut rng, &format!("seed {seed} step {step}"));
            }
        }
    }
}

/// Goal: what snapshots need of deleted keys is given back with them.
#[test]
fn memory_follows_what_is_there() {
    let vfs = MemVfs::new();
    let db = options(&vfs).segment_len(64 << 10).open("/store").unwrap();
    let all = |db: &Db| db.range("c", ..).unwrap().count();
    let fill = |db: &Db, value: &[u8]| {
        let mut batch = WriteBatch::new();
        (0..1000u32).for_each(|n| batch.put("c", &n.to_le_bytes(), value).unwrap());
        db.write(&mut batch, Durability::Buffered).unwrap();
    };
    let empty = |db: &Db| {
        let mut batch = WriteBatch::new();
        (0..1000u32).for_each(|n| batch.delete("c", &n.to_le_bytes()).unwrap());
        db.write(&mut batch, Durability::Buffered).unwrap();
    };
    db.configure("c", CollectionOptions::new().ordered(true)).unwrap();
    fill(&db, b"1");
    assert_eq!(db.stats().ordered_bytes, 0, "nobody has asked yet");
    assert_eq!(all(&db), 1000);
    let full = db.stats().ordered_bytes;
    assert!((10_000..100_000).contains(&full), "{full} bytes for 1,000 keys of 4 bytes");
    empty(&db);
    assert_eq!((all(&db), db.stats().ordered_bytes), (0, 0), "no snapshot, no ghosts");

    // An old snapshot stays, younger ones come and go: their ghosts go with them.
    let old = db.snapshot();
    for turn in 0..5u8 {
        fill(&db, &[turn]);
        let held = db.snapshot();
        fill(&db, b"changed");
        empty(&db);
        assert_eq!(held.range("c", ..).unwrap().count(), 1000, "turn {turn}");
        assert_eq!(all(&db), 0);
        assert!(db.stats().ordered_bytes >= full, "turn {turn}: ghosts");
        drop(held);
        assert_eq!(db.stats().ordered_bytes, 0, "turn {turn}");
    }
    // Of keys that the oldest one knows too they stay.
    fill(&db, b"2");
    let older = db.snapshot();
    let younger = db.snapshot();
    empty(&db);
    drop(younger);
    assert_eq!(older.range("c", ..).unwrap().count(), 1000);
    drop(old);
    assert_eq!(older.range("c", ..).unwrap().rev().count(), 1000);
    drop(older);
    assert_eq!(db.stats().ordered_bytes, 0);
}

/// Goal: walks beside writers that delete, clear and build anew show whole batches of one moment.
/// Method: each batch moves a number from key to key, so that every state has the same ten keys
/// with one sum; walks from both sides must find them, while the order is turned off and on.
#[test]
fn walks_beside_writers_see_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().segment_len(32 << 10).open(dir.path()).unwrap();
    let ordered = CollectionOptions::new().ordered(true);
    db.configure("c", ordered).unwrap();
    let state = |generation: u64, clear: bool| {
        let mut batch = WriteBatch::new();
        if clear {
            batch.clear("c").unwrap();
        }
        for n in 0..10u64 {
            if !clear {
                let gone = format!("{:03}", (generation + 99) % 100 * 7 % 100 + n * 100);
                batch.delete("c", gone.as_bytes()).unwrap();
            }
            let key = format!("{:03}", generation % 100 * 7 % 100 + n * 100);
            batch.put("c", key.as_bytes(), &generation.to_le_bytes()).unwrap();
        }
        batch
    };
    db.write(&mut state(0, true), Durability::Buffered).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (db, is_over) = (&db, &is_over);
        scope.spawn(move || {
            for generation in 1.. {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                let clear = generation % 17 == 0;
                db.write(&mut state(generation, clear), Durability::Buffered).unwrap();
                match generation % 500 {
                    100 => {
                        db.configure("c", ordered.ordered(false)).unwrap();
                        db.configure("c", ordered).unwrap();
                    }
                    200 => drop(db.persist().unwrap()),
                    _ => {}
                }
            }
        });
        let walkers: Vec<_> = (0..3u64)
            .map(|walker| {
                scope.spawn(move || {
                    for turn in 0..400u64 {
                        let range = match db.range("c", ..) {
                            Ok(range) => range,
                            Err(RangeError::NotOrdered { .. }) => continue,
                            Err(e) => panic!("{e}"),
                        };
                        let collected: Result<Vec<_>, _> = match (walker + turn) % 2 {
                            0 => range.collect(),
                            _ => range.rev().collect(),
                        };
                        let entries = collected.unwrap();
                        let first = &entries.first().expect("ten keys").value;
                        assert_eq!(entries.len(), 10, "walker {walker} turn {turn}");
                        assert!(entries.iter().all(|e| *e.value == **first), "half a batch");
                    }
                })
            })
            .collect();
        let results: Vec<_> = walkers.into_iter().map(|walker| walker.join()).collect();
        is_over.store(true, Ordering::Release);
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert!(db.check().unwrap().is_ok());
}

#[test]
fn what_is_not_ordered_says_so() {
    let vfs = MemVfs::new();
    let db = options(&vfs).open("/store").unwrap();
    let refused = db.range("c", ..).unwrap_err().to_string();
    assert_eq!(refused, "collection \"c\" keeps no order of its keys: configure it to");
    db.put("c", b"k", b"v").unwrap();
    assert!(db.prefix("c", b"").is_err());
    // A snapshot from before the order knows it too.
    let before = db.snapshot();
    db.configure("c", CollectionOptions::new().ordered(true)).unwrap();
    db.delete("c", b"k").unwrap();
    assert_eq!(before.prefix("c", b"k").unwrap().count(), 1);
    assert_eq!(db.prefix("c", b"k").unwrap().count(), 0);
    // It stays with the store, and is there for readers of it.
    db.put("c", b"l", b"v").unwrap();
    drop((before, db));
    let reader = options(&vfs).read_only(true).open("/store").unwrap();
    let last = reader.range("c", ..).unwrap().next_back().unwrap().unwrap();
    assert_eq!(last.key, b"l");
}

/// Records that have expired are passed over, and compaction takes their keys out of the order.
#[test]
fn expired_keys_leave_the_order() {
    let vfs = MemVfs::new();
    let db = options(&vfs).time(1).open("/store").unwrap();
    db.configure("c", CollectionOptions::new().ordered(true)).unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..50u8 {
        batch.put_expiring("c", &[n], &[0; 100], u64::from(n) + 2).unwrap();
    }
    db.write(&mut batch, Durability::Buffered).unwrap();
    assert_eq!(db.range("c", ..).unwrap().count(), 50);
    db.set_time(26);
    let keys: Result<Vec<_>, _> = db.range("c", ..).unwrap().map(|e| e.map(|e| e.key)).collect();
    assert_eq!(keys.unwrap(), (25..50).map(|n: u8| vec![n]).collect::<Vec<_>>());
    let before = db.stats().ordered_bytes;
    for n in 0..40u8 {
        db.put("other", &[n], &[0; 100]).unwrap();
    }
    db.compact_now().unwrap();
    let after = db.stats().ordered_bytes;
    assert!(after < before, "{after} of {before} bytes are left");
    assert_eq!(db.range("c", ..).unwrap().count(), 25);
}
