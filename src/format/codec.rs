//! Typed cold metadata <-> bytes: the only user of bincode.
//!
//! Hot bytes (records, frames, hints) have fixed layouts of their own. What is written a few times
//! an hour and gains fields over the years, such as manifest edits, is encoded here: bincode 2,
//! little-endian, variable-length integers, enum variants by number in order of declaration.
//! Variants and fields are only ever appended, within one format version.

use bincode::config;
use bincode::{Decode, Encode};

/// Longest encoded item, in bytes: a damaged length cannot make the decoder allocate more.
pub(crate) const ITEM_LEN_MAX: usize = 16 << 20;

/// The bytes of `item`.
pub(crate) fn encode<T: Encode>(item: &T) -> Result<Vec<u8>, String> {
    bincode::encode_to_vec(item, config::standard()).map_err(|e| e.to_string())
}

/// The item whose encoding is exactly `bytes`.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    let limited = config::standard().with_limit::<ITEM_LEN_MAX>();
    let (item, used) = bincode::decode_from_slice(bytes, limited).map_err(|e| e.to_string())?;
    if used != bytes.len() {
        return Err(format!("{} bytes left over after {used}", bytes.len() - used));
    }
    Ok(item)
}
