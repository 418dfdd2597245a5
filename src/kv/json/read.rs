//! The reader: one pass over the bytes, errors with line and column as Python counts them.

use std::fmt;

use crate::kv::text::{Text, TextBuilder};
use crate::kv::value::{Map, Value};
use crate::limits::VALUE_DEPTH_MAX;

/// Why a text is not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong, in Python's words where it has some.
    pub what: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Offset in bytes, from 0.
    pub byte: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JsonError { what, line, column, byte } = self;
        write!(f, "{what}: line {line} column {column} (byte {byte})")
    }
}

impl std::error::Error for JsonError {}

/// Reads one JSON value; only white space may stand around it.
///
/// # Errors
///
/// [`JsonError`] if the bytes are anything else.
pub fn from_slice(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader { bytes, at: 0 };
    let read = reader.document();
    read.map_err(|what| locate(bytes, reader.at, what))
}

/// Finds the line and the column of byte `at`.
fn locate(bytes: &[u8], at: usize, what: &'static str) -> JsonError {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let starts_character = |b: &&u8| **b & 0xc0 != 0x80;
    JsonError {
        what,
        line: before.iter().filter(|b| **b == b'\n').count() + 1,
        column: before.iter().skip(line_start).filter(starts_character).count() + 1,
        byte: at,
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn document(&mut self) -> Read<Value> {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            return Err("Unexpected UTF-8 BOM");
        }
        self.white_space();
        let value = self.value(0)?;
        self.white_space();
        if self.at < self.bytes.len() {
            return Err("Extra data");
        }
        Ok(value)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over `token` if it is next.
    fn accept(&mut self, token: &[u8]) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// Requires: `depth` containers stand around the value.
    fn value(&mut self, depth: usize) -> Read<Value> {
        match self.peek() {
            Some(b'{' | b'[') if depth >= VALUE_DEPTH_MAX => Err("Nested too deeply"),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') if !self.rest().starts_with(b"-Infinity") => self.number(),
            _ => {
                let tokens: [(&[u8], Value); 6] = [
                    (b"null", Value::Null),
                    (b"true", Value::Bool(true)),
                    (b"false", Value::Bool(false)),
                    (b"NaN", Value::Float(f64::NAN)),
                    (b"Infinity", Value::Float(f64::INFINITY)),
                    (b"-Infinity", Value::Float(f64::NEG_INFINITY)),
                ];
                let found = tokens.into_iter().find(|(token, _)| self.accept(token));
                found.map(|(_, value)| value).ok_or("Expecting value")
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read<Value> {
        self.at += 1;
        let mut map = Map::new();
        self.white_space();
        if self.accept(b"}") {
            return Ok(map.into());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err("Expecting property name enclosed in double quotes");
            }
            let key = self.string()?;
            self.white_space();
            if !self.accept(b":") {
                return Err("Expecting ':' delimiter");
            }
            self.white_space();
            let value = self.value(depth + 1)?;
            map.insert(key, value);
            self.white_space();
            if self.accept(b"}") {
                return Ok(map.into());
            }
            if !self.accept(b",") {
                return Err("Expecting ',' delimiter");
            }
            self.white_space();
        }
    }

    fn array(&mut self, depth: usize) -> Read<Value> {
        self.at += 1;
        let mut list = Vec::new();
        self.white_space();
        if self.accept(b"]") {
            return Ok(list.into());
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.white_space();
            if self.accept(b"]") {
                return Ok(list.into());
            }
            if !self.accept(b",") {
                return Err("Expecting ',' delimiter");
            }
            self.white_space();
        }
    }

    /// Steps over digits; returns how many.
    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][-+]?[0-9]+)?`; what does not fit is left unread, as
    /// in Python, and refused by what comes next.
    fn number(&mut self) -> Read<Value> {
        let start = self.at;
        self.accept(b"-");
        if !self.accept(b"0") && self.digits() == 0 {
            self.at = start;
            return Err("Expecting value");
        }
        let mut float = false;
        for (marks, signed) in [(&b"."[..], false), (b"eE", true)] {
            let back = self.at;
            if self.peek().is_some_and(|b| marks.contains(&b)) {
                self.at += 1;
                if signed && matches!(self.peek(), Some(b'-' | b'+')) {
                    self.at += 1;
                }
                if self.digits() > 0 {
                    float = true;
                } else {
                    self.at = back;
                }
            }
        }
        let token = self.bytes.get(start..self.at).unwrap_or_default();
        let token = std::str::from_utf8(token).unwrap_or_default();
        let value = match float {
            true => token.parse().ok().map(Value::Float),
            false => Value::integer(token),
        };
        value.ok_or("Expecting value")
    }

    fn string(&mut self) -> Read<Text> {
        let start = self.at;
        self.at += 1;
        let mut text = TextBuilder::default();
        loop {
            let plain = self.rest().iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20));
            let run = self.rest().get(..plain.count()).unwrap_or_default();
            let run = std::str::from_utf8(run).map_err(|e| {
                self.at += e.valid_up_to();
                "Invalid UTF-8"
            })?;
            text.push_str(run);
            self.at += run.len();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text.finish());
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err("Invalid control character"),
                None => {
                    self.at = start;
                    return Err("Unterminated string starting");
                }
            }
        }
    }

    /// One escape, or two that are a surrogate pair.
    fn escape(&mut self) -> Read<u32> {
        let simple = match self.rest().get(1) {
            Some(b'u') => return self.unicode_escape(),
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(*plain),
            _ => return Err("Invalid \\escape"),
        };
        self.at += 2;
        Ok(simple.into())
    }

    fn unicode_escape(&mut self) -> Read<u32> {
        let high = hex4(self.rest()).ok_or("Invalid \\uHHHH escape")?;
        self.at += 6;
        if (0xd800..0xdc00).contains(&high)
            && let Some(low @ 0xdc00..0xe000) = hex4(self.rest())
        {
            self.at += 6;
            return Ok(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
        }
        Ok(high)
    }
}

/// The number in a leading `\uHHHH`.
fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |n, b| Some(n << 4 | char::from(*b).to_digit(16)?))
}
