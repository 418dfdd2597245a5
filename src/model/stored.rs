//! The stored form: LlamaIndex's `doc_to_json` and `json_to_doc`.
//!
//! Reading accepts what pydantic accepts in its lax mode as far as stored nodes can differ:
//! absent fields take their defaults, `extra_info` stands for `metadata` and
//! `metadata_seperator` for `metadata_separator`, an integer is a float, a float without fraction
//! is an integer. Fields that are not known are dropped.

use std::collections::BTreeMap;

use super::error::ModelError;
use super::fields::Fields;
use super::media::{MediaData, MediaEmbeddings, MediaResource, mimetype_of_path};
use super::node::{
    Content, ImageContent, IndexTarget, METADATA_SEPARATOR, METADATA_TEMPLATE, Node, NodeKind,
    Related, RelatedNode, Relationship, Resources, TEXT_MIMETYPE, TEXT_TEMPLATE, TextContent,
};
use super::python;
use crate::kv::{Map, Text, TextBuilder, Value};

impl Node {
    /// The stored form, `{"__data__": {..}, "__type__": ".."}`.
    pub fn to_value(&self) -> Value {
        let mut stored = Map::with_capacity(2);
        stored.set("__data__", self.to_data(floats(self.embedding.as_deref())));
        stored.set("__type__", Text::from_static(self.kind().code()));
        stored.into()
    }

