//! Values: their stored form and their JSON.

use super::Outcome;
use crate::kv::{Value, codec, json};

/// The input is a stored value, and JSON text: what can be read is written and read again, and
/// must be the same.
pub fn value_bytes(bytes: &[u8]) -> Outcome {
    let decoded = codec::decode(bytes).ok();
    let parsed = json::from_slice(bytes).ok();
    for value in decoded.iter().chain(&parsed) {
        round_trip(value);
    }
    match (decoded, parsed) {
        (None, None) => Outcome::Refused,
        _ => Outcome::Accepted,
    }
}

fn stored(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes);
    bytes
}

/// Compares by the stored form, which tells all values apart, not-a-numbers included.
fn round_trip(value: &Value) {
    let bytes = stored(value);
    let again = codec::decode(&bytes).unwrap_or_else(|e| panic!("{value:?}: {e}"));
    assert_eq!(stored(&again), bytes, "{value:?} is stored as {again:?}");
    for style in [json::Style::Compact, json::Style::Python, json::Style::Canonical] {
        let text = json::to_string(value, style);
        let read = json::from_slice(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(read, *value, "{text}");
    }
}
