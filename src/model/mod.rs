//! LlamaIndex's nodes, typed: what a document store keeps.
//!
//! A [`Node`] goes to and from the *stored form*, the dictionary `{"__data__": .., "__type__": ..}`
//! that LlamaIndex writes (`storage/docstore/utils.py`), so that either side reads what the other
//! wrote; the reader also knows the old form with `doc_id` and `extra_info`. [`Node::hash`] is the
//! content hash that LlamaIndex computes, Python's `repr` of the metadata included.
//!
//! Kept better than there: the raw bytes of a [`MediaResource`] are part of the stored form, as
//! base64 under `data`, which LlamaIndex's own reader accepts; and whatever an index node points
//! to comes back as it was written.

mod chat;
mod content;
mod error;
mod fields;
mod graph;
mod hash;
mod integer;
mod media;
mod metadata_dict;
mod node;
mod printable;
mod python;
mod stored;

pub use chat::{BlockKind, ChatMessage, ContentBlock, MessageRole};
pub use error::ModelError;
pub use graph::{LabelledContent, LabelledNode, Relation};
pub(crate) use hash::sha256;
pub use integer::Integer;
pub use media::{MediaData, MediaEmbeddings, MediaResource};
pub use metadata_dict::KeptContent;
pub use node::{
    Content, ImageContent, IndexTarget, Node, NodeKind, Related, RelatedNode, Relationship,
    Resources, TextContent,
};
pub(crate) use python::to_str;

#[cfg(test)]
mod tests;
