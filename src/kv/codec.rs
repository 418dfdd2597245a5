//! The stored form of a [`Value`]: compact, self-describing, pinned.
//!
//! All numbers are little-endian. `varint` is LEB128: seven bits a byte, low ones first, the high
//! bit set on all but the last; at most ten bytes.
//!
//! ```text
//! stored   = version:u8 (1)  value
//! value    = tag:u8  payload
//!
//! tag         payload                          means
//! 0x00        -                                null
//! 0x01        -                                false
//! 0x02        -                                true
//! 0x03        varint, zigzag                   integer of 64 bits
//! 0x04        varint n, n ASCII digits         integer >= 2^63
//! 0x05        varint n, n ASCII digits         integer < -2^63, digits without the sign
//! 0x06        8 bytes                          float
//! 0x07        4 bytes                          float that an f32 holds exactly
//! 0x08        varint n, n bytes                text, generalised UTF-8 (see Text)
//! 0x09        varint n, n values               list
//! 0x0a        varint n, n x 4 bytes            list of floats that all fit f32 exactly
//! 0x0b        varint n, n x 8 bytes            list of floats
//! 0x0c        varint n, n x (key value)        map, in order of insertion
//! 0x0d        entry:u8                         text, an entry of KNOWN_TEXTS
//! 0x0e        n:u8, n bytes                    text of 2n lower-case hexadecimal digits
//! 0x0f        back:u8                          text that stands earlier in the same value
//! 0x40..=0x7f -                                the integer tag - 0x40
//! 0x80..=0xff tag - 0x80 bytes                 text of that length
//!
//! key      = 0x00..=0x7e  that many bytes      text
//!          | 0x7f  varint n, n bytes           text
//!          | 0x80..=0xff                       entry (byte - 0x80) of KNOWN_KEYS
//! ```
//!
//! [`KNOWN_KEYS`] and [`KNOWN_TEXTS`] are part of the format: entries are appended, never changed.
//! Writers use the shortest form of a number; for a text the first that fits of 0x0d, 0x0f, 0x0e,
//! 0x80..=0xff, 0x08, where 0x0e is for 16 to 510 digits. Readers accept any form. A list of floats
//! is packed as f32 only if every element comes back bit for bit: embeddings computed in single
//! precision take half the room and nothing is ever rounded. [`encode_f32s`] writes such a list
//! with a count that is padded to four bytes, so that the floats stand at a known place.
//!
//! # Texts that come again
//!
//! LlamaIndex holds a document's text twice, and nodes repeat metadata of each other. What comes
//! again within a value is stored once:
//!
//! - A text of at least [`REPEAT_LEN_MIN`] bytes that is written in full (0x08, 0x0e, 0x80..=0xff;
//!   not a key) is remembered, the last [`REPEAT_BACK_MAX`] of them. Repeats are not remembered
//!   again.
//! - `back` counts from the newest, which is 0. A text that is not remembered is an error.
//! - A few bytes must not become gigabytes: the texts that repeats stand for have together at most
//!   [`REPEAT_GROWTH_MAX`] times the length of the stored value, or it is an error. Writers, who do
//!   not know that length yet, take what precedes the repeat in its stead. Where a repeat would go
//!   beyond that they write the text in full, and it is remembered anew.
//!
//! # Worked examples
//!
//! `{"text": "hi", "n": -1}`:
//!
//! ```text
//! 01  0c 02  96  82 68 69  01 6e  03 01
//! |   |      |   |         |      zigzag(-1)
//! |   |      |   "hi"      key "n"
//! |   |      known key 0x16, "text"
//! |   map of two
//! version
//! ```
//!
//! `["LlamaIndex", "00112233aabbccdd", "LlamaIndex"]`:
//!
//! ```text
//! 01  09 03  8a 4c 6c 61 6d 61 49 6e 64 65 78  0e 08 00 11 22 33 aa bb cc dd  0f 01
//! |   |      |                                 |                              the text before
//! |   |      "LlamaIndex", ten bytes           hexadecimal digits, eight      the newest one
//! |   list of three                            bytes of them
//! version
//! ```
//!
//! Decoding trusts nothing: it never panics, allocates at most a constant times the length of what
//! it is given, and stops at [`VALUE_DEPTH_MAX`] levels.

