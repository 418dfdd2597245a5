//! How much the stored values of a collection take, and how much they would as they are.

use super::super::catalog::CollectionState;
use super::super::core::Core;
use super::super::db::Db;
use super::super::error::ReadError;
use crate::format::config::Compression;

/// What the values of a collection take on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredValues {
    /// The collection's name.
    pub collection: String,
    /// The newest values of all its keys: how many there are.
    pub values: u64,
    /// How many of them are stored compressed.
    pub compressed: u64,
    /// Bytes of all of them.
    pub raw_bytes: u64,
    /// Bytes that they are stored in, without keys and headers.
    pub stored_bytes: u64,
    /// Dictionaries that were trained from its records.
    pub dictionaries: u64,
}

impl StoredValues {
    /// Bytes stored for each byte of the values; 1 if there are none.
    pub fn ratio(&self) -> f64 {
        if self.raw_bytes == 0 { 1.0 } else { self.stored_bytes as f64 / self.raw_bytes as f64 }
    }
}

impl Db {
    /// What the values of each collection that is compressed, or that ever was, take on disk.
    /// Reads the head of every record of these collections; decompresses nothing, and verifies no
    /// value. Values that have expired count until compaction drops them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use siltstone::{CollectionOptions, Compression, Db};
    /// let db = Db::open(dir.path())?;
    /// db.configure("chunks", CollectionOptions::new().compression(Compression::Lz4))?;
    /// db.put("chunks", b"1", &[b'x'; 1000])?;
    /// db.close()?;
    /// let stored = Db::open(dir.path())?.measure_compression()?;
    /// assert_eq!((stored[0].values, stored[0].raw_bytes), (1, 1000));
    /// assert!(stored[0].ratio() < 0.1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ReadError`]: the head of a record is damaged, or a file cannot be read.
    pub fn measure_compression(&self) -> Result<Vec<StoredValues>, ReadError> {
        let core = self.core();
        let mut measured = Vec::new();
        for collection in core.catalog.all() {
            let stored = core.measure(&collection)?;
            let is_packed = collection.options().compression != Compression::Off;
            if is_packed || stored.compressed > 0 {
                measured.push(stored);
            }
        }
        Ok(measured)
    }
}

impl Core {
    fn measure(&self, collection: &CollectionState) -> Result<StoredValues, ReadError> {
        let mut measured = StoredValues {
            collection: collection.name.clone(),
            dictionaries: self.dictionaries_of(collection),
            ..StoredValues::default()
        };
        // Nobody has asked for it, unless something is remembered of that.
        let is_packed = collection.options().compression != Compression::Off;
        if !is_packed && collection.configured().0 == 0 {
            return Ok(measured);
        }
        let (entries, slots) = self.segments.pin_with(|| collection.index().entries());
        let mut places: Vec<_> = entries.into_iter().map(|(_, at)| at).collect();
        places.sort_unstable();
        for location in places {
            let found = self.read_pinned(&slots, location)?;
            let record = found.record();
            let Some(stored) = record.stored() else {
                let what = "the value does not have the form that its header says";
                return Err(found.segment.corruption(found.offset, what).into());
            };
            measured.values += 1;
            measured.compressed += u64::from(stored.coding.is_some());
            measured.raw_bytes +=
                stored.coding.map_or(stored.bytes.len(), |(_, raw_len)| raw_len) as u64;
            measured.stored_bytes += record.value.len() as u64;
        }
        Ok(measured)
    }
}
