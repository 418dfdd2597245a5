//! Planted bugs: known mistakes that a test build can switch on, one at a time, to show that the
//! tests would catch them.
//!
//! Engine code asks `planted!(Name)` where the mistake would be made. Without the feature
//! `testing` that is the constant `false`, and the mistake is not compiled in.

/// True if the planted bug of this name is switched on for the running thread.
#[cfg(feature = "testing")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_on($crate::planted::Bug::$bug)
    };
}

/// False: a build without the feature `testing` has no planted bugs.
#[cfg(not(feature = "testing"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

#[cfg(feature = "testing")]
pub use registry::{Bug, SwitchedOn, is_on, switch_on};

#[cfg(feature = "testing")]
mod registry {
    use std::cell::Cell;

    thread_local! {
        /// One bit for each bug, so that tests that run side by side do not meet.
        static ON: Cell<u128> = const { Cell::new(0) };
    }

    /// Declares the bugs, so that the list of all of them cannot miss one.
    macro_rules! bugs {
        ($($(#[$doc:meta])* $name:ident,)*) => {
            /// A mistake that real stores have made. What each one does is said at the place in
            /// the engine that asks for it.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[non_exhaustive]
            pub enum Bug {
                $($(#[$doc])* $name,)*
            }

            impl Bug {
                /// Every bug there is.
                pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];
            }
        };
    }

    bugs! {
        /// The directory is not synced after a segment was created.
        NewSegmentDirNotSynced,
        /// The directories above a new store are not synced.
        DirsAboveNotSynced,
        /// The directory is not synced after a new manifest was renamed into place.
        RenameDirNotSynced,
        /// A new manifest is renamed into place before its bytes are synced.
        RenameBeforeSync,
        /// A failed sync of the manifest is taken for a good one.
        ManifestSyncErrorIgnored,
        /// A manifest that only the page cache holds is built upon.
        RecoveredManifestNotSynced,
        /// A segment is listed as sealed before its footer is synced.
        SealNotSynced,
        /// Recovery takes a batch whose last frame is missing.
        UnfinishedBatchAccepted,
        /// Recovery takes a frame whose records are not right.
        TornBatchAccepted,
        /// Recovery does not verify keys and values.
        BodyNotVerified,
        /// Recovery leaves the torn tail in place and appends over it.
        TornTailNotCut,
        /// Recovery cuts a segment whose longer length stays on record.
        LengthNotNoted,
        /// Zeros at the end of a preallocated segment are taken for damage.
        ZeroTailIsDamage,
        /// A gap in the sequence numbers is not noticed: replay goes on behind a hole.
        SequenceGapAccepted,
        /// Damage below the watermark is cut as if it were a torn tail.
        WatermarkIgnored,
        /// The watermark that is written counts records that were not yet synced.
        WatermarkTooHigh,
        /// The torn tail is cut and the report does not say so.
        CutNotReported,
        /// A segment that has lost its end, and the watermarks in it, is taken as it is.
        ShortFileAccepted,
        /// A missing segment is not noticed.
        MissingSegmentAccepted,
        /// After a half write, the next append goes behind the garbage.
        HalfWriteNotRewound,
        /// A write that was reported as failed is found by the next open.
        FailedWriteAppears,
        /// A write with `Sync` is acknowledged without a sync.
        SyncSkipped,
        /// A sync of the newest segment acknowledges records of an older one that is not synced.
        SyncMissesOlderSegment,
        /// A failed sync is tried again, and the second answer believed.
        FailedSyncRetried,
        /// A failed sync is reported to its caller, and later writes are taken as if nothing was.
        FailedSyncForgotten,
        /// An error of the sync is dropped.
        SyncErrorIgnored,
        /// Recovered records are built upon before they were synced.
        RecoveredTailNotSynced,
        /// The checksum of hints is not verified.
        HintChecksumIgnored,
        /// Hints forget tombstones: deleted keys come back.
        HintDropsTombstones,
        /// A short read is taken for the end of the file.
        ShortReadIsEnd,
        /// A full disk makes the store refuse writes until it is reopened.
        FullDiskSticks,
        /// A read hands out a value without verifying it.
        ReadNotVerified,
        /// A key that is damaged is taken for another one: its record is not found.
        DamagedKeyIsAbsent,
        /// An open goes on from a checkpoint and forgets what the log holds after it.
        CheckpointTrustedOverLog,
        /// A checkpoint is renamed into place before its bytes are synced.
        CheckpointRenamedBeforeSync,
        /// A checkpoint is put in place before the log that it speaks of is durable.
        CheckpointBeforeLog,
        /// What compaction has moved since a checkpoint is not found again.
        RelocationSkipped,
        /// A clear forgets that older records of its collection are gone when the store is
        /// reopened.
        ClearForgottenOnReplay,
        /// The change feed delivers a part of a batch.
        FeedHalfBatch,
        /// The change feed delivers a batch that was given up, as a part of the next one.
        FeedGivenUpDelivered,
        /// The change feed delivers what is not durable as if it were.
        FeedBeyondWatermark,
        /// The change feed goes on from a position of a history that was lost.
        FeedMarkIgnored,
        /// A feed whose next batches compaction has taken says that the log is damaged.
        FeedPassedIsDamage,
        /// The time that records expire by is forgotten when the store is closed.
        TimeNotKept,
        /// Compaction drops an expired record that hides an older one of its key.
        ExpiredHidesNothing,
        /// Compaction drops a dictionary that values were compressed with.
        DictionaryDropped,
        /// Frames behind the place where a log was closed are taken for its own.
        FramesBehindCloseCount,
        /// Frames of a later epoch than the manifest knows are taken for what a backup that was
        /// interrupted has brought.
        LostEditsIgnored,
        /// A backup's manifest is written before its segments are synced.
        BackupNotSynced,
        /// A backup removes what only the earlier one lists before its own manifest is durable.
        LeftoversGoFirst,
        /// A segment that the earlier backup lists as unsealed is replaced by a link.
        TailLinked,
        /// A compacted segment is listed before it is synced.
        CompactedNotSynced,
        /// The directory is not synced before compacted segments are listed.
        CompactedDirNotSynced,
        /// Compaction drops what was overwritten by records that are not durable yet.
        CompactionDropsBeforeSync,
        /// Compaction drops old versions that snapshots need.
        CompactionForgetsSnapshots,
        /// Compaction drops tombstones while older records of their keys are still there.
        TombstonesDroppedTooSoon,
        /// The inputs of a compaction are removed before the manifest lists its outputs.
        InputsGoBeforeTheEdit,
        /// Compaction leads a key to the record it moved, although the key was written meanwhile.
        SwingIgnoresOverwrites,
        /// The index is loaded in the order of the files, not of the sequence numbers.
        ReplayInFileOrder,
        /// Compaction gives the records that it moves new, higher sequence numbers.
        CompactionRenumbers,
        /// The inputs of a compaction that failed are taken out of the store all the same.
        FailedMergeTakesInputs,
        /// Compaction lists its outputs in one edit of the manifest and its inputs as gone in an
        /// earlier one.
        CompactionEditInTwo,
        /// Compaction drops a clearing while older records of its collection are still there.
        ClearsDroppedTooSoon,
        /// Compaction moves the records that snapshots need and does not tell them where to.
        BooksNotSwung,
        /// Compaction does not use the reserve when the device is full.
        ReserveNotUsed,
        /// Compaction leaves an expired record, overwritten meanwhile, in the snapshots' books.
        ExpiredStaysInBooks,
        /// The log takes the room of a device that compaction needs to give some back.
        LogTakesAllRoom,
        /// Compaction's plans do not know of segments that are damaged.
        PlanForgetsDamaged,
        /// Compaction takes what it can read of a damaged segment for all that stands there, and
        /// drops the tombstones of what it cannot read.
        DamageHidesNothing,
        /// Compaction takes records for dead that the index leads to and its hints do not name.
        UnnamedIsDead,
        /// Hints count that have the number of a record of another segment.
        HintsOfOthersCount,
        /// Frames of a sealed segment count that have the numbers of another one's.
        FramesOfOthersCount,
        /// A paused compaction begins other runs all the same.
        PauseIgnored,
        /// The id of a segment that left the store is given to a new one.
        SegmentIdReused,
        /// A reader asks for the segments after the index, and does not look whether one left.
        SegmentsPinnedLate,
        /// A snapshot reads the index and the books while compaction leads keys to new places.
        ReadWhileSwung,
        /// A rollback writes its changes one by one.
        RollbackInPieces,
        /// What a clearing took is not counted as changed: a rollback does not bring it back.
        DiffMissesClears,
        /// An update does not look again whether its key is still what it was computed from.
        UpdateNotChecked,
        /// A repair removes damaged segments before the new manifest is durable.
        RepairRemovesFirst,
        /// A repair says nothing of what is lost.
        RepairKeepsQuiet,
        /// A repair lists a segment that it has not synced.
        RepairSegmentNotSynced,
        /// A deleted key leaves the ordered set although a snapshot still knows it.
        NoGhosts,
        /// A writer takes a lock that nobody else asks for.
        LockNotShared,
        /// A store that is closed is unlocked before compaction has ended and the log is closed.
        LockGoesFirst,
        /// The lock file that a dead process left is taken for its lock.
        StaleLockHolds,
        /// Whether a sync has failed is asked before the log is locked only.
        PoisonCheckedTooSoon,
        /// Files that other programs put beside the segments are taken for segments.
        ForeignFilesCount,
        /// A segment is listed, with its length, before that is durable.
        NewSegmentNotSynced,
        /// A failed sync of what compaction wrote is taken for a good one.
        CompactedSyncErrorIgnored,
        /// The checksums of a checkpoint are not verified.
        CheckpointChecksumIgnored,
    }

    /// True if `bug` is switched on for the running thread.
    pub fn is_on(bug: Bug) -> bool {
        ON.get() & (1 << bug as u32) != 0
    }

    /// Switches `bug` on for the running thread until the answer is dropped.
    #[must_use = "the bug is off again when this is dropped"]
    pub fn switch_on(bug: Bug) -> SwitchedOn {
        let before = ON.get();
        ON.set(before | 1 << bug as u32);
        SwitchedOn { before }
    }

    /// Keeps a planted bug switched on; see [`switch_on`].
    #[derive(Debug)]
    pub struct SwitchedOn {
        before: u128,
    }

    impl Drop for SwitchedOn {
        fn drop(&mut self) {
            ON.set(self.before);
        }
    }

    const _: () = assert!(Bug::ALL.len() <= 128, "one bit each");
}
