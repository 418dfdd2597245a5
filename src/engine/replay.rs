//! The hints of all segments in the order of their sequence numbers.
//!
//! The log's segments follow one another, but compacted ones overlap with them and with each
//! other: a record that was moved must be applied where it was written, not where it stands now.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::recovery::HintSource;
use super::segments::Segment;
use crate::format::hint::Hint;

/// A segment and its records.
pub(super) type Source = (Arc<Segment>, HintSource);

/// Where the walk through one source is: its next sequence number, the source, the hint's number.
type Head = Reverse<(u64, usize, usize)>;

/// Walks through all hints by sequence number. While one source is ahead of all others, which is
/// most of the time, a step costs one comparison.
pub(super) struct Replay<'a> {
    sources: &'a [Source],
    heads: BinaryHeap<Head>,
    current: Option<(usize, usize)>,
    /// The current source's hints below this sequence number are next.
    limit: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(sources: &'a [Source]) -> Self {
        let first = |(i, (_, hints)): (usize, &Source)| Some(Reverse((hints.get(0)?.seqno, i, 0)));
        let heads = sources.iter().enumerate().filter_map(first).collect();
        Replay { sources, heads, current: None, limit: 0 }
    }

    fn hint(&self, source: usize, at: usize) -> Option<Hint> {
        self.sources.get(source)?.1.get(at)
    }
}

impl<'a> Iterator for Replay<'a> {
    type Item = (&'a Arc<Segment>, Hint);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((source, at)) = self.current.take()
            && let Some(hint) = self.hint(source, at)
        {
            if hint.seqno < self.limit {
                self.current = Some((source, at + 1));
                return Some((&self.sources.get(source)?.0, hint));
            }
            self.heads.push(Reverse((hint.seqno, source, at)));
        }
        let Reverse((_, source, at)) = self.heads.pop()?;
        self.limit = self.heads.peek().map_or(u64::MAX, |Reverse((seqno, ..))| *seqno);
        if planted!(ReplayInFileOrder) {
            self.limit = u64::MAX;
        }
        self.current = Some((source, at + 1));
        Some((&self.sources.get(source)?.0, self.hint(source, at)?))
    }
}
