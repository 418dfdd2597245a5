//! Python's comparisons, as metadata filters use them: `1 == 1.0 == True`, numbers of any size
//! compared exactly, an error in Python's words where the kinds do not go together.

use std::cmp::Ordering;

use crate::kv::{BigInt, Text, Value};

/// What Python's `type(value).__name__` says.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::BigInt(_) => "int",
        Value::Float(_) => "float",
        Value::Text(_) => "str",
        Value::List(_) => "list",
        Value::Map(_) => "dict",
    }
}

/// A number of any kind.
#[derive(Clone, Copy)]
enum Number<'a> {
    Int(i64),
    Big(&'a BigInt),
    Float(f64),
}

fn number(value: &Value) -> Option<Number<'_>> {
    match value {
        Value::Bool(yes) => Some(Number::Int((*yes).into())),
        Value::Int(int) => Some(Number::Int(*int)),
        Value::BigInt(big) => Some(Number::Big(big)),
        Value::Float(float) => Some(Number::Float(*float)),
        _ => None,
    }
}

/// `a == b`.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return compare_numbers(a, b) == Some(Ordering::Equal);
    }
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key.as_bytes()).is_some_and(|b| equal(a, b)))
        }
        _ => false,
    }
}

/// How `a` and `b` are ordered; `None` if one is not a number's value (NaN).
///
/// # Errors
///
/// Python's message for `a sign b`, if the two have no order.
pub(super) fn compare(a: &Value, b: &Value, sign: &str) -> Result<Option<Ordering>, String> {
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(compare_numbers(a, b));
    }
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.as_bytes().cmp(b.as_bytes()))),
        (Value::List(a), Value::List(b)) => match a.iter().zip(b).find(|(a, b)| !equal(a, b)) {
            Some((a, b)) => compare(a, b, sign),
            None => Ok(Some(a.len().cmp(&b.len()))),
        },
        _ => Err(format!(
            "'{sign}' not supported between instances of '{}' and '{}'",
            type_name(a),
            type_name(b)
        )),
    }
}

/// `item in container`.
///
/// # Errors
///
/// Python's message, if that cannot be asked.
pub(super) fn contains(item: &Value, container: &Value) -> Result<bool, String> {
    match container {
        Value::List(list) => Ok(list.iter().any(|value| equal(value, item))),
        Value::Text(text) => match item {
            Value::Text(part) => Ok(has_part(text.as_bytes(), part.as_bytes())),
            other => Err(format!(
                "'in <string>' requires string as left operand, not {}",
                type_name(other)
            )),
        },
        Value::Map(map) => match item {
            Value::Text(key) => Ok(map.contains_key(key.as_bytes())),
            Value::List(_) | Value::Map(_) => {
                Err(format!("unhashable type: '{}'", type_name(item)))
            }
            _ => Ok(false),
        },
        other => Err(format!("argument of type '{}' is not iterable", type_name(other))),
    }
}

/// What a loop over `value` gives: the elements of a list, the characters of a string, the keys
/// of a dictionary.
///
/// # Errors
///
/// Python's message, if there is no loop over it.
pub(super) fn elements(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::List(list) => Ok(list.clone()),
        Value::Text(text) => {
            Ok(text.code_points().map(|point| Text::from_code_points([point]).into()).collect())
        }
        Value::Map(map) => Ok(map.keys().map(Value::from).collect()),
        other => Err(format!("'{}' object is not iterable", type_name(other))),
    }
}

/// True if `text` holds `part`. Both are generalised UTF-8, in which no character stands inside
/// the bytes of others.
pub(super) fn has_part(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// `text.lower()`.
pub(super) fn lower(text: &Text) -> Text {
    if let Some(plain) = text.as_str() {
        return plain.to_lowercase().into();
    }
    let lower = |point: u32| match char::from_u32(point) {
        Some(c) => c.to_lowercase().map(u32::from).collect(),
        None => vec![point],
    };
    Text::from_code_points(text.code_points().flat_map(lower))
}

fn compare_numbers(a: Number<'_>, b: Number<'_>) -> Option<Ordering> {
    use Number::{Big, Float, Int};
    match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(&b)),
        (Float(a), Float(b)) => a.partial_cmp(&b),
        (Big(a), Big(b)) => Some(compare_decimals(a.as_decimal(), b.as_decimal())),
        (Int(_), Big(b)) => Some(sign(b).reverse()),
        (Big(a), Int(_)) => Some(sign(a)),
        (Int(a), Float(b)) => compare_int(a, b),
        (Float(a), Int(b)) => compare_int(b, a).map(Ordering::reverse),
        (Big(a), Float(b)) => compare_big(a, b),
        (Float(a), Big(b)) => compare_big(b, a).map(Ordering::reverse),
    }
}

