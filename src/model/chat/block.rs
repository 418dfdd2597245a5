//! [`ContentBlock`]: a part of a message, of one of LlamaIndex's ten kinds.

use crate::kv::{Map, Text, Value};
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::media::mimetype_of_path;

/// What a part of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockKind {
    /// A text.
    Text,
    /// A picture.
    Image,
    /// A sound.
    Audio,
    /// A film.
    Video,
    /// A document.
    Document,
    /// How far the model may cache what was said.
    Cache,
    /// Something that the model can cite.
    Citable,
    /// Something that was cited.
    Citation,
    /// What the model thought before it answered.
    Thinking,
    /// A tool that the model wants to be called.
    ToolCall,
}

/// A part of a message. Its fields are those of LlamaIndex's class, complete and in its order.
///
/// Bytes are held in base64, as LlamaIndex does; addresses as they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentBlock {
    kind: BlockKind,
    fields: Map,
}

/// What a field holds, and what it is if it is absent.
#[derive(Clone, Copy)]
enum Holds {
    /// A text that must be there.
    Text,
    /// A text or null.
    OptionalText,
    /// A text, which is this if it is absent.
    TextOr(&'static str),
    /// An integer or null.
    OptionalInt,
    /// A dictionary, empty if it is absent.
    Map,
    /// A dictionary with integers, which must be there.
    Ints,
    /// A dictionary or a text; an empty dictionary if it is absent.
    MapOrText,
    /// How long a cache lives.
    CacheControl,
    /// Blocks of those kinds; a text stands for one text block.
    Blocks(&'static [BlockKind]),
    /// A block of one of those kinds; a text stands for a text block.
    Block(&'static [BlockKind]),
}

const KINDS: [(&str, BlockKind); 10] = [
    ("text", BlockKind::Text),
    ("image", BlockKind::Image),
    ("audio", BlockKind::Audio),
    ("video", BlockKind::Video),
    ("document", BlockKind::Document),
    ("cache", BlockKind::Cache),
    ("citable", BlockKind::Citable),
    ("citation", BlockKind::Citation),
    ("thinking", BlockKind::Thinking),
    ("tool_call", BlockKind::ToolCall),
];

impl BlockKind {
    /// LlamaIndex's name, the `block_type`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("text", |(name, _)| name)
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<BlockKind> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The fields after `block_type`, in LlamaIndex's order.
    fn fields(self) -> &'static [(&'static str, Holds)] {
        use Holds::{OptionalInt, OptionalText};
        match self {
            BlockKind::Text => &[("text", Holds::Text)],
            BlockKind::Image => &[
                ("image", OptionalText),
                ("path", OptionalText),
                ("url", OptionalText),
                ("image_mimetype", OptionalText),
                ("detail", OptionalText),
            ],
            BlockKind::Audio => &[
                ("audio", OptionalText),
                ("path", OptionalText),
                ("url", OptionalText),
                ("format", OptionalText),
            ],
            BlockKind::Video => &[
                ("video", OptionalText),
                ("path", OptionalText),
                ("url", OptionalText),
                ("video_mimetype", OptionalText),
                ("detail", OptionalText),
                ("fps", OptionalInt),
            ],
            BlockKind::Document => &[
                ("data", OptionalText),
                ("path", OptionalText),
                ("url", OptionalText),
                ("title", Holds::TextOr("input_document")),
                ("document_mimetype", OptionalText),
            ],
            BlockKind::Cache => &[("cache_control", Holds::CacheControl)],
            BlockKind::Citable => &[
                ("title", Holds::Text),
                ("source", Holds::Text),
                (
                    "content",
                    Holds::Blocks(&[BlockKind::Text, BlockKind::Image, BlockKind::Document]),
                ),
            ],
            BlockKind::Citation => &[
                ("cited_content", Holds::Block(&[BlockKind::Text, BlockKind::Image])),
                ("source", Holds::Text),
                ("title", Holds::Text),
                ("additional_location_info", Holds::Ints),
            ],
            BlockKind::Thinking => &[
                ("content", OptionalText),
                ("num_tokens", OptionalInt),
                ("additional_information", Holds::Map),
            ],
            BlockKind::ToolCall => &[
                ("tool_call_id", OptionalText),
                ("tool_name", Holds::Text),
                ("tool_kwargs", Holds::MapOrText),
            ],
        }
    }

    /// The field with the kind of the media, and how kinds begin that may be guessed for it.
    fn mimetype_field(self) -> Option<(&'static str, &'static str)> {
        match self {
            BlockKind::Image => Some(("image_mimetype", "image/")),
            BlockKind::Video => Some(("video_mimetype", "video/")),
            BlockKind::Document => Some(("document_mimetype", "")),
            _ => None,
        }
    }
}

impl ContentBlock {
    /// A text.
    pub fn text(text: impl Into<Text>) -> Self {
        let mut fields = Map::with_capacity(1);
        fields.set("text", text.into());
        ContentBlock { kind: BlockKind::Text, fields }
    }

