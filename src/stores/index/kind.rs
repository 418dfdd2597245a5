//! Which index structs there are, and of what fields they consist.

use crate::kv::{Map, Text, Value};
use crate::stores::list::OWNER_LEN_MAX;

/// Longest text of a struct that becomes a part of a stored key, in bytes: before it stand the
/// struct's serial number, of 20 digits at most, a letter and a mark.
const TEXT_LEN_MAX: usize = OWNER_LEN_MAX - 22;

/// What kind of index a struct belongs to; LlamaIndex's `IndexStructType`, as far as there is a
/// class for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StructKind {
    /// `IndexGraph`, of a tree index.
    Tree,
    /// `IndexList`, of a list (summary) index.
    List,
    /// `KeywordTable`, of a keyword table index.
    KeywordTable,
    /// `IndexDict`, of a vector store index.
    VectorStore,
    /// `MultiModelIndexDict`, of a multi-modal vector store index.
    Multimodal,
    /// `KG`, of a knowledge graph index.
    Kg,
    /// `IndexLPG`, of a property graph index: it has no members.
    SimpleLpg,
    /// `EmptyIndexStruct`: it has no members.
    Empty,
    /// `IndexDocumentSummary`, of a document summary index.
    DocumentSummary,
    /// `SQLStructTable`, of an index over tables.
    Sql,
    /// `PandasStructTable`: it has no members.
    Pandas,
}

use StructKind as Kind;

impl StructKind {
    /// Every kind.
    pub const ALL: [StructKind; 11] = [
        Kind::Tree,
        Kind::List,
        Kind::KeywordTable,
        Kind::VectorStore,
        Kind::Multimodal,
        Kind::Kg,
        Kind::SimpleLpg,
        Kind::Empty,
        Kind::DocumentSummary,
        Kind::Sql,
        Kind::Pandas,
    ];

    /// The name in stored records (`__type__`).
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Tree => "tree",
            Kind::List => "list",
            Kind::KeywordTable => "keyword_table",
            Kind::VectorStore => "vector_store",
            Kind::Multimodal => "multimodal",
            Kind::Kg => "kg",
            Kind::SimpleLpg => "simple_lpg",
            Kind::Empty => "empty",
            Kind::DocumentSummary => "document_summary",
            Kind::Sql => "sql",
            Kind::Pandas => "pandas",
        }
    }

    /// The kind of that name, if there is a class for it.
    pub fn from_name(name: &str) -> Option<StructKind> {
        StructKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The class of index that LlamaIndex makes of such a struct.
    pub const fn index_class(self) -> &'static str {
        match self {
            Kind::Tree => "TreeIndex",
            Kind::List => "SummaryIndex",
            Kind::KeywordTable => "KeywordTableIndex",
            Kind::VectorStore => "VectorStoreIndex",
            Kind::Multimodal => "MultiModalVectorStoreIndex",
            Kind::Kg => "KnowledgeGraphIndex",
            Kind::SimpleLpg => "PropertyGraphIndex",
            Kind::Empty => "EmptyIndex",
            Kind::DocumentSummary => "DocumentSummaryIndex",
            Kind::Sql => "SQLStructStoreIndex",
            Kind::Pandas => "PandasIndex",
        }
    }

    /// Its fields, in LlamaIndex's order.
    pub(super) const fn fields(self) -> &'static [Field] {
        match self {
            Kind::Tree => &[Field::AllNodes, Field::RootNodes, Field::Children],
            Kind::List => &[Field::Nodes],
            Kind::KeywordTable => &[Field::Table],
            Kind::VectorStore | Kind::Multimodal => {
                &[Field::NodesDict, Field::DocIds, Field::Embeddings]
            }
            Kind::Kg => &[Field::Table, Field::RelMap, Field::Embedding],
            Kind::DocumentSummary => &[Field::SummaryNodes, Field::NodeSummary, Field::DocSummary],
            Kind::Sql => &[Field::Context],
            Kind::SimpleLpg | Kind::Empty | Kind::Pandas => &[],
        }
    }
}

