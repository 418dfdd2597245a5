//! The reader: one pass over the bytes, errors with line and column as Python counts them.

use std::fmt;

use super::input::{Input, Slice};
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
    let mut grammar = Grammar { input: Slice::new(bytes) };
    grammar.document().map_err(|what| grammar.locate(what))
}

/// What is wrong at the input's position.
pub(super) type Read<T> = Result<T, &'static str>;

/// Python's JSON, read from an input.
pub(super) struct Grammar<I> {
    pub(super) input: I,
}

impl<I: Input> Grammar<I> {
    fn document(&mut self) -> Read<Value> {
        self.start()?;
        let value = self.value(0)?;
        self.end()?;
        Ok(value)
    }

    /// Steps to the first value of a text.
    pub(super) fn start(&mut self) -> Read<()> {
        if self.is_next(b"\xef\xbb\xbf") {
            return Err("Unexpected UTF-8 BOM");
        }
        self.white_space();
        Ok(())
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&mut self) -> Read<()> {
        self.white_space();
        if self.byte(0).is_some() { Err("Extra data") } else { Ok(()) }
    }

    /// The error at the input's position.
    pub(super) fn locate(&self, what: &'static str) -> JsonError {
        let place = self.input.place();
        JsonError { what, line: place.line, column: place.column, byte: place.byte }
    }

    /// The byte `ahead` bytes after the position.
    fn byte(&mut self, ahead: usize) -> Option<u8> {
        while self.input.window().len() <= ahead {
            if !self.input.more() {
                return None;
            }
        }
        self.input.window().get(ahead).copied()
    }

    pub(super) fn peek(&mut self) -> Option<u8> {
        self.byte(0)
    }

