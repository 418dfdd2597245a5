//! [`Deduplicator`]: which documents of a run have to be written (LlamaIndex `DocstoreStrategy`).
//!
//! A run hands in every document's id and content hash and is told whether the document is new,
//! changed or neither. Judging reads the store, so it is done on many threads, for a [`Round`] of
//! documents each; writing is done by one thread in the order of the input. A judgement that an
//! earlier round has overtaken is found out by [`Deduplicator::is_current`] and made again, so
//! that the outcome is that of judging one document after the other.

use std::collections::HashMap;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::document::DocumentStore;
use super::error::StoreError;
use crate::kv::Text;

/// What becomes of a document whose id or content is in the store already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocstoreStrategy {
    /// A document replaces the stored one of the same id, unless its hash is the same.
    #[default]
    Upserts,
    /// As [`DocstoreStrategy::Upserts`], and a new document is left out if the hash of any stored
    /// one is the same. Of several equal new ones the first is kept. (LlamaIndex leaves out a
    /// changed document too if its new content is known, and so keeps its old content.)
    DuplicatesOnly,
    /// As [`DocstoreStrategy::Upserts`], and stored documents that the run did not see are deleted.
    UpsertsAndDelete,
}

/// What to do with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its id is not in the store: add it.
    New,
    /// Its id is in the store with another hash: replace it.
    Changed,
    /// It is in the store: leave it.
    Unchanged,
    /// Its content is in the store under another id: leave it out.
    Duplicate,
}

/// Judges the documents of a run.
///
/// ```
/// # use std::sync::Arc;
/// # use siltstone::{Durability, kv::{MemoryKv, Text}, model::Node};
/// use siltstone::stores::{Deduplicator, DocstoreStrategy, DocumentStore, Verdict};
///
/// let store = DocumentStore::new(Arc::new(MemoryKv::new()));
/// let run = Deduplicator::new(&store, DocstoreStrategy::Upserts)?;
/// let document = Node::document("a.txt", "text");
/// let mut round = run.round();
/// assert_eq!(round.judge(&document.id, &document.hash()?)?, Verdict::New);
/// let judged = round.finish();
/// store.replace_ref_doc("a.txt", &[document.clone()], None, Durability::Buffered)?;
/// run.accept(judged);
/// assert_eq!(run.round().judge(&document.id, &document.hash()?)?, Verdict::Unchanged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Deduplicator {
    store: DocumentStore,
    strategy: DocstoreStrategy,
    known: Mutex<Known>,
}

/// Stands for an id or a hash, at 16 bytes: two different ones are taken for the same in one of
/// 10^20 runs over a billion documents.
type Fingerprint = u128;

/// What the rounds accepted so far have seen and done.
#[derive(Debug, Default)]
struct Known {
    /// How many rounds were accepted.
    rounds: u64,
    /// Ids that were judged, and in which round last.
    ids: HashMap<Fingerprint, u64>,
    /// Only for [`DocstoreStrategy::DuplicatesOnly`].
    hashes: HashMap<Fingerprint, Holders>,
}

/// The documents that have a hash.
#[derive(Clone, Copy, Debug, Default)]
struct Holders {
    count: i64,
    /// The round in which the count changed last.
    round: u64,
}

/// Documents that are judged and written together.
#[derive(Debug)]
pub struct Round<'a> {
    run: &'a Deduplicator,
    judged: Judged,
}

/// The outcome of a [`Round`]. Takes some 100 bytes a document.
#[derive(Debug)]
pub struct Judged {
    /// How many rounds were accepted when this one began.
    since: u64,
    /// The hash that each id has once the round is written.
    ids: HashMap<Fingerprint, Option<Text>>,
    /// By how much the number of holders of each hash that was looked at changes.
    hashes: HashMap<Fingerprint, i64>,
}

fn fingerprint(text: &Text) -> Fingerprint {
    xxh3_128(text.as_bytes())
}

