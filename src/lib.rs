//! Siltstone: an embedded, append-only log storage engine for LLM and RAG ingestion pipelines,
//! with LlamaIndex's storage layer on top.
//!
//! One store is one directory is one log, and the log is the data: every byte is written once,
//! the index lives in memory at about 17 bytes a key, and a write batch over any number of
//! collections is atomic, also across a power cut.
//!
//! # Quick start
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use siltstone::{Db, Durability, WriteBatch};
//!
//! let db = Db::open(dir.path())?;
//! let mut batch = WriteBatch::new();
//! batch.put("chunks", b"doc-1#0", b"Sedimentary rock made of silt.")?;
//! batch.put("hashes", b"doc-1", b"\x9a\x1c")?;
//! db.write(&mut batch, Durability::Sync)?; // both or none, on the device once this returns
//!
//! let chunk = db.get("chunks", b"doc-1#0")?.ok_or("not there")?;
//! assert!(chunk.starts_with(b"Sedimentary"));
//! # Ok(()) }
//! ```
//!
//! # What is where
//!
//! - [`Db`], [`WriteBatch`], [`Options`]: the engine, over bytes.
//! - [`Sink`]: many producers, one log, back-pressure, a ticket for each record.
#![cfg_attr(
    feature = "stores",
    doc = "- [`kv`]: the [`kv::KvStore`] seam and its two backends; [`model`]: LlamaIndex's nodes;",
    doc = "  [`stores`]: the document store; [`context`]: all stores over one log;",
    doc = "  [`transfer`]: import and export of what LlamaIndex persists."
)]
//! - [`vfs`]: the file-system seam; [`limits`]: every bound.
#![cfg_attr(
    feature = "testing",
    doc = "- [`testing`]: a disk that crashes and fails, to test your own code on."
)]
//!
//! # What is promised
//!
//! - A batch is there as a whole or not at all, after any crash.
//! - [`Durability::Sync`] survives a power cut once the call returned; [`Durability::Buffered`]
//!   survives the death of the process. What a power cut takes is always an end of the history.
//! - Damaged bytes are never returned as data. A torn tail is cut and reported in the
//!   [`RecoveryReport`]; damage to acknowledged data refuses the open, with file and offset.
//! - A failed sync is never taken for a success: the store refuses writes until it is reopened.
//! - A full device loses nothing, and the store goes on when there is space again.
//! - No panic on any input, any state of the disk, any I/O error.
//!
//! What is not promised stands in DESIGN.md, section 14.
//!
//! # Features
//!
//! - `stores` (default): values, nodes, the document store, the storage context.
//! - `compression` (default): collections that are stored compressed, see [`Compression`].
//! - `cli`: the `siltstone` program.
//! - `object-store`: backups in object stores.
//! - `testing`: the simulated disk, fault injection, oracles, the conformance suite.

#[macro_use]
mod observed;
#[macro_use]
mod planted;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "stores")]
pub mod context;
pub mod engine;
mod format;
mod index;
#[cfg(feature = "stores")]
pub mod kv;
pub mod limits;
#[cfg(feature = "stores")]
pub mod model;
#[cfg(feature = "object-store")]
pub mod remote;
mod sink;
#[cfg(feature = "stores")]
pub mod stores;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "stores")]
pub mod transfer;
pub mod vfs;

#[cfg(feature = "stores")]
pub use context::StorageContext;
pub use engine::{
    BackupError, BackupOptions, BackupProgress, BackupReport, BatchOp, Collection,
    CollectionOptions, Commit, CompactionOptions, CompactionReport, Compression, Corruption, Db,
    Durability, Entry, OpenError, Options, Pending, PersistOptions, ReadError, ReadMode,
    RecoveryReport, Retention, Snapshot, SnapshotError, SnapshotInfo, Stats, ValueRef, Verify,
    WriteBatch, WriteError,
};
pub use engine::{ChangeBatch, Changes, FeedError, FeedOptions, FeedPosition, ParsePositionError};
pub use engine::{
    CollectionDiff, Current, Diff, Range, RangeError, Rollback, Update, UpdateError, Updated,
};
pub use sink::{Sink, SinkOptions};
