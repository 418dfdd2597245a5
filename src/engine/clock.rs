//! The clock of expiring records: a number that the caller raises. The engine reads no clock.
//!
//! The highest time that was told is kept in the system collection, under the key `c`, by
//! [`crate::Db::persist`] and [`crate::Db::close`]: a record that was seen to have expired does not
//! come back with the next open. Like any other record it is there after a power cut or it is not;
//! then the store is as old as it was, until it is told the time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::batch::WriteBatch;
use super::core::Core;
use super::error::WriteError;
use super::read::Found;

/// The key under which the time is kept.
pub(super) const KEY: &[u8] = b"c";

/// The highest time that the store was told of.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: AtomicU64,
    /// What the log holds.
    kept: AtomicU64,
}

impl Clock {
    /// A clock that stands at `now`.
    pub(super) fn new(now: u64) -> Self {
        Clock { now: AtomicU64::new(now), kept: AtomicU64::new(0) }
    }

    /// The time as of now.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Acquire)
    }

    /// Raises the time to `now`; a time that is lower changes nothing.
    pub(super) fn raise(&self, now: u64) {
        self.now.fetch_max(now, Ordering::AcqRel);
    }

    /// True if a record that expires at `expires` is to be treated as absent.
    pub(super) fn is_over(&self, expires: Option<u64>) -> bool {
        expires.is_some_and(|time| time <= self.now())
    }

    /// Notes that the log holds `time`.
    fn keep(&self, time: u64) {
        self.kept.fetch_max(time, Ordering::AcqRel);
    }
}

impl Core {
    /// Adds the time to `batch`, if the log does not hold it yet; returns it then.
    pub(super) fn push_time(&self, batch: &mut WriteBatch) -> Result<Option<u64>, WriteError> {
        let now = self.clock.now();
        if now <= self.clock.kept.load(Ordering::Acquire) || planted!(TimeNotKept) {
            return Ok(None);
        }
        batch.push_system(KEY, Some(&now.to_le_bytes()))?;
        Ok(Some(now))
    }

    /// Notes that what [`Core::push_time`] has added was written.
    pub(super) fn time_is_kept(&self, time: Option<u64>) {
        self.clock.keep(time.unwrap_or(0));
    }

    /// Appends the time to the log, if it does not hold it yet.
    pub(super) fn keep_time(&self) -> Result<(), WriteError> {
        let mut batch = WriteBatch::new();
        let time = self.push_time(&mut batch)?;
        if time.is_some() {
            self.append_batch(&mut batch)?;
        }
        self.time_is_kept(time);
        Ok(())
    }

    /// Takes over the time in a record that was found at open.
    pub(super) fn load_time(&self, found: &Found) -> Result<(), String> {
        let kept: Option<[u8; 8]> = found.record().value.try_into().ok();
        let kept = kept.map(u64::from_le_bytes).ok_or("the time is not 8 bytes long")?;
        self.clock.raise(kept);
        self.clock.keep(kept);
        Ok(())
    }
}