    /// The fields of the stored form, with `embedding` in place of the node's.
    pub(super) fn to_data(&self, embedding: Value) -> Map {
        let mut data = Map::with_capacity(16);
        data.set("id_", &self.id);
        data.set("embedding", embedding);
        data.set("metadata", self.metadata.clone());
        data.set("excluded_embed_metadata_keys", texts(&self.excluded_embed_metadata_keys));
        data.set("excluded_llm_metadata_keys", texts(&self.excluded_llm_metadata_keys));
        let relationships = self.relationships.iter();
        let relationships: Map = relationships
            .map(|(kind, related)| (Text::from_static(kind.code()), related.to_value()))
            .collect();
        data.set("relationships", relationships);
        data.set("metadata_template", &self.metadata_template);
        data.set("metadata_separator", &self.metadata_separator);
        self.content.write(&mut data);
        data.set("class_name", Text::from_static(self.content.class_name()));
        if let Content::Document { .. } = &self.content {
            data.set("text", self.content_text());
        }
        data
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the value is no stored node; LlamaIndex raises in the same cases, and
    /// makes up a random id where this asks for one.
    pub fn from_value(value: &Value) -> Result<Self, ModelError> {
        Node::from_stored(value, None)
    }

    /// Reads the stored form of a node that was kept under `key`, its id if it names none.
    ///
    /// # Errors
    ///
    /// As [`Node::from_value`].
    pub fn from_stored(value: &Value, key: Option<&Text>) -> Result<Self, ModelError> {
        let stored = Fields::new(value, String::new())?;
        let kind = stored.get("__type__").ok_or_else(|| stored.missing("__type__"))?;
        let data = stored.get("__data__").ok_or_else(|| stored.missing("__data__"))?;
        let data = Fields::new(data, "__data__".to_owned())?;
        let unknown = || {
            let mut shown = TextBuilder::default();
            python::push_str(kind, &mut shown);
            ModelError::UnknownType(shown.finish().to_string())
        };
        let kind = kind.as_text().and_then(NodeKind::from_code).ok_or_else(unknown)?;
        if data.map.contains_key("extra_info") {
            return read_legacy(&data, kind, key, unknown);
        }
        let id = match kind {
            NodeKind::Document => data.text("id_")?.or(data.text("doc_id")?),
            _ => data.text("id_")?,
        };
        let id = id.or(key.cloned()).ok_or_else(|| data.missing("id_"))?;
        let separator = match data.text("metadata_seperator")? {
            Some(old_spelling) => Some(old_spelling),
            None => data.text("metadata_separator")?,
        };
        Ok(Node {
            id,
            embedding: data.floats("embedding")?,
            metadata: data.map("metadata")?.unwrap_or_default(),
            excluded_embed_metadata_keys: data.texts("excluded_embed_metadata_keys")?,
            excluded_llm_metadata_keys: data.texts("excluded_llm_metadata_keys")?,
            relationships: read_relationships(&data)?,
            metadata_template: data.text_or("metadata_template", METADATA_TEMPLATE)?,
            metadata_separator: separator.unwrap_or(Text::from_static(METADATA_SEPARATOR)),
            content: Content::read(&data, kind)?,
        })
    }
}

/// The form before version 0.6: `doc_id`, `extra_info`, relationships as bare ids.
fn read_legacy(
    data: &Fields<'_>,
    kind: NodeKind,
    key: Option<&Text>,
    unknown: impl Fn() -> ModelError,
) -> Result<Node, ModelError> {
    let text = data.text("text")?.unwrap_or_default();
    let content = match kind {
        NodeKind::Text => Content::Text(text.into()),
        NodeKind::Image => Content::Image {
            text: text.into(),
            image: ImageContent { image: data.text("image")?, ..ImageContent::default() },
        },
        NodeKind::Index => Content::Index {
            text: text.into(),
            index_id: data.text("index_id")?.ok_or_else(|| data.missing("index_id"))?,
            target: IndexTarget::None,
        },
        NodeKind::Document => Content::document(Some(text).filter(|text| !text.is_empty())),
        NodeKind::Multimodal => return Err(unknown()),
    };
    let id = data.text("doc_id")?.or(key.cloned()).ok_or_else(|| data.missing("doc_id"))?;
    let mut node = Node::new(id, content);
    node.metadata = data.map("extra_info")?.unwrap_or_default();
    for (code, id) in data.map("relationships")?.unwrap_or_default().iter() {
        let kind = data.relationship(code)?;
        let mut node_id = TextBuilder::default();
        python::push_str(id, &mut node_id);
        let related = RelatedNode { node_id: node_id.finish(), ..RelatedNode::default() };
        node.relationships.insert(kind, Related::One(related));
    }
    Ok(node)
}

fn read_relationships(data: &Fields<'_>) -> Result<BTreeMap<Relationship, Related>, ModelError> {
    let mut relationships = BTreeMap::new();
    let Some(found) = data.get("relationships") else { return Ok(relationships) };
    let found = Fields::new(found, data.path("relationships"))?;
    for (code, related) in found.map.iter() {
        let kind = data.relationship(code)?;
        let path = found.path(&code.to_string_lossy());
        let related = match related {
            Value::List(list) => {
                let read = list.iter().map(|one| RelatedNode::read(one, path.clone()));
                Related::Many(read.collect::<Result<_, _>>()?)
            }
            one => Related::One(RelatedNode::read(one, path)?),
        };
        relationships.insert(kind, related);
    }
    Ok(relationships)
}

impl Related {
    fn to_value(&self) -> Value {
        match self {
            Related::One(one) => one.to_value(),
            Related::Many(many) => Value::List(many.iter().map(RelatedNode::to_value).collect()),
        }
    }
}

impl RelatedNode {
    fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(5);
        map.set("node_id", &self.node_id);
        map.set("node_type", self.node_type.as_ref());
        map.set("metadata", self.metadata.clone());
        map.set("hash", self.hash.as_ref());
        map.set("class_name", Text::from_static("RelatedNodeInfo"));
        map.into()
    }

    fn read(value: &Value, path: String) -> Result<Self, ModelError> {
        let fields = Fields::new(value, path)?;
        Ok(RelatedNode {
            node_id: fields.text("node_id")?.ok_or_else(|| fields.missing("node_id"))?,
            node_type: fields.text("node_type")?,
            metadata: fields.map("metadata")?.unwrap_or_default(),
            hash: fields.text("hash")?,
        })
    }
}

impl Content {
    /// A document with this text alone.
    fn document(text: Option<Text>) -> Self {
        let text = text.map(MediaResource::from_text);
        let resources = Resources { text, ..Resources::default() };
        Content::Document { resources, image_document: false }
    }

