//! What an ingestion pipeline needs of the stores (LlamaIndex `ingestion/`): a cache of what its
//! steps made, and the run itself, which leaves out what is stored already.
//!
//! # What is kept
//!
//! ```text
//! collection   key                                  value
//! llama_cache  sha256 of the nodes and of the step  {nodes: [stored node, ..] [, #input]}
//! ```
//!
//! Those are LlamaIndex's own records under its own keys, so that a cache that was imported is hit.
//! `#input` tells apart what has the same key, see `cache.rs`.
//! Documents and vectors are in their stores; which documents of a run are to be written is judged
//! in `stores/strategy.rs`.
//!
//! # Atomicity
//!
//! What a step made is in the cache at once, in a batch of its own: a run that fails later need not
//! pay for it again. All else that a run changes is one batch at its end, if the documents and the
//! vectors are in one key-value store. So a run that fails, or a power cut in it, records nothing,
//! and deletes nothing of what it was to replace.

mod cache;
mod pipeline;

pub use cache::{DEFAULT_CACHE_COLLECTION, IngestionCache};
pub use pipeline::{IngestionOptions, IngestionPipeline, Transformation};

#[cfg(test)]
mod tests;
