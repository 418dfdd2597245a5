//! Reading a dictionary field by field, with errors that name the field.

use super::error::ModelError;
use super::integer::Integer;
use super::node::Relationship;
use crate::kv::{Map, Text, Value};

/// A map that is read field by field, with the path to it for messages.
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map,
    path: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a Value, path: String) -> Result<Self, ModelError> {
        match value.as_map() {
            Some(map) => Ok(Fields { map, path }),
            None => {
                let field = if path.is_empty() { "node".to_owned() } else { path };
                let found = value.kind();
                Err(ModelError::Invalid { field, expected: "a dictionary", found })
            }
        }
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field)
    }

    pub(super) fn path(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    pub(super) fn missing(&self, field: &str) -> ModelError {
        ModelError::Missing { field: self.path(field) }
    }

    pub(super) fn invalid(&self, field: &str, expected: &'static str, found: &Value) -> ModelError {
        ModelError::Invalid { field: self.path(field), expected, found: found.kind() }
    }

    /// A text, if it is there and not null.
    pub(super) fn text(&self, field: &str) -> Result<Option<Text>, ModelError> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.invalid(field, "a string", other)),
        }
    }

    /// A text that has a default when it is absent, and may not be null.
    pub(super) fn text_or(&self, field: &str, default: &'static str) -> Result<Text, ModelError> {
        match self.get(field) {
            None => Ok(Text::from_static(default)),
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(other) => Err(self.invalid(field, "a string", other)),
        }
    }

    pub(super) fn texts(&self, field: &str) -> Result<Vec<Text>, ModelError> {
        let Some(found) = self.get(field) else { return Ok(Vec::new()) };
        let expected = "a list of strings";
        let list = found.as_list().ok_or_else(|| self.invalid(field, expected, found))?;
        let text = |item: &Value| match item {
            Value::Text(text) => Ok(text.clone()),
            other => Err(self.invalid(field, expected, other)),
        };
        list.iter().map(text).collect()
    }

    /// A map, if it is there; null counts as absent only in the oldest forms, where it was
    /// written.
    pub(super) fn map(&self, field: &str) -> Result<Option<Map>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Null) if field == "extra_info" => Ok(None),
            Some(Value::Map(map)) => Ok(Some(map.clone())),
            Some(other) => Err(self.invalid(field, "a dictionary", other)),
        }
    }

    /// An integer of any size, if it is there and not null.
    pub(super) fn int(&self, field: &str) -> Result<Option<Integer>, ModelError> {
        /// The floats below it in magnitude are `i64`s, if they have no fraction.
        const END: f64 = 9_223_372_036_854_775_808.0;
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Int(int)) => Ok(Some((*int).into())),
            Some(Value::BigInt(big)) => Ok(Some(Integer::Big(big.clone()))),
            Some(Value::Bool(truth)) => Ok(Some(i64::from(*truth).into())),
            Some(Value::Float(float)) if float.fract() == 0.0 && float.abs() < END => {
                Ok(Some((*float as i64).into()))
            }
            Some(other) => Err(self.invalid(field, "an integer", other)),
        }
    }

    pub(super) fn floats(&self, field: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let expected = "a list of numbers";
        let list = match self.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::List(list)) => list,
            Some(other) => return Err(self.invalid(field, expected, other)),
        };
        let float = |item: &Value| match item {
            Value::Float(float) => Ok(*float),
            Value::Int(int) => Ok(*int as f64),
            Value::BigInt(big) => Ok(big.to_f64()),
            Value::Bool(truth) => Ok(f64::from(u8::from(*truth))),
            other => Err(self.invalid(field, expected, other)),
        };
        list.iter().map(float).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn relationship(&self, code: &Text) -> Result<Relationship, ModelError> {
        Relationship::from_code(code).ok_or_else(|| ModelError::Invalid {
            field: self.path("relationships"),
            expected: "keys \"1\" to \"5\"",
            found: "another key",
        })
    }
}
