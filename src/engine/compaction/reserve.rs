//! Room for compaction on a full device, and the wait of writers for what comes of it.
//!
//! Compaction must copy before it gives back. So the log leaves it the room that it needs for one
//! step at least: before the log takes more of the device, [`Core::leave_room`] sees to it that
//! the copy of any one segment, and the footers of those that are not sealed, still fit beside
//! it. Where the device has plenty nothing is done for this. Where it has not, or cannot tell, the
//! room is held by a file, `RESERVE`, that is given up for the work and made again behind it; a
//! store of some size holds a small one in any case, for the days when others fill the device.
//! Deletions and the engine's own records may take the last room: they are short, and what leads
//! out of a full device.
//!
//! `RESERVE` holds no data: a power cut leaves it there at any length, or not, and the next store
//! that opens goes on with what it finds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::core::Core;
use super::super::error::WriteError;
use super::super::maintenance::YOUNG_SEGMENT_LEN;
use super::plan::room_for_a_step;
use crate::format::hint::HINT_LEN;
use crate::format::segment::SEGMENT_FOOTER_LEN;
use crate::vfs::{IoError, OpenMode};

/// File that holds room for compaction.
pub(in crate::engine) const RESERVE_NAME: &str = "RESERVE";
/// Largest reserve of a store on a device that has room, in bytes.
const RESERVE_LEN_MAX: u64 = 8 << 20;
/// A smaller reserve is not worth a file.
const RESERVE_LEN_MIN: u64 = 4 << 10;
/// A store gets a reserve of one part in so many of its log.
const RESERVE_SHARE: u64 = 32;
/// The device is running short if it has room for fewer segments than this beside the reserve.
const SHORT_SEGMENTS: u64 = 2;
/// A segment takes one part in so many of the device at most, or as much as a young store's.
const DEVICE_SHARE: u64 = 32;
/// And one part in so many of the log, or so many bytes: what is reserved of those that are not
/// full yet is space that a store takes beside its data.
const LOG_SHARE: u64 = 64;
const LOG_SHARE_LEN_MIN: u64 = 16 << 20;
/// How long a writer waits for a run of compaction when the device is full.
const RELIEF_WAIT: Duration = Duration::from_secs(1);
/// For how many runs it waits.
const RELIEF_TRIES: u32 = 16;

/// What is held for compaction.
#[derive(Default)]
pub(super) struct Reserve {
    file: Mutex<Held>,
    /// Writers that wait for room.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Held {
    /// Length of the file; `None` while nobody has looked.
    len: Option<u64>,
    /// It was given up for work that may be going on.
    is_lent: bool,
}

impl Reserve {
    /// A writer waits for what compaction gives back, however little.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counts a writer as waiting for room, as long as it is kept.
struct Waiting<'a>(&'a Reserve);

