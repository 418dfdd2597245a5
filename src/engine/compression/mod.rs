//! Compression of values, by collection.
//!
//! A batch is laid out and checksummed where it is made, by somebody who does not know the store.
//! On its way into the log, before any lock is taken, the values of collections that want it are
//! compressed into a copy of the batch ([`Core::pack`]). A value that does not shrink by an eighth
//! stays as it is: it is then read without a copy.

#[cfg(feature = "compression")]
mod codec;
#[cfg(not(feature = "compression"))]
#[path = "no_codec.rs"]
mod codec;

use super::batch::{BatchRecord, WriteBatch};
use super::core::Core;
use super::error::ReadError;
use super::segments::Segment;
use crate::format::config::Compression;
use crate::format::record::{self, Kind, Record};
use crate::format::value::{Coding, Stored, fits};

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
}

impl Undecodable {
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
        };
        segment.corruption(offset, what).into()
    }
}

/// What is needed to decompress the values of a store.
#[derive(Default)]
pub(super) struct Codecs {}

impl Codecs {
    /// The value that is `stored` in a record of `collection`.
    pub(super) fn decompress(
        &self,
        _collection: u32,
        stored: &Stored<'_>,
    ) -> Result<Vec<u8>, Undecodable> {
        if !codec::IS_AVAILABLE {
            return Err(Undecodable::NoFeature);
        }
        match stored.coding {
            None => Ok(stored.bytes.to_vec()),
            Some((Coding::Lz4, raw_len)) => codec::lz4_decompress(stored.bytes, raw_len),
            Some((Coding::Zstd(number), _)) => Err(Undecodable::NoDictionary(number)),
        }
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
        let wanted: Vec<bool> = batch.names.iter().map(|name| self.packs(name)).collect();
        if !wanted.contains(&true) {
            return None;
        }
        let mut packed = WriteBatch::with_capacity(batch.buf.len());
        packed.names.clone_from(&batch.names);
        for place in &batch.records {
            let bytes = batch.buf.get(place.offset..).unwrap_or(&[]);
            let Some(record) = Record::parse(bytes) else { continue };
            let offset = packed.start_record();
            let is_wanted = wanted.get(place.name as usize) == Some(&true);
            if !(is_wanted && pack_record(&record, &mut packed.buf)) {
                let len = record.header.record_len();
                packed.buf.extend_from_slice(bytes.get(..len).unwrap_or(bytes));
            }
            packed.records.push(BatchRecord { offset, name: place.name });
        }
        Some(packed)
    }

    /// True if values are compressed when they are written to the collection called `name`.
    fn packs(&self, name: &str) -> bool {
        codec::IS_AVAILABLE
            && self.catalog.find(name).is_some_and(|c| c.options().compression != Compression::Off)
    }
}

/// Appends `record` with its value compressed; false, and nothing is appended, if that is not
/// worth it.
fn pack_record(record: &Record<'_>, buf: &mut Vec<u8>) -> bool {
    let Some(raw) = record.stored().filter(|_| record.header.kind == Kind::Put) else {
        return false;
    };
    if raw.coding.is_some() {
        return false;
    }
    let Some(packed) = lz4(raw.bytes) else { return false };
    let coding = Some((Coding::Lz4, raw.bytes.len()));
    let stored = Stored { coding, bytes: &packed, ..raw };
    let start = buf.len();
    let value_len = record::append_body(buf, record.key, |buf| stored.encode(buf));
    let kind = (Kind::Put, stored.flags());
    record::finish_body(buf, start, kind, record.key.len(), value_len);
    true
}
