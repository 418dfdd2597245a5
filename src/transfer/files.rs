//! [`Source`] and [`Target`]: the directories that are read and written, wherever they are; and
//! [`FileNames`], which says what their files are called.

use std::io::{self, Read, Write};

use super::error::TransferError;
use super::kinds::NAMESPACE_SEPARATOR;
use super::report::Ignored;

/// A file of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// A directory that LlamaIndex persisted into. Files are read from front to back, several times.
pub trait Source {
    /// The files, in any order. What lies in directories below is left out.
    ///
    /// # Errors
    ///
    /// Why the directory cannot be read.
    fn files(&self) -> io::Result<Vec<FileEntry>>;

    /// Opens a file at its start. Several may be open at a time, the same one too.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>>;

    /// What lies in the directory and is no file that could be imported, for the report.
    ///
    /// # Errors
    ///
    /// Why the directory cannot be read.
    fn others(&self) -> io::Result<Vec<Ignored>> {
        Ok(Vec::new())
    }
}

/// A directory that LlamaIndex will load from.
pub trait Target {
    /// Makes a file, which need not be seen before [`Target::commit`]. It is dropped before the
    /// next one is made.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Write + '_>>;

    /// Why no file can be called `name`, if none can: the export goes on without it, and says so.
    fn refuses(&self, _name: &str) -> Option<&'static str> {
        None
    }

    /// Called after the last file was written, before [`Target::commit`], which is to remove the
    /// files that are there from before, were not made anew, and have a name of which `is_known`
    /// is true: LlamaIndex would load them together with the new ones. Returns their names.
    ///
    /// # Errors
    ///
    /// Why they cannot be listed.
    fn replace(&mut self, _is_known: &dyn Fn(&str) -> bool) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Called once, after the last file was written whole: makes all of them seen, and durable.
    ///
    /// # Errors
    ///
    /// Why that cannot be done.
    fn commit(&mut self) -> io::Result<()>;
}

/// What files are called. The defaults are those of LlamaIndex.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileNames {
    /// Default: `docstore.json`.
    pub docstore: String,
    /// Default: `index_store.json`.
    pub index_store: String,
    /// Default: `graph_store.json`.
    pub graph_store: String,
    /// Default: `property_graph_store.json`.
    pub property_graph_store: String,
    /// What follows a namespace and `__`. Default: `vector_store.json`.
    pub vector_store: String,
    /// Default: `chat_store.json`.
    pub chat_store: String,
    /// The ingestion cache. Default: `llama_cache`.
    pub cache: String,
}

impl Default for FileNames {
    fn default() -> Self {
        FileNames {
            docstore: "docstore.json".into(),
            index_store: "index_store.json".into(),
            graph_store: "graph_store.json".into(),
            property_graph_store: "property_graph_store.json".into(),
            vector_store: "vector_store.json".into(),
            chat_store: "chat_store.json".into(),
            cache: "llama_cache".into(),
        }
    }
}

impl FileNames {
    /// Checks that each kind of file has a name of its own: of two with one name, only one would be
    /// written, or read. [`export`](super::export()) and [`Import::check`](super::Import::check) do
    /// so first.
    ///
    /// ```
    /// use siltstone::transfer::FileNames;
    ///
    /// let mut names = FileNames::default();
    /// names.check()?;
    /// names.docstore = "chat_store.json".into();
    /// assert_eq!(
    ///     names.check().unwrap_err().to_string(),
    ///     "chat_store.json is the name of both the document store and the chat store; nothing \
    ///      was written"
    /// );
    /// # Ok::<(), siltstone::transfer::TransferError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TransferError::SameName`].
    pub fn check(&self) -> Result<(), TransferError> {
        let all = [
            (&self.docstore, "the document store"),
            (&self.index_store, "the index store"),
            (&self.graph_store, "the graph store"),
            (&self.property_graph_store, "the property graph store"),
            (&self.chat_store, "the chat store"),
            (&self.cache, "the ingestion cache"),
        ];
        for (place, (name, what)) in all.iter().enumerate() {
            let same = all.iter().skip(place + 1).find(|(other, _)| other == name);
            let other = same.map(|(_, other)| (*other).to_owned());
            if let Some(other) = other.or_else(|| self.vectors_in(name)) {
                let (name, one) = ((*name).clone(), (*what).to_owned());
                return Err(TransferError::SameName { name, one, other });
            }
        }
        Ok(())
    }

    /// The vector stores whose file is called `name`, if any is.
    fn vectors_in(&self, name: &str) -> Option<String> {
        // Old versions call the file of the default namespace so.
        if name == self.vector_store {
            return Some("the vector stores".to_owned());
        }
        let namespace = name.strip_suffix(&self.vector_store)?.strip_suffix(NAMESPACE_SEPARATOR)?;
        Some(format!("the vector store \"{namespace}\""))
    }
}
