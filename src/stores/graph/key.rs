//! Keys made of several texts.

use sha2::{Digest, Sha256};

/// Longest key that is kept as it is, in bytes; a longer one is replaced by its hash.
const PLAIN_LEN_MAX: usize = 256;

/// One key for several byte strings: equal only for equal strings. Long ones are hashed with
/// sha256, which nobody knows how to make collide.
pub(crate) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![0];
    for part in parts {
        key.extend_from_slice(&(part.len() as u64).to_le_bytes());
        key.extend_from_slice(part);
    }
    if key.len() <= PLAIN_LEN_MAX {
        return key;
    }
    let mut hashed = vec![1];
    hashed.extend_from_slice(&Sha256::digest(&key));
    hashed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_parts_give_another_key() {
        let long = vec![b'x'; PLAIN_LEN_MAX];
        let longer = vec![b'x'; PLAIN_LEN_MAX + 1];
        let cases: [&[&[u8]]; 8] = [
            &[b"a_b", b"c", b"d"],
            &[b"a", b"b_c", b"d"],
            &[b"a", b"b", b"c_d"],
            &[b"", b"ab"],
            &[b"ab", b""],
            &[b"ab"],
            &[&long],
            &[&longer],
        ];
        let keys: std::collections::BTreeSet<_> = cases.iter().map(|parts| joined(parts)).collect();
        assert_eq!(keys.len(), cases.len());
        assert!(keys.iter().all(|key| key.len() <= PLAIN_LEN_MAX));
    }
}
