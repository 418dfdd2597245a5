//! [`Options`]: how a store is opened.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::db::Db;
use super::error::OpenError;
use crate::format::segment::StoreId;
use crate::limits::{SEGMENT_LEN_DEFAULT, SEGMENT_LEN_MAX, SEGMENT_LEN_MIN, SPACE_PERCENT_MIN};
use crate::vfs::Vfs;
use crate::vfs::os::OsVfs;

/// Bytes between two checkpoints.
const CHECKPOINT_EVERY_DEFAULT: u64 = 64 << 20;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Handed to the operating system: survives the death of the process, not a power cut.
    #[default]
    Buffered,
    /// On the device: survives a power cut once the call has returned.
    Sync,
}

/// How sealed segments are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Through memory maps: no copy. Damage to the device below a map ends the process with
    /// SIGBUS, as does another program that cuts the file.
    #[default]
    Mmap,
    /// Through positional reads into a buffer: for network file systems, and where every failure
    /// must come back as an error.
    Pread,
}

/// How often the bytes of a record are verified against their checksum when they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// At every read.
    #[default]
    Always,
    /// At the first read of a record in a mapped segment; at every read elsewhere.
    Once,
    /// Never: lengths and the key are still checked, the value is handed out as it is.
    Never,
}

/// Which unnamed durable snapshots are kept. Those with a name stay until they are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// At most this many; recording one more drops the oldest. Default: 8.
    pub count: usize,
    /// Only those with less than this many records written since. Default: any.
    pub age: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { count: 8, age: None }
    }
}

impl Retention {
    /// Keeps the newest `count`.
    pub fn count(count: usize) -> Self {
        Retention { count, ..Self::default() }
    }

    /// Lets those go that are older than `records` by sequence number.
    pub fn age(mut self, records: u64) -> Self {
        self.age = Some(records);
        self
    }
}

/// When and how fast the space of overwritten and deleted records is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionOptions {
    /// Compaction runs by itself, in the background. Default: true.
    pub auto: bool,
    /// It starts when the log takes more than this many percent of what is needed of it: less
    /// space for more writing. Default: 121. Minimum: 105.
    pub space_percent: u64,
    /// It writes no faster than this many bytes a second; 0 for as fast as it can. Default: 0.
    pub bytes_per_second: u64,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        CompactionOptions { auto: true, space_percent: 121, bytes_per_second: 0 }
    }
}

impl CompactionOptions {
    /// No compaction but by [`crate::Db::compact_now`].
    pub fn manual() -> Self {
        CompactionOptions { auto: false, ..Self::default() }
    }

    /// Starts when the log takes more than `percent` of what is needed of it.
    pub fn space_percent(mut self, percent: u64) -> Self {
        self.space_percent = percent;
        self
    }

    /// Writes no more than `bytes` a second; 0 for as fast as it can.
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = bytes;
        self
    }
}

