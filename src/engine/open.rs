//! Opening and closing: what a writer does to the disk before its first and after its last write.
//!
//! Order at open, so that a crash at any point leaves a store that opens the same way again:
//!
//! 1. create the store if there is none: manifest under a temporary name, synced, renamed;
//! 2. read the manifest and every segment; decide (nothing has been changed so far);
//! 3. cut the torn tail and sync the tail's files: what was found in the page cache after the
//!    death of a process becomes durable before anybody builds on it;
//! 4. list dropped segments as removed, then remove their files;
//! 5. note the new epoch in the manifest: frames may be written now.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use super::backup::unfinished;
use super::catalog::Catalog;
use super::checkpoint::{Base, Checkpoints, ManifestView, Stop};
use super::clock::Clock;
use super::compaction::Control;
use super::compression::ValueCache;
use super::core::{Core, Log};
use super::durable::DurableSnapshots;
use super::error::{OpenError, WriteError};
use super::feed::FeedSignal;
use super::manifest::{self, ManifestFile};
use super::options::Options;
use super::points::Points;
use super::poison::Poison;
use super::recovery::{Case, HintSource, RecoveryReport, judge_unlisted, refuse};
use super::replay::Source;
use super::segments::SegmentTable;
use super::sync::Syncer;
use super::tail::TailScan;
use crate::format::checkpoint;
use crate::format::hint::hash_seed;
use crate::format::manifest::{Edit, FILE_NAME, Manifest, State};
use crate::format::segment::{SEGMENT_HEADER_LEN, StoreId, parse_file_name};
use crate::vfs::{IoError, LockGuard, OpenMode, Vfs};

/// File name of the lock.
pub(super) const LOCK_NAME: &str = "LOCK";

/// True if a file of that name makes a directory a store, or the rest of one.
pub(crate) fn is_store_file(name: &str) -> bool {
    name == FILE_NAME || parse_file_name(name).is_some()
}

/// A reader beside a writer may see a file change under its eyes: it tries again, this often.
const READER_TRIES: u32 = 20;

impl Core {
    /// Opens the store in `dir`.
    pub(super) fn open(dir: &Path, options: Options) -> Result<Arc<Core>, OpenError> {
        options.validate()?;
        // The process may change its directory later.
        let dir = &*options.vfs.absolute(dir);
        if !options.is_finishing && unfinished::mark_in(&*options.vfs, dir)?.is_some() {
            return Err(OpenError::Unfinished { dir: dir.to_owned() });
        }
        if !options.read_only {
            return Self::open_writer(dir, options);
        }
        let mut tries = 0;
        loop {
            match Self::open_reader(dir, options.clone()) {
                Err(OpenError::Corrupt(_)) if tries < READER_TRIES => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }

    fn open_reader(dir: &Path, options: Options) -> Result<Arc<Core>, OpenError> {
        let Some(read) = manifest::read(&*options.vfs, dir)? else {
            return Err(OpenError::Missing { dir: dir.to_owned() });
        };
        let mut report = RecoveryReport::default();
        if read.torn {
            report.note(Case::TornManifest, dir, read.end, "the last edit is not whole");
        }
        let state = read.state.clone();
        let file = ManifestFile::read_only(dir, read.state);
        let mut core = Core::new(dir, options, read.store, file, None);
        let (tail, _) = core.recover_and_load(&state, &mut report)?;
        core.log.get_mut().next_seqno = tail.next_seqno;
        *core.applied.get_mut() = tail.next_seqno;
        core.sync.durable.store(report.watermark, Ordering::Release);
        report.clean = state.is_clean && report.is_quiet();
        core.report = report;
        Ok(Arc::new(core))
    }

    fn open_writer(dir: &Path, options: Options) -> Result<Arc<Core>, OpenError> {
        let vfs = Arc::clone(&options.vfs);
        if options.create {
            vfs.create_dir_all(dir).map_err(|e| IoError::new("create directory", dir, e))?;
        } else {
            // Not even a lock is left where there is no store.
            let path = dir.join(FILE_NAME);
            vfs.open(&path, OpenMode::Read).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => OpenError::Missing { dir: dir.to_owned() },
                _ => IoError::new("open", path, e).into(),
            })?;
        }
        let lock = take_lock(&*vfs, dir)?;
        let mut report = RecoveryReport::default();
        let (store, file) = match manifest::read(&*vfs, dir)? {
            Some(read) => {
                if read.torn {
                    report.note(Case::TornManifest, dir, read.end, "the last edit is not whole");
                }
                let dead = judge_unlisted(&*vfs, dir, &read.store, &read.state, &mut report)?;
                return Self::resume(dir, options, read, dead, lock, report);
            }
            None => Self::create(dir, &options)?,
        };
        report.created = true;
        report.clean = true;
        report.watermark = 1;
        report.next_seqno = 1;
        let mut core = Core::new(dir, options, store, file, Some(lock));
        core.epoch = core.manifest.get_mut().state.epoch;
        core.log.get_mut().next_seqno = 1;
        core.sync.durable.store(1, Ordering::Release);
        core.report = report;
        Ok(Arc::new(core))
    }

