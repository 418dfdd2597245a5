//! Compression of values, by collection.
//!
//! A batch is laid out and checksummed where it is made, by somebody who does not know the store.
//! On its way into the log, before any lock is taken, the values of collections that want it are
//! compressed into a copy of the batch ([`Core::pack`]). A value that does not shrink by an eighth
//! stays as it is: it is then read without a copy. When compaction moves a value it may be stored
//! smaller still, with a dictionary ([`Recompressor`]).

#[cfg(feature = "compression")]
mod cache;
#[cfg(feature = "compression")]
mod codec;
#[cfg(not(feature = "compression"))]
#[path = "no_codec.rs"]
mod codec;
mod dictionary;
mod measure;
mod rewrite;

use std::sync::Arc;

use super::batch::{BatchRecord, WriteBatch};
use super::catalog::CollectionState;
use super::core::Core;
use super::error::ReadError;
use super::segments::Segment;
use crate::format::config::Compression;
use crate::format::record::{self, Kind, Record};
use crate::format::value::{Coding, Stored, fits};

#[cfg(feature = "compression")]
pub(super) use cache::ValueCache;
#[cfg(not(feature = "compression"))]
pub(super) use codec::ValueCache;
pub use dictionary::CompressionStats;
pub(super) use dictionary::{LooseDictionaries, Packing, parse_dictionary_key};
pub use measure::StoredValues;
pub(super) use rewrite::Recompressor;

/// Shorter values are never compressed: the 8 bytes of the prefix alone eat what is won.
const VALUE_LEN_MIN: usize = 48;

/// Fails with the name of the feature if this build cannot do `compression`.
pub(super) fn check_supported(compression: Compression) -> Result<(), String> {
    if compression == Compression::Off || codec::IS_AVAILABLE {
        return Ok(());
    }
    Err(missing_feature("compression is asked for"))
}

fn missing_feature(what: &str) -> String {
    format!("{what}, and siltstone was built without its feature \"compression\"")
}

/// Why stored bytes did not become a value again.
pub(super) enum Undecodable {
    /// This build cannot do it.
    NoFeature,
    /// They are not what a compressor has made.
    #[cfg_attr(not(feature = "compression"), expect(dead_code, reason = "told by the codecs"))]
    Damaged(&'static str),
    /// Their dictionary is not there.
    NoDictionary(u32),
    /// Their dictionary cannot be read.
    Dictionary(ReadError),
}

impl Undecodable {
    /// What is wrong, for who looks at a store's files.
    fn in_words(&self) -> String {
        match self {
            Undecodable::NoFeature => missing_feature("it is compressed"),
            Undecodable::Damaged(what) => (*what).to_owned(),
            Undecodable::NoDictionary(number) => format!("there is no whole dictionary {number}"),
            Undecodable::Dictionary(e) => e.to_string(),
        }
    }

    /// The error for the record of `key` at `offset` of `segment`.
    pub(super) fn at(&self, segment: &Segment, offset: u64, key: &[u8]) -> ReadError {
        let key: String = key.escape_ascii().to_string().chars().take(64).collect();
        let what = match self {
            Undecodable::NoFeature => {
                let file = segment.path.display();
                let what = format!("{file} byte {offset}: the record of key {key} is compressed");
                return ReadError::Unsupported(missing_feature(&what));
            }
            Undecodable::Damaged(what) => format!("{what}, key {key}"),
            Undecodable::NoDictionary(number) => {
                format!("compressed with dictionary {number}, which is not there, key {key}")
            }
            // That is where the damage is.
            Undecodable::Dictionary(e) => return e.clone(),
        };
        segment.corruption(offset, what).into()
    }
}

/// `value` as an LZ4 block, if that is worth it.
fn lz4(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() < VALUE_LEN_MIN {
        return None;
    }
    let packed = codec::lz4_compress(value)?;
    pays(value.len(), packed.len()).then_some(packed)
}

/// True if a value of `raw_len` bytes is to be stored in `stored_len` compressed ones.
fn pays(raw_len: usize, stored_len: usize) -> bool {
    stored_len + 8 <= raw_len - raw_len / 8 && fits(raw_len, stored_len)
}

impl Core {
    /// A copy of `batch` whose values are compressed as their collections want it; `None` if there
    /// is nothing to compress.
    pub(super) fn pack(&self, batch: &WriteBatch) -> Option<WriteBatch> {
        let wanted: Vec<_> = batch.names.iter().map(|name| self.packed(name)).collect();
        if wanted.iter().all(Option::is_none) {
            return None;
        }
        let mut packed = WriteBatch::with_capacity(batch.buf.len());
        packed.names.clone_from(&batch.names);
        for place in &batch.records {
            let bytes = batch.buf.get(place.offset..).unwrap_or(&[]);
            let Some(record) = Record::parse(bytes) else { continue };
            let offset = packed.start_record();
            let collection = wanted.get(place.name as usize).and_then(Option::as_ref);
            if !collection.is_some_and(|c| pack_record(&record, c, &mut packed.buf)) {
                let len = record.header.record_len();
                packed.buf.extend_from_slice(bytes.get(..len).unwrap_or(bytes));
            }
            packed.records.push(BatchRecord { offset, name: place.name });
        }
        Some(packed)
    }

    /// The collection called `name`, if values are compressed when they are written to it.
    fn packed(&self, name: &str) -> Option<Arc<CollectionState>> {
        let collection = self.catalog.find(name).filter(|_| codec::IS_AVAILABLE)?;
        (collection.options().compression != Compression::Off).then_some(collection)
    }
}

/// Appends `record` with its value compressed; false, and nothing is appended, if that is not
/// worth it.
fn pack_record(record: &Record<'_>, collection: &CollectionState, buf: &mut Vec<u8>) -> bool {
    let Some(raw) = record.stored().filter(|_| record.header.kind == Kind::Put) else {
        return false;
    };
    if raw.coding.is_some() {
        return false;
    }
    let Some(block) = lz4(raw.bytes) else { return false };
    let raw_len = raw.bytes.len();
    collection.packing.count(raw_len, block.len());
    append_stored(
        record,
        Stored { coding: Some((Coding::Lz4, raw_len)), bytes: &block, ..raw },
        buf,
    );
    true
}

/// Appends the put `record` with another value area, still to be stamped.
fn append_stored(record: &Record<'_>, stored: Stored<'_>, buf: &mut Vec<u8>) {
    let start = buf.len();
    let value_len = record::append_body(buf, record.key, |buf| stored.encode(buf));
    let kind = (Kind::Put, stored.flags());
    record::finish_body(buf, start, kind, record.key.len(), value_len);
}

#[cfg(all(test, feature = "compression"))]
mod tests;
