//! Checksums: CRC-32 (IEEE polynomial, reflected) by crc32fast, always with a non-zero seed.
//!
//! A seed binds bytes to where they belong: the *salt* of a segment is the checksum of its header,
//! which holds store id, segment id and epoch, so that a record of another segment, store or
//! epoch never verifies. A zero seed is never used, so that a run of zeros never verifies.

/// Seed of checksums that need no salt.
const UNSALTED: u32 = 0x5117_5704;

/// The checksum of `bytes`, salted with `salt`.
pub(crate) fn salted(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt ^ UNSALTED);
    hasher.update(bytes);
    hasher.finalize()
}

/// The checksum of `bytes`, bound to nothing.
pub(crate) fn plain(bytes: &[u8]) -> u32 {
    salted(0, bytes)
}

/// The checksum of `bytes` salted with `salt` and bound to `position`.
pub(crate) fn at(salt: u32, position: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt ^ UNSALTED);
    hasher.update(&position.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}
