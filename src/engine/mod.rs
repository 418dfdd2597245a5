//! The storage engine.
mod batch;
mod error;
pub use batch::{BatchOp, WriteBatch};
pub use error::{Corruption, OpenError, ReadError, WriteError};

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Handed to the operating system: survives the death of the process, not a power cut.
    #[default]
    Buffered,
    /// On the device: survives a power cut once the call has returned.
    Sync,
}
