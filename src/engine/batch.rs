//! [`WriteBatch`]: operations that are applied all or nothing.
//!
//! A batch lays its records out as they will stand in the log, so that a commit stamps headers and
//! writes the buffer as it is: a value is copied once, from the caller into the batch. Body
//! checksums are computed here too, while the bytes are in the cache and no lock is held.

use std::collections::HashMap;

use super::compression;
use super::error::WriteError;
use crate::format::config::CollectionOptions;
use crate::format::record::{self, FRAME_HEADER_LEN, Kind, RECORD_HEADER_LEN};
use crate::format::value::{Flags, Stored};
use crate::limits::{BATCH_OPS_MAX, COLLECTION_NAME_LEN_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};

/// Operations on any number of collections that are applied together or not at all.
///
/// Later operations on a key win over earlier ones. A batch can be reused after
/// [`WriteBatch::reset`], which keeps its buffer.
///
/// ```
/// # fn main() -> Result<(), siltstone::WriteError> {
/// let mut batch = siltstone::WriteBatch::new();
/// batch.put("nodes", b"n1", b"text")?;
/// batch.delete("nodes", b"n0")?;
/// assert_eq!(batch.len(), 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct WriteBatch {
    /// Room for a frame header, then records, each with a header whose collection, index and
    /// checksum are still to be stamped.
    pub(super) buf: Vec<u8>,
    pub(super) records: Vec<BatchRecord>,
    /// The collections named so far; [`BatchRecord::name`] points here.
    pub(super) names: Vec<String>,
    /// Places in `names`, kept once there are more than a few.
    by_name: HashMap<String, u32>,
}

/// Up to this many names are searched one by one.
const NAMES_SEARCHED: usize = 8;

/// Stands for the system collection, which has no name.
pub(super) const SYSTEM_NAME: u32 = u32::MAX;

/// Where one record stands in [`WriteBatch::buf`].
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRecord {
    pub(super) offset: usize,
    pub(super) name: u32,
}

