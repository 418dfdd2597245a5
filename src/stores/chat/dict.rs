//! In and out of what LlamaIndex's `SimpleChatStore` persists.

use std::ops::ControlFlow;

use super::ChatStore;
use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore, Map, Text, Value, json};
use crate::model::ChatMessage;
use crate::stores::StoreError;

/// The class of LlamaIndex's that a chat store is.
const CLASS_NAME: &str = "SimpleChatStore";

impl ChatStore {
    /// All conversations as LlamaIndex has them: `{"store": {key: [message]}, "class_name": ..}`.
    /// Holds everything in memory. `kv::json::Style::Utf8` gives the text that it persists.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::get_messages`].
    pub fn to_dict(&self) -> Result<Value, StoreError> {
        let mut store = Map::new();
        for key in self.get_keys()? {
            if let Some(messages) = self.get_conversation(&key)? {
                store.insert(key, messages);
            }
        }
        let mut dict = Map::with_capacity(2);
        dict.set("store", store);
        dict.set("class_name", CLASS_NAME);
        Ok(dict.into())
    }

    /// Replaces everything in the store by what LlamaIndex persisted, in one atomic batch: the
    /// dictionary, or, as old versions have it, a text that holds it as JSON.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] or [`StoreError::Message`] if it is no such thing: nothing was changed.
    pub fn load_dict(&self, dict: &Value) -> Result<(), StoreError> {
        let read;
        let dict = match dict {
            Value::Text(text) => {
                let found = json::from_slice(text.as_bytes());
                read = found.map_err(|_| bad("/", "is a text that holds no JSON"))?;
                &read
            }
            dict => dict,
        };
        let dict = dict.as_map().ok_or_else(|| bad("/", "is no dictionary"))?;
        let empty = Map::new();
        let chats = match dict.get("store") {
            None => &empty,
            Some(chats) => chats.as_map().ok_or_else(|| bad("/store", "is no dictionary"))?,
        };
        self.writer.change(|kv| {
            let mut batch = KvBatch::new();
            for name in [&self.names.chats, &self.names.messages] {
                batch.clear(name)?;
            }
            kv.write(batch, Durability::Buffered)?;
            for (key, messages) in chats.iter() {
                self.put_in(kv, key, messages)?;
            }
            Ok(())
        })
    }

    /// As [`ChatStore::load_dict`], of a dictionary that must say which chat store it holds, by its
    /// `class_name`: LlamaIndex's `load_chat_store`, which knows `SimpleChatStore` only.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use siltstone::kv::{MemoryKv, json};
    /// use siltstone::stores::ChatStore;
    ///
    /// let store = ChatStore::new(Arc::new(MemoryKv::new()));
    /// let dict = br#"{"class_name": "SimpleChatStore",
    ///     "store": {"alice": [{"role": "user", "content": "What is silt?"}]}}"#;
    /// store.load_chat_store(&json::from_slice(dict)?)?;
    /// assert_eq!(store.get_messages("alice")?.len(), 1);
    /// let other = json::from_slice(br#"{"class_name": "RedisChatStore"}"#)?;
    /// let refused = store.load_chat_store(&other).unwrap_err().to_string();
    /// assert!(refused.ends_with("Invalid ChatStore name: RedisChatStore"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] with LlamaIndex's words if there is no class name, or
    /// another; else as [`ChatStore::load_dict`]. Nothing was changed.
    pub fn load_chat_store(&self, dict: &Value) -> Result<(), StoreError> {
        let map = dict.as_map().ok_or_else(|| bad("/", "is no dictionary"))?;
        let what = match map.get("class_name") {
            None | Some(Value::Null) => "ChatStore loading requires a class_name".to_owned(),
            Some(Value::Text(name)) if *name == CLASS_NAME => return self.load_dict(dict),
            Some(Value::Text(name)) => {
                format!("Invalid ChatStore name: {}", name.to_string_lossy())
            }
            Some(other) => {
                let shown = json::to_string(other, json::Style::Python);
                format!("Invalid ChatStore name: {shown}")
            }
        };
        Err(StoreError::InvalidArgument(what))
    }

    /// A conversation as LlamaIndex has it, the list of its messages; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::get_messages`].
    pub fn get_conversation(&self, key: impl Into<Text>) -> Result<Option<Value>, StoreError> {
        let key = key.into();
        self.writer.read(|kv| {
            let Some(chat) = self.open(kv, &key)? else { return Ok(None) };
            let mut messages = Vec::new();
            chat.visit(0, &mut |message| {
                messages.push(message.to_value());
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(Some(messages.into()))
        })
    }

    /// Replaces a conversation by what LlamaIndex has for it, a list of messages.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] or [`StoreError::Message`] if it is no such thing: nothing was changed.
    pub fn put_conversation(
        &self,
        key: impl Into<Text>,
        messages: &Value,
    ) -> Result<(), StoreError> {
        let key = key.into();
        self.writer.change(|kv| self.put_in(kv, &key, messages))
    }

    fn put_in(&self, kv: &dyn KvStore, key: &Text, messages: &Value) -> Result<(), StoreError> {
        let messages = messages.as_list().ok_or_else(|| {
            let key = key.to_string_lossy().replace('~', "~0").replace('/', "~1");
            bad(&format!("/store/{key}"), "is no list of messages")
        })?;
        let mut chat = self.open_or_new(kv, key)?;
        chat.clear()?;
        for message in messages {
            chat.insert(None, &read_message(key, message)?.to_value())?;
        }
        chat.save()
    }

    /// Removes everything from the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.load_dict(&Map::new().into())
    }
}

fn bad(pointer: &str, what: &'static str) -> StoreError {
    StoreError::Dict { pointer: pointer.to_owned(), what }
}

/// Reads a message of the conversation `key`.
pub(super) fn read_message(key: &Text, message: &Value) -> Result<ChatMessage, StoreError> {
    let message = ChatMessage::from_value(message);
    message.map_err(|source| StoreError::Message { chat: key.clone(), source })
}
