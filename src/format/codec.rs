//! Typed cold metadata <-> bytes: the only user of bincode.
//!
//! Hot bytes (records, frames, hints) have fixed layouts of their own. What is written a few times
//! an hour and gains fields over the years, such as manifest edits, is encoded here: bincode 2,
//! little-endian, variable-length integers, enum variants by number in order of declaration.
//! Variants and fields are only ever appended, within one format version.

use bincode::config;
use bincode::{Decode, Encode};

/// What a decoder may allocate for an item of `1 / EXPANSION` of it, in bytes, smallest first: a
/// length within the item that lies cannot make it take much more memory than the item is long.
const LIMITS: [usize; 4] = [64 << 10, 1 << 20, 16 << 20, 256 << 20];
/// Bytes in memory for one encoded, at most: a segment of the manifest takes 56 for 3.
const EXPANSION: usize = 20;

/// The bytes of `item`.
pub(crate) fn encode<T: Encode>(item: &T) -> Result<Vec<u8>, String> {
    bincode::encode_to_vec(item, config::standard()).map_err(|e| e.to_string())
}

/// The item whose encoding is exactly `bytes`.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    let [small, medium, large, _] = LIMITS.map(|limit| limit / EXPANSION);
    let (item, used) = match bytes.len() {
        n if n <= small => decode_within::<T, { LIMITS[0] }>(bytes),
        n if n <= medium => decode_within::<T, { LIMITS[1] }>(bytes),
        n if n <= large => decode_within::<T, { LIMITS[2] }>(bytes),
        _ => decode_within::<T, { LIMITS[3] }>(bytes),
    }?;
    if used != bytes.len() {
        return Err(format!("{} bytes left over after {used}", bytes.len() - used));
    }
    Ok(item)
}

fn decode_within<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<(T, usize), String> {
    let limited = config::standard().with_limit::<LIMIT>();
    bincode::decode_from_slice(bytes, limited).map_err(|e| e.to_string())
}
