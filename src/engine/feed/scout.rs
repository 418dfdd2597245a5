//! [`Scout`]: looks ahead for watermarks, in a process that does not write the store.

use super::FeedError;
use super::cursor::{Cursor, Place, Window};
use super::files::LogFiles;

/// Looks ahead for watermarks.
#[derive(Default)]
pub(super) struct Scout {
    /// Everything below it is durable.
    pub(super) watermark: u64,
    /// Behind the last frame seen, and that frame.
    at: Option<(Cursor, Place)>,
    window: Window,
}

impl Scout {
    /// Takes the watermark of every frame from `from` on, or from where it stopped the last time.
    pub(super) fn look(&mut self, from: &Cursor, log: &mut LogFiles) -> Result<(), FeedError> {
        let mut cursor = from.clone();
        if let Some((at, last)) = self.at.take()
            && at.expected >= from.expected
            && last.stands(&mut self.window)?
        {
            // Had it been taken back, other frames would begin elsewhere.
            cursor = at.clone();
            self.at = Some((at, last));
        }
        while let Some(header) = cursor.peek(log, &mut self.window)? {
            self.watermark = self.watermark.max(header.watermark);
            let last = cursor.advance(&header);
            self.at = Some((cursor.clone(), last));
        }
        Ok(())
    }
}
