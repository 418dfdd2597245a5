//! Siltstone: an embedded, append-only log storage engine.
#[macro_use]
mod planted;
pub mod engine;
mod format;
pub mod limits;
pub mod vfs;
#[cfg(feature = "stores")]
pub mod kv;
#[cfg(feature = "testing")]
pub mod testing;
pub use engine::{BatchOp, Corruption, Durability, OpenError, ReadError, WriteBatch, WriteError};
