//! The latch that a failed sync leaves behind: writes are refused until the store is reopened.
//!
//! After a failed sync the kernel may have dropped the pages and will report success the next
//! time (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020), so a retry
//! proves nothing and neither does reading back.

use std::sync::OnceLock;

use super::error::WriteError;
use crate::vfs::IoError;

/// Set once, never reset.
#[derive(Debug, Default)]
pub(super) struct Poison(OnceLock<IoError>);

impl Poison {
    /// Latches `cause`, if nothing is latched yet, and returns the error for the caller.
    pub(super) fn set(&self, cause: IoError) -> WriteError {
        WriteError::Poisoned(self.0.get_or_init(|| cause).clone())
    }

    /// The error if the latch is set.
    pub(super) fn check(&self) -> Result<(), WriteError> {
        self.0.get().map_or(Ok(()), |cause| Err(WriteError::Poisoned(cause.clone())))
    }

    /// What was latched.
    pub(super) fn cause(&self) -> Option<&IoError> {
        self.0.get()
    }
}
