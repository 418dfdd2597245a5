//! [`SimVfs`]: a disk in memory that keeps a record of what was done to it, and so knows every
//! state that a power cut could have left behind.
//!
//! # What is durable when
//!
//! - Bytes and length of a file: after a later successful sync of that file. Until then any
//!   subset of its writes may be lost, and each write may be torn. A write past the end is two
//!   operations, the new length and the bytes, so that "longer, and zeros" exists.
//! - A name (create, link, rename, remove, new directory): after a later successful sync of the
//!   directory that holds it. Until then any subset of them may be lost, and a rename may survive
//!   while the bytes of the file did not.
//! - A failed sync: the operations it should have made durable may or may not be on the disk, and
//!   no later sync of the file changes that, although they can still be read until the power goes
//!   (so do Linux' page caches behave).
//!
//! A linked file is one file with two names, also in what a power cut leaves. A copy is written, as
//! on a disk that shares no blocks.
//!
//! Locks are held per disk and die with it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Content;
use super::crash::{CrashOptions, CrashStates};
use super::disk::{Call, Disk, FileId, Image, Name, Op, Places, SimFile, ancestors};
use super::fault::{CallKind, Fault, FaultPlan, os_error};
use crate::vfs::{File, LockGuard, Map, OpenMode, Vfs};

/// A simulated disk. Clones share it.
///
/// It works like any other [`Vfs`]; besides, [`SimVfs::crash_states`] enumerates what a power cut
/// at any moment of the run could have left, and [`SimVfs::set_fault`] makes calls fail.
#[derive(Clone, Default)]
pub struct SimVfs {
    disk: Arc<Mutex<Disk>>,
}

struct Handle {
    disk: Arc<Mutex<Disk>>,
    file: FileId,
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    name: Name,
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk.lock();
        f.debug_struct("SimVfs")
            .field("files", &disk.names.len())
            .field("operations", &disk.ops.len())
            .finish()
    }
}

impl SimVfs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds `image`, all of it durable.
    pub(super) fn from_image(image: Image) -> Self {
        let mut disk = Disk { dirs: image.dirs.clone(), ..Disk::default() };
        let mut places = Places::default();
        for (name, content) in &image.files {
            let file = places.of(content, disk.files.len());
            disk.names.insert(Arc::clone(name), file);
            if file == disk.files.len() {
                let reserved = content.len();
                disk.files.push(SimFile { content: Arc::clone(content), reserved });
            }
        }
        disk.base = Arc::new(image);
        SimVfs { disk: Arc::new(Mutex::new(disk)) }
    }

    /// A disk that holds `files`, all of them durable.
    pub fn with_files(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut image = Image::default();
        for (path, bytes) in files {
            image.files.insert(path.as_os_str().into(), Arc::new(Content::from_bytes(bytes)));
            image.dirs.extend(ancestors(path).map(Name::from));
        }
        Self::from_image(image)
    }

    /// Every file as it can be read now, by path.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.disk.lock();
        let bytes = |file: &FileId| disk.files[*file].content.to_vec();
        disk.names.iter().map(|(name, file)| (PathBuf::from(name), bytes(file))).collect()
    }

    /// As if the process that uses the disk were killed: while `end` drops what it held, every
    /// call fails and leaves no trace. What was written stays readable, synced or not.
    pub fn kill(&self, end: impl FnOnce()) {
        self.disk.lock().is_cut_off = true;
        end();
        self.disk.lock().is_cut_off = false;
    }

    /// How many syncs have failed.
    pub fn failed_syncs(&self) -> usize {
        self.disk.lock().failed_syncs
    }

    /// How many changes of files and names were made while nobody held a lock on this disk, new
    /// files apart. A program that locks what it works on makes none.
    pub fn changes_without_lock(&self) -> usize {
        self.disk.lock().unlocked_changes
    }

    /// How many operations were recorded: a moment of the run. A power cut "at `n`" happens when
    /// the first `n` operations were done.
    pub fn position(&self) -> usize {
        self.disk.lock().ops.len()
    }

    /// Notes that something was promised to the outside (a write was acknowledged as durable,
    /// say): [`SimVfs::crash_states`] then lists all states that are possible at this moment, not
    /// only those that are new. Returns the moment.
    pub fn mark(&self) -> usize {
        let mut disk = self.disk.lock();
        disk.ops.push(Op::Mark);
        disk.ops.len()
    }

    /// The recorded operations, one line each, for people.
    pub fn trace(&self) -> Vec<String> {
        let disk = self.disk.lock();
        disk.ops.iter().enumerate().map(|(i, op)| format!("{i:4} {op:?}")).collect()
    }

    /// Every state that a power cut at any moment of the run so far could leave, as far as
    /// `options` let the enumeration go. The run may go on meanwhile: it is not looked at again.
    pub fn crash_states(&self, options: &CrashOptions) -> CrashStates {
        let disk = self.disk.lock();
        CrashStates::new(Arc::clone(&disk.base), disk.ops.clone(), options.clone())
    }

    /// Makes calls fail as `plan` says; the calls it counts are counted from now on. `None`:
    /// nothing fails any more.
    pub fn set_fault(&self, plan: Option<FaultPlan>) {
        let mut disk = self.disk.lock();
        disk.faults.set(plan);
        disk.is_cut_off = false;
    }

    /// How many calls were made on this disk and its files.
    pub fn calls(&self) -> u64 {
        self.disk.lock().faults.calls()
    }

    /// How many calls have failed by the present plan.
    pub fn injected(&self) -> u64 {
        self.disk.lock().faults.injected()
    }

    /// Limits the bytes that files may take together; writes beyond it fail with "no space left",
    /// or are cut short. `None`: no limit.
    pub fn set_quota(&self, bytes: Option<usize>) {
        self.disk.lock().quota = bytes;
    }

    /// Bytes that the files take now: written or allocated.
    pub fn used(&self) -> usize {
        self.disk.lock().used()
    }

    /// Starts a call: meets its fault, if it fails before it does anything.
    fn enter(&self, kind: CallKind) -> io::Result<Call<'_>> {
        Call::enter(&self.disk, kind)
    }
}

