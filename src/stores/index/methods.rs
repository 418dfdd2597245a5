//! [`StructMethods`]: what LlamaIndex's classes do, on a struct in memory and on a stored one.

use std::collections::BTreeSet;

use super::kind::{Field, StructKind};
use super::structure::lacks;
use crate::kv::{Map, Text, Value};
use crate::stores::StoreError;

/// Access to the parts of an index struct, wherever it is. Sealed: it has no path outside.
pub trait Members {
    /// Which fields there are.
    fn struct_kind(&self) -> StructKind;

    /// What the index is about.
    fn struct_summary(&self) -> Option<&Text>;

    /// How many keys (or list items) a field has.
    fn count(&self, field: Field) -> Result<u64, StoreError>;

    /// What stands under a key.
    fn entry(&self, field: Field, key: &Text) -> Result<Option<Value>, StoreError>;

    /// How long the list or set under a key is; 0 if there is none.
    fn entry_len(&self, field: Field, key: &Text) -> Result<u64, StoreError>;

    /// The keys of a field in the order of insertion.
    fn keys(&self, field: Field) -> Result<Vec<Text>, StoreError>;

    /// The keys of a reversed field whose value is or holds `item`.
    fn keys_with(&self, field: Field, item: &Text) -> Result<Vec<Text>, StoreError>;

    /// Sets what stands under a key; a new key comes last.
    fn set(&mut self, field: Field, key: &Text, value: Value) -> Result<(), StoreError>;

    /// Removes a key.
    fn remove(&mut self, field: Field, key: &Text) -> Result<Option<Value>, StoreError>;

    /// Adds to the list or set under a key, which is made if it is not there.
    fn append(&mut self, field: Field, key: &Text, item: &Text) -> Result<(), StoreError>;

    /// Removes the first `item` from the list or set under a key of a reversed field.
    fn remove_item(&mut self, field: Field, key: &Text, item: &Text) -> Result<bool, StoreError>;
}

/// The methods of LlamaIndex's index structs, which take ids where those take nodes.
///
/// Each works on the kinds it names; on others it fails with [`StoreError::InvalidArgument`].
/// For [`IndexStruct`](super::IndexStruct) and [`StoredStruct`](super::StoredStruct).
pub trait StructMethods: Members {
    /// What the index is about.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if that was not set.
    fn get_summary(&self) -> Result<Text, StoreError> {
        self.struct_summary().cloned().ok_or_else(|| {
            StoreError::InvalidArgument("summary field of the index_struct not set.".to_owned())
        })
    }

    /// How many nodes (tree, list, vector stores), keywords (keyword table, knowledge graph),
    /// summaries (document summary) or tables there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] or [`StoreError::Corrupt`] if it cannot be read.
    fn size(&self) -> Result<u64, StoreError> {
        match self.struct_kind().fields().first() {
            Some(field) => self.count(*field),
            None => Ok(0),
        }
    }