/// How a store is opened.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let db = siltstone::Options::new().segment_len(16 << 20).open(dir.path())?;
/// # db.close()?; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Options {
    pub(super) create: bool,
    pub(super) read_only: bool,
    pub(super) segment_len: u64,
    pub(super) read_mode: ReadMode,
    pub(super) verify: Verify,
    pub(super) inline_maintenance: bool,
    pub(super) open_threads: usize,
    pub(super) retention: Retention,
    /// Opens a store that is marked as an unfinished backup: by who finishes it.
    pub(super) is_finishing: bool,
    pub(super) compaction: CompactionOptions,
    pub(super) checkpoint_every: u64,
    pub(super) store_id: Option<StoreId>,
    pub(super) time: u64,
    pub(super) dictionary_records: usize,
    pub(super) value_cache: u64,
    pub(super) vfs: Arc<dyn Vfs>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            create: true,
            read_only: false,
            segment_len: SEGMENT_LEN_DEFAULT,
            read_mode: ReadMode::Mmap,
            verify: Verify::Always,
            inline_maintenance: false,
            open_threads: 0,
            retention: Retention::default(),
            is_finishing: false,
            compaction: CompactionOptions::default(),
            checkpoint_every: CHECKPOINT_EVERY_DEFAULT,
            store_id: None,
            time: 0,
            dictionary_records: 1000,
            value_cache: 16 << 20,
            vfs: Arc::new(OsVfs),
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the store if the directory holds none. Default: true.
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Opens for reading only: takes no lock, writes nothing, sees the state at the time of the
    /// open, also beside a process that writes. Default: false.
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// Size of a segment, in bytes. Smaller ones are compacted sooner, larger ones open faster.
    /// Those of a log of less than 64 times this are shorter, down to 16 MiB, since room is
    /// reserved for whole segments; so are those on a device of less than 32 times this, for
    /// compaction's sake.
    /// Default: 64 MiB. Minimum: 512 bytes. Maximum: 1 GiB.
    pub fn segment_len(mut self, bytes: u64) -> Self {
        self.segment_len = bytes;
        self
    }

    /// How sealed segments are read. Default: [`ReadMode::Mmap`].
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// How often checksums are verified. Default: [`Verify::Always`].
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Starts no threads: segments are prepared and sealed by the thread that writes. For
    /// simulators, which need every run to be the same, and for hosts without threads.
    /// Default: false.
    pub fn inline_maintenance(mut self, yes: bool) -> Self {
        self.inline_maintenance = yes;
        self
    }

    /// Threads that load the index at open; 0 for as many as there are cores. Default: 0.
    pub fn open_threads(mut self, threads: usize) -> Self {
        self.open_threads = threads;
        self
    }

    /// After how many bytes of log the index is written to a checkpoint in the background, so that
    /// an open after the death of the process loads that and replays at most so many bytes and the
    /// unsealed end of the log. A checkpoint takes 12 bytes a key; it is written after sixteen
    /// times its own length at the earliest, whatever is asked for here, so that it adds at most a
    /// sixteenth to what is written. One more is written at a close. Default: 64 MiB. 0: none but
    /// by [`crate::Db::checkpoint`].
    pub fn checkpoint_every(mut self, bytes: u64) -> Self {
        self.checkpoint_every = bytes;
        self
    }

    /// Bytes of values that gets have decompressed and that are kept, from the second time on that
    /// one is asked for; iteration takes from them and adds none. Values of collections that are
    /// not compressed are read where they stand and take no part. Default: 16 MiB, of which nothing
    /// is taken before a compressed value is read. 0: none are kept.
    pub fn value_cache(mut self, bytes: u64) -> Self {
        self.value_cache = bytes;
        self
    }

    /// Which unnamed durable snapshots are kept. Default: the newest 8.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// When space is given back, and how fast. Default: see [`CompactionOptions`].
    pub fn compaction(mut self, compaction: CompactionOptions) -> Self {
        self.compaction = compaction;
        self
    }

    /// The id of a store that is created: for reproducible tests. Default: random. Two stores
    /// with one id are not protected against each other's stray files.
    pub fn store_id(mut self, id: StoreId) -> Self {
        self.store_id = Some(id);
        self
    }

    /// The time at the open, in the unit of [`crate::WriteBatch::put_expiring`]: as
    /// [`crate::Db::set_time`] called at once, so that nothing that has expired is seen. A store
    /// that was told of a later time keeps to that. Default: 0.
    pub fn time(mut self, now: u64) -> Self {
        self.time = now;
        self
    }

    /// How many records of a collection compaction must move at once to train a dictionary from
    /// them, see [`crate::Compression::Dictionary`]; 256 KiB of them are enough in any case.
    /// Default: 1,000.
    pub fn dictionary_records(mut self, count: usize) -> Self {
        self.dictionary_records = count;
        self
    }

    /// The file system. Default: that of the operating system.
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: nothing on disk was changed by a failed open, but for what an
    /// interrupted recovery would redo in the same way.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Db, OpenError> {
        Db::open_with(dir, self)
    }

    /// The file system that was set.
    #[cfg(feature = "stores")]
    pub(crate) fn file_system(&self) -> &dyn Vfs {
        &*self.vfs
    }

    /// Checks all options.
    pub(super) fn validate(&self) -> Result<(), OpenError> {
        if !(SEGMENT_LEN_MIN..=SEGMENT_LEN_MAX).contains(&self.segment_len) {
            return Err(OpenError::InvalidOption(format!(
                "segment_len is {} bytes, expected {SEGMENT_LEN_MIN} to {SEGMENT_LEN_MAX}",
                self.segment_len
            )));
        }
        if self.compaction.space_percent < SPACE_PERCENT_MIN {
            return Err(OpenError::InvalidOption(format!(
                "compaction's space_percent is {}, expected at least {SPACE_PERCENT_MIN}",
                self.compaction.space_percent
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("create", &self.create)
            .field("read_only", &self.read_only)
            .field("segment_len", &self.segment_len)
            .field("read_mode", &self.read_mode)
            .field("verify", &self.verify)
            .field("inline_maintenance", &self.inline_maintenance)
            .finish_non_exhaustive()
    }
}
