//! Which file is of which kind: by its name, else by what it begins with. Other names than these
//! can be given as [`FileNames`].
//!
//! ```text
//! name                        kind
//! docstore.json               key-value: {collection: {key: record}}
//! index_store.json            key-value, index structs only
//! llama_cache                 key-value
//! {ns}__vector_store.json     vector store of the namespace ns
//! vector_store.json           vector store of the default namespace (the name of old versions)
//! graph_store.json            graph store
//! property_graph_store.json   property graph store
//! chat_store.json             chat store
//! anything else               as its first key says; a vector store {ns}__{name} belongs to ns;
//!                             key-value if its first collection begins as an ingestion cache's
//! ```

use std::io::Read;

use super::files::FileNames;
use crate::kv::json::{JsonReader, Next, StreamError};
use crate::kv::{Text, Value};

/// The namespace of a vector store that was given none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// What stands between a namespace and the rest of a file name.
pub(super) const NAMESPACE_SEPARATOR: &str = "__";

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// `SimpleKVStore`: document stores, index stores, ingestion caches, and whatever else.
    KeyValue,
    /// `SimpleKVStore` of an index store.
    Structs,
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
    pub(super) fn of_name(name: &str, names: &FileNames) -> Option<FileKind> {
        FileKind::among(name, names).or_else(|| FileKind::among(name, &FileNames::default()))
    }

    fn among(name: &str, names: &FileNames) -> Option<FileKind> {
        let exact = [
            (&names.docstore, FileKind::KeyValue),
            (&names.index_store, FileKind::Structs),
            (&names.cache, FileKind::KeyValue),
            (&names.graph_store, FileKind::Graph),
            (&names.property_graph_store, FileKind::PropertyGraph),
            (&names.chat_store, FileKind::Chats),
            (&names.vector_store, FileKind::Vectors(DEFAULT_NAMESPACE.to_owned())),
        ];
        if let Some((_, kind)) = exact.into_iter().find(|(known, _)| *known == name) {
            return Some(kind);
        }
        let front = name.strip_suffix(names.vector_store.as_str())?;
        Some(FileKind::Vectors(front.strip_suffix(NAMESPACE_SEPARATOR)?.to_owned()))
    }

    /// The name that newer versions give to the file that old ones called `name`, if it is one.
    pub(super) fn newer_name(name: &str, names: &FileNames) -> Option<String> {
        let of = |fname| format!("{DEFAULT_NAMESPACE}{NAMESPACE_SEPARATOR}{fname}");
        let old = [&names.vector_store, &FileNames::default().vector_store];
        old.into_iter().find(|fname| *fname == name).map(of)
    }

    /// The names that were given to the file that is called `name` by default, if that is one and
    /// it was given any.
    pub(super) fn given_names(name: &str, names: &FileNames) -> Vec<String> {
        if FileKind::among(name, names).is_some() {
            return Vec::new();
        }
        let usual = FileNames::default();
        let exact = [
            (&usual.docstore, &names.docstore),
            (&usual.index_store, &names.index_store),
            (&usual.cache, &names.cache),
            (&usual.graph_store, &names.graph_store),
            (&usual.property_graph_store, &names.property_graph_store),
            (&usual.chat_store, &names.chat_store),
        ];
        if let Some((_, given)) = exact.into_iter().find(|(usual, _)| *usual == name) {
            return vec![given.clone()];
        }
        let given = &names.vector_store;
        match FileKind::among(name, &usual) {
            Some(FileKind::Vectors(namespace)) => {
                let mut all = vec![format!("{namespace}{NAMESPACE_SEPARATOR}{given}")];
                all.extend((namespace == DEFAULT_NAMESPACE).then(|| given.clone()));
                all
            }
            _ => Vec::new(),
        }
    }

    /// The kind that the first key of a document stands for.
    ///
    /// # Errors
    ///
    /// Why it is no document that LlamaIndex writes.
    pub(super) fn of_content(name: &str, content: impl Read) -> Result<FileKind, &'static str> {
        const NO_KEY: &str = "its name is none of LlamaIndex's, and its first key cannot be read";
        let mut json = JsonReader::new(content);
        if !matches!(json.peek(), Ok(Next::Map)) {
            return Err("it is no JSON dictionary");
        }
        json.enter().map_err(|_| NO_KEY)?;
        let Some(first) = json.key().map_err(|_| NO_KEY)? else {
            return Err("its name is none of LlamaIndex's, and the dictionary in it is empty");
        };
        let known = FileKind::of_first_key(name, first.as_str().unwrap_or_default());
        let cache = || begins_as_cache(&mut json).then_some(FileKind::KeyValue);
        known.or_else(cache).ok_or("it begins with no key of LlamaIndex's")
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

    /// How it is called in reports.
    pub(super) fn name(&self) -> &'static str {
        match self {
            FileKind::KeyValue | FileKind::Structs => "key-value store",
            FileKind::Vectors(_) => "vector store",
            FileKind::Graph => "graph store",
            FileKind::PropertyGraph => "property graph store",
            FileKind::Chats => "chat store",
            FileKind::Context => "storage context",
        }
    }
}

