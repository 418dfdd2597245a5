//! [`JsonReader`]: a document of any size, walked into key by key, one value in memory at a time.

use std::fmt;
use std::io;

use super::input::{Input, Stream};
use super::read::{Grammar, JsonError, TOO_DEEP};
use crate::kv::text::Text;
use crate::kv::value::Value;
use crate::limits::VALUE_DEPTH_MAX;

/// Why a document could not be read on.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The source failed.
    Io {
        /// How many bytes had been read.
        byte: usize,
        /// What it said.
        source: io::Error,
    },
    /// It is not JSON, or not whole.
    Json(JsonError),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Io { byte, source } => write!(f, "read error at byte {byte}: {source}"),
            StreamError::Json(e) => fmt::Display::fmt(e, f),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StreamError::Io { source, .. } => Some(source),
            StreamError::Json(e) => Some(e),
        }
    }
}

/// What kind of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A dictionary: [`JsonReader::enter`] it and read its keys.
    Map,
    /// A list: [`JsonReader::enter`] it and read its items.
    List,
    /// A string.
    Text,
    /// Anything else, or no value at all, which reading it tells.
    Other,
}

/// Reads one JSON document from a stream, in Python's dialect as [`from_slice`](super::from_slice)
/// does. Dictionaries and lists are entered and walked through; any value can be read as a whole.
///
/// Memory: the value that is being read, and 64 KiB or the longest string of the document, which
/// ever is more. Keys that come twice are both given: the later one is what Python keeps.
///
/// ```
/// use siltstone::kv::json::JsonReader;
/// use siltstone::kv::Value;
///
/// let mut json = JsonReader::new(&br#"{"data": {"a": [1, 2], "b": null}}"#[..]);
/// json.enter()?;
/// while let Some(collection) = json.key()? {
///     json.enter()?;
///     while let Some(key) = json.key()? {
///         let value: Value = json.value()?;
///         println!("{collection} {key} {value:?}");
///     }
/// }
/// json.finish()?;
/// # Ok::<(), siltstone::kv::json::StreamError>(())
/// ```
pub struct JsonReader<R> {
    grammar: Grammar<Stream<R>>,
    /// The containers that were entered, outermost first.
    open: Vec<Open>,
    /// The document was begun.
    is_begun: bool,
    /// A value stands at the position: that of a key, an item, or the document itself.
    is_due: bool,
}

struct Open {
    is_map: bool,
    is_first: bool,
}

impl<R: io::Read> JsonReader<R> {
    /// A reader that has read nothing yet. It reads in pieces of 64 KiB at least.
    pub fn new(source: R) -> Self {
        JsonReader {
            grammar: Grammar { input: Stream::new(source) },
            open: Vec::new(),
            is_begun: false,
            is_due: true,
        }
    }

    /// Bytes from the start of the document to the position.
    pub fn byte(&self) -> usize {
        self.grammar.input.byte()
    }

    /// What kind of value comes next.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the document does not begin.
    pub fn peek(&mut self) -> Result<Next, StreamError> {
        self.begin()?;
        Ok(match self.grammar.peek() {
            Some(b'{') => Next::Map,
            Some(b'[') => Next::List,
            Some(b'"') => Next::Text,
            _ => Next::Other,
        })
    }

    /// Steps into the dictionary or the list that comes next; false, and nothing is done, if it is
    /// something else.
    ///
    /// # Errors
    ///
    /// [`StreamError::Json`] if it is nested too deeply.
    pub fn enter(&mut self) -> Result<bool, StreamError> {
        let is_map = match self.peek()? {
            Next::Map => true,
            Next::List => false,
            Next::Text | Next::Other => return Ok(false),
        };
        if self.open.len() >= VALUE_DEPTH_MAX {
            return Err(self.error(TOO_DEEP));
        }
        self.grammar.input.advance(1);
        self.open.push(Open { is_map, is_first: true });
        self.is_due = false;
        Ok(true)
    }

    /// The next key of the dictionary that was entered last, whose value comes next then; `None`
    /// at its end, after which the reader stands behind it. A value that was not read is skipped.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the document does not go on as JSON.
    pub fn key(&mut self) -> Result<Option<Text>, StreamError> {
        self.skip_due()?;
        let Some(open) = self.open.last_mut().filter(|open| open.is_map) else { return Ok(None) };
        let is_first = std::mem::replace(&mut open.is_first, false);
        let key = self.grammar.next_key(is_first).map_err(|what| self.error(what))?;
        self.step(key.is_some());
        Ok(key)
    }

