//! Where the reader's bytes come from: a slice with all of them, or a stream in pieces.

use std::io::{self, ErrorKind, Read};

/// Bytes asked of a stream at a time; more when a single token is longer.
const PIECE_LEN: usize = 64 << 10;

/// A place in a JSON text, as Python counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Line, from 1.
    pub(super) line: usize,
    /// Column in characters, from 1.
    pub(super) column: usize,
    /// Offset in bytes, from 0.
    pub(super) byte: usize,
}

impl Place {
    const START: Place = Place { line: 1, column: 1, byte: 0 };

    /// The place after `bytes` that begin here.
    fn after(self, bytes: &[u8]) -> Place {
        let newlines = bytes.iter().filter(|b| **b == b'\n').count();
        let last_line = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(newline) => bytes.get(newline + 1..).unwrap_or_default(),
            None => bytes,
        };
        let characters = last_line.iter().filter(|b| **b & 0xc0 != 0x80).count();
        Place {
            line: self.line + newlines,
            column: if newlines > 0 { 1 } else { self.column } + characters,
            byte: self.byte + bytes.len(),
        }
    }
}

/// A text with a position in it.
pub(super) trait Input {
    /// The bytes from the position on that are at hand.
    fn window(&self) -> &[u8];

    /// Brings more bytes into the window; false if there are none.
    fn more(&mut self) -> bool;

    /// Steps over the first `count` bytes of the window.
    fn advance(&mut self, count: usize);

    /// Where the position is.
    fn place(&self) -> Place;
}

/// A text that is all at hand.
pub(super) struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Slice { bytes, at: 0 }
    }
}

impl Input for Slice<'_> {
    fn window(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn more(&mut self) -> bool {
        false
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
    }

    fn place(&self) -> Place {
        Place::START.after(self.bytes.get(..self.at).unwrap_or(self.bytes))
    }
}

/// A text that is read as it is needed. Holds the window and what was read before it since the
/// window last grew: a piece, or the longest token if that is longer.
pub(super) struct Stream<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the window begins in `buffer`.
    at: usize,
    /// Where `buffer` begins in the text.
    base: Place,
    /// The source ended or failed.
    done: bool,
    failure: Option<io::Error>,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(source: R) -> Self {
        let base = Place::START;
        Stream { source, buffer: Vec::new(), at: 0, base, done: false, failure: None }
    }

    /// Why the source failed, if it did.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Bytes of memory that the text takes at the moment.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes from the start of the text to the position.
    pub(super) fn byte(&self) -> usize {
        self.base.byte + self.at
    }
}

impl<R: Read> Input for Stream<R> {
    fn window(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    fn more(&mut self) -> bool {
        if self.done {
            return false;
        }
        self.base = self.base.after(self.buffer.get(..self.at).unwrap_or_default());
        self.buffer.drain(..self.at);
        self.at = 0;
        let held = self.buffer.len();
        // Doubling, so that a token of any length costs a constant number of moves a byte.
        self.buffer.resize(held + PIECE_LEN.max(held), 0);
        let read = loop {
            match self.source.read(self.buffer.get_mut(held..).unwrap_or_default()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failure = Some(e);
                    break 0;
                }
                Ok(read) => break read,
            }
        };
        self.buffer.truncate(held + read);
        self.done = read == 0;
        !self.done
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
    }

    fn place(&self) -> Place {
        self.base.after(self.buffer.get(..self.at).unwrap_or_default())
    }
}
