//! Reads decisions from the bytes of a fuzzer.

use crate::engine::{Durability, WriteBatch};
use crate::format::bytes::u16_at;

/// What is left of an input. Behind its end everything is zero.
pub(super) struct Input<'a>(&'a [u8]);

/// Collections of the batches that are decoded.
const COLLECTIONS: [&str; 3] = ["data", "", "nodes"];

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes, or as many as there are.
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(super) fn short(&mut self) -> usize {
        let mut bytes = [0; 2];
        for (to, from) in bytes.iter_mut().zip(self.take(2)) {
            *to = *from;
        }
        usize::from(u16_at(&bytes, 0))
    }

    /// A number below `bound`, which is at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    pub(super) fn durability(&mut self) -> Durability {
        if self.below(2) == 1 { Durability::Sync } else { Durability::Buffered }
    }

    /// One of a few collections and one of a few keys in it.
    pub(super) fn key(&mut self) -> (&'static str, Vec<u8>) {
        let choice = self.byte();
        let collection = COLLECTIONS[usize::from(choice >> 4) % COLLECTIONS.len()];
        let key = match choice & 0xF {
            0 => Vec::new(),
            n => vec![b'k'; usize::from(n)],
        };
        (collection, key)
    }

    /// A batch of up to four operations; `step` makes its values differ from all others.
    pub(super) fn batch(&mut self, step: u8) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for i in 0..1 + self.below(4) {
            let (collection, key) = self.key();
            let done = match self.byte() {
                255 => batch.clear(collection),
                kind @ 200..255 => {
                    // Now and then more than a segment.
                    let len = usize::from(kind - 200) * 16;
                    batch.put(collection, &key, &vec![step; len])
                }
                150..200 => batch.delete(collection, &key),
                len => {
                    let mut value = vec![0; usize::from(len)];
                    for (to, from) in value.iter_mut().zip([step, u8::try_from(i).unwrap_or(0)]) {
                        *to = from;
                    }
                    batch.put(collection, &key, &value)
                }
            };
            done.expect("far below every limit");
        }
        batch
    }
}