    /// True if the list that was entered last has another item, which comes next then; false at
    /// its end, after which the reader stands behind it. An item that was not read is skipped.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the document does not go on as JSON.
    pub fn item(&mut self) -> Result<bool, StreamError> {
        self.skip_due()?;
        let Some(open) = self.open.last_mut().filter(|open| !open.is_map) else { return Ok(false) };
        let is_first = std::mem::replace(&mut open.is_first, false);
        let found = self.grammar.next_item(is_first).map_err(|what| self.error(what))?;
        self.step(found);
        Ok(found)
    }

    /// The value that comes next, as a whole.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if it is none.
    pub fn value(&mut self) -> Result<Value, StreamError> {
        self.begin()?;
        let value = self.grammar.value(self.open.len()).map_err(|what| self.error(what))?;
        self.is_due = false;
        Ok(value)
    }

    /// Steps over the value that comes next.
    ///
    /// # Errors
    ///
    /// As [`JsonReader::value`].
    pub fn skip(&mut self) -> Result<(), StreamError> {
        self.value().map(drop)
    }

    /// Steps over the value that comes next, quicker than [`JsonReader::skip`]: only its end is
    /// looked for, so that what is wrong inside it is not found.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if it has no end.
    pub fn pass(&mut self) -> Result<(), StreamError> {
        self.begin()?;
        self.grammar.pass(self.open.len()).map_err(|what| self.error(what))?;
        self.is_due = false;
        Ok(())
    }

    /// Reads what is left of the containers that were entered, and makes sure that nothing
    /// follows them.
    ///
    /// # Errors
    ///
    /// [`StreamError`] if the rest is not JSON, or something follows.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.skip_due()?;
        while let Some(open) = self.open.last() {
            if open.is_map {
                self.key()?;
            } else {
                self.item()?;
            }
        }
        self.grammar.end().map_err(|what| self.error(what))?;
        // A source that fails seems to end.
        match self.grammar.input.take_failure() {
            Some(source) => Err(StreamError::Io { byte: self.byte(), source }),
            None => Ok(()),
        }
    }

    /// After a key or an item, or the end of its container.
    fn step(&mut self, found: bool) {
        self.is_due = found;
        if !found {
            self.open.pop();
        }
    }

    fn begin(&mut self) -> Result<(), StreamError> {
        if !self.is_begun {
            self.is_begun = true;
            self.grammar.start().map_err(|what| self.error(what))?;
        }
        Ok(())
    }

    fn skip_due(&mut self) -> Result<(), StreamError> {
        if self.is_due { self.skip() } else { Ok(()) }
    }

    /// What is wrong at the position; that of the source, if it is the cause.
    fn error(&mut self, what: &'static str) -> StreamError {
        match self.grammar.input.take_failure() {
            Some(source) => StreamError::Io { byte: self.byte(), source },
            None => StreamError::Json(self.grammar.locate(what)),
        }
    }
}

