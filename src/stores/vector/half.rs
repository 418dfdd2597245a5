//! Half precision (IEEE 754 binary16): how embeddings of a store that was made so are rounded and
//! kept.
//!
//! - Each number is rounded once, from double precision to the nearest half; of two that are
//!   equally near to the even one, as numpy's `astype("float16")` does. What is below 2^-25 becomes
//!   zero with its sign.
//! - Numbers whose nearest would be beyond 65504 are refused, infinities are kept, and every NaN
//!   becomes the same one.
//! - Two halves stand in one little-endian word of four bytes, the first in its lower half; a row
//!   of an odd number of them ends with a zero. No such word is a NaN in single precision.

/// The most that a half can be.
pub(super) const MAX: f64 = 65504.0;

const NAN: u16 = 0x7e00;
const INFINITY: u16 = 0x7c00;
const SIGN: u16 = 0x8000;

/// The half that is nearest to `float`; `None` if that is beyond [`MAX`].
pub(super) fn nearest(float: f64) -> Option<u16> {
    let sign = if float.is_sign_negative() { SIGN } else { 0 };
    let size = float.abs();
    if size.is_nan() {
        return Some(NAN);
    }
    if size.is_infinite() {
        return Some(sign | INFINITY);
    }
    let bits = if size < f64::from(2f32.powi(-14)) {
        // Without an exponent: so many times 2^-24. 1024 of them is the least with one.
        (size * f64::from(2f32.powi(24))).round_ties_even() as u16
    } else {
        // 42 bits of the fraction go; adding half of the last that stays rounds, and a carry out
        // of the fraction raises the exponent, as it should.
        let bits = size.to_bits();
        let rounded = (bits + ((1 << 41) - 1) + (bits >> 42 & 1)) >> 42;
        u16::try_from(rounded - ((1023 - 15) << 10)).unwrap_or(INFINITY)
    };
    (bits < INFINITY).then_some(sign | bits)
}

/// What a half stands for.
pub(super) fn single(half: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(half);
    let sign = if bits & SIGN == 0 { 1.0 } else { -1.0 };
    match bits & !SIGN {
        INFINITY => sign * f32::INFINITY,
        over if over > INFINITY => f32::NAN,
        _ => finite(half),
    }
}

/// What a finite half stands for; something else for others. Without a branch, for the quick
/// distances: the bits are those of a float that is 2^112 times as small.
#[inline(always)]
pub(super) fn finite(half: [u8; 2]) -> f32 {
    const UP: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(u16::from_le_bytes(half));
    let size = f32::from_bits((bits & 0x7fff) << 13) * UP;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

/// What many finite halves stand for.
#[inline(always)]
pub(super) fn finites<const N: usize>(halves: &[[u8; 2]; N]) -> [f32; N] {
    halves.map(finite)
}

/// How many words a row of `dim` halves takes.
pub(super) fn words(dim: usize) -> usize {
    dim.div_ceil(2)
}

/// Appends a row. Requires: its numbers are halves.
pub(super) fn put_row(row: &[f32], words: &mut Vec<f32>) {
    let bits = |float: &f32| u32::from(nearest(f64::from(*float)).unwrap_or(NAN));
    words.extend(row.chunks(2).map(|pair| {
        let [low, high] = [pair.first(), pair.get(1)].map(|float| float.map_or(0, bits));
        f32::from_bits(low | high << 16)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every half comes back, and what lies between two goes to the nearer one. Method: all
    /// of them, the middles and a little to both sides.
    #[test]
    fn halves_come_back_and_others_go_to_the_nearest() {
        let value = |bits: u16| f64::from(single(bits.to_le_bytes()));
        for bits in 0..INFINITY {
            for sign in [0, SIGN] {
                assert_eq!(nearest(value(bits | sign)), Some(bits | sign), "{bits:#x}");
            }
            assert_eq!(finite(bits.to_le_bytes()), single(bits.to_le_bytes()));
            let above = if bits + 1 == INFINITY { 65536.0 } else { value(bits + 1) };
            assert!(value(bits) < above, "{bits:#x}");
            let middle = (value(bits) + above) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            let up = Some(bits + 1).filter(|bits| *bits < INFINITY);
            assert_eq!(nearest(middle), Some(even).filter(|bits| *bits < INFINITY), "{bits:#x}");
            assert_eq!(nearest(middle.next_down()), Some(bits), "{bits:#x}");
            assert_eq!(nearest(middle.next_up()), up, "{bits:#x}");
        }
        assert_eq!(value(1), 2f64.powi(-24));
        assert_eq!(value(INFINITY - 1), MAX);
        assert_eq!(
            [nearest(65519.9), nearest(65520.0), nearest(-1e300)],
            [Some(0x7bff), None, None]
        );
        assert_eq!(nearest(f64::NEG_INFINITY), Some(0xfc00));
        assert_eq!(value(0xfc00), f64::NEG_INFINITY);
        assert_eq!(nearest(-f64::NAN), Some(NAN));
        assert!(value(NAN).is_nan());
        assert_eq!(nearest(-1e-300), Some(SIGN));
    }

    #[test]
    fn no_word_of_a_row_is_a_nan() {
        for low in [0.0, f32::NAN, 1.5] {
            for high in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65504.0] {
                let mut words = Vec::new();
                put_row(&[low, high, 2.0], &mut words);
                assert_eq!(words.len(), super::words(3));
                assert!(words.iter().all(|word| !word.is_nan()));
            }
        }
    }
}
