//! The clock of expiring records: a number that the caller raises. The engine reads no clock.

use std::sync::atomic::{AtomicU64, Ordering};

/// The highest time that the store was told of.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    /// A clock that stands at `now`.
    pub(super) fn new(now: u64) -> Self {
        Clock(AtomicU64::new(now))
    }

    /// The time as of now.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Raises the time to `now`; a time that is lower changes nothing.
    pub(super) fn raise(&self, now: u64) {
        self.0.fetch_max(now, Ordering::AcqRel);
    }

    /// True if a record that expires at `expires` is to be treated as absent.
    pub(super) fn is_over(&self, expires: Option<u64>) -> bool {
        expires.is_some_and(|time| time <= self.now())
    }
}
