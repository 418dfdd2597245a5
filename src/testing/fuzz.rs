//! The bodies of the fuzz targets of `fuzz/`: bytes in, a panic when the store does what it must
//! not do. They are here so that a plain test replays the corpus through the same code.
//!
//! Every target takes any bytes of any length; what they mean is decoded on the fly, so that a
//! change of one byte changes one thing.

mod input;
mod ops;
mod store;
#[cfg(feature = "stores")]
mod value;

pub use ops::ops_faults;
pub use store::{pack, store_bytes, store_fixsum};
#[cfg(feature = "stores")]
pub use value::value_bytes;

/// What a target made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The input was refused, as it may be: the store did not open, the bytes are no value.
    Refused,
    /// The input was taken, and everything held.
    Accepted,
}

/// A body: takes any bytes.
pub type Target = fn(&[u8]) -> Outcome;

/// Every target by the name that it has in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("store_bytes", store_bytes),
    ("store_fixsum", store_fixsum),
    ("ops_faults", ops_faults),
    #[cfg(feature = "stores")]
    ("value_bytes", value_bytes),
];
