//! Which file is of which kind: by its name, else by what it begins with.
//!
//! ```text
//! name                        kind
//! docstore.json               key-value: {collection: {key: record}}
//! index_store.json            key-value
//! llama_cache                 key-value
//! {ns}__vector_store.json     vector store of the namespace ns
//! vector_store.json           vector store of the default namespace (the name of old versions)
//! graph_store.json            graph store
//! property_graph_store.json   property graph store
//! chat_store.json             chat store
//! anything else               as its first key says; a vector store {ns}__{name} belongs to ns
//! ```

use std::io::Read;

use crate::kv::Text;
use crate::kv::json::{JsonReader, Next};

/// The namespace of a vector store that was given none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// The end of a vector store's file name.
pub(super) const VECTOR_STORE_FILE: &str = "vector_store.json";
/// What stands between a namespace and the rest of a file name.
pub(super) const NAMESPACE_SEPARATOR: &str = "__";

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// `SimpleKVStore`: document stores, index stores, ingestion caches, and whatever else.
    KeyValue,
    /// `SimpleVectorStore`, of this namespace.
    Vectors(String),
    /// `SimpleGraphStore`.
    Graph,
    /// `SimplePropertyGraphStore`.
    PropertyGraph,
    /// `SimpleChatStore`.
    Chats,
    /// `StorageContext.to_dict`.
    Context,
}

impl FileKind {
    /// The kind that a name stands for.
    pub(super) fn of_name(name: &str) -> Option<FileKind> {
        Some(match name {
            "docstore.json" | "index_store.json" | "llama_cache" => FileKind::KeyValue,
            "graph_store.json" => FileKind::Graph,
            "property_graph_store.json" => FileKind::PropertyGraph,
            "chat_store.json" => FileKind::Chats,
            VECTOR_STORE_FILE => FileKind::Vectors(DEFAULT_NAMESPACE.to_owned()),
            _ => {
                let front = name.strip_suffix(VECTOR_STORE_FILE)?;
                FileKind::Vectors(front.strip_suffix(NAMESPACE_SEPARATOR)?.to_owned())
            }
        })
    }

    /// The kind that the first key of a document stands for; `None` if it is no document that
    /// LlamaIndex writes, or none at all.
    pub(super) fn of_content(name: &str, content: impl Read) -> Option<FileKind> {
        let mut json = JsonReader::new(content);
        if json.peek().ok()? != Next::Map {
            return None;
        }
        json.enter().ok()?;
        let first = json.key().ok()??;
        FileKind::of_first_key(name, first.as_str()?)
    }

    fn of_first_key(name: &str, first: &str) -> Option<FileKind> {
        Some(match first {
            "embedding_dict" | "text_id_to_ref_doc_id" | "metadata_dict" => {
                let namespace = name.rsplit_once(NAMESPACE_SEPARATOR).map(|(front, _)| front);
                FileKind::Vectors(namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned())
            }
            "graph_dict" => FileKind::Graph,
            "nodes" | "relations" | "triplets" => FileKind::PropertyGraph,
            "store" => FileKind::Chats,
            "vector_store"
            | "doc_store"
            | "index_store"
            | "graph_store"
            | "property_graph_store" => FileKind::Context,
            "llama_cache" => FileKind::KeyValue,
            _ if Records::of(&first.into()) != Records::Other => FileKind::KeyValue,
            _ => return None,
        })
    }

    /// True if its store is here.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, FileKind::Chats)
    }

    /// How it is called in reports.
    pub(super) fn name(&self) -> &'static str {
        match self {
            FileKind::KeyValue => "key-value store",
            FileKind::Vectors(_) => "vector store",
            FileKind::Graph => "graph store",
            FileKind::PropertyGraph => "property graph store",
            FileKind::Chats => "chat store",
            FileKind::Context => "storage context",
        }
    }
}

/// What a collection of a key-value file holds, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// Nodes of the document store of this namespace, or its index structs: the records tell.
    Data(String),
    /// The hashes of that document store.
    Metadata(String),
    /// The ref docs of that document store.
    RefDocs(String),
    /// Anything else, which is kept as it is.
    Other,
}

impl Records {
    pub(super) fn of(collection: &Text) -> Records {
        let Some((namespace, suffix)) = collection.as_str().and_then(|n| n.rsplit_once('/')) else {
            return Records::Other;
        };
        // A store without a namespace has the default one: nothing is named so.
        match suffix {
            _ if namespace.is_empty() => Records::Other,
            "data" => Records::Data(namespace.to_owned()),
            "metadata" => Records::Metadata(namespace.to_owned()),
            "ref_doc_info" => Records::RefDocs(namespace.to_owned()),
            _ => Records::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let vectors = |ns: &str| Some(FileKind::Vectors(ns.to_owned()));
        for (name, kind) in [
            ("docstore.json", Some(FileKind::KeyValue)),
            ("default__vector_store.json", vectors("default")),
            ("a__b__vector_store.json", vectors("a__b")),
            ("__vector_store.json", vectors("")),
            ("vector_store.json", vectors("default")),
            ("my_vector_store.json", None),
            ("chat_store.json", Some(FileKind::Chats)),
            ("d.json", None),
        ] {
            assert_eq!(FileKind::of_name(name), kind, "{name}");
        }
    }

    #[test]
    fn else_the_first_key_does() {
        for (name, text, kind) in [
            ("d.json", r#"{"docstore/ref_doc_info": {"#, Some(FileKind::KeyValue)),
            ("title__v.json", r#"{"embedding_dict"#, None),
            ("title__v.json", r#"{"embedding_dict": "#, Some(FileKind::Vectors("title".into()))),
            ("g.json", r#" {"graph_dict" : {}}"#, Some(FileKind::Graph)),
            ("x.json", r#"{"doc_store": 1}"#, Some(FileKind::Context)),
            ("package.json", r#"{"name": 1}"#, None),
            ("list.json", "[]", None),
            ("empty.json", "", None),
        ] {
            assert_eq!(FileKind::of_content(name, text.as_bytes()), kind, "{name} {text}");
        }
    }
}