    /// Writes the manifest of a new store.
    fn create(dir: &Path, options: &Options) -> Result<(StoreId, ManifestFile), OpenError> {
        if !options.create {
            return Err(OpenError::Missing { dir: dir.to_owned() });
        }
        let names = options.vfs.list(dir).map_err(|e| IoError::new("list", dir, e))?;
        if let Some(name) = names.iter().find(|name| parse_file_name(name).is_some()) {
            let path = dir.join(name);
            return Err(refuse(Case::MissingManifest, &path, 0, "a segment without a manifest"));
        }
        if !planted!(DirsAboveNotSynced) {
            sync_dirs_above(&*options.vfs, dir)?;
        }
        let id = options.store_id.unwrap_or_else(random_id);
        let state = State { epoch: 1, ..State::new() };
        let file = ManifestFile::create(&*options.vfs, dir, &id, state)?;
        Ok((id, file))
    }

    /// Opens an existing store for writing.
    fn resume(
        dir: &Path,
        options: Options,
        read: Manifest,
        dead: Vec<std::path::PathBuf>,
        lock: Box<dyn LockGuard>,
        mut report: RecoveryReport,
    ) -> Result<Arc<Core>, OpenError> {
        let vfs = Arc::clone(&options.vfs);
        let state = read.state.clone();
        let store = read.store;
        let view = ManifestFile::read_only(dir, read.state.clone());
        let mut core = Core::new(dir, options, store, view, Some(lock));
        let (tail, has_bad_checkpoint) = core.recover_and_load(&state, &mut report)?;
        core.epoch = state.epoch.checked_add(1).ok_or_else(|| {
            let path = dir.join(FILE_NAME);
            refuse(Case::Inconsistent, &path, 0, "the numbers of opens are used up")
        })?;
        // Everything has been read and judged: from here on the disk is changed.
        *core.manifest.get_mut() = ManifestFile::open(&*vfs, dir, read)?;
        for path in dead {
            vfs.remove(&path).map_err(|e| IoError::new("remove", path, e))?;
        }
        if has_bad_checkpoint {
            core.remove_checkpoint()?;
        }
        report.clean = state.is_clean && report.is_quiet();
        core.settle(&tail, report.clean)?;
        core.adopt_tail(tail)?;
        core.report = report;
        Ok(Arc::new(core))
    }

    /// Makes what was recovered durable and everything else gone; then enters the new epoch.
    fn settle(&mut self, tail: &TailScan, is_clean: bool) -> Result<(), OpenError> {
        let failed = |e| match e {
            WriteError::Full(e) | WriteError::Io(e) | WriteError::Poisoned(e) => OpenError::Io(e),
            other => OpenError::InvalidOption(other.to_string()),
        };
        if !is_clean && !planted!(LengthNotNoted) {
            // Noted first: a crash in between leaves a file that is longer than it has to be.
            self.note_lengths(tail).map_err(failed)?;
        }
        for t in &tail.segments {
            let segment = &t.segment;
            if t.is_dirty && !t.is_full && !planted!(TornTailNotCut) {
                let cut = segment.file.set_len(segment.end());
                cut.map_err(|e| IoError::new("cut", &segment.path, e))?;
            }
            if !is_clean && !planted!(RecoveredTailNotSynced) {
                segment.sync()?;
            }
        }
        let vfs = Arc::clone(&self.options.vfs);
        let manifest = self.manifest.get_mut();
        let leaving = || tail.dropped.iter().chain(&tail.unused);
        if leaving().next().is_some() {
            let ids = leaving().map(|s| s.id).collect();
            manifest.append(&Edit::Remove { ids }, &self.poison).map_err(failed)?;
            for segment in leaving() {
                vfs.remove(&segment.path).map_err(|e| IoError::new("remove", &segment.path, e))?;
                self.segments.remove(segment);
            }
        }
        let edit = Edit::Open { epoch: self.epoch, watermark: tail.next_seqno };
        manifest.append(&edit, &self.poison).map_err(failed)
    }