impl Vfs for SimVfs {
    fn free_space(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(Some(self.disk.lock().free() as u64))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let create = mode == OpenMode::CreateNew;
        let mut call = self.enter(if create { CallKind::Create } else { CallKind::Open })?;
        let file = if create {
            let name = call.disk.free_name(path)?;
            call.disk.add_file(name)
        } else {
            call.disk.find(path)?
        };
        let handle: Arc<dyn File> = Arc::new(Handle { disk: Arc::clone(&self.disk), file });
        call.leave(handle)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let call = self.enter(CallKind::List)?;
        let names = call.disk.names_in(dir, call.disk.names.keys())?;
        call.leave(names)
    }

    fn list_others(&self, dir: &Path) -> io::Result<Vec<String>> {
        let call = self.enter(CallKind::List)?;
        let names = call.disk.names_in(dir, call.disk.dirs.iter())?;
        call.leave(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut call = self.enter(CallKind::MakeDir)?;
        let mut missing: Vec<&Path> = dir.ancestors().collect();
        missing.retain(|dir| !call.disk.has_dir(dir));
        for dir in missing.into_iter().rev() {
            let name = Name::from(dir.as_os_str());
            call.disk.dirs.insert(Arc::clone(&name));
            call.disk.ops.push(Op::MakeDir { name });
        }
        call.leave(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut call = self.enter(CallKind::Rename)?;
        let file = call.disk.find(from)?;
        call.disk.check_parent(to)?;
        let (from, to) = (Name::from(from.as_os_str()), Name::from(to.as_os_str()));
        call.disk.names.remove(&from);
        call.disk.names.insert(Arc::clone(&to), file);
        call.disk.change(Op::Rename { from, to, file });
        call.leave(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut call = self.enter(CallKind::Remove)?;
        call.disk.find(path)?;
        call.disk.names.remove(path.as_os_str());
        call.disk.change(Op::Remove { name: path.as_os_str().into() });
        call.leave(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut call = self.enter(CallKind::Link)?;
        let file = call.disk.find(from)?;
        let name = call.disk.free_name(to)?;
        call.disk.names.insert(Arc::clone(&name), file);
        call.disk.change(Op::Link { name, file });
        call.leave(())
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<Arc<dyn File>> {
        let mut call = self.enter(CallKind::Copy)?;
        let bytes = call.disk.files[call.disk.find(from)?].content.to_vec();
        let name = call.disk.free_name(to)?;
        if bytes.len() > call.disk.free() {
            return Err(os_error(Fault::ENOSPC));
        }
        let file = call.disk.add_file(name);
        call.disk.write(file, 0, &bytes);
        let handle: Arc<dyn File> = Arc::new(Handle { disk: Arc::clone(&self.disk), file });
        call.leave(handle)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let entered = self.enter(CallKind::SyncDir);
        let name = Name::from(dir.as_os_str());
        match entered {
            Ok(mut call) => {
                if !call.disk.has_dir(dir) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                call.disk.ops.push(Op::SyncDir { name, done: true });
                call.leave(())
            }
            Err(e) => {
                if e.kind() != io::ErrorKind::Interrupted {
                    self.disk.lock().fail_sync(Op::SyncDir { name, done: false });
                }
                Err(e)
            }
        }
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn LockGuard>, String>> {
        let mut call = self.enter(CallKind::Lock)?;
        if let Some(holder) = call.disk.locks.get(path.as_os_str()) {
            let holder = holder.clone();
            return call.leave(Err(holder));
        }
        let name = Name::from(path.as_os_str());
        if !call.disk.names.contains_key(&name) {
            call.disk.check_parent(path)?;
            call.disk.add_file(Arc::clone(&name));
        }
        if matches!(call.fault, Some(Fault::ErrorAfter(_) | Fault::ErrorAfterAll(_))) {
            // The caller gets no guard, so the lock must not stay taken.
            return call.leave(Err(String::new()));
        }
        call.disk.locks.insert(Arc::clone(&name), note.to_owned());
        let guard: Box<dyn LockGuard> = Box::new(SimLock { disk: Arc::clone(&self.disk), name });
        Ok(Ok(guard))
    }
}

impl LockGuard for SimLock {}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("name", &self.name).finish()
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.name);
    }
}

/// A place or a length that the simulation can hold.
fn to_usize(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Handle {
    fn enter(&self, kind: CallKind) -> io::Result<Call<'_>> {
        Call::enter(&self.disk, kind)
    }
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let call = self.enter(CallKind::Read)?;
        let len = match call.fault {
            Some(Fault::Short(max)) => buf.len().min(max.max(1)),
            _ => buf.len(),
        };
        let buf = buf.get_mut(..len).unwrap_or(&mut []);
        let n = call.disk.files[self.file].content.read(to_usize(offset)?, buf);
        call.leave(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut call = self.enter(CallKind::Write)?;
        let offset = to_usize(offset)?;
        let room = (call.disk.files[self.file].reserved + call.disk.free()).saturating_sub(offset);
        let len = match call.fault {
            Some(Fault::Short(max)) => buf.len().min(max),
            Some(Fault::ErrorAfter(_)) => buf.len() / 2,
            _ => buf.len(),
        };
        if room == 0 && len > 0 {
            return Err(os_error(Fault::ENOSPC));
        }
        let bytes = buf.get(..len.min(room)).unwrap_or(buf);
        call.disk.write(self.file, offset, bytes);
        call.leave(bytes.len())
    }

    fn len(&self) -> io::Result<u64> {
        let call = self.enter(CallKind::Len)?;
        let len = call.disk.files[self.file].content.len();
        call.leave(len as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut call = self.enter(CallKind::SetLen)?;
        call.disk.set_len(self.file, to_usize(len)?);
        call.leave(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut call = self.enter(CallKind::Allocate)?;
        let len = to_usize(len)?;
        let state = &call.disk.files[self.file];
        if len > state.reserved + call.disk.free() {
            return Err(os_error(Fault::ENOSPC));
        }
        if len > state.content.len() {
            call.disk.set_len(self.file, len);
        }
        let state = &mut call.disk.files[self.file];
        state.reserved = state.reserved.max(len);
        call.leave(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.enter(CallKind::Sync) {
            Ok(mut call) => {
                call.disk.ops.push(Op::SyncFile { file: self.file, done: true });
                call.leave(())
            }
            Err(e) => {
                if e.kind() != io::ErrorKind::Interrupted {
                    self.disk.lock().fail_sync(Op::SyncFile { file: self.file, done: false });
                }
                Err(e)
            }
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn map(&self, len: u64) -> io::Result<Option<Map>> {
        let call = self.enter(CallKind::Map)?;
        let mut bytes = vec![0; to_usize(len)?.min(call.disk.files[self.file].content.len())];
        call.disk.files[self.file].content.read(0, &mut bytes);
        if (bytes.len() as u64) < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        call.leave(Some(Map::Memory(bytes.into())))
    }
}
