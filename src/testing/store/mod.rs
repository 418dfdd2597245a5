//! Crash, damage and fault tests of the store itself: workloads made from a seed, run on a
//! [`SimVfs`](super::SimVfs), and looked at from every side. What the tests of this repository do
//! is here, so that fuzz targets and planted bugs go through the same code.

mod backup;
mod checkpoint;
mod crash;
mod damage;
mod during;
mod faults;
mod feed;
mod full;
mod repair;
mod resign;
mod rollback;
mod run;
mod workload;

pub use backup::{BackupTally, BackupTest};
pub use checkpoint::{CheckpointTally, CheckpointTest};
pub use crash::{CrashTest, Tally};
pub use damage::{Damage, Outcomes, Specimen};
pub use faults::{FaultTally, FaultTest, Moment};
pub use feed::{FeedTally, FeedTest};
pub use full::{full_disk_is_left_by_compaction, full_disk_never_sticks};
pub use repair::{RepairOutcomes, RepairTally, RepairTest};
pub use resign::resign;
pub use rollback::RollbackTest;
pub use run::{Part, Run, Violation, contents_of, fingerprint_of, whole_of};
pub use workload::{Setup, Step, Workload};
