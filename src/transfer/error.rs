//! [`TransferError`]: why an import or an export failed.

use std::error::Error;
use std::fmt;
use std::io;

use crate::kv::json::StreamError;
use crate::stores::StoreError;

/// Why an import or an export failed, and what became of the data.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// The directory to be imported cannot be read. Nothing was imported.
    Source(io::Error),
    /// A file cannot be opened. Nothing was imported.
    Open {
        /// Its name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read to its end, or is not whole, or no JSON. Nothing was imported;
    /// [`ImportOptions::salvage`](super::ImportOptions::salvage) takes what is whole.
    File {
        /// Its name.
        file: String,
        /// What is wrong, and where.
        source: StreamError,
    },
    /// A file holds something that LlamaIndex does not write. Nothing was imported;
    /// [`ImportOptions::salvage`](super::ImportOptions::salvage) takes the rest.
    Shape {
        /// Its name.
        file: String,
        /// Where, in bytes: the end of what is wrong.
        byte: usize,
        /// What is wrong.
        what: String,
    },
    /// There is no file that can be imported.
    NothingFound,
    /// The store already holds what the import would replace. Nothing was imported;
    /// [`ImportOptions::replace`](super::ImportOptions::replace) allows it.
    Occupied {
        /// What would be replaced.
        spaces: Vec<String>,
    },
    /// Two files hold the same: which of them counts is not for an import to guess. Nothing was
    /// imported.
    Twice {
        /// What they both hold.
        space: String,
        /// The one.
        file: String,
        /// The other.
        other: String,
    },
    /// Two kinds of files have one name in [`FileNames`](super::FileNames). Nothing was written.
    SameName {
        /// The name.
        name: String,
        /// What would be called so.
        one: String,
        /// What else would.
        other: String,
    },
    /// The store failed while a file was being imported, or the file could not be read again.
    Broken {
        /// The name of the file; empty at the start and at the end.
        file: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
        /// What became of the store.
        left: Left,
    },
    /// The dictionary to be loaded lacks one of the five keys that LlamaIndex's has, or is none.
    /// Nothing was loaded.
    NoKey {
        /// The first that is missing.
        key: &'static str,
    },
    /// The store cannot be read. What was exported is not whole; a [`Target`](super::Target) that
    /// shows files at its commit only shows none.
    Read(StoreError),
    /// A file cannot be written. As for [`TransferError::Read`].
    Write {
        /// Its name; empty if all files had been written.
        file: String,
        /// Why.
        source: io::Error,
    },
}

/// What a failed import leaves in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// What it held before.
    AsItWas,
    /// A part of the import, in place of what it replaces. Importing again makes it whole.
    Part,
    /// A part of the import; the durable snapshot of this number is what was there before. Rolling
    /// back to it undoes the import, importing again makes it whole.
    PartBefore(u64),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Left::AsItWas => write!(f, "the store is as it was"),
            Left::Part => write!(f, "a part was imported; import again"),
            Left::PartBefore(id) => write!(
                f,
                "a part was imported; import again, or roll back to durable snapshot {id}, which \
                 is the store before"
            ),
        }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NOTHING: &str = "nothing was imported";
        match self {
            TransferError::Source(e) => write!(f, "cannot read the directory: {e}; {NOTHING}"),
            TransferError::Open { file, source } => {
                write!(f, "{file}: cannot be opened: {source}; {NOTHING}")
            }
            TransferError::File { file, source } => {
                write!(f, "{file}: {source}; {NOTHING}; ImportOptions::salvage takes what is whole")
            }
            TransferError::Shape { file, byte, what } => {
                write!(
                    f,
                    "{file}: byte {byte}: {what}; {NOTHING}; ImportOptions::salvage takes the rest"
                )
            }
            TransferError::NothingFound => {
                write!(f, "there is no file that LlamaIndex writes; {NOTHING}")
            }
            TransferError::Occupied { spaces } => write!(
                f,
                "the store holds {} already; {NOTHING}; an Import with ImportOptions::replace \
                 takes its place",
                spaces.join(", ")
            ),
            TransferError::Twice { space, file, other } => write!(
                f,
                "{file} and {other} both hold {space}; {NOTHING}; import the right one by its path"
            ),
            TransferError::SameName { name, one, other } => {
                write!(f, "{name} is the name of both {one} and {other}; nothing was written")
            }
            TransferError::Broken { file, source, left } if file.is_empty() => {
                write!(f, "the import failed: {source}; {left}")
            }
            TransferError::Broken { file, source, left } => {
                write!(f, "the import of {file} failed: {source}; {left}")
            }
            TransferError::NoKey { key } => {
                write!(f, "the dictionary has no key \"{key}\"; nothing was loaded")
            }
            TransferError::Read(e) => write!(f, "the export failed: {e}"),
            TransferError::Write { file, source } if file.is_empty() => {
                write!(f, "the export failed: {source}")
            }
            TransferError::Write { file, source } => {
                write!(f, "{file} cannot be written: {source}")
            }
        }
    }
}