mod floats;
mod hex;
mod known;
mod repeat;

use std::fmt;

pub use floats::{encode_f32s, f32s};
use known::{KEYS, TEXTS};
pub use known::{KNOWN_KEYS, KNOWN_TEXTS};
use repeat::{Form, ReadTexts, WrittenTexts};
pub use repeat::{REPEAT_BACK_MAX, REPEAT_GROWTH_MAX, REPEAT_LEN_MIN};

use super::text::Text;
use super::value::{Map, Value};
use crate::limits::VALUE_DEPTH_MAX;

/// First byte of every stored value.
const VERSION: u8 = 1;

mod tag {
    pub(super) const NULL: u8 = 0x00;
    pub(super) const FALSE: u8 = 0x01;
    pub(super) const TRUE: u8 = 0x02;
    pub(super) const INT: u8 = 0x03;
    pub(super) const BIG_POSITIVE: u8 = 0x04;
    pub(super) const BIG_NEGATIVE: u8 = 0x05;
    pub(super) const F64: u8 = 0x06;
    pub(super) const F32: u8 = 0x07;
    pub(super) const TEXT: u8 = 0x08;
    pub(super) const LIST: u8 = 0x09;
    pub(super) const F32_LIST: u8 = 0x0a;
    pub(super) const F64_LIST: u8 = 0x0b;
    pub(super) const MAP: u8 = 0x0c;
    pub(super) const KNOWN_TEXT: u8 = 0x0d;
    pub(super) const HEX: u8 = 0x0e;
    pub(super) const REPEAT: u8 = 0x0f;
    pub(super) const SMALL_INT: u8 = 0x40;
    pub(super) const SHORT_TEXT: u8 = 0x80;
}

/// Key byte that announces a length; smaller ones are the length.
const LONG_KEY: u8 = 0x7f;
/// Key bytes from here on name an entry of [`KNOWN_KEYS`].
const KNOWN_KEY: u8 = 0x80;

/// Bytes that are no stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where in the value, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be decoded at byte {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for DecodeError {}

/// Appends the stored form of `value` to `out`.
///
/// The depth is not checked here: see [`Value::is_within_depth`].
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(VERSION);
    Writer { out, start, texts: WrittenTexts::new() }.value(value);
}

struct Writer<'v, 'o> {
    out: &'o mut Vec<u8>,
    /// Where the stored form starts in `out`.
    start: usize,
    texts: WrittenTexts<'v>,
}

