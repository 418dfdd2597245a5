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

/// The salt with which [`at`] gives `sum` for these bytes at this position: the checksum run
/// backwards. There is exactly one, whatever the bytes are, so it proves nothing by itself.
pub(crate) fn salt_of(sum: u32, position: u64, bytes: &[u8]) -> u32 {
    let mut register = !sum;
    for byte in bytes.iter().rev().chain(position.to_le_bytes().iter().rev()) {
        // The top byte of a table entry names it: what was shifted out can be told.
        let top = usize::from(register.to_le_bytes()[3]);
        let index = BY_TOP_BYTE.get(top).copied().unwrap_or_default();
        let entry = table_entry(u32::from(index));
        register = (register ^ entry) << 8 | u32::from(index ^ byte);
    }
    !register ^ UNSALTED
}

/// What one byte does to the register of the checksum.
const fn table_entry(byte: u32) -> u32 {
    let mut entry = byte;
    let mut bit = 0;
    while bit < 8 {
        entry = if entry & 1 == 1 { entry >> 1 ^ 0xEDB8_8320 } else { entry >> 1 };
        bit += 1;
    }
    entry
}

/// The byte whose table entry has this top byte.
const BY_TOP_BYTE: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[(table_entry(byte) >> 24) as usize] = byte as u8;
        byte += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_salt_is_found_from_a_checksum() {
        for salt in [0, 1, 0xDEAD_BEEF, u32::MAX] {
            for len in [0, 1, 36, 300] {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                assert_eq!(salt_of(at(salt, 64, &bytes), 64, &bytes), salt);
            }
        }
    }
}