    /// A block of any kind from its fields; those that are absent get their defaults.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if a field is missing or of the wrong kind.
    ///
    /// ```
    /// use siltstone::kv::{Map, Value};
    /// use siltstone::model::{BlockKind, ContentBlock};
    /// let fields: Map = [("url", "https://example.org/map.png")].into_iter().collect();
    /// let block = ContentBlock::new(BlockKind::Image, fields)?;
    /// assert_eq!(block.field("image_mimetype"), Some(&Value::from("image/png")));
    /// # Ok::<(), siltstone::model::ModelError>(())
    /// ```
    pub fn new(kind: BlockKind, fields: Map) -> Result<Self, ModelError> {
        read_fields(kind, &Fields::new(&fields.into(), kind.name().to_owned())?)
    }

    /// What it is.
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// A field by LlamaIndex's name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The text of a text block.
    pub fn as_text(&self) -> Option<&Text> {
        self.field("text").filter(|_| self.kind == BlockKind::Text)?.as_text()
    }

    /// The dictionary that LlamaIndex stores.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(1 + self.fields.len());
        map.set("block_type", self.kind.name());
        map.update(&self.fields);
        map.into()
    }

    /// Reads what LlamaIndex stored. Fields of no meaning are left out, as it does.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the type is unknown, or a field is missing or of the wrong kind.
    pub fn from_value(value: &Value) -> Result<Self, ModelError> {
        read(value, "block".to_owned(), None)
    }
}

/// Reads the blocks of a list.
pub(super) fn read_list(list: &Value, path: &str) -> Result<Vec<ContentBlock>, ModelError> {
    read_blocks(list, path, None)
}

fn read_blocks(
    list: &Value,
    path: &str,
    kinds: Option<&[BlockKind]>,
) -> Result<Vec<ContentBlock>, ModelError> {
    let Some(items) = list.as_list() else {
        let (field, found) = (path.to_owned(), list.kind());
        return Err(ModelError::Invalid { field, expected: "a list of blocks", found });
    };
    let mut blocks = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        blocks.push(read(item, format!("{path}.{place}"), kinds)?);
    }
    Ok(blocks)
}

fn read(
    value: &Value,
    path: String,
    kinds: Option<&[BlockKind]>,
) -> Result<ContentBlock, ModelError> {
    let fields = Fields::new(value, path)?;
    let found = fields.get("block_type").ok_or_else(|| fields.missing("block_type"))?;
    let name = found.as_text().and_then(|name| name.as_str());
    let kind = name.and_then(BlockKind::from_name);
    let kind = kind.filter(|kind| kinds.is_none_or(|kinds| kinds.contains(kind)));
    let kind = kind.ok_or_else(|| ModelError::Invalid {
        field: fields.path("block_type"),
        expected: "the type of a block that may stand here",
        found: if found.as_text().is_some() { "another string" } else { found.kind() },
    })?;
    read_fields(kind, &fields)
}

