//! Room for the log: extending, rotating, preparing and sealing segments, and the thread that
//! does it ahead of need.
//!
//! A segment's life: *prepared* (created, space reserved, header and name durable, listed in the
//! manifest) -> *active* -> *full* (an end frame closes its log) -> *sealed* (hints and footer
//! written, cut to length, synced, listed as sealed, mapped). What a power cut leaves behind:
//!
//! - before the manifest's edit is durable, a file that is in no manifest: removed at open;
//! - after it, an empty segment: used or kept at open;
//! - while the footer is written, a segment whose log ends at its end frame: bytes behind it are
//!   ignored and written again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::MutexGuard;

use super::core::{Core, Log};
use super::error::WriteError;
use super::options::ReadMode;
use super::pending::join;
use super::segments::Segment;
use crate::format::checksum;
use crate::format::hint::HINT_LEN;
use crate::format::manifest::{Edit, Seal};
use crate::format::record::{FrameHeader, FrameKind, Kind};
use crate::format::segment::{
    SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentFooter, SegmentHeader, SegmentKind, file_name,
};
use crate::vfs::{IoError, OpenMode};

use super::commit::END_RESERVE;

/// Length of the first segments of a young store: a small store stays small.
pub(super) const YOUNG_SEGMENT_LEN: u64 = 4 << 20;
/// One part in so many of a segment is for what is urgent, but not more than so many bytes.
const URGENT_SHARE: u64 = 16;
const URGENT_LEN_MAX: u64 = 64 << 10;
/// Where there is no room for a segment of the usual length, one part in so many of it will do.
const SHORT_SHARE: u64 = 16;
/// Full segments that are sealed with one sync of the log.
const SEALED_AT_ONCE: usize = 16;
/// Full segments that may wait before writers wait for them: so many, and more up to so many bytes.
const UNSEALED_MIN: usize = 5;
const UNSEALED_BYTES: u64 = 320 << 20;
const UNSEALED_MAX: usize = 68;
/// Longest wait of a writer while none gets sealed.
const SEAL_WAIT: Duration = Duration::from_secs(1);

impl Core {
    /// Makes sure that a frame of `len` bytes fits behind the end of the log. Requires: log lock
    /// held.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] if there is no room and none can be had; the log is as it was.
    pub(super) fn make_room(
        &self,
        log: &mut MutexGuard<'_, Log>,
        len: u64,
        is_urgent: bool,
    ) -> Result<(), WriteError> {
        let need = len + END_RESERVE;
        let Some(active) = log.active.clone() else {
            return self.rotate_for(log, need, is_urgent);
        };
        // Deletions and the engine's own records may use a part of each segment that puts leave
        // alone when no new segment can be had: on a full device, deleting is what helps.
        let just_enough = log.offset + need + self.kept_for_urgent(is_urgent);
        if just_enough <= log.capacity {
            return Ok(());
        }
        let usual = self.usual_segment_len();
        let end = log.offset + need;
        if log.capacity < usual && end <= usual {
            let target = (log.capacity * 4).max(YOUNG_SEGMENT_LEN);
            let some = just_enough + usual / SHORT_SHARE;
            let lens = [target, some.min(target), just_enough];
            log.capacity = self.take_room(is_urgent, lens, |len| {
                let len = len.min(usual).max(end);
                self.leave_room_unless(is_urgent, len - log.capacity)?;
                self.extend_active(&active, len).map(|()| len)
            })?;
            return Ok(());
        }
        self.rotate_for(log, need, is_urgent)
    }

    /// Bytes at the end of a segment that only what `is_urgent` may take.
    fn kept_for_urgent(&self, is_urgent: bool) -> u64 {
        let kept = (self.options.segment_len / URGENT_SHARE).min(URGENT_LEN_MAX);
        if is_urgent { 0 } else { kept }
    }

    /// Does `take` with the first length of which there is room. What `is_urgent` may have that of
    /// the reserve: what it does not take, compaction still finds.
    fn take_room<T>(
        &self,
        is_urgent: bool,
        lens: [u64; 3],
        mut take: impl FnMut(u64) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let [long, short, least] = lens;
        let mut result = take(long);
        for len in [short, least] {
            if !matches!(result, Err(WriteError::Full(_))) {
                return result;
            }
            result = take(len);
        }
        match result {
            Err(WriteError::Full(_)) if is_urgent => self.with_reserve(|| take(least)),
            result => result,
        }
    }

    /// As [`Core::leave_room`], but for what `is_urgent`.
    fn leave_room_unless(&self, is_urgent: bool, more: u64) -> Result<(), WriteError> {
        if is_urgent { Ok(()) } else { self.leave_room(more) }
    }

