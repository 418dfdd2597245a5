//! JSONL records: `{"id": "..", "text": "..", "metadata": {..}, "embedding": [..]}`.

use super::walk::looks_like_chunk;
use crate::kv::{Map, Text, Value, json};
use crate::limits::{KEY_LEN_MAX, VALUE_DEPTH_MAX};

/// Longest id, in bytes: its chunks' ids are keys too.
const ID_LEN_MAX: usize = KEY_LEN_MAX - 32;

/// Deepest nesting of metadata: in a node's record it is nested a few levels deeper.
const METADATA_DEPTH_MAX: usize = VALUE_DEPTH_MAX - 16;

/// A record.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// `None` if it names none.
    pub(super) id: Option<Text>,
    pub(super) text: Text,
    pub(super) metadata: Map,
    pub(super) embedding: Option<Vec<f64>>,
}

/// Reads a line. `Ok(None)` if it is blank.
///
/// Python's dialect of JSON is understood. Fields that are null count as absent, those that are
/// not known are ignored.
pub(super) fn parse(line: &[u8]) -> Result<Option<Record>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let value = json::from_slice(line).map_err(|e| format!("{} at column {}", e.what, e.column))?;
    let Value::Map(map) = value else {
        return Err(format!("{} where a record should be, an object with \"text\"", value.kind()));
    };
    let field = |name: &str| map.get(name).filter(|value| !value.is_null());
    let text_field = |name: &str| match field(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("\"{name}\" is {}, expected a string", other.kind())),
    };
    let id = text_field("id")?;
    if let Some(id) = &id {
        if id.is_empty() {
            return Err("\"id\" is empty; leave it out to get one".into());
        }
        if id.len() > ID_LEN_MAX {
            return Err(format!("\"id\" has {} bytes, at most {ID_LEN_MAX} are allowed", id.len()));
        }
        if looks_like_chunk(id) {
            return Err(format!("\"id\" is {id}, but ids that end in #0000 are those of chunks"));
        }
    }
    let metadata = match field("metadata") {
        None => Map::new(),
        Some(Value::Map(metadata)) => metadata.clone(),
        Some(other) => return Err(format!("\"metadata\" is {}, expected an object", other.kind())),
    };
    if !map.get("metadata").is_none_or(|metadata| metadata.is_within_depth(METADATA_DEPTH_MAX)) {
        return Err(format!("\"metadata\" is nested deeper than {METADATA_DEPTH_MAX} levels"));
    }
    let embedding = match field("embedding") {
        None => None,
        Some(Value::List(list)) => Some(list.iter().map(number).collect::<Result<_, _>>()?),
        Some(other) => return Err(format!("\"embedding\" is {}, expected a list", other.kind())),
    };
    let text = text_field("text")?.ok_or("\"text\" is missing")?;
    Ok(Some(Record { id, text, metadata, embedding }))
}

fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(float) => Ok(*float),
        Value::Int(int) => Ok(*int as f64),
        Value::BigInt(big) => Ok(big.to_f64()),
        other => Err(format!("\"embedding\" holds {}, expected numbers", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_python_writes_them() {
        let line = br#"{"id": "a", "text": "t\ud800", "metadata": {"big": 18446744073709551616,
            "nan": NaN}, "embedding": [1, 0.5, -Infinity], "other": 1}"#;
        let record = parse(line).expect("valid").expect("not blank");
        assert_eq!(record.id, Some("a".into()));
        assert_eq!(record.text.as_str(), None);
        assert_eq!(record.embedding, Some(vec![1.0, 0.5, f64::NEG_INFINITY]));
        assert_eq!(record.metadata.get("nan"), Some(&Value::Float(f64::NAN)));
        assert!(matches!(record.metadata.get("big"), Some(Value::BigInt(_))));
        let least = parse(b"{\"text\": \"\", \"id\": null}").expect("valid").expect("not blank");
        assert_eq!((least.id, least.embedding), (None, None));
        assert_eq!(parse(b" \r"), Ok(None));
    }

    #[test]
    fn bad_records_are_errors_that_say_why() {
        for (line, why) in [
            ("{", "column 2"),
            ("[]", "a list where a record should be"),
            ("{}", "\"text\" is missing"),
            (r#"{"text": 1}"#, "\"text\" is an integer"),
            (r#"{"text": "", "id": 1}"#, "\"id\" is an integer"),
            (r#"{"text": "", "id": ""}"#, "\"id\" is empty"),
            (r#"{"text": "", "id": "a#0001"}"#, "those of chunks"),
            (r#"{"text": "", "metadata": []}"#, "\"metadata\" is a list"),
            (r#"{"text": "", "embedding": ["1"]}"#, "\"embedding\" holds a string"),
            (r#"{"text": "", "embedding": {}}"#, "\"embedding\" is a dictionary"),
        ] {
            let error = parse(line.as_bytes()).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
