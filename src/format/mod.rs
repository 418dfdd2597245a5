//! Bytes on disk and what they mean: no I/O, no locks, no clock.
//!
//! Each file of this module documents its part of the format byte by byte; DESIGN.md links here
//! and never copies.

pub mod bytes;
pub mod checksum;
pub mod codec;
pub mod hint;
pub mod manifest;
pub mod record;
pub mod scan;
pub mod segment;

/// Version of the file format: raised when an older reader could not read a newer store.
pub const FORMAT_MAJOR: u16 = 1;
/// Raised when a reader of this major version still reads the store.
pub const FORMAT_MINOR: u16 = 0;