    /// Makes the file of the active segment `len` bytes long, durably, and only then notes the
    /// length: a file that is shorter than noted is damaged.
    fn extend_active(&self, active: &Segment, len: u64) -> Result<(), WriteError> {
        let extended = active.file.allocate(len);
        extended.map_err(|e| WriteError::from_append(IoError::new("extend", &active.path, e)))?;
        active.sync().map_err(|e| self.poison.set(e))?;
        self.manifest.lock().append(&Edit::Resize { id: active.id, len }, &self.poison)
    }

    /// Ends the active segment, if there is one, and makes the prepared one active. If none is
    /// prepared, or it is too short for `need` bytes, one is made on the spot. Requires: log lock
    /// held.
    pub(super) fn rotate(
        &self,
        log: &mut MutexGuard<'_, Log>,
        need: u64,
    ) -> Result<(), WriteError> {
        self.rotate_for(log, need, false)
    }

    /// As [`Core::rotate`]; what `is_urgent` may take the room that is left for compaction.
    fn rotate_for(
        &self,
        log: &mut MutexGuard<'_, Log>,
        need: u64,
        is_urgent: bool,
    ) -> Result<(), WriteError> {
        let (next, capacity) = {
            let mut prepared = self.prepared.lock();
            let len = SEGMENT_HEADER_LEN + need;
            let just_enough = len + self.kept_for_urgent(is_urgent);
            if prepared.is_none() {
                let usual = self.new_segment_len(log);
                let short = usual / SHORT_SHARE;
                *prepared = Some(self.take_room(is_urgent, [usual, short, just_enough], |l| {
                    self.leave_room_unless(is_urgent, l.max(len))?;
                    self.create_segment(l.max(len))
                })?);
            }
            // Segments are used in the order of their ids, so one that is too short for a large
            // record is extended, not passed over.
            let capacity = match prepared.as_ref() {
                Some(next) => {
                    let now = next.file_len().map_err(WriteError::from_append)?;
                    if now < len {
                        self.leave_room_unless(is_urgent, len - now)?;
                    }
                    next.extend(len).map_err(WriteError::from_append)?
                }
                None => 0,
            };
            self.end_active(log)?;
            let Some(next) = prepared.take() else { return Ok(()) };
            (next, capacity)
        };
        log.active = Some(next);
        log.offset = SEGMENT_HEADER_LEN;
        log.capacity = capacity;
        log.usual_len = self.usual_segment_len();
        log.is_announced = false;
        Ok(())
    }

    /// Writes the end frame of the active segment and queues it for sealing. Requires: log lock
    /// held.
    fn end_active(&self, log: &mut MutexGuard<'_, Log>) -> Result<(), WriteError> {
        let Some(active) = log.active.clone() else { return Ok(()) };
        let header = FrameHeader {
            kind: FrameKind::End,
            first: true,
            last: true,
            len: 0,
            count: 0,
            records_checksum: 0,
            epoch: self.epoch,
            base: log.next_seqno,
            watermark: self.watermark(),
        };
        let bytes = header.encode(active.salt, log.offset);
        if let Err(e) = active.write_at(&bytes, log.offset) {
            self.take_back(&active, log.offset)?;
            return Err(WriteError::from_append(e));
        }
        self.advance(log, 0, bytes.len() as u64);
        log.unsynced.push(Arc::clone(&active));
        log.active = None;
        self.sealing.lock().push_back(active);
        self.wake_maintenance();
        Ok(())
    }

    /// Length of the next segment: short while the store is young.
    fn new_segment_len(&self, log: &Log) -> u64 {
        let is_young = log.active.is_none();
        let len = self.usual_segment_len();
        if is_young { len.min(YOUNG_SEGMENT_LEN) } else { len }
    }

