//! A node as one flat dictionary: LlamaIndex's `node_to_metadata_dict` and
//! `metadata_dict_to_node`, which vector stores and property graphs keep beside an embedding.

use super::error::ModelError;
use super::node::{Content, Node, NodeKind};
use crate::kv::{Map, Text, Value, json};

/// The key of the node itself, as JSON text.
const NODE_CONTENT: &str = "_node_content";
/// The key of the node's class.
const NODE_TYPE: &str = "_node_type";
/// The keys of the source document's id, one for each service that LlamaIndex writes for.
const REF_DOC_KEYS: [&str; 3] = ["document_id", "doc_id", "ref_doc_id"];
/// What LlamaIndex writes for "no source document".
const NO_REF_DOC: &str = "None";

/// How much of the node itself goes into its metadata dictionary, as JSON under `_node_content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptContent {
    /// Nothing: the dictionary is there for filters only. No JSON is made.
    None,
    /// Everything but text and embedding (LlamaIndex's `remove_text`).
    WithoutText,
    /// Everything but the embedding.
    All,
}

impl Node {
    /// The metadata with `_node_content`, `_node_type` and, three times, the source document's
    /// id, which is the text `None` if there is none (LlamaIndex's `node_to_metadata_dict`).
    ///
    /// # Errors
    ///
    /// [`ModelError::SourceIsList`] if the node names several source documents.
    ///
    /// # Examples
    ///
    /// ```
    /// use siltstone::model::{KeptContent, Node};
    /// let node = Node::text("n1", "First paragraph.").with_source("a.txt");
    /// let dict = node.to_metadata_dict(KeptContent::WithoutText)?;
    /// assert_eq!(dict.get("ref_doc_id"), Some(&"a.txt".into()));
    /// let text = "First paragraph.".into();
    /// assert_eq!(Node::from_metadata_dict(&dict, Some(&text))?, node);
    /// # Ok::<(), siltstone::model::ModelError>(())
    /// ```
    pub fn to_metadata_dict(&self, content: KeptContent) -> Result<Map, ModelError> {
        let ref_doc_id = self.ref_doc_id()?.cloned();
        let ref_doc_id = Value::Text(ref_doc_id.unwrap_or(Text::from_static(NO_REF_DOC)));
        let mut dict = self.metadata.clone();
        if content == KeptContent::None {
            dict.remove(NODE_CONTENT);
        } else {
            let mut data = self.to_data(Value::Null);
            if content == KeptContent::WithoutText {
                if data.contains_key("text") {
                    data.set("text", Text::default());
                }
                data.remove("text_resource");
            }
            dict.set(NODE_CONTENT, json::to_string(&data.into(), json::Style::Python));
        }
        dict.set(NODE_TYPE, Text::from_static(self.content.class_name()));
        for key in REF_DOC_KEYS {
            dict.set(key, ref_doc_id.clone());
        }
        Ok(dict)
    }

    /// Rebuilds a node from its metadata dictionary, with `text` in place of its text if there is
    /// one (LlamaIndex's `metadata_dict_to_node`). Image and index nodes come back as what they
    /// were, all others as text nodes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Missing`] if there is no `_node_content`, [`ModelError`] if it is no JSON of
    /// a node.
    pub fn from_metadata_dict(dict: &Map, text: Option<&Text>) -> Result<Self, ModelError> {
        let content = match dict.get(NODE_CONTENT) {
            Some(Value::Text(content)) => content,
            None | Some(Value::Null) => {
                return Err(ModelError::Missing { field: NODE_CONTENT.to_owned() });
            }
            Some(other) => return Err(invalid(other.kind())),
        };
        let data = json::from_slice(content.as_bytes()).map_err(|_| invalid("no JSON"))?;
        let class = dict.get(NODE_TYPE).and_then(Value::as_text);
        let is = |name: &str| class.is_some_and(|class| *class == *name);
        let kind = match (is("IndexNode"), is("ImageNode")) {
            (true, _) => NodeKind::Index,
            (_, true) => NodeKind::Image,
            _ => NodeKind::Text,
        };
        let mut stored = Map::with_capacity(2);
        stored.set("__data__", data);
        stored.set("__type__", Text::from_static(kind.code()));
        let mut node = Node::from_value(&stored.into())?;
        if let Some(text) = text
            && let Content::Text(content)
            | Content::Image { text: content, .. }
            | Content::Index { text: content, .. } = &mut node.content
        {
            content.text = text.clone();
        }
        Ok(node)
    }
}

fn invalid(found: &'static str) -> ModelError {
    ModelError::Invalid { field: NODE_CONTENT.to_owned(), expected: "the JSON of a node", found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ImageContent, IndexTarget, Resources};

    fn nodes() -> Vec<Node> {
        let mut node = Node::text("t", "words").with_source("d");
        node.metadata.insert("page", 3);
        node.metadata.insert("doc_id", "mine");
        let index = Node::index("i", "words", "ix", IndexTarget::Node(Box::new(node.clone())));
        vec![node, Node::image("p", ImageContent::default()), index]
    }

    #[test]
    fn a_node_comes_back_without_its_embedding() {
        for node in nodes() {
            let mut with_embedding = node.clone();
            with_embedding.embedding = Some(vec![0.5, 1.0]);
            let dict = with_embedding.to_metadata_dict(KeptContent::All).expect("one source");
            assert_eq!(Node::from_metadata_dict(&dict, None).as_ref(), Ok(&node));
            let dict = with_embedding.to_metadata_dict(KeptContent::WithoutText).expect("one");
            let text = node.content_text();
            assert_eq!(Node::from_metadata_dict(&dict, Some(text)).as_ref(), Ok(&node));
            let textless = Node::from_metadata_dict(&dict, None).expect("still a node");
            assert!(textless.content_text().is_empty());
        }
    }

    #[test]
    fn filters_see_the_source_and_the_class() {
        let dict = nodes()[0].to_metadata_dict(KeptContent::None).expect("one source");
        let shown = json::to_string(&dict.into(), json::Style::Python);
        let expected = "{\"page\": 3, \"doc_id\": \"d\", \"_node_type\": \"TextNode\", \
                        \"document_id\": \"d\", \"ref_doc_id\": \"d\"}";
        assert_eq!(shown, expected);
        let dict = Node::document("d", "words").to_metadata_dict(KeptContent::None).expect("none");
        assert_eq!(dict.get("ref_doc_id"), Some(&"None".into()));
        assert_eq!(dict.get("_node_type"), Some(&"Document".into()));
    }

    #[test]
    fn documents_come_back_as_text_nodes() {
        let document = Node::document("d", "words");
        let dict = document.to_metadata_dict(KeptContent::WithoutText).expect("no source");
        let node = Node::from_metadata_dict(&dict, Some(document.content_text()));
        assert_eq!(node, Ok(Node::text("d", "words")));
        let plain = Node::multimodal("m", Resources::default());
        let dict = plain.to_metadata_dict(KeptContent::WithoutText).expect("no source");
        assert_eq!(Node::from_metadata_dict(&dict, None), Ok(Node::text("m", "")));
    }

    #[test]
    fn what_is_no_node_is_refused() {
        let mut dict = Map::new();
        let missing = ModelError::Missing { field: NODE_CONTENT.to_owned() };
        assert_eq!(Node::from_metadata_dict(&dict, None), Err(missing));
        for bad in [Value::from("{"), Value::from("[]"), Value::from(3), Value::from("{}")] {
            dict.set(NODE_CONTENT, bad.clone());
            assert!(Node::from_metadata_dict(&dict, None).is_err(), "{bad:?}");
        }
    }
}
