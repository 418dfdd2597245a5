//! [`FeedPosition`]: where a consumer of the change feed stands.

use std::fmt;
use std::str::FromStr;

use crate::format::record::FrameHeader;

/// Where a consumer of the change feed stands: behind a batch, before the next one.
///
/// The sequence number says where to go on. Epoch and mark say what stood before it, so that a
/// consumer that has seen what the store has lost since (batches that were not durable when the
/// power went, or a store that was restored from an older backup) is told so, and does not go on
/// with a history that its own does not belong to. A position made from a number alone has no
/// such mark and is not checked.
///
/// Keep the position with what was made of the batch, in one atomic step: then a consumer that is
/// killed at any moment goes on without a gap and without doing a batch twice.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use siltstone::FeedPosition;
///
/// let db = siltstone::Db::open(dir.path())?;
/// db.put("c", b"k", b"v")?;
/// db.sync()?;
/// let batch = db.changes_since(0)?.try_next()?.ok_or("no batch")?;
/// let stored = batch.position().to_bytes();
/// let text = batch.position().to_string();
///
/// let position = FeedPosition::from_bytes(stored);
/// assert_eq!(text.parse(), Ok(position));
/// assert!(db.changes_since(position)?.try_next()?.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedPosition {
    seqno: u64,
    mark: Option<Mark>,
}

/// What tells the frame before a position from any other that could stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    /// Which open of the store wrote it.
    pub(super) epoch: u32,
    /// The checksum of its records' headers, each of which holds the checksum of its body.
    pub(super) checksum: u32,
}

impl Mark {
    pub(super) fn of(header: &FrameHeader) -> Self {
        Mark { epoch: header.epoch, checksum: header.records_checksum }
    }
}

/// Bytes of a stored position.
const LEN: usize = 16;

impl FeedPosition {
    pub(super) fn new(seqno: u64, mark: Option<Mark>) -> Self {
        FeedPosition { seqno, mark }
    }

    /// The sequence number to go on from: that after the last record of the batch before.
    pub fn seqno(&self) -> u64 {
        self.seqno
    }

    /// Which open of the store wrote the batch before, if the position knows it.
    pub fn epoch(&self) -> Option<u32> {
        self.mark.map(|mark| mark.epoch)
    }

    pub(super) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// The position in 16 bytes, to be stored.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mark = self.mark.unwrap_or(Mark { epoch: 0, checksum: 0 });
        let mut bytes = [0; LEN];
        let fields = self.seqno.to_le_bytes().into_iter();
        let fields = fields.chain(mark.epoch.to_le_bytes()).chain(mark.checksum.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// The position that [`FeedPosition::to_bytes`] stored.
    pub fn from_bytes(bytes: [u8; LEN]) -> Self {
        let all = u128::from_le_bytes(bytes);
        let (seqno, epoch, checksum) = (all as u64, (all >> 64) as u32, (all >> 96) as u32);
        // Epochs count from 1.
        FeedPosition { seqno, mark: (epoch > 0).then_some(Mark { epoch, checksum }) }
    }
}

impl From<u64> for FeedPosition {
    /// The position at a sequence number, unchecked.
    fn from(seqno: u64) -> Self {
        FeedPosition { seqno, mark: None }
    }
}

impl fmt::Display for FeedPosition {
    /// `17`, or `17-3-0a1b2c3d` with epoch and mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark {
            None => write!(f, "{}", self.seqno),
            Some(mark) => write!(f, "{}-{}-{:08x}", self.seqno, mark.epoch, mark.checksum),
        }
    }
}

/// A text that is no [`FeedPosition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePositionError;

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a sequence number, or a position such as 17-3-0a1b2c3d")
    }
}

impl std::error::Error for ParsePositionError {}

impl FromStr for FeedPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let seqno = parts.next().and_then(|part| part.parse().ok()).ok_or(ParsePositionError)?;
        let mark = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(epoch), Some(checksum), None) => {
                let epoch: u32 = epoch.parse().map_err(|_| ParsePositionError)?;
                let checksum = u32::from_str_radix(checksum, 16).map_err(|_| ParsePositionError)?;
                Some(Mark { epoch, checksum }).filter(|mark| mark.epoch > 0)
            }
            _ => return Err(ParsePositionError),
        };
        Ok(FeedPosition { seqno, mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_back() {
        let mark = Some(Mark { epoch: u32::MAX, checksum: 7 });
        for position in [FeedPosition::from(0), u64::MAX.into(), FeedPosition::new(1 << 40, mark)] {
            assert_eq!(FeedPosition::from_bytes(position.to_bytes()), position);
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", "x", "1-2", "1-2-", "1-2-3-4", "-1", "1-2-xyz", "1-99999999999-0"] {
            assert_eq!(bad.parse::<FeedPosition>(), Err(ParsePositionError), "{bad}");
        }
    }
}
