//! Where neither a backup nor a restored store may be put: in another one's directory, which is
//! removed, moved and backed up as a whole. Files of any other kind may not be put there either.

use std::path::Path;
#[cfg(feature = "stores")]
use std::path::PathBuf;

use super::BackupError;
#[cfg(feature = "stores")]
use crate::engine::open::is_store_file;
use crate::format::manifest;
#[cfg(feature = "stores")]
use crate::format::segment::parse_file_name;
use crate::vfs::{OpenMode, Vfs, read_full_at};

/// Files that a directory has which is a store or a backup, and how they begin: the manifest of a
/// store, and what names the segments of a backup that was made through an address.
const MARKS: [(&str, &[u8]); 2] =
    [(manifest::FILE_NAME, manifest::MAGIC), ("BACKUP", b"siltstone backup ")];

/// Refuses a directory that lies in that of a store or a backup.
pub(super) fn refuse_nested(vfs: &dyn Vfs, dir: &Path) -> Result<(), BackupError> {
    let resolved = vfs.resolved(dir);
    match resolved.ancestors().skip(1).find(|above| is_taken(vfs, above)) {
        Some(above) => Err(BackupError::Nested { dir: dir.to_owned(), store: above.to_owned() }),
        None => Ok(()),
    }
}

/// The directory of a store or a backup, damaged or not, that `dir` is or lies in, if there is one.
#[cfg(feature = "stores")]
pub(crate) fn store_around(vfs: &dyn Vfs, dir: &Path) -> Option<PathBuf> {
    let resolved = vfs.resolved(dir);
    let holds = |dir: &Path, is_ours: fn(&str) -> bool| {
        vfs.list(dir).is_ok_and(|names| names.iter().any(|name| is_ours(name)))
    };
    if holds(&resolved, is_store_file) {
        return Some(resolved);
    }
    // Further up, others have files named as the manifest.
    let has_segments = |above: &Path| holds(above, |name| parse_file_name(name).is_some());
    let found = resolved.ancestors().find(|above| is_taken(vfs, above) || has_segments(above));
    found.map(Path::to_owned)
}

/// What cannot be read is taken for none of ours.
fn is_taken(vfs: &dyn Vfs, dir: &Path) -> bool {
    MARKS.iter().any(|(name, beginning)| {
        let Ok(file) = vfs.open(&dir.join(name), OpenMode::Read) else { return false };
        let mut bytes = vec![0; beginning.len()];
        read_full_at(&*file, &mut bytes, 0).is_ok() && bytes == *beginning
    })
}
