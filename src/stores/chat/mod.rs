//! Chat stores: conversations as LlamaIndex keeps them in `SimpleChatStore` and its SQL successor.
//!
//! # What is kept
//!
//! ```text
//! collection           key          value
//! chat_store/chats     chat key     {#order, #next, #list}
//! chat_store/messages  "", "#.."    the keys in their order, see `stores/directory.rs`
//!                      "mS:N"       message N of the chat with serial number S
//!                      "C:S"        chunk C of the list of its messages' numbers
//! chat_queue/..                     see `queue.rs`
//! ```
//!
//! `S` is `#order` of the chat's record. LlamaIndex keeps all conversations in one dictionary of
//! lists and writes all of them as one file. Here a message is a record; a conversation's record
//! holds the head of a list of message numbers (`stores/list.rs`), so adding a message to a
//! conversation of n writes the message and that head, whatever n is, and never another message.
//!
//! # Atomicity
//!
//! Each call that writes is one atomic batch, so a crash leaves all of it or nothing.

mod dict;
mod queue;
mod queue_twins;
mod rows;
mod twins;

use std::ops::ControlFlow;
use std::sync::Arc;

use super::StoreError;
use super::directory::Directory;
use super::list::{List, number};
use super::writer::Writer;
use crate::kv::{KvStore, Map, Text, Value};
use crate::model::ChatMessage;

pub use queue::{ChatQueue, ChatRow, MessageStatus};

/// Messages that are read at a time.
const READ_AT_ONCE: usize = 256;

/// Stores conversations, each a list of messages under a key.
///
/// Where LlamaIndex raises `IndexError` for a position that is not there, or takes a negative one
/// as counted from the end, deleting gives `None`, as newer versions of it do.
///
/// Clones share one store; so do others made over the same key-value store, if that has a
/// [`writer_lock`](KvStore::writer_lock) of its own, as ours have.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::{ChatMessage, MessageRole};
/// use siltstone::stores::ChatStore;
///
/// let store = ChatStore::new(Arc::new(MemoryKv::new()));
/// store.add_message("alice", &ChatMessage::new(MessageRole::User, "What is silt?"), None)?;
/// store.add_message("alice", &ChatMessage::new(MessageRole::Assistant, "Fine sediment."), None)?;
/// assert_eq!(store.get_messages("alice")?.len(), 2);
/// let last = store.delete_last_message("alice")?;
/// assert_eq!(last.map(|message| message.role), Some(MessageRole::Assistant));
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct ChatStore {
    writer: Writer,
    names: Arc<Names>,
}

/// The collections of a store.
struct Names {
    chats: String,
    messages: String,
}

/// A conversation while it is read or changed.
struct Chat<'a> {
    kv: &'a dyn KvStore,
    names: &'a Names,
    key: &'a Text,
    serial: u64,
    /// Number of the next message.
    next: u64,
    list: List<'a>,
}

