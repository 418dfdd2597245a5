//! Little-endian fields at fixed offsets, read without panics.

/// The `u16` at `offset`; zero past the end (callers check lengths first).
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    array_at(bytes, offset).map_or(0, u16::from_le_bytes)
}

/// The `u32` at `offset`; zero past the end.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    array_at(bytes, offset).map_or(0, u32::from_le_bytes)
}

/// The `u64` at `offset`; zero past the end.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    array_at(bytes, offset).map_or(0, u64::from_le_bytes)
}

/// The `N` bytes at `offset`.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// Overwrites the bytes at `offset` with `field`. Does nothing past the end.
pub(crate) fn put_at(bytes: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(to) = bytes.get_mut(offset..offset + field.len()) {
        to.copy_from_slice(field);
    }
}

/// `n` rounded up to a multiple of 8.
pub(crate) const fn align8(n: usize) -> usize {
    (n + 7) & !7
}
