//! Siltstone: an embedded, append-only log storage engine.
pub mod engine;
mod format;
#[cfg(feature = "stores")]
pub mod kv;
pub mod limits;
pub mod vfs;
#[cfg(feature = "stores")]
pub mod model;
pub use engine::{BatchOp, Corruption, Durability, OpenError, ReadError, WriteBatch, WriteError};
