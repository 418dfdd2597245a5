//! The manifest file: appends edits, each synced before the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Corruption, OpenError, WriteError};
use super::poison::Poison;
use crate::format::FORMAT_MAJOR;
use crate::format::manifest::{
    self, Edit, FILE_NAME, MANIFEST_HEADER_LEN, Manifest, ManifestError, State, TEMP_NAME,
};
use crate::format::segment::StoreId;
use crate::vfs::{File, IoError, OpenMode, Vfs, read_full_at, write_all_at};

/// A manifest longer than this many bytes per live segment, and than a page, is written anew at
/// open.
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

impl ManifestFile {
    /// For a store that is only read.
    pub(super) fn read_only(dir: &Path, state: State) -> Self {
        let next_id = state.next_segment;
        ManifestFile { path: dir.join(FILE_NAME), file: None, salt: 0, end: 0, state, next_id }
    }

    /// Opens the manifest that was `read` for appending; writes it anew if its tail is torn or it
    /// has grown out of proportion.
    pub(super) fn open(vfs: &dyn Vfs, dir: &Path, read: Manifest) -> Result<Self, OpenError> {
        let live = read.state.segments.len() as u64;
        let is_long = read.end > REWRITE_LEN_MIN && read.end > live * BYTES_PER_SEGMENT_MAX;
        if read.torn || read.is_old || is_long {
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
        let edit = Edit::State(state);
        manifest::encode_edit(&mut bytes, salt, MANIFEST_HEADER_LEN as u64, &edit)
            .map_err(OpenError::InvalidOption)?;
        write_all_at(&*file, &bytes, 0).map_err(failed("write"))?;
        if !planted!(RenameBeforeSync) {
            file.sync_all().map_err(failed("sync"))?;
        }
        vfs.rename(&temp, &path).map_err(failed("rename"))?;
        if !planted!(RenameDirNotSynced) {
            vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))?;
        }
        let Edit::State(state) = edit else {
            return Err(OpenError::InvalidOption(format!("format {FORMAT_MAJOR}")));
        };
        let next_id = state.next_segment;
        Ok(ManifestFile { path, file: Some(file), salt, end: bytes.len() as u64, state, next_id })
    }

    /// Its length.
    pub(super) fn end(&self) -> u64 {
        self.end
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
