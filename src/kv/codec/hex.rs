//! Texts of hexadecimal digits, such as hashes, two digits a byte.

use std::ops::RangeInclusive;

/// Lengths that writers pack, in digits: of fewer there is little to gain, and of more the number
/// of bytes is no `u8`.
const DIGITS: RangeInclusive<usize> = 16..=510;

/// What a digit stands for; [`NO_DIGIT`] for all other bytes. Upper case would not come back.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_DIGIT; 256];
    let mut nibble = 0;
    while nibble < 16 {
        nibbles[digit(nibble) as usize] = nibble;
        nibble += 1;
    }
    nibbles
};

const NO_DIGIT: u8 = 0xff;

/// The bytes that the digits of `text` stand for, after their number; `None` if it is to be
/// written otherwise.
pub(super) fn pack(text: &[u8]) -> Option<(u8, impl Iterator<Item = u8>)> {
    let nibble = |digit: &u8| NIBBLES[usize::from(*digit)];
    let (pairs, rest) = text.as_chunks::<2>();
    let packs = DIGITS.contains(&text.len())
        && rest.is_empty()
        && text.iter().all(|digit| nibble(digit) != NO_DIGIT);
    let bytes = pairs.iter().map(move |[high, low]| nibble(high) << 4 | nibble(low));
    packs.then_some((pairs.len() as u8, bytes))
}

/// The digits of `packed`.
pub(super) fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut text = vec![0; packed.len() * 2];
    let (pairs, _) = text.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(packed) {
        *pair = [digit(byte >> 4), digit(byte & 0x0f)];
    }
    text
}

const fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}
