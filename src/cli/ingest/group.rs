//! [`Group`]: the unit of work, staged by one thread and committed as one batch.
//!
//! Where a group ends depends on the input and on `--batch` alone, never on time or on the number
//! of threads: so two runs over one tree write the same batches.

use std::sync::Arc;

use super::walk::Found;

/// A group ends when it holds this many bytes of input.
pub(super) const GROUP_BYTES: u64 = 1 << 20;

/// A document to be read.
#[derive(Debug)]
pub(super) enum Item {
    /// A file that holds one text.
    File(Found),
    /// A line of a file of records.
    Record {
        origin: Arc<Origin>,
        /// Counted from 1.
        line: u64,
        bytes: Vec<u8>,
    },
    /// Standard input as one text.
    Stdin(Vec<u8>),
}

/// A file of records.
#[derive(Debug)]
pub(super) struct Origin {
    /// Begins the ids of records that have none.
    pub(super) id: crate::kv::Text,
    /// Its name in messages.
    pub(super) name: String,
}

/// Documents that are committed together.
#[derive(Debug)]
pub(super) struct Group {
    /// Counted from 0, in the order of the input.
    pub(super) number: u64,
    pub(super) items: Vec<Item>,
    /// Bytes of input.
    pub(super) bytes: u64,
}

/// Collects items into groups.
pub(super) struct Grouper<F> {
    next: Group,
    batch: usize,
    send: F,
}

/// The receiver is gone, so there is no use in going on.
#[derive(Debug)]
pub(super) struct Gone;

impl<F: FnMut(Group) -> Result<(), Gone>> Grouper<F> {
    pub(super) fn new(batch: usize, send: F) -> Self {
        Grouper { next: Group { number: 0, items: Vec::new(), bytes: 0 }, batch, send }
    }

    pub(super) fn push(&mut self, item: Item, bytes: u64) -> Result<(), Gone> {
        self.next.items.push(item);
        self.next.bytes += bytes;
        if self.next.items.len() >= self.batch || self.next.bytes >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends what was collected.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        if self.next.items.is_empty() {
            return Ok(());
        }
        let empty = Group { number: self.next.number + 1, items: Vec::new(), bytes: 0 };
        (self.send)(std::mem::replace(&mut self.next, empty))
    }
}
