//! The writer: byte for byte what Python's `json.dumps` gives, or what pydantic's models give.

use std::fmt::Write;

use crate::kv::text::Text;
use crate::kv::value::{Map, Value};

/// How a value is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Python's default: `{"a": 1, "b": [2, 3]}`.
    #[default]
    Python,
    /// No white space: `{"a":1,"b":[2,3]}`.
    Compact,
    /// No white space, and characters beyond ASCII as they are, as pydantic's `model_dump_json` has
    /// it: `{"a":"\u{e9}"}`. Lone surrogates are escaped all the same, for UTF-8 has no form for
    /// them.
    Utf8,
    /// No white space and keys sorted by code point, so that equal values give equal texts.
    Canonical,
}

impl Style {
    pub(super) fn separators(self) -> (&'static str, &'static str) {
        match self {
            Style::Python => (", ", ": "),
            Style::Compact | Style::Utf8 | Style::Canonical => (",", ":"),
        }
    }
}

/// `value` as JSON.
pub fn to_string(value: &Value, style: Style) -> String {
    let mut out = String::new();
    write(value, style, &mut out);
    out
}

/// Appends `value` as JSON to `out`.
pub fn write(value: &Value, style: Style, out: &mut String) {
    let (comma, _) = style.separators();
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(int) => out.push_str(&int.to_string()),
        Value::BigInt(big) => out.push_str(big.as_decimal()),
        Value::Float(float) if float.is_nan() => out.push_str("NaN"),
        Value::Float(f64::INFINITY) => out.push_str("Infinity"),
        Value::Float(f64::NEG_INFINITY) => out.push_str("-Infinity"),
        Value::Float(float) => out.push_str(&float_repr(*float)),
        Value::Text(text) => write_text(text, style, out),
        Value::List(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                out.push_str(if index > 0 { comma } else { "" });
                write(value, style, out);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(map, style, out),
    }
}

fn write_map(map: &Map, style: Style, out: &mut String) {
    let (comma, colon) = style.separators();
    let mut entries: Vec<(&Text, &Value)> = map.iter().collect();
    if style == Style::Canonical {
        entries.sort_by_key(|(key, _)| *key);
    }
    out.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        out.push_str(if index > 0 { comma } else { "" });
        write_text(key, style, out);
        out.push_str(colon);
        write(value, style, out);
    }
    out.push('}');
}

pub(super) fn write_text(text: &Text, style: Style, out: &mut String) {
    out.push('"');
    for point in text.code_points() {
        match char::from_u32(point) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\u{8}') => out.push_str("\\b"),
            Some(c @ ' '..='~') => out.push(c),
            Some(c @ '\u{7f}'..) if style == Style::Utf8 => out.push(c),
            Some(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape(*unit, out)),
            // A lone surrogate is its own UTF-16 unit.
            None => escape(point as u16, out),
        }
    }
    out.push('"');
}

fn escape(unit: u16, out: &mut String) {
    write!(out, "\\u{unit:04x}").expect("a String takes everything");
}

/// A float as Python's `repr` has it: the shortest digits that read back as the same float, with
/// an exponent below 1e-4 and from 1e16 on, and always a `.0` or an exponent.
pub(crate) fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    // Rust finds the same shortest digits: `-1.2345e-7`.
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = float.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