/// How a number beyond 64 bits stands to every number within.
fn sign(big: &BigInt) -> Ordering {
    match big.as_decimal().starts_with('-') {
        true => Ordering::Less,
        false => Ordering::Greater,
    }
}

/// 2^63, which no `i64` reaches.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

fn compare_int(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    // In range: the conversion is exact.
    Some(int.cmp(&(whole as i64)).then_with(|| {
        let rest = float - whole;
        0.0.partial_cmp(&rest).unwrap_or(Ordering::Equal)
    }))
}

fn compare_big(big: &BigInt, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.is_infinite() {
        return 0.0.partial_cmp(&float);
    }
    if float.abs() < BEYOND {
        return Some(sign(big));
    }
    // From there on every float is an integer, and is shown with all of its digits.
    Some(compare_decimals(big.as_decimal(), &format!("{float:.0}")))
}

/// Compares integers in decimal, without leading zeros.
fn compare_decimals(a: &str, b: &str) -> Ordering {
    let size = |a: &str, b: &str| a.len().cmp(&b.len()).then_with(|| a.cmp(b));
    match (a.strip_prefix('-'), b.strip_prefix('-')) {
        (None, None) => size(a, b),
        (Some(a), Some(b)) => size(b, a),
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big(decimal: &str) -> Value {
        Value::integer(decimal).expect("digits")
    }

    #[test]
    fn numbers_are_compared_exactly() {
        use Ordering::{Equal, Greater, Less};
        let cases = [
            (Value::Int(1), Value::Float(1.0), Some(Equal)),
            (Value::Bool(true), Value::Float(1.0), Some(Equal)),
            (Value::Int(-1), Value::Float(-1.5), Some(Greater)),
            (Value::Int(i64::MAX), Value::Float(BEYOND), Some(Less)),
            (Value::Int(i64::MIN), Value::Float(-BEYOND), Some(Equal)),
            (Value::Int((1 << 53) + 1), Value::Float((1u64 << 53) as f64), Some(Greater)),
            (Value::Int(0), Value::Float(f64::NAN), None),
            (Value::Int(0), Value::Float(f64::INFINITY), Some(Less)),
            (big("9223372036854775808"), Value::Float(BEYOND), Some(Equal)),
            (big("9223372036854775809"), Value::Float(BEYOND), Some(Greater)),
            (big("-9223372036854775809"), Value::Float(-BEYOND), Some(Less)),
            (big("99999999999999999999"), big("100000000000000000000"), Some(Less)),
            (big("-99999999999999999999"), big("-100000000000000000000"), Some(Greater)),
            (big("-99999999999999999999"), Value::Int(i64::MIN), Some(Less)),
            (big("99999999999999999999"), Value::Float(f64::NEG_INFINITY), Some(Greater)),
            (big("99999999999999999999"), Value::Float(3.0), Some(Greater)),
        ];
        for (a, b, order) in cases {
            assert_eq!(compare(&a, &b, "<"), Ok(order), "{a:?} and {b:?}");
            let back = order.map(Ordering::reverse);
            assert_eq!(compare(&b, &a, "<"), Ok(back), "{b:?} and {a:?}");
            assert_eq!(equal(&a, &b), order == Some(Equal), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn kinds_that_do_not_go_together_are_errors_in_pythons_words() {
        let text = Value::from("x");
        let list = Value::List(vec![Value::Int(1), text.clone()]);
        let other = Value::List(vec![Value::Int(1), Value::Int(2)]);
        assert_eq!(
            compare(&list, &other, ">="),
            Err("'>=' not supported between instances of 'str' and 'int'".to_owned())
        );
        assert_eq!(compare(&list, &Value::List(vec![Value::Int(0)]), ">"), {
            Ok(Some(Ordering::Greater))
        });
        assert!(contains(&Value::Int(1), &text).is_err() && contains(&text, &Value::Null).is_err());
        assert_eq!(contains(&Value::Bool(true), &list), Ok(true));
        assert_eq!(contains(&text, &Value::from("axb")), Ok(true));
        assert!(elements(&Value::Float(1.0)).is_err());
        assert_eq!(elements(&Value::from("ab")).map(|e| e.len()), Ok(2));
    }

    #[test]
    fn lower_case_is_that_of_unicode_and_keeps_surrogates() {
        assert_eq!(lower(&Text::from("\u{c4}B")), Text::from("\u{e4}b"));
        let lone = Text::from_code_points([0x41, 0xd800, 0xc4]);
        assert_eq!(lower(&lone), Text::from_code_points([0x61, 0xd800, 0xe4]));
    }
}
