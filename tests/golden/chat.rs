//! Traces of `SimpleChatStore` and of `SQLAlchemyChatStore`.

use siltstone::kv::{Map, Text, Value, json};
use siltstone::model::ChatMessage;
use siltstone::stores::{ChatQueue, ChatStore, MessageStatus, StoreError};

use crate::kvstore::block_on;
use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct ChatRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    store: Option<ChatStore>,
    /// Every second call of a method with a twin goes to that.
    calls: usize,
}

impl<'a> ChatRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        let store = Some(ChatStore::new(backend.open()));
        ChatRunner { backend, store, calls: 0 }
    }

    /// Closes the key-value store and opens it again; then takes everything out as JSON text and
    /// loads that, so that both ways of keeping a store are passed.
    fn reload(&mut self) -> Result<(), StoreError> {
        if let Some(store) = self.store.take() {
            store.persist()?;
        }
        let store = ChatStore::new(self.backend.open());
        let dict = json::from_slice(persisted(&store)?.to_string().as_bytes())
            .map_err(|e| StoreError::InvalidArgument(e.to_string()))?;
        store.load_dict(&dict)?;
        self.store = Some(store);
        Ok(())
    }
}

impl Runner for ChatRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        self.calls += 1;
        if op.name == "persist_reload" {
            return self.reload().map(|()| Ok(Value::Null)).map_err(|e| e.to_string());
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        if op.name == "load_text" {
            let given = text(op, "text")?;
            return Ok(match json::from_slice(given.as_bytes()) {
                Ok(dict) => store.load_dict(&dict).map(|()| Value::Null).map_err(raised),
                Err(e) => Err(Raised { class: "JSONDecodeError", message: e.to_string() }),
            });
        }
        Ok(run(store, op, self.calls.is_multiple_of(2))?.map_err(raised))
    }
}

fn raised(e: StoreError) -> Raised {
    let class = match &e {
        StoreError::Kv(_) | StoreError::Corrupt { .. } => "OSError",
        StoreError::InvalidArgument(_) => "IntegrityError",
        _ => "ValueError",
    };
    Raised { class, message: e.to_string() }
}

/// The text of the file that LlamaIndex writes.
fn persisted(store: &ChatStore) -> Result<String, StoreError> {
    Ok(json::to_string(&store.to_dict()?, json::Style::Utf8))
}

fn text(op: &Op<'_>, name: &str) -> Result<Text, String> {
    op.args.get(name).and_then(Value::as_text).cloned().ok_or_else(|| format!("no {name}"))
}

fn message(op: &Op<'_>) -> Result<ChatMessage, String> {
    let given = op.args.get("message").ok_or("no message")?;
    ChatMessage::from_value(given).map_err(|e| e.to_string())
}

fn messages(op: &Op<'_>) -> Result<Vec<ChatMessage>, String> {
    let given = op.args.get("messages").and_then(Value::as_list).ok_or("no messages")?;
    given.iter().map(|one| ChatMessage::from_value(one).map_err(|e| e.to_string())).collect()
}

fn listed(messages: Vec<ChatMessage>) -> Value {
    messages.iter().map(ChatMessage::to_value).collect::<Vec<_>>().into()
}

fn optional(message: Option<ChatMessage>) -> Value {
    message.map_or(Value::Null, |message| message.to_value())
}

fn keys(keys: Vec<Text>) -> Value {
    keys.into_iter().map(Value::from).collect::<Vec<_>>().into()
}

fn nothing(done: Result<(), StoreError>) -> Result<Value, StoreError> {
    done.map(|()| Value::Null)
}

fn run(store: &ChatStore, op: &Op<'_>, twin: bool) -> Result<Result<Value, StoreError>, String> {
    let key = || text(op, "key");
    let position = || match op.args.get("idx") {
        None | Some(Value::Null) => Ok(None),
        Some(position) => position.as_int().map(Some).ok_or("no position"),
    };
    // What the traces call by the name of a twin goes there, and every second of the others.
    let (name, twin) = match op.name.strip_prefix("async_").or(op.name.strip_prefix('a')) {
        None | Some("dd_message") => (op.name, twin),
        Some(name) => (name, true),
    };
    Ok(match name {
        "set_messages" => nothing(match twin {
            true => block_on(store.aset_messages(key()?, &messages(op)?)),
            false => store.set_messages(key()?, &messages(op)?),
        }),
        "add_message" => nothing(match twin {
            true => block_on(store.async_add_message(key()?, &message(op)?, position()?)),
            false => store.add_message(key()?, &message(op)?, position()?),
        }),
        "get_messages" => match twin {
            true => block_on(store.aget_messages(key()?)),
            false => store.get_messages(key()?),
        }
        .map(listed),
        "delete_messages" => match twin {
            true => block_on(store.adelete_messages(key()?)),
            false => store.delete_messages(key()?),
        }
        .map(|gone| gone.map_or(Value::Null, listed)),
        "delete_message" => {
            let position = position()?.ok_or("no position")?;
            match twin {
                true => block_on(store.adelete_message(key()?, position)),
                false => store.delete_message(key()?, position),
            }
            .map(optional)
        }
        "delete_last_message" => match twin {
            true => block_on(store.adelete_last_message(key()?)),
            false => store.delete_last_message(key()?),
        }
        .map(optional),
        "get_keys" => match twin {
            true => block_on(store.aget_keys()),
            false => store.get_keys(),
        }
        .map(keys),
        "message_content" => Ok(message(op)?.content().into()),
        "dump" => store.to_dict(),
        "persist_bytes" => persisted(store).map(Value::from),
        // A file that is not there is an empty store.
        "load_missing" => nothing(store.load_dict(&Map::new().into())),
        other => return Err(format!("unknown operation {other}")),
    })
}

