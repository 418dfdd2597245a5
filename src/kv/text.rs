//! [`Text`]: a string as Python has it.
//!
//! A Python `str` is a sequence of code points and may hold lone surrogates (`"\ud800"`), which no
//! Rust `str` can. LlamaIndex stores write such strings, so ours must keep them. A [`Text`] holds
//! *generalised UTF-8*: UTF-8 in which a surrogate takes three bytes like any other code point of
//! its size, the bytes that Python's `s.encode("utf-8", "surrogatepass")` gives. Byte order is
//! code point order, as in UTF-8.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A string of code points, lone surrogates allowed. Cheap to make from a literal or a `String`.
///
/// ```
/// use siltstone::kv::Text;
/// let text = Text::from("plain");
/// assert_eq!(text.as_str(), Some("plain"));
/// let lone = Text::from_bytes(vec![0xed, 0xa0, 0x80]).expect("a lone surrogate is a code point");
/// assert_eq!(lone.as_str(), None);
/// assert_eq!(lone.to_string_lossy(), "\u{fffd}");
/// ```
#[derive(Clone)]
pub struct Text(Repr);

/// Which of the two forms is used follows from the content, so equal texts have equal forms.
#[derive(Clone)]
enum Repr {
    /// Valid UTF-8.
    Utf8(Cow<'static, str>),
    /// Generalised UTF-8 with at least one surrogate.
    Wide(Box<[u8]>),
}

/// Bytes that are not generalised UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidText {
    /// Where the first sequence starts that is no code point.
    pub offset: usize,
}

impl fmt::Display for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not text: byte {} starts no UTF-8 code point", self.offset)
    }
}

impl std::error::Error for InvalidText {}

impl Text {
    /// A text that borrows a literal: no allocation.
    pub const fn from_static(text: &'static str) -> Self {
        Text(Repr::Utf8(Cow::Borrowed(text)))
    }

    /// Reads generalised UTF-8.
    ///
    /// # Errors
    ///
    /// [`InvalidText`] if the bytes are something else; they may also come from a `Vec` and then
    /// are not copied.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, InvalidText> {
        match String::from_utf8(bytes.into()) {
            Ok(text) => Ok(text.into()),
            Err(e) => {
                let bytes = e.into_bytes();
                let mut offset = 0;
                while offset < bytes.len() {
                    let (_, len) = next_code_point(bytes.get(offset..).unwrap_or_default())
                        .ok_or(InvalidText { offset })?;
                    offset += len;
                }
                Ok(Text(Repr::Wide(bytes.into_boxed_slice())))
            }
        }
    }

    /// Builds a text from code points; those above U+10FFFF become U+FFFD.
    pub fn from_code_points(points: impl IntoIterator<Item = u32>) -> Self {
        let mut builder = TextBuilder::default();
        points.into_iter().for_each(|point| builder.push(point));
        builder.finish()
    }

    /// The text as a `str`, or `None` if it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::Utf8(text) => Some(text),
            Repr::Wide(_) => None,
        }
    }

    /// The generalised UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Utf8(text) => text.as_bytes(),
            Repr::Wide(bytes) => bytes,
        }
    }

    /// The text with each surrogate replaced by U+FFFD.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Utf8(text) => Cow::Borrowed(text),
            Repr::Wide(_) => Cow::Owned(
                self.code_points()
                    .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            ),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// True for the empty text.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The code points, surrogates included.
    pub fn code_points(&self) -> impl Iterator<Item = u32> + '_ {
        let mut rest = self.as_bytes();
        std::iter::from_fn(move || {
            let (point, len) = next_code_point(rest)?;
            rest = rest.get(len..)?;
            Some(point)
        })
    }
}

/// Collects code points and bytes of a text; keeps the two forms apart.
#[derive(Default)]
pub(crate) struct TextBuilder {
    bytes: Vec<u8>,
    wide: bool,
}

