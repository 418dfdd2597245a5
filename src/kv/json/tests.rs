use super::*;
use crate::kv::{Text, Value};
use crate::limits::VALUE_DEPTH_MAX;

fn read(text: &str) -> Value {
    from_slice(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn error(text: impl AsRef<[u8]>) -> String {
    from_slice(text.as_ref()).map_or_else(|e| e.to_string(), |v| panic!("read {v:?}"))
}

#[test]
fn what_python_writes_comes_back_byte_for_byte() {
    for text in [
        "null",
        "[true, false, null, 0, -1, 1.0, -0.0, 1e-07, 1e+16, 1.2345678901234568e+17]",
        "[NaN, Infinity, -Infinity, 5e-324, 1.7976931348623157e+308, 0.0001, 9999999999999998.0]",
        "[12345678901234567890123456789012345678901, -9223372036854775809]",
        r#"{"": {}, "a": [], "b": [[{"c": "\u00e9\ud83d\ude00\u007f\n\t\r\f\b\u0001\\\"/"}]]}"#,
        r#""\ud800 \udc00 a""#,
    ] {
        assert_eq!(to_string(&read(text), Style::Python), text);
    }
}

#[test]
fn styles_differ_in_white_space_and_order() {
    let value = read(r#" { "b" : [ 1 , 2 ] , "a" : "x" , "\uffff": 0, "\ud83d\ude00": 0 } "#);
    let compact = r#"{"b":[1,2],"a":"x","\uffff":0,"\ud83d\ude00":0}"#;
    assert_eq!(to_string(&value, Style::Compact), compact);
    let canonical = r#"{"a":"x","b":[1,2],"\uffff":0,"\ud83d\ude00":0}"#;
    assert_eq!(to_string(&value, Style::Canonical), canonical);
}

#[test]
fn numbers_are_read_as_python_does() {
    assert_eq!(read("-0"), Value::Int(0));
    assert_eq!(read("1E2"), Value::Float(100.0));
    assert_eq!(read("1e400"), Value::Float(f64::INFINITY));
    assert_eq!(read("1e-400"), Value::Float(0.0));
    assert_eq!(read("-1.5e+2"), Value::Float(-150.0));
    assert_eq!(read("\"\\/\""), Value::from("/"));
}

#[test]
fn the_last_of_two_equal_keys_wins() {
    assert_eq!(
        to_string(&read(r#"{"a": 1, "b": 2, "a": 3}"#), Style::Python),
        r#"{"a": 3, "b": 2}"#
    );
}

#[test]
fn surrogates_pair_up_only_when_both_are_escaped_next_to_each_other() {
    assert_eq!(read(r#""\ud83d\ude00""#), Value::from("\u{1f600}"));
    let lone = Text::from_code_points([0xd83d, 0x20, 0xde00, 0xd800, 0xd800]);
    assert_eq!(read(r#""\ud83d \ude00\ud800\ud800""#), Value::Text(lone));
}

#[test]
fn errors_name_the_place() {
    for (text, message) in [
        ("", "Expecting value: line 1 column 1 (byte 0)"),
        ("{\"a\": 1,\n \"\u{e9}\" 2}", "Expecting ':' delimiter: line 2 column 6 (byte 15)"),
        ("[1 2]", "Expecting ',' delimiter: line 1 column 4 (byte 3)"),
        ("[1,]", "Expecting value: line 1 column 4 (byte 3)"),
        ("{,}", "Expecting property name enclosed in double quotes: line 1 column 2 (byte 1)"),
        ("1 1", "Extra data: line 1 column 3 (byte 2)"),
        ("01", "Extra data: line 1 column 2 (byte 1)"),
        ("1.", "Extra data: line 1 column 2 (byte 1)"),
        ("-", "Expecting value: line 1 column 1 (byte 0)"),
        ("nul", "Expecting value: line 1 column 1 (byte 0)"),
        (" \"abc", "Unterminated string starting: line 1 column 2 (byte 1)"),
        ("\"a\nb\"", "Invalid control character: line 1 column 3 (byte 2)"),
        (r#""\x""#, "Invalid \\escape: line 1 column 2 (byte 1)"),
        (r#""\u12g4""#, "Invalid \\uHHHH escape: line 1 column 2 (byte 1)"),
        ("\u{feff}1", "Unexpected UTF-8 BOM: line 1 column 1 (byte 0)"),
    ] {
        assert_eq!(error(text), message, "{text:?}");
    }
    assert_eq!(error(b"\"ab\xff\""), "Invalid UTF-8: line 1 column 4 (byte 3)");
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
    assert!(read(&nested(VALUE_DEPTH_MAX)).is_within_depth(VALUE_DEPTH_MAX));
    assert!(error(nested(VALUE_DEPTH_MAX + 1)).starts_with("Nested too deeply"));
    assert!(error("[".repeat(1 << 20)).starts_with("Nested too deeply"));
}

#[test]
fn every_prefix_of_a_document_is_an_error() {
    let text = r#"{"a": [1.5e3, "\ud83d\ude00", null, -7], "b": {"c": true}}"#;
    for len in 0..text.len() {
        error(&text[..len]);
    }
}

#[test]
fn floats_have_the_digits_of_python() {
    for (float, repr) in [
        (1e22, "1e+22"),
        (1e-5, "1e-05"),
        (0.0001, "0.0001"),
        (1e15, "1000000000000000.0"),
        (123456789.12345679, "123456789.12345679"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e100, "1e+100"),
        (-2.5e-8, "-2.5e-08"),
        (f64::NAN, "nan"),
        (f64::NEG_INFINITY, "-inf"),
    ] {
        assert_eq!(float_repr(float), repr);
    }
}
