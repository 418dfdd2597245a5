//! [`Marker`]: the record that says that an import is under way.
//!
//! Collection `storage_context/import`, key `import`, value
//! `{snapshots: [number, ..], spaces: [what it fills, ..]}`. It is durable before the first change
//! of an import, and removed by its last batch. So where it is found, an import was cut off; what
//! stands in the spaces that it names is a part of that import, which may be replaced; and the
//! snapshots that it names were made by imports, so that they may be dropped. It is written after
//! the snapshot, hence rolling back to the snapshot removes it.

use std::collections::BTreeSet;

use crate::engine::Durability;
use crate::kv::{KvBatch, KvError, KvStore, LogKv, Map, Value};

const COLLECTION: &str = "storage_context/import";
const KEY: &[u8] = b"import";
const SNAPSHOTS: &str = "snapshots";
const SPACES: &str = "spaces";

/// What an import that was cut off left behind; nothing, if none was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    /// Durable snapshots, oldest first: the store before the import, and before each repetition.
    pub(super) snapshots: Vec<u64>,
    /// What it fills, in words.
    pub(super) spaces: BTreeSet<String>,
}

impl Marker {
    /// What is left of an import into `log` that was cut off. Nothing is, if its first snapshot is
    /// gone: whoever dropped that has taken the part for good. Nor if the record is damaged.
    pub(super) fn find(log: &LogKv) -> Result<Marker, KvError> {
        let found = log.get(COLLECTION, KEY)?.and_then(|record| Marker::read(&record));
        let Some(mut marker) = found else { return Ok(Marker::default()) };
        let there: BTreeSet<u64> = log.db().snapshots().iter().map(|known| known.id).collect();
        match marker.snapshots.first() {
            Some(first) if there.contains(first) => {
                marker.snapshots.retain(|id| there.contains(id));
                Ok(marker)
            }
            _ => Ok(Marker::default()),
        }
    }

    fn read(record: &Value) -> Option<Marker> {
        let number = |id: &Value| u64::try_from(id.as_int()?).ok();
        let name = |space: &Value| Some(space.as_text()?.as_str()?.to_owned());
        Some(Marker {
            snapshots: record
                .get(SNAPSHOTS)?
                .as_list()?
                .iter()
                .map(number)
                .collect::<Option<_>>()?,
            spaces: record.get(SPACES)?.as_list()?.iter().map(name).collect::<Option<_>>()?,
        })
    }

    /// Writes the record; it is durable when this returns.
    pub(super) fn put(&self, kv: &dyn KvStore) -> Result<(), KvError> {
        let mut record = Map::with_capacity(2);
        record.set(SNAPSHOTS, self.snapshots.iter().map(|id| (*id).into()).collect::<Vec<Value>>());
        let spaces = self.spaces.iter().map(|space| space.as_str().into());
        record.set(SPACES, spaces.collect::<Vec<Value>>());
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
}
