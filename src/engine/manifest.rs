//! The manifest file: appends edits, each synced before the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Corruption, OpenError, WriteError};
use super::poison::Poison;
use crate::format::manifest::{self, Edit, FILE_NAME, Manifest, ManifestError, State, TEMP_NAME};
use crate::format::segment::StoreId;
use crate::vfs::{File, IoError, OpenMode, Vfs, read_full_at, write_all_at};

/// A manifest longer than this many bytes per live segment, and than a page, is written anew.
const BYTES_PER_SEGMENT_MAX: u64 = 256;
const REWRITE_LEN_MIN: u64 = 4096;

/// The manifest of an open store.
pub(super) struct ManifestFile {
    path: PathBuf,
    /// `None` in a read-only store.
    file: Option<Arc<dyn File>>,
    salt: u32,
    end: u64,
    pub(super) state: State,
    /// Ids below this one are listed, were, or are kept for segments that compaction writes.
    next_id: u64,
}

/// Reads the manifest of the store in `dir`; `None` if there is none.
pub(super) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = dir.join(FILE_NAME);
    let file = match vfs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(IoError::new("open", path, e).into()),
    };
    let failed = |e| IoError::new("read", &path, e);
    let len = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    match manifest::decode(&bytes) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(ManifestError::Version(major, minor)) => {
            Err(OpenError::Version { file: path, found: (major, minor) })
        }
        Err(ManifestError::Corrupt(offset, what)) => {
            Err(Corruption { file: path, offset, what }.into())
        }
    }
}

/// True if a manifest of `len` bytes is much longer than its state.
fn is_long(len: u64, state: &State) -> bool {
    len > REWRITE_LEN_MIN && len > state.segments.len() as u64 * BYTES_PER_SEGMENT_MAX
}

impl ManifestFile {
    /// For a store that is only read.
    pub(super) fn read_only(dir: &Path, state: State) -> Self {
        let next_id = state.next_segment;
        ManifestFile { path: dir.join(FILE_NAME), file: None, salt: 0, end: 0, state, next_id }
    }

