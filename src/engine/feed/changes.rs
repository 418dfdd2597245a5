//! [`Changes`]: the feed itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::core::Core;
use super::cursor::{BadFrame, Cursor, Place, Window, next_of};
use super::files::LogFiles;
use super::locate::Start;
use super::scout::Scout;
use super::signal::Waited;
use super::{ChangeBatch, FeedError, FeedOptions, FeedPosition, POLL_MIN};

/// Committed batches, in their order: made by [`crate::Db::changes_since`].
pub struct Changes {
    pub(super) log: LogFiles,
    options: FeedOptions,
    /// Before the next batch; `None` while there is no segment to stand in.
    cursor: Option<Cursor>,
    position: FeedPosition,
    window: Window,
    /// Nothing was found at the last look: in a directory that others write, look for news first.
    is_idle: bool,
    /// The frame delivered last.
    last: Option<Place>,
    scout: Scout,
    pub(super) names: HashMap<u32, Arc<str>>,
}

impl Changes {
    pub(super) fn start(
        core: Arc<Core>,
        position: FeedPosition,
        options: FeedOptions,
    ) -> Result<Self, FeedError> {
        let position = if position.seqno() == 0 { FeedPosition::from(1) } else { position };
        let mut log = LogFiles::new(core)?;
        let end = if log.is_follower() { log.closed_at() } else { Some(log.core.applied()) };
        let since = position.seqno();
        if let Some(next) = end.filter(|end| since > *end) {
            return Err(FeedError::Ahead { since, next });
        }
        let mut window = Window::default();
        let Start { cursor, position } = log.locate(position, &mut window)?;
        let (scout, names) = (Scout::default(), HashMap::new());
        let (last, is_idle) = (None, false);
        Ok(Changes { log, options, cursor, position, window, is_idle, last, scout, names })
    }

    /// Where the feed stands: behind the batch delivered last, and behind what the engine has
    /// written for itself since.
    pub fn position(&self) -> FeedPosition {
        self.position
    }

