//! What a property graph is made of: LlamaIndex's `EntityNode`, `ChunkNode` and `Relation`.

use super::error::ModelError;
use super::fields::Fields;
use super::hash::sha256;
use super::python::push_str;
use super::stored::floats;
use crate::kv::{Map, Text, TextBuilder, Value};

const ENTITY_LABEL: &str = "entity";
const CHUNK_LABEL: &str = "text_chunk";

/// A node of a property graph.
///
/// ```
/// use siltstone::model::LabelledNode;
/// let ann = LabelledNode::entity("Ann").with_label("PERSON").with_property("age", 28);
/// assert_eq!(ann.id, "Ann");
/// assert_eq!(LabelledNode::from_value(&ann.to_value(), None)?, ann);
/// # Ok::<(), siltstone::model::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledNode {
    /// The id, unique in a graph: an entity's name, as it is. (LlamaIndex puts spaces in place of
    /// double quotes.)
    pub id: Text,
    /// What the node is. Default: `entity` or `text_chunk`.
    pub label: Text,
    /// The embedding. Stored in single precision if that loses nothing.
    pub embedding: Option<Vec<f64>>,
    /// Anything.
    pub properties: Map,
    /// What the node holds.
    pub content: LabelledContent,
}

/// What a node of a property graph holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelledContent {
    /// Of an entity.
    Entity {
        /// Its name.
        name: Text,
    },
    /// Of a piece of text.
    Chunk {
        /// The text.
        text: Text,
    },
}

/// An edge of a property graph: one for each source, label and target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// What kind of relation it is.
    pub label: Text,
    /// The id of the node that it comes from.
    pub source_id: Text,
    /// The id of the node that it leads to.
    pub target_id: Text,
    /// Anything.
    pub properties: Map,
}

impl LabelledNode {
    /// An entity; its name is its id.
    pub fn entity(name: impl Into<Text>) -> Self {
        let name = name.into();
        let content = LabelledContent::Entity { name: name.clone() };
        LabelledNode::new(name, ENTITY_LABEL, content)
    }

    /// A piece of text.
    pub fn chunk(id: impl Into<Text>, text: impl Into<Text>) -> Self {
        let content = LabelledContent::Chunk { text: text.into() };
        LabelledNode::new(id.into(), CHUNK_LABEL, content)
    }

    /// A piece of text without an id of its own: the sha256 of the text, in hexadecimal. (In
    /// LlamaIndex it is a hash that differs from one run of the program to the next.)
    pub fn chunk_of(text: impl Into<Text>) -> Self {
        let text = text.into();
        LabelledNode::chunk(sha256(&text), text)
    }

    fn new(id: Text, label: &'static str, content: LabelledContent) -> Self {
        let label = Text::from_static(label);
        LabelledNode { id, label, embedding: None, properties: Map::new(), content }
    }

    /// The node with another label.
    pub fn with_label(mut self, label: impl Into<Text>) -> Self {
        self.label = label.into();
        self
    }

    /// The node with one more property.
    pub fn with_property(mut self, key: impl Into<Text>, value: impl Into<Value>) -> Self {
        self.properties.insert(key, value);
        self
    }

    /// The node with an embedding.
    pub fn with_embedding(mut self, embedding: Vec<f64>) -> Self {
        self.embedding = Some(embedding);
        self
    }

    /// The text of a chunk.
    pub fn text(&self) -> Option<&Text> {
        match &self.content {
            LabelledContent::Chunk { text } => Some(text),
            LabelledContent::Entity { .. } => None,
        }
    }

    /// The dictionary that LlamaIndex stores.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(5);
        map.set("label", &self.label);
        map.set("embedding", floats(self.embedding.as_deref()));
        map.set("properties", self.properties.clone());
        match &self.content {
            LabelledContent::Entity { name } => {
                map.set("name", name);
            }
            LabelledContent::Chunk { text } => {
                map.set("text", text);
                map.set("id_", &self.id);
            }
        }
        map.into()
    }

    /// Reads the dictionary that LlamaIndex stores under `key`: an entity if it has a `name`, a
    /// chunk if it has a `text`. The key is the id of a chunk that names none, and of an entity
    /// that was stored under another key than LlamaIndex makes of its name.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownGraphNode`] if it has neither, [`ModelError::Invalid`] if a field is
    /// of the wrong kind.
    pub fn from_value(value: &Value, key: Option<&Text>) -> Result<Self, ModelError> {
        let fields = Fields::new(value, String::new())?;
        let mut node = if fields.get("name").is_some() {
            let name = fields.text("name")?.ok_or_else(|| fields.missing("name"))?;
            let other = |key: &&Text| **key != name && **key != entity_key(&name);
            let key = key.filter(other).cloned();
            let mut node = LabelledNode::entity(name);
            node.id = key.unwrap_or(node.id);
            node
        } else if fields.get("text").is_some() {
            let text = fields.text("text")?.ok_or_else(|| fields.missing("text"))?;
            match fields.text("id_")?.as_ref().or(key) {
                Some(id) => LabelledNode::chunk(id, text),
                None => LabelledNode::chunk_of(text),
            }
        } else {
            let mut shown = TextBuilder::default();
            push_str(value, &mut shown);
            return Err(ModelError::UnknownGraphNode(shown.finish().to_string()));
        };
        node.label = fields.text("label")?.unwrap_or(node.label);
        node.embedding = fields.floats("embedding")?;
        node.properties = fields.map("properties")?.unwrap_or_default();
        Ok(node)
    }
}

