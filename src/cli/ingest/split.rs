//! [`Splitter`]: texts into chunks, with their places in characters.

use std::ops::Range;

use text_splitter::{Characters, ChunkConfig, TextSplitter};

use super::super::failure::Failure;

/// Text handed to the splitter at a time holds at least this many bytes.
const WINDOW_LEN_MIN: usize = 16 << 10;

/// ... and this many chunks.
const WINDOW_CHUNKS: usize = 16;

/// Largest chunk that may be asked for, in characters.
const CHUNK_SIZE_MAX: usize = 1 << 20;

/// Splits at paragraphs, lines, sentences, words, in this order of preference.
///
/// The `text-splitter` crate looks at all of the text that remains for every chunk, which is
/// quadratic. So it is given a window at a time: all chunks of a window but the last, which the
/// window's end may have cut, are taken, and the next window begins where that one began.
pub(super) struct Splitter {
    inner: TextSplitter<Characters>,
    window: usize,
}

/// A chunk: where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Range<usize>,
    pub(super) chars: Range<usize>,
}

impl Splitter {
    pub(super) fn new(chunk_size: usize, overlap: usize) -> Result<Self, Failure> {
        if !(1..=CHUNK_SIZE_MAX).contains(&chunk_size) {
            return Err(Failure::new(format!(
                "--chunk-size is {chunk_size}, expected 1 to {CHUNK_SIZE_MAX}"
            )));
        }
        let config = ChunkConfig::new(chunk_size).with_overlap(overlap).map_err(|_| {
            Failure::new(format!(
                "--chunk-overlap is {overlap}, expected less than --chunk-size, {chunk_size}"
            ))
        })?;
        // A character has up to four bytes.
        let window = (chunk_size * 4 * WINDOW_CHUNKS).max(WINDOW_LEN_MIN);
        Ok(Splitter { inner: TextSplitter::new(config), window })
    }

    /// The chunks of `text`, without the white space around them; none if it is all white space.
    pub(super) fn split(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut start: usize = 0;
        // The character at byte `counted.0` is number `counted.1`.
        let mut counted: (usize, usize) = (0, 0);
        loop {
            let end = text.ceil_char_boundary(start.saturating_add(self.window));
            let window = text.get(start..end).unwrap_or_default();
            let mut chunks: Vec<(usize, &str)> = self.inner.chunk_indices(window).collect();
            let is_last = end == text.len();
            let next = match chunks.last() {
                Some((offset, _)) if !is_last && *offset > 0 => {
                    let next = start + offset;
                    chunks.pop();
                    next
                }
                _ => end,
            };
            for (offset, chunk) in chunks {
                let from = start + offset;
                let skipped = text.get(counted.0..from).unwrap_or_default();
                let first = counted.1 + skipped.chars().count();
                counted = (from, first);
                let chars = first..first + chunk.chars().count();
                pieces.push(Piece { bytes: from..from + chunk.len(), chars });
            }
            if is_last {
                return pieces;
            }
            start = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> String {
        (0..count)
            .map(|n| format!("word{n}\u{e9}{}", if n % 9 == 0 { "\n" } else { " " }))
            .collect()
    }

    #[test]
    fn pieces_are_where_they_say_they_are() {
        let splitter = Splitter::new(300, 120).expect("valid");
        let text = words(5000);
        let chars: Vec<char> = text.chars().collect();
        let pieces = splitter.split(&text);
        assert!(pieces.len() > 150);
        let mut covered = 0;
        for piece in &pieces {
            let by_bytes = &text[piece.bytes.clone()];
            let by_chars: String = chars[piece.chars.clone()].iter().collect();
            assert_eq!(by_bytes, by_chars);
            assert!(piece.chars.len() <= 300 && !by_chars.is_empty());
            // Nothing but white space is left out.
            let gap: String =
                chars[covered.min(piece.chars.start)..piece.chars.start].iter().collect();
            assert_eq!(gap.trim(), "");
            covered = piece.chars.end;
        }
        let rest: String = chars[covered..].iter().collect();
        assert_eq!(rest.trim(), "");
        assert!(pieces.windows(2).any(|pair| pair[1].chars.start < pair[0].chars.end), "overlap");
    }

    #[test]
    fn a_text_within_a_window_is_split_as_by_the_crate() {
        let splitter = Splitter::new(100, 20).expect("valid");
        let text = words(1000);
        assert!(text.len() < WINDOW_LEN_MIN);
        let ours: Vec<&str> =
            splitter.split(&text).into_iter().map(|piece| &text[piece.bytes]).collect();
        let theirs: Vec<&str> = splitter.inner.chunks(&text).collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn white_space_and_texts_without_spaces_are_split() {
        let splitter = Splitter::new(1000, 0).expect("valid");
        assert_eq!(splitter.split(""), []);
        assert_eq!(splitter.split(&" \n".repeat(100_000)), []);
        let long = "x".repeat(200_000);
        let pieces = splitter.split(&long);
        assert_eq!(pieces.iter().map(|piece| piece.chars.len()).sum::<usize>(), long.len());
        let wide = "\u{1f600}".repeat(50_000);
        let pieces = splitter.split(&wide);
        assert_eq!(pieces.iter().map(|piece| piece.chars.len()).sum::<usize>(), 50_000);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Splitter::new(0, 0).is_err());
        assert!(Splitter::new(10, 10).is_err());
        assert!(Splitter::new(usize::MAX, 0).is_err());
        assert!(Splitter::new(1, 0).is_ok());
    }
}
