//! Properties as keys of lists: equal as Python has it.

use crate::kv::{Map, Text, Value};
use crate::limits::VALUE_DEPTH_MAX;

/// The form of a value that is the same for all values that Python finds equal: `1`, `1.0` and
/// `True` are, and so are dictionaries in any order. `None` for what equals nothing (NaN, and what
/// holds one) and for what is nested too deeply to be stored.
pub(super) fn canonical(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    (value.is_within_depth(VALUE_DEPTH_MAX) && push(value, &mut out)).then_some(out)
}

/// Appends the form; false if the value equals nothing.
fn push(value: &Value, out: &mut Vec<u8>) -> bool {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(truth) => push_integer(if *truth { "1" } else { "0" }, out),
        Value::Int(int) => push_integer(&int.to_string(), out),
        Value::BigInt(big) => push_integer(big.as_decimal(), out),
        Value::Float(float) if float.is_nan() => return false,
        Value::Float(0.0) => push_integer("0", out),
        // All digits of the integer that it is exactly.
        Value::Float(float) if float.fract() == 0.0 => push_integer(&format!("{float:.0}"), out),
        Value::Float(float) => {
            out.push(b'f');
            out.extend_from_slice(&float.to_le_bytes());
        }
        Value::Text(text) => push_text(text, out),
        Value::List(list) => {
            push_len(b'l', list.len(), out);
            return list.iter().all(|value| push(value, out));
        }
        Value::Map(map) => {
            push_len(b'm', map.len(), out);
            let mut entries: Vec<(&Text, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            return entries.into_iter().all(|(key, value)| {
                push_text(key, out);
                push(value, out)
            });
        }
    }
    true
}

fn push_integer(decimal: &str, out: &mut Vec<u8>) {
    push_len(b'i', decimal.len(), out);
    out.extend_from_slice(decimal.as_bytes());
}

fn push_text(text: &Text, out: &mut Vec<u8>) {
    push_len(b's', text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn push_len(kind: u8, len: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(len as u64).to_le_bytes());
}

/// Properties that are looked for: what has any of them matches.
#[derive(Debug)]
pub(super) struct Wanted {
    pairs: Vec<(Text, Option<Vec<u8>>)>,
    /// `None` is looked for, which a missing property equals too.
    pub(super) is_null_wanted: bool,
}

impl Wanted {
    pub(super) fn new(properties: &Map) -> Self {
        let pairs = properties.iter().map(|(key, value)| (key.clone(), canonical(value)));
        let is_null_wanted = properties.iter().any(|(_, value)| value.is_null());
        Wanted { pairs: pairs.collect(), is_null_wanted }
    }

    /// True if nothing is looked for, which everything matches.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// What can be found in lists: the key and the form of the value.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Text, &[u8])> {
        self.pairs.iter().filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }

    /// True if any of the properties looked for is there.
    pub(super) fn is_in(&self, properties: &Map) -> bool {
        self.pairs().any(|(key, value)| match properties.get(key) {
            Some(found) => canonical(found).as_deref() == Some(value),
            None => value == b"n",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Value {
        crate::kv::json::from_slice(json.as_bytes()).expect("it is JSON")
    }

    #[test]
    fn equal_is_what_python_finds_equal() {
        let classes: &[&[&str]] = &[
            &["null"],
            &["1", "1.0", "true", "1e0"],
            &["0", "0.0", "-0.0", "false"],
            &["-1", "-1.0"],
            &["0.1"],
            &["9007199254740992", "9007199254740992.0"],
            &["9007199254740993"],
            &["1e22", "10000000000000000000000"],
            &["Infinity"],
            &["-Infinity"],
            &["\"\""],
            &["\"1\""],
            &["[]"],
            &["{}"],
            &["[1, [2.0]]", "[true, [2]]"],
            &["[[1, 2]]"],
            &["[[1], 2]"],
            &["[1, 2]"],
            &["{\"a\": 1, \"b\": null}", "{\"b\": null, \"a\": 1.0}"],
            &["{\"a\": 1}"],
        ];
        for (place, class) in classes.iter().enumerate() {
            for (other_place, other) in classes.iter().enumerate() {
                for (a, b) in class.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                    let equal = canonical(&read(a)) == canonical(&read(b));
                    assert_eq!(equal, place == other_place, "{a} and {b}");
                }
            }
        }
        for nothing in ["NaN", "[1, NaN]", "{\"a\": NaN}"] {
            assert_eq!(canonical(&read(nothing)), None, "{nothing}");
        }
    }

    #[test]
    fn a_missing_property_equals_none() {
        let wanted = |json: &str| Wanted::new(read(json).as_map().expect("it is a map"));
        let there = read("{\"a\": 1, \"n\": null}");
        let there = there.as_map().expect("it is a map");
        assert!(wanted("{\"x\": null}").is_in(there));
        assert!(wanted("{\"n\": null}").is_in(there));
        assert!(!wanted("{\"a\": null}").is_in(there));
        assert!(wanted("{\"a\": null, \"x\": 2, \"n\": 3}").is_null_wanted);
        assert!(wanted("{\"a\": 2, \"n\": null}").is_in(there), "any pair is enough");
        assert!(!wanted("{\"a\": NaN}").is_in(there));
    }
}
