//! Random histories of puts, expiring puts, deletes, clears, options, times, compactions,
//! snapshots, closes and kills, against a map that knows what must be there.

use std::collections::BTreeMap;
use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{CollectionOptions, Compression, Db, Durability, Options, Snapshot, WriteBatch};

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

type Key = (&'static str, Vec<u8>);
/// Values, and when they expire.
type Contents = BTreeMap<Key, (Vec<u8>, Option<u64>)>;

struct World {
    vfs: MemVfs,
    db: Option<Db>,
    now: u64,
    contents: Contents,
    options: BTreeMap<&'static str, CollectionOptions>,
    held: Vec<(Snapshot, Contents)>,
}

const KEYS: u64 = 30;
const COLLECTIONS: [&str; 3] = ["a", "b", "c"];

fn value(rng: &mut Rng) -> Vec<u8> {
    let words = ["silt", "sand", "clay", "loam", "gravel", "marl", "chalk", "flint"];
    let mut text = format!("value {}:", rng.below(1 << 40));
    for _ in 0..rng.below(12) {
        text += " layers of ";
        text += words[rng.below(8) as usize];
    }
    text.into_bytes()
}

impl World {
    fn new(vfs: MemVfs) -> Self {
        let mut world = World {
            vfs,
            db: None,
            now: 0,
            contents: Contents::new(),
            options: BTreeMap::new(),
            held: Vec::new(),
        };
        world.open(0);
        world
    }

    fn open(&mut self, time: u64) {
        let options = Options::new()
            .vfs(Arc::new(self.vfs.clone()))
            .segment_len(4096)
            .dictionary_records(10)
            .inline_maintenance(true)
            .time(time);
        self.db = Some(options.open("/s").unwrap());
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn step(&mut self, rng: &mut Rng) {
        let collection = COLLECTIONS[rng.below(3) as usize];
        match rng.below(100) {
            0..60 => self.write(rng),
            60..66 => {
                self.now += rng.below(40);
                self.db().set_time(self.now);
            }
            66..76 => drop(self.db().compact_now().unwrap()),
            76..80 => {
                let kinds = [Compression::Off, Compression::Lz4, Compression::Dictionary];
                let compression = kinds[rng.below(3) as usize];
                let compression =
                    if cfg!(feature = "compression") { compression } else { Compression::Off };
                let options =
                    CollectionOptions::new().compression(compression).ordered(rng.below(2) == 0);
                self.db().configure(collection, options).unwrap();
                self.options.insert(collection, options);
            }
            80..86 => {
                if self.held.len() < 3 {
                    self.held.push((self.db().snapshot(), self.contents.clone()));
                } else {
                    self.held.remove(rng.below(3) as usize);
                }
            }
            86..92 => {
                self.db().persist().unwrap();
            }
            92..97 => {
                self.held.clear();
                self.db.take().unwrap().close().unwrap();
                // The time was kept.
                self.open(0);
                assert_eq!(self.db().time(), self.now);
            }
            _ => {
                let copy = MemVfs::new();
                for (path, bytes) in self.vfs.snapshot() {
                    copy.put(path, bytes);
                }
                self.held.clear();
                self.db = None;
                self.vfs = copy;
                self.open(self.now);
            }
        }
        self.compare();
    }

    fn write(&mut self, rng: &mut Rng) {
        let mut batch = WriteBatch::new();
        for _ in 0..1 + rng.below(12) {
            let collection = COLLECTIONS[rng.below(3) as usize];
            let key = format!("key-{}", rng.below(KEYS)).into_bytes();
            let value = value(rng);
            let place = (collection, key);
            match rng.below(20) {
                0..9 => {
                    batch.put(collection, &place.1, &value).unwrap();
                    self.contents.insert(place, (value, None));
                }
                9..15 => {
                    let time = (self.now + rng.below(60)).saturating_sub(5);
                    batch.put_expiring(collection, &place.1, &value, time).unwrap();
                    self.contents.insert(place, (value, Some(time)));
                }
                15..19 => {
                    batch.delete(collection, &place.1).unwrap();
                    self.contents.remove(&place);
                }
                _ => {
                    batch.clear(collection).unwrap();
                    self.contents.retain(|(of, _), _| *of != collection);
                }
            }
        }
        let durability = [Durability::Buffered, Durability::Sync][rng.below(2) as usize];
        self.db().write(&mut batch, durability).unwrap();
    }

    fn compare(&self) {
        let is_there = |(_, (_, time)): &(&Key, &(Vec<u8>, Option<u64>))| {
            time.is_none_or(|time| time > self.now)
        };
        for collection in COLLECTIONS {
            let of = |contents: &Contents| -> BTreeMap<Vec<u8>, Vec<u8>> {
                contents
                    .iter()
                    .filter(|((name, _), _)| *name == collection)
                    .filter(is_there)
                    .map(|((_, key), (value, _))| (key.clone(), value.clone()))
                    .collect()
            };
            let all = |entries: siltstone::engine::Iter| -> BTreeMap<Vec<u8>, Vec<u8>> {
                entries.map(Result::unwrap).map(|e| (e.key, e.value.to_vec())).collect()
            };
            assert_eq!(all(self.db().iter(collection)), of(&self.contents));
            for i in 0..KEYS {
                let key = format!("key-{i}").into_bytes();
                let expected = of(&self.contents).remove(&key);
                let got = self.db().get(collection, &key).unwrap();
                assert_eq!(got.as_deref(), expected.as_deref(), "{collection} key-{i}");
                assert_eq!(self.db().contains(collection, &key).unwrap(), expected.is_some());
                for (snapshot, contents) in &self.held {
                    let got = snapshot.get(collection, &key).unwrap();
                    assert_eq!(got.as_deref(), of(contents).get(&key).map(Vec::as_slice));
                }
            }
            assert!(self.db().len(collection) >= of(&self.contents).len() as u64);
            for (snapshot, contents) in &self.held {
                assert_eq!(all(snapshot.iter(collection)), of(contents));
                assert!(snapshot.len(collection) >= of(contents).len() as u64);
            }
            let options = self.options.get(collection).copied().unwrap_or_default();
            assert_eq!(self.db().collection_options(collection), options);
        }
    }
}

/// What a run has made use of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) compressed: u64,
    pub(crate) decompressed: u64,
    pub(crate) dictionaries: u64,
}

/// Runs the history that follows from `seed`.
///
/// # Panics
///
/// If anything is there that must not be, or the other way round.
pub(crate) fn run(seed: u64) -> Used {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut world = World::new(MemVfs::new());
    for _ in 0..150 {
        world.step(&mut rng);
    }
    let check = world.db().check().unwrap();
    assert!(check.is_ok(), "{:?}", check.defects);
    let mut used = Used::default();
    for stats in world.db().stats().compression {
        used.compressed += stats.compressed;
        used.decompressed += stats.decompressed;
        used.dictionaries += stats.dictionaries;
    }
    // At the end of all time nothing that expires is left, not even in the count.
    world.now = u64::MAX;
    world.db().set_time(u64::MAX);
    world.held.clear();
    world.db().compact_now().unwrap();
    world.compare();
    for collection in COLLECTIONS {
        let left = world.contents.iter().filter(|((of, _), _)| *of == collection);
        let left = left.filter(|(_, (_, time))| time.is_none()).count() as u64;
        assert_eq!(world.db().len(collection), left);
    }
    used
}