/// True if the collection that comes next begins as that of an ingestion cache: `{key: {"nodes":
/// [node, ..]}}`. Its name says nothing, since caches may have any.
fn begins_as_cache(json: &mut JsonReader<impl Read>) -> bool {
    let mut first_node = || -> Result<Option<Value>, StreamError> {
        if !json.enter()? || json.key()?.is_none() || !json.enter()? {
            return Ok(None);
        }
        let is_entry = json.key()?.is_some_and(|key| key == "nodes");
        if !is_entry || json.peek()? != Next::List || !json.enter()? || !json.item()? {
            return Ok(None);
        }
        json.value().map(Some)
    };
    let is_node = |node: &Value| node.get("__data__").is_some() && node.get("__type__").is_some();
    first_node().is_ok_and(|node| node.as_ref().is_some_and(is_node))
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

/// What the names of the collections of queue-shaped chat stores begin with.
pub(super) const QUEUES: &str = "chat_queue/";

/// True for collections in which stores keep what LlamaIndex has no place for.
pub(super) fn is_internal(collection: &str) -> bool {
    let of_stores = [
        "storage_context/",
        "graph_store/",
        "property_graph_store/",
        "vector_store/",
        "chat_store/",
        QUEUES,
    ];
    let parts_of_records = ["/ref_doc_info.nodes", "/data.members"];
    parts_of_records.iter().any(|end| collection.ends_with(end))
        || of_stores.iter().any(|prefix| collection.starts_with(prefix))
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
            assert_eq!(FileKind::of_name(name, &FileNames::default()), kind, "{name}");
        }
        let mut names = FileNames::default();
        (names.docstore, names.vector_store) = ("d.json".into(), "v.json".into());
        for (name, kind) in [
            ("d.json", Some(FileKind::KeyValue)),
            ("docstore.json", Some(FileKind::KeyValue)),
            ("a__v.json", vectors("a")),
            ("v.json", vectors("default")),
            ("w.json", None),
        ] {
            assert_eq!(FileKind::of_name(name, &names), kind, "{name}");
        }
    }

    #[test]
    fn else_the_first_key_does() {
        let key_value = || Some(FileKind::KeyValue);
        for (name, text, kind) in [
            ("d.json", r#"{"docstore/ref_doc_info": {"#, Some(FileKind::KeyValue)),
            ("title__v.json", r#"{"embedding_dict"#, None),
            ("title__v.json", r#"{"embedding_dict": "#, Some(FileKind::Vectors("title".into()))),
            ("g.json", r#" {"graph_dict" : {}}"#, Some(FileKind::Graph)),
            ("x.json", r#"{"doc_store": 1}"#, Some(FileKind::Context)),
            ("package.json", r#"{"name": 1}"#, None),
            ("c", r#"{"mine": {"k": {"nodes": [{"__data__": {}, "__type__": "1"}, "#, key_value()),
            ("c", r#"{"mine": {"k": {"nodes": [{"__data__": {}}]}}}"#, None),
            ("c", r#"{"mine": {"k": {"nodes": {"__data__": {}, "__type__": "1"}}}}"#, None),
            ("c", r#"{"mine": {"k": {"edges": [{"__data__": {}, "__type__": "1"}]}}}"#, None),
            ("c", r#"{"mine": [{"k": {"nodes": [{"__data__": {}, "__type__": "1"}]}}]}"#, None),
            ("list.json", "[]", None),
            ("empty.json", "", None),
        ] {
            let found = FileKind::of_content(name, text.as_bytes());
            assert_eq!(found.ok(), kind, "{name} {text}");
        }
    }
}