impl ChatStore {
    /// The store in the default namespace of `kv`, `chat_store`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        ChatStore::with_namespace(kv, "")
    }

    /// The store in another namespace; an empty one stands for the default.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        ChatStore::from_writer(Writer::new(kv), namespace)
    }

    /// As [`ChatStore::with_namespace`], with a lock that other stores share.
    pub(crate) fn from_writer(writer: Writer, namespace: &str) -> Self {
        let namespace = if namespace.is_empty() { "chat_store" } else { namespace };
        let (chats, messages) = (format!("{namespace}/chats"), format!("{namespace}/messages"));
        let names = Names { chats, messages };
        ChatStore { writer, names: Arc::new(names) }
    }

    /// Replaces the conversation by `messages`, which may be none. Its key keeps its place.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written, [`StoreError::Corrupt`] if what is there
    /// is damaged.
    pub fn set_messages(
        &self,
        key: impl Into<Text>,
        messages: &[ChatMessage],
    ) -> Result<(), StoreError> {
        let key = key.into();
        self.writer.change(|kv| {
            let mut chat = self.open_or_new(kv, &key)?;
            chat.clear()?;
            messages.iter().try_for_each(|message| chat.insert(None, &message.to_value()))?;
            chat.save()
        })
    }

    /// The messages of a conversation, in order; none if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Message`] if what is stored is no message, [`StoreError::Corrupt`] if the
    /// list is damaged.
    pub fn get_messages(&self, key: impl Into<Text>) -> Result<Vec<ChatMessage>, StoreError> {
        let mut messages = Vec::new();
        self.for_each_message(key, 0, &mut |message| {
            messages.push(message);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(messages)
    }

    /// Calls `visit` with the messages of a conversation from `position` on, in order, until it
    /// says [`ControlFlow::Break`]; without holding more than a few at a time. `visit` must not
    /// change the store.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s, and as [`ChatStore::get_messages`].
    pub fn for_each_message(
        &self,
        key: impl Into<Text>,
        position: u64,
        visit: &mut dyn FnMut(ChatMessage) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let key = key.into();
        self.writer.read(|kv| match self.open(kv, &key)? {
            Some(chat) => chat.visit(position, visit),
            None => Ok(()),
        })
    }

    /// How many messages a conversation has.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if its record is damaged.
    pub fn count_messages(&self, key: impl Into<Text>) -> Result<u64, StoreError> {
        let key = key.into();
        self.writer.read(|kv| Ok(self.open(kv, &key)?.map_or(0, |chat| chat.list.len())))
    }

    /// Adds a message: at the end, or so that it stands at `position`, where negative ones count
    /// from the end and those that are beyond either end stand for it (as Python's `list.insert`).
    ///
    /// Cost: at an end, or near one, the same in any conversation; in the middle of a long one, a
    /// small record is read for each 32 messages between there and the nearer end.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::set_messages`].
    pub fn add_message(
        &self,
        key: impl Into<Text>,
        message: &ChatMessage,
        position: Option<i64>,
    ) -> Result<(), StoreError> {
        let (key, message) = (key.into(), message.to_value());
        self.writer.change(|kv| {
            let mut chat = self.open_or_new(kv, &key)?;
            chat.insert(position, &message)?;
            chat.save()
        })
    }

    /// Adds messages at the end, all or none.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::set_messages`].
    pub fn add_messages(
        &self,
        key: impl Into<Text>,
        messages: &[ChatMessage],
    ) -> Result<(), StoreError> {
        let key = key.into();
        self.writer.change(|kv| {
            let mut chat = self.open_or_new(kv, &key)?;
            messages.iter().try_for_each(|message| chat.insert(None, &message.to_value()))?;
            chat.save()
        })
    }

    /// Removes a conversation and returns its messages, if it is there.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::get_messages`]; nothing was removed then.
    pub fn delete_messages(
        &self,
        key: impl Into<Text>,
    ) -> Result<Option<Vec<ChatMessage>>, StoreError> {
        let key = key.into();
        self.writer.change(|kv| {
            let Some(mut chat) = self.open(kv, &key)? else { return Ok(None) };
            let mut messages = Vec::new();
            chat.visit(0, &mut |message| {
                messages.push(message);
                Ok(ControlFlow::Continue(()))
            })?;
            chat.clear()?;
            kv.delete(&self.names.chats, key.as_bytes())?;
            let mut directory = Directory::load(kv, &self.names.messages)?;
            directory.leave(chat.serial, &key)?;
            directory.save()?;
            Ok(Some(messages))
        })
    }

    /// Removes the message at `position` and returns it; `None` if there is none, which is so for
    /// negative ones. A conversation without messages stays. The cost is that of
    /// [`ChatStore::add_message`] there.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::get_messages`]; nothing was removed then.
    pub fn delete_message(
        &self,
        key: impl Into<Text>,
        position: i64,
    ) -> Result<Option<ChatMessage>, StoreError> {
        let key = key.into();
        let Ok(position) = u64::try_from(position) else { return Ok(None) };
        self.remove(&key, |_| position)
    }

    /// Removes the last message of a conversation and returns it, if there is one.
    ///
    /// # Errors
    ///
    /// As [`ChatStore::get_messages`]; nothing was removed then.
    pub fn delete_last_message(
        &self,
        key: impl Into<Text>,
    ) -> Result<Option<ChatMessage>, StoreError> {
        self.remove(&key.into(), |len| len.saturating_sub(1))
    }

    /// The keys of all conversations in the order in which they were first added.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if bookkeeping is damaged.
    pub fn get_keys(&self) -> Result<Vec<Text>, StoreError> {
        self.writer.read(|kv| Directory::load(kv, &self.names.messages)?.ids())
    }

    /// Makes everything written so far durable, in all stores over the same key-value store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; its source says what became of the data.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist()?)
    }

    /// Removes the message at the position that `choose` gives for the length.
    fn remove(
        &self,
        key: &Text,
        choose: impl FnOnce(u64) -> u64,
    ) -> Result<Option<ChatMessage>, StoreError> {
        self.writer.change(|kv| {
            let Some(mut chat) = self.open(kv, key)? else { return Ok(None) };
            let position = choose(chat.list.len());
            let Some(number) = chat.list.remove_at(position)? else { return Ok(None) };
            let record = chat.message_key(&number);
            let message = chat.read(&record, kv.get(&self.names.messages, &record)?)?;
            kv.delete(&self.names.messages, &record)?;
            chat.save()?;
            Ok(Some(message))
        })
    }

    fn open<'a>(
        &'a self,
        kv: &'a dyn KvStore,
        key: &'a Text,
    ) -> Result<Option<Chat<'a>>, StoreError> {
        let names = &*self.names;
        let Some(record) = kv.get(&names.chats, key.as_bytes())? else { return Ok(None) };
        let found = record.as_map().and_then(|map| {
            Some((number(map, "#order")?, number(map, "#next")?, map.get("#list")?))
        });
        let wrong = || StoreError::corrupt(&names.chats, key.as_bytes(), "is no conversation");
        let (serial, next, head) = found.ok_or_else(wrong)?;
        let list = List::open(kv, &names.messages, serial.to_string(), head)?;
        Ok(Some(Chat { kv, names, key, serial, next, list }))
    }

    fn open_or_new<'a>(
        &'a self,
        kv: &'a dyn KvStore,
        key: &'a Text,
    ) -> Result<Chat<'a>, StoreError> {
        if let Some(chat) = self.open(kv, key)? {
            return Ok(chat);
        }
        let names = &*self.names;
        let mut directory = Directory::load(kv, &names.messages)?;
        let serial = directory.enter(key)?;
        directory.save()?;
        let list = List::new(kv, &names.messages, serial.to_string());
        Ok(Chat { kv, names, key, serial, next: 0, list })
    }
}