    /// Notes the lengths of segments that are about to be cut, or have lost room that was reserved.
    fn note_lengths(&mut self, tail: &TailScan) -> Result<(), WriteError> {
        let manifest = self.manifest.get_mut();
        for t in &tail.segments {
            let id = t.segment.id;
            let is_cut = t.is_dirty && !t.is_full;
            let file_len = t.segment.file_len().map_err(WriteError::Io)?;
            let len = if is_cut { t.segment.end() } else { file_len };
            if manifest.state.segments.iter().any(|s| s.id == id && s.len > len) {
                manifest.append(&Edit::Resize { id, len }, &self.poison)?;
            }
        }
        Ok(())
    }

    /// Gives each segment of the tail its place: full ones wait for their footer, the last with
    /// room is active, an empty one behind it is the prepared next.
    fn adopt_tail(&mut self, tail: TailScan) -> Result<(), OpenError> {
        let usual_len = self.usual_segment_len();
        let log = self.log.get_mut();
        log.usual_len = usual_len;
        log.next_seqno = tail.next_seqno;
        *self.applied.get_mut() = tail.next_seqno;
        for t in tail.segments {
            let segment = t.segment;
            if t.is_full {
                self.sealing.get_mut().push_back(segment);
            } else if log.active.is_none() {
                log.offset = segment.end();
                log.capacity = segment.file_len()?;
                log.active = Some(segment);
            } else if self.prepared.get_mut().is_none() && segment.end() == SEGMENT_HEADER_LEN {
                *self.prepared.get_mut() = Some(segment);
            } else {
                let what = "more than one segment has room for the log";
                return Err(refuse(Case::Inconsistent, &segment.path, 0, what));
            }
        }
        self.sync.durable.store(tail.next_seqno, Ordering::Release);
        Ok(())
    }

    /// Reads the segments and fills catalog, index and books: from the checkpoint, if there is one
    /// that counts, and from the log. Returns the tail of the log, and whether there is a
    /// checkpoint that does not count. Changes nothing on disk.
    fn recover_and_load(
        &mut self,
        state: &State,
        report: &mut RecoveryReport,
    ) -> Result<(TailScan, bool), OpenError> {
        let view = ManifestView {
            segments: &state.segments,
            epoch: state.epoch,
            next_segment: state.next_segment,
        };
        let base = self.find_checkpoint(&view).transpose();
        let found = base.map(|base| base.and_then(|base| self.load_base(state, &base, report)));
        let is_ignored = match found {
            None => false,
            Some(Ok(tail)) => return Ok((tail, false)),
            Some(Err(Stop::Failed(e))) => return Err(e),
            Some(Err(Stop::Damaged(what))) => {
                report.ignore_checkpoint(&self.dir, Case::DamagedCheckpoint, &what);
                self.forget_loaded();
                true
            }
            Some(Err(Stop::Stale(what))) => {
                report.ignore_checkpoint(&self.dir, Case::StaleCheckpoint, &what);
                self.forget_loaded();
                true
            }
        };
        let mut recovered =
            self.recover(&state.segments, state.watermark, state.sealed_next, None, report)?;
        let sources = recovered.take_sources();
        keep_tail_hints(&sources);
        self.load(&sources)?;
        let replayed = self.segments.all().iter().map(|s| s.end()).sum();
        self.checkpoints.opened(0, replayed);
        Ok((recovered.tail, is_ignored))
    }

