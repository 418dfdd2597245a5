//! What Python makes of a value: `str`, `repr` and `str.format`, which go into content hashes.

use super::error::ModelError;
use super::printable::is_printable;
use crate::kv::json::float_repr;
use crate::kv::{Text, TextBuilder, Value};

/// Appends `str(value)`.
pub(super) fn push_str(value: &Value, out: &mut TextBuilder) {
    match value {
        Value::Text(text) => out.push_text(text),
        other => push_repr(other, out),
    }
}

/// `str(value)`.
pub(crate) fn to_str(value: &Value) -> Text {
    match value {
        Value::Text(text) => text.clone(),
        other => {
            let mut out = TextBuilder::default();
            push_repr(other, &mut out);
            out.finish()
        }
    }
}

/// Appends `repr(value)`.
pub(super) fn push_repr(value: &Value, out: &mut TextBuilder) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(int) => out.push_str(&int.to_string()),
        Value::BigInt(big) => out.push_str(big.as_decimal()),
        Value::Float(float) => out.push_str(&float_repr(*float)),
        Value::Text(text) => push_text_repr(text, out),
        Value::List(list) => {
            out.push_str("[");
            for (index, value) in list.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                push_repr(value, out);
            }
            out.push_str("]");
        }
        Value::Map(map) => push_map_repr(map.iter(), out),
    }
}

/// Appends the `repr` of a dictionary with these entries.
pub(super) fn push_map_repr<'a>(
    entries: impl Iterator<Item = (&'a Text, &'a Value)>,
    out: &mut TextBuilder,
) {
    out.push_str("{");
    for (index, (key, value)) in entries.enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        push_text_repr(key, out);
        out.push_str(": ");
        push_repr(value, out);
    }
    out.push_str("}");
}

/// Appends the `repr` of a string: single quotes unless only those occur inside.
fn push_text_repr(text: &Text, out: &mut TextBuilder) {
    let has = |quote| text.as_bytes().contains(&quote);
    let quote = if has(b'\'') && !has(b'"') { '"' } else { '\'' };
    out.push(quote.into());
    // Most strings are shown as they are.
    if text.as_bytes().iter().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'\'' | b'\\')) {
        out.push_text(text);
        out.push(quote.into());
        return;
    }
    for point in text.code_points() {
        match char::from_u32(point) {
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) if c == quote => {
                out.push_str("\\");
                out.push(point);
            }
            _ if is_printable(point) => out.push(point),
            _ if point < 0x100 => out.push_str(&format!("\\x{point:02x}")),
            _ if point < 0x1_0000 => out.push_str(&format!("\\u{point:04x}")),
            _ => out.push_str(&format!("\\U{point:08x}")),
        }
    }
    out.push(quote.into());
}

/// Appends `template.format(key=key, value=str(value))`, for whatever the fields are called.
///
/// Fields may carry a conversion (`!s`, `!r`); format specifications (`{key:>10}`) and
/// other fields are errors.
pub(super) fn push_format(
    template: &Text,
    fields: [(&'static str, &Value); 2],
    out: &mut TextBuilder,
) -> Result<(), ModelError> {
    let error = |what| {
        Err(ModelError::Template { template: template.to_string_lossy().into_owned(), what })
    };
    let mut points = template.code_points().peekable();
    let (open, close) = (u32::from('{'), u32::from('}'));
    while let Some(point) = points.next() {
        if point == close {
            if points.next_if_eq(&close).is_none() {
                return error("single '}' encountered in format string");
            }
            out.push(point);
        } else if point != open || points.next_if_eq(&open).is_some() {
            out.push(point);
        } else {
            let field = Text::from_code_points(std::iter::from_fn(|| {
                points.next_if(|next| *next != close)
            }));
            if points.next().is_none() {
                return error("expected '}' before end of string");
            }
            push_field(&field, fields, out).or_else(error)?;
        }
    }
    Ok(())
}

/// Appends what stands for one `{field}`.
fn push_field(
    field: &Text,
    fields: [(&'static str, &Value); 2],
    out: &mut TextBuilder,
) -> Result<(), &'static str> {
    let field = field.as_str().unwrap_or_default();
    let (name, conversion) = field.split_once('!').unwrap_or((field, "s"));
    let mut text = TextBuilder::default();
    match fields.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => push_str(value, &mut text),
        None if name.contains(':') => return Err("format specifications are not supported"),
        None if fields.iter().any(|(known, _)| *known == "key") => {
            return Err("has a field that is neither {key} nor {value}");
        }
        None => return Err("has a field that is neither {metadata_str} nor {content}"),
    }
    match conversion {
        "s" => out.push_text(&text.finish()),
        "r" => push_text_repr(&text.finish(), out),
        _ => return Err("has a conversion that is neither !s nor !r"),
    }
    Ok(())
}
