//! Reads a backup again as it stands in the object store.

use object_store::ObjectStoreExt;

use super::catalog::Catalog;
use super::download::read_object;
use super::upload::find_catalog;
use super::{Remote, RemoteError};
use crate::engine::{BackupOptions, BackupProgress};

/// Compares every object of the backup with `wanted`, which was written: all bytes are read.
pub(super) async fn verify(
    remote: &Remote,
    wanted: &Catalog,
    options: &BackupOptions,
) -> Result<(), RemoteError> {
    if find_catalog(remote).await?.as_ref() != Some(wanted) {
        let object = remote.catalog_path().to_string();
        return Err(RemoteError::Damaged { object, what: "it is not what was written".to_owned() });
    }
    let bytes_total = wanted.segments.iter().map(|entry| entry.len).sum();
    let mut progress =
        BackupProgress { bytes_total, is_verifying: true, ..BackupProgress::default() };
    for entry in &wanted.segments {
        let path = remote.segments_path().join(entry.object_name());
        let damaged = |what| RemoteError::Damaged { object: path.to_string(), what };
        let head = remote.store.head(&path).await.map_err(RemoteError::of("look at", &path))?;
        if head.size != entry.len {
            return Err(damaged(format!("{} bytes, expected {}", head.size, entry.len)));
        }
        read_object(remote, entry, |part, _| {
            progress.bytes_done += part.len() as u64;
            options.tell(&progress);
            Ok(())
        })
        .await?;
    }
    Ok(())
}
