//! Siltstone: an embedded, append-only log storage engine.

#[macro_use]
mod planted;

#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
mod format;
mod index;
#[cfg(feature = "stores")]
pub mod kv;
pub mod limits;
#[cfg(feature = "stores")]
pub mod model;
mod sink;
#[cfg(feature = "stores")]
pub mod stores;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vfs;

pub use engine::{
    BatchOp, Collection, Commit, Corruption, Db, Durability, Entry, OpenError, Options, Pending,
    ReadError, ReadMode, RecoveryReport, Stats, ValueRef, Verify, WriteBatch, WriteError,
};
pub use sink::{Sink, SinkOptions};
