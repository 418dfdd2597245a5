//! Reads a backup again as it stands in the object store.

use object_store::ObjectStoreExt;

use super::catalog::{Catalog, Entry};
use super::download::read_object;
use super::upload::{find_catalog, put};
use super::{Remote, RemoteError};
use crate::engine::{BackupOptions, BackupProgress, BackupReport, FrozenSegment};

/// Compares every object of the backup with `wanted`, which was written: all bytes are read. One
/// that is damaged is written again, from the segments that it was made of.
pub(super) async fn verify(
    remote: &Remote,
    wanted: &Catalog,
    segments: &[FrozenSegment],
    options: &BackupOptions,
    report: &mut BackupReport,
) -> Result<(), RemoteError> {
    if find_catalog(remote).await?.as_ref() != Some(wanted) {
        let object = remote.catalog_path().to_string();
        return Err(RemoteError::Damaged { object, what: "it is not what was written".to_owned() });
    }
    let bytes_total = wanted.segments.iter().map(|entry| entry.len).sum();
    let mut progress =
        BackupProgress { bytes_total, is_verifying: true, ..BackupProgress::default() };
    for (entry, segment) in wanted.segments.iter().zip(segments) {
        match compare(remote, entry).await {
            Err(RemoteError::Damaged { .. }) => {
                put(remote, &entry.object_name(), segment, entry).await?;
                compare(remote, entry).await?;
                report.heal(entry.len);
            }
            compared => compared?,
        }
        progress.bytes_done += entry.len;
        options.tell(&progress);
    }
    Ok(())
}

/// Reads the object of `entry` and compares its length and its checksum.
async fn compare(remote: &Remote, entry: &Entry) -> Result<(), RemoteError> {
    let path = remote.segments_path().join(entry.object_name());
    let damaged = |what| RemoteError::Damaged { object: path.to_string(), what };
    match remote.store.head(&path).await {
        Ok(head) if head.size == entry.len => {}
        Ok(head) => return Err(damaged(format!("{} bytes, expected {}", head.size, entry.len))),
        Err(object_store::Error::NotFound { .. }) => {
            return Err(damaged("it is not there".to_owned()));
        }
        Err(e) => return Err(RemoteError::of("look at", &path)(e)),
    }
    read_object(remote, entry, |_, _| Ok(())).await
}
