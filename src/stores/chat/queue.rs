//! [`ChatQueue`]: conversations from which the oldest messages go, as LlamaIndex's
//! `SQLAlchemyChatStore` keeps them for its memory.
//!
//! ```text
//! collection         key         value
//! chat_queue/queues  chat key    {#order, #active, #archived: heads of lists}
//! chat_queue/rows    "", "#.."   the keys in their order, see `stores/directory.rs`
//!                    "rows"      {#next: the next row id, #timestamp: the latest}
//!                    "rI"        row I: {key, timestamp, status, data [, #chunk]}
//!                    "C:Sa"      chunk C of the list of the active rows of chat S
//!                    "C:Sz"      the same of the archived ones
//! ```
//!
//! A list holds `[timestamp, row id]` in that order. A row that is the latest of its conversation,
//! as nearly all are, is pushed at the end; one with an older timestamp is put in its place.
//! `#chunk` says where in the list a row was put; if it has been moved since, it is searched by its
//! order.

use std::sync::Arc;

use super::rows::{Chat, Counter, Names, row_key};
use crate::kv::{KvStore, Text};
use crate::model::ChatMessage;
use crate::stores::StoreError;
use crate::stores::directory::Directory;
use crate::stores::writer::Writer;

/// Whether a message is part of what is said, or was put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageStatus {
    /// Part of what is said.
    #[default]
    Active,
    /// Put aside.
    Archived,
}

impl MessageStatus {
    /// LlamaIndex's name.
    pub fn name(self) -> &'static str {
        match self {
            MessageStatus::Active => "active",
            MessageStatus::Archived => "archived",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<MessageStatus> {
        [MessageStatus::Active, MessageStatus::Archived].into_iter().find(|s| s.name() == name)
    }

    /// Which lists a question is about: none named means all.
    pub(super) fn lists(status: Option<MessageStatus>) -> &'static [MessageStatus] {
        match status {
            Some(MessageStatus::Active) => &[MessageStatus::Active],
            Some(MessageStatus::Archived) => &[MessageStatus::Archived],
            None => &[MessageStatus::Active, MessageStatus::Archived],
        }
    }
}

/// A message with what the queue knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRow {
    /// Its number, unique in the store and never used again; the first is 1.
    pub id: u64,
    /// The conversation's key.
    pub key: Text,
    /// What it is ordered by, and then by its number.
    pub timestamp: i64,
    /// Whether it was put aside.
    pub status: MessageStatus,
    /// The message.
    pub message: ChatMessage,
}

/// Stores conversations whose messages have an id, a time and a status.
///
/// Messages are ordered by timestamp. The library reads no clock: [`ChatQueue::add_message`] takes
/// the number after the latest that the store has seen, [`ChatQueue::add_message_at`] is told one.
///
/// Clones share one store; so do others made over the same key-value store, if that has a
/// [`writer_lock`](KvStore::writer_lock) of its own, as ours have.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::{ChatMessage, MessageRole};
/// use siltstone::stores::{ChatQueue, MessageStatus};
///
/// let queue = ChatQueue::new(Arc::new(MemoryKv::new()));
/// for n in 0..5 {
///     let message = ChatMessage::new(MessageRole::User, format!("message {n}"));
///     queue.add_message("alice", &message, MessageStatus::Active)?;
/// }
/// let oldest = queue.archive_oldest_messages("alice", 2)?;
/// assert_eq!(oldest.len(), 2);
/// assert_eq!(queue.count_messages("alice", Some(MessageStatus::Active))?, 3);
/// assert_eq!(queue.count_messages("alice", None)?, 5);
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct ChatQueue {
    pub(super) writer: Writer,
    names: Arc<Names>,
}