impl<'a> Waiting<'a> {
    fn new(reserve: &'a Reserve) -> Self {
        reserve.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(reserve)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    /// Does `write`; if the device is full, gives the reserve up and tries again.
    pub(in crate::engine) fn with_reserve<T>(
        &self,
        mut write: impl FnMut() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        match write() {
            Err(WriteError::Full(_)) if self.lend_reserve() => write(),
            result => result,
        }
    }

    /// Removes the file; false if there was none.
    fn lend_reserve(&self) -> bool {
        if planted!(ReserveNotUsed) {
            return false;
        }
        let mut held = self.compaction.reserve.file.lock();
        let is_lent = self.options.vfs.remove(&self.dir.join(RESERVE_NAME)).is_ok();
        if is_lent {
            situation!(ReserveReleased);
            *held = Held { len: Some(0), is_lent };
        }
        is_lent
    }

    /// Makes sure that compaction can still work when the log has taken `more` bytes. To be called
    /// before it takes them.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] if it could not: then nothing is to be taken.
    pub(in crate::engine) fn leave_room(&self, more: u64) -> Result<(), WriteError> {
        if planted!(LogTakesAllRoom) {
            return Ok(());
        }
        let need = self.room_needed();
        let mut held = self.compaction.reserve.file.lock();
        if self.len_of(&mut held) >= need {
            return Ok(());
        }
        if self.free_space().is_some_and(|free| free >= need.saturating_add(more)) {
            return Ok(());
        }
        if held.is_lent && self.compaction.is_running() {
            // What is free is for the work that goes on.
            return Err(self.no_room("leave room for compaction in"));
        }
        self.grow(&mut held, need)
    }

    /// Makes the reserve, or a larger one, as the store and the device suggest. Nobody misses it
    /// if it cannot be made: the log takes nothing then where the device is short.
    pub(in crate::engine) fn keep_reserve(&self) {
        // Whoever closes the store has given up the directory, or is about to.
        if self.compaction.is_stopped() {
            return;
        }
        let log_bytes: u64 = self.segments.all().iter().map(|s| s.end()).sum();
        let usual = (log_bytes / RESERVE_SHARE).min(RESERVE_LEN_MAX).min(self.options.segment_len);
        let need = self.room_needed();
        let mut held = self.compaction.reserve.file.lock();
        if held.is_lent && self.compaction.is_running() {
            return;
        }
        held.is_lent = false;
        let len = self.len_of(&mut held);
        let margin = self.options.segment_len.saturating_mul(SHORT_SEGMENTS);
        let room = self.free_space().map(|free| free.saturating_add(len));
        let is_short = room.is_none_or(|room| room < margin.saturating_add(need));
        // It goes with the store, in steps.
        if usual >= RESERVE_LEN_MIN && len + len / 2 < usual {
            let _ = self.grow(&mut held, usual);
        }
        if is_short && need > len {
            let _ = self.grow(&mut held, need);
        }
        if len > 2 * usual.max(if is_short { need } else { 0 }) {
            self.shrink(&mut held, usual);
        }
    }

    /// Cuts the file, which is too long, to `len` bytes or less.
    fn shrink(&self, held: &mut Held, len: u64) {
        let path = self.dir.join(RESERVE_NAME);
        let vfs = &self.options.vfs;
        if len < RESERVE_LEN_MIN {
            let _ = vfs.remove(&path);
        } else if let Ok(file) = vfs.open(&path, OpenMode::ReadWrite) {
            let _ = file.set_len(len);
        }
        // Whatever came of it.
        held.len = None;
    }

    /// The error of whoever finds no room.
    pub(super) fn no_room(&self, what: &'static str) -> WriteError {
        let e = std::io::ErrorKind::StorageFull.into();
        WriteError::Full(IoError::new(what, self.dir.clone(), e))
    }

    /// Bytes without which compaction cannot give anything back.
    fn room_needed(&self) -> u64 {
        let (counts, _) = self.segment_counts();
        let step = room_for_a_step(&counts, self.options.segment_len.saturating_mul(2));
        let footers: u64 = self
            .segments
            .all()
            .iter()
            .filter(|s| s.seal().is_none())
            .map(|s| s.written.records.load(Ordering::Relaxed) * HINT_LEN as u64)
            .map(|hints| hints + SEGMENT_FOOTER_LEN)
            .sum();
        step + footers
    }

    /// Bytes that a run of compaction may take; `None` if nobody knows.
    pub(super) fn room(&self) -> Option<u64> {
        let mut held = self.compaction.reserve.file.lock();
        let len = self.len_of(&mut held);
        self.free_space().map(|free| free.saturating_add(len))
    }

    /// Length of a segment: as the options say, and shorter while the log is short, or on a small
    /// device, since compaction needs the room of one.
    pub(in crate::engine) fn usual_segment_len(&self) -> u64 {
        let log_bytes: u64 = self.segments.all().iter().map(|s| s.end()).sum();
        // In steps, or the segment in use would be extended each time it is full.
        let of_log = prev_power_of_two(log_bytes / LOG_SHARE).max(LOG_SHARE_LEN_MIN);
        let len = self.options.segment_len.min(of_log);
        let Some(free) = self.free_space() else { return len };
        len.min((free.saturating_add(log_bytes) / DEVICE_SHARE).max(YOUNG_SEGMENT_LEN))
    }

    /// Bytes that files of the store can still take; `None` if nobody knows.
    fn free_space(&self) -> Option<u64> {
        self.options.vfs.free_space(&self.dir).ok().flatten()
    }

    fn len_of(&self, held: &mut Held) -> u64 {
        let path = self.dir.join(RESERVE_NAME);
        let look = || self.options.vfs.open(&path, OpenMode::Read)?.len();
        *held.len.get_or_insert_with(|| look().unwrap_or(0))
    }

    /// Makes the file `len` bytes long at least. What cannot be had leaves it as it was.
    fn grow(&self, held: &mut Held, len: u64) -> Result<(), WriteError> {
        let now = self.len_of(held);
        if self.free_space().is_some_and(|free| free.saturating_add(now) < len) {
            return Err(self.no_room("reserve room for compaction in"));
        }
        let path = self.dir.join(RESERVE_NAME);
        let vfs = &self.options.vfs;
        let file = match vfs.open(&path, OpenMode::CreateNew) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                vfs.open(&path, OpenMode::ReadWrite)
            }
            created => created,
        };
        let grown = file.and_then(|file| {
            let before = file.len()?;
            let grown = file.allocate(len);
            if grown.is_err() {
                // A failed call may have taken a part.
                let _ = file.set_len(before);
            }
            held.len = Some(if grown.is_ok() { before.max(len) } else { before });
            grown
        });
        grown.map_err(|e| WriteError::from_append(IoError::new("reserve room in", &path, e)))
    }

    /// Runs `write`; as long as the device is full and compaction, which has a reserve for this,
    /// gives space back, waits for that and runs `write` again. Requires: no lock held that
    /// compaction needs.
    pub(in crate::engine) fn with_relief<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut write: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut waiting = None;
        let mut tries = 0;
        loop {
            // Before the write: what a run gives back while it fails counts as well.
            let before = self.compaction.runs_ended();
            match write() {
                // One run may give less than is needed, and others may take it.
                Err(e) if is_full(&e) && tries < RELIEF_TRIES => {
                    waiting.get_or_insert_with(|| Waiting::new(&self.compaction.reserve));
                    if !self.await_relief(before) {
                        return Err(e);
                    }
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// True if more than `before` runs have ended, now or in a moment. Waits for none that cannot
    /// come: where nothing compacts by itself, all of it is paused, or there is nothing to do.
    fn await_relief(&self, before: u64) -> bool {
        if !self.compaction.has_thread() || !self.options.compaction.auto {
            return false;
        }
        // Only what is sealed can be compacted. What cannot be sealed now is left.
        let _ = self.maintain();
        self.compaction.await_run(before, RELIEF_WAIT)
    }
}

/// The largest power of two that is not above `n`; 0 for 0.
fn prev_power_of_two(n: u64) -> u64 {
    n.checked_ilog2().map_or(0, |log| 1 << log)
}
