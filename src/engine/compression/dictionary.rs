//! Dictionaries: trained from a collection's own records, kept in the store.
//!
//! A dictionary is a record of the system collection. Its key is `d`, the collection's id and the
//! dictionary's number, most significant byte first; its value a [`Kept`]. The key without the
//! number holds the number of the newest one. Both are written in one batch, and are durable
//! before the first value that is compressed with them is: a power cut leaves a dictionary that
//! nobody uses, never a value without its dictionary. They are not dropped while their collection
//! is there: values of any age may need them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bincode::{Decode, Encode};
use parking_lot::RwLock;

use super::super::batch::WriteBatch;
use super::super::catalog::CollectionState;
use super::super::core::Core;
use super::super::error::{ReadError, WriteError};
use super::{Undecodable, codec};
use crate::format::codec as metadata;
use crate::format::value::{Coding, Stored};

/// First byte of a dictionary's key.
const KEY_PREFIX: u8 = b'd';

/// What is on disk. New variants go to the end.
#[derive(Encode, Decode)]
enum Kept {
    /// The dictionary, and how many bytes the samples took that it was made from: as they are, and
    /// compressed with it.
    V1 { raw: u64, stored: u64, bytes: Vec<u8> },
}

/// A dictionary of a collection.
pub(in crate::engine) struct Dictionary {
    pub(super) number: u32,
    pub(super) codec: codec::Dictionary,
    /// Bytes of the samples it was made from, as they are and compressed with it.
    pub(super) raw: u64,
    pub(super) stored: u64,
}

/// What is known about the compression of one collection.
#[derive(Default)]
pub(in crate::engine) struct Packing {
    /// The dictionaries that have been used since the open.
    ready: RwLock<Vec<Arc<Dictionary>>>,
    /// Values compressed since the open: how many, their bytes, and what they were stored in.
    pub(super) compressed: AtomicU64,
    pub(super) raw_bytes: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    /// Values decompressed since the open.
    decompressed: AtomicU64,
}

/// What compression did for a collection, since the open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompressionStats {
    /// The collection's name.
    pub collection: String,
    /// Values that were compressed, when they were written or by compaction.
    pub compressed: u64,
    /// Bytes of these values.
    pub raw_bytes: u64,
    /// Bytes that they were stored in.
    pub stored_bytes: u64,
    /// Values that were decompressed, mostly for readers.
    pub decompressed: u64,
    /// Dictionaries that were trained from its records, in this open or earlier.
    pub dictionaries: u64,
}

impl CompressionStats {
    /// Bytes stored for each byte of the values that were compressed; 1 if there were none.
    pub fn ratio(&self) -> f64 {
        if self.raw_bytes == 0 { 1.0 } else { self.stored_bytes as f64 / self.raw_bytes as f64 }
    }
}

impl Packing {
    /// Counts a value that was compressed.
    pub(super) fn count(&self, raw_len: usize, stored_len: usize) {
        self.compressed.fetch_add(1, Ordering::Relaxed);
        self.raw_bytes.fetch_add(raw_len as u64, Ordering::Relaxed);
        self.stored_bytes.fetch_add(stored_len as u64, Ordering::Relaxed);
    }

    /// The counters, for the collection called `name`, which has so many dictionaries.
    pub(in crate::engine) fn stats(&self, name: &str, dictionaries: u64) -> CompressionStats {
        CompressionStats {
            collection: name.to_owned(),
            compressed: self.compressed.load(Ordering::Relaxed),
            raw_bytes: self.raw_bytes.load(Ordering::Relaxed),
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
            decompressed: self.decompressed.load(Ordering::Relaxed),
            dictionaries: dictionaries.max(self.ready.read().len() as u64),
        }
    }

    fn ready(&self, number: u32) -> Option<Arc<Dictionary>> {
        self.ready.read().iter().find(|d| d.number == number).cloned()
    }
}

/// The key of a dictionary; that of the newest one's number if none is given.
fn key_of(collection: u32, number: Option<u32>) -> Vec<u8> {
    let mut key = vec![KEY_PREFIX];
    key.extend(collection.to_le_bytes().iter().rev());
    key.extend(number.iter().flat_map(|n| n.to_le_bytes().into_iter().rev()));
    key
}

/// The collection and the number in the key of a dictionary; no number in that of the newest one's.
pub(in crate::engine) fn parse_dictionary_key(key: &[u8]) -> Option<(u32, Option<u32>)> {
    let (&KEY_PREFIX, rest) = key.split_first()? else { return None };
    let number = |digits: &[u8]| {
        let mut bytes: [u8; 4] = digits.try_into().ok()?;
        bytes.reverse();
        Some(u32::from_le_bytes(bytes))
    };
    match rest.split_at_checked(4)? {
        (id, []) => Some((number(id)?, None)),
        (id, digits) => Some((number(id)?, Some(number(digits)?))),
    }
}

/// The dictionaries of a store that is not open, for who looks at its files.
#[derive(Default)]
pub(in crate::engine) struct LooseDictionaries(HashMap<(u32, u32), codec::Dictionary>);

impl LooseDictionaries {
    /// Takes note of a record of the system collection, which may be a dictionary.
    pub(in crate::engine) fn add(&mut self, key: &[u8], value: &[u8]) {
        if let Some((id, Some(number))) = parse_dictionary_key(key)
            && let Ok(Kept::V1 { bytes, .. }) = metadata::decode(value)
            && let Some(dictionary) = codec::Dictionary::new(bytes)
        {
            self.0.insert((id, number), dictionary);
        }
    }

