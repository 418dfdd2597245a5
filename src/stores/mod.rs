//! LlamaIndex's stores over a [`KvStore`](crate::kv::KvStore).

mod chat;
mod directory;
mod document;
mod error;
mod graph;
mod index;
mod ingestion;
mod list;
mod property_graph;
mod registry;
mod strategy;
#[cfg(test)]
pub(crate) mod test_kv;
mod vector;
mod writer;

pub use chat::{ChatQueue, ChatRow, ChatStore, MessageStatus};
pub use document::{
    AddOptions, DocumentBatch, DocumentStore, DocumentStoreOptions, Missing, RefDocInfo,
};
pub use error::StoreError;
pub use graph::{GraphStore, REL_MAP_LEN_MAX, TextTriplet};
pub(crate) use index::MEMBERS;
pub use index::{
    IndexStore, IndexStoreOptions, IndexStruct, StoredStruct, StructKind, StructMethods,
};
pub use ingestion::{
    DEFAULT_CACHE_COLLECTION, IngestionCache, IngestionOptions, IngestionPipeline, Transformation,
};
pub(crate) use list::OWNER_LEN_MAX;
pub use property_graph::{
    GraphFilter, GraphSchema, LabelSchema, PropertyGraphImport, PropertyGraphStore, PropertyKind,
    TRIPLETS_LEN_MAX, Triplet,
};
pub(crate) use registry::{Registry, has_property_graph};
pub use strategy::{Deduplicator, DocstoreStrategy, Judged, Round, Verdict};
pub use vector::{
    DEFAULT_VECTOR_STORE, FILTER_DEPTH_MAX, Filter, FilterCondition, FilterOperator,
    IMAGE_VECTOR_STORE, MetadataFilter, MetadataFilters, QueryMode, VectorEntry, VectorQuery,
    VectorQueryResult, VectorStore,
};
pub(crate) use writer::Writer;