    /// As [`Core::recover_and_load`], on top of a checkpoint.
    fn load_base(
        &self,
        state: &State,
        base: &Base,
        report: &mut RecoveryReport,
    ) -> Result<TailScan, Stop> {
        let mut with_base = report.clone();
        let (watermark, next) = (state.watermark, state.sealed_next);
        let mut recovered =
            self.recover(&state.segments, watermark, next, Some(base), &mut with_base)?;
        if recovered.tail.next_seqno < base.seqno {
            return Err("it reaches further than the log".into());
        }
        let sources = recovered.take_sources();
        keep_tail_hints(&sources);
        self.load_onto(&sources, base)?;
        self.segments.free_left_slots();
        self.checkpoints.opened(base.len, base.replayed(&sources));
        with_base.checkpoint = Some(base.seqno);
        *report = with_base;
        Ok(recovered.tail)
    }

    /// Forgets what was loaded on top of a checkpoint that does not count.
    fn forget_loaded(&mut self) {
        self.catalog = Catalog::default();
        self.segments = SegmentTable::default();
        self.points = Points::default();
        self.snapshots = DurableSnapshots::default();
        self.clock = Clock::new(self.options.time);
    }

    /// Removes a checkpoint that does not count, for good: the log goes on, and it must never look
    /// as if it were one of the log as it is then.
    fn remove_checkpoint(&self) -> Result<(), OpenError> {
        let path = self.dir.join(checkpoint::FILE_NAME);
        let vfs = &self.options.vfs;
        vfs.remove(&path).map_err(|e| IoError::new("remove", path, e))?;
        let synced = vfs.sync_dir(&self.dir);
        Ok(synced.map_err(|e| IoError::new("sync directory", &self.dir, e))?)
    }

    fn new(
        dir: &Path,
        options: Options,
        store_id: StoreId,
        manifest: ManifestFile,
        lock: Option<Box<dyn LockGuard>>,
    ) -> Core {
        Core {
            clock: Clock::new(options.time),
            values: ValueCache::new(options.value_cache),
            options,
            dir: dir.to_owned(),
            store_id,
            hash_seed: hash_seed(&store_id),
            epoch: 0,
            catalog: Catalog::default(),
            segments: SegmentTable::default(),
            gate: RwLock::default(),
            maintenance: OnceLock::new(),
            swinging: RwLock::default(),
            log: Mutex::new(Log {
                active: None,
                offset: SEGMENT_HEADER_LEN,
                capacity: 0,
                next_seqno: 1,
                unsynced: Vec::new(),
                is_closed: false,
                usual_len: 0,
                is_announced: false,
            }),
            apply: Mutex::default(),
            applied: AtomicU64::new(1),
            prepared: Mutex::default(),
            sealing: Mutex::default(),
            sealed: Condvar::new(),
            cannot_seal: AtomicBool::new(false),
            manifest: Mutex::new(manifest),
            closed: Mutex::default(),
            maintaining: Mutex::default(),
            points: Points::default(),
            snapshots: DurableSnapshots::default(),
            compaction: Control::default(),
            checkpoints: Checkpoints::default(),
            sync: Syncer::default(),
            feed: FeedSignal::default(),
            poison: Poison::default(),
            report: RecoveryReport::default(),
            appended_bytes: AtomicU64::new(0),
            lock: Mutex::new(lock),
        }
    }

    /// Makes everything durable and notes in the manifest that nothing follows. Writes are refused
    /// from now on. Whoever calls it again waits for the first call and is told the same.
    pub(super) fn close(&self) -> Result<(), WriteError> {
        if self.options.read_only {
            return Ok(());
        }
        let mut closed = self.closed.lock();
        if planted!(LockGoesFirst) {
            self.lock.lock().take();
        }
        let result = closed.get_or_insert_with(|| self.close_once()).clone();
        self.feed.close();
        // Nobody writes any more: snapshots and iterators that are still held do not keep others
        // from opening the store.
        self.lock.lock().take();
        result
    }

    fn close_once(&self) -> Result<(), WriteError> {
        // Nothing may be written behind the edit that closes the store.
        self.compaction.close();
        // On a full device the time is told again after the next open.
        let _ = self.keep_time();
        self.log.lock().is_closed = true;
        self.poison.check()?;
        // Segments that cannot be sealed now, on a full device, are sealed after the next open.
        let _ = self.maintain();
        let log = self.log.lock();
        let next_seqno = log.next_seqno;
        let active = log.active.clone();
        let offset = log.offset;
        drop(log);
        self.sync_upto(next_seqno)?;
        self.drop_prepared()?;
        self.checkpoint_at_close();
        let end = active.as_ref().map(|active| (active.id, offset));
        let edit = Edit::Close { watermark: next_seqno, active: end };
        self.manifest.lock().append(&edit, &self.poison)?;
        if let Some(active) = active {
            // Room that cannot be given back is no harm: what matters is in the manifest.
            let _ = active.file.set_len(offset);
        }
        Ok(())
    }
}

