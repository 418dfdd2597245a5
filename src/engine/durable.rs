//! Durable snapshots: points in time that outlive the process.
//!
//! A snapshot is a record of the system collection: its key is `s` and the snapshot's number, its
//! value the name and time that the caller gave. Its state is everything below its own sequence
//! number. So recording one is one small write and the sync that `persist` is for anyway; it is
//! atomic with whatever is written in the same batch; and after a crash it is there or it is not,
//! like any other record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::{Decode, Encode};
use parking_lot::Mutex;

use super::batch::WriteBatch;
use super::commit::Commit;
use super::core::Core;
use super::error::{SnapshotError, WriteError};
use super::options::Durability;
use super::points::Point;
use crate::format::codec;
use crate::format::hint::Hint;
use crate::format::record::Kind;

/// First byte of a snapshot's key.
const KEY_PREFIX: u8 = b's';
/// First byte of the key that says of a collection that keys were put into it: recorded when
/// compaction is about to remove the last put that shows it.
const LISTED_PREFIX: u8 = b'l';
/// Key under which the number of the next snapshot is kept.
pub(super) const NEXT_KEY: &[u8] = b"n";

/// A durable snapshot, as [`crate::Db::persist`] records it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its number: snapshots are numbered from 1 on, and no number is used twice.
    pub id: u64,
    /// Its state is that of all records with a smaller sequence number.
    pub seqno: u64,
    /// Its name, if it was given one: named snapshots stay until they are dropped.
    pub name: Option<String>,
    /// The time that the caller gave, in the caller's unit.
    pub time: Option<u64>,
}

/// What a durable snapshot is recorded with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PersistOptions {
    /// A name for it, which may not be empty. Named snapshots are left alone by retention. Default:
    /// none.
    pub name: Option<String>,
    /// When it was made, in any unit: the engine reads no clock. Default: none.
    pub time: Option<u64>,
}

impl PersistOptions {
    /// Gives the snapshot a name.
    pub fn named(name: impl Into<String>) -> Self {
        PersistOptions { name: Some(name.into()), ..Self::default() }
    }

    /// Gives the snapshot a time.
    pub fn at(mut self, time: u64) -> Self {
        self.time = Some(time);
        self
    }
}

/// Value of a snapshot's record.
#[derive(Encode, Decode)]
struct Label {
    name: Option<String>,
    time: Option<u64>,
}

/// The durable snapshots of an open store.
#[derive(Default)]
pub(super) struct DurableSnapshots {
    list: Mutex<BTreeMap<u64, (SnapshotInfo, Arc<Point>)>>,
    /// Held while one is recorded.
    pub(super) next: Mutex<Next>,
}

/// What the next snapshot needs to know.
#[derive(Default)]
pub(super) struct Next {
    /// Its number; 0 until the store was asked.
    pub(super) id: u64,
}

fn key_of(id: u64) -> Vec<u8> {
    let mut key = vec![KEY_PREFIX];
    // Most significant byte first: keys sort as numbers do.
    key.extend(id.to_le_bytes().iter().rev());
    key
}

/// The key that says that collection `id` is listed.
pub(super) fn listed_key(id: u32) -> Vec<u8> {
    let mut key = vec![LISTED_PREFIX];
    key.extend_from_slice(&id.to_le_bytes());
    key
}

/// The number of the snapshot whose key this is.
pub(super) fn parse_key(key: &[u8]) -> Option<u64> {
    let (&KEY_PREFIX, digits) = key.split_first()? else { return None };
    let mut bytes: [u8; 8] = digits.try_into().ok()?;
    bytes.reverse();
    Some(u64::from_le_bytes(bytes))
}

/// The collection that the key says is listed.
pub(super) fn parse_listed_key(key: &[u8]) -> Option<u32> {
    let (&LISTED_PREFIX, id) = key.split_first()? else { return None };
    Some(u32::from_le_bytes(id.try_into().ok()?))
}

/// The name in the value of a snapshot's record, if it has one and can be read.
pub(super) fn name_in(value: &[u8]) -> Option<String> {
    codec::decode::<Label>(value).ok()?.name
}

impl Core {
    /// Enters a snapshot with the value of its record. Says what is wrong if that cannot be read.
    /// Requires: apply lock held, or nobody else yet.
    pub(super) fn enter_snapshot(&self, id: u64, seqno: u64, value: &[u8]) -> Result<(), String> {
        let label: Label = codec::decode(value)?;
        let info = SnapshotInfo { id, seqno, name: label.name, time: label.time };
        let point = self.points.hold(seqno);
        self.snapshots.list.lock().insert(id, (info, point));
        Ok(())
    }

    /// Takes note of a record of the system collection; returns the point of a snapshot that was
    /// dropped by it. Requires: apply lock held.
    pub(super) fn apply_system(&self, hint: &Hint, key: &[u8], value: &[u8]) -> Option<Arc<Point>> {
        let id = parse_key(key)?;
        if hint.kind == Kind::Put {
            // Made by `record_snapshot`, so it can be read.
            let _ = self.enter_snapshot(id, hint.seqno, value);
            return None;
        }
        self.snapshots.list.lock().remove(&id).map(|(_, point)| point)
    }

