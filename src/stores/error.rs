//! What can go wrong in a store.

use std::error::Error;
use std::fmt;

use crate::kv::{KvError, Text};
use crate::model::ModelError;

/// Why an operation on a store failed. Unless the source says otherwise nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is nothing under the id.
    NotFound {
        /// What kind of id: `doc_id`, `ref_doc_id`.
        what: &'static str,
        /// The id.
        id: Text,
    },
    /// The id is taken, and the caller did not allow updates.
    AlreadyExists {
        /// The id.
        id: Text,
    },
    /// A node that was given or that is stored is none. Other nodes can still be used.
    Node {
        /// The node's id.
        id: Text,
        /// What is wrong with it.
        source: ModelError,
    },
    /// A message that was given or that is stored is none. Others can still be used.
    Message {
        /// The conversation's key.
        chat: Text,
        /// What is wrong with it.
        source: ModelError,
    },
    /// A record that the store keeps for itself is not as it wrote it. Export what can be read
    /// and load it into a new store.
    Corrupt {
        /// The collection.
        collection: String,
        /// The key.
        key: Text,
        /// What is wrong.
        what: &'static str,
    },
    /// A record is of a type for which neither LlamaIndex nor this library has a class. Others can
    /// still be used.
    UnknownType {
        /// What it should be.
        what: &'static str,
        /// Its id.
        id: Text,
        /// The type's name.
        name: Text,
    },
    /// The dictionary to be loaded is not one that LlamaIndex writes.
    Dict {
        /// Where: a JSON pointer.
        pointer: String,
        /// What is wrong there.
        what: &'static str,
    },
    /// LlamaIndex's store of this kind does not offer it, and neither does this one; the text is
    /// LlamaIndex's.
    Unsupported(&'static str),
    /// Values of kinds that do not go together, where Python raises a `TypeError`; the text is
    /// Python's.
    Type(String),
    /// The call makes no sense; the text says why.
    InvalidArgument(String),
    /// A step of an ingestion pipeline failed. Its documents are not recorded: they will be tried
    /// again.
    Transformation(Box<dyn Error + Send + Sync>),
    /// The key-value store failed.
    Kv(KvError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &Text| crate::kv::escape_key(text.as_bytes());
        match self {
            StoreError::NotFound { what, id } => write!(f, "{what} {} not found.", line(id)),
            StoreError::AlreadyExists { id } => write!(
                f,
                "node_id {} already exists. Set allow_update to True to overwrite.",
                line(id)
            ),
            StoreError::Node { id, source } => write!(f, "node {}: {source}", line(id)),
            StoreError::Message { chat, source } => {
                write!(f, "a message of chat \"{}\": {source}", line(chat))
            }
            StoreError::Corrupt { collection, key, what } => write!(
                f,
                "record \"{}\" of collection \"{collection}\" {what}; export what can be read \
                 and load it into a new store",
                line(key)
            ),
            StoreError::UnknownType { what, id, name } => {
                write!(f, "{what} {} is of the unknown type \"{}\"", line(id), line(name))
            }
            StoreError::Dict { pointer, what } => {
                write!(f, "cannot load the dictionary, {pointer} {what}; nothing was loaded")
            }
            StoreError::Unsupported(what) => write!(f, "{what}"),
            StoreError::Type(what) => write!(f, "{what}"),
            StoreError::InvalidArgument(what) => write!(f, "invalid argument: {what}"),
            StoreError::Transformation(source) => {
                write!(f, "a transformation failed: {source}; its documents are not recorded")
            }
            StoreError::Kv(source) => write!(f, "{source}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StoreError::Node { source, .. } | StoreError::Message { source, .. } => Some(source),
            StoreError::Transformation(source) => Some(&**source),
            StoreError::Kv(source) => Some(source),
            _ => None,
        }
    }
}

impl StoreError {
    /// A record of the store's own is not as it was written; keys that are no text are shown byte
    /// by byte.
    pub(crate) fn corrupt(collection: &str, key: &[u8], what: &'static str) -> Self {
        let key = Text::from_bytes(key)
            .unwrap_or_else(|_| Text::from_code_points(key.iter().map(|byte| u32::from(*byte))));
        StoreError::Corrupt { collection: collection.to_owned(), key, what }
    }
}

impl From<KvError> for StoreError {
    fn from(e: KvError) -> Self {
        StoreError::Kv(e)
    }
}
