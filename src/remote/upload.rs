//! The way of a backup into an object store.

use std::collections::HashMap;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::catalog::{Catalog, Entry, is_object_name};
use super::verify::verify;
use super::{PART_LEN, Remote, RemoteError};
use crate::engine::{BackupOptions, BackupProgress, BackupReport, Frozen, FrozenSegment};
use crate::vfs::Vfs;
use crate::vfs::os::OsVfs;

/// Requests under way at once.
const REQUESTS_MAX: usize = 4;

/// As [`upload`], into a place where no backup is: one of a snapshot has a place of its own.
pub(super) async fn upload_first(
    remote: &Remote,
    frozen: &Frozen,
    options: &BackupOptions,
) -> Result<BackupReport, RemoteError> {
    match find_catalog(remote).await? {
        None => upload(remote, frozen, options).await,
        Some(_) => Err(RemoteError::NotEmpty { object: remote.catalog_path().to_string() }),
    }
}

/// Uploads what is missing, then the catalog; removes what only the earlier backup had.
pub(super) async fn upload(
    remote: &Remote,
    frozen: &Frozen,
    options: &BackupOptions,
) -> Result<BackupReport, RemoteError> {
    let there = list(remote).await?;
    let old = match find_catalog(remote).await {
        // The place is this store's all the same, if it holds one of its segments, and none of a
        // later state.
        Err(RemoteError::Damaged { .. })
            if options.is_verified() && !has_later(&there, frozen) && has_one(&there, frozen)? =>
        {
            None
        }
        old => match old? {
            Some(old) => {
                check_catalog(&old, frozen)?;
                Some(old)
            }
            None => {
                check_empty(remote).await?;
                None
            }
        },
    };
    let bytes_total = frozen.segments.iter().map(|s| s.len).sum();
    let mut progress = BackupProgress { bytes_total, ..BackupProgress::default() };
    let mut report = BackupReport { seqno: frozen.seqno, ..BackupReport::default() };
    let mut entries = Vec::with_capacity(frozen.segments.len());
    for segment in &frozen.segments {
        if options.is_verified() {
            // Checksums of damaged bytes would say for ever that they are right.
            segment.verify()?;
        }
        let entry = identify(segment, old.as_ref(), options.is_verified())?;
        let name = entry.object_name();
        if there.get(&name) == Some(&entry.len) {
            report.segments_kept += 1;
            report.bytes_kept += entry.len;
        } else {
            put(remote, &name, segment, &entry).await?;
            report.segments_copied += 1;
            report.bytes_copied += entry.len;
        }
        progress.bytes_done += entry.len;
        options.tell(&progress);
        entries.push(entry);
    }
    let names: HashMap<String, ()> = entries.iter().map(|e| (e.object_name(), ())).collect();
    let catalog = Catalog {
        store: frozen.store,
        seqno: frozen.seqno,
        manifest: frozen.encode_manifest()?,
        segments: entries,
    };
    let path = remote.catalog_path();
    let put = remote.store.put(&path, catalog.encode().into()).await;
    put.map_err(RemoteError::of("write", &path))?;
    for name in there.keys().filter(|name| !names.contains_key(*name)) {
        let path = remote.segments_path().join(name.as_str());
        // What cannot be removed is removed by the next backup.
        report.files_removed += u64::from(remote.store.delete(&path).await.is_ok());
    }
    report.files_removed += remove_staged(remote);
    if options.is_verified() {
        verify(remote, &catalog, &frozen.segments, options, &mut report).await?;
    }
    Ok(report)
}

/// Removes what uploads into a directory have left that were killed: files that the object store
/// writes beside an object, with a `#` and a number behind its name, and lists to nobody.
fn remove_staged(remote: &Remote) -> u64 {
    let Some(dir) = &remote.dir else { return 0 };
    let segments = dir.join("segments");
    let is_staged = |name: &&String| {
        let parts = name.rsplit_once('#');
        parts
            .is_some_and(|(object, number)| is_object_name(object) && number.parse::<u64>().is_ok())
    };
    // What cannot be removed is removed by the next backup.
    let names = OsVfs.list(&segments).unwrap_or_default();
    let removed = names.iter().filter(is_staged).map(|name| OsVfs.remove(&segments.join(name)));
    removed.filter(Result::is_ok).count() as u64
}

