//! [`Value`]: what a key-value store keeps, JSON as Python has it.

use std::fmt;

pub use super::map::Map;
use super::text::Text;

/// A JSON-like value.
///
/// Wider than JSON where Python's `json` is: integers of any size, NaN and the infinities, lone
/// surrogates in strings. Equality is exact: `Int(1)` is not `Float(1.0)`, `0.0` is not `-0.0`,
/// NaN equals NaN (the bits of a NaN do not count), and the order of a map's keys does not count.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Python's `None`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// Any other integer.
    BigInt(BigInt),
    /// A float, not necessarily finite.
    Float(f64),
    /// A string.
    Text(Text),
    /// A list.
    List(Vec<Value>),
    /// A dictionary with text keys.
    Map(Map),
}

/// An integer that does not fit an `i64`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BigInt {
    /// An optional `-`, then digits without leading zeros.
    decimal: Box<str>,
}

impl Value {
    /// Reads an integer of any size from decimal digits with an optional `-`. `None` if the text
    /// is anything else.
    pub fn integer(decimal: &str) -> Option<Value> {
        let digits = decimal.strip_prefix('-').unwrap_or(decimal);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if let Ok(small) = decimal.parse::<i64>() {
            return Some(Value::Int(small));
        }
        let sign = if digits.len() == decimal.len() { "" } else { "-" };
        let decimal = format!("{sign}{}", digits.trim_start_matches('0'));
        Some(Value::BigInt(BigInt { decimal: decimal.into() }))
    }

    /// True for [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The small integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The field `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// What kind of value it is, in a word for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::BigInt(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a dictionary",
        }
    }

    /// True if lists and maps are nested at most `levels` deep; a scalar is 0 levels deep.
    pub fn is_within_depth(&self, levels: usize) -> bool {
        let Some(inner) = levels.checked_sub(1) else {
            return !matches!(self, Value::List(_) | Value::Map(_));
        };
        match self {
            Value::List(list) => list.iter().all(|v| v.is_within_depth(inner)),
            Value::Map(map) => map.iter().all(|(_, v)| v.is_within_depth(inner)),
            _ => true,
        }
    }
}

impl BigInt {
    /// The decimal digits, with a `-` in front if negative.
    pub fn as_decimal(&self) -> &str {
        &self.decimal
    }

    /// The nearest float; infinite if it is beyond the range of floats.
    pub fn to_f64(&self) -> f64 {
        self.decimal.parse().unwrap_or(f64::NAN)
    }
}

impl fmt::Debug for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BigInt({})", self.decimal)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::BigInt(a), Value::BigInt(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// `From` for what becomes a value without a choice.
macro_rules! from {
    ($($source:ty => $name:ident $value:expr;)*) => {
        $(impl From<$source> for Value {
            fn from($name: $source) -> Self {
                $value
            }
        })*
    };
}

from! {
    bool => v Value::Bool(v);
    i64 => v Value::Int(v);
    i32 => v Value::Int(v.into());
    u32 => v Value::Int(v.into());
    f64 => v Value::Float(v);
    f32 => v Value::Float(v.into());
    &str => v Value::Text(v.into());
    String => v Value::Text(v.into());
    Text => v Value::Text(v);
    &Text => v Value::Text(v.clone());
    BigInt => v Value::BigInt(v);
    Map => v Value::Map(v);
    Vec<Value> => v Value::List(v);
    u64 => v match i64::try_from(v) {
        Ok(small) => Value::Int(small),
        Err(_) => Value::BigInt(BigInt { decimal: v.to_string().into() }),
    };
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        assert_eq!(Value::integer("-0"), Some(Value::Int(0)));
        assert_eq!(Value::integer("9223372036854775807"), Some(Value::Int(i64::MAX)));
        assert_eq!(Value::integer("-09223372036854775808"), Some(Value::Int(i64::MIN)));
        let zeros = format!("{}7", "0".repeat(40));
        assert_eq!(Value::integer(&zeros), Some(Value::Int(7)));
        let big = Value::integer("0009223372036854775808");
        assert!(
            matches!(&big, Some(Value::BigInt(b)) if b.as_decimal() == "9223372036854775808"),
            "{big:?}"
        );
        assert_eq!(big, Some(Value::from(1u64 << 63)));
        for bad in ["", "-", "+1", "1.0", "--1", "1 "] {
            assert_eq!(Value::integer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn equality_is_exact() {
        assert_ne!(Value::Int(1), Value::Float(1.0));
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_eq!(Value::Float(f64::NAN), Value::Float(-f64::NAN));
        assert_ne!(Value::Bool(true), Value::Int(1));
    }

    #[test]
    fn depth_counts_lists_and_maps() {
        let mut value = Value::Null;
        assert!(value.is_within_depth(0));
        for levels in 1..5 {
            value = Value::List(vec![value, Value::Int(1)]);
            assert!(value.is_within_depth(levels) && !value.is_within_depth(levels - 1));
        }
    }
}
