//! The storage engine: an append-only log that is the data, and an index of it in memory.
//!
//! Read [`Db::write`] for the write path (`commit.rs`), [`Db::get`] for the read path (`read.rs`),
//! [`Db::open_with`] for the open path (`open.rs`, `recovery/mod.rs`, `tail.rs`, `load.rs`).

mod backup;
mod batch;
mod catalog;
mod check;
mod checkpoint;
mod clock;
mod commit;
mod compaction;
mod compression;
mod core;
mod db;
mod diff;
mod durable;
mod error;
mod feed;
mod iter;
mod load;
mod maintenance;
mod manifest;
mod open;
mod options;
mod ordered;
mod pending;
mod points;
mod poison;
mod range;
mod read;
mod recovery;
mod repair;
mod replay;
mod rescan;
mod rollback;
mod segments;
mod snapshot;
mod stats;
mod sync;
mod system;
mod tail;
mod update;
mod value;

pub use crate::format::config::{CollectionOptions, Compression};
#[cfg(feature = "stores")]
pub(crate) use backup::store_around;
pub use backup::{BackupError, BackupOptions, BackupProgress, BackupReport};
#[cfg(feature = "object-store")]
pub(crate) use backup::{Frozen, FrozenSegment, Receiver};
pub use batch::{BatchOp, WriteBatch};
pub use check::{CheckOptions, CheckProgress, CheckReport, Defect};
pub use commit::Commit;
pub use compaction::CompactionReport;
pub use compression::{CompressionStats, StoredValues};
pub use db::{Collection, Db};
pub use diff::{CollectionDiff, Diff};
pub use durable::{PersistOptions, SnapshotInfo};
pub use error::{Corruption, OpenError, ReadError, SnapshotError, WriteError};
pub use feed::{ChangeBatch, Changes, FeedError, FeedOptions, FeedPosition, ParsePositionError};
pub use iter::{Entry, Iter};
#[cfg(feature = "stores")]
pub(crate) use open::is_store_file;
pub use options::{CompactionOptions, Durability, Options, ReadMode, Retention, Verify};
pub use pending::Pending;
pub(crate) use pending::{Completer, join, pending};
pub use range::{Range, RangeError};
pub use read::ValueRef;
pub use recovery::{Case, Decision, Note, RecoveryReport};
pub use repair::{
    After, IncompleteBatch, InspectedRecord, InspectedSegment, Inspection, Item, LostKey,
    LostRange, LostRecord, RecordKind, RepairError, RepairOptions, RepairProgress, RepairReport,
    UnsureRecord, inspect, inspect_segment, repair,
};
pub use rollback::Rollback;
pub use snapshot::Snapshot;
pub use stats::{SegmentStats, Stats};
pub use update::{Current, Update, UpdateError, Updated};
