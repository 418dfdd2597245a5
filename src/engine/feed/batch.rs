//! [`ChangeBatch`]: one committed batch, as the feed delivers it.

use std::fmt;
use std::sync::Arc;

use super::super::batch::{BatchOp, WriteBatch};
use super::super::error::WriteError;
use super::cursor::FrameBytes;
use super::position::FeedPosition;
use crate::format::record::{Kind, Record};
use crate::format::value::Stored;
use crate::limits::SYSTEM_COLLECTION;

/// A write batch as it was committed: its operations in their order, and where it stands.
///
/// It holds the batch's bytes, or pieces of mapped segments, for as long as it is kept.
#[derive(Clone)]
pub struct ChangeBatch {
    pub(super) first: u64,
    pub(super) epoch: u32,
    pub(super) position: FeedPosition,
    pub(super) frames: Vec<FrameBytes>,
    /// The values of those records that are compressed, in their order.
    pub(super) unpacked: Vec<Vec<u8>>,
    /// Names of the collections, by id, sorted.
    pub(super) names: Vec<(u32, Arc<str>)>,
    pub(super) ops: usize,
}

impl ChangeBatch {
    /// The sequence number of the batch's first record.
    pub fn first_seqno(&self) -> u64 {
        self.first
    }

    /// The sequence number after the batch's last record.
    pub fn next_seqno(&self) -> u64 {
        self.position.seqno()
    }

    /// Which open of the store wrote the batch; they are counted from 1.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Where to go on behind this batch: what a consumer keeps.
    pub fn position(&self) -> FeedPosition {
        self.position
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.ops
    }

    /// True if there is no operation. A feed delivers no such batch.
    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// The operations in their order. Later ones on a key win over earlier ones.
    ///
    /// What the engine writes for itself is left out: options of collections, its own facts. A
    /// record that expires is there whether it has expired or not.
    pub fn ops(&self) -> impl Iterator<Item = BatchOp<'_>> {
        let mut unpacked = self.unpacked.iter();
        let all = self.frames.iter().flat_map(|frame| records(frame.records()));
        all.filter(|(_, record)| is_shown(record)).filter_map(move |(_, record)| {
            let collection = self.name(record.header.collection)?;
            let key = record.key;
            Some(match record.header.kind {
                Kind::Delete => BatchOp::Delete { collection, key },
                Kind::Clear => BatchOp::Clear { collection },
                _ => {
                    let Stored { expires, coding, bytes } = record.stored()?;
                    let value = if coding.is_some() { unpacked.next()? } else { bytes };
                    match expires {
                        None => BatchOp::Put { collection, key, value },
                        Some(expires_at) => {
                            BatchOp::PutExpiring { collection, key, value, expires_at }
                        }
                    }
                }
            })
        })
    }

    /// Adds the operations to `batch`, after those that are there.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] if there would be too many. Data: a part may have been added.
    pub fn append_to(&self, batch: &mut WriteBatch) -> Result<(), WriteError> {
        for op in self.ops() {
            match op {
                BatchOp::Put { collection, key, value } => batch.put(collection, key, value)?,
                BatchOp::PutExpiring { collection, key, value, expires_at } => {
                    batch.put_expiring(collection, key, value, expires_at)?;
                }
                BatchOp::Delete { collection, key } => batch.delete(collection, key)?,
                BatchOp::Clear { collection } => batch.clear(collection)?,
                BatchOp::Configure { collection, options } => {
                    batch.configure(collection, options)?;
                }
            }
        }
        Ok(())
    }

    fn name(&self, id: u32) -> Option<&str> {
        let at = self.names.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.names.get(at).map(|(_, name)| &**name)
    }
}

impl fmt::Debug for ChangeBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeBatch")
            .field("first_seqno", &self.first)
            .field("next_seqno", &self.next_seqno())
            .field("epoch", &self.epoch)
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}

/// The records of a verified frame, each with its distance from the first.
pub(super) fn records(body: &[u8]) -> impl Iterator<Item = (u64, Record<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let record = Record::parse(body.get(at..)?)?;
        let start = at;
        at += record.header.record_len();
        Some((start as u64, record))
    })
}

/// True for what users have written; the engine's own records are left out.
pub(super) fn is_shown(record: &Record<'_>) -> bool {
    let of_users = matches!(record.header.kind, Kind::Put | Kind::Delete | Kind::Clear);
    of_users && record.header.collection != SYSTEM_COLLECTION
}
