//! What a repair is told, and what it tells.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::check::Defect;
use super::super::error::OpenError;
use crate::vfs::os::OsVfs;
use crate::vfs::{IoError, Vfs};

/// How far a repair has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairProgress {
    /// False while the store is looked through, true while the repaired one is checked, which
    /// counts anew.
    pub is_proving: bool,
    /// Bytes of segments that were read.
    pub bytes_done: u64,
    /// Bytes of segments that there are.
    pub bytes_total: u64,
}

type ProgressFn = dyn Fn(&RepairProgress) + Send + Sync;

/// How a repair is done.
///
/// ```
/// use siltstone::engine::RepairOptions;
///
/// let look_only = RepairOptions::new().dry_run(true);
/// # let _ = look_only;
/// ```
#[derive(Clone)]
pub struct RepairOptions {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dry_run: bool,
    pub(super) names: Vec<(u32, String)>,
    progress: Option<Arc<ProgressFn>>,
}

impl Default for RepairOptions {
    fn default() -> Self {
        RepairOptions { vfs: Arc::new(OsVfs), dry_run: false, names: Vec::new(), progress: None }
    }
}

impl RepairOptions {
    /// Repairs on the real file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file system that the store is on. Default: the real one.
    #[must_use]
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// Looks and reports, and changes nothing; takes no lock, so that beside a writer it may take
    /// what is just being written for damage. Default: no.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// The name of the collection with this id, to be used if the record that held its name is
    /// lost. Default: `recovered-` and the id.
    #[must_use]
    pub fn collection_name(mut self, id: u32, name: impl Into<String>) -> Self {
        self.names.push((id, name.into()));
        self
    }

    /// Is called after each piece that was read. Default: nothing.
    #[must_use]
    pub fn progress(mut self, call: impl Fn(&RepairProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(call));
        self
    }

    /// Tells the progress.
    pub(super) fn tell(&self, is_proving: bool, bytes_done: u64, bytes_total: u64) {
        if let Some(call) = &self.progress {
            call(&RepairProgress { is_proving, bytes_done, bytes_total });
        }
    }
}

impl fmt::Debug for RepairOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairOptions").field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// Set a key.
    Put,
    /// Removed a key.
    Delete,
    /// Removed all keys of a collection.
    Clear,
    /// Named a collection.
    CreateCollection,
    /// Set the options of a collection.
    Configure,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RecordKind::Put => "put",
            RecordKind::Delete => "delete",
            RecordKind::Clear => "clear",
            RecordKind::CreateCollection => "create",
            RecordKind::Configure => "configure",
        })
    }
}

/// The key of a record that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostKey {
    /// This key: its hash says so.
    Sure(Vec<u8>),
    /// What stands in the key's place, which may be what is damaged.
    Unsure(Vec<u8>),
    /// Nothing is left of it.
    Unknown,
}

/// What a reader finds of a key after the repair, of whose records one is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum After {
    /// What it should find: the key was written or deleted again later.
    Same,
    /// The key is not there.
    Absent,
    /// The value that it had before: that of the put with this sequence number. If the lost record
    /// was a deletion, the key is back.
    Older(u64),
    /// It cannot be told, as the key is not known for sure, or the record was not of one key.
    Unknown,
}

/// A record that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRecord {
    /// Its sequence number.
    pub seqno: u64,
    /// What it did.
    pub kind: RecordKind,
    /// The name of its collection; `#` and the id if that is lost; `(engine)` for the engine's own.
    pub collection: String,
    /// Its key.
    pub key: LostKey,
    /// What it is, in words, if it is one of the engine's own: a durable snapshot, say.
    pub system: Option<String>,
    /// What a reader finds now.
    pub after: After,
    /// The file in which it stood.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
}

/// Sequence numbers of which records are lost, and nothing is known about those.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// The first.
    pub first: u64,
    /// The one after the last; `None` if that is not known.
    pub next: Option<u64>,
    /// How many records are lost, at most.
    pub records_max: Option<u64>,
    /// Why.
    pub what: String,
}

/// A record that was kept, and may not be what it seems.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsureRecord {
    /// The sequence number that it has now.
    pub seqno: u64,
    /// The name of its collection; `#` and the id if that is lost; `(engine)` for the engine's own.
    pub collection: String,
    /// Its key.
    pub key: Vec<u8>,
    /// What it is, in words, if it is one of the engine's own.
    pub system: Option<String>,
    /// Why it is unsure.
    pub what: String,
}

