//! Metadata filters: LlamaIndex's `MetadataFilter` and `MetadataFilters`
//! (`vector_stores/types.py`), nested as deep as [`FILTER_DEPTH_MAX`].

use std::cmp::Ordering;

use super::python::{self, compare, contains, elements, equal};
use crate::kv::{Map, Text, Value};
use crate::stores::StoreError;

/// Deepest nesting of [`MetadataFilters`] in one another; one without any others is 1 deep.
pub const FILTER_DEPTH_MAX: usize = 32;

/// How a filter compares the metadata value with its own.
///
/// Python's rules: `1`, `1.0` and `True` are equal; values of kinds that have no order are a
/// [`StoreError::Type`]. A value that is missing or null matches `!=`, `nin` and `is_empty` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterOperator {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `in`: the metadata value is an element of the filter's list, or a part of its string.
    In,
    /// `nin`: it is not.
    Nin,
    /// `any`: at least one element of the filter's list is in the metadata value.
    Any,
    /// `all`: every element of the filter's list is in the metadata value.
    All,
    /// `text_match`: the filter's string is a part of the metadata value.
    TextMatch,
    /// `text_match_insensitive`: the same, in lower case.
    TextMatchInsensitive,
    /// `contains`: the filter's value is an element of the metadata list, or a part of its string.
    Contains,
    /// `is_empty`: the metadata value is missing, null, an empty string or an empty list.
    IsEmpty,
}

use FilterOperator as Op;

/// Operators and LlamaIndex's names for them.
const NAMES: [(Op, &str); 14] = [
    (Op::Eq, "=="),
    (Op::Ne, "!="),
    (Op::Gt, ">"),
    (Op::Gte, ">="),
    (Op::Lt, "<"),
    (Op::Lte, "<="),
    (Op::In, "in"),
    (Op::Nin, "nin"),
    (Op::Any, "any"),
    (Op::All, "all"),
    (Op::TextMatch, "text_match"),
    (Op::TextMatchInsensitive, "text_match_insensitive"),
    (Op::Contains, "contains"),
    (Op::IsEmpty, "is_empty"),
];

impl FilterOperator {
    /// LlamaIndex's name for it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }

    /// The operator of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(op, _)| *op)
    }
}

/// One condition on one metadata key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetadataFilter {
    /// The metadata key.
    pub key: Text,
    /// What its value is compared with.
    pub value: Value,
    /// How.
    pub operator: FilterOperator,
}

/// How several filters are taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FilterCondition {
    /// All match; also if there is none.
    #[default]
    And,
    /// At least one matches.
    Or,
    /// None matches.
    Not,
}

/// A filter or several.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// One condition.
    One(MetadataFilter),
    /// Several, taken together.
    Group(MetadataFilters),
}

/// Filters, taken together by a condition. Without any filter it matches everything.
///
/// ```
/// use siltstone::stores::{FilterOperator, MetadataFilter, MetadataFilters};
/// let filters = MetadataFilters::all([
///     MetadataFilter::new("year", FilterOperator::Gte, 2020)?,
///     MetadataFilter::new("lang", FilterOperator::Eq, "en")?,
/// ]);
/// assert_eq!(filters, MetadataFilters::parse("year>=2020 and lang==\"en\"")?);
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MetadataFilters {
    /// The filters.
    pub filters: Vec<Filter>,
    /// How they are taken together.
    pub condition: FilterCondition,
}

impl MetadataFilter {
    /// A filter.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if `value` is none that LlamaIndex takes: an integer, a
    /// float, a string, a list of one of these, or null. A list of integers and floats becomes one
    /// of floats.
    pub fn new(
        key: impl Into<Text>,
        operator: FilterOperator,
        value: impl Into<Value>,
    ) -> Result<Self, StoreError> {
        let value = match value.into() {
            Value::List(list) => Value::List(same_kind(list)?),
            value @ (Value::Bool(_) | Value::Map(_)) => return Err(bad_value(&value)),
            value => value,
        };
        Ok(MetadataFilter { key: key.into(), value, operator })
    }

