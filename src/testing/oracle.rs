//! The oracle: which states a store may be in after a crash.
//!
//! A [`History`] is told of every write batch when it starts, and of every promise when it is
//! made, with the moment of the simulated disk ([`SimVfs::position`], [`SimVfs::mark`]). For a
//! crash at any moment it then knows the legal states: all batches that were promised to be
//! durable, and after them any number of batches that had started, in their order, with no hole.
//!
//! [`SimVfs::position`]: super::SimVfs::position
//! [`SimVfs::mark`]: super::SimVfs::mark

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use crate::engine::{BatchOp, WriteBatch};

/// All that a store holds: values by collection and key.
pub type Contents = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// A number for the contents of a store, kept up to date at the cost of what changes. It does not
/// depend on an order. Equal for equal contents, and different for others, as good as surely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    sum: u128,
    count: u64,
}

impl Fingerprint {
    /// Takes in one key with its value.
    pub fn add(&mut self, collection: &str, key: &[u8], value: &[u8]) {
        self.sum = self.sum.wrapping_add(hash(collection, key, value));
        self.count += 1;
    }

    /// Takes out one key with its value, which must have been taken in.
    pub fn remove(&mut self, collection: &str, key: &[u8], value: &[u8]) {
        self.sum = self.sum.wrapping_sub(hash(collection, key, value));
        self.count -= 1;
    }

    /// Takes in a durable snapshot, which is not a key: its number, its name, what it shows.
    pub fn add_snapshot(&mut self, id: u64, name: Option<&str>, shown: Fingerprint) {
        let mut bytes = shown.sum.to_le_bytes().to_vec();
        bytes.extend(shown.count.to_le_bytes());
        let name = name.map_or_else(String::new, |name| format!("named {name}"));
        self.sum = self.sum.wrapping_add(hash(&name, &id.to_le_bytes(), &bytes));
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}

fn hash(collection: &str, key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Xxh3Default::new();
    for part in [collection.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest128()
}

/// Contents with their fingerprint, changed by batches: what the store should be.
#[derive(Clone, Debug, Default)]
pub struct Model {
    contents: Contents,
    print: Fingerprint,
    /// The durable snapshots by number.
    snapshots: BTreeMap<u64, Shown>,
    /// How many were ever recorded.
    recorded: u64,
}

/// A durable snapshot as it should be.
#[derive(Clone, Debug)]
struct Shown {
    name: Option<String>,
    contents: Arc<Contents>,
    print: Fingerprint,
}

impl Model {
    /// What is in it.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The fingerprint of what is in it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.print
    }

    /// The fingerprint of what is in it and of its durable snapshots, with all that they show.
    pub fn whole(&self) -> Fingerprint {
        let mut whole = self.print;
        for (id, shown) in &self.snapshots {
            whole.add_snapshot(*id, shown.name.as_deref(), shown.print);
        }
        whole
    }

    /// The numbers of the durable snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<u64> {
        self.snapshots.keys().copied().collect()
    }

    /// Records a durable snapshot. Of those without a name the newest `unnamed_max` stay. Returns
    /// its number.
    pub fn record_snapshot(&mut self, name: Option<String>, unnamed_max: usize) -> u64 {
        self.recorded += 1;
        let contents = Arc::new(self.contents.clone());
        self.snapshots.insert(self.recorded, Shown { name, contents, print: self.print });
        let unnamed = self.snapshots.iter().filter(|(_, shown)| shown.name.is_none());
        let unnamed: Vec<u64> = unnamed.map(|(id, _)| *id).collect();
        for id in unnamed.iter().rev().skip(unnamed_max) {
            self.snapshots.remove(id);
        }
        self.recorded
    }

    /// Forgets a durable snapshot.
    pub fn drop_snapshot(&mut self, id: u64) {
        self.snapshots.remove(&id);
    }

    /// Becomes what the durable snapshot `id` shows, if there is one.
    pub fn roll_back(&mut self, id: u64) {
        if let Some(shown) = self.snapshots.get(&id) {
            self.contents = Contents::clone(&shown.contents);
            self.print = shown.print;
        }
    }

    /// Sets a key.
    pub fn put(&mut self, collection: &str, key: &[u8], value: &[u8]) {
        self.delete(collection, key);
        self.print.add(collection, key, value);
        self.contents.insert((collection.to_owned(), key.to_vec()), value.to_vec());
    }