#[cfg(feature = "cli")]
impl TransferError {
    /// The message in terms of the options of the program.
    pub(crate) fn for_program(&self) -> String {
        let words = self.to_string();
        match self {
            TransferError::File { .. } | TransferError::Shape { .. } => {
                words.replace("ImportOptions::salvage takes", "--salvage takes")
            }
            TransferError::Occupied { .. } => words
                .replace("an Import with ImportOptions::replace takes", "with --replace it takes"),
            _ => words,
        }
    }
}

impl Error for TransferError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TransferError::Source(source)
            | TransferError::Open { source, .. }
            | TransferError::Write { source, .. } => Some(source),
            TransferError::File { source, .. } => Some(source),
            TransferError::Broken { source, .. } => Some(&**source),
            TransferError::Read(source) => Some(source),
            TransferError::Shape { .. }
            | TransferError::NothingFound
            | TransferError::NoKey { .. }
            | TransferError::Occupied { .. }
            | TransferError::SameName { .. }
            | TransferError::Twice { .. } => None,
        }
    }
}

/// Why the walk through one file ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Json(StreamError),
    Shape { byte: usize, what: String },
    Twice { space: String, other: String },
    Store(StoreError),
    Open(io::Error),
}

impl From<StreamError> for Stop {
    fn from(e: StreamError) -> Self {
        Stop::Json(e)
    }
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Self {
        Stop::Store(e)
    }
}

impl From<crate::kv::KvError> for Stop {
    fn from(e: crate::kv::KvError) -> Self {
        Stop::Store(e.into())
    }
}

impl Stop {
    /// The error of a check: nothing was written yet.
    pub(super) fn of_check(self, file: &str) -> TransferError {
        let file = file.to_owned();
        match self {
            Stop::Json(source) => TransferError::File { file, source },
            Stop::Shape { byte, what } => TransferError::Shape { file, byte, what },
            Stop::Twice { space, other } => TransferError::Twice { space, file, other },
            Stop::Open(source) => TransferError::Open { file, source },
            Stop::Store(e) => {
                TransferError::Broken { file, source: Box::new(e), left: Left::AsItWas }
            }
        }
    }

    /// The error of the pass that writes.
    pub(super) fn of_write(self, file: &str, left: Left) -> TransferError {
        let source: Box<dyn Error + Send + Sync> = match self {
            Stop::Json(e) => Box::new(e),
            Stop::Store(e) => Box::new(e),
            Stop::Open(e) => Box::new(e),
            Stop::Shape { byte, what } => format!("byte {byte}: {what}").into(),
            Stop::Twice { space, other } => format!("{other} holds {space} as well").into(),
        };
        TransferError::Broken { file: file.to_owned(), source, left }
    }
}
