//! LZ4 and Zstandard, behind functions that never panic and never allocate more than the length
//! that a record states, whatever bytes they are given.

use super::Undecodable;

/// This build can compress.
pub(super) const IS_AVAILABLE: bool = true;

/// `value` as an LZ4 block.
pub(super) fn lz4_compress(value: &[u8]) -> Option<Vec<u8>> {
    Some(lz4_flex::block::compress(value))
}

/// The value of `raw_len` bytes in an LZ4 block.
pub(super) fn lz4_decompress(bytes: &[u8], raw_len: usize) -> Result<Vec<u8>, Undecodable> {
    let mut value = vec![0; raw_len];
    match lz4_flex::block::decompress_into(bytes, &mut value) {
        Ok(len) if len == raw_len => Ok(value),
        Ok(_) => Err(Undecodable::Damaged("the LZ4 block is not as long as its record says")),
        Err(_) => Err(Undecodable::Damaged("not an LZ4 block of the length its record says")),
    }
}
