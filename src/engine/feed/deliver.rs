//! From verified frames to a [`ChangeBatch`]: names of collections, values decompressed.

use std::sync::Arc;

use super::super::core::Core;
use super::super::error::ReadError;
use super::super::options::Options;
use super::batch::{is_shown, records};
use super::cursor::{FrameBytes, Place};
use super::{ChangeBatch, Changes, FeedError, FeedPosition};
use crate::format::record::{Kind, Record};

impl Changes {
    /// The batch in the frames at `places`, which hold `frames`.
    pub(super) fn deliver(
        &mut self,
        places: &[Place],
        frames: Vec<FrameBytes>,
    ) -> Result<Option<ChangeBatch>, FeedError> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(None) };
        let mut used: Vec<u32> = Vec::new();
        let mut unpacked = Vec::new();
        let mut ops = 0;
        for (place, frame) in places.iter().zip(&frames) {
            for (at, record) in records(frame.records()) {
                let id = record.header.collection;
                if record.header.kind == Kind::CreateCollection {
                    let name = std::str::from_utf8(record.value).unwrap_or_default();
                    self.names.insert(id, Arc::from(name));
                }
                if !is_shown(&record) {
                    continue;
                }
                ops += 1;
                if used.last() != Some(&id) {
                    used.push(id);
                }
                if record.header.flags.is_compressed() {
                    unpacked.push(self.unpack(&record, place, at)?);
                }
            }
        }
        used.sort_unstable();
        used.dedup();
        let mut names = Vec::with_capacity(used.len());
        for id in used {
            let Some(name) = self.name(id)? else {
                let what = format!("a record of collection {id}, which was never created");
                return Err(first.segment.corruption(first.offset, what).into());
            };
            names.push((id, name));
        }
        let position = FeedPosition::new(last.next(), Some(last.mark()));
        let (first, epoch) = (first.header.base, first.header.epoch);
        Ok(Some(ChangeBatch { first, epoch, position, frames, unpacked, names, ops }))
    }

    /// The value of a compressed record, `at` so many bytes behind the header of its frame.
    fn unpack(&self, record: &Record<'_>, place: &Place, at: u64) -> Result<Vec<u8>, FeedError> {
        let offset = place.records_offset() + at;
        let Some(stored) = record.stored() else {
            let what = "the value is not what the record's flags say";
            return Err(place.segment.corruption(offset, what).into());
        };
        let unpacked = self.log.core.decompress(record.header.collection, &stored);
        unpacked.map_err(|e| match e.at(&place.segment, offset, record.key) {
            ReadError::Io(e) => e.into(),
            ReadError::Corrupt(e) => e.into(),
            ReadError::Unsupported(what) => FeedError::Unsupported(what),
        })
    }

    /// The name of a collection.
    fn name(&mut self, id: u32) -> Result<Option<Arc<str>>, FeedError> {
        if let Some(name) = self.names.get(&id) {
            return Ok(Some(Arc::clone(name)));
        }
        let mut found = self.log.core.catalog.by_id(id);
        if found.is_none() && self.log.is_follower() {
            // Created after this reader opened the store, and before the feed's position.
            let options = Options::clone(&self.log.core.options);
            found = Core::open(&self.log.core.dir, options)?.catalog.by_id(id);
        }
        let Some(found) = found else { return Ok(None) };
        let name: Arc<str> = Arc::from(found.name.as_str());
        self.names.insert(id, Arc::clone(&name));
        Ok(Some(name))
    }
}