    /// The durable snapshots, oldest first.
    pub(super) fn snapshot_list(&self) -> Vec<SnapshotInfo> {
        self.snapshots.list.lock().values().map(|(info, _)| info.clone()).collect()
    }

    /// The durable snapshot that was recorded last.
    fn newest_snapshot(&self) -> Option<SnapshotInfo> {
        self.snapshots.list.lock().values().next_back().map(|(info, _)| info.clone())
    }

    /// The snapshot with this number.
    pub(super) fn snapshot_info(&self, id: u64) -> Result<SnapshotInfo, SnapshotError> {
        let list = self.snapshots.list.lock();
        let known = || list.keys().copied().collect();
        let found = list.get(&id).ok_or_else(|| SnapshotError::Missing { id, known: known() });
        found.map(|(info, _)| info.clone())
    }

    /// Another hold on the point of the snapshot with this number.
    pub(super) fn hold_snapshot(&self, id: u64) -> Result<Arc<Point>, SnapshotError> {
        let _applying = self.apply.lock();
        let info = self.snapshot_info(id)?;
        Ok(self.points.hold(info.seqno))
    }

    /// Appends `batch` and, in the same batch and behind its other records, a new snapshot; drops
    /// those that are too many. All of it is durable when this returns. If nothing was written
    /// since the newest snapshot, and neither that nor the new one has a name or a time, it is that
    /// one.
    pub(super) fn record_snapshot(
        &self,
        batch: &mut WriteBatch,
        options: PersistOptions,
    ) -> Result<(SnapshotInfo, Commit), WriteError> {
        let mut next = self.snapshots.next.lock();
        self.check_writable()?;
        if options.name.as_deref() == Some("") {
            return Err(WriteError::Invalid("the name of a snapshot is empty"));
        }
        let time = self.push_time(batch)?;
        if batch.is_empty()
            && options == PersistOptions::default()
            && let Some(newest) = self.newest_snapshot()
            // What somebody has named, somebody may drop or want to keep.
            && newest.name.is_none()
            && newest.time.is_none()
            // Its record is the last one of the log, since this open or an earlier one.
            && self.log.lock().next_seqno == newest.seqno + 1
        {
            return Ok((newest, self.write(batch, Durability::Sync)?));
        }
        for old in self.too_many(options.name.is_none()) {
            batch.push_system(&key_of(old), None)?;
        }
        let id = self.push_snapshot(batch, &next, options)?;
        let written = self.write(batch, Durability::Sync)?;
        self.time_is_kept(time);
        next.id = id + 1;
        let info = self.snapshot_info(id).map_err(|_| WriteError::Closed)?;
        Ok((info, written))
    }

    /// Adds the records of a new snapshot to `batch`: its state is what comes before them. Returns
    /// its number.
    pub(super) fn push_snapshot(
        &self,
        batch: &mut WriteBatch,
        next: &Next,
        options: PersistOptions,
    ) -> Result<u64, WriteError> {
        let id = match next.id {
            0 => self.load_next_id(),
            known => known,
        };
        let label = Label { name: options.name, time: options.time };
        let invalid = |what: String| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
            WriteError::Io(crate::vfs::IoError::new("encode snapshot for", &self.dir, source))
        };
        let value = codec::encode(&label).map_err(invalid)?;
        batch.push_system(NEXT_KEY, Some(&(id + 1).to_le_bytes()))?;
        batch.push_system(&key_of(id), Some(&value))?;
        Ok(id)
    }

    /// The unnamed snapshots that retention lets go when another one is recorded.
    fn too_many(&self, is_unnamed: bool) -> Vec<u64> {
        let retention = &self.options.retention;
        let next_seqno = self.log.lock().next_seqno;
        let list = self.snapshots.list.lock();
        let unnamed: Vec<&SnapshotInfo> =
            list.values().map(|(info, _)| info).filter(|info| info.name.is_none()).collect();
        let keep = retention.count.saturating_sub(usize::from(is_unnamed));
        let over = unnamed.len().saturating_sub(keep);
        let age_max = retention.age;
        let is_old = |info: &SnapshotInfo| {
            age_max.is_some_and(|max| next_seqno.saturating_sub(info.seqno) > max)
        };
        let gone = |(i, info): (usize, &&SnapshotInfo)| i < over || is_old(info);
        unnamed.iter().enumerate().filter(|&(i, info)| gone((i, info))).map(|(_, s)| s.id).collect()
    }

    /// The number of the next snapshot, from the store.
    fn load_next_id(&self) -> u64 {
        let kept = self.lookup(self.catalog.system(), NEXT_KEY).ok().flatten();
        let kept = kept.filter(|found| found.record().body_is_intact());
        let kept =
            kept.and_then(|found| Some(u64::from_le_bytes(found.record().value.try_into().ok()?)));
        let newest = self.snapshots.list.lock().keys().next_back().copied().unwrap_or(0);
        kept.unwrap_or(1).max(newest + 1)
    }

    /// Drops a snapshot.
    pub(super) fn drop_snapshot(&self, id: u64) -> Result<Commit, SnapshotError> {
        let _one_at_a_time = self.snapshots.next.lock();
        self.snapshot_info(id)?;
        let mut batch = WriteBatch::new();
        batch.push_system(&key_of(id), None)?;
        Ok(self.write(&mut batch, Durability::Sync)?)
    }
}
