//! Lists of single-precision floats, written and read without a [`Value`](crate::kv::Value) each.

use super::{VERSION, tag};

/// Bytes before the first float: version, tag, count.
#[cfg(test)]
const HEAD_LEN: usize = 6;

/// Appends the stored form of a list of these floats. The count takes four bytes always, so the
/// floats start at the sixth byte: a record whose key has as many bytes as make that a multiple of
/// four has them aligned. An empty list is written as any empty list is.
///
/// The four bytes hold counts below 2^28, which is more than a value may have.
pub fn encode_f32s(floats: &[f32], out: &mut Vec<u8>) {
    if floats.is_empty() {
        out.extend_from_slice(&[VERSION, tag::LIST, 0]);
        return;
    }
    let n = floats.len();
    let group = |shift: u32| (n >> shift) as u8 & 0x7f;
    out.extend_from_slice(&[VERSION, tag::F32_LIST]);
    out.extend_from_slice(&[group(0) | 0x80, group(7) | 0x80, group(14) | 0x80, group(21)]);
    out.reserve(n * 4);
    for float in floats {
        out.extend_from_slice(&float.to_le_bytes());
    }
}

/// The floats in the stored form of a list of single-precision floats, four little-endian bytes
/// each. `None` if `stored` is anything else.
///
/// ```
/// use siltstone::kv::codec::{encode_f32s, f32s};
/// let mut stored = Vec::new();
/// encode_f32s(&[1.0, -0.5], &mut stored);
/// let bytes = f32s(&stored).unwrap_or_default();
/// assert_eq!(bytes, [1.0f32.to_le_bytes(), (-0.5f32).to_le_bytes()].concat());
/// ```
pub fn f32s(stored: &[u8]) -> Option<&[u8]> {
    let rest = stored.strip_prefix(&[VERSION, tag::F32_LIST])?;
    let head = rest.iter().position(|byte| byte & 0x80 == 0)?;
    if head > 8 {
        return None;
    }
    let (count, floats) = rest.split_at_checked(head + 1)?;
    let count = count.iter().rev().fold(0u64, |n, byte| n << 7 | u64::from(byte & 0x7f));
    (floats.len() as u64 == count.checked_mul(4)?).then_some(floats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Value;
    use crate::kv::codec::{decode, encode};

    #[test]
    fn both_forms_are_the_same_list() {
        for len in [0, 1, 5, 127, 128, 20_000] {
            let floats: Vec<f32> = (0..len).map(|n| n as f32 * 0.37 - 3.0).collect();
            let list = Value::List(floats.iter().map(|f| Value::from(*f)).collect());
            let (mut padded, mut short) = (Vec::new(), Vec::new());
            encode_f32s(&floats, &mut padded);
            encode(&list, &mut short);
            assert_eq!(decode(&padded), Ok(list));
            if len > 0 {
                let bytes: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
                assert_eq!(f32s(&padded), Some(&bytes[..]));
                assert_eq!(f32s(&short), Some(&bytes[..]));
                assert_eq!(padded.len(), HEAD_LEN + bytes.len());
            }
        }
    }

    #[test]
    fn other_values_and_cut_ones_are_refused() {
        let mut stored = Vec::new();
        encode_f32s(&[1.0, 2.0], &mut stored);
        for len in 0..stored.len() {
            assert_eq!(f32s(&stored[..len]), None, "{len}");
        }
        stored.push(0);
        assert_eq!(f32s(&stored), None);
        assert_eq!(f32s(&[VERSION, tag::TEXT, 4, 0, 0, 0, 0]), None);
        assert_eq!(f32s(&[&[VERSION, tag::F32_LIST], &[0xff; 12][..]].concat()), None);
    }
}
