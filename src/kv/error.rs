//! What can go wrong in a key-value store, with the collection and the key that it concerns.

use std::error::Error;
use std::fmt;

use super::codec::DecodeError;
use crate::engine::{ReadError, WriteError};

/// Longest key text in a message, in bytes.
const KEY_SHOWN_MAX: usize = 64;

/// Why an operation on a [`KvStore`](super::KvStore) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum KvError {
    /// A read failed. Data: unchanged.
    Read {
        /// The collection's name.
        collection: String,
        /// The key, escaped and cut to 64 bytes; `None` if the whole collection was read.
        key: Option<String>,
        /// What the engine says.
        source: ReadError,
    },
    /// A write failed; the source says what became of the data.
    Write {
        /// The collection's name; `None` if the failure is of a whole batch.
        collection: Option<String>,
        /// The key, escaped and cut to 64 bytes; `None` if the failure is of a whole batch.
        key: Option<String>,
        /// What the engine says.
        source: WriteError,
    },
    /// A stored value is not what was written, or was written by a newer version. Data: unchanged,
    /// other keys can still be read.
    Decode {
        /// The collection's name.
        collection: String,
        /// The key, escaped and cut to 64 bytes.
        key: String,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
    /// A value is nested deeper than [`VALUE_DEPTH_MAX`](crate::limits::VALUE_DEPTH_MAX). Data:
    /// nothing was written. Retry: with a flatter value.
    TooDeep {
        /// The collection's name.
        collection: String,
        /// The key, escaped and cut to 64 bytes.
        key: String,
    },
    /// The call makes no sense. Data: unchanged. The text says which argument and why.
    InvalidArgument(String),
    /// A failure of a backend that is not part of this crate, or of the caller's own visitor.
    Custom {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl KvError {
    /// A failed write of `key` to `collection`, or of the whole collection.
    pub fn write(collection: &str, key: Option<&[u8]>, source: WriteError) -> Self {
        KvError::Write { collection: Some(collection.to_owned()), key: key.map(escape_key), source }
    }

    /// A failed write of a whole batch.
    pub fn batch(source: WriteError) -> Self {
        KvError::Write { collection: None, key: None, source }
    }

    /// A failed read of `key` from `collection`, or of the whole collection.
    pub fn read(collection: &str, key: Option<&[u8]>, source: ReadError) -> Self {
        KvError::Read { collection: collection.to_owned(), key: key.map(escape_key), source }
    }

    /// A stored value that cannot be decoded.
    pub fn decode(collection: &str, key: &[u8], source: DecodeError) -> Self {
        KvError::Decode { collection: collection.to_owned(), key: escape_key(key), source }
    }

    /// A value that is nested too deeply.
    pub fn too_deep(collection: &str, key: &[u8]) -> Self {
        KvError::TooDeep { collection: collection.to_owned(), key: escape_key(key) }
    }

    /// A failure of another backend or of a visitor.
    pub fn custom(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        KvError::Custom { what: what.into(), source: source.into() }
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = "the batch";
        match self {
            KvError::Read { collection, key: Some(key), source } => {
                write!(f, "cannot read key \"{key}\" of collection \"{collection}\": {source}")
            }
            KvError::Read { collection, key: None, source } => {
                write!(f, "cannot read collection \"{collection}\": {source}")
            }
            KvError::Write { collection: Some(collection), key: Some(key), source } => {
                write!(f, "cannot write key \"{key}\" of collection \"{collection}\": {source}")
            }
            KvError::Write { collection: Some(collection), key: None, source } => {
                write!(f, "cannot write collection \"{collection}\": {source}")
            }
            KvError::Write { collection: None, source, .. } => {
                write!(f, "cannot write {whole}: {source}")
            }
            KvError::Decode { collection, key, source } => {
                write!(f, "the value of key \"{key}\" in collection \"{collection}\" {source}")
            }
            KvError::TooDeep { collection, key } => write!(
                f,
                "the value for key \"{key}\" of collection \"{collection}\" is nested more than {} \
                 levels deep; nothing was written, flatten it",
                crate::limits::VALUE_DEPTH_MAX
            ),
            KvError::InvalidArgument(what) => write!(f, "invalid argument: {what}"),
            KvError::Custom { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl Error for KvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            KvError::Read { source, .. } => Some(source),
            KvError::Write { source, .. } => Some(source),
            KvError::Decode { source, .. } => Some(source),
            KvError::Custom { source, .. } => Some(&**source),
            KvError::TooDeep { .. } | KvError::InvalidArgument(_) => None,
        }
    }
}

/// `key` on one line of at most 64 bytes: text as it is, anything that is no printable text as
/// `\xNN`, a longer key cut and marked with `...`.
pub(crate) fn escape_key(key: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in key.utf8_chunks() {
        let text = chunk.valid().chars().map(|c| {
            if c.is_control() || c == '"' || c == '\\' {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        });
        let bytes = chunk.invalid().iter().map(|b| format!("\\x{b:02x}"));
        for piece in text.chain(bytes) {
            if shown.len() + piece.len() > KEY_SHOWN_MAX - 3 {
                shown.push_str("...");
                return shown;
            }
            shown.push_str(&piece);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_on_one_short_line() {
        assert_eq!(escape_key(b"n1"), "n1");
        assert_eq!(escape_key("a\nb\"\u{e9}".as_bytes()), "a\\nb\\\"\u{e9}");
        assert_eq!(escape_key(b"\xff\x00"), "\\xff\\u{0}");
        let long = escape_key(&[b'x'; 500]);
        assert!(long.len() <= KEY_SHOWN_MAX && long.ends_with("x..."), "{long}");
    }
}