impl<'v> Writer<'v, '_> {
    fn value(&mut self, value: &'v Value) {
        match value {
            Value::Null => self.out.push(tag::NULL),
            Value::Bool(false) => self.out.push(tag::FALSE),
            Value::Bool(true) => self.out.push(tag::TRUE),
            Value::Int(int @ 0..=63) => self.out.push(tag::SMALL_INT + *int as u8),
            Value::Int(int) => {
                self.out.push(tag::INT);
                put_varint(((int << 1) ^ (int >> 63)) as u64, self.out);
            }
            Value::BigInt(big) => {
                let decimal = big.as_decimal();
                let (tag, digits) = match decimal.strip_prefix('-') {
                    Some(digits) => (tag::BIG_NEGATIVE, digits),
                    None => (tag::BIG_POSITIVE, decimal),
                };
                self.out.push(tag);
                put_bytes(digits.as_bytes(), self.out);
            }
            Value::Float(float) => match exact_f32(*float) {
                Some(single) => {
                    self.out.push(tag::F32);
                    self.out.extend_from_slice(&single.to_le_bytes());
                }
                None => {
                    self.out.push(tag::F64);
                    self.out.extend_from_slice(&float.to_le_bytes());
                }
            },
            Value::Text(text) => self.text(text.as_bytes()),
            Value::List(list) => self.list(list),
            Value::Map(map) => {
                self.out.push(tag::MAP);
                put_varint(map.len() as u64, self.out);
                for (key, value) in map.iter() {
                    encode_key(key, self.out);
                    self.value(value);
                }
            }
        }
    }

    fn text(&mut self, text: &'v [u8]) {
        if let Some(entry) = TEXTS.entry(text, &KNOWN_TEXTS) {
            self.out.extend_from_slice(&[tag::KNOWN_TEXT, entry]);
        } else if let Some(back) = self.texts.repeat(text, self.out.len() - self.start) {
            self.out.extend_from_slice(&[tag::REPEAT, back]);
        } else if let Some((len, packed)) = hex::pack(text) {
            self.out.extend_from_slice(&[tag::HEX, len]);
            self.out.extend(packed);
        } else if let Ok(len @ 0..=0x7f) = u8::try_from(text.len()) {
            self.out.push(tag::SHORT_TEXT + len);
            self.out.extend_from_slice(text);
        } else {
            self.out.push(tag::TEXT);
            put_bytes(text, self.out);
        }
    }

    fn list(&mut self, list: &'v [Value]) {
        let floats =
            || list.iter().map_while(|v| if let Value::Float(f) = v { Some(*f) } else { None });
        let all_floats = !list.is_empty() && list.iter().all(|v| matches!(v, Value::Float(_)));
        let tag = match (all_floats, floats().all(|f| exact_f32(f).is_some())) {
            (false, _) => tag::LIST,
            (true, true) => tag::F32_LIST,
            (true, false) => tag::F64_LIST,
        };
        self.out.push(tag);
        put_varint(list.len() as u64, self.out);
        match tag {
            tag::LIST => list.iter().for_each(|value| self.value(value)),
            tag::F32_LIST => {
                self.out.reserve(list.len() * 4);
                floats().for_each(|f| self.out.extend_from_slice(&(f as f32).to_le_bytes()));
            }
            _ => {
                self.out.reserve(list.len() * 8);
                floats().for_each(|f| self.out.extend_from_slice(&f.to_le_bytes()));
            }
        }
    }
}

fn encode_key(key: &Text, out: &mut Vec<u8>) {
    if let Some(entry) = KEYS.entry(key.as_bytes(), &KNOWN_KEYS) {
        out.push(KNOWN_KEY + entry);
        return;
    }
    match u8::try_from(key.len()) {
        Ok(len) if len < LONG_KEY => {
            out.push(len);
            out.extend_from_slice(key.as_bytes());
        }
        _ => {
            out.push(LONG_KEY);
            put_bytes(key.as_bytes(), out);
        }
    }
}

