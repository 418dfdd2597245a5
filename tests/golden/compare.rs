//! Comparing what happened with what was recorded.

use siltstone::kv::{Map, Text, Value, json};

use crate::Outcome;

/// Replaces `{"$float": "nan"}` and its like by the float.
pub(crate) fn decode_floats(value: Value) -> Value {
    match value {
        Value::List(list) => Value::List(list.into_iter().map(decode_floats).collect()),
        Value::Map(map) => {
            if let (1, Some(Value::Text(name))) = (map.len(), map.get("$float")) {
                return Value::Float(name.to_string().parse().unwrap_or(f64::NAN));
            }
            map.into_iter().map(|(key, value)| (key, decode_floats(value))).collect::<Map>().into()
        }
        other => other,
    }
}

/// Checks one outcome against the recorded one.
pub(crate) fn check(op: &str, recorded: &Value, outcome: Outcome) -> Result<(), String> {
    let text = |field: &str| recorded.get(field).and_then(Value::as_text);
    let actual = match (outcome, text("error_type")) {
        (Err(raised), Some(class)) => {
            if *class != raised.class {
                return Err(format!(
                    "raised {}: {}, expected {class}",
                    raised.class, raised.message
                ));
            }
            let message = text("error_message").filter(|message| **message != *raised.message);
            return match message {
                Some(message) => Err(format!("raised {:?}, expected {message:?}", raised.message)),
                None => Ok(()),
            };
        }
        (Err(raised), None) => return Err(format!("raised {}: {}", raised.class, raised.message)),
        (Ok(value), Some(class)) => {
            return Err(format!("gave {}, expected {class}", show(&value)));
        }
        (Ok(value), None) => value,
    };
    let expected = recorded.get("expect").ok_or("nothing is expected")?;
    let same = match (op, text("compare").map(Text::to_string).as_deref()) {
        ("to_dict" | "docstore_state" | "raw", None | Some("exact")) => {
            same_collections(&actual, expected)
        }
        // A Python dictionary's order; here there is none.
        ("docs_ids", _) | (_, Some("unordered")) => sorted(&actual) == sorted(expected),
        (_, Some("subset")) => is_drawn_from(&actual, expected),
        (_, None | Some("exact")) => actual == *expected,
        (_, Some("query")) => same_ranking(&actual, expected).unwrap_or(false),
        (_, Some(other)) => return Err(format!("unknown way to compare: {other}")),
    };
    match same {
        true => Ok(()),
        false => Err(format!("gave {}, expected {}", show(&actual), show(expected))),
    }
}

/// Equal, except that an expected empty collection may be absent. A collection that is not
/// expected may not even be there empty.
fn same_collections(actual: &Value, expected: &Value) -> bool {
    let (Some(actual), Some(expected)) = (actual.as_map(), expected.as_map()) else { return false };
    let empty = Value::Map(Map::new());
    actual.keys().all(|name| expected.contains_key(name))
        && expected.iter().all(|(name, records)| actual.get(name).unwrap_or(&empty) == records)
}

/// Equal similarities, as far as arithmetic tells, and the same ids for each of them in any order.
fn same_ranking(actual: &Value, expected: &Value) -> Option<bool> {
    let ids = |value: &Value| -> Option<Vec<String>> {
        let ids = value.get("ids")?.as_list()?;
        Some(ids.iter().map(|id| json::to_string(id, json::Style::Canonical)).collect())
    };
    let similarities = |value: &Value| -> Option<Vec<f64>> {
        let floats = value.get("similarities")?.as_list()?.iter().map(|value| match value {
            Value::Float(float) => Some(*float),
            _ => None,
        });
        floats.collect()
    };
    let near = |a: f64, b: f64| {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
    };
    let (ours, theirs) = (similarities(actual)?, similarities(expected)?);
    let (our_ids, their_ids) = (ids(actual)?, ids(expected)?);
    let same = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| near(*a, *b));
    if !same || our_ids.len() != ours.len() || their_ids.len() != ours.len() {
        return Some(false);
    }
    let mut start = 0;
    for end in 1..=theirs.len() {
        if end < theirs.len() && near(theirs[end - 1], theirs[end]) {
            continue;
        }
        let (mut a, mut b) = (our_ids[start..end].to_vec(), their_ids[start..end].to_vec());
        a.sort();
        b.sort();
        if a != b {
            return Some(false);
        }
        start = end;
    }
    Some(true)
}

/// True if `actual` has the right number of items, each taken from those to choose from.
fn is_drawn_from(actual: &Value, expected: &Value) -> bool {
    let (Some(drawn), Some(mut left)) = (sorted(actual), expected.get("from").and_then(sorted))
    else {
        return false;
    };
    let count = expected.get("count").and_then(Value::as_int);
    count == i64::try_from(drawn.len()).ok()
        && drawn.iter().all(|item| match left.iter().position(|one| one == item) {
            Some(place) => {
                left.remove(place);
                true
            }
            None => false,
        })
}

fn sorted(list: &Value) -> Option<Vec<String>> {
    let shown = |item: &Value| json::to_string(item, json::Style::Canonical);
    let mut sorted: Vec<String> = list.as_list()?.iter().map(shown).collect();
    sorted.sort();
    Some(sorted)
}

fn show(value: &Value) -> String {
    let shown = json::to_string(value, json::Style::Canonical);
    if shown.len() > 2000 {
        format!("{}... ({} bytes)", &shown[..2000], shown.len())
    } else {
        shown
    }
}