impl ChatQueue {
    /// The store in the default namespace of `kv`, `chat_queue`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        ChatQueue::with_namespace(kv, "")
    }

    /// The store in another namespace; an empty one stands for the default. LlamaIndex's table
    /// name.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        ChatQueue::from_writer(Writer::new(kv), namespace)
    }

    /// As [`ChatQueue::with_namespace`], with a lock that other stores share.
    pub(crate) fn from_writer(writer: Writer, namespace: &str) -> Self {
        let namespace = if namespace.is_empty() { "chat_queue" } else { namespace };
        let names =
            Names { queues: format!("{namespace}/queues"), rows: format!("{namespace}/rows") };
        ChatQueue { writer, names: Arc::new(names) }
    }

    /// The messages of a status, or of all, in order: at most `limit`, without the first `offset`.
    ///
    /// Cost: that of the messages returned, and of a small record for each 32 messages between them
    /// and the nearer end of the conversation.
    ///
    /// # Errors
    ///
    /// [`StoreError::Message`] if what is stored is no message, [`StoreError::Corrupt`] if records
    /// are damaged.
    pub fn get_messages(
        &self,
        key: impl Into<Text>,
        status: Option<MessageStatus>,
        limit: Option<u64>,
        offset: u64,
    ) -> Result<Vec<ChatMessage>, StoreError> {
        let rows = self.get_rows(key, status, limit, offset)?;
        Ok(rows.into_iter().map(|row| row.message).collect())
    }

    /// As [`ChatQueue::get_messages`], with ids, timestamps and status.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::get_messages`].
    pub fn get_rows(
        &self,
        key: impl Into<Text>,
        status: Option<MessageStatus>,
        limit: Option<u64>,
        offset: u64,
    ) -> Result<Vec<ChatRow>, StoreError> {
        let key = key.into();
        self.writer.read(|kv| match Chat::open(kv, &self.names, &key)? {
            Some(chat) => chat.rows(status, limit, offset),
            None => Ok(Vec::new()),
        })
    }

    /// How many messages of a status there are, or of all. Reads none of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the conversation's record is damaged.
    pub fn count_messages(
        &self,
        key: impl Into<Text>,
        status: Option<MessageStatus>,
    ) -> Result<u64, StoreError> {
        let key = key.into();
        self.writer.read(|kv| {
            let Some(chat) = Chat::open(kv, &self.names, &key)? else { return Ok(0) };
            Ok(MessageStatus::lists(status).iter().map(|status| chat.list(*status).len()).sum())
        })
    }

    /// Adds a message after all others; returns its id.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written, [`StoreError::Corrupt`] if what is there
    /// is damaged.
    pub fn add_message(
        &self,
        key: impl Into<Text>,
        message: &ChatMessage,
        status: MessageStatus,
    ) -> Result<u64, StoreError> {
        self.add(&key.into(), std::slice::from_ref(message), status, None, false)
    }

    /// Adds a message with a timestamp (LlamaIndex takes nanoseconds); returns its id.
    ///
    /// Cost: near the first or the last timestamp of the conversation the same at any length; in
    /// between, a small record for each 32 messages on both sides, as far as the nearer end is.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::add_message`].
    pub fn add_message_at(
        &self,
        key: impl Into<Text>,
        message: &ChatMessage,
        status: MessageStatus,
        timestamp: i64,
    ) -> Result<u64, StoreError> {
        self.add(&key.into(), std::slice::from_ref(message), status, Some(timestamp), false)
    }

    /// Adds messages after all others, all or none; returns the id of the last.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if there are none, as LlamaIndex has it; else as
    /// [`ChatQueue::add_message`].
    pub fn add_messages(
        &self,
        key: impl Into<Text>,
        messages: &[ChatMessage],
        status: MessageStatus,
    ) -> Result<u64, StoreError> {
        if messages.is_empty() {
            return Err(StoreError::InvalidArgument("there are no messages to add".to_owned()));
        }
        self.add(&key.into(), messages, status, None, false)
    }

    /// Replaces the conversation, messages of every status, by `messages`, which may be none.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::add_message`].
    pub fn set_messages(
        &self,
        key: impl Into<Text>,
        messages: &[ChatMessage],
        status: MessageStatus,
    ) -> Result<(), StoreError> {
        self.add(&key.into(), messages, status, None, true).map(drop)
    }

    /// Removes the message with that id and returns it, if the conversation has it.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::get_messages`]; nothing was removed then.
    pub fn delete_message(
        &self,
        key: impl Into<Text>,
        id: u64,
    ) -> Result<Option<ChatMessage>, StoreError> {
        self.change(&key.into(), |chat| chat.remove(id)).map(Option::flatten)
    }

    /// Removes the message at a position among those of a status, or of all, and returns it, if
    /// there is one. The cost is that of [`ChatQueue::get_messages`] there.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::get_messages`]; nothing was removed then.
    pub fn delete_message_at(
        &self,
        key: impl Into<Text>,
        position: u64,
        status: Option<MessageStatus>,
    ) -> Result<Option<ChatMessage>, StoreError> {
        let removed = self.change(&key.into(), |chat| {
            let rows = chat.rows(status, Some(1), position)?;
            rows.first().map_or(Ok(None), |row| chat.remove(row.id))
        })?;
        Ok(removed.flatten())
    }

    /// Removes the messages of a status, or all.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::add_message`].
    pub fn delete_messages(
        &self,
        key: impl Into<Text>,
        status: Option<MessageStatus>,
    ) -> Result<(), StoreError> {
        self.change(&key.into(), |chat| chat.clear(status)).map(drop)
    }

    /// Removes the oldest `n` active messages and returns them.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::get_messages`]; nothing was removed then.
    pub fn delete_oldest_messages(
        &self,
        key: impl Into<Text>,
        n: u64,
    ) -> Result<Vec<ChatMessage>, StoreError> {
        let key = key.into();
        let removed = self.change(&key, |chat| {
            let rows = chat.rows(Some(MessageStatus::Active), Some(n), 0)?;
            for row in &rows {
                chat.active.remove_at(0)?;
                chat.kv.delete(&chat.names.rows, &row_key(row.id))?;
            }
            Ok(rows)
        })?;
        Ok(removed.unwrap_or_default().into_iter().map(|row| row.message).collect())
    }

    /// Puts the oldest `n` active messages aside and returns them.
    ///
    /// # Errors
    ///
    /// As [`ChatQueue::get_messages`]; nothing was changed then.
    pub fn archive_oldest_messages(
        &self,
        key: impl Into<Text>,
        n: u64,
    ) -> Result<Vec<ChatMessage>, StoreError> {
        let key = key.into();
        let archived = self.change(&key, |chat| {
            let mut rows = chat.rows(Some(MessageStatus::Active), Some(n), 0)?;
            for row in &mut rows {
                chat.active.remove_at(0)?;
                row.status = MessageStatus::Archived;
                chat.put(row)?;
            }
            Ok(rows)
        })?;
        Ok(archived.unwrap_or_default().into_iter().map(|row| row.message).collect())
    }

    /// The keys of all conversations that have a message, in the order in which they came.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if bookkeeping is damaged.
    pub fn get_keys(&self) -> Result<Vec<Text>, StoreError> {
        self.writer.read(|kv| Directory::load(kv, &self.names.rows)?.ids())
    }

    /// Makes everything written so far durable, in all stores over the same key-value store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; its source says what became of the data.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist()?)
    }

    /// Adds messages, after removing all others if `anew`; returns the id of the last.
    fn add(
        &self,
        key: &Text,
        messages: &[ChatMessage],
        status: MessageStatus,
        timestamp: Option<i64>,
        anew: bool,
    ) -> Result<u64, StoreError> {
        self.writer.change(|kv| {
            let names = &*self.names;
            let mut counter = Counter::load(kv, names)?;
            let mut chat = match Chat::open(kv, &self.names, key)? {
                Some(chat) => chat,
                None if messages.is_empty() => return Ok(0),
                None => {
                    let mut directory = Directory::load(kv, &names.rows)?;
                    let serial = directory.enter(key)?;
                    directory.save()?;
                    Chat::new(kv, names, key, serial)
                }
            };
            if anew {
                chat.clear(None)?;
            }
            for message in messages {
                let timestamp = timestamp.unwrap_or(counter.timestamp.saturating_add(1));
                counter.timestamp = counter.timestamp.max(timestamp);
                let (id, key, message) = (counter.next, key.clone(), message.clone());
                chat.put(&ChatRow { id, key, timestamp, status, message })?;
                counter.next += 1;
            }
            counter.save(kv, names)?;
            chat.save()?;
            Ok(counter.next.saturating_sub(1))
        })
    }

    /// Changes a conversation, if it is there.
    fn change<T>(
        &self,
        key: &Text,
        change: impl FnOnce(&mut Chat<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.writer.change(|kv| {
            let Some(mut chat) = Chat::open(kv, &self.names, key)? else { return Ok(None) };
            let done = change(&mut chat)?;
            chat.save()?;
            Ok(Some(done))
        })
    }
}

impl std::fmt::Debug for ChatQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatQueue").field("queues", &self.names.queues).finish()
    }
}
