//! [`ChatMessage`]: one message of a conversation with a model, and LlamaIndex's form of it.

mod block;

use super::error::ModelError;
use super::fields::Fields;
use crate::kv::{Map, Text, Value};

pub use block::{BlockKind, ContentBlock};

/// Who speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageRole {
    /// Who set the model up.
    System,
    /// Who set the model up, in newer interfaces.
    Developer,
    /// Who asks.
    #[default]
    User,
    /// The model.
    Assistant,
    /// A function that the model called.
    Function,
    /// A tool that the model called.
    Tool,
    /// The model, in Cohere's interface.
    Chatbot,
    /// The model, in Google's interface.
    Model,
}

const ROLES: [(&str, MessageRole); 8] = [
    ("system", MessageRole::System),
    ("developer", MessageRole::Developer),
    ("user", MessageRole::User),
    ("assistant", MessageRole::Assistant),
    ("function", MessageRole::Function),
    ("tool", MessageRole::Tool),
    ("chatbot", MessageRole::Chatbot),
    ("model", MessageRole::Model),
];

impl MessageRole {
    /// LlamaIndex's name.
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|(_, role)| *role == self).map_or("user", |(name, _)| name)
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<MessageRole> {
        ROLES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
    }
}

/// A message: who says it, what is said, and what an interface adds.
///
/// ```
/// use siltstone::model::{ChatMessage, MessageRole};
/// let message = ChatMessage::new(MessageRole::User, "What is silt?");
/// assert_eq!(message.content().map(|text| text.to_string()).as_deref(), Some("What is silt?"));
/// let value = message.to_value();
/// assert_eq!(ChatMessage::from_value(&value)?, message);
/// # Ok::<(), siltstone::model::ModelError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who says it.
    pub role: MessageRole,
    /// What an interface adds, such as calls of tools.
    pub additional_kwargs: Map,
    /// What is said, in parts.
    pub blocks: Vec<ContentBlock>,
}

impl ChatMessage {
    /// A message of one text.
    pub fn new(role: MessageRole, text: impl Into<Text>) -> Self {
        let blocks = vec![ContentBlock::text(text)];
        ChatMessage { role, additional_kwargs: Map::new(), blocks }
    }

    /// The texts of the text blocks with line ends between them; `None` if there is none.
    pub fn content(&self) -> Option<Text> {
        let mut texts = self.blocks.iter().filter_map(ContentBlock::as_text);
        let mut content = texts.next()?.as_bytes().to_vec();
        for text in texts {
            content.push(b'\n');
            content.extend_from_slice(text.as_bytes());
        }
        Text::from_bytes(content).ok()
    }

    /// The dictionary that LlamaIndex stores.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(3);
        map.set("role", self.role.name());
        map.set("additional_kwargs", self.additional_kwargs.clone());
        map.set("blocks", self.blocks.iter().map(ContentBlock::to_value).collect::<Vec<_>>());
        map.into()
    }

    /// Reads what LlamaIndex stored, now or when a message had only a text, `content`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if a field is missing or of the wrong kind.
    pub fn from_value(value: &Value) -> Result<Self, ModelError> {
        let fields = Fields::new(value, "message".to_owned())?;
        let role = match fields.get("role") {
            None => MessageRole::default(),
            Some(found) => {
                let name = found.as_text().and_then(|name| name.as_str());
                name.and_then(MessageRole::from_name).ok_or_else(|| ModelError::Invalid {
                    field: fields.path("role"),
                    expected: "a role such as \"user\"",
                    found: if found.as_text().is_some() { "another string" } else { found.kind() },
                })?
            }
        };
        let blocks = match (fields.get("content"), fields.get("blocks")) {
            (Some(Value::Text(text)), _) => vec![ContentBlock::text(text)],
            (Some(list @ Value::List(_)), _) | (_, Some(list)) => {
                block::read_list(list, &fields.path("blocks"))?
            }
            (_, None) => Vec::new(),
        };
        let additional_kwargs = fields.map("additional_kwargs")?.unwrap_or_default();
        Ok(ChatMessage { role, additional_kwargs, blocks })
    }
}
