//! What a check is told, and what it tells.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::super::error::Corruption;

/// Most defects listed in a report; more are counted only.
const DEFECTS_MAX: usize = 1000;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defect {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The sequence number of the record that is damaged, where it can be told.
    pub seqno: Option<u64>,
    /// The name of its collection, where it can be told.
    pub collection: Option<String>,
    /// Its key as it stands there: it may be what is damaged.
    pub key: Option<Vec<u8>>,
    /// What the record is, in words, if it is one of the engine's own: a durable snapshot, say.
    pub system: Option<String>,
}

impl From<Corruption> for Defect {
    fn from(place: Corruption) -> Self {
        let Corruption { file, offset, what } = place;
        Defect { file, offset, what, seqno: None, collection: None, key: None, system: None }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is corrupt at byte {}: {}", self.file.display(), self.offset, self.what)?;
        if let Some(seqno) = self.seqno {
            write!(f, ", sequence number {seqno}")?;
        }
        if let Some(system) = &self.system {
            return write!(f, ", {system}");
        }
        if let Some(key) = &self.key {
            let key: String = key.escape_ascii().to_string().chars().take(64).collect();
            write!(f, ", key \"{key}\"")?;
        }
        if let Some(name) = &self.collection {
            let link = if self.key.is_some() { "" } else { ", a record" };
            write!(f, "{link} of collection \"{}\"", name.escape_debug())?;
        }
        Ok(())
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProgress {
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes that there were to read when the check began.
    pub total_bytes: u64,
    /// Defects found so far.
    pub defects: u64,
}

/// How a check is done: how fast, and who is told.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let db = siltstone::Db::open(dir.path())?;
/// use siltstone::engine::CheckOptions;
/// use std::ops::ControlFlow;
///
/// let mut seen = 0;
/// let options = CheckOptions::new().bytes_per_second(8 << 20).progress(|p| {
///     seen = p.bytes;
///     ControlFlow::Continue(()) // or Break, to leave off
/// });
/// let report = db.check_with(options)?;
/// assert!(report.is_ok() && report.is_complete);
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct CheckOptions<'a> {
    pub(super) bytes_per_second: Option<u64>,
    pub(super) progress: Option<Box<ProgressFn<'a>>>,
}

type ProgressFn<'a> = dyn FnMut(CheckProgress) -> ControlFlow<()> + 'a;

impl<'a> CheckOptions<'a> {
    /// As fast as it goes, and nobody is told.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads at most so many bytes a second. The check sleeps for as long as each piece may take,
    /// whatever reading it took, so that it needs no clock: the rate is a bound, not an aim.
    /// Default: no bound. 0 counts as 1.
    #[must_use]
    pub fn bytes_per_second(mut self, rate: u64) -> Self {
        self.bytes_per_second = Some(rate.max(1));
        self
    }

    /// Calls `progress` after about every MiB. Where it answers `Break`, the check leaves off and
    /// the report says so.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(CheckProgress) -> ControlFlow<()> + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }
}

impl fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.bytes_per_second;
        f.debug_struct("CheckOptions").field("bytes_per_second", &rate).finish_non_exhaustive()
    }
}

/// What [`Db::check`](crate::Db::check) found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Segments read.
    pub segments: u64,
    /// Frames verified.
    pub frames: u64,
    /// Records verified.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Keys of the index that lead to a whole record of that key.
    pub keys: u64,
    /// False if the progress function made the check leave off.
    pub is_complete: bool,
    /// How many defects there are.
    pub defect_count: u64,
    /// The first of them, each with file and offset.
    pub defects: Vec<Defect>,
}

impl CheckReport {
    /// True if nothing is wrong with what was read.
    pub fn is_ok(&self) -> bool {
        self.defect_count == 0
    }

    pub(in crate::engine) fn defect(&mut self, defect: Defect) {
        self.defect_count += 1;
        if self.defects.len() < DEFECTS_MAX {
            self.defects.push(defect);
        }
    }

    /// Adds what `defect` tells to one of the same place, if that is listed.
    pub(in crate::engine) fn defect_once(&mut self, defect: Defect) {
        let is_there = |d: &&mut Defect| d.file == defect.file && d.offset == defect.offset;
        match self.defects.iter_mut().find(is_there) {
            Some(known) => {
                known.key = known.key.take().or(defect.key);
                known.collection = known.collection.take().or(defect.collection);
                known.system = known.system.take().or(defect.system);
            }
            None => self.defect(defect),
        }
    }
}