    /// Creates a segment of `len` bytes that is ready to be written to. Requires: `prepared` lock
    /// held, so that only one is made at a time.
    ///
    /// # Errors
    ///
    /// Nothing is left behind, unless the store is poisoned.
    fn create_segment(&self, len: u64) -> Result<Arc<Segment>, WriteError> {
        let mut manifest = self.manifest.lock();
        self.poison.check()?;
        if !self.segments.has_room(1) {
            return Err(too_many_segments());
        }
        let id = manifest.take_id();
        let path = self.dir.join(file_name(id));
        let vfs = &self.options.vfs;
        let header = SegmentHeader {
            store: self.store_id,
            id,
            epoch: self.epoch,
            kind: SegmentKind::Log,
            generation: 0,
        };
        let (bytes, salt) = header.encode();
        let create = || {
            let file = match vfs.open(&path, OpenMode::CreateNew) {
                // In no manifest: what an earlier failure could not remove.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    vfs.remove(&path).map_err(|e| ("remove", e))?;
                    vfs.open(&path, OpenMode::CreateNew)
                }
                opened => opened,
            };
            let file = file.map_err(|e| ("create", e))?;
            file.allocate(len).map_err(|e| ("allocate", e))?;
            crate::vfs::write_all_at(&*file, &bytes, 0).map_err(|e| ("write", e))?;
            // A failed sync of a file that nobody relies on yet: the file goes, the error is told.
            if !planted!(NewSegmentNotSynced) {
                file.sync_all().map_err(|e| ("sync", e))?;
            }
            Ok(file)
        };
        let file = create().map_err(|(op, e): (_, std::io::Error)| {
            // Gone now or next time.
            let _ = vfs.remove(&path);
            match WriteError::from_append(IoError::new(op, &path, e)) {
                WriteError::Full(e) if planted!(FullDiskSticks) => self.poison.set(e),
                e => e,
            }
        })?;
        if !planted!(NewSegmentDirNotSynced) {
            vfs.sync_dir(&self.dir)
                .map_err(|e| self.poison.set(IoError::new("sync directory", &self.dir, e)))?;
        }
        if let Err(e) = manifest.append(&Edit::Add { id, len }, &self.poison) {
            if self.poison.check().is_ok() {
                let _ = vfs.remove(&path);
            }
            return Err(e);
        }
        let added = self.segments.add(|slot| Segment::new(&header, slot, salt, path, file));
        added.ok_or_else(too_many_segments)
    }

    /// Does what is due: prepares the next segment and seals full ones. Called by the maintenance
    /// thread, or by writers if there is none.
    pub(super) fn maintain(&self) -> Result<(), WriteError> {
        let _one_at_a_time = self.maintaining.lock();
        loop {
            let prepared = self.prepare();
            let full: Vec<Arc<Segment>> =
                self.sealing.lock().iter().take(SEALED_AT_ONCE).cloned().collect();
            if full.is_empty() {
                prepared?;
                break;
            }
            // Also where there is no room for another segment: what is sealed can be compacted.
            self.seal(&full)?;
            self.keep_reserve();
            self.wake_compaction();
        }
        if self.options.inline_maintenance {
            drop(_one_at_a_time);
            return if self.options.compaction.auto { self.compact_due() } else { Ok(()) };
        }
        Ok(())
    }

    /// Makes the next segment, if the active one is filling up. Without threads it is made when it
    /// is needed: nothing is gained by making it early.
    fn prepare(&self) -> Result<(), WriteError> {
        if self.options.inline_maintenance {
            return Ok(());
        }
        let (wanted, len) = {
            let log = self.log.lock();
            (log.wants_next() && !log.is_closed, self.new_segment_len(&log))
        };
        let mut prepared = self.prepared.lock();
        if wanted && prepared.is_none() {
            self.leave_room(len)?;
            *prepared = Some(self.create_segment(len)?);
        }
        Ok(())
    }

    /// Waits while too many segments wait to be sealed, as long as some are: a writer that is
    /// faster than the disk would leave an open that takes for ever, and a file open for each.
    /// Requires: no lock held but `gate` and what comes before it.
    pub(super) fn await_sealing(&self) {
        let are_too_many = |sealing: &VecDeque<Arc<Segment>>| {
            let bytes = || sealing.iter().map(|s| s.end()).sum::<u64>();
            sealing.len() > UNSEALED_MIN
                && (sealing.len() > UNSEALED_MAX || bytes() > UNSEALED_BYTES)
        };
        let mut sealing = self.sealing.lock();
        while are_too_many(&sealing)
            && self.maintenance.get().is_some()
            && !self.cannot_seal.load(Ordering::Relaxed)
        {
            self.wake_maintenance();
            if self.sealed.wait_for(&mut sealing, SEAL_WAIT).timed_out() {
                break;
            }
        }
    }

    /// Writes hints and footers of full segments, cuts them to length, makes all of it durable and
    /// lists them as sealed. Can be repeated after a failure.
    fn seal(&self, full: &[Arc<Segment>]) -> Result<(), WriteError> {
        let upto = {
            // Whoever appended to them holds one of these locks until the hints are in.
            let log = self.log.lock();
            drop(self.apply.lock());
            log.next_seqno
        };
        // Not just the segments' own records: a batch that begins here and ends in a later segment
        // must be durable as a whole before its first part is listed as sealed.
        self.sync_upto(upto)?;
        for segment in full {
            // A writer that finds none makes it with the log locked, and gets the error then.
            let _ = self.prepare();
            let seal = self.write_footer(segment)?;
            {
                // One by one: of two edits that are written at once a power cut might leave the
                // second, which is damage.
                let mut manifest = self.manifest.lock();
                manifest.append(&Edit::Seal { id: segment.id, seal }, &self.poison)?;
                manifest.trim(&*self.options.vfs, &self.dir, &self.store_id, &self.poison)?;
            }
            segment.set_sealed(seal, self.map(segment, seal.file_len));
            *segment.hints.lock() = Vec::new();
            // All of it is durable: whoever syncs the log next need not, nor keep it from leaving.
            self.log.lock().unsynced.retain(|s| !Arc::ptr_eq(s, segment));
            self.sealing.lock().retain(|s| !Arc::ptr_eq(s, segment));
            self.sealed.notify_all();
        }
        Ok(())
    }

    /// Writes hints and footer of a full segment behind its records, durably.
    fn write_footer(&self, segment: &Arc<Segment>) -> Result<Seal, WriteError> {
        if self.log.lock().unsynced.iter().any(|s| Arc::ptr_eq(s, segment)) {
            // Its records were durable already, its end frame is not: the file must not be cut
            // below its noted length while the log seems to go on in it.
            segment.sync().map_err(|e| self.poison.set(e))?;
        }
        let next = segment.next.load(Ordering::Acquire);
        let data_end = segment.end();
        let hints = segment.hints.lock();
        let mut bytes = Vec::with_capacity(hints.len() * HINT_LEN + SEGMENT_FOOTER_LEN as usize);
        for hint in hints.iter() {
            if !(planted!(HintDropsTombstones) && hint.kind == Kind::Delete) {
                hint.encode(&mut bytes);
            }
        }
        let footer = SegmentFooter {
            id: segment.id,
            data_end,
            hints: (bytes.len() / HINT_LEN) as u64,
            first: segment.first.load(Ordering::Acquire),
            next,
            hints_checksum: checksum::salted(segment.salt, &bytes),
        };
        drop(hints);
        bytes.extend_from_slice(&footer.encode(segment.salt));
        let file_len = data_end + bytes.len() as u64;
        self.with_reserve(|| segment.write_at(&bytes, data_end).map_err(WriteError::from_append))?;
        segment
            .file
            .set_len(file_len)
            .map_err(|e| WriteError::from_append(IoError::new("cut", &segment.path, e)))?;
        if !planted!(SealNotSynced) {
            segment.sync().map_err(|e| self.poison.set(e))?;
        }
        Ok(Seal { data_end, file_len, first: footer.first, next })
    }

    /// Maps the first `len` bytes of a sealed segment, unless the options or the system say no.
    pub(super) fn map(&self, segment: &Segment, len: u64) -> Option<crate::vfs::Map> {
        match self.options.read_mode {
            // A file that cannot be mapped is read.
            ReadMode::Mmap => segment.file.map(len).ok().flatten(),
            ReadMode::Pread => None,
        }
    }
}

