//! LlamaIndex's stores over a [`KvStore`](crate::kv::KvStore).

mod document;
mod error;
mod graph;
#[allow(dead_code, reason = "the stores that use it come next")]
mod list;
mod strategy;
mod writer;

pub use document::{
    AddOptions, DocumentBatch, DocumentStore, DocumentStoreOptions, Missing, RefDocInfo,
};
pub use error::StoreError;
pub use graph::{GraphStore, REL_MAP_LEN_MAX, TextTriplet};
pub use strategy::{Deduplicator, DocstoreStrategy, Judged, Round, Verdict};
pub(crate) use writer::Writer;
