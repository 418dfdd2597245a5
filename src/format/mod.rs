//! Bytes on disk and what they mean: no I/O, no locks, no clock.
//!
//! Each file of this module documents its part of the format byte by byte; DESIGN.md links here
//! and never copies.

pub(crate) mod bytes;
pub(crate) mod checkpoint;
pub(crate) mod checksum;
pub(crate) mod codec;
pub(crate) mod config;
pub(crate) mod hint;
pub(crate) mod manifest;
pub(crate) mod record;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod value;

/// Version of the file format: raised when an older reader could not read a newer store.
pub(crate) const FORMAT_MAJOR: u16 = 1;
/// Raised when a reader of this major version still reads the store.
pub(crate) const FORMAT_MINOR: u16 = 0;