impl Deduplicator {
    /// Begins a run. With [`DocstoreStrategy::DuplicatesOnly`] this reads the hashes of all
    /// stored documents, and keeps some 40 bytes for each.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn new(store: &DocumentStore, strategy: DocstoreStrategy) -> Result<Self, StoreError> {
        let mut known = Known::default();
        if strategy == DocstoreStrategy::DuplicatesOnly {
            store.for_each_source(&mut |_, hash| {
                known.hashes.entry(fingerprint(&hash)).or_default().count += 1;
                Ok(())
            })?;
        }
        Ok(Deduplicator { store: store.clone(), strategy, known: Mutex::new(known) })
    }

    /// Begins to judge documents that will be written in one batch.
    pub fn round(&self) -> Round<'_> {
        let since = self.known.lock().rounds;
        Round { run: self, judged: Judged { since, ids: HashMap::new(), hashes: HashMap::new() } }
    }

    /// False if a round that was accepted after `judged` began concerns the same documents: they
    /// must be judged again.
    pub fn is_current(&self, judged: &Judged) -> bool {
        let known = self.known.lock();
        let is_later = |round: Option<&u64>| round.is_some_and(|round| *round > judged.since);
        !judged.ids.keys().any(|id| is_later(known.ids.get(id)))
            && !judged.hashes.keys().any(|h| is_later(known.hashes.get(h).map(|h| &h.round)))
    }

    /// Notes that the documents were written as judged. Requires: [`Deduplicator::is_current`]
    /// said so before they were written, and no other round was accepted in between.
    pub fn accept(&self, judged: Judged) {
        let mut known = self.known.lock();
        known.rounds += 1;
        let round = known.rounds;
        known.ids.extend(judged.ids.into_keys().map(|id| (id, round)));
        for (hash, change) in judged.hashes.into_iter().filter(|(_, change)| *change != 0) {
            let holders = known.hashes.entry(hash).or_default();
            *holders = Holders { count: holders.count + change, round };
        }
    }

    /// The stored documents that no accepted round saw, sorted: those to be deleted at the end of
    /// a whole run with [`DocstoreStrategy::UpsertsAndDelete`]. Nodes that were cut from another
    /// document are none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn vanished(&self) -> Result<Vec<Text>, StoreError> {
        let known = self.known.lock();
        let mut vanished = Vec::new();
        self.store.for_each_source(&mut |id, _| {
            if !known.ids.contains_key(&fingerprint(&id)) {
                vanished.push(id);
            }
            Ok(())
        })?;
        vanished.sort_unstable();
        Ok(vanished)
    }
}

