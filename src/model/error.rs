//! Why a dictionary is no node, or a node has no hash.

use std::fmt;

/// Why a stored form cannot be read as a node, or a node's hash cannot be computed. Nothing was
/// changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelError {
    /// A field that must be there is not.
    Missing {
        /// The field, with the fields around it: `__data__.index_id`.
        field: String,
    },
    /// A field has a value of the wrong kind.
    Invalid {
        /// The field, with the fields around it.
        field: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The stored form's `__type__` is none of LlamaIndex's.
    UnknownType(String),
    /// A dictionary is neither an entity nor a chunk of a property graph; as Python shows it.
    UnknownGraphNode(String),
    /// The node's source is a list of nodes; it must be one node.
    SourceIsList,
    /// The node's metadata template is not one of Python's that `key` and `value` fill.
    Template {
        /// The template.
        template: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelError::Missing { field } => write!(f, "field {field} is missing"),
            ModelError::Invalid { field, expected, found } => {
                write!(f, "field {field} is {found}, expected {expected}")
            }
            ModelError::UnknownType(found) => write!(f, "Unknown doc type: {found}"),
            ModelError::UnknownGraphNode(shown) => {
                write!(f, "Could not infer node type for data: {shown}")
            }
            ModelError::SourceIsList => {
                write!(f, "Source object must be a single RelatedNodeInfo object")
            }
            ModelError::Template { template, what } => {
                write!(f, "metadata template \"{}\": {what}", template.escape_debug())
            }
        }
    }
}

impl std::error::Error for ModelError {}
