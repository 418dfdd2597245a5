//! What a store should hold, and how two such states differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{CollectionDiff, Db, Diff, Options, Retention, Snapshot};

/// Values, and when they expire, by collection and key.
pub(crate) type Model = BTreeMap<(String, Vec<u8>), (Vec<u8>, Option<u64>)>;

/// A small generator, so that a failure is its seed.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn of_seed(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(crate) fn options(vfs: &MemVfs) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .segment_len(1024)
        .inline_maintenance(true)
        .retention(Retention::count(100))
        .store_id(*b"siltstone-tests!")
}

/// What of `model` can be seen at the time `now`.
pub(crate) fn visible(model: &Model, now: u64) -> Model {
    let is_seen = |(_, expires): &(Vec<u8>, Option<u64>)| expires.is_none_or(|at| at > now);
    model.iter().filter(|(_, v)| is_seen(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The values of a model, as a reader sees them.
pub(crate) fn values(model: &Model, now: u64) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    visible(model, now).into_iter().map(|(key, (value, _))| (key, value)).collect()
}

pub(crate) fn contents(db: &Db) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for (name, _) in db.collections() {
        for entry in db.iter(&name) {
            let entry = entry.unwrap();
            all.insert((name.clone(), entry.key), entry.value.to_vec());
        }
    }
    all
}

pub(crate) fn contents_at(snapshot: &Snapshot) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for (name, _) in snapshot.collections() {
        for entry in snapshot.iter(&name) {
            let entry = entry.unwrap();
            all.insert((name.clone(), entry.key), entry.value.to_vec());
        }
    }
    all
}

/// Added, changed and deleted keys of a collection.
pub(crate) type Lists = [Vec<Vec<u8>>; 3];

/// The differences between two models by name: what a diff must say.
pub(crate) fn expected(from: &Model, to: &Model, now: u64) -> BTreeMap<String, Lists> {
    let (from, to) = (visible(from, now), visible(to, now));
    let mut all: BTreeMap<String, Lists> = BTreeMap::new();
    for ((name, key), value) in &to {
        let list = match from.get(&(name.clone(), key.clone())) {
            None => 0,
            Some(old) if old != value => 1,
            Some(_) => continue,
        };
        all.entry(name.clone()).or_default()[list].push(key.clone());
    }
    for (name, key) in from.keys().filter(|key| !to.contains_key(*key)) {
        all.entry(name.clone()).or_default()[2].push(key.clone());
    }
    all
}

/// The same from a diff.
pub(crate) fn found(diff: &Diff) -> BTreeMap<String, Lists> {
    let lists = |c: &CollectionDiff| [c.added.clone(), c.changed.clone(), c.deleted.clone()];
    diff.collections.iter().map(|c| (c.name.clone(), lists(c))).collect()
}