    /// Removes a key.
    pub fn delete(&mut self, collection: &str, key: &[u8]) {
        if let Some(value) = self.contents.remove(&(collection.to_owned(), key.to_vec())) {
            self.print.remove(collection, key, &value);
        }
    }

    /// Removes all keys of a collection.
    pub fn clear(&mut self, collection: &str) {
        let print = &mut self.print;
        self.contents.retain(|(name, key), value| {
            let keep = name != collection;
            if !keep {
                print.remove(name, key, value);
            }
            keep
        });
    }

    /// Does all operations of `batch`.
    pub fn apply(&mut self, batch: &WriteBatch) {
        for op in batch.ops() {
            match op {
                BatchOp::Put { collection, key, value }
                | BatchOp::PutExpiring { collection, key, value, .. } => {
                    self.put(collection, key, value);
                }
                BatchOp::Configure { .. } => {}
                BatchOp::Delete { collection, key } => self.delete(collection, key),
                BatchOp::Clear { collection } => self.clear(collection),
            }
        }
    }
}

/// The states that a store went through, and what was promised when.
#[derive(Clone, Debug)]
pub struct History {
    states: Vec<State>,
    /// Moments from which on at least this state is promised, both growing.
    promises: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
struct State {
    model: Model,
    /// The moment its batch started: it cannot be on the disk before.
    started: usize,
    /// Its batch was reported as failed: it may be there after a power cut, and nothing was built
    /// on it.
    failed: bool,
    /// The moment from which on it cannot be there.
    gone: Option<usize>,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// The history of a store that is empty, and may not even exist.
    pub fn new() -> Self {
        Self::starting_with(Model::default())
    }

    /// The history of a store that holds this, durably.
    pub fn starting_with(model: Model) -> Self {
        let state = State { model, started: 0, failed: false, gone: None };
        History { states: vec![state], promises: vec![(0, 0)] }
    }

    /// What the store holds now, if every batch that did not fail has been applied.
    pub fn now(&self) -> &Model {
        &self.states[self.current()].model
    }

    /// The number of the state that the store is in now.
    pub fn current(&self) -> usize {
        let live = self.states.iter().rposition(|state| !state.failed && state.gone.is_none());
        live.expect("the first state never fails")
    }

    /// How many states there were, the first included.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// False: there is always the state it started with.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What state number `index` held.
    pub fn state(&self, index: usize) -> &Model {
        &self.states[index].model
    }

    /// `batch` is about to be written. Returns the number of the state that it leads to.
    pub fn start(&mut self, position: usize, batch: &WriteBatch) -> usize {
        self.start_with(position, |model| model.apply(batch))
    }

    /// As [`History::start`], of whatever `change` does.
    pub fn start_with(&mut self, position: usize, change: impl FnOnce(&mut Model)) -> usize {
        let mut model = self.now().clone();
        change(&mut model);
        self.states.push(State { model, started: position, failed: false, gone: None });
        self.states.len() - 1
    }

    /// The batch that was started last has failed, and the caller was told so. A power cut may
    /// still bring it back, whole, until the next promise: what it left on the disk is wiped, and
    /// wiping is durable only with the next sync.
    pub fn fail(&mut self) {
        let current = self.current();
        if current > 0 {
            self.states[current].failed = true;
        }
    }

    /// The present state was acknowledged as durable: what failed before is gone for good.
    pub fn promise(&mut self, position: usize) {
        self.promises.push((position, self.current()));
        for state in self.states.iter_mut().filter(|state| state.failed) {
            state.gone.get_or_insert(position);
        }
    }

    /// The store was opened again and is in state `index`: newer ones are gone for good.
    pub fn reopened(&mut self, position: usize, index: usize) {
        self.states[index].failed = false;
        for state in self.states.iter_mut().skip(index + 1) {
            state.gone.get_or_insert(position);
        }
    }

    /// The numbers of the states that are legal after a crash at `cut`, oldest first.
    pub fn legal(&self, cut: usize) -> impl Iterator<Item = usize> {
        let promised = self.promises.iter().rev().find(|(position, _)| *position <= cut);
        let oldest = promised.map_or(0, |(_, index)| *index);
        (oldest..self.states.len()).filter(move |index| {
            let state = &self.states[*index];
            let begun = *index == oldest || state.started < cut;
            begun && state.gone.is_none_or(|gone| cut < gone)
        })
    }