/// A write batch of which a part is lost: the rest of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncompleteBatch {
    /// Sequence number of its first record.
    pub first: u64,
    /// The one after its last record.
    pub next: u64,
    /// Records of it that are lost, at most.
    pub lost: u64,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// Where the store is damaged.
    pub damage: Vec<Defect>,
    /// Records that are lost.
    pub lost: Vec<LostRecord>,
    /// Sequence numbers that are lost, without anything known of their records.
    pub lost_ranges: Vec<LostRange>,
    /// Records that were kept and may not be right.
    pub unsure: Vec<UnsureRecord>,
    /// Batches that are not whole any more.
    pub incomplete_batches: Vec<IncompleteBatch>,
    /// What was written from this sequence number on was never acknowledged as durable and is not
    /// whole: it was cut off, as an open does.
    pub cut_from: Option<u64>,
    /// Whatever else a person should know.
    pub notes: Vec<String>,
    /// The list of segments was lost, in part or as a whole: whether segments are missing that it
    /// named, and what was durable at the end of the log, nobody can know.
    pub may_miss_segments: bool,
    /// Records of damaged segments that were kept.
    pub kept_records: u64,
    /// Files that were taken out of the store: what is whole of them is in those that were written.
    pub replaced: Vec<PathBuf>,
    /// Damaged files, each kept in the quarantine byte for byte.
    pub quarantined: Vec<PathBuf>,
    /// Segments that were written.
    pub written: Vec<PathBuf>,
    /// Where this report was put down, if something was changed.
    pub report_file: Option<PathBuf>,
    /// Reports of earlier repairs of this store.
    pub earlier_reports: Vec<PathBuf>,
    /// The store was changed; or, in a dry run, would be.
    pub is_changed: bool,
}

impl RepairReport {
    /// True if the store needs no repair.
    pub fn is_ok(&self) -> bool {
        self.damage.is_empty() && !self.is_changed
    }

    /// True if no record is known to be lost or unsure. Ask [`RepairReport::may_miss_segments`]
    /// as well.
    pub fn is_lossless(&self) -> bool {
        self.lost.is_empty()
            && self.lost_ranges.is_empty()
            && self.unsure.is_empty()
            && self.cut_from.is_none()
    }

    /// True if the record with this sequence number is lost or unsure.
    pub fn covers(&self, seqno: u64) -> bool {
        self.lost.iter().any(|lost| lost.seqno == seqno)
            || self.unsure.iter().any(|unsure| unsure.seqno == seqno)
            || self.cut_from.is_some_and(|from| seqno >= from)
            || self
                .lost_ranges
                .iter()
                .any(|range| range.first <= seqno && range.next.is_none_or(|next| seqno < next))
    }
}

/// How a line of a report starts that names a file that is replaced: a second repair reads it.
pub(super) const REPLACED: &str = "replaced: ";

/// The report in words, a line for each thing; what the report file holds.
impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for defect in &self.damage {
            writeln!(f, "damage: {defect}")?;
        }
        for lost in &self.lost {
            writeln!(f, "lost: {lost}")?;
        }
        for range in &self.lost_ranges {
            writeln!(f, "lost: {range}")?;
        }
        for unsure in &self.unsure {
            writeln!(f, "unsure: {unsure}")?;
        }
        for batch in &self.incomplete_batches {
            writeln!(f, "incomplete: {batch}")?;
        }
        if let Some(from) = self.cut_from {
            writeln!(
                f,
                "cut: what was written from sequence number {from} on was never acknowledged as \
                 durable and is not whole"
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for file in &self.replaced {
            writeln!(f, "{REPLACED}{}", file.display())?;
        }
        for file in &self.quarantined {
            writeln!(f, "quarantined: {}", file.display())?;
        }
        for file in &self.written {
            writeln!(f, "written: {}", file.display())?;
        }
        Ok(())
    }
}

fn shown(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}

