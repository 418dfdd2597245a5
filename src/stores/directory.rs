//! [`Directory`]: the ids of a store's objects, in the order in which they first came.
//!
//! Each id has a serial number that is never used again, so that the records of an object can be
//! named by it, and so that nothing of an old object shows in a new one of the same id.
//!
//! ```text
//! key          value
//! ""           {#next: the next serial number, #ids: head of the list of ids}
//! "#{serial}"  the chunk of the list in which the id is
//! ```

use super::StoreError;
use super::list::{List, number};
use crate::kv::{KvStore, Map, Text, Value};

/// The directory of a store; changes are written by [`Directory::save`].
pub(crate) struct Directory<'a> {
    kv: &'a dyn KvStore,
    collection: &'a str,
    ids: List<'a>,
    next: u64,
}

impl<'a> Directory<'a> {
    /// The directory in `collection`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if its record is damaged.
    pub(crate) fn load(kv: &'a dyn KvStore, collection: &'a str) -> Result<Self, StoreError> {
        let (ids, next) = match kv.get(collection, b"")? {
            None => (List::new(kv, collection, b"ids"), 0),
            Some(record) => {
                let found =
                    record.as_map().and_then(|map| Some((map.get("#ids")?, number(map, "#next")?)));
                let wrong = || StoreError::corrupt(collection, b"", "is no directory");
                let (head, next) = found.ok_or_else(wrong)?;
                (List::open(kv, collection, b"ids", head)?, next)
            }
        };
        Ok(Directory { kv, collection, ids, next })
    }

    /// Enters a new id at the end; returns its serial number. Requires: it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if a record is damaged, [`StoreError::Kv`] if the store fails.
    pub(crate) fn enter(&mut self, id: &Text) -> Result<u64, StoreError> {
        let serial = self.next;
        self.next += 1;
        let handle = self.ids.push(id.into())?;
        self.kv.put(self.collection, &place(serial), &handle.into())?;
        Ok(serial)
    }

    /// Removes the id of that serial number.
    ///
    /// # Errors
    ///
    /// As [`Directory::enter`].
    pub(crate) fn leave(&mut self, serial: u64, id: &Text) -> Result<(), StoreError> {
        let place = place(serial);
        let handle = self.kv.get(self.collection, &place)?;
        let handle = handle.as_ref().and_then(Value::as_int).and_then(|n| u64::try_from(n).ok());
        let wrong = || StoreError::corrupt(self.collection, &place, "does not say where an id is");
        let handle = handle.ok_or_else(wrong)?;
        if self.ids.remove_in(handle, |found| found.as_text() == Some(id))?.is_none() {
            return Err(wrong());
        }
        self.kv.delete(self.collection, &place)?;
        Ok(())
    }

    /// The ids, in the order in which they were entered.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if a record is damaged.
    pub(crate) fn ids(&self) -> Result<Vec<Text>, StoreError> {
        let ids = self.ids.values()?;
        Ok(ids.into_iter().filter_map(|id| id.as_text().cloned()).collect())
    }

    /// Writes what was changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written.
    pub(crate) fn save(&self) -> Result<(), StoreError> {
        let mut record = Map::with_capacity(2);
        record.set("#next", self.next);
        record.set("#ids", self.ids.head());
        Ok(self.kv.put(self.collection, b"", &record.into())?)
    }
}

fn place(serial: u64) -> Vec<u8> {
    format!("#{serial}").into_bytes()
}
