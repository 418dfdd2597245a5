//! [`Output`]: standard output, and how values, bytes and counts are shown on it.

use std::io::{BufWriter, ErrorKind, StdoutLock, Write};

use super::failure::Failure;
use crate::kv::{Map, Text, Value, codec, json};

/// Standard output, buffered and locked.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Output { out: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()), json }
    }

    /// True if the answer is to be JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes());
        written.and_then(|()| self.out.write_all(b"\n")).map_err(failure)
    }

    /// Prints a value on one line, as Python's `json.dumps` writes it; but under `--json` NaN and
    /// the infinities are null, since strict parsers take neither.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), Failure> {
        let text = match self.json && !is_strict(value) {
            true => json::to_string(&strict(value), json::Style::Python),
            false => json::to_string(value, json::Style::Python),
        };
        self.line(&text)
    }

    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(failure)
    }
}

fn failure(e: std::io::Error) -> Failure {
    match e.kind() {
        ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::of("cannot write to standard output", e),
    }
}

/// True if every number of the value has a form in JSON.
fn is_strict(value: &Value) -> bool {
    match value {
        Value::Float(float) => float.is_finite(),
        Value::List(list) => list.iter().all(is_strict),
        Value::Map(map) => map.iter().all(|(_, value)| is_strict(value)),
        _ => true,
    }
}

/// The value with null for each number that has no form in JSON.
fn strict(value: &Value) -> Value {
    match value {
        Value::Float(float) if !float.is_finite() => Value::Null,
        Value::List(list) => Value::List(list.iter().map(strict).collect()),
        Value::Map(map) => {
            map.iter().map(|(key, value)| (key.clone(), strict(value))).collect::<Map>().into()
        }
        other => other.clone(),
    }
}

/// A dictionary.
pub(super) fn object<const N: usize>(fields: [(&'static str, Value); N]) -> Map {
    fields.into_iter().map(|(key, value)| (Text::from_static(key), value)).collect()
}

/// The field for a key or a value: under `name` if it is text, else escaped under `name_bytes`.
pub(super) fn key_field(name: &'static str, bytes: &[u8]) -> (String, Value) {
    match Text::from_bytes(bytes) {
        Ok(text) => (name.to_owned(), text.into()),
        Err(_) => (format!("{name}_bytes"), bytes.escape_ascii().to_string().into()),
    }
}

/// A key on one line: text as it is, anything else escaped as `get --escaped` reads it.
pub(super) fn shown_key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => key.escape_ascii().to_string(),
    }
}

/// Text for people, as it is but for what would end the line or steer the terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The field for a stored value: `value`, or, if it was not written by a key-value store, its
/// bytes, escaped, as `value_bytes`.
pub(super) fn value_field(bytes: &[u8]) -> (&'static str, Value) {
    match codec::decode(bytes) {
        Ok(value) => ("value", value),
        Err(_) => ("value_bytes", bytes.escape_ascii().to_string().into()),
    }
}

/// `12.3 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let mut amount = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            let digits = if unit == "B" { 0 } else { 1 };
            return format!("{amount:.digits$} {unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 file`, `2 files`.
pub(super) fn plural(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!(bytes(3 << 40), "3.0 TiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(plural(1000, "file"), "1,000 files");
    }
}