/// True if one of the objects that are `there` is a segment that this store has not made, or has
/// not written so far yet.
fn has_later(there: &HashMap<String, u64>, frozen: &Frozen) -> bool {
    there.iter().any(|(name, len)| {
        let id = name.split_once('-').and_then(|(id, _)| id.parse::<u64>().ok());
        id.is_none_or(|id| {
            let here = frozen.segments.iter().find(|s| s.id() == id);
            id >= frozen.first_reserved_id() || here.is_some_and(|s| s.len < *len)
        })
    })
}

/// True if one of the segments is among the objects that are `there`.
fn has_one(there: &HashMap<String, u64>, frozen: &Frozen) -> Result<bool, RemoteError> {
    for segment in &frozen.segments {
        if there.contains_key(&identify(segment, None, true)?.object_name()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The catalog of the backup that is there, if there is one.
pub(super) async fn find_catalog(remote: &Remote) -> Result<Option<Catalog>, RemoteError> {
    let path = remote.catalog_path();
    let bytes = match remote.store.get(&path).await {
        Ok(found) => found.bytes().await.map_err(RemoteError::of("read", &path))?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(RemoteError::of("read", &path)(e)),
    };
    let damaged = |what| RemoteError::Damaged { object: path.to_string(), what };
    Catalog::decode(&bytes).map(Some).map_err(damaged)
}

/// The place of a first backup must be empty, but for segments that an interrupted one has left.
async fn check_empty(remote: &Remote) -> Result<(), RemoteError> {
    let segments = remote.segments_path();
    for path in [&remote.prefix, &segments] {
        let listed = match remote.store.list_with_delimiter(Some(path)).await {
            Err(object_store::Error::NotFound { .. }) => continue,
            listed => listed.map_err(RemoteError::of("list", path))?,
        };
        let is_segment =
            |object: &Path| *path == segments && object.filename().is_some_and(is_object_name);
        let mut objects = listed.objects.into_iter().map(|object| object.location);
        let mut below = listed.common_prefixes.into_iter();
        let foreign = below.find(|below| *below != segments);
        if let Some(foreign) = foreign.or_else(|| objects.find(|object| !is_segment(object))) {
            return Err(RemoteError::NotEmpty { object: foreign.to_string() });
        }
    }
    Ok(())
}

/// The objects with segments, and their lengths.
pub(super) async fn list(remote: &Remote) -> Result<HashMap<String, u64>, RemoteError> {
    let path = remote.segments_path();
    let listed = remote.store.list_with_delimiter(Some(&path)).await;
    let listed = match listed {
        Err(object_store::Error::NotFound { .. }) => return Ok(HashMap::new()),
        listed => listed.map_err(RemoteError::of("list", &path))?,
    };
    // Objects with other names are none of ours: they are never removed.
    let name = |path: &Path| path.filename().filter(|name| is_object_name(name)).map(str::to_owned);
    let objects = listed.objects.into_iter();
    Ok(objects.filter_map(|o| Some((name(&o.location)?, o.size))).collect())
}

/// What is there must be an earlier state of the same store.
fn check_catalog(old: &Catalog, frozen: &Frozen) -> Result<(), RemoteError> {
    let diverged = |what: String| Err(RemoteError::Diverged { what });
    if old.store != frozen.store {
        return diverged("it is of another store".to_owned());
    }
    if old.seqno > frozen.seqno {
        return diverged(format!("it ends at {}, the store at {}", old.seqno, frozen.seqno));
    }
    if let Some(own) = old.segments.last().filter(|e| e.id >= frozen.first_reserved_id()) {
        return diverged(format!("segment {} was not made by this store", own.id));
    }
    if !frozen.goes_on_from(old.seqno, |id| old.find(id).is_some()) {
        return diverged("its last records are others".to_owned());
    }
    Ok(())
}

/// Length and checksum of a segment. One that the earlier backup names is not read for that, but
/// if it `is_read` anyway.
fn identify(
    segment: &FrozenSegment,
    old: Option<&Catalog>,
    is_read: bool,
) -> Result<Entry, RemoteError> {
    let (id, len) = (segment.id(), segment.len);
    let marks = segment.marks()?.map(|bytes| xxh3_128(&bytes));
    let old = old.and_then(|old| old.find(id));
    let differs = || {
        // Or the one here is not what it was.
        segment.verify()?;
        let what = format!("segment {id} is another one there");
        Err(RemoteError::Diverged { what })
    };
    match old {
        Some(old) if old.marks.is_some() => {
            if old.marks != marks || old.len != len {
                return differs();
            }
            if !is_read {
                return Ok(*old);
            }
            // If it is another one, the earlier backup was given bytes that were wrong.
        }
        // The end of the log then: it must go on from there.
        Some(old) if old.len > len || checksum(segment, old.len)? != old.checksum => {
            return differs();
        }
        _ => {}
    }
    Ok(Entry { id, len, marks, checksum: checksum(segment, len)? })
}

/// The checksum of a segment's first `len` bytes.
fn checksum(segment: &FrozenSegment, len: u64) -> Result<u128, RemoteError> {
    let mut hasher = Xxh3Default::new();
    let mut at = 0;
    while at < len {
        let part = read(segment, at, len)?;
        hasher.update(&part);
        at += part.len() as u64;
    }
    Ok(hasher.digest128())
}

/// The next part of a segment, up to `end`.
fn read(segment: &FrozenSegment, at: u64, end: u64) -> Result<Vec<u8>, RemoteError> {
    let len = PART_LEN.min(end - at);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    segment.read_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Writes the object of a segment, in one request or in several.
pub(super) async fn put(
    remote: &Remote,
    name: &str,
    segment: &FrozenSegment,
    entry: &Entry,
) -> Result<(), RemoteError> {
    let path = remote.segments_path().join(name);
    if entry.len <= PART_LEN {
        let bytes = read(segment, 0, entry.len)?;
        if xxh3_128(&bytes) != entry.checksum {
            return Err(changed(&path));
        }
        let put = remote.store.put(&path, PutPayload::from(bytes)).await;
        return put.map(drop).map_err(RemoteError::of("write", &path));
    }
    let begun = remote.store.put_multipart(&path).await;
    let mut upload = begun.map_err(RemoteError::of("write", &path))?;
    let done = put_parts(&mut *upload, &path, segment, entry).await;
    if done.is_err() {
        // Parts that stay behind cost room in some stores, and mean nothing.
        let _ = upload.abort().await;
    }
    done
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    path: &Path,
    segment: &FrozenSegment,
    entry: &Entry,
) -> Result<(), RemoteError> {
    let mut hasher = Xxh3Default::new();
    let mut requests = JoinSet::new();
    let mut at = 0;
    while at < entry.len {
        let part = read(segment, at, entry.len)?;
        hasher.update(&part);
        at += part.len() as u64;
        requests.spawn(upload.put_part(part.into()));
        if requests.len() >= REQUESTS_MAX {
            wait_for_one(&mut requests, path).await?;
        }
    }
    while !requests.is_empty() {
        wait_for_one(&mut requests, path).await?;
    }
    if hasher.digest128() != entry.checksum {
        return Err(changed(path));
    }
    upload.complete().await.map(drop).map_err(RemoteError::of("write", path))
}

async fn wait_for_one(
    requests: &mut JoinSet<object_store::Result<()>>,
    path: &Path,
) -> Result<(), RemoteError> {
    match requests.join_next().await {
        Some(Ok(done)) => done.map_err(RemoteError::of("write", path)),
        Some(Err(e)) => {
            let source = std::io::Error::other(e);
            Err(RemoteError::Runtime { source: source.into() })
        }
        None => Ok(()),
    }
}

/// A segment never changes: the disk has given other bytes the second time.
fn changed(path: &Path) -> RemoteError {
    let what = "the segment was read twice, with different bytes".to_owned();
    RemoteError::Damaged { object: path.to_string(), what }
}