    /// The next batch, if there is one yet.
    ///
    /// # Errors
    ///
    /// See [`FeedError`]; the feed stays where it is.
    pub fn try_next(&mut self) -> Result<Option<ChangeBatch>, FeedError> {
        while let Some(frames) = self.next_frames()? {
            if let Some(batch) = self.read_batch(&frames)? {
                if !batch.is_empty() {
                    return Ok(Some(batch));
                }
            } else {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The next batch; waits for it, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Changes::try_next`], and [`FeedError::Closed`] once the store is closed in this process
    /// and everything has been delivered.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<ChangeBatch>, FeedError> {
        if self.log.is_follower() {
            return self.poll(timeout);
        }
        let core = Arc::clone(&self.log.core);
        let only_durable = self.options.only_durable;
        loop {
            let is_closed = core.feed.is_closed();
            if let Some(batch) = self.try_next()? {
                return Ok(Some(batch));
            }
            if is_closed {
                return Err(FeedError::Closed);
            }
            let reached = self.reached();
            let is_idle = || core.feed_bound(only_durable) <= reached && !core.feed.is_closed();
            if core.feed.wait_while(timeout, is_idle) == Waited::InVain {
                return Ok(None);
            }
        }
    }

    /// The next batch; waits for it as long as it takes. `None` once the store is closed in this
    /// process and everything has been delivered.
    ///
    /// # Errors
    ///
    /// As [`Changes::try_next`].
    pub fn wait_next(&mut self) -> Result<Option<ChangeBatch>, FeedError> {
        loop {
            match self.next_timeout(Duration::MAX) {
                Ok(None) => {}
                Err(FeedError::Closed) => return Ok(None),
                result => return result,
            }
        }
    }

    /// Looks again and again, with pauses.
    fn poll(&mut self, timeout: Duration) -> Result<Option<ChangeBatch>, FeedError> {
        let mut left = timeout;
        let mut pause = POLL_MIN;
        loop {
            if let Some(batch) = self.try_next()? {
                return Ok(Some(batch));
            }
            if left.is_zero() {
                return Ok(None);
            }
            let nap = pause.min(left);
            std::thread::sleep(nap);
            left -= nap;
            pause = (pause * 2).min(self.options.poll_max);
        }
    }

    /// Sequence number up to which the log has been looked at.
    fn reached(&self) -> u64 {
        self.cursor.as_ref().map_or(self.position.seqno(), |cursor| cursor.expected)
    }

    /// The sequence number below which batches may be delivered.
    fn bound(&mut self) -> Result<u64, FeedError> {
        let only_durable = self.options.only_durable && !planted!(FeedBeyondWatermark);
        if !self.log.is_follower() {
            return Ok(self.log.core.feed_bound(only_durable));
        }
        let reached = self.reached();
        let known = if only_durable { self.scout.watermark } else { u64::MAX };
        if reached >= self.log.closed_at().unwrap_or(known) {
            self.log.refresh()?;
        }
        if let Some(end) = self.log.closed_at() {
            return Ok(end);
        }
        if only_durable && reached >= self.scout.watermark {
            if let Some(cursor) = &self.cursor {
                self.scout.look(cursor, &mut self.log)?;
            }
            self.scout.watermark = self.scout.watermark.max(self.log.noted_watermark());
        }
        Ok(if only_durable { self.scout.watermark } else { u64::MAX })
    }

    /// The frames of the next batch that is whole; leaves the cursor before it. Only their headers
    /// are verified.
    fn next_frames(&mut self) -> Result<Option<Vec<Place>>, FeedError> {
        if self.is_idle {
            self.log.refresh()?;
        }
        let found = self.find_frames()?;
        self.is_idle = found.is_none();
        Ok(found)
    }

    fn find_frames(&mut self) -> Result<Option<Vec<Place>>, FeedError> {
        if self.cursor.is_none() {
            if !self.log.is_follower() && self.bound()? <= self.position.seqno() {
                return Ok(None);
            }
            let start = self.log.locate(self.position, &mut self.window)?;
            self.cursor = start.cursor;
        }
        let bound = self.bound()?;
        let Some(mut cursor) = self.cursor.clone() else { return Ok(None) };
        let mut frames: Vec<Place> = Vec::new();
        loop {
            if cursor.expected >= bound {
                return Ok(None);
            }
            let Some(header) = cursor.peek(&mut self.log, &mut self.window)? else {
                return self.missing(&cursor, bound).map(|()| None);
            };
            if next_of(&header) > bound {
                return Ok(None);
            }
            if header.first && !frames.is_empty() && !planted!(FeedGivenUpDelivered) {
                // What was gathered has been given up by its writer, who was told so.
                frames.clear();
                self.cursor = Some(cursor.clone());
            }
            if !header.first && frames.is_empty() {
                let what = "frame continues no batch";
                return Err(cursor.segment.corruption(cursor.offset, what).into());
            }
            frames.push(cursor.advance(&header));
            if header.last || planted!(FeedHalfBatch) {
                return Ok(Some(frames));
            }
        }
    }

    /// There is no frame at `cursor`: none yet, or is it an error?
    fn missing(&mut self, cursor: &Cursor, bound: u64) -> Result<(), FeedError> {
        let mut expected_below = bound;
        if self.log.is_follower() {
            self.log.refresh()?;
            if bound == u64::MAX {
                expected_below = self.log.noted_watermark();
            }
            if cursor.clone().peek(&mut self.log, &mut self.window)?.is_some() {
                return Ok(());
            }
        }
        if cursor.expected < expected_below {
            let seqno = cursor.expected;
            let what = format!("no frame where sequence number {seqno} stood, below {bound}");
            return Err(cursor.segment.corruption(cursor.offset, what).into());
        }
        // Nothing is known about where the log ends, but what was delivered must be there.
        match &self.last {
            Some(last) if !last.stands(&mut self.window)? => {
                Err(FeedError::Diverged { position: self.position, found: None })
            }
            _ => Ok(()),
        }
    }

    /// Reads and verifies the frames of a batch and moves behind it. `None` if one of them is not
    /// whole yet.
    fn read_batch(&mut self, frames: &[Place]) -> Result<Option<ChangeBatch>, FeedError> {
        let Some(last) = frames.last() else { return Ok(None) };
        let is_settled = !self.log.is_follower()
            || last.next() <= self.scout.watermark.max(self.log.noted_watermark());
        let mut bytes = Vec::with_capacity(frames.len());
        for place in frames {
            match self.window.frame(place)? {
                Ok(frame) => bytes.push(frame),
                Err(BadFrame { offset, what }) if is_settled => {
                    return Err(place.segment.corruption(offset, what).into());
                }
                // The writer is still at it.
                Err(_) => return Ok(None),
            }
        }
        let batch = self.deliver(frames, bytes)?;
        self.position = FeedPosition::new(last.next(), Some(last.mark()));
        self.cursor = Some(Cursor {
            segment: Arc::clone(&last.segment),
            offset: last.end(),
            expected: last.next(),
        });
        self.last = Some(last.clone());
        Ok(batch)
    }
}

impl Core {
    /// The sequence number below which a feed in the writer's process may deliver.
    fn feed_bound(&self, only_durable: bool) -> u64 {
        let applied = self.applied();
        if only_durable { applied.min(self.watermark()) } else { applied }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("dir", &self.log.core.dir)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