fn read_fields(kind: BlockKind, given: &Fields<'_>) -> Result<ContentBlock, ModelError> {
    let mut fields = Map::with_capacity(kind.fields().len());
    for (name, holds) in kind.fields() {
        fields.set(name, read_field(given, name, *holds)?);
    }
    let mut block = ContentBlock { kind, fields };
    block.guess_mimetype();
    Ok(block)
}

fn read_field(given: &Fields<'_>, name: &str, holds: Holds) -> Result<Value, ModelError> {
    let required = || given.get(name).ok_or_else(|| given.missing(name));
    Ok(match holds {
        Holds::Text => match required()? {
            text @ Value::Text(_) => text.clone(),
            other => return Err(given.invalid(name, "a string", other)),
        },
        Holds::OptionalText => given.text(name)?.into(),
        Holds::TextOr(default) => match given.text(name)?.filter(|text| !text.is_empty()) {
            Some(text) => text.into(),
            None => default.into(),
        },
        Holds::OptionalInt => given.int(name)?.into(),
        Holds::Map => given.map(name)?.unwrap_or_default().into(),
        Holds::Ints => match required()? {
            Value::Map(map) if map.iter().all(|(_, value)| is_int(value)) => map.clone().into(),
            other => return Err(given.invalid(name, "a dictionary of integers", other)),
        },
        Holds::MapOrText => match given.get(name) {
            None => Map::new().into(),
            Some(found @ (Value::Map(_) | Value::Text(_))) => found.clone(),
            Some(other) => return Err(given.invalid(name, "a dictionary or a string", other)),
        },
        Holds::CacheControl => {
            let control = Fields::new(required()?, given.path(name))?;
            let mut read = Map::with_capacity(2);
            read.set("type", read_field(&control, "type", Holds::Text)?);
            read.set("ttl", control.text_or("ttl", "5m")?);
            read.into()
        }
        Holds::Blocks(kinds) => match required()? {
            Value::Text(text) => Value::List(vec![ContentBlock::text(text).to_value()]),
            list => {
                let blocks = read_blocks(list, &given.path(name), Some(kinds))?;
                blocks.iter().map(ContentBlock::to_value).collect::<Vec<_>>().into()
            }
        },
        Holds::Block(kinds) => match required()? {
            Value::Text(text) => ContentBlock::text(text).to_value(),
            block => read(block, given.path(name), Some(kinds))?.to_value(),
        },
    })
}

fn is_int(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::BigInt(_))
}