/// `float` in single precision, if that loses nothing, not even the bits of a NaN.
fn exact_f32(float: f64) -> Option<f32> {
    let single = float as f32;
    (f64::from(single).to_bits() == float.to_bits()).then_some(single)
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads a stored value.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are not exactly one stored value of a version that is known.
pub fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader { bytes, offset: 0, texts: ReadTexts::new() };
    if reader.byte()? != VERSION {
        return Err(DecodeError { offset: 0, what: "unknown version of the value format" });
    }
    let value = reader.value(0)?;
    if reader.offset != bytes.len() {
        return Err(reader.error("bytes follow the value"));
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    texts: ReadTexts<'a>,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { offset: self.offset, what }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.offset).ok_or(self.error("the value ends too early"))?;
        self.offset += 1;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self
            .offset
            .checked_add(len)
            .and_then(|end| self.bytes.get(self.offset..end))
            .ok_or(self.error("the value ends too early"))?;
        self.offset += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.error("a number does not fit 64 bits"))
    }

    /// A count of things that take at least `each` bytes, so that no allocation is larger than
    /// what is left to read allows.
    fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let left = self.bytes.len() - self.offset;
        if count.checked_mul(each).is_none_or(|need| need > left) {
            return Err(self.error("a count is larger than the value"));
        }
        Ok(count)
    }

    fn text(&mut self, len: usize) -> Result<Text, DecodeError> {
        let start = self.offset;
        let bytes = self.take(len)?;
        Text::from_bytes(bytes)
            .map_err(|e| DecodeError { offset: start + e.offset, what: "no text" })
    }

    /// A text that is written in full, which repeats may refer to. `form` was taken last.
    fn full_text(&mut self, form: Form<'a>) -> Result<Value, DecodeError> {
        let start = self.offset - form.stored_len();
        let text =
            form.text().map_err(|e| DecodeError { offset: start + e.offset, what: "no text" })?;
        self.texts.push(form);
        Ok(Value::Text(text))
    }

    fn key(&mut self) -> Result<Text, DecodeError> {
        match self.byte()? {
            byte @ KNOWN_KEY.. => KNOWN_KEYS
                .get(usize::from(byte - KNOWN_KEY))
                .map(|known| Text::from_static(known))
                .ok_or(self.error("a key that this version does not know")),
            LONG_KEY => {
                let len = self.count(1)?;
                self.text(len)
            }
            len => self.text(len.into()),
        }
    }

    /// Requires: `depth` containers stand around the value.
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let tag = self.byte()?;
        let container = matches!(tag, tag::LIST..=tag::MAP);
        if container && depth >= VALUE_DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        Ok(match tag {
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::INT => {
                let n = self.varint()?;
                Value::Int((n >> 1) as i64 ^ -((n & 1) as i64))
            }
            tag::BIG_POSITIVE => self.big("")?,
            tag::BIG_NEGATIVE => self.big("-")?,
            tag::F64 => Value::Float(f64::from_le_bytes(self.array()?)),
            tag::F32 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            tag::TEXT => {
                let len = self.count(1)?;
                let form = Form::Plain(self.take(len)?);
                self.full_text(form)?
            }
            tag::HEX => {
                let len = self.byte()?;
                let form = Form::Hex(self.take(len.into())?);
                self.full_text(form)?
            }
            tag::REPEAT => {
                let back = self.byte()?;
                let text = self.texts.repeat(back, self.bytes.len());
                Value::Text(text.map_err(|what| self.error(what))?)
            }
            tag::LIST => {
                let count = self.count(1)?;
                let mut list = Vec::with_capacity(count);
                for _ in 0..count {
                    list.push(self.value(depth + 1)?);
                }
                Value::List(list)
            }
            tag::F32_LIST => {
                let count = self.count(4)?;
                let floats =
                    self.take(count * 4)?.chunks_exact(4).filter_map(|b| b.try_into().ok());
                Value::List(floats.map(|b| Value::Float(f32::from_le_bytes(b).into())).collect())
            }
            tag::F64_LIST => {
                let count = self.count(8)?;
                let floats =
                    self.take(count * 8)?.chunks_exact(8).filter_map(|b| b.try_into().ok());
                Value::List(floats.map(|b| Value::Float(f64::from_le_bytes(b))).collect())
            }
            tag::MAP => self.map(depth)?,
            tag::KNOWN_TEXT => {
                let known = KNOWN_TEXTS.get(usize::from(self.byte()?));
                let known = known.ok_or(self.error("a text that this version does not know"))?;
                Value::Text(Text::from_static(known))
            }
            tag::SMALL_INT..tag::SHORT_TEXT => Value::Int((tag - tag::SMALL_INT).into()),
            tag::SHORT_TEXT.. => {
                let form = Form::Plain(self.take((tag - tag::SHORT_TEXT).into())?);
                self.full_text(form)?
            }
            _ => return Err(self.error("unknown kind of value")),
        })
    }

    fn map(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let count = self.count(2)?;
        let mut map = Map::with_capacity(count);
        for _ in 0..count {
            let key = self.key()?;
            if map.insert(key, self.value(depth + 1)?).is_some() {
                return Err(self.error("a key comes twice"));
            }
        }
        Ok(Value::Map(map))
    }

    fn big(&mut self, sign: &str) -> Result<Value, DecodeError> {
        let len = self.count(1)?;
        let digits = std::str::from_utf8(self.take(len)?).unwrap_or_default();
        match Value::integer(&format!("{sign}{digits}")) {
            Some(big @ Value::BigInt(_)) if !digits.starts_with(['-', '0']) => Ok(big),
            _ => Err(self.error("no integer beyond 64 bits")),
        }
    }
}

#[cfg(test)]
mod tests;
