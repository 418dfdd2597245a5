//! The policy of recovery: what an open can find, what is done about it, and how it is told.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::error::{Corruption, OpenError};

/// What an open can find. [`Case::decision`] is the whole policy of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Case {
    /// Bytes that are no whole frame follow the last one, at or above the watermark.
    TornTail,
    /// A segment's first frame does not continue the log, at or above the watermark: the frames in
    /// between were never durable.
    Gap,
    /// The log ends within a batch of several frames.
    IncompleteBatch,
    /// The log ends, or is damaged, below the watermark.
    BelowWatermark,
    /// The file of an unsealed segment is shorter than it was: its end may have held anything.
    ShortFile,
    /// Hints or footer of a sealed segment are damaged; its records are not.
    DamagedHints,
    /// A sealed segment is too short, or a record in it is damaged and its hints are too.
    DamagedSealed,
    /// A segment's header is damaged.
    DamagedHeader,
    /// A segment belongs to another store or has another id than its name says.
    ForeignSegment,
    /// A frame was written by a later open than the manifest knows.
    EpochAhead,
    /// A segment that the manifest lists is not there.
    MissingSegment,
    /// A segment that the manifest has removed is still there, or one that a compaction had not
    /// finished.
    DeadSegment,
    /// A segment that the manifest never listed is there, without records.
    UnlistedEmptySegment,
    /// A segment that the manifest never listed is there, with records.
    UnlistedSegment,
    /// The last edit of the manifest is torn.
    TornManifest,
    /// The checkpoint is damaged.
    DamagedCheckpoint,
    /// The checkpoint is whole, but not one of this store as it is: a crash can leave one that is
    /// older or newer than the manifest.
    StaleCheckpoint,
    /// There are segments but no manifest.
    MissingManifest,
    /// The records contradict each other.
    Inconsistent,
}

/// What is done about a [`Case`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Go on, report it.
    Report,
    /// Forget what follows, report it.
    Cut,
    /// Read the records instead, report it.
    Rescan,
    /// Remove the file, report it.
    Remove,
    /// Fail with the place of the damage; change nothing.
    Refuse,
}

impl Case {
    /// Every case, for tests and documentation.
    pub const ALL: [Case; 19] = [
        Case::TornTail,
        Case::Gap,
        Case::IncompleteBatch,
        Case::BelowWatermark,
        Case::ShortFile,
        Case::DamagedHints,
        Case::DamagedSealed,
        Case::DamagedHeader,
        Case::ForeignSegment,
        Case::EpochAhead,
        Case::MissingSegment,
        Case::DeadSegment,
        Case::UnlistedEmptySegment,
        Case::UnlistedSegment,
        Case::TornManifest,
        Case::DamagedCheckpoint,
        Case::StaleCheckpoint,
        Case::MissingManifest,
        Case::Inconsistent,
    ];

    /// What is done about it.
    pub fn decision(self) -> Decision {
        match self {
            Case::TornManifest | Case::DamagedCheckpoint | Case::StaleCheckpoint => {
                Decision::Report
            }
            Case::TornTail | Case::Gap | Case::IncompleteBatch => Decision::Cut,
            Case::DamagedHints => Decision::Rescan,
            Case::DeadSegment | Case::UnlistedEmptySegment => Decision::Remove,
            Case::BelowWatermark
            | Case::ShortFile
            | Case::DamagedSealed
            | Case::DamagedHeader
            | Case::ForeignSegment
            | Case::EpochAhead
            | Case::MissingSegment
            | Case::UnlistedSegment
            | Case::MissingManifest
            | Case::Inconsistent => Decision::Refuse,
        }
    }

    /// True if it is about the checkpoint, which nothing depends on.
    pub fn is_of_checkpoint(self) -> bool {
        matches!(self, Case::DamagedCheckpoint | Case::StaleCheckpoint)
    }

    /// The case in words.
    pub fn label(self) -> &'static str {
        match self {
            Case::TornTail => "torn tail",
            Case::Gap => "gap between segments",
            Case::IncompleteBatch => "incomplete batch",
            Case::BelowWatermark => "damage below the watermark",
            Case::ShortFile => "file cut short",
            Case::DamagedHints => "damaged hints",
            Case::DamagedSealed => "damaged sealed segment",
            Case::DamagedHeader => "damaged segment header",
            Case::ForeignSegment => "misplaced segment",
            Case::EpochAhead => "frame of a later open",
            Case::MissingSegment => "missing segment",
            Case::DeadSegment => "removed segment",
            Case::UnlistedEmptySegment => "unlisted empty segment",
            Case::UnlistedSegment => "unlisted segment with records",
            Case::TornManifest => "torn manifest",
            Case::DamagedCheckpoint => "damaged checkpoint",
            Case::StaleCheckpoint => "stale checkpoint",
            Case::MissingManifest => "missing manifest",
            Case::Inconsistent => "inconsistent records",
        }
    }
}

/// Something that recovery found and dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub case: Case,
    /// The file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// Details.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, file) = (self.case.label(), self.file.display());
        write!(f, "{case}: {file} at byte {}: {}", self.offset, self.what)
    }
}

/// What an open found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The store was created by this open.
    pub created: bool,
    /// The store was closed in order: nothing was written after its last close.
    pub clean: bool,
    /// Sealed segments, loaded from their hints or from the checkpoint.
    pub sealed_segments: u64,
    /// The sequence number of the checkpoint that the index was loaded from: only what is not below
    /// it was replayed. `None` if there was none, or it was ignored.
    pub checkpoint: Option<u64>,
    /// Unsealed segments, read frame by frame.
    pub tail_segments: u64,
    /// Records that the tail held.
    pub tail_records: u64,
    /// Bytes of frames that the tail held.
    pub tail_bytes: u64,
    /// Sequence number below which everything was known to be durable.
    pub watermark: u64,
    /// Sequence number after the last record recovered.
    pub next_seqno: u64,
    /// What was found and dealt with, if anything.
    pub notes: Vec<Note>,
}

impl RecoveryReport {
    /// The notes that say that bytes were cut off.
    pub fn cuts(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(|n| n.case.decision() == Decision::Cut)
    }

    /// True if nothing was found but perhaps a checkpoint that does not count.
    pub(in crate::engine) fn is_quiet(&self) -> bool {
        self.notes.iter().all(|n| n.case.is_of_checkpoint())
    }

    pub(in crate::engine) fn note(
        &mut self,
        case: Case,
        file: &Path,
        offset: u64,
        what: impl Into<String>,
    ) {
        self.notes.push(Note { case, file: file.to_owned(), offset, what: what.into() });
    }
}

/// The error that refuses an open because of `case`.
pub(in crate::engine) fn refuse(
    case: Case,
    file: &Path,
    offset: u64,
    what: impl fmt::Display,
) -> OpenError {
    let what = format!("{}: {what}", case.label());
    OpenError::Corrupt(Corruption { file: file.to_owned(), offset, what })
}
