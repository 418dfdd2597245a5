//! Texts that come again within a value: what the writer and the reader remember of it.
//!
//! The rules stand at the head of [`super`]: what the writer repeats, the reader must find
//! and allow.

use super::hex;
use crate::kv::text::{InvalidText, Text};

/// Shortest text that is remembered, in bytes.
pub const REPEAT_LEN_MIN: usize = 8;

/// How many texts are remembered: so few that the writer can compare with each.
pub const REPEAT_BACK_MAX: usize = 32;

/// Bytes that repeats may stand for, as a multiple of the bytes stored.
pub const REPEAT_GROWTH_MAX: usize = 8;

/// The bytes that repeats have stood for.
#[derive(Default)]
struct Repeated(usize);

impl Repeated {
    /// Counts a repeat of `len` bytes, unless it goes beyond what `stored` bytes allow.
    fn allow(&mut self, len: usize, stored: usize) -> bool {
        let sum = self.0.saturating_add(len);
        let allowed = sum <= stored.saturating_mul(REPEAT_GROWTH_MAX);
        if allowed {
            self.0 = sum;
        }
        allowed
    }
}

/// Where the text before the `back` newest ones is kept, when `count` were put into the ring.
fn slot(count: usize, back: usize) -> Option<usize> {
    (back < REPEAT_BACK_MAX).then_some(count.checked_sub(back + 1)? % REPEAT_BACK_MAX)
}

/// The remembered texts of a value that is being written.
pub(super) struct WrittenTexts<'v> {
    /// A mark by slot, to pass over most other texts without a look at them.
    marks: [u32; REPEAT_BACK_MAX],
    texts: [&'v [u8]; REPEAT_BACK_MAX],
    count: usize,
    repeated: Repeated,
}

impl<'v> WrittenTexts<'v> {
    pub(super) fn new() -> Self {
        let repeated = Repeated::default();
        WrittenTexts {
            marks: [0; REPEAT_BACK_MAX],
            texts: [&[]; REPEAT_BACK_MAX],
            count: 0,
            repeated,
        }
    }

    /// How far back `text` stands, if it may be repeated after `stored` bytes. Otherwise the
    /// caller writes it in full; it is remembered already.
    pub(super) fn repeat(&mut self, text: &'v [u8], stored: usize) -> Option<u8> {
        let mark = mark(text)?;
        // All marks, without leaving early: the compiler makes a handful of instructions of it.
        if self.marks.iter().fold(false, |any, m| any | (*m == mark)) {
            let same = |back: &u8| {
                slot(self.count, (*back).into()).is_some_and(|at| self.texts[at] == text)
            };
            let back = (0..REPEAT_BACK_MAX as u8).find(same);
            if back.is_some() && self.repeated.allow(text.len(), stored) {
                return back;
            }
        }
        let at = self.count % REPEAT_BACK_MAX;
        self.marks[at] = mark;
        self.texts[at] = text;
        self.count += 1;
        None
    }
}

/// The length and the last bytes of a text, mixed: names in a list often start alike. `None` for
/// one that is too short to be remembered.
fn mark(text: &[u8]) -> Option<u32> {
    let end = u64::from_le_bytes(*text.last_chunk::<REPEAT_LEN_MIN>()?);
    let mixed = (end ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some((mixed >> 32) as u32)
}

/// A text written in full, as it is stored.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Plain(&'a [u8]),
    Hex(&'a [u8]),
}

impl Form<'_> {
    /// Bytes that it takes.
    pub(super) fn stored_len(self) -> usize {
        match self {
            Form::Plain(bytes) | Form::Hex(bytes) => bytes.len(),
        }
    }

    /// Length of the text.
    fn len(self) -> usize {
        match self {
            Form::Plain(bytes) => bytes.len(),
            Form::Hex(bytes) => bytes.len() * 2,
        }
    }

    pub(super) fn text(self) -> Result<Text, InvalidText> {
        match self {
            Form::Plain(bytes) => Text::from_bytes(bytes),
            Form::Hex(bytes) => Text::from_bytes(hex::unpack(bytes)),
        }
    }
}

/// The remembered texts of a value that is being read.
pub(super) struct ReadTexts<'a> {
    forms: [Form<'a>; REPEAT_BACK_MAX],
    count: usize,
    repeated: Repeated,
}

impl<'a> ReadTexts<'a> {
    pub(super) fn new() -> Self {
        let repeated = Repeated::default();
        ReadTexts { forms: [Form::Plain(&[]); REPEAT_BACK_MAX], count: 0, repeated }
    }

    /// Remembers a text that was written in full, if it is long enough.
    pub(super) fn push(&mut self, form: Form<'a>) {
        if form.len() >= REPEAT_LEN_MIN {
            self.forms[self.count % REPEAT_BACK_MAX] = form;
            self.count += 1;
        }
    }

    /// The text that stands `back` texts before, in a value of `stored` bytes, or what is wrong.
    pub(super) fn repeat(&mut self, back: u8, stored: usize) -> Result<Text, &'static str> {
        let at = slot(self.count, back.into()).ok_or("a text is repeated that was not there")?;
        let form = self.forms[at];
        if !self.repeated.allow(form.len(), stored) {
            return Err("repeated texts are too long together");
        }
        form.text().map_err(|_| "no text")
    }
}