    /// The number of the state that has this fingerprint, its durable snapshots included, and is
    /// legal after a crash at `cut`.
    pub fn find(&self, cut: usize, whole: Fingerprint) -> Option<usize> {
        self.legal(cut).find(|index| self.states[*index].model.whole() == whole)
    }

    /// Says how `contents` differs from the legal states after a crash at `cut`, for people.
    pub fn explain(&self, cut: usize, contents: &Contents) -> String {
        let legal: Vec<usize> = self.legal(cut).collect();
        let mut text = format!("legal are states {legal:?} of {}", self.states.len());
        let same = self.states.iter().rposition(|state| state.model.contents == *contents);
        if let Some(index) = same {
            let snapshots = self.states[index].model.snapshots();
            return text + &format!("; found state {index}, which has snapshots {snapshots:?}");
        }
        let nearest = legal.iter().min_by_key(|index| self.difference(**index, contents).len());
        for line in nearest.map(|index| self.difference(*index, contents)).unwrap_or_default() {
            text += "\n  ";
            text += &line;
        }
        text
    }

    /// The keys in which state `index` and `contents` differ, a line each.
    fn difference(&self, index: usize, contents: &Contents) -> Vec<String> {
        let expected = &self.states[index].model.contents;
        let shown = |value: Option<&Vec<u8>>| match value {
            Some(value) => {
                let start = value.get(..24).unwrap_or(value);
                format!("{} bytes {}", value.len(), start.escape_ascii())
            }
            None => "absent".to_owned(),
        };
        let keys =
            expected.keys().chain(contents.keys().filter(|key| !expected.contains_key(*key)));
        let differing = keys.filter(|key| expected.get(*key) != contents.get(*key));
        let line = |key: &(String, Vec<u8>)| {
            let (want, have) = (shown(expected.get(key)), shown(contents.get(key)));
            format!("{}/{}: {want} in state {index}, found {have}", key.0, key.1.escape_ascii())
        };
        differing.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put("c", key.as_bytes(), value.as_bytes()).unwrap();
        batch
    }

    #[test]
    fn window_runs_from_the_promise_to_what_has_started() {
        let mut history = History::new();
        history.start(3, &put("a", "1"));
        history.start(5, &put("b", "2"));
        history.promise(8);
        history.start(9, &put("c", "3"));
        let legal = |cut| history.legal(cut).collect::<Vec<_>>();
        assert_eq!(legal(3), [0]);
        assert_eq!(legal(4), [0, 1]);
        assert_eq!(legal(7), [0, 1, 2]);
        assert_eq!(legal(8), [2]);
        assert_eq!(legal(20), [2, 3]);
    }

    #[test]
    fn failed_batch_may_come_back_until_the_next_promise() {
        let mut history = History::new();
        history.start(0, &put("a", "1"));
        history.fail();
        history.start(5, &put("b", "2"));
        assert_eq!(history.legal(3).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(history.legal(9).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(!history.now().contents().contains_key(&("c".into(), b"a".to_vec())));
        history.promise(10);
        assert_eq!(history.legal(9).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(history.legal(10).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn fingerprint_follows_the_contents_and_not_the_way_to_them() {
        let (mut one, mut two) = (Model::default(), Model::default());
        for key in ["a", "b", "gone"] {
            one.apply(&put(key, "x"));
        }
        one.delete("c", b"gone");
        two.put("other", b"a", b"x");
        two.clear("other");
        two.apply(&put("b", "x"));
        assert_ne!(one.fingerprint(), two.fingerprint());
        two.apply(&put("a", "x"));
        assert_eq!(one.fingerprint(), two.fingerprint());
        assert_eq!(one.fingerprint().count(), 2);
    }

    #[test]
    fn explanation_names_the_keys_that_differ() {
        let mut history = History::new();
        history.start(0, &put("k", "right"));
        history.promise(2);
        let wrong = Contents::from([(("c".into(), b"k".to_vec()), b"wrong".to_vec())]);
        let text = history.explain(5, &wrong);
        assert!(text.contains("c/k") && text.contains("wrong"), "{text}");
    }
}
