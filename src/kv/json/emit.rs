//! [`JsonWriter`]: a document of any size, written one value at a time.

use std::io::{self, Write};

use super::write::{Style, write, write_text};
use crate::kv::text::Text;
use crate::kv::value::Value;

/// Text is handed on in pieces of this many bytes at least.
const PIECE_LEN: usize = 64 << 10;

/// Writes one JSON document: dictionaries and lists are opened and closed, values written as a
/// whole. Holds 64 KiB and the value that is being written.
///
/// ```
/// use siltstone::kv::json::{JsonWriter, Style};
/// use siltstone::kv::Value;
///
/// let mut out = Vec::new();
/// let mut json = JsonWriter::new(&mut out, Style::Python);
/// json.open_map()?;
/// json.key(&"a".into())?;
/// json.value(&Value::from(1))?;
/// json.key(&"b".into())?;
/// json.open_list()?;
/// json.close()?;
/// json.finish()?;
/// assert_eq!(out, br#"{"a": 1, "b": []}"#);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct JsonWriter<W> {
    out: W,
    style: Style,
    text: String,
    /// What closes the containers that are open, outermost first.
    open: Vec<char>,
    /// Nothing stands before the position but the start of its container, or a key.
    is_first: bool,
}

impl<W: Write> JsonWriter<W> {
    /// A writer that has written nothing yet. Keys are written in the order in which they come,
    /// whatever the style.
    pub fn new(out: W, style: Style) -> Self {
        JsonWriter { out, style, text: String::new(), open: Vec::new(), is_first: true }
    }

    /// Begins a dictionary.
    ///
    /// # Errors
    ///
    /// What the stream below says; what was written until then is no document.
    pub fn open_map(&mut self) -> io::Result<()> {
        self.open('{', '}')
    }

    /// Begins a list.
    ///
    /// # Errors
    ///
    /// As [`JsonWriter::open_map`].
    pub fn open_list(&mut self) -> io::Result<()> {
        self.open('[', ']')
    }

    fn open(&mut self, start: char, end: char) -> io::Result<()> {
        self.separate();
        self.text.push(start);
        self.open.push(end);
        self.is_first = true;
        self.pass_on(PIECE_LEN)
    }

    /// Writes a key of the dictionary that was opened last; its value comes next.
    ///
    /// # Errors
    ///
    /// As [`JsonWriter::open_map`].
    pub fn key(&mut self, key: &Text) -> io::Result<()> {
        self.separate();
        let (_, colon) = self.style.separators();
        write_text(key, self.style, &mut self.text);
        self.text.push_str(colon);
        self.is_first = true;
        Ok(())
    }

    /// Writes a value.
    ///
    /// # Errors
    ///
    /// As [`JsonWriter::open_map`].
    pub fn value(&mut self, value: &Value) -> io::Result<()> {
        self.separate();
        write(value, self.style, &mut self.text);
        self.is_first = false;
        self.pass_on(PIECE_LEN)
    }

    /// Ends the dictionary or the list that was opened last.
    ///
    /// # Errors
    ///
    /// As [`JsonWriter::open_map`].
    pub fn close(&mut self) -> io::Result<()> {
        if let Some(end) = self.open.pop() {
            self.text.push(end);
        }
        self.is_first = false;
        self.pass_on(PIECE_LEN)
    }

    /// Ends everything that is open, and hands all of it on.
    ///
    /// # Errors
    ///
    /// As [`JsonWriter::open_map`].
    pub fn finish(&mut self) -> io::Result<()> {
        while !self.open.is_empty() {
            self.close()?;
        }
        self.pass_on(1)?;
        self.out.flush()
    }

    fn separate(&mut self) {
        if !self.is_first {
            let (comma, _) = self.style.separators();
            self.text.push_str(comma);
        }
    }

    /// Hands the text on if it is `least` bytes long.
    fn pass_on(&mut self, least: usize) -> io::Result<()> {
        if self.text.len() >= least {
            self.out.write_all(self.text.as_bytes())?;
            self.text.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JsonReader, Next, from_slice, to_string};
    use super::*;

    /// Copies what comes next.
    fn copy(json: &mut JsonReader<&[u8]>, out: &mut JsonWriter<Vec<u8>>) -> io::Result<()> {
        match json.peek().map_err(io::Error::other)? {
            Next::Map => {
                json.enter().map_err(io::Error::other)?;
                out.open_map()?;
                while let Some(key) = json.key().map_err(io::Error::other)? {
                    out.key(&key)?;
                    copy(json, out)?;
                }
                out.close()
            }
            Next::List => {
                json.enter().map_err(io::Error::other)?;
                out.open_list()?;
                while json.item().map_err(io::Error::other)? {
                    copy(json, out)?;
                }
                out.close()
            }
            Next::Text | Next::Other => out.value(&json.value().map_err(io::Error::other)?),
        }
    }

    #[test]
    fn what_is_written_in_parts_is_what_is_written_as_a_whole() {
        let text = r#"{"a": [1, [], {}, [{"b": null, "c": "\u00e9\ud83d\ude00\ud800\n\u007f"}]],
            "d": {"e": 1e-07}}"#;
        for style in [Style::Python, Style::Compact, Style::Utf8] {
            let mut out = JsonWriter::new(Vec::new(), style);
            copy(&mut JsonReader::new(text.as_bytes()), &mut out).expect("memory takes it");
            out.finish().expect("memory takes it");
            let whole = to_string(&from_slice(text.as_bytes()).expect("JSON"), style);
            assert_eq!(String::from_utf8(out.out).expect("text"), whole);
        }
    }
}