    fn from_map(map: &Map) -> Result<Self, StoreError> {
        let invalid = |what: &str| Err(StoreError::InvalidArgument(what.to_owned()));
        let Some(key) = map.get("key").and_then(Value::as_text) else {
            return invalid("the key of a metadata filter is not a string");
        };
        let operator = match map.get("operator") {
            None => Some(Op::Eq),
            Some(name) => name.as_text().and_then(|n| Op::from_name(&n.to_string_lossy())),
        };
        let Some(operator) = operator else {
            return invalid("the operator of a metadata filter is not known");
        };
        MetadataFilter::new(key, operator, map.get("value").cloned().unwrap_or_default())
    }

    /// The dictionary `{key, value, operator}`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(3);
        map.set("key", &self.key);
        map.set("value", self.value.clone());
        map.set("operator", self.operator.name());
        map.into()
    }

    /// Whether a metadata value matches. `None` stands for a key that is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Type`] where Python raises a `TypeError`.
    pub fn matches(&self, found: Option<&Value>) -> Result<bool, StoreError> {
        self.decide(found.unwrap_or(&Value::Null)).map_err(StoreError::Type)
    }

    pub(super) fn decide(&self, found: &Value) -> Result<bool, String> {
        if found.is_null() {
            return Ok(matches!(self.operator, Op::Ne | Op::Nin | Op::IsEmpty));
        }
        let value = &self.value;
        let ordered = |sign: &str, fits: fn(Ordering) -> bool| {
            compare(found, value, sign).map(|order| order.is_some_and(fits))
        };
        match self.operator {
            Op::Eq => Ok(equal(found, value)),
            Op::Ne => Ok(!equal(found, value)),
            Op::Gt => ordered(">", Ordering::is_gt),
            Op::Gte => ordered(">=", Ordering::is_ge),
            Op::Lt => ordered("<", Ordering::is_lt),
            Op::Lte => ordered("<=", Ordering::is_le),
            Op::In => contains(found, value),
            Op::Nin => contains(found, value).map(|is_in| !is_in),
            Op::Contains => contains(value, found),
            Op::Any => {
                for element in elements(value)? {
                    if contains(&element, found)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Op::All => {
                for element in elements(value)? {
                    if !contains(&element, found)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Op::TextMatch | Op::TextMatchInsensitive => self.text_match(found),
            Op::IsEmpty => Ok(match found {
                Value::Text(text) => text.is_empty(),
                Value::List(list) => list.is_empty(),
                _ => false,
            }),
        }
    }

    fn text_match(&self, found: &Value) -> Result<bool, String> {
        let folds = self.operator == Op::TextMatchInsensitive;
        let (Value::Text(found), Value::Text(part)) = (found, &self.value) else {
            let name = if folds { "TEXT_MATCH_INSENSITIVE" } else { "TEXT_MATCH" };
            return Err(format!(
                "Both metadata_value and value should be strings to be used with a {name} filter"
            ));
        };
        Ok(match folds {
            false => python::has_part(found.as_bytes(), part.as_bytes()),
            true => {
                let (found, part) = (python::lower(found), python::lower(part));
                python::has_part(found.as_bytes(), part.as_bytes())
            }
        })
    }
}

/// The elements of a filter's list: all integers, all strings, or all made floats.
fn same_kind(list: Vec<Value>) -> Result<Vec<Value>, StoreError> {
    let all = |is: fn(&Value) -> bool| list.iter().all(is);
    if all(|v| matches!(v, Value::Text(_)))
        || all(|v| matches!(v, Value::Int(_) | Value::BigInt(_)))
    {
        return Ok(list);
    }
    list.into_iter()
        .map(|value| match value {
            Value::Int(int) => Ok(Value::Float(int as f64)),
            Value::BigInt(big) => Ok(Value::Float(big.to_f64())),
            float @ Value::Float(_) => Ok(float),
            other => Err(bad_value(&other)),
        })
        .collect()
}

fn bad_value(value: &Value) -> StoreError {
    StoreError::InvalidArgument(format!(
        "the value of a metadata filter holds {}, expected an integer, a float, a string, null or \
         a list of one kind of them",
        value.kind()
    ))
}

impl FilterCondition {
    /// LlamaIndex's name for it.
    pub fn name(self) -> &'static str {
        match self {
            FilterCondition::And => "and",
            FilterCondition::Or => "or",
            FilterCondition::Not => "not",
        }
    }
}

impl From<MetadataFilter> for Filter {
    fn from(filter: MetadataFilter) -> Self {
        Filter::One(filter)
    }
}

impl From<MetadataFilters> for Filter {
    fn from(filters: MetadataFilters) -> Self {
        Filter::Group(filters)
    }
}

impl MetadataFilters {
    fn of(
        filters: impl IntoIterator<Item = impl Into<Filter>>,
        condition: FilterCondition,
    ) -> Self {
        MetadataFilters { filters: filters.into_iter().map(Into::into).collect(), condition }
    }

    /// All of them match.
    pub fn all(filters: impl IntoIterator<Item = impl Into<Filter>>) -> Self {
        Self::of(filters, FilterCondition::And)
    }

    /// At least one of them matches.
    pub fn any(filters: impl IntoIterator<Item = impl Into<Filter>>) -> Self {
        Self::of(filters, FilterCondition::Or)
    }

    /// None of them matches.
    pub fn none(filters: impl IntoIterator<Item = impl Into<Filter>>) -> Self {
        Self::of(filters, FilterCondition::Not)
    }

    /// Reads LlamaIndex's dictionary `{filters: [..], condition}`, in which a filter may be such a
    /// dictionary again. A condition that is absent or null is "and".
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if it is none, or nested too deeply.
    pub fn from_value(value: &Value) -> Result<Self, StoreError> {
        Self::read(value, FILTER_DEPTH_MAX)
    }

    fn read(value: &Value, levels: usize) -> Result<Self, StoreError> {
        let Some(levels) = levels.checked_sub(1) else { return Err(too_deep()) };
        let invalid = |what: &str| StoreError::InvalidArgument(what.to_owned());
        let filters = value.get("filters").and_then(Value::as_list);
        let filters =
            filters.ok_or_else(|| invalid("metadata filters lack the list \"filters\""))?;
        let name = match value.get("condition") {
            None | Some(Value::Null) => None,
            Some(name) => Some(name.as_text().map(Text::to_string).unwrap_or_default()),
        };
        let condition = match name.as_deref() {
            None | Some("and") => FilterCondition::And,
            Some("or") => FilterCondition::Or,
            Some("not") => FilterCondition::Not,
            Some(_) => return Err(invalid("the condition of metadata filters is not known")),
        };
        let filters = filters.iter().map(|filter| match filter.as_map() {
            Some(map) if map.contains_key("filters") => {
                Self::read(filter, levels).map(Filter::Group)
            }
            Some(map) => MetadataFilter::from_map(map).map(Filter::One),
            None => Err(invalid("a metadata filter is not a dictionary")),
        });
        Ok(MetadataFilters { filters: filters.collect::<Result<_, _>>()?, condition })
    }

    /// Refuses filters that are nested too deeply.
    pub(super) fn check_depth(&self) -> Result<(), StoreError> {
        fn depth(filters: &MetadataFilters, left: usize) -> bool {
            left > 0
                && filters.filters.iter().all(|filter| match filter {
                    Filter::One(_) => true,
                    Filter::Group(group) => depth(group, left - 1),
                })
        }
        if depth(self, FILTER_DEPTH_MAX) { Ok(()) } else { Err(too_deep()) }
    }

    /// Calls `visit` with every single filter, in order.
    pub(super) fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a MetadataFilter)) {
        for filter in &self.filters {
            match filter {
                Filter::One(one) => visit(one),
                Filter::Group(group) => group.each(visit),
            }
        }
    }
}

pub(super) fn too_deep() -> StoreError {
    StoreError::InvalidArgument(format!(
        "metadata filters are nested more than {FILTER_DEPTH_MAX} levels deep"
    ))
}