    /// LlamaIndex's class.
    pub(super) fn class_name(&self) -> &'static str {
        match self {
            Content::Text(_) => "TextNode",
            Content::Image { .. } => "ImageNode",
            Content::Index { .. } => "IndexNode",
            Content::Document { image_document: true, .. } => "ImageDocument",
            Content::Document { .. } => "Document",
            Content::Multimodal(_) => "Node",
        }
    }

    /// Adds the content's fields.
    fn write(&self, data: &mut Map) {
        match self {
            Content::Text(text) => text.write(data),
            Content::Image { text, image } => {
                text.write(data);
                data.set("image", image.image.as_ref());
                data.set("image_path", image.path.as_ref());
                data.set("image_url", image.url.as_ref());
                data.set("image_mimetype", image.mimetype.as_ref());
                data.set("text_embedding", floats(image.text_embedding.as_deref()));
            }
            Content::Index { text, index_id, target } => {
                text.write(data);
                data.set("index_id", index_id);
                data.set("obj", target.to_value());
            }
            Content::Document { resources, .. } | Content::Multimodal(resources) => {
                resources.write(data);
            }
        }
    }

    fn read(data: &Fields<'_>, kind: NodeKind) -> Result<Self, ModelError> {
        Ok(match kind {
            NodeKind::Text => Content::Text(TextContent::read(data)?),
            NodeKind::Image => {
                Content::Image { text: TextContent::read(data)?, image: ImageContent::read(data)? }
            }
            NodeKind::Index => Content::Index {
                text: TextContent::read(data)?,
                index_id: data.text("index_id")?.ok_or_else(|| data.missing("index_id"))?,
                target: IndexTarget::read(data.get("obj")),
            },
            NodeKind::Multimodal => Content::Multimodal(Resources::read(data)?),
            NodeKind::Document => {
                let mut resources = Resources::read(data)?;
                if resources.text.is_none() {
                    let text = data.text("text")?.filter(|text| !text.is_empty());
                    resources.text = text.map(MediaResource::from_text);
                }
                let class_name = data.text("class_name")?;
                let image_document = class_name.is_some_and(|name| name == "ImageDocument");
                Content::Document { resources, image_document }
            }
        })
    }
}

impl TextContent {
    fn write(&self, data: &mut Map) {
        data.set("text", &self.text);
        data.set("mimetype", &self.mimetype);
        data.set("start_char_idx", self.start_char_idx.clone());
        data.set("end_char_idx", self.end_char_idx.clone());
        data.set("text_template", &self.text_template);
    }

    /// The text may also stand in a text resource, as newer nodes have it.
    fn read(data: &Fields<'_>) -> Result<Self, ModelError> {
        let text = match data.get("text_resource") {
            Some(resource) => Fields::new(resource, data.path("text_resource"))?.text("text")?,
            None => data.text("text")?,
        };
        Ok(TextContent {
            text: text.unwrap_or_default(),
            mimetype: data.text_or("mimetype", TEXT_MIMETYPE)?,
            start_char_idx: data.int("start_char_idx")?,
            end_char_idx: data.int("end_char_idx")?,
            text_template: data.text_or("text_template", TEXT_TEMPLATE)?,
        })
    }
}

impl ImageContent {
    /// Path, address and kind may also stand in an image resource, as newer nodes have it.
    fn read(data: &Fields<'_>) -> Result<Self, ModelError> {
        let mut image = ImageContent {
            image: data.text("image")?,
            path: data.text("image_path")?,
            url: data.text("image_url")?,
            mimetype: data.text("image_mimetype")?,
            text_embedding: data.floats("text_embedding")?,
        };
        if let Some(resource) = data.get("image_resource") {
            let resource = Fields::new(resource, data.path("image_resource"))?;
            image.path = resource.text("path")?;
            image.url = resource.text("url")?;
            image.mimetype = resource.text("mimetype")?;
        }
        if image.mimetype.as_ref().is_none_or(Text::is_empty) {
            let guess = image.path.as_ref().and_then(mimetype_of_path);
            image.mimetype = guess.or(image.mimetype);
        }
        Ok(image)
    }
}