impl Round<'_> {
    /// Judges one document. The next one is judged as if this one were written already.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn judge(&mut self, id: &Text, hash: &Text) -> Result<Verdict, StoreError> {
        let key = fingerprint(id);
        let stored = match self.judged.ids.get(&key) {
            Some(stored) => stored.clone(),
            None => self.run.store.get_document_hash(id)?,
        };
        let verdict = match &stored {
            Some(stored) if stored == hash => Verdict::Unchanged,
            Some(_) => Verdict::Changed,
            None if self.has_holder(hash) => Verdict::Duplicate,
            None => Verdict::New,
        };
        let is_written = matches!(verdict, Verdict::New | Verdict::Changed);
        if is_written && self.run.strategy == DocstoreStrategy::DuplicatesOnly {
            if let Some(old) = &stored {
                *self.judged.hashes.entry(fingerprint(old)).or_default() -= 1;
            }
            *self.judged.hashes.entry(fingerprint(hash)).or_default() += 1;
        }
        self.judged.ids.insert(key, if is_written { Some(hash.clone()) } else { stored });
        Ok(verdict)
    }

    /// Notes that a document is part of the input although it could not be read, so that it is
    /// not taken for vanished.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn keep(&mut self, id: &Text) -> Result<(), StoreError> {
        let key = fingerprint(id);
        if !self.judged.ids.contains_key(&key) {
            let stored = self.run.store.get_document_hash(id)?;
            self.judged.ids.insert(key, stored);
        }
        Ok(())
    }

    /// Ends the round.
    pub fn finish(self) -> Judged {
        self.judged
    }

    /// True if a document has the hash.
    fn has_holder(&mut self, hash: &Text) -> bool {
        if self.run.strategy != DocstoreStrategy::DuplicatesOnly {
            return false;
        }
        let key = fingerprint(hash);
        let change = *self.judged.hashes.entry(key).or_default();
        let before = self.run.known.lock().hashes.get(&key).map_or(0, |holders| holders.count);
        before + change > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::Durability;
    use crate::kv::MemoryKv;
    use crate::model::Node;

    fn store_with(documents: &[(&str, &str)]) -> DocumentStore {
        let store = DocumentStore::new(Arc::new(MemoryKv::new()));
        for (id, text) in documents {
            put(&store, id, text);
        }
        store
    }

    fn put(store: &DocumentStore, id: &str, text: &str) {
        let chunk = Node::text(format!("{id}#0"), text).with_source(id);
        let nodes = [Node::document(id, text), chunk];
        store.replace_ref_doc(id, &nodes, None, Durability::Buffered).expect("memory");
    }

    fn hash(text: &str) -> Text {
        Node::document("", text).hash().expect("no template")
    }

    /// Judges and writes, each document in a round of its own.
    fn run(run: &Deduplicator, id: &str, text: &str) -> Verdict {
        let mut round = run.round();
        let verdict = round.judge(&id.into(), &hash(text)).expect("memory");
        let judged = round.finish();
        assert!(run.is_current(&judged));
        if matches!(verdict, Verdict::New | Verdict::Changed) {
            put(&run.store, id, text);
        }
        run.accept(judged);
        verdict
    }

    #[test]
    fn upserts_go_by_id() {
        let store = store_with(&[("a", "1"), ("b", "2")]);
        let dedup = Deduplicator::new(&store, DocstoreStrategy::Upserts).expect("memory");
        assert_eq!(run(&dedup, "a", "1"), Verdict::Unchanged);
        assert_eq!(run(&dedup, "b", "1"), Verdict::Changed);
        assert_eq!(run(&dedup, "c", "1"), Verdict::New);
        assert_eq!(run(&dedup, "c", "1"), Verdict::Unchanged);
        assert_eq!(run(&dedup, "c", "3"), Verdict::Changed);
    }

    #[test]
    fn duplicates_are_left_out_while_the_original_is_there() {
        let store = store_with(&[("a", "1")]);
        let dedup = Deduplicator::new(&store, DocstoreStrategy::DuplicatesOnly).expect("memory");
        assert_eq!(run(&dedup, "b", "1"), Verdict::Duplicate);
        assert_eq!(run(&dedup, "a", "2"), Verdict::Changed);
        assert_eq!(run(&dedup, "c", "1"), Verdict::New);
        assert_eq!(run(&dedup, "d", "1"), Verdict::Duplicate);
        assert_eq!(run(&dedup, "e", "2"), Verdict::Duplicate);
    }

    #[test]
    fn vanished_documents_are_those_that_no_round_saw() {
        let store = store_with(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        let dedup = Deduplicator::new(&store, DocstoreStrategy::UpsertsAndDelete).expect("memory");
        assert_eq!(run(&dedup, "b", "2"), Verdict::Unchanged);
        let mut round = dedup.round();
        round.keep(&"c".into()).expect("memory");
        dedup.accept(round.finish());
        assert_eq!(dedup.vanished().expect("memory"), ["a", "d"]);
    }

    /// Two rounds begin before either is written: the second must be judged again exactly if it
    /// concerns the same id, or the same content where that counts.
    #[test]
    fn an_overtaken_judgement_is_found_out() {
        for (strategy, other, text, current) in [
            (DocstoreStrategy::Upserts, "a", "2", false),
            (DocstoreStrategy::Upserts, "b", "1", true),
            (DocstoreStrategy::DuplicatesOnly, "b", "1", false),
            (DocstoreStrategy::DuplicatesOnly, "b", "2", true),
        ] {
            let store = store_with(&[]);
            let dedup = Deduplicator::new(&store, strategy).expect("memory");
            let (mut first, mut second) = (dedup.round(), dedup.round());
            first.judge(&"a".into(), &hash("1")).expect("memory");
            second.judge(&other.into(), &hash(text)).expect("memory");
            let (first, second) = (first.finish(), second.finish());
            put(&store, "a", "1");
            dedup.accept(first);
            assert_eq!(dedup.is_current(&second), current, "{strategy:?} {other} {text}");
        }
    }

    #[test]
    fn a_round_sees_its_own_documents() {
        let store = store_with(&[]);
        let dedup = Deduplicator::new(&store, DocstoreStrategy::DuplicatesOnly).expect("memory");
        let mut round = dedup.round();
        assert_eq!(round.judge(&"a".into(), &hash("1")).expect("memory"), Verdict::New);
        assert_eq!(round.judge(&"a".into(), &hash("1")).expect("memory"), Verdict::Unchanged);
        assert_eq!(round.judge(&"b".into(), &hash("1")).expect("memory"), Verdict::Duplicate);
        assert_eq!(round.judge(&"a".into(), &hash("2")).expect("memory"), Verdict::Changed);
        assert_eq!(round.judge(&"b".into(), &hash("1")).expect("memory"), Verdict::New);
    }
}