impl Chat<'_> {
    /// Adds a message, at the end or where Python's `list.insert` does.
    fn insert(&mut self, position: Option<i64>, message: &Value) -> Result<(), StoreError> {
        let number = Value::from(self.next);
        self.next += 1;
        self.kv.put(&self.names.messages, &self.message_key(&number), message)?;
        let len = self.list.len();
        let position = match position {
            None => len,
            Some(position) => u64::try_from(position)
                .unwrap_or_else(|_| len.saturating_sub(position.unsigned_abs())),
        };
        self.list.insert(position, number)
    }

    /// Removes all messages.
    fn clear(&mut self) -> Result<(), StoreError> {
        for number in self.list.values()? {
            self.kv.delete(&self.names.messages, &self.message_key(&number))?;
        }
        self.list.clear()
    }

    fn save(&self) -> Result<(), StoreError> {
        let mut record = Map::with_capacity(3);
        record.set("#order", self.serial);
        record.set("#next", self.next);
        record.set("#list", self.list.head());
        Ok(self.kv.put(&self.names.chats, self.key.as_bytes(), &record.into())?)
    }

    fn visit(
        &self,
        position: u64,
        visit: &mut dyn FnMut(ChatMessage) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut keys = Vec::with_capacity(READ_AT_ONCE);
        let mut flow = ControlFlow::Continue(());
        self.list.visit(position, &mut |_, number| {
            keys.push(self.message_key(&number));
            if keys.len() == READ_AT_ONCE {
                flow = self.give(&mut keys, visit)?;
            }
            Ok(flow)
        })?;
        if flow.is_continue() {
            let _last = self.give(&mut keys, visit)?;
        }
        Ok(())
    }

    /// Gives the messages of `keys` to `visit`, and empties `keys`.
    fn give(
        &self,
        keys: &mut Vec<Vec<u8>>,
        visit: &mut dyn FnMut(ChatMessage) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let wanted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let values = self.kv.get_many(&self.names.messages, &wanted)?;
        for (key, value) in keys.drain(..).zip(values) {
            if visit(self.read(&key, value)?)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read(&self, record: &[u8], value: Option<Value>) -> Result<ChatMessage, StoreError> {
        let missing = || StoreError::corrupt(&self.names.messages, record, "is missing");
        let message = ChatMessage::from_value(&value.ok_or_else(missing)?);
        message.map_err(|source| StoreError::Message { chat: self.key.clone(), source })
    }

    /// The key of the message whose number stands in the list.
    fn message_key(&self, number: &Value) -> Vec<u8> {
        // Something else than a number names no record, and that is reported.
        let number = number.as_int().unwrap_or(-1);
        format!("m{}:{number}", self.serial).into_bytes()
    }
}

impl std::fmt::Debug for ChatStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatStore").field("chats", &self.names.chats).finish()
    }
}

#[cfg(test)]
mod tests;