impl Core {
    /// Gives back the room that is reserved in a segment that was never written to.
    fn drop_prepared(&self) -> Result<(), WriteError> {
        let Some(unused) = self.prepared.lock().take() else { return Ok(()) };
        let edit = Edit::Remove { ids: vec![unused.id] };
        self.manifest.lock().append(&edit, &self.poison)?;
        self.segments.remove(&unused);
        // Not listed any more: if it stays, the next open removes it.
        let _ = self.options.vfs.remove(&unused.path);
        Ok(())
    }
}

/// Unsealed segments keep the hints that their footer will hold.
fn keep_tail_hints(sources: &[Source]) {
    for (segment, hints) in sources {
        if let (None, HintSource::Decoded(hints)) = (segment.seal(), hints) {
            segment.hints.lock().clone_from(hints);
        }
    }
}

/// Makes the name of the store's directory durable, and those of the directories above it: any of
/// them may have been created with it, by this open or by one that was interrupted.
pub(super) fn sync_dirs_above(vfs: &dyn Vfs, dir: &Path) -> Result<(), OpenError> {
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match vfs.sync_dir(above) {
            // One that may not be read, or that cannot be synced, was there before us.
            Err(e) if is_not_ours(&e) => {}
            result => result.map_err(|e| IoError::new("sync directory", above, e))?,
        }
    }
    Ok(())
}

fn is_not_ours(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(e.kind(), PermissionDenied | InvalidInput | Unsupported)
}

pub(super) fn take_lock(vfs: &dyn Vfs, dir: &Path) -> Result<Box<dyn LockGuard>, OpenError> {
    let mut path = dir.join(LOCK_NAME);
    if planted!(LockNotShared) {
        path.set_extension(random_id().map(|byte| byte.to_string()).concat());
    }
    if planted!(StaleLockHolds) && vfs.open(&path, OpenMode::Read).is_ok() {
        return Err(OpenError::Locked { dir: dir.to_owned(), holder: String::new() });
    }
    match vfs.lock(&path, &std::process::id().to_string()) {
        Ok(Ok(guard)) => Ok(guard),
        Ok(Err(holder)) => {
            Err(OpenError::Locked { dir: dir.to_owned(), holder: holder.trim().to_owned() })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(OpenError::Missing { dir: dir.to_owned() })
        }
        Err(e) => Err(IoError::new("lock", path, e).into()),
    }
}

/// An id that no other store has: two of the standard library's randomly keyed hashers.
pub(super) fn random_id() -> StoreId {
    use std::hash::{BuildHasher, RandomState};
    let mut id = StoreId::default();
    for (i, half) in id.chunks_exact_mut(8).enumerate() {
        half.copy_from_slice(&RandomState::new().hash_one(i).to_le_bytes());
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{FILE_NAME, MANIFEST_HEADER_LEN, encode_edit, encode_header};
    use crate::vfs::mem::MemVfs;

    /// Goal: numbers at their end are an error, not an overflow. Method: manifests with right
    /// checksums whose epoch and sequence number are the largest there are.
    #[test]
    fn numbers_that_are_used_up_refuse_the_open() {
        let states = [
            State { epoch: u32::MAX, ..State::new() },
            State { epoch: 1, watermark: u64::MAX, sealed_next: u64::MAX, ..State::new() },
        ];
        for state in states {
            let (header, salt) = encode_header(&StoreId::default());
            let mut bytes = header.to_vec();
            let offset = MANIFEST_HEADER_LEN as u64;
            encode_edit(&mut bytes, salt, offset, &Edit::State(state)).expect("encode");
            let vfs = MemVfs::new();
            vfs.put(Path::new("/store").join(FILE_NAME), bytes);
            let opened = Options::new().vfs(Arc::new(vfs)).open("/store");
            assert!(matches!(opened, Err(OpenError::Corrupt(_))), "{opened:?}");
        }
    }
}
