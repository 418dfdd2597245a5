//! LlamaIndex's stores over a [`KvStore`](crate::kv::KvStore).

mod document;
mod error;

pub use document::{
    AddOptions, DocumentBatch, DocumentStore, DocumentStoreOptions, Missing, RefDocInfo,
};
pub use error::StoreError;
