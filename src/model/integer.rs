//! [`Integer`]: an integer of any size.

use std::fmt;

use crate::kv::{BigInt, Value};

/// An integer of any size, as Python's are: LlamaIndex writes and reads places in a text that are
/// beyond 64 bits.
///
/// ```
/// use siltstone::model::Integer;
/// assert_eq!(Integer::from(7), 7);
/// assert_eq!(Integer::from(7).to_i64(), Some(7));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Integer {
    /// One that fits 64 bits.
    Small(i64),
    /// Any other.
    Big(BigInt),
}

impl Integer {
    /// The integer, if it fits 64 bits.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Integer::Small(small) => Some(*small),
            Integer::Big(_) => None,
        }
    }
}

impl From<i64> for Integer {
    fn from(small: i64) -> Self {
        Integer::Small(small)
    }
}

impl From<Integer> for Value {
    fn from(integer: Integer) -> Self {
        match integer {
            Integer::Small(small) => small.into(),
            Integer::Big(big) => big.into(),
        }
    }
}

impl PartialEq<i64> for Integer {
    fn eq(&self, other: &i64) -> bool {
        self.to_i64() == Some(*other)
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Integer::Small(small) => small.fmt(f),
            Integer::Big(big) => big.as_decimal().fmt(f),
        }
    }
}