    pub(super) fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.input.advance(1);
        }
    }

    /// True if `token` is next.
    fn is_next(&mut self, token: &[u8]) -> bool {
        if let Some(last) = token.len().checked_sub(1) {
            self.byte(last);
        }
        self.input.window().starts_with(token)
    }

    /// Steps over `token` if it is next.
    pub(super) fn accept(&mut self, token: &[u8]) -> bool {
        let found = self.is_next(token);
        if found {
            self.input.advance(token.len());
        }
        found
    }

    /// Requires: `depth` containers stand around the value.
    pub(super) fn value(&mut self, depth: usize) -> Read<Value> {
        match self.peek() {
            Some(b'{' | b'[') if depth >= VALUE_DEPTH_MAX => Err(TOO_DEEP),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') if !self.is_next(b"-Infinity") => self.number(),
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

    /// Steps over a value by finding its end: what is inside is not looked at.
    pub(super) fn pass(&mut self, depth: usize) -> Read<()> {
        if !matches!(self.peek(), Some(b'{' | b'[')) {
            return self.value(depth).map(drop);
        }
        let (mut open, mut in_string, mut is_escaped) = (0u64, false, false);
        loop {
            let window = self.input.window();
            let end = window.iter().position(|byte| {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if in_string => is_escaped = true,
                    b'"' => in_string = !in_string,
                    b'{' | b'[' if !in_string => open += 1,
                    b'}' | b']' if !in_string => open -= 1,
                    _ => {}
                }
                open == 0
            });
            let len = end.map_or(window.len(), |end| end + 1);
            self.input.advance(len);
            if end.is_some() {
                return Ok(());
            }
            if !self.input.more() {
                return Err("Expecting ',' delimiter");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read<Value> {
        self.input.advance(1);
        let mut map = Map::new();
        let mut is_first = true;
        while let Some(key) = self.next_key(is_first)? {
            let value = self.value(depth + 1)?;
            map.insert(key, value);
            is_first = false;
        }
        Ok(map.into())
    }

    fn array(&mut self, depth: usize) -> Read<Value> {
        self.input.advance(1);
        let mut list = Vec::new();
        while self.next_item(list.is_empty())? {
            list.push(self.value(depth + 1)?);
        }
        Ok(list.into())
    }

    /// Inside an object: reads the next key, after which a value stands; `None` at the end, which
    /// is stepped over.
    pub(super) fn next_key(&mut self, is_first: bool) -> Read<Option<Text>> {
        self.white_space();
        if self.accept(b"}") {
            return Ok(None);
        }
        if !is_first {
            self.comma()?;
        }
        if self.peek() != Some(b'"') {
            return Err("Expecting property name enclosed in double quotes");
        }
        let key = self.string()?;
        self.white_space();
        if !self.accept(b":") {
            return Err("Expecting ':' delimiter");
        }
        self.white_space();
        Ok(Some(key))
    }

    /// Inside a list: true before a value; false at the end, which is stepped over.
    pub(super) fn next_item(&mut self, is_first: bool) -> Read<bool> {
        self.white_space();
        if self.accept(b"]") {
            return Ok(false);
        }
        if !is_first {
            self.comma()?;
        }
        Ok(true)
    }

    fn comma(&mut self) -> Read<()> {
        if !self.accept(b",") {
            return Err("Expecting ',' delimiter");
        }
        self.white_space();
        Ok(())
    }

    /// `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][-+]?[0-9]+)?`; what does not fit is left unread, as
    /// in Python, and refused by what comes next.
    fn number(&mut self) -> Read<Value> {
        let mut len = usize::from(self.peek() == Some(b'-'));
        let digits = if self.byte(len) == Some(b'0') { len + 1 } else { self.digits(len) };
        if digits == len {
            return Err("Expecting value");
        }
        len = digits;
        let mut float = false;
        for (marks, signed) in [(&b"."[..], false), (b"eE", true)] {
            if self.byte(len).is_some_and(|b| marks.contains(&b)) {
                let is_sign = signed && matches!(self.byte(len + 1), Some(b'-' | b'+'));
                let start = len + 1 + usize::from(is_sign);
                let end = self.digits(start);
                if end > start {
                    len = end;
                    float = true;
                }
            }
        }
        let token = self.input.window().get(..len).unwrap_or_default();
        let token = std::str::from_utf8(token).unwrap_or_default();
        let value = match float {
            true => token.parse().ok().map(Value::Float),
            false => Value::integer(token),
        };
        self.input.advance(len);
        value.ok_or("Expecting value")
    }

    /// Where the digits end that begin `start` bytes after the position.
    fn digits(&mut self, start: usize) -> usize {
        let mut end = start;
        while self.byte(end).is_some_and(|b| b.is_ascii_digit()) {
            end += 1;
        }
        end
    }

    /// The string is brought into the window as a whole and stepped over in one go, so that it is
    /// copied once.
    fn string(&mut self) -> Read<Text> {
        let (len, ended) = self.scan_string();
        let inside = self.input.window().get(1..len).unwrap_or_default();
        let text = match unescape(inside) {
            Ok(text) => text,
            // A sequence that the end of the text cuts short is no error of its own.
            Err((_, "Invalid UTF-8")) if ended == Err(UNTERMINATED) && is_cut(inside) => {
                return Err(UNTERMINATED);
            }
            Err((at, what)) => {
                self.input.advance(1 + at);
                return Err(what);
            }
        };
        match ended {
            Ok(()) => self.input.advance(len + 1),
            // The place of a string without an end is its start.
            Err(UNTERMINATED) => return Err(UNTERMINATED),
            Err(what) => {
                self.input.advance(len);
                return Err(what);
            }
        }
        Ok(text)
    }

    /// How many bytes there are before the closing quote, the opening one included, or before what
    /// stands where it should be.
    fn scan_string(&mut self) -> (usize, Read<()>) {
        let mut len = 1;
        loop {
            let rest = self.input.window().get(len..).unwrap_or_default();
            let Some(next) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) else {
                let had = self.input.window().len();
                len = len.max(had);
                if !self.input.more() {
                    return (had, Err(UNTERMINATED));
                }
                continue;
            };
            match rest.get(next) {
                Some(b'"') => return (len + next, Ok(())),
                Some(b'\\') => len += next + 2,
                _ => return (len + next, Err("Invalid control character")),
            }
        }
    }
}

const UNTERMINATED: &str = "Unterminated string starting";
pub(super) const TOO_DEEP: &str = "Nested too deeply";

/// True if the bytes end within a character.
fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

/// What stands between the quotes of a string; or what is wrong with it, and where.
fn unescape(inside: &[u8]) -> Result<Text, (usize, &'static str)> {
    let mut text = TextBuilder::default();
    let mut at = 0;
    loop {
        let rest = inside.get(at..).unwrap_or_default();
        let run_len = rest.iter().position(|b| *b == b'\\').unwrap_or(rest.len());
        let (run, escaped) = rest.split_at_checked(run_len).unwrap_or_default();
        let run = std::str::from_utf8(run).map_err(|e| (at + e.valid_up_to(), "Invalid UTF-8"))?;
        if at == 0 && escaped.is_empty() {
            return Ok(Text::from(run));
        }
        text.push_str(run);
        at += run_len;
        if escaped.is_empty() {
            return Ok(text.finish());
        }
        let (point, len) = escape(escaped).map_err(|what| (at, what))?;
        text.push(point);
        at += len;
    }
}

/// One escape, or two that are a surrogate pair; and how long it is.
fn escape(bytes: &[u8]) -> Read<(u32, usize)> {
    let simple = match bytes.get(1) {
        Some(b'u') => return unicode_escape(bytes),
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(plain @ (b'"' | b'\\' | b'/')) => char::from(*plain),
        _ => return Err("Invalid \\escape"),
    };
    Ok((simple.into(), 2))
}

fn unicode_escape(bytes: &[u8]) -> Read<(u32, usize)> {
    let high = hex4(bytes).ok_or("Invalid \\uHHHH escape")?;
    if (0xd800..0xdc00).contains(&high)
        && let Some(low @ 0xdc00..0xe000) = hex4(bytes.get(6..).unwrap_or_default())
    {
        return Ok((0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12));
    }
    Ok((high, 6))
}

/// The number in a leading `\uHHHH`.
fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |n, b| Some(n << 4 | char::from(*b).to_digit(16)?))
}
