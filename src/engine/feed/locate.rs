//! Finds the place in the log where a feed begins, and whether the position belongs there.

use super::FeedError;
use super::cursor::{Cursor, Place, Window};
use super::files::{Chain, Link, LogFiles};
use super::position::{FeedPosition, Mark};
use crate::format::record::{FrameHeader, FrameKind};

/// Where a feed begins.
pub(super) struct Start {
    /// At the start of a batch: the one that holds the position, or the next. `None` while there
    /// is no segment to stand in.
    pub(super) cursor: Option<Cursor>,
    /// The position, with the mark of what stands before it, if that is known.
    pub(super) position: FeedPosition,
}

/// What a look at the frames around a position has found.
struct Found {
    /// The start of the batch that the position is in or before.
    start: Option<Cursor>,
    /// The last frame that ends at or before the position.
    before: Option<Place>,
    /// The first frame that ends behind the position.
    behind: Option<FrameHeader>,
    /// Sequence number at which the look ended.
    end: u64,
}

/// How often a segment may leave the store while it is looked for.
const TRIES: u32 = 20;

impl LogFiles {
    /// Finds the place of `position`.
    ///
    /// # Errors
    ///
    /// [`FeedError::Passed`], [`FeedError::Ahead`] or [`FeedError::Diverged`] if it has none.
    pub(super) fn locate(
        &mut self,
        position: FeedPosition,
        window: &mut Window,
    ) -> Result<Start, FeedError> {
        let mut tries = 0;
        loop {
            let chain = self.chain(window)?;
            match self.try_locate(position, &chain, window)? {
                Ok(start) => return Ok(start),
                Err(gone) if tries < TRIES => self.gone(gone)?,
                Err(_) => return Err(passed(position, chain.floor())),
            }
            tries += 1;
        }
    }

    /// `Err`: the segment with this id has left the store.
    fn try_locate(
        &mut self,
        position: FeedPosition,
        chain: &Chain,
        window: &mut Window,
    ) -> Result<Result<Start, u64>, FeedError> {
        let since = position.seqno();
        if since < chain.floor() {
            return Err(passed(position, self.floor(window)?));
        }
        if chain.links.is_empty() {
            if since > chain.end {
                return Err(FeedError::Ahead { since, next: chain.end });
            }
            check_mark(position, None, None, self.mark_at(since))?;
            return Ok(Ok(Start { cursor: None, position }));
        }
        // The segment with the record before the position, so that the mark can be compared; those
        // before it if the batch began there.
        let mut at = chain.links.partition_point(|link| link.first < since).saturating_sub(1);
        let found = loop {
            let Some(link) = chain.links.get(at) else { return Ok(Err(0)) };
            let found = match self.look_from(*link, since, window)? {
                Some(found) => found,
                None => return Ok(Err(link.id)),
            };
            if found.behind.is_none() && since > found.end {
                return Err(FeedError::Ahead { since, next: found.end });
            }
            if found.start.is_some() {
                break found;
            }
            // The batch began in an earlier segment, which may be gone.
            let Some(earlier) = at.checked_sub(1) else {
                return Err(passed(position, self.floor(window)?));
            };
            at = earlier;
        };
        let known = self.mark_at(since);
        check_mark(position, found.before.as_ref(), found.behind.as_ref(), known)?;
        let before = found.before.filter(|place| place.header.last && place.next() == since);
        let mark = position.mark().or(before.map(|place| place.mark())).or(known);
        let position = FeedPosition::new(since, mark);
        Ok(Ok(Start { cursor: found.start, position }))
    }

    /// Walks from the start of `link` to the first frame that ends behind `since`. `None` if the
    /// segment has left the store.
    fn look_from(
        &mut self,
        link: Link,
        since: u64,
        window: &mut Window,
    ) -> Result<Option<Found>, FeedError> {
        let Some(segment) = self.segment(link)? else { return Ok(None) };
        let mut cursor = Cursor::at_start(segment, link.first);
        let mut found = Found { start: None, before: None, behind: None, end: 0 };
        let is_boundary =
            |before: &Option<Place>| before.as_ref().is_some_and(|place| place.header.last);
        while let Some(header) = cursor.peek(self, window)? {
            if header.first || is_boundary(&found.before) {
                found.start = Some(cursor.clone());
            }
            let place = cursor.advance(&header);
            if place.next() > since {
                found.behind = Some(header);
                break;
            }
            found.before = Some(place);
        }
        found.end = cursor.expected;
        if found.behind.is_none() && is_boundary(&found.before) {
            found.start = Some(cursor);
        }
        Ok(Some(found))
    }

    /// The lowest sequence number from which on the log is whole.
    pub(super) fn floor(&mut self, window: &mut Window) -> Result<u64, FeedError> {
        let chain = self.chain(window)?;
        let mut floor = chain.end;
        for link in &chain.links {
            let Some(segment) = self.segment(*link)? else { continue };
            // A batch may have begun in a segment that is gone: what is left of it is no floor.
            let mut cursor = Cursor::at_start(segment, link.first);
            while let Some(header) = window.header(&cursor.segment, cursor.offset)? {
                if header.kind == FrameKind::End || header.base != cursor.expected {
                    break;
                }
                if header.first {
                    return Ok(cursor.expected);
                }
                cursor.advance(&header);
            }
            floor = cursor.expected;
        }
        Ok(floor)
    }
}

impl Chain {
    /// The first sequence number of the log that is left.
    fn floor(&self) -> u64 {
        self.links.first().map_or(self.end, |link| link.first)
    }
}

fn passed(position: FeedPosition, floor: u64) -> FeedError {
    FeedError::Passed { since: position.seqno(), floor }
}

/// Compares what stands before a position with what its consumer has seen. If compaction has taken
/// that, `known` is what the manifest kept of it.
fn check_mark(
    position: FeedPosition,
    before: Option<&Place>,
    behind: Option<&FrameHeader>,
    known: Option<Mark>,
) -> Result<(), FeedError> {
    let Some(mark) = position.mark().filter(|_| !planted!(FeedMarkIgnored)) else {
        return Ok(());
    };
    // Within a batch nobody ever stood.
    let behind = match behind {
        Some(header) if header.base < position.seqno() => {
            return Err(FeedError::Diverged { position, found: None });
        }
        behind => behind,
    };
    match before {
        Some(place) if place.next() == position.seqno() && place.mark() == mark => Ok(()),
        Some(place) => {
            let found = (place.next() == position.seqno()).then_some(place.header.epoch);
            Err(FeedError::Diverged { position, found })
        }
        None if known == Some(mark) => Ok(()),
        // It is gone. Within one open no number is given out twice.
        None if behind.is_some_and(|header| header.epoch == mark.epoch) => Ok(()),
        None if known.is_some() => {
            Err(FeedError::Diverged { position, found: known.map(|known| known.epoch) })
        }
        None => Err(passed(position, position.seqno())),
    }
}
