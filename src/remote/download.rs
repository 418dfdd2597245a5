//! The way of a backup out of an object store.

use std::path::Path as FilePath;

use object_store::ObjectStoreExt;
use xxhash_rust::xxh3::Xxh3Default;

use super::catalog::Entry;
use super::upload::{find_catalog, list};
use super::{PART_LEN, Remote, RemoteError};
use crate::engine::{BackupError, BackupOptions, BackupProgress, BackupReport, Receiver};
use crate::vfs::os::OsVfs;
use crate::vfs::{File, IoError, read_full_at};

/// Brings all segments, verifies each, and writes the manifest last.
pub(super) async fn download(
    remote: &Remote,
    dir: &FilePath,
    options: &BackupOptions,
) -> Result<BackupReport, RemoteError> {
    let missing = || RemoteError::Missing { object: remote.catalog_path().to_string() };
    let catalog = find_catalog(remote).await?.ok_or_else(missing)?;
    let there = list(remote).await?;
    let receiver = Receiver::open(&OsVfs, dir, &catalog.store)?;
    let bytes_total = catalog.segments.iter().map(|entry| entry.len).sum();
    let mut progress = BackupProgress { bytes_total, ..BackupProgress::default() };
    let mut report = BackupReport { seqno: catalog.seqno, ..BackupReport::default() };
    for entry in &catalog.segments {
        if is_there(&receiver, dir, entry)? {
            report.segments_kept += 1;
            report.bytes_kept += entry.len;
        } else {
            let len = there.get(&entry.object_name()).copied();
            get(remote, &receiver, entry, len).await?;
            report.segments_copied += 1;
            report.bytes_copied += entry.len;
        }
        progress.bytes_done += entry.len;
        options.tell(&progress);
    }
    receiver.finish(&catalog.manifest)?;
    Ok(report)
}

/// True if an earlier attempt has brought the segment.
fn is_there(receiver: &Receiver<'_>, dir: &FilePath, entry: &Entry) -> Result<bool, RemoteError> {
    let Some(file) = receiver.existing(entry.id)? else { return Ok(false) };
    let failed = |e| RemoteError::Local(BackupError::Io(IoError::new("read", dir, e)));
    if file.len().map_err(failed)? != entry.len {
        return Ok(false);
    }
    Ok(checksum(&*file, entry.len).map_err(failed)? == entry.checksum)
}

fn checksum(file: &dyn File, len: u64) -> std::io::Result<u128> {
    let mut hasher = Xxh3Default::new();
    let mut buf = vec![0; usize::try_from(PART_LEN.min(len)).unwrap_or(0)];
    let mut at = 0;
    while at < len {
        let read = read_full_at(file, &mut buf, at)?;
        if read == 0 {
            break;
        }
        hasher.update(buf.get(..read).unwrap_or(&[]));
        at += read as u64;
    }
    Ok(hasher.digest128())
}

/// Brings one segment. It gets its name only if its length and checksum are right.
async fn get(
    remote: &Remote,
    receiver: &Receiver<'_>,
    entry: &Entry,
    len: Option<u64>,
) -> Result<(), RemoteError> {
    let path = remote.segments_path().join(entry.object_name().as_str());
    let damaged = |what| RemoteError::Damaged { object: path.to_string(), what };
    match len {
        Some(len) if len == entry.len => {}
        Some(len) => return Err(damaged(format!("{len} bytes, expected {}", entry.len))),
        None => return Err(damaged("it is not there".to_owned())),
    }
    let incoming = receiver.segment(entry.id)?;
    read_object(remote, entry, |part, at| Ok(incoming.write(part, at)?)).await?;
    Ok(incoming.finish()?)
}

/// Reads a whole object and calls `each` with its parts and where they stand. Fails in the end if
/// its checksum is not that of `entry`.
pub(super) async fn read_object(
    remote: &Remote,
    entry: &Entry,
    mut each: impl FnMut(&[u8], u64) -> Result<(), RemoteError>,
) -> Result<(), RemoteError> {
    let path = remote.segments_path().join(entry.object_name().as_str());
    let damaged = |what| RemoteError::Damaged { object: path.to_string(), what };
    let mut hasher = Xxh3Default::new();
    let mut at = 0;
    while at < entry.len {
        let end = (at + PART_LEN).min(entry.len);
        let got = remote.store.get_range(&path, at..end).await;
        let part = got.map_err(RemoteError::of("read", &path))?;
        if part.len() as u64 != end - at {
            return Err(damaged(format!("it ends at byte {}", at + part.len() as u64)));
        }
        hasher.update(&part);
        each(&part, at)?;
        at = end;
    }
    if hasher.digest128() != entry.checksum {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    Ok(())
}