pub(crate) struct QueueRunner<'a> {
    backend: &'a mut dyn Backend,
    calls: usize,
}

impl<'a> QueueRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        QueueRunner { backend, calls: 0 }
    }
}

impl Runner for QueueRunner<'_> {
    /// The traces do not close the store; so it is closed and opened again before each operation.
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        self.calls += 1;
        let store = ChatQueue::new(self.backend.open());
        Ok(run_queue(&store, op, self.calls.is_multiple_of(2))?.map_err(raised))
    }
}

fn run_queue(
    store: &ChatQueue,
    op: &Op<'_>,
    twin: bool,
) -> Result<Result<Value, StoreError>, String> {
    let key = || text(op, "key");
    let status = || match op.args.get("status") {
        None => Ok(Some(MessageStatus::Active)),
        Some(Value::Null) => Ok(None),
        Some(name) => {
            let name = name.as_text().and_then(|name| name.as_str());
            name.and_then(MessageStatus::from_name).map(Some).ok_or("no status")
        }
    };
    // To delete, none named means all.
    let to_delete = || op.args.get("status").map_or(Ok(None), |_| status());
    let to_add = || status()?.ok_or("messages have a status");
    let count = |name: &str| match op.args.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(n) => {
            let n = n.as_int().and_then(|n| u64::try_from(n).ok());
            n.map(Some).ok_or_else(|| format!("no {name}"))
        }
    };
    let n = || count("n")?.ok_or_else(|| "no n".to_owned());
    Ok(match op.name {
        "get_messages" => {
            let (limit, offset) = (count("limit")?, count("offset")?.unwrap_or(0));
            match twin {
                true => block_on(store.aget_messages(key()?, status()?, limit, offset)),
                false => store.get_messages(key()?, status()?, limit, offset),
            }
            .map(listed)
        }
        "count_messages" => match twin {
            true => block_on(store.acount_messages(key()?, status()?)),
            false => store.count_messages(key()?, status()?),
        }
        .map(Value::from),
        "add_message" => match twin {
            true => block_on(store.async_add_message(key()?, &message(op)?, to_add()?)),
            false => store.add_message(key()?, &message(op)?, to_add()?),
        }
        .map(|_| Value::Null),
        "add_messages" => match twin {
            true => block_on(store.async_add_messages(key()?, &messages(op)?, to_add()?)),
            false => store.add_messages(key()?, &messages(op)?, to_add()?),
        }
        .map(|_| Value::Null),
        "set_messages" => nothing(match twin {
            true => block_on(store.aset_messages(key()?, &messages(op)?, to_add()?)),
            false => store.set_messages(key()?, &messages(op)?, to_add()?),
        }),
        "delete_message" => {
            let id = count("idx")?.ok_or("no id")?;
            match twin {
                true => block_on(store.adelete_message(key()?, id)),
                false => store.delete_message(key()?, id),
            }
            .map(optional)
        }
        "delete_messages" => nothing(match twin {
            true => block_on(store.adelete_messages(key()?, to_delete()?)),
            false => store.delete_messages(key()?, to_delete()?),
        }),
        "delete_oldest_messages" => match twin {
            true => block_on(store.adelete_oldest_messages(key()?, n()?)),
            false => store.delete_oldest_messages(key()?, n()?),
        }
        .map(listed),
        "archive_oldest_messages" => match twin {
            true => block_on(store.aarchive_oldest_messages(key()?, n()?)),
            false => store.archive_oldest_messages(key()?, n()?),
        }
        .map(listed),
        "get_keys" => match twin {
            true => block_on(store.aget_keys()),
            false => store.get_keys(),
        }
        .map(keys),
        other => return Err(format!("unknown operation {other}")),
    })
}
