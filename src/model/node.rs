//! [`Node`] and its parts, as plain data.

use std::collections::BTreeMap;

use super::error::ModelError;
use super::integer::Integer;
use super::media::MediaResource;
use crate::kv::{Map, Text, Value};

/// What a node is (LlamaIndex `ObjectType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// A piece of text: `TextNode`.
    Text,
    /// A text with a picture: `ImageNode`.
    Image,
    /// A text that points to another object: `IndexNode`.
    Index,
    /// A source document: `Document`.
    Document,
    /// Text, picture, sound and film in one: `Node`.
    Multimodal,
}

/// How another node is related to a node (LlamaIndex `NodeRelationship`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relationship {
    /// The document that the node was cut from.
    Source,
    /// The node before it in the document.
    Previous,
    /// The node after it in the document.
    Next,
    /// The node it is part of.
    Parent,
    /// The nodes that are part of it.
    Child,
}

/// What a node remembers of a related one (LlamaIndex `RelatedNodeInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelatedNode {
    /// The other node's id.
    pub node_id: Text,
    /// What the other node is: `"1"` to `"5"` for the [`NodeKind`]s, or any other name.
    pub node_type: Option<Text>,
    /// The other node's metadata, if it was copied.
    pub metadata: Map,
    /// The other node's content hash, if it was copied.
    pub hash: Option<Text>,
}

/// One related node or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Related {
    /// One: source, previous, next, parent.
    One(RelatedNode),
    /// A list: children.
    Many(Vec<RelatedNode>),
}

/// A node: what all five kinds have in common, and the [`Content`] in which they differ.
///
/// ```
/// use siltstone::model::Node;
/// let mut node = Node::text("n1", "First paragraph.").with_source("a.txt");
/// node.metadata.insert("page", 1);
/// assert_eq!(node.ref_doc_id()?.map(|id| id.to_string()).as_deref(), Some("a.txt"));
/// assert_eq!(node.hash()?.len(), 64);
/// # Ok::<(), siltstone::model::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// The id: unique in a document store.
    pub id: Text,
    /// The embedding. Stored in single precision if that loses nothing.
    pub embedding: Option<Vec<f64>>,
    /// Anything; goes into the content hash.
    pub metadata: Map,
    /// Metadata keys that the embedding model does not see.
    pub excluded_embed_metadata_keys: Vec<Text>,
    /// Metadata keys that the language model does not see.
    pub excluded_llm_metadata_keys: Vec<Text>,
    /// Related nodes.
    pub relationships: BTreeMap<Relationship, Related>,
    /// How one metadata entry is shown: a Python format with `{key}` and `{value}`.
    pub metadata_template: Text,
    /// What stands between metadata entries.
    pub metadata_separator: Text,
    /// What the node holds.
    pub content: Content,
}

/// What a node holds, by kind.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// Of a [`NodeKind::Text`].
    Text(TextContent),
    /// Of a [`NodeKind::Image`].
    Image {
        /// The text.
        text: TextContent,
        /// The picture.
        image: ImageContent,
    },
    /// Of a [`NodeKind::Index`].
    Index {
        /// The text.
        text: TextContent,
        /// The id of the index that it points to.
        index_id: Text,
        /// What it points to.
        target: IndexTarget,
    },
    /// Of a [`NodeKind::Document`].
    Document {
        /// Text, picture, sound and film.
        resources: Resources,
        /// True for LlamaIndex's old class `ImageDocument`.
        image_document: bool,
    },
    /// Of a [`NodeKind::Multimodal`].
    Multimodal(Resources),
}

/// A text and where it was cut from.
#[derive(Clone, Debug, PartialEq)]
pub struct TextContent {
    /// The text.
    pub text: Text,
    /// Its kind, `text/plain` unless said otherwise.
    pub mimetype: Text,
    /// Where it starts in its source, in characters.
    pub start_char_idx: Option<Integer>,
    /// Where it ends in its source, in characters.
    pub end_char_idx: Option<Integer>,
    /// How text and metadata are shown together: a Python format with `{metadata_str}` and
    /// `{content}`.
    pub text_template: Text,
}

/// The picture of an image node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageContent {
    /// The picture itself, in base64.
    pub image: Option<Text>,
    /// A file that holds it.
    pub path: Option<Text>,
    /// An address that gives it.
    pub url: Option<Text>,
    /// Its kind, such as `image/png`; guessed from the path when a node is read without one.
    pub mimetype: Option<Text>,
    /// The embedding of the text, where `embedding` is that of the picture.
    pub text_embedding: Option<Vec<f64>>,
}

/// What an index node points to.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum IndexTarget {
    /// Nothing that is stored.
    #[default]
    None,
    /// A node.
    Node(Box<Node>),
    /// Anything else, kept as it is. (LlamaIndex replaces it on reading by a text node with a
    /// random id.)
    Other(Value),
}

/// The four resources of a document or multimodal node.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// The text.
    pub text: Option<MediaResource>,
    /// The picture.
    pub image: Option<MediaResource>,
    /// The sound.
    pub audio: Option<MediaResource>,
    /// The film.
    pub video: Option<MediaResource>,
    /// How text and metadata are shown together.
    pub text_template: Text,
}

pub(super) const METADATA_TEMPLATE: &str = "{key}: {value}";
pub(super) const METADATA_SEPARATOR: &str = "\n";
pub(super) const TEXT_TEMPLATE: &str = "{metadata_str}\n\n{content}";
pub(super) const TEXT_MIMETYPE: &str = "text/plain";