pub(super) fn too_many_segments() -> WriteError {
    let max = crate::limits::SEGMENTS_MAX as u64;
    WriteError::TooLarge { what: "number of segments", len: max + 1, max }
}

/// The thread that prepares and seals segments.
pub(super) struct Maintenance {
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the thread.
    pub(super) fn start(core: &Arc<Core>) -> std::io::Result<Self> {
        let (wake, tasks) = bounded(1);
        let wake = Wake(wake);
        let run = {
            let core = Arc::clone(core);
            move || run(&core, &tasks)
        };
        let thread = std::thread::Builder::new().name("siltstone-seal".to_owned()).spawn(run)?;
        let _ = core.maintenance.set(wake.clone());
        Ok(Maintenance { wake, thread: Some(thread) })
    }
}

/// Wakes the maintenance thread.
#[derive(Clone)]
pub(super) struct Wake(Sender<Task>);

enum Task {
    Maintain,
    Stop,
}

impl Core {
    /// Has the maintenance thread look for work, if there is one; returns at once.
    pub(super) fn wake_maintenance(&self) {
        if let Some(Wake(tasks)) = self.maintenance.get() {
            // Full means that it is about to look anyway.
            let _ = tasks.try_send(Task::Maintain);
        }
    }
}

impl Drop for Maintenance {
    /// Ends the thread when it is done with what it is doing.
    fn drop(&mut self) {
        let _ = self.wake.0.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            join(thread);
        }
    }
}

fn run(core: &Core, tasks: &Receiver<Task>) {
    while let Ok(Task::Maintain) = tasks.recv() {
        // What fails stays queued and is tried again at the next wake-up; a writer that needs the
        // result makes it itself and gets the error.
        let failed = core.maintain().is_err();
        core.cannot_seal.store(failed, Ordering::Relaxed);
    }
}