impl<R> fmt::Debug for JsonReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonReader").field("entered", &self.open.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, Read};

    use super::super::{Style, from_slice, to_string};
    use super::*;

    /// Gives the text in pieces of `len` bytes.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(buf.len()).min(self.0.len());
            let (piece, rest) = self.0.split_at(len);
            buf[..len].copy_from_slice(piece);
            self.0 = rest;
            Ok(len)
        }
    }

    /// The whole document, walked into as far as that goes.
    fn walk<R: Read>(json: &mut JsonReader<R>) -> Result<Value, StreamError> {
        match json.peek()? {
            Next::Map => {
                json.enter()?;
                let mut map = crate::kv::Map::new();
                while let Some(key) = json.key()? {
                    map.insert(key, walk(json)?);
                }
                Ok(map.into())
            }
            Next::List => {
                json.enter()?;
                let mut list = Vec::new();
                while json.item()? {
                    list.push(walk(json)?);
                }
                Ok(list.into())
            }
            Next::Text | Next::Other => json.value(),
        }
    }

    fn walked(text: &[u8], len: usize) -> Result<Value, String> {
        let mut json = JsonReader::new(Pieces(text, len));
        let value = walk(&mut json).map_err(|e| e.to_string())?;
        json.finish().map_err(|e| e.to_string())?;
        Ok(value)
    }

    /// Goal: a stream gives what the whole text gives, value or error and its place, however it is
    /// cut. Method: documents, their prefixes, and wrong ones, in pieces of many lengths.
    #[test]
    fn a_stream_reads_as_the_whole_does() {
        let good = "{\"a\\u00e9\": [1.5e3, -0, \"\\ud83d\\ude00 \\ud800\", null],\n \
                    \"\u{e9}\u{1f600}\": {\"c\": true, \"d\": {}}, \
                    \"n\": [NaN, -Infinity, Infinity, 123456789012345678901], \
                    \"e\": [[], [{}]]}  \n";
        let mut texts: Vec<Vec<u8>> =
            (0..=good.len()).map(|len| good.as_bytes()[..len].to_vec()).collect();
        for wrong in ["[1 2]", "{\"a\" 1}", "{,}", "[1,]", "{\"a\":1,}", "1 1", "\"a\nb\"", "nul"] {
            texts.push(wrong.into());
            texts.push(format!("[\"line\",\n  \"\u{e9}\", {wrong}]").into_bytes());
        }
        texts.push(b"[\"a\", \"b\xff\"]".to_vec());
        texts.push([b"[".repeat(VALUE_DEPTH_MAX + 1), b"]".repeat(VALUE_DEPTH_MAX + 1)].concat());
        let mut read = 0;
        for text in &texts {
            let whole = from_slice(text).map_err(|e| e.to_string());
            read += usize::from(whole.is_ok());
            for len in [1, 2, 3, 7, 64, 1 << 20] {
                assert_eq!(walked(text, len), whole, "{} in {len}s", text.escape_ascii());
            }
        }
        assert!(read > 1, "the document itself and its end without white space");
    }

    #[test]
    fn what_is_not_read_is_skipped() {
        let mut json = JsonReader::new(&br#"{"a": {"b": [1, {"c": 2}], "d": 3}, "e": 4} "#[..]);
        assert!(json.enter().expect("a map"));
        assert_eq!(json.key().expect("a key"), Some("a".into()));
        assert_eq!(json.key().expect("a key"), Some("e".into()));
        assert_eq!(json.value().expect("a value"), Value::Int(4));
        json.finish().expect("nothing follows");
    }

    #[test]
    fn what_is_passed_over_ends_where_it_ends() {
        for inner in
            ["{\"a]\\\\\": [\"}\\\"\", {}], \"b\": 1}", "[[], \"]\", {\"\": \"\"}]", "7", "\"x\""]
        {
            let text = format!("{{\"p\": {inner} , \"q\": 2}}");
            for len in [1, 2, 5, 100] {
                let mut json = JsonReader::new(Pieces(text.as_bytes(), len));
                assert!(json.enter().expect("a map"));
                assert_eq!(json.key().expect("a key"), Some("p".into()));
                json.pass().expect("a value");
                assert_eq!(json.key().expect("a key"), Some("q".into()), "{text}");
                json.finish().expect("nothing follows");
            }
            let mut cut = JsonReader::new(&text.as_bytes()[..7]);
            assert!(cut.enter().expect("a map") && cut.key().expect("a key").is_some());
            assert!(inner.len() < 4 || cut.pass().is_err());
        }
    }

    #[test]
    fn memory_follows_the_longest_value_and_not_the_document() {
        let record = to_string(&Value::from("x".repeat(1000)), Style::Python);
        let text = format!("[{}{record}]", format!("{record}, ").repeat(2000));
        let mut json = JsonReader::new(text.as_bytes());
        assert!(json.enter().expect("a list"));
        let mut most = 0;
        while json.item().expect("an item") {
            json.value().expect("a value");
            most = most.max(json.grammar.input.held());
        }
        assert!(text.len() > 2_000_000 && most < 200_000, "held {most} of {}", text.len());
    }

    #[test]
    fn a_failing_source_is_named_as_such() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(Error::other("the disk is gone"))
            }
        }
        for text in ["", "[1, ", "{\"a\": \"bc", "1"] {
            let mut json = JsonReader::new(text.as_bytes().chain(Failing));
            let failed = walk(&mut json).and_then(|_| json.finish());
            let said = failed.map_err(|e| e.to_string());
            let expected = format!("read error at byte {}: the disk is gone", text.len());
            // A string is read as a whole: the byte is where it begins.
            let expected = expected.replace("byte 9", "byte 6");
            assert_eq!(said, Err(expected), "{text}");
        }
    }
}