    /// The value that is `stored` in a record of collection `id`, decompressed; else why not.
    pub(in crate::engine) fn decompress(
        &self,
        id: u32,
        stored: &Stored<'_>,
    ) -> Result<Vec<u8>, String> {
        let found = match stored.coding {
            None => Ok(stored.bytes.to_vec()),
            Some(_) if !codec::IS_AVAILABLE => Err(Undecodable::NoFeature),
            Some((Coding::Lz4, raw_len)) => codec::lz4_decompress(stored.bytes, raw_len),
            Some((Coding::Zstd(number), raw_len)) => match self.0.get(&(id, number)) {
                Some(dictionary) => dictionary.decompress(stored.bytes, raw_len),
                None => Err(Undecodable::NoDictionary(number)),
            },
        };
        found.map_err(|e| e.in_words())
    }
}

impl Core {
    /// The value that is `stored` in a record of collection `id`, decompressed.
    pub(in crate::engine) fn decompress(
        &self,
        id: u32,
        stored: &Stored<'_>,
    ) -> Result<Vec<u8>, Undecodable> {
        let Some((coding, raw_len)) = stored.coding else { return Ok(stored.bytes.to_vec()) };
        if !codec::IS_AVAILABLE {
            return Err(Undecodable::NoFeature);
        }
        // A feed may be ahead of the catalog of the process that it runs in.
        let collection = self.catalog.by_id(id);
        let value = match coding {
            Coding::Lz4 => codec::lz4_decompress(stored.bytes, raw_len)?,
            Coding::Zstd(number) => {
                let missing = || Undecodable::NoDictionary(number);
                let collection = collection.as_ref().ok_or_else(missing)?;
                let dictionary = self.dictionary(collection, number);
                let dictionary = dictionary.map_err(Undecodable::Dictionary)?;
                dictionary.ok_or_else(missing)?.codec.decompress(stored.bytes, raw_len)?
            }
        };
        if let Some(collection) = collection {
            collection.packing.decompressed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(value)
    }

    /// The dictionary of `collection` with this number; `None` if there is none.
    pub(super) fn dictionary(
        &self,
        collection: &CollectionState,
        number: u32,
    ) -> Result<Option<Arc<Dictionary>>, ReadError> {
        if let Some(ready) = collection.packing.ready(number) {
            return Ok(Some(ready));
        }
        let key = key_of(collection.id, Some(number));
        let Some(found) = self.lookup(self.catalog.system(), &key)? else { return Ok(None) };
        self.check_intact(&found)?;
        let damaged = |what: &str| found.segment.corruption(found.offset, what);
        let Kept::V1 { raw, stored, bytes } = metadata::decode(found.record().value)
            .map_err(|e| damaged(&format!("not a dictionary: {e}")))?;
        let codec = codec::Dictionary::new(bytes);
        let codec = codec.ok_or_else(|| damaged("a dictionary that cannot be used"))?;
        let dictionary = Arc::new(Dictionary { number, codec, raw, stored });
        let mut ready = collection.packing.ready.write();
        if !ready.iter().any(|d| d.number == number) {
            ready.push(Arc::clone(&dictionary));
        }
        Ok(Some(dictionary))
    }

    /// The newest dictionary of `collection`.
    pub(super) fn newest_dictionary(
        &self,
        collection: &CollectionState,
    ) -> Result<Option<Arc<Dictionary>>, ReadError> {
        match self.newest_number(collection)? {
            0 => Ok(None),
            number => self.dictionary(collection, number),
        }
    }

    /// How many dictionaries `collection` has; 0 if that cannot be read now.
    pub(in crate::engine) fn dictionaries_of(&self, collection: &CollectionState) -> u64 {
        self.newest_number(collection).map_or(0, u64::from)
    }

    /// The number of the newest dictionary of `collection`; 0 if there is none.
    fn newest_number(&self, collection: &CollectionState) -> Result<u32, ReadError> {
        let key = key_of(collection.id, None);
        let Some(found) = self.lookup(self.catalog.system(), &key)? else { return Ok(0) };
        self.check_intact(&found)?;
        let number = found.record().value.try_into().map(u32::from_le_bytes);
        number.map_err(|_| {
            let what = "not the number of a dictionary";
            found.segment.corruption(found.offset, what).into()
        })
    }

    /// Keeps a new dictionary of `collection`, with the bytes its samples took as they are and
    /// compressed. It is durable when this returns.
    pub(super) fn keep_dictionary(
        &self,
        collection: &CollectionState,
        bytes: Vec<u8>,
        (raw, stored): (u64, u64),
    ) -> Result<Option<Arc<Dictionary>>, WriteError> {
        let unreadable = |e: ReadError| WriteError::Unsupported(format!("dictionaries: {e}"));
        let number = self.newest_number(collection).map_err(unreadable)?;
        let Some(number) = number.checked_add(1) else { return Ok(None) };
        let value = metadata::encode(&Kept::V1 { raw, stored, bytes });
        let value = value.map_err(WriteError::Unsupported)?;
        let mut batch = WriteBatch::new();
        batch.push_system(&key_of(collection.id, Some(number)), Some(&value))?;
        if planted!(DictionaryDropped) {
            batch.push_system(&key_of(collection.id, Some(number - 1)), None)?;
        }
        batch.push_system(&key_of(collection.id, None), Some(&number.to_le_bytes()))?;
        // Not by [`Core::write`], which may do maintenance, of which this is a part.
        let written = self.append_batch(&mut batch)?;
        self.sync_upto(written.next_seqno)?;
        self.dictionary(collection, number).map_err(unreadable)
    }
}