impl IndexTarget {
    fn to_value(&self) -> Value {
        match self {
            IndexTarget::None => Value::Null,
            IndexTarget::Node(node) => node.to_value(),
            IndexTarget::Other(value) => value.clone(),
        }
    }

    fn read(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => IndexTarget::None,
            Some(value) => match Node::from_value(value) {
                // Only if nothing is lost by reading it as a node.
                Ok(node) if node.to_value() == *value => IndexTarget::Node(Box::new(node)),
                _ => IndexTarget::Other(value.clone()),
            },
        }
    }
}

impl Resources {
    fn write(&self, data: &mut Map) {
        let resource = |resource: &Option<MediaResource>| {
            resource.as_ref().map_or(Value::Null, MediaResource::to_value)
        };
        data.set("text_resource", resource(&self.text));
        data.set("image_resource", resource(&self.image));
        data.set("audio_resource", resource(&self.audio));
        data.set("video_resource", resource(&self.video));
        data.set("text_template", &self.text_template);
    }

    fn read(data: &Fields<'_>) -> Result<Self, ModelError> {
        let resource = |field: &'static str| match data.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => MediaResource::read(value, data.path(field)).map(Some),
        };
        Ok(Resources {
            text: resource("text_resource")?,
            image: resource("image_resource")?,
            audio: resource("audio_resource")?,
            video: resource("video_resource")?,
            text_template: data.text_or("text_template", TEXT_TEMPLATE)?,
        })
    }
}

impl MediaResource {
    fn to_value(&self) -> Value {
        let embeddings = self.embeddings.as_ref().map(|embeddings| {
            let kinds = [("dense", &embeddings.dense), ("sparse", &embeddings.sparse)];
            let present = kinds.into_iter().filter(|(_, floats)| floats.is_some());
            let present =
                present.map(|(kind, vector)| (Text::from_static(kind), floats(vector.as_deref())));
            present.collect::<Map>()
        });
        let mut map = Map::with_capacity(6);
        map.set("embeddings", embeddings);
        if let Some(data) = &self.data {
            map.set("data", data.as_base64());
        }
        map.set("text", self.text.as_ref());
        map.set("path", self.path.as_ref());
        map.set("url", self.url.as_ref());
        map.set("mimetype", self.mimetype.as_ref());
        map.into()
    }

    fn read(value: &Value, path: String) -> Result<Self, ModelError> {
        let fields = Fields::new(value, path)?;
        let embeddings = match fields.get("embeddings") {
            None | Some(Value::Null) => None,
            Some(found) => {
                let found = Fields::new(found, fields.path("embeddings"))?;
                let (dense, sparse) = (found.floats("dense")?, found.floats("sparse")?);
                Some(MediaEmbeddings { dense, sparse })
            }
        };
        let file = fields.text("path")?.map(|path| normal_path(&path));
        let mimetype = fields.text("mimetype")?;
        Ok(MediaResource {
            embeddings,
            data: fields.text("data")?.map(MediaData::from_base64),
            text: fields.text("text")?,
            url: fields.text("url")?,
            mimetype: mimetype.or_else(|| file.as_ref().and_then(mimetype_of_path)),
            path: file,
        })
    }
}

/// A path as Python's `pathlib` shows it: no empty or `.` parts, `.` for nothing.
fn normal_path(path: &Text) -> Text {
    let Some(text) = path.as_str() else { return path.clone() };
    let root = match text.len() - text.trim_start_matches('/').len() {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match (root, parts.as_slice()) {
        ("", []) => Text::from_static("."),
        _ => format!("{root}{}", parts.join("/")).into(),
    }
}

pub(super) fn floats(floats: Option<&[f64]>) -> Value {
    let list = floats.map(|list| list.iter().map(|f| Value::Float(*f)).collect::<Vec<_>>());
    list.into()
}

fn texts(texts: &[Text]) -> Value {
    Value::List(texts.iter().map(Value::from).collect())
}
