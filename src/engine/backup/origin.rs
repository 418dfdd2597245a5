//! What a finished backup of a snapshot says of itself: the file `SNAPSHOT` in its directory.
//!
//! A directory with it holds that snapshot and is no target for another backup; the same backup
//! made again finds that it is there. The file is durable before the mark of an unfinished backup
//! goes ([`unfinished`]): a power cut leaves a marked directory, whatever this file is like then,
//! or a finished one with the whole file. It counts while the manifest is the one that it was
//! written for: whoever opens the backup for writing changes that.

use std::path::Path;

use bincode::{Decode, Encode};

use super::frozen::Frozen;
use super::target::Target;
use super::{BackupError, BackupReport, unfinished};
use crate::engine::durable::SnapshotInfo;
use crate::engine::error::OpenError;
use crate::engine::manifest;
use crate::format::manifest::{FILE_NAME, State};
use crate::format::segment::StoreId;
use crate::format::{checksum, codec};
use crate::vfs::{IoError, OpenMode, Vfs, read_full_at, write_all_at};

/// Its name.
pub(super) const NAME: &str = "SNAPSHOT";

/// What it begins with; the checksum of the rest follows.
const MAGIC: [u8; 8] = *b"SILTSNP1";
const HEAD_LEN: usize = MAGIC.len() + 4;

/// A name of a snapshot is a small part of the file.
const LEN_MAX: u64 = 64 << 20;

/// Which snapshot of which store a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Origin {
    store: StoreId,
    pub(super) id: u64,
    pub(super) seqno: u64,
    name: Option<String>,
    time: Option<u64>,
    /// The log segment with the snapshot's record, if there was one, and its length then.
    place: Option<(u64, u64)>,
}

/// What the file says.
#[derive(Encode, Decode)]
struct Content {
    origin: Origin,
    /// Checksum of the manifest of the finished backup.
    manifest: u32,
}

impl Origin {
    pub(super) fn new(info: &SnapshotInfo, frozen: &Frozen) -> Self {
        Origin {
            store: frozen.store,
            id: info.id,
            seqno: info.seqno,
            name: info.name.clone(),
            time: info.time,
            place: frozen.log_segment_with(info.seqno).map(|s| (s.id(), s.len)),
        }
    }

    /// True if both are called the same snapshot. Two copies of a store may each have one.
    fn is_called_as(&self, other: &Origin) -> bool {
        (self.store, self.id, self.seqno, self.time)
            == (other.store, other.id, other.seqno, other.time)
            && self.name == other.name
    }

    fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("the backup of snapshot {} {name:?}", self.id),
            None => format!("the backup of snapshot {}", self.id),
        }
    }

    /// Writes the file into `dir`, durably. Requires: `dir` is marked as unfinished, and has its
    /// last manifest.
    pub(super) fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), BackupError> {
        let manifest = manifest_sum(vfs, dir)?;
        let content = codec::encode(&Content { origin: self.clone(), manifest });
        let content = content.map_err(OpenError::InvalidOption)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(checksum::plain(&content).to_le_bytes());
        bytes.extend(content);
        let path = dir.join(NAME);
        let file = vfs.open(&path, OpenMode::CreateNew);
        let file = file.map_err(|e| IoError::new("create", &path, e))?;
        write_all_at(&*file, &bytes, 0).map_err(|e| IoError::new("write", &path, e))?;
        file.sync_all().map_err(|e| IoError::new("sync", &path, e))?;
        Ok(vfs.sync_dir(dir).map_err(|e| IoError::new("sync directory", dir, e))?)
    }
}

/// What a directory says that it holds.
enum Found {
    Content(Content),
    /// There is a file, and it cannot be read.
    Damaged,
}

fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Found>, BackupError> {
    let Some(bytes) = read_file(vfs, &dir.join(NAME))? else { return Ok(None) };
    let content = bytes.strip_prefix(&MAGIC).and_then(|rest| {
        let (sum, content) = rest.split_at_checked(HEAD_LEN - MAGIC.len())?;
        let is_whole = sum == checksum::plain(content).to_le_bytes();
        is_whole.then(|| codec::decode::<Content>(content).ok())?
    });
    Ok(Some(content.map_or(Found::Damaged, Found::Content)))
}

/// Refuses a target that holds a backup of a snapshot.
pub(super) fn refuse_snapshot(target: &Target<'_>) -> Result<(), BackupError> {
    let Target { vfs, dir, .. } = *target;
    if unfinished::is_marked(vfs, dir)? {
        return Ok(());
    }
    match read(vfs, dir)? {
        None => Ok(()),
        Some(Found::Content(found)) => Err(taken(dir, found.origin.title())),
        Some(Found::Damaged) => Err(damaged(dir)),
    }
}

/// What there is to report if the target holds the backup `wanted` of what was `frozen` already;
/// `None` if it holds no finished backup at all.
///
/// # Errors
///
/// [`BackupError::Taken`] and [`BackupError::Diverged`], if it holds another one.
pub(super) fn find(
    target: &Target<'_>,
    frozen: &Frozen,
    wanted: &Origin,
) -> Result<Option<BackupReport>, BackupError> {
    let Target { vfs, dir, .. } = *target;
    if unfinished::is_marked(vfs, dir)? {
        return Ok(None);
    }
    let Some(there) = manifest::read(vfs, dir)? else { return Ok(None) };
    let found = match read(vfs, dir)? {
        Some(Found::Content(found)) => found,
        Some(Found::Damaged) => return Err(damaged(dir)),
        None => {
            target.check_state(there.state, frozen).map(drop)?;
            let what = "a backup of a store as it is, not of a snapshot";
            return Err(taken(dir, what));
        }
    };
    let title = found.origin.title();
    if !found.origin.is_called_as(wanted) {
        return Err(taken(dir, title));
    }
    if found.manifest != manifest_sum(vfs, dir)? {
        return Err(taken(dir, format!("{title}, which was opened for writing since")));
    }
    if !target.is_copy_of(frozen, &there.state, found.origin.place)? {
        return Err(taken(dir, format!("{title} of another copy of this store")));
    }
    Ok(Some(report(wanted.seqno, &there.state)))
}

fn report(seqno: u64, state: &State) -> BackupReport {
    let lens = state.segments.iter().map(|s| s.seal.map_or(s.len, |seal| seal.file_len));
    BackupReport {
        seqno,
        segments_kept: state.segments.len() as u64,
        bytes_kept: lens.sum(),
        already_there: true,
        ..BackupReport::default()
    }
}

fn taken(dir: &Path, what: impl Into<String>) -> BackupError {
    BackupError::Taken { dir: dir.to_owned(), what: what.into() }
}

fn damaged(dir: &Path) -> BackupError {
    taken(dir, format!("the backup of a snapshot, of which {NAME} cannot be read"))
}

fn manifest_sum(vfs: &dyn Vfs, dir: &Path) -> Result<u32, BackupError> {
    Ok(checksum::plain(&read_file(vfs, &dir.join(FILE_NAME))?.unwrap_or_default()))
}

fn read_file(vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    let file = match vfs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(IoError::new("open", path, e).into()),
    };
    let len = file.len().map_err(|e| IoError::new("stat", path, e))?;
    let mut bytes = vec![0; usize::try_from(len.min(LEN_MAX)).unwrap_or(0)];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(|e| IoError::new("read", path, e))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}
