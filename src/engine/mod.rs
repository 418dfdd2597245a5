//! The storage engine: an append-only log that is the data, and an index of it in memory.
//!
//! Read [`Db::write`] for the write path (`commit.rs`), [`Db::get`] for the read path (`read.rs`),
//! [`Db::open_with`] for the open path (`open.rs`, `recovery.rs`, `tail.rs`, `load.rs`).

mod batch;
mod catalog;
mod check;
mod clock;
mod commit;
mod compression;
mod core;
mod db;
mod error;
mod iter;
mod load;
mod maintenance;
mod manifest;
mod open;
mod options;
mod pending;
mod poison;
mod read;
mod recovery;
mod segments;
mod stats;
mod sync;
mod tail;
mod value;

pub use crate::format::config::{CollectionOptions, Compression};
pub use batch::{BatchOp, WriteBatch};
pub use check::{CheckOptions, CheckProgress, CheckReport, Defect};
pub use commit::Commit;
pub use db::{Collection, Db};
pub use error::{Corruption, OpenError, ReadError, WriteError};
pub use iter::{Entry, Iter};
pub use options::{Durability, Options, ReadMode, Verify};
pub use pending::Pending;
pub(crate) use pending::{Completer, join, pending};
pub use read::ValueRef;
pub use recovery::{Case, Decision, Note, RecoveryReport};
pub use stats::{SegmentStats, Stats};