impl NodeKind {
    /// LlamaIndex's code for it, `"1"` to `"5"`.
    pub fn code(self) -> &'static str {
        match self {
            NodeKind::Text => "1",
            NodeKind::Image => "2",
            NodeKind::Index => "3",
            NodeKind::Document => "4",
            NodeKind::Multimodal => "5",
        }
    }

    /// The kind that `code` stands for.
    pub fn from_code(code: &Text) -> Option<Self> {
        use NodeKind::*;
        [Text, Image, Index, Document, Multimodal].into_iter().find(|kind| *code == kind.code())
    }
}

impl Relationship {
    /// LlamaIndex's code for it, `"1"` to `"5"`.
    pub fn code(self) -> &'static str {
        match self {
            Relationship::Source => "1",
            Relationship::Previous => "2",
            Relationship::Next => "3",
            Relationship::Parent => "4",
            Relationship::Child => "5",
        }
    }

    /// The relationship that `code` stands for.
    pub fn from_code(code: &Text) -> Option<Self> {
        use Relationship::*;
        [Source, Previous, Next, Parent, Child].into_iter().find(|known| *code == known.code())
    }
}

impl RelatedNode {
    /// A related node of a known kind, without metadata or hash.
    pub fn new(node_id: impl Into<Text>, kind: NodeKind) -> Self {
        let node_type = Some(Text::from_static(kind.code()));
        RelatedNode { node_id: node_id.into(), node_type, ..RelatedNode::default() }
    }
}

impl Default for TextContent {
    fn default() -> Self {
        TextContent {
            text: Text::default(),
            mimetype: Text::from_static(TEXT_MIMETYPE),
            start_char_idx: None,
            end_char_idx: None,
            text_template: Text::from_static(TEXT_TEMPLATE),
        }
    }
}

impl<T: Into<Text>> From<T> for TextContent {
    fn from(text: T) -> Self {
        TextContent { text: text.into(), ..TextContent::default() }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Resources {
            text: None,
            image: None,
            audio: None,
            video: None,
            text_template: Text::from_static(TEXT_TEMPLATE),
        }
    }
}

impl Node {
    /// A node with everything but id and content as LlamaIndex's defaults have it.
    pub fn new(id: impl Into<Text>, content: Content) -> Self {
        Node {
            id: id.into(),
            embedding: None,
            metadata: Map::new(),
            excluded_embed_metadata_keys: Vec::new(),
            excluded_llm_metadata_keys: Vec::new(),
            relationships: BTreeMap::new(),
            metadata_template: Text::from_static(METADATA_TEMPLATE),
            metadata_separator: Text::from_static(METADATA_SEPARATOR),
            content,
        }
    }

    /// A text node.
    pub fn text(id: impl Into<Text>, text: impl Into<Text>) -> Self {
        Node::new(id, Content::Text(TextContent::from(text)))
    }

    /// An image node without text.
    pub fn image(id: impl Into<Text>, image: ImageContent) -> Self {
        Node::new(id, Content::Image { text: TextContent::default(), image })
    }

    /// An index node.
    pub fn index(
        id: impl Into<Text>,
        text: impl Into<Text>,
        index_id: impl Into<Text>,
        target: IndexTarget,
    ) -> Self {
        let (text, index_id) = (TextContent::from(text), index_id.into());
        Node::new(id, Content::Index { text, index_id, target })
    }

    /// A document.
    pub fn document(id: impl Into<Text>, text: impl Into<Text>) -> Self {
        let resources =
            Resources { text: Some(MediaResource::from_text(text)), ..Resources::default() };
        Node::new(id, Content::Document { resources, image_document: false })
    }

    /// A multimodal node.
    pub fn multimodal(id: impl Into<Text>, resources: Resources) -> Self {
        Node::new(id, Content::Multimodal(resources))
    }

    /// The node with `ref_doc_id` as its source document.
    pub fn with_source(mut self, ref_doc_id: impl Into<Text>) -> Self {
        let source = RelatedNode::new(ref_doc_id, NodeKind::Document);
        self.relationships.insert(Relationship::Source, Related::One(source));
        self
    }

    /// What the node is.
    pub fn kind(&self) -> NodeKind {
        match &self.content {
            Content::Text(_) => NodeKind::Text,
            Content::Image { .. } => NodeKind::Image,
            Content::Index { .. } => NodeKind::Index,
            Content::Document { .. } => NodeKind::Document,
            Content::Multimodal(_) => NodeKind::Multimodal,
        }
    }

    /// The text, without metadata; empty if there is none.
    pub fn content_text(&self) -> &Text {
        static EMPTY: Text = Text::from_static("");
        match &self.content {
            Content::Text(text) | Content::Image { text, .. } | Content::Index { text, .. } => {
                &text.text
            }
            Content::Document { resources, .. } | Content::Multimodal(resources) => {
                resources.text.as_ref().and_then(|text| text.text.as_ref()).unwrap_or(&EMPTY)
            }
        }
    }

    /// The id of the document that the node was cut from; an empty id counts as none.
    ///
    /// # Errors
    ///
    /// [`ModelError::SourceIsList`] if the node names several.
    pub fn ref_doc_id(&self) -> Result<Option<&Text>, ModelError> {
        match self.relationships.get(&Relationship::Source) {
            None => Ok(None),
            Some(Related::One(source)) => Ok(Some(&source.node_id).filter(|id| !id.is_empty())),
            Some(Related::Many(_)) => Err(ModelError::SourceIsList),
        }
    }

    /// The node as a related one remembers it, hash and metadata included.
    ///
    /// # Errors
    ///
    /// As [`Node::hash`].
    pub fn as_related(&self) -> Result<RelatedNode, ModelError> {
        Ok(RelatedNode {
            metadata: self.metadata.clone(),
            hash: Some(self.hash()?),
            ..RelatedNode::new(&self.id, self.kind())
        })
    }
}
