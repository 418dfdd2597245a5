//! [`Marker`]: the record that says that an import is under way, and its undoing.
//!
//! Collection `storage_context/import`, key `import`, value `{snapshots: [number]}`: the durable
//! snapshot from before the import. It is durable before the first change of an import, and removed
//! by its last batch. So where it is found, an import is under way or was cut off, and what stands
//! in the store is a mixture. No reading of stores takes it for whole: what opens a store for
//! writing goes back to the snapshot first, and what opens it for reading is refused
//! ([`undo_cut_import`]).
//! It is written after the snapshot, hence rolling back to the snapshot removes it.
//!
//! A power cut leaves:
//!
//! - after the snapshot, before the record: the store as it was, and one named snapshot more;
//! - from the record to the last batch: the record, which the next opening acts on;
//! - in the last batch: all of it, the import is whole; or none, as before;
//! - in the rollback, which is one batch: all of it, so that the store is as it was and there is no
//!   record, or none, and it is done again;
//! - after either, before the snapshot is dropped: one named snapshot more.
//!
//! What the rollback takes away stays in the snapshot that it makes ([`Rollback`]): another program
//! may have written to the engine in between, not knowing of the record.
//!
//! [`Rollback`]: crate::engine::Rollback

use crate::engine::{Durability, OpenError, SnapshotError, WriteError};
use crate::kv::{KvBatch, KvError, KvStore, LogKv, Map, Value};

const COLLECTION: &str = "storage_context/import";
const KEY: &[u8] = b"import";
const SNAPSHOTS: &str = "snapshots";

/// An import that is under way, or was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// The durable snapshot of the store before it.
    pub(super) snapshot: u64,
}

/// An import that was cut off and is undone: the store is what it was before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UndoneImport {
    /// The durable snapshot of what was there until now. Nobody needs it unless something else was
    /// written after the import was cut off, by a program that did not undo it; until it is dropped
    /// it keeps the space of the part.
    pub part: u64,
}

impl Marker {
    /// The import into `log` that is under way or was cut off. There is none if its snapshot is
    /// gone: whoever dropped that has taken the part for good. Nor if the record is damaged.
    pub(super) fn find(log: &LogKv) -> Result<Option<Marker>, KvError> {
        let found = log.get(COLLECTION, KEY)?.and_then(|record| Marker::read(&record));
        let is_there =
            |marker: &Marker| log.db().snapshots().iter().any(|known| known.id == marker.snapshot);
        Ok(found.filter(is_there))
    }

    fn read(record: &Value) -> Option<Marker> {
        let first = record.get(SNAPSHOTS)?.as_list()?.first()?.as_int()?;
        Some(Marker { snapshot: u64::try_from(first).ok()? })
    }

    /// Writes the record; it is durable when this returns.
    pub(super) fn put(self, kv: &dyn KvStore) -> Result<(), KvError> {
        let mut record = Map::with_capacity(1);
        record.set(SNAPSHOTS, vec![Value::from(self.snapshot)]);
        let mut batch = KvBatch::new();
        batch.put(COLLECTION, KEY, &record.into())?;
        kv.write(batch, Durability::Sync).map(drop)
    }

    /// Removes the record, if it is there.
    pub(super) fn remove(kv: &dyn KvStore) -> Result<(), KvError> {
        match kv.contains(COLLECTION, KEY)? {
            true => kv.delete(COLLECTION, KEY).map(drop),
            false => Ok(()),
        }
    }

    /// Makes the store what it was before the import, in one atomic and durable batch.
    fn undo(self, log: &LogKv) -> Result<UndoneImport, SnapshotError> {
        let rollback = log.db().rollback_to(self.snapshot)?;
        // If it stays it is listed, and does no harm.
        let _ = log.db().drop_snapshot(self.snapshot);
        Ok(UndoneImport { part: rollback.undo.id })
    }
}

/// Undoes an import into `log` that was cut off by a kill or a power cut, if there is one: the
/// store is then what it was before that import. [`StorageContext::open`], and the verbs of the
/// program that write, do so; whoever opens a [`LogKv`] for stores of their own calls it first.
/// Costs one look for a record if there is nothing to undo. No import may be running into `log`.
///
/// [`StorageContext::open`]: crate::StorageContext::open
///
/// # Errors
///
/// [`OpenError::HalfImported`] if `log` is open for reading only, or cannot be rolled back. The
/// store was not changed.
pub fn undo_cut_import(log: &LogKv) -> Result<Option<UndoneImport>, OpenError> {
    let refused = |snapshot, failure| OpenError::HalfImported { snapshot, failure };
    let Some(marker) = Marker::find(log).map_err(|e| refused(None, Some(e.to_string())))? else {
        return Ok(None);
    };
    match marker.undo(log) {
        Ok(undone) => Ok(Some(undone)),
        Err(SnapshotError::Write(WriteError::ReadOnly)) => {
            Err(refused(Some(marker.snapshot), None))
        }
        Err(e) => Err(refused(Some(marker.snapshot), Some(e.to_string()))),
    }
}