    /// List: adds a node at the end. Vector stores: as [`StructMethods::add_vector`] with the
    /// node's own id. Property graph: nothing, as in LlamaIndex.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn add_node(&mut self, node_id: impl Into<Text>) -> Result<(), StoreError> {
        let node_id = node_id.into();
        match self.struct_kind() {
            StructKind::SimpleLpg => Ok(()),
            StructKind::VectorStore | StructKind::Multimodal => {
                self.add_vector(node_id.clone(), node_id)
            }
            _ => self.append(Field::Nodes, &Text::default(), &node_id),
        }
    }

    /// Vector stores: says which node a vector belongs to (`add_node` with a `text_id`).
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn add_vector(
        &mut self,
        vector_id: impl Into<Text>,
        node_id: impl Into<Text>,
    ) -> Result<(), StoreError> {
        self.set(Field::NodesDict, &vector_id.into(), node_id.into().into())
    }

    /// Vector stores: the node that a vector belongs to.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn node_of_vector(&self, vector_id: impl Into<Text>) -> Result<Option<Text>, StoreError> {
        let node = self.entry(Field::NodesDict, &vector_id.into())?;
        Ok(node.and_then(|node| node.as_text().cloned()))
    }

    /// Keyword table, knowledge graph: enters a node under each keyword.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn add_keywords(
        &mut self,
        keywords: &[Text],
        node_id: impl Into<Text>,
    ) -> Result<(), StoreError> {
        let node_id = node_id.into();
        if keywords.is_empty() {
            return self.count(Field::Table).map(drop);
        }
        keywords.iter().try_for_each(|keyword| self.append(Field::Table, keyword, &node_id))
    }

    /// Keyword table, knowledge graph: the nodes under a keyword.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn search_node_by_keyword(&self, keyword: impl Into<Text>) -> Result<Vec<Text>, StoreError> {
        Ok(self.entry(Field::Table, &keyword.into())?.as_ref().map(texts).unwrap_or_default())
    }

    /// Keyword table, knowledge graph: the keywords.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn keywords(&self) -> Result<BTreeSet<Text>, StoreError> {
        Ok(self.keys(Field::Table)?.into_iter().collect())
    }

    /// Keyword table, knowledge graph: the nodes under any keyword. List and vector stores: the
    /// nodes in their order without repeats being left out. Tree: the nodes in their order.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds, and, as in LlamaIndex, for a table without
    /// keywords.
    fn node_ids(&self) -> Result<Vec<Text>, StoreError> {
        let field = match self.struct_kind() {
            StructKind::Tree => Field::AllNodes,
            StructKind::VectorStore | StructKind::Multimodal => Field::NodesDict,
            StructKind::KeywordTable | StructKind::Kg => Field::Table,
            _ => {
                let list = self.entry(Field::Nodes, &Text::default())?;
                return Ok(list.as_ref().map(texts).unwrap_or_default());
            }
        };
        let keys = self.keys(field)?;
        if field == Field::Table && keys.is_empty() {
            let what = "the table has no keywords, so it has no set of nodes";
            return Err(StoreError::InvalidArgument(what.to_owned()));
        }
        let mut ids = Vec::with_capacity(keys.len());
        for key in keys {
            match self.entry(field, &key)? {
                Some(Value::Text(id)) => ids.push(id),
                other => ids.extend(other.as_ref().map(texts).unwrap_or_default()),
            }
        }
        if field == Field::Table {
            ids = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        }
        Ok(ids)
    }

    /// Removes a node: every mention of it from a list; the vector of that id (LlamaIndex's
    /// `delete`); its place under every keyword, and keywords that have no node then; from a
    /// document summary (its `delete_nodes`), whose summary stays. True if it was there.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds, whose nodes LlamaIndex cannot delete
    /// either.
    fn delete_node(&mut self, node_id: impl Into<Text>) -> Result<bool, StoreError> {
        let node_id = node_id.into();
        let kind = self.struct_kind();
        match kind {
            StructKind::List => {
                let mut found = false;
                while self.remove_item(Field::Nodes, &Text::default(), &node_id)? {
                    found = true;
                }
                Ok(found)
            }
            StructKind::VectorStore | StructKind::Multimodal => {
                Ok(self.remove(Field::NodesDict, &node_id)?.is_some())
            }
            StructKind::KeywordTable | StructKind::Kg => {
                let keywords = self.keys_with(Field::Table, &node_id)?;
                for keyword in &keywords {
                    self.remove_item(Field::Table, keyword, &node_id)?;
                    if self.entry_len(Field::Table, keyword)? == 0 {
                        self.remove(Field::Table, keyword)?;
                    }
                }
                Ok(!keywords.is_empty())
            }
            StructKind::DocumentSummary => {
                let Some(Value::Text(summary)) = self.remove(Field::NodeSummary, &node_id)? else {
                    return Ok(false);
                };
                self.remove_item(Field::SummaryNodes, &summary, &node_id)
            }
            _ => Err(lacks(kind, Field::Nodes)),
        }
    }

    /// Vector stores: removes a vector. Document summary: removes a document with its summary and
    /// nodes.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is none, [`StoreError::InvalidArgument`] for other kinds.
    fn delete(&mut self, id: impl Into<Text>) -> Result<(), StoreError> {
        let id = id.into();
        if self.struct_kind() != StructKind::DocumentSummary {
            return match self.remove(Field::NodesDict, &id)? {
                Some(_) => Ok(()),
                None => Err(StoreError::NotFound { what: "vector", id }),
            };
        }
        let Some(Value::Text(summary)) = self.remove(Field::DocSummary, &id)? else {
            return Err(StoreError::NotFound { what: "document", id });
        };
        let nodes = self.remove(Field::SummaryNodes, &summary)?;
        for node in nodes.as_ref().map(texts).unwrap_or_default() {
            self.remove(Field::NodeSummary, &node)?;
        }
        Ok(())
    }

    /// Document summary: enters a summary, the document it is of, and the nodes it is made from.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if there is no document, and for other kinds.
    fn add_summary_and_nodes(
        &mut self,
        summary_id: impl Into<Text>,
        ref_doc_id: Option<&Text>,
        node_ids: &[Text],
    ) -> Result<(), StoreError> {
        let summary_id = summary_id.into();
        let Some(ref_doc_id) = ref_doc_id else {
            return Err(StoreError::InvalidArgument(
                "ref_doc_id of node cannot be None when building a document summary index"
                    .to_owned(),
            ));
        };
        self.set(Field::DocSummary, ref_doc_id, (&summary_id).into())?;
        for node in node_ids {
            self.append(Field::SummaryNodes, &summary_id, node)?;
            self.set(Field::NodeSummary, node, (&summary_id).into())?;
        }
        Ok(())
    }

    /// Document summary: the summaries.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn summary_ids(&self) -> Result<Vec<Text>, StoreError> {
        self.keys(Field::SummaryNodes)
    }

    /// Knowledge graph: sets the embedding of a triplet, which is named by its text.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn add_to_embedding_dict(
        &mut self,
        triplet: impl Into<Text>,
        embedding: &[f64],
    ) -> Result<(), StoreError> {
        let embedding: Vec<Value> = embedding.iter().map(|x| Value::Float(*x)).collect();
        self.set(Field::Embedding, &triplet.into(), embedding.into())
    }

    /// Tree: the number of a node.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if it is none, [`StoreError::InvalidArgument`] for other kinds.
    fn get_index(&self, node_id: impl Into<Text>) -> Result<i64, StoreError> {
        let id = node_id.into();
        let key = self.keys_with(Field::AllNodes, &id)?.pop();
        let index = key.and_then(|key| key.as_str()?.parse().ok());
        index.ok_or(StoreError::NotFound { what: "node", id })
    }

    /// Tree: enters a node with its children. Without a number, or with 0, it takes the number of
    /// nodes there are, as in LlamaIndex.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn insert(
        &mut self,
        node_id: impl Into<Text>,
        index: Option<i64>,
        children: &[Text],
    ) -> Result<(), StoreError> {
        let node_id = node_id.into();
        let index = new_index(index, self.count(Field::AllNodes)?);
        self.set(Field::AllNodes, &index, (&node_id).into())?;
        let children: Vec<Value> = children.iter().map(Value::from).collect();
        self.set(Field::Children, &node_id, children.into())
    }

    /// Tree: enters a node under another, or as a root.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn insert_under_parent(
        &mut self,
        node_id: impl Into<Text>,
        parent: Option<&Text>,
        index: Option<i64>,
    ) -> Result<(), StoreError> {
        let node_id = node_id.into();
        let index = new_index(index, self.count(Field::AllNodes)?);
        match parent {
            None => {
                self.set(Field::RootNodes, &index, (&node_id).into())?;
                self.set(Field::Children, &node_id, Value::List(Vec::new()))?;
            }
            Some(parent) => self.append(Field::Children, parent, &node_id)?,
        }
        self.set(Field::AllNodes, &index, node_id.into())
    }

    /// Tree: the children of a node, or the roots, by their number.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the node or a child is not in the tree,
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn get_children(&self, parent: Option<&Text>) -> Result<Map, StoreError> {
        let mut children = Map::new();
        let Some(parent) = parent else {
            for key in self.keys(Field::RootNodes)? {
                children.insert(&key, self.entry(Field::RootNodes, &key)?);
            }
            return Ok(children);
        };
        let Some(list) = self.entry(Field::Children, parent)? else {
            return Err(StoreError::NotFound { what: "node", id: parent.clone() });
        };
        for child in texts(&list) {
            children.insert(self.get_index(&child)?.to_string(), child);
        }
        Ok(children)
    }

    /// Tables: describes a table.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for other kinds.
    fn set_context(
        &mut self,
        table: impl Into<Text>,
        description: impl Into<Text>,
    ) -> Result<(), StoreError> {
        self.set(Field::Context, &table.into(), description.into().into())
    }
}

impl<T: Members> StructMethods for T {}

/// LlamaIndex says `index or size`.
fn new_index(index: Option<i64>, size: u64) -> Text {
    match index {
        None | Some(0) => size.to_string().into(),
        Some(index) => index.to_string().into(),
    }
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<Text> {
    list.as_list().into_iter().flatten().filter_map(|item| item.as_text().cloned()).collect()
}
