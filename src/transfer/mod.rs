//! Import and export of the directories that LlamaIndex persists.
//!
//! [`Import`] reads such a directory into a store, [`export`] writes one that LlamaIndex loads.
//! Both stream: memory follows the largest record, not the files. Neither knows the file system:
//! [`Source`] and [`Target`] are directories, wherever they are; [`DirSource`] and [`DirTarget`]
//! those of the file system.
//!
//! # What is read and written
//!
//! ```text
//! file                        read as                                       written
//! docstore.json               document stores of all namespaces, other      always
//!                             collections as they are
//! index_store.json            index stores of all namespaces                always
//! graph_store.json            the graph store                               always
//! property_graph_store.json   the property graph store                      if it holds any
//! chat_store.json             the chat store                                if it holds any
//! {ns}__vector_store.json     the vector store of the namespace ns              always for
//!                                                                           default and image
//! vector_store.json           that of the namespace default                 no
//! llama_cache                 the collections of an ingestion cache         if there is one
//! `StorageContext.to_dict`    all of these                                  no
//! ```
//!
//! A vector store in half precision says so in its file under a key of its own, `siltstone`, that
//! LlamaIndex passes over: importing it gives a store in half precision.
//!
//! Files of other names are told by what they begin with, so that custom names need not be given.
//! JSON is Python's: `NaN`, integers of any size, lone surrogates, keys that come twice.
//!
//! # What is left out
//!
//! Nothing is in silence. [`ImportReport`] lists files that were not read, with the reason, and
//! keys, fields and rows that no store has a place for, which LlamaIndex does not read either;
//! [`ExportReport`] lists collections that LlamaIndex has no file for. Two files that would fill
//! the same store are an error, unless the name of one only says what it is: that one counts.
//!
//! # All or nothing
//!
//! [`Import::check`] walks through every file before anything is written: what is not whole, is no
//! JSON, or is not what LlamaIndex writes, is an error then, with its file and its place, and the
//! store is as it was. [`Import::write`] then writes batches of some megabytes. What can still fail
//! is a device, or a file that changes in between: [`Import::write_to_log`] rolls back to a durable
//! snapshot from before. A process that is killed meanwhile leaves a part, that snapshot, and a
//! record that says so: the next opening for writing goes back to the snapshot
//! ([`undo_cut_import`]), and openings for reading are refused until then, so that nobody takes the
//! part for the whole.

mod chat;
mod contents;
mod context;
mod dir;
mod error;
mod export;
mod files;
mod foreign;
mod given;
mod graph;
mod import;
mod keyvalue;
mod kinds;
mod load;
mod marker;
mod property_graph;
mod report;
mod space;
mod vectors;

#[cfg(feature = "cli")]
pub(crate) use dir::refuse_store;
pub use dir::{DirSource, DirTarget};
pub use error::{Left, TransferError};
pub(crate) use export::export_with;
pub use export::{ExportReport, ExportedFile, export};
pub use files::{FileEntry, FileNames, Source, Target};
pub(crate) use foreign::refuse_persisted;
pub(crate) use given::{Given, GivenStores};
pub use import::{Import, ImportOptions, SNAPSHOT_NAME};
pub use marker::{UndoneImport, undo_cut_import};
pub use report::{FileReport, Ignored, ImportReport, Listed, Problem};
