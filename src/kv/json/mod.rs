//! Python's dialect of JSON, as its `json` module reads and writes it.
//!
//! Wider than the standard: `NaN`, `Infinity` and `-Infinity` are floats, integers have any size,
//! `\ud800` may stand alone, a key that comes twice takes its last value. Narrower than nothing
//! that Python accepts, except for nesting, which ends at
//! [`VALUE_DEPTH_MAX`](crate::limits::VALUE_DEPTH_MAX) levels.

mod emit;
mod input;
mod read;
mod stream;
mod write;

pub use emit::JsonWriter;
pub use read::{JsonError, from_slice};
pub use stream::{JsonReader, Next, StreamError};
pub use write::{Style, to_string, write};

pub(crate) use write::float_repr;

#[cfg(test)]
mod tests;