/// A field of an index struct, besides its id and its summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Tree: number of a node to its id.
    AllNodes,
    /// Tree: the same, of the roots.
    RootNodes,
    /// Tree: id of a node to those of its children.
    Children,
    /// List: ids of nodes.
    Nodes,
    /// Vector stores: id in the vector store to id of the node.
    NodesDict,
    /// Vector stores: not used any more.
    DocIds,
    /// Vector stores: not used any more.
    Embeddings,
    /// Keyword table, knowledge graph: keyword to ids of nodes.
    Table,
    /// Knowledge graph: not used any more.
    RelMap,
    /// Knowledge graph: triplet as text to its embedding.
    Embedding,
    /// Document summary: id of a summary to ids of nodes.
    SummaryNodes,
    /// Document summary: id of a node to that of its summary.
    NodeSummary,
    /// Document summary: id of a document to that of its summary.
    DocSummary,
    /// Tables: name of a table to its description.
    Context,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A list of texts, without keys: the empty key stands for it.
    List,
    /// Keys with a text each.
    Texts,
    /// Keys with a list of texts each.
    Lists,
    /// Keys with a set of texts each.
    Sets,
    /// Keys with anything.
    Values,
}

impl Field {
    /// LlamaIndex's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Field::AllNodes => "all_nodes",
            Field::RootNodes => "root_nodes",
            Field::Children => "node_id_to_children_ids",
            Field::Nodes => "nodes",
            Field::NodesDict => "nodes_dict",
            Field::DocIds => "doc_id_dict",
            Field::Embeddings => "embeddings_dict",
            Field::Table => "table",
            Field::RelMap => "rel_map",
            Field::Embedding => "embedding_dict",
            Field::SummaryNodes => "summary_id_to_node_ids",
            Field::NodeSummary => "node_id_to_summary_id",
            Field::DocSummary => "doc_id_to_summary_id",
            Field::Context => "context_dict",
        }
    }

    /// What it is called in the keys of records. Part of the stored form.
    pub(super) const fn letter(self) -> char {
        match self {
            Field::AllNodes => 'a',
            Field::RootNodes => 'r',
            Field::Children => 'c',
            Field::Nodes => 'n',
            Field::NodesDict => 'v',
            Field::DocIds => 'd',
            Field::Embeddings => 'e',
            Field::Table => 't',
            Field::RelMap => 'l',
            Field::Embedding => 'k',
            Field::SummaryNodes => 's',
            Field::NodeSummary => 'm',
            Field::DocSummary => 'o',
            Field::Context => 'x',
        }
    }

    pub(super) const fn shape(self) -> Shape {
        match self {
            Field::Nodes => Shape::List,
            Field::AllNodes
            | Field::RootNodes
            | Field::NodesDict
            | Field::NodeSummary
            | Field::DocSummary
            | Field::Context => Shape::Texts,
            Field::Children | Field::SummaryNodes => Shape::Lists,
            Field::Table => Shape::Sets,
            Field::DocIds | Field::Embeddings | Field::RelMap | Field::Embedding => Shape::Values,
        }
    }

    /// Whether keys are integers, which JSON writes as texts.
    pub(super) const fn has_int_keys(self) -> bool {
        matches!(self, Field::AllNodes | Field::RootNodes)
    }

    /// Whether it is asked where a text of it stands, so that this is kept too.
    pub(super) const fn is_reversed(self) -> bool {
        matches!(self, Field::AllNodes | Field::Nodes | Field::Table | Field::SummaryNodes)
    }

    /// Whether, of a reversed field, it is asked under which keys a text of it stands. A text is
    /// once at most under a key of such a field.
    pub(super) const fn lists_keys(self) -> bool {
        matches!(self, Field::AllNodes | Field::Table)
    }

    /// Checks and normalises what LlamaIndex wrote; `None` is a field that is not there.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn read(self, found: Option<&Value>) -> Result<Value, &'static str> {
        let found = match found {
            None | Some(Value::Null) if self.shape() == Shape::List => {
                return Ok(Value::List(Vec::new()));
            }
            None | Some(Value::Null) => return Ok(Map::new().into()),
            Some(found) => found,
        };
        if self.shape() == Shape::List {
            return texts(found).map(Value::List);
        }
        let map = found.as_map().ok_or("is no dictionary")?;
        let mut read = Map::with_capacity(map.len());
        for (key, value) in map.iter() {
            let value = match self.shape() {
                Shape::Texts if value.as_text().is_none() => {
                    return Err("has a value that is no text");
                }
                Shape::Lists => texts(value)?.into(),
                Shape::Sets => set(texts(value)?).into(),
                _ => value.clone(),
            };
            read.insert(if self.has_int_keys() { int_key(key)? } else { key.clone() }, value);
        }
        Ok(read.into())
    }

    /// What is too long to be stored, if something is: a key, or a text whose keys are listed.
    pub(super) fn too_long(self, found: &Value) -> Option<String> {
        let map = found.as_map()?;
        let values = map.iter().map(|(_, value)| value).filter(|_| self.lists_keys());
        let texts = values.flat_map(|value| value.as_list().unwrap_or(std::slice::from_ref(value)));
        let mut all = map.keys().chain(texts.filter_map(Value::as_text));
        let len = all.find(|text| text.len() > TEXT_LEN_MAX)?.len();
        Some(format!("has an entry that is {len} bytes long, more than {TEXT_LEN_MAX}"))
    }

    /// What keeps LlamaIndex from reading what is there. It makes texts of other values, takes the
    /// keys of a dictionary for a list, and null for anything.
    pub(super) fn fault(self, found: &Value) -> Option<&'static str> {
        if *found == Value::Null {
            return None;
        }
        if self.shape() == Shape::List {
            return (!is_collection(found)).then_some("is no list");
        }
        let Some(map) = found.as_map() else { return Some("is no dictionary") };
        if self.shape() != Shape::Texts && map.iter().any(|(_, value)| !is_collection(value)) {
            return Some("has a value that is no list");
        }
        // Python takes more for an integer than is read here, but nothing with such a letter.
        let is_wrong = |key: &Text| key.as_bytes().iter().any(u8::is_ascii_alphabetic);
        let has_wrong_key = self.has_int_keys() && map.keys().any(is_wrong);
        has_wrong_key.then_some("has a key that is no integer")
    }
}

/// True for what Python can walk through, and for null.
fn is_collection(value: &Value) -> bool {
    matches!(value, Value::Null | Value::List(_) | Value::Map(_) | Value::Text(_))
}

/// The texts of a list.
fn texts(value: &Value) -> Result<Vec<Value>, &'static str> {
    let list = value.as_list().ok_or("has a value that is no list")?;
    match list.iter().all(|item| item.as_text().is_some()) {
        true => Ok(list.to_vec()),
        false => Err("has a list with something that is no text"),
    }
}

/// Python's sets have no order; ours are sorted, so that the same set is always written alike.
pub(super) fn set(mut texts: Vec<Value>) -> Vec<Value> {
    texts.sort_by(|a, b| a.as_text().cmp(&b.as_text()));
    texts.dedup();
    texts
}

/// Python's `int(key)` as text.
fn int_key(key: &Text) -> Result<Text, &'static str> {
    let digits = key.as_str().map(str::trim).ok_or("has a key that is no integer")?;
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    match Value::integer(digits) {
        Some(Value::Int(int)) => Ok(int.to_string().into()),
        Some(Value::BigInt(int)) => Ok(int.as_decimal().into()),
        _ => Err("has a key that is no integer"),
    }
}
