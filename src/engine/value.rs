//! From a record to what a reader gets: verified, not expired, decompressed.

use std::sync::Arc;

use super::core::Core;
use super::error::{OpenError, ReadError};
use super::read::{Found, ValueRef};
use super::recovery::{Case, refuse};
use super::segments::Segment;
use crate::format::config::CollectionOptions;
use crate::format::hint::Hint;
use crate::format::record::Kind;
use crate::format::value::Stored;
use crate::index::Location;

impl Core {
    /// The value of `found`: verified as the options ask for; `None` if it has expired. A
    /// compressed one comes in a buffer of its own, which is kept if it is asked for again.
    pub(super) fn value_of(&self, found: Found) -> Result<Option<ValueRef>, ReadError> {
        self.verify_body(&found)?;
        self.value(found, true)
    }

    /// As [`Core::value_of`], of a record that was verified already, and perhaps one of many: it
    /// is not kept.
    pub(super) fn verified_value(&self, found: Found) -> Result<Option<ValueRef>, ReadError> {
        self.value(found, false)
    }

    fn value(&self, found: Found, is_kept: bool) -> Result<Option<ValueRef>, ReadError> {
        let flags = found.header.flags;
        if flags.is_plain() {
            return Ok(Some(found.into_value(0)));
        }
        let stored = self.stored(&found)?;
        if self.clock.is_over(stored.expires) {
            return Ok(None);
        }
        if !flags.is_compressed() {
            return Ok(Some(found.into_value(flags.prefix_len())));
        }
        let (segment, offset) = (&found.segment, found.offset);
        if let Some(value) = self.values.get(segment.id, offset) {
            return Ok(Some(ValueRef::shared(value)));
        }
        let value = self
            .decompress(found.header.collection, &stored)
            .map_err(|e| e.at(segment, offset, found.key()))?;
        let value = Arc::new(value);
        if is_kept {
            self.values.offer(segment.id, offset, &value);
        }
        Ok(Some(ValueRef::shared(value)))
    }

    /// True if `found` has not expired. Verified as the options ask for.
    pub(super) fn is_current(&self, found: &Found) -> Result<bool, ReadError> {
        if !found.header.flags.expires() {
            return Ok(true);
        }
        self.verify_body(found)?;
        Ok(!self.clock.is_over(self.stored(found)?.expires))
    }

    /// When the verified record `found` expires, if it does.
    pub(super) fn expiry_of(&self, found: &Found) -> Result<Option<u64>, ReadError> {
        if !found.header.flags.expires() {
            return Ok(None);
        }
        Ok(self.stored(found)?.expires)
    }

    /// True if the record at `location` can be read and has expired. Requires: apply lock held.
    pub(super) fn has_expired(&self, location: Location) -> bool {
        // Where no time was ever told nothing has, and nothing is read.
        self.clock.now() > 0
            && self
                .read_location(location)
                .is_ok_and(|found| self.is_current(&found).is_ok_and(|yes| !yes))
    }

    /// The value area of `found`, taken apart.
    pub(super) fn stored<'a>(&self, found: &'a Found) -> Result<Stored<'a>, ReadError> {
        found.record().stored().map_or_else(
            || {
                let what = "the value is not what the record's flags say";
                Err(found.segment.corruption(found.offset, what).into())
            },
            Ok,
        )
    }

    /// Gives the options in the configure record that `hint` points to to its collection, unless
    /// a newer one was there: in any order. Requires: the collection is in the catalog.
    pub(super) fn restore_options(
        &self,
        segment: &Arc<Segment>,
        hint: &Hint,
    ) -> Result<(), OpenError> {
        let refused = |what: String| refuse(Case::Inconsistent, &segment.path, hint.offset, what);
        let found = self.read_in(segment, hint.offset)?;
        self.check_intact(&found)?;
        let header = &found.header;
        if header.kind != Kind::Configure || header.collection != hint.collection {
            return Err(refused("hint of another record than stands here".to_owned()));
        }
        let options = CollectionOptions::decode(found.record().value)
            .map_err(|e| refused(format!("options that this version does not know: {e}")))?;
        let collection = self.catalog.by_id(hint.collection).ok_or_else(|| {
            refused(format!("options of collection {}, which was never created", hint.collection))
        })?;
        collection.configure(hint.seqno, options);
        Ok(())
    }
}