impl ContentBlock {
    /// Without its bytes and a kind, that is guessed from the path or the address, as LlamaIndex
    /// does. It would look into the bytes too; here they are taken as they are.
    fn guess_mimetype(&mut self) {
        let Some((field, start)) = self.kind.mimetype_field() else { return };
        let is_set = |name: &str| {
            self.field(name).and_then(Value::as_text).is_some_and(|text| !text.is_empty())
        };
        if is_set(field) || is_set("image") || is_set("video") || is_set("data") {
            return;
        }
        let place = if is_set("path") { "path" } else { "url" };
        let guess = self.field(place).and_then(Value::as_text).and_then(mimetype_of_path);
        if let Some(guess) = guess.filter(|guess| guess.as_bytes().starts_with(start.as_bytes())) {
            self.fields.set(field, guess);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::json::{Style, from_slice, to_string};
    use crate::model::ChatMessage;

    /// What LlamaIndex reads and what it writes of it.
    #[test]
    fn blocks_are_completed_as_llamaindex_does() {
        // One block a line: what is given, what is stored.
        let cases = r#"
            {"block_type":"image","url":"https://e.org/a.png"}
            {"block_type":"image","image":null,"path":null,"url":"https://e.org/a.png",+
            "image_mimetype":"image/png","detail":null}
            {"block_type":"image","path":"a.pdf","image_mimetype":null}
            {"block_type":"image","image":null,"path":"a.pdf","url":null,"image_mimetype":null,+
            "detail":null}
            {"block_type":"audio","audio":"AAAA","zzz":1}
            {"block_type":"audio","audio":"AAAA","path":null,"url":null,"format":null}
            {"block_type":"video","video":"AAAA","fps":25}
            {"block_type":"video","video":"AAAA","path":null,"url":null,"video_mimetype":null,+
            "detail":null,"fps":25}
            {"block_type":"document","data":"AAAA"}
            {"block_type":"document","data":"AAAA","path":null,"url":null,+
            "title":"input_document","document_mimetype":null}
            {"block_type":"cache","cache_control":{"type":"ephemeral"}}
            {"block_type":"cache","cache_control":{"type":"ephemeral","ttl":"5m"}}
            {"block_type":"citable","title":"t","source":"s","content":"hi"}
            {"block_type":"citable","title":"t","source":"s",+
            "content":[{"block_type":"text","text":"hi"}]}
            {"block_type":"citation","cited_content":"x","source":"s","title":"t",+
            "additional_location_info":{"a":1}}
            {"block_type":"citation","cited_content":{"block_type":"text","text":"x"},+
            "source":"s","title":"t","additional_location_info":{"a":1}}
            {"block_type":"thinking"}
            {"block_type":"thinking","content":null,"num_tokens":null,"additional_information":{}}
            {"block_type":"tool_call","tool_name":"f"}
            {"block_type":"tool_call","tool_call_id":null,"tool_name":"f","tool_kwargs":{}}
            {"block_type":"tool_call","tool_name":"f","tool_kwargs":"{}"}
            {"block_type":"tool_call","tool_call_id":null,"tool_name":"f","tool_kwargs":"{}"}"#;
        let lines: Vec<&str> = cases.trim().lines().map(str::trim).collect();
        let cases = lines.join("\n").replace("+\n", "");
        let cases: Vec<&str> = cases.lines().collect();
        assert_eq!(cases.len(), 22);
        for case in cases.chunks(2) {
            let given = format!(r#"{{"blocks":[{}]}}"#, case[0]);
            let stored =
                format!(r#"{{"role":"user","additional_kwargs":{{}},"blocks":[{}]}}"#, case[1]);
            let read = ChatMessage::from_value(&from_slice(given.as_bytes()).expect("JSON"));
            let read = read.expect("a message");
            assert_eq!(to_string(&read.to_value(), Style::Compact), stored);
            assert_eq!(ChatMessage::from_value(&read.to_value()).as_ref(), Ok(&read));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (given, said) in [
            ("[]", "message is a list"),
            (r#"{"role": "nobody"}"#, "message.role is another string"),
            (r#"{"blocks": 1}"#, "message.blocks is an integer"),
            (r#"{"blocks": ["x"]}"#, "message.blocks.0 is a string"),
            (r#"{"blocks": [{"block_type": "nope"}]}"#, "message.blocks.0.block_type"),
            (r#"{"blocks": [{"block_type": "text"}]}"#, "message.blocks.0.text is missing"),
            (r#"{"additional_kwargs": null}"#, "message.additional_kwargs is null"),
            (
                r#"{"blocks": [{"block_type": "citation",
                                "cited_content": {"block_type": "audio"}}]}"#,
                "message.blocks.0.cited_content.block_type",
            ),
        ] {
            let given = from_slice(given.as_bytes()).expect("JSON");
            let failed = ChatMessage::from_value(&given).expect_err("no message").to_string();
            assert!(failed.contains(said), "{failed}");
        }
    }

    #[test]
    fn content_is_what_the_texts_say() {
        let message = |texts: &[&str]| ChatMessage {
            blocks: texts.iter().map(|text| ContentBlock::text(*text)).collect(),
            ..ChatMessage::default()
        };
        for (texts, content) in [
            (&[][..], None),
            (&[""][..], Some("")),
            (&["a"][..], Some("a")),
            (&["a", "b"][..], Some("a\nb")),
        ] {
            assert_eq!(message(texts).content(), content.map(Text::from));
        }
    }
}