impl TextBuilder {
    /// Appends one code point.
    pub(crate) fn push(&mut self, point: u32) {
        match char::from_u32(point) {
            Some(c) => self.push_str(c.encode_utf8(&mut [0; 4])),
            None if (0xd800..0xe000).contains(&point) => {
                self.wide = true;
                let low = |shift: u32| 0x80 | ((point >> shift) & 0x3f) as u8;
                self.bytes.extend_from_slice(&[0xed, low(6), low(0)]);
            }
            None => self.push_str("\u{fffd}"),
        }
    }

    /// Appends a `str`.
    pub(crate) fn push_str(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Appends a text.
    pub(crate) fn push_text(&mut self, text: &Text) {
        self.wide |= text.as_str().is_none();
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Everything appended.
    pub(crate) fn finish(self) -> Text {
        if self.wide {
            return Text(Repr::Wide(self.bytes.into_boxed_slice()));
        }
        let text = String::from_utf8(self.bytes).expect("only whole characters were appended");
        text.into()
    }
}

/// The first code point of generalised UTF-8 and its length in bytes.
fn next_code_point(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let (len, mask, min) = match first {
        0x00..=0x7f => return Some((u32::from(first), 1)),
        0xc2..=0xdf => (2, 0x1f, 0x80),
        0xe0..=0xef => (3, 0x0f, 0x800),
        0xf0..=0xf4 => (4, 0x07, 0x1_0000),
        _ => return None,
    };
    let mut point = u32::from(first & mask);
    for byte in bytes.get(1..len)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        point = point << 6 | u32::from(byte & 0x3f);
    }
    (min..=0x10_ffff).contains(&point).then_some((point, len))
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(Repr::Utf8(Cow::Owned(text.to_owned())))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(Repr::Utf8(Cow::Owned(text)))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Self {
        text.clone()
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::from_static("")
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Lossy: see [`Text::to_string_lossy`].
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.to_string_lossy(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => fmt::Debug::fmt(text, f),
            None => write!(f, "Text({})", self.as_bytes().escape_ascii()),
        }
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => Err(serde::ser::Error::custom(format!(
                "text \"{}\" holds a lone surrogate, which this format cannot hold; \
                 write it with kv::json",
                super::error::escape_key(self.as_bytes())
            ))),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Text::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_point_round_trips() {
        for point in (0..=0x10_ffffu32).step_by(7).chain(0xd7f0..0xe010).chain([0x10_ffff]) {
            let text = Text::from_code_points([point]);
            assert_eq!(text.code_points().collect::<Vec<_>>(), [point]);
            assert_eq!(text.as_str().is_none(), (0xd800..0xe000).contains(&point));
            assert_eq!(Text::from_bytes(text.as_bytes()).as_ref(), Ok(&text));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_offset() {
        for (bytes, offset) in [
            (&b"a\xff"[..], 1),
            (b"\xc0\x80", 0),
            (b"ab\xe0\x80\x80", 2),
            (b"\xed\xa0", 0),
            (b"\xed\xa0\x80\xf4\x90\x80\x80", 3),
            (b"\xf5\x80\x80\x80", 0),
        ] {
            assert_eq!(Text::from_bytes(bytes), Err(InvalidText { offset }), "{bytes:x?}");
        }
    }

    #[test]
    fn adjacent_surrogates_stay_two_code_points() {
        let pair = Text::from_code_points([0xd83d, 0xde00]);
        assert_eq!(pair.len(), 6);
        assert_ne!(pair, Text::from("\u{1f600}"));
    }

    #[test]
    fn order_is_by_code_point() {
        let mut texts: Vec<Text> =
            [0x10000, 0xffff, 0xd800, 0x7f].map(|p| Text::from_code_points([p])).into();
        texts.sort();
        let points: Vec<u32> = texts.iter().flat_map(Text::code_points).collect();
        assert_eq!(points, [0x7f, 0xd800, 0xffff, 0x10000]);
    }
}