impl fmt::Display for LostRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, seqno) = (self.kind, self.seqno);
        write!(f, "sequence number {seqno}, a {kind}")?;
        if let Some(system) = &self.system {
            write!(f, " of {system}")?;
        }
        match &self.key {
            _ if self.system.is_some() => {}
            LostKey::Sure(key) => write!(f, " of key {}", shown(key))?,
            LostKey::Unsure(key) => {
                write!(f, " of a key that may be damaged, {}", shown(key))?;
            }
            LostKey::Unknown if matches!(kind, RecordKind::Put | RecordKind::Delete) => {
                write!(f, " of an unknown key")?;
            }
            LostKey::Unknown => {}
        }
        if self.system.is_none() {
            write!(f, ", collection \"{}\"", self.collection.escape_debug())?;
        }
        write!(f, ", {} at byte {}", self.file.display(), self.offset)?;
        match self.after {
            After::Same => write!(
                f,
                "; the key was written again later, so it is missing from snapshots of before only"
            ),
            After::Absent => write!(f, "; the key is not there now"),
            After::Older(seqno) => {
                write!(f, "; the key has the value of sequence number {seqno} now")
            }
            After::Unknown => write!(f, "; a key may be missing, or have an older value"),
        }
    }
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next {
            Some(next) if next <= self.first.saturating_add(1) => {
                write!(f, "sequence number {}", self.first)?
            }
            Some(next) => {
                write!(f, "sequence numbers {} to {}", self.first, next.saturating_sub(1))?
            }
            None => write!(f, "sequence numbers from {} on", self.first)?,
        }
        if let Some(max) = self.records_max {
            write!(f, ", at most {max} records")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl fmt::Display for UnsureRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, name) = (shown(&self.key), self.collection.escape_debug());
        let seqno = self.seqno;
        if let Some(system) = &self.system {
            return write!(f, "sequence number {seqno}, {system}: {}", self.what);
        }
        write!(f, "sequence number {seqno}, key {key}, collection \"{name}\": {}", self.what)
    }
}

impl fmt::Display for IncompleteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first, self.next.saturating_sub(1));
        write!(
            f,
            "of the batch with sequence numbers {first} to {last}, {} records are lost, the \
             others were kept",
            self.lost
        )
    }
}

/// Why a store could not be repaired. Nothing of the old store was removed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RepairError {
    /// The storage failed. Retry: when its cause is gone; the repair starts anew.
    Io(IoError),
    /// Another process has the store open for writing: repair is for stores that nobody uses.
    Locked {
        /// The store.
        dir: PathBuf,
        /// The process id that the holder wrote, as text; empty if it could not be read.
        holder: String,
    },
    /// There is nothing of a store in the directory.
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// A backup or a restore into the directory did not come to its end. Make it again; if what it
    /// was made from is lost, remove the mark, and repair what has come.
    Unfinished {
        /// The directory.
        dir: PathBuf,
        /// The file that says so.
        mark: PathBuf,
    },
    /// The store was written in a format that this version does not read: that is no damage.
    Version {
        /// The file that says so.
        file: PathBuf,
        /// The format's version found, major and minor.
        found: (u16, u16),
    },
    /// The store does not open after the repair, or is not whole: a mistake of ours. The old files
    /// are in the quarantine.
    Failed {
        /// What the open, or the check, said.
        what: String,
        /// The files of the store as they were.
        quarantined: Vec<PathBuf>,
    },
}

impl RepairError {
    pub(super) fn io(op: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |e| RepairError::Io(IoError::new(op, path, e))
    }
}

impl From<IoError> for RepairError {
    fn from(e: IoError) -> Self {
        RepairError::Io(e)
    }
}

impl From<OpenError> for RepairError {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::Io(e) => RepairError::Io(e),
            OpenError::Locked { dir, holder } => RepairError::Locked { dir, holder },
            OpenError::Missing { dir } => RepairError::Missing { dir },
            OpenError::Version { file, found } => RepairError::Version { file, found },
            e => RepairError::Failed { what: e.to_string(), quarantined: Vec::new() },
        }
    }
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepairError::Io(e) => {
                write!(f, "cannot repair, the old files are all there: {e}")
            }
            RepairError::Locked { dir, holder } => {
                let dir = dir.display();
                write!(f, "store {dir} is open for writing in process {holder}: end that first")
            }
            RepairError::Missing { dir } => write!(f, "there is no store in {}", dir.display()),
            RepairError::Unfinished { dir, mark } => write!(
                f,
                "{} holds a backup or a restore that did not come to its end: make it again; if \
                 what it was made from is lost, remove {}, and repair what has come",
                dir.display(),
                mark.display()
            ),
            RepairError::Version { file, found: (major, minor) } => {
                let file = file.display();
                write!(f, "{file} has format version {major}.{minor}, which is not read here")
            }
            RepairError::Failed { what, quarantined } => {
                let n = quarantined.len();
                write!(f, "the repaired store is not whole: {what}; {n} old files are kept")
            }
        }
    }
}

impl Error for RepairError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RepairError::Io(e) => Some(e),
            _ => None,
        }
    }
}
