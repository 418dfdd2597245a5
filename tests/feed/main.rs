//! The change feed: in the writer's process, beside it, from another process, over power cuts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod crash;
mod follow;
mod kill;
mod local;
mod long;
mod passed;

use siltstone::{BatchOp, ChangeBatch, Changes, CompactionOptions, Options, WriteBatch};

/// An operation that outlives its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put(String, Vec<u8>, Vec<u8>),
    PutExpiring(String, Vec<u8>, Vec<u8>, u64),
    Delete(String, Vec<u8>),
    Clear(String),
}

impl From<BatchOp<'_>> for Op {
    fn from(op: BatchOp<'_>) -> Self {
        match op {
            BatchOp::Put { collection, key, value } => {
                Op::Put(collection.to_owned(), key.to_vec(), value.to_vec())
            }
            BatchOp::PutExpiring { collection, key, value, expires_at } => {
                Op::PutExpiring(collection.to_owned(), key.to_vec(), value.to_vec(), expires_at)
            }
            BatchOp::Delete { collection, key } => Op::Delete(collection.to_owned(), key.to_vec()),
            BatchOp::Clear { collection } => Op::Clear(collection.to_owned()),
            BatchOp::Configure { .. } => panic!("the feed shows no options"),
        }
    }
}

/// Options of a store whose whole log stays.
pub(crate) fn plain() -> Options {
    Options::new().compaction(CompactionOptions::manual())
}

pub(crate) fn ops_of(batch: &WriteBatch) -> Vec<Op> {
    batch.ops().map(Op::from).collect()
}

pub(crate) fn seen(batch: &ChangeBatch) -> Vec<Op> {
    batch.ops().map(Op::from).collect()
}

/// Everything that can be read now.
pub(crate) fn drain(changes: &mut Changes) -> Vec<ChangeBatch> {
    std::iter::from_fn(|| changes.try_next().unwrap()).collect()
}

/// A batch of the `n`th write: puts, a deletion now and then, a clear now and then, more or less
/// bytes, in two collections.
pub(crate) fn numbered(n: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    let collection = if n.is_multiple_of(3) { "even" } else { "odd" };
    for i in 0..=n % 4 {
        let key = format!("key-{}", (n * 7 + i) % 23);
        batch.put(collection, key.as_bytes(), format!("value {n}.{i}").as_bytes()).unwrap();
    }
    if n % 5 == 2 {
        batch.delete("odd", format!("key-{}", n % 23).as_bytes()).unwrap();
    }
    if n % 17 == 11 {
        batch.clear("even").unwrap();
        batch.put("even", b"after", &n.to_le_bytes()).unwrap();
    }
    batch
}