impl LabelledNode {
    /// The id that LlamaIndex computes for the node. An entity that was given another id than its
    /// name keeps it.
    pub(crate) fn llama_id(&self) -> Text {
        match &self.content {
            LabelledContent::Entity { name } if *name == self.id => entity_key(name),
            _ => self.id.clone(),
        }
    }
}

/// The id that LlamaIndex gives to an entity: its name with spaces for double quotes.
fn entity_key(name: &Text) -> Text {
    if !name.as_bytes().contains(&b'"') {
        return name.clone();
    }
    let unquoted = |point| if point == u32::from(b'"') { u32::from(b' ') } else { point };
    Text::from_code_points(name.code_points().map(unquoted))
}

impl Relation {
    /// A relation without properties.
    pub fn new(
        source_id: impl Into<Text>,
        label: impl Into<Text>,
        target_id: impl Into<Text>,
    ) -> Self {
        Relation {
            label: label.into(),
            source_id: source_id.into(),
            target_id: target_id.into(),
            properties: Map::new(),
        }
    }

    /// The relation with one more property.
    pub fn with_property(mut self, key: impl Into<Text>, value: impl Into<Value>) -> Self {
        self.properties.insert(key, value);
        self
    }

    /// The dictionary that LlamaIndex stores.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(4);
        map.set("label", &self.label);
        map.set("source_id", &self.source_id);
        map.set("target_id", &self.target_id);
        map.set("properties", self.properties.clone());
        map.into()
    }

    /// Reads the dictionary that LlamaIndex stores.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if label, source or target is missing or a field is of the wrong kind.
    pub fn from_value(value: &Value) -> Result<Self, ModelError> {
        let fields = Fields::new(value, String::new())?;
        let text = |field| fields.text(field)?.ok_or_else(|| fields.missing(field));
        Ok(Relation {
            label: text("label")?,
            source_id: text("source_id")?,
            target_id: text("target_id")?,
            properties: fields.map("properties")?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        crate::kv::json::from_slice(text.as_bytes()).expect("it is JSON")
    }

    #[test]
    fn nodes_and_relations_come_back() {
        let nodes = [
            LabelledNode::entity("say \"hi\"").with_property("n", Value::Null),
            LabelledNode::chunk("c", "words").with_label("x").with_embedding(vec![0.5, 0.1]),
            LabelledNode::chunk_of("words"),
        ];
        for node in nodes {
            for key in [&node.id, &entity_key(&node.id)] {
                let read = LabelledNode::from_value(&node.to_value(), Some(key));
                assert_eq!(read.as_ref(), Ok(&node));
            }
        }
        let relation = Relation::new("a", "r", "b").with_property("w", 0.5);
        assert_eq!(Relation::from_value(&relation.to_value()), Ok(relation));
    }

    #[test]
    fn keys_stand_in_where_there_is_no_id() {
        let read = |text, key: &str| LabelledNode::from_value(&json(text), Some(&key.into()));
        let id = |text, key| read(text, key).map(|node| node.id.to_string());
        assert_eq!(id(r#"{"text": "t"}"#, "k").as_deref(), Ok("k"));
        assert_eq!(id(r#"{"text": "t", "id_": null}"#, "k").as_deref(), Ok("k"));
        assert_eq!(id(r#"{"text": "t", "id_": "i"}"#, "k").as_deref(), Ok("i"));
        assert_eq!(id(r#"{"name": "a\"b"}"#, "a b").as_deref(), Ok("a\"b"));
        assert_eq!(id(r#"{"name": "a"}"#, "other").as_deref(), Ok("other"));
    }

    #[test]
    fn what_is_none_is_refused() {
        let unknown = LabelledNode::from_value(&json(r#"{"label": "x"}"#), None);
        let shown = unknown.map_err(|e| e.to_string());
        assert_eq!(shown, Err("Could not infer node type for data: {'label': 'x'}".to_owned()));
        for bad in [r#"{"name": 1}"#, r#"{"name": null}"#, r#"{"text": "", "properties": 1}"#, "1"]
        {
            assert!(LabelledNode::from_value(&json(bad), None).is_err(), "{bad}");
        }
        for bad in ["{}", r#"{"label": "r", "source_id": "a"}"#, "[]"] {
            assert!(Relation::from_value(&json(bad)).is_err(), "{bad}");
        }
    }
}