    /// Opens the manifest that was `read` for appending; writes it anew if its tail is torn or it
    /// has grown out of proportion.
    pub(super) fn open(vfs: &dyn Vfs, dir: &Path, read: Manifest) -> Result<Self, OpenError> {
        if read.torn || read.padding.is_some() || read.is_old || is_long(read.end, &read.state) {
            return Self::create(vfs, dir, &read.store, read.state);
        }
        let path = dir.join(FILE_NAME);
        let file =
            vfs.open(&path, OpenMode::ReadWrite).map_err(|e| IoError::new("open", &path, e))?;
        // The last process may have been killed between a write, or the rename, and its sync:
        // what was read becomes durable before anything is built on it.
        if !planted!(RecoveredManifestNotSynced) {
            file.sync_data().map_err(|e| IoError::new("sync", &path, e))?;
        }
        vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))?;
        Ok(ManifestFile {
            path,
            file: Some(file),
            salt: read.salt,
            end: read.end,
            next_id: read.state.next_segment,
            state: read.state,
        })
    }

    /// Writes a manifest with `state` and puts it in place of the old one, if there is one.
    ///
    /// After a crash at any byte the old manifest or the new one is there, whole.
    pub(super) fn create(
        vfs: &dyn Vfs,
        dir: &Path,
        store: &StoreId,
        state: State,
    ) -> Result<Self, OpenError> {
        let ready = Self::write_aside(vfs, dir, store, state)?;
        ready.put_in_place(vfs, dir)?;
        Ok(ready)
    }

    /// Writes a manifest with `state` under the temporary name and syncs it. It counts only once it
    /// is put in place.
    fn write_aside(
        vfs: &dyn Vfs,
        dir: &Path,
        store: &StoreId,
        state: State,
    ) -> Result<Self, OpenError> {
        let temp = dir.join(TEMP_NAME);
        let path = dir.join(FILE_NAME);
        match vfs.remove(&temp) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(IoError::new("remove", temp, e).into());
            }
            _ => {}
        }
        let failed = |op| {
            let temp = temp.clone();
            move |e| OpenError::Io(IoError::new(op, temp, e))
        };
        let file = vfs.open(&temp, OpenMode::CreateNew).map_err(failed("create"))?;
        let (header, salt) = manifest::encode_header(store);
        let mut bytes = header.to_vec();
        for edit in state.edits() {
            let offset = bytes.len() as u64;
            manifest::encode_edit(&mut bytes, salt, offset, &edit)
                .map_err(OpenError::InvalidOption)?;
        }
        write_all_at(&*file, &bytes, 0).map_err(failed("write"))?;
        if !planted!(RenameBeforeSync) {
            file.sync_all().map_err(failed("sync"))?;
        }
        let next_id = state.next_segment;
        Ok(ManifestFile { path, file: Some(file), salt, end: bytes.len() as u64, state, next_id })
    }

    /// Renames a manifest that was written aside over the old one, durably. If that fails nobody
    /// can say which of them the next open will find; both say the same.
    fn put_in_place(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), IoError> {
        let temp = dir.join(TEMP_NAME);
        vfs.rename(&temp, &self.path).map_err(|e| IoError::new("rename", temp, e))?;
        if planted!(RenameDirNotSynced) {
            return Ok(());
        }
        vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))
    }

    /// Writes the manifest anew if it has grown out of proportion, so that a store that stays open
    /// for years keeps a short one.
    ///
    /// # Errors
    ///
    /// A failure before the new one is put in place is none: the old one goes on. After that the
    /// store is poisoned, since later edits might go into a file that is not found again.
    pub(super) fn trim(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        store: &StoreId,
        poison: &Poison,
    ) -> Result<(), WriteError> {
        if !is_long(self.end, &self.state) || poison.check().is_err() {
            return Ok(());
        }
        let Ok(mut new) = Self::write_aside(vfs, dir, store, self.state.clone()) else {
            return Ok(());
        };
        new.put_in_place(vfs, dir).map_err(|e| poison.set(e))?;
        new.next_id = new.next_id.max(self.next_id);
        *self = new;
        Ok(())
    }

    /// An id for a new segment; none is given out twice.
    pub(super) fn take_id(&mut self) -> u64 {
        if planted!(SegmentIdReused) {
            return self.state.segments.iter().map(|s| s.id + 1).max().unwrap_or(1);
        }
        let id = self.next_id.max(self.state.next_segment);
        self.next_id = id.saturating_add(1);
        id
    }

    /// Appends `edit` and syncs it.
    ///
    /// # Errors
    ///
    /// A failed write leaves the manifest as it was. A failed sync, or a failed write that cannot
    /// be taken back, sets `poison`.
    pub(super) fn append(&mut self, edit: &Edit, poison: &Poison) -> Result<(), WriteError> {
        let Some(file) = &self.file else { return Err(WriteError::ReadOnly) };
        // The failed sync may have been one of this file.
        poison.check()?;
        let invalid = |what: String| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
            WriteError::Io(IoError::new("encode edit for", &self.path, source))
        };
        let mut state = self.state.clone();
        state.apply(edit).map_err(invalid)?;
        let mut bytes = Vec::new();
        manifest::encode_edit(&mut bytes, self.salt, self.end, edit).map_err(invalid)?;
        if let Err(e) = write_all_at(&**file, &bytes, self.end) {
            // Gone for good before anything is done about the failure: the edit may be there whole.
            if let Err(e) = file.set_len(self.end).and_then(|()| file.sync_data()) {
                return Err(poison.set(IoError::new("cut", &self.path, e)));
            }
            return Err(WriteError::from_append(IoError::new("write", &self.path, e)));
        }
        if let Err(e) = file.sync_data()
            && !planted!(ManifestSyncErrorIgnored)
        {
            return Err(poison.set(IoError::new("sync", &self.path, e)));
        }
        self.end += bytes.len() as u64;
        self.state = state;
        Ok(())
    }
}