/// One operation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOp<'a> {
    /// Sets a key.
    Put {
        /// The collection's name.
        collection: &'a str,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Sets a key until a time.
    PutExpiring {
        /// The collection's name.
        collection: &'a str,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// From this time on the record is not returned.
        expires_at: u64,
    },
    /// Removes a key; no error if it is absent.
    Delete {
        /// The collection's name.
        collection: &'a str,
        /// The key.
        key: &'a [u8],
    },
    /// Removes every key of a collection.
    Clear {
        /// The collection's name.
        collection: &'a str,
    },
    /// Sets the options of a collection.
    Configure {
        /// The collection's name.
        collection: &'a str,
        /// The options.
        options: CollectionOptions,
    },
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `bytes` of records.
    pub fn with_capacity(bytes: usize) -> Self {
        WriteBatch { buf: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds "set `key` in `collection` to `value`".
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] if the name, the key, the value or the number of operations is
    /// over its limit (see [`crate::limits`]). Data: the batch is as it was.
    pub fn put(&mut self, collection: &str, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        check("value", value.len(), VALUE_LEN_MAX)?;
        self.buf.reserve(RECORD_HEADER_LEN + key.len() + value.len() + 8);
        self.put_with(collection, key, |buf| buf.extend_from_slice(value))
    }

    /// As [`WriteBatch::put`], with a value that `encode` appends to the batch's own buffer: no
    /// copy in between. `encode` must only append.
    ///
    /// # Errors
    ///
    /// As [`WriteBatch::put`].
    pub fn put_with(
        &mut self,
        collection: &str,
        key: &[u8],
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), WriteError> {
        self.push(Kind::Put, Flags::default(), collection, key, encode)
    }

    /// Adds "set `key` in `collection` to `value` until the time `expires_at`": from then on it is
    /// absent. The unit of time is the caller's, such as milliseconds since 1970, and so is the
    /// clock: the engine reads none and is told by [`crate::Db::set_time`].
    ///
    /// A later put of the key, expiring or not, takes its place in every way; an older one does
    /// not come back when it expires.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use siltstone::{Durability, Options, WriteBatch};
    /// let db = Options::new().time(1_000).open(dir.path())?;
    /// let mut batch = WriteBatch::new();
    /// batch.put_expiring("cache", b"answer", b"42", 1_500)?;
    /// db.write(&mut batch, Durability::Buffered)?;
    /// assert!(db.contains("cache", b"answer")?);
    /// db.set_time(1_500);
    /// assert!(db.get("cache", b"answer")?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`WriteBatch::put`].
    pub fn put_expiring(
        &mut self,
        collection: &str,
        key: &[u8],
        value: &[u8],
        expires_at: u64,
    ) -> Result<(), WriteError> {
        check("value", value.len(), VALUE_LEN_MAX)?;
        let stored = Stored { expires: Some(expires_at), coding: None, bytes: value };
        self.push(Kind::Put, stored.flags(), collection, key, |buf| stored.encode(buf))
    }

    /// Adds "the options of `collection` are these": they hold for what is written after this
    /// batch, and stay when the collection is cleared. See [`crate::Db::configure`].
    ///
    /// # Errors
    ///
    /// As [`WriteBatch::put`]; [`WriteError::Unsupported`] if this build cannot compress and is
    /// asked to.
    pub fn configure(
        &mut self,
        collection: &str,
        options: CollectionOptions,
    ) -> Result<(), WriteError> {
        compression::check_supported(options.compression).map_err(WriteError::Unsupported)?;
        let encoded = options.encode().map_err(WriteError::Unsupported)?;
        let append = |buf: &mut Vec<u8>| buf.extend_from_slice(&encoded);
        self.push(Kind::Configure, Flags::default(), collection, b"", append)
    }

    /// Adds "remove `key` from `collection`".
    ///
    /// # Errors
    ///
    /// As [`WriteBatch::put`].
    pub fn delete(&mut self, collection: &str, key: &[u8]) -> Result<(), WriteError> {
        self.push(Kind::Delete, Flags::default(), collection, key, |_| {})
    }

    /// Adds "remove everything from `collection`", at a cost that does not depend on how much
    /// that is. The collection stays, empty.
    ///
    /// # Errors
    ///
    /// As [`WriteBatch::put`].
    pub fn clear(&mut self, collection: &str) -> Result<(), WriteError> {
        self.push(Kind::Clear, Flags::default(), collection, b"", |_| {})
    }

    /// Adds the operations of `other`, after those that are here.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] if there would be too many. Data: the batch is as it was.
    pub fn append(&mut self, other: &WriteBatch) -> Result<(), WriteError> {
        check("batch operations", self.records.len() + other.records.len(), BATCH_OPS_MAX)?;
        let start = self.start_record();
        self.buf.extend_from_slice(other.buf.get(FRAME_HEADER_LEN..).unwrap_or(&[]));
        for record in &other.records {
            let collection = other.names.get(record.name as usize).map_or("", |name| name);
            let name = self.intern(collection);
            let offset = start + record.offset - FRAME_HEADER_LEN;
            self.records.push(BatchRecord { offset, name });
        }
        Ok(())
    }

    /// How many operations the batch holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if the batch holds no operation.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes that the batch's records will take in the log.
    pub fn byte_len(&self) -> usize {
        self.buf.len().saturating_sub(FRAME_HEADER_LEN)
    }

    /// Empties the batch and keeps its buffers.
    pub fn reset(&mut self) {
        self.buf.clear();
        self.records.clear();
        self.names.clear();
        self.by_name.clear();
    }

    /// The operations in the order they were added.
    pub fn ops(&self) -> impl Iterator<Item = BatchOp<'_>> {
        self.records.iter().filter_map(|r| {
            let collection = self.names.get(r.name as usize)?.as_str();
            let record = record::Record::parse(self.buf.get(r.offset..)?)?;
            let key = record.key;
            Some(match record.header.kind {
                Kind::Put => {
                    // A batch is compressed on its way into the log, never here.
                    let Stored { expires, bytes: value, .. } = record.stored()?;
                    match expires {
                        None => BatchOp::Put { collection, key, value },
                        Some(expires_at) => {
                            BatchOp::PutExpiring { collection, key, value, expires_at }
                        }
                    }
                }
                Kind::Delete => BatchOp::Delete { collection, key },
                Kind::Clear => BatchOp::Clear { collection },
                Kind::Configure => {
                    let options = CollectionOptions::decode(record.value).ok()?;
                    BatchOp::Configure { collection, options }
                }
                Kind::CreateCollection => return None,
            })
        })
    }

    /// Appends one record. Requires nothing; leaves the batch unchanged on error.
    fn push(
        &mut self,
        kind: Kind,
        flags: Flags,
        collection: &str,
        key: &[u8],
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), WriteError> {
        check("collection name", collection.len(), COLLECTION_NAME_LEN_MAX)?;
        check("key", key.len(), KEY_LEN_MAX)?;
        check("batch operations", self.records.len() + 1, BATCH_OPS_MAX)?;
        let offset = self.start_record();
        let value_len = record::append_body(&mut self.buf, key, encode);
        let own_len = value_len.saturating_sub(flags.prefix_len());
        if let Err(e) = check("value", own_len, VALUE_LEN_MAX) {
            self.buf.truncate(offset);
            return Err(e);
        }
        record::finish_body(&mut self.buf, offset, (kind, flags), key.len(), value_len);
        let name = self.intern(collection);
        self.records.push(BatchRecord { offset, name });
        Ok(())
    }

    /// Adds the record that binds the collection `names[name]` to its id.
    pub(super) fn push_create(&mut self, name: usize, text: &str) -> Result<(), WriteError> {
        check("batch operations", self.records.len() + 1, BATCH_OPS_MAX)?;
        let offset = self.start_record();
        let encode = |buf: &mut Vec<u8>| buf.extend_from_slice(text.as_bytes());
        let len = record::append_body(&mut self.buf, b"", encode);
        let kind = (Kind::CreateCollection, Flags::default());
        record::finish_body(&mut self.buf, offset, kind, 0, len);
        let name = u32::try_from(name).unwrap_or(u32::MAX);
        self.records.push(BatchRecord { offset, name });
        Ok(())
    }

    /// Adds "set `key` in the system collection to `value`", or "remove it".
    pub(super) fn push_system(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), WriteError> {
        check("batch operations", self.records.len() + 1, BATCH_OPS_MAX)?;
        let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
        let offset = self.start_record();
        let encode = |buf: &mut Vec<u8>| buf.extend_from_slice(value.unwrap_or(&[]));
        let len = record::append_body(&mut self.buf, key, encode);
        let kind = (kind, Flags::default());
        record::finish_body(&mut self.buf, offset, kind, key.len(), len);
        self.records.push(BatchRecord { offset, name: SYSTEM_NAME });
        Ok(())
    }

    /// Where the next record starts.
    pub(super) fn start_record(&mut self) -> usize {
        if self.buf.is_empty() {
            self.buf.resize(FRAME_HEADER_LEN, 0);
        }
        self.buf.len()
    }

    /// The place of `collection` in `names`. Batches mostly name a few collections in runs.
    fn intern(&mut self, collection: &str) -> u32 {
        let last = self.records.last().map(|r| r.name);
        if let Some(name) = last
            && self.names.get(name as usize).is_some_and(|n| n == collection)
        {
            return name;
        }
        let found = if self.names.len() <= NAMES_SEARCHED {
            let at = self.names.iter().position(|n| n == collection);
            at.and_then(|at| u32::try_from(at).ok())
        } else {
            self.by_name.get(collection).copied()
        };
        found.unwrap_or_else(|| {
            // No more names than operations, of which there are less than 2^32.
            let index = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.names.push(collection.to_owned());
            if self.names.len() > NAMES_SEARCHED {
                let known = self.by_name.len();
                let new = self.names.iter().zip(0u32..).skip(known);
                self.by_name.extend(new.map(|(name, i)| (name.clone(), i)));
            }
            index
        })
    }
}

/// Returns [`WriteError::TooLarge`] if `len` is over `max`.
fn check(what: &'static str, len: usize, max: usize) -> Result<(), WriteError> {
    if len > max {
        return Err(WriteError::TooLarge { what, len: len as u64, max: max as u64 });
    }
    Ok(())
}
