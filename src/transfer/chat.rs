//! The file of `SimpleChatStore`: `{"store": {key: [message, ..]}, "class_name": ..}`; old versions
//! wrote a JSON string that holds it.

use std::ops::ControlFlow;

use super::error::Stop;
use super::export::{Caught, Failed, Out};
use super::load::{Json, Load, lost_field, shown};
use super::space::Space;
use crate::kv::json::{JsonReader, Next};
use crate::kv::{Text, Value};
use crate::model::ChatMessage;
use crate::stores::ChatStore;

/// Messages that are given to the store at a time.
const MESSAGES_LEN: usize = 256;

/// Walks through the file.
pub(super) fn walk(json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
    load.claim(json, Space::Chats)?;
    if !load.is_first() {
        return Ok(json.pass()?);
    }
    if json.peek()? != Next::Text {
        return walk_store(json, load);
    }
    let Value::Text(text) = json.value()? else { return Ok(()) };
    // Places in it are counted from its own start.
    let mut inner: Json<'_> = JsonReader::new(Box::new(text.as_bytes()));
    walk_store(&mut inner, load)?;
    Ok(inner.finish()?)
}

fn walk_store(json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
    if !load.enter(json, "the chat store")? {
        return Ok(());
    }
    let store = load.kv().map(ChatStore::new);
    while let Some(part) = json.key()? {
        match part.as_str() {
            Some("store") => {
                if !load.is_last(json, &part) || !load.enter(json, "store")? {
                    continue;
                }
                while let Some(key) = json.key()? {
                    conversation(json, load, store.as_ref(), &key)?;
                }
            }
            // What LlamaIndex calls its class.
            Some("class_name") => json.skip()?,
            _ => load.leave_out(json, || format!("chat store: {}", shown(&part))),
        }
    }
    Ok(())
}

fn conversation(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    store: Option<&ChatStore>,
    key: &Text,
) -> Result<(), Stop> {
    if json.peek()? != Next::List {
        json.skip()?;
        return load.bad(json, || format!("store: {} is no list", shown(key)));
    }
    if !load.fits(json, key)? {
        return Ok(json.skip()?);
    }
    if let Some(store) = store {
        // Of a key that comes twice, the last counts.
        store.set_messages(key, &[])?;
    }
    let mut pending = Vec::new();
    let walked = messages(json, load, store, key, &mut pending);
    // Those before the end of a file that is not whole are whole.
    give(store, key, &mut pending)?;
    walked
}

fn messages(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    store: Option<&ChatStore>,
    key: &Text,
    pending: &mut Vec<ChatMessage>,
) -> Result<(), Stop> {
    json.enter()?;
    while json.item()? {
        let value = json.value()?;
        let message = match ChatMessage::from_value(&value) {
            Ok(message) => message,
            Err(e) => {
                load.bad(json, || format!("store: {}: {e}", shown(key)))?;
                continue;
            }
        };
        // `content` is what became a block of text.
        if let Some(field) = lost_field(&value, &message.to_value(), "content") {
            load.leave_out(json, || format!("store: {}: a message's {field}", shown(key)));
        }
        pending.push(message);
        if pending.len() >= MESSAGES_LEN {
            give(store, key, pending)?;
        }
        load.taken(json)?;
    }
    Ok(())
}

fn give(store: Option<&ChatStore>, key: &Text, pending: &mut Vec<ChatMessage>) -> Result<(), Stop> {
    if let (Some(store), false) = (store, pending.is_empty()) {
        store.add_messages(key, pending)?;
    }
    pending.clear();
    Ok(())
}

/// Writes the conversations.
pub(super) fn write(out: &mut Out<'_>, store: &ChatStore) -> Result<(), Failed> {
    out.open_map()?;
    out.json.key(&Text::from_static("store"))?;
    out.open_map()?;
    for key in store.get_keys()? {
        out.json.key(&key)?;
        out.json.open_list()?;
        let mut caught = Caught::default();
        let given = store.for_each_message(&key, 0, &mut |message| {
            caught.pass(out.item(&message.to_value()))?;
            Ok(ControlFlow::Continue(()))
        });
        caught.settle(given)?;
        out.close()?;
    }
    out.close()?;
    out.json.key(&Text::from_static("class_name"))?;
    out.json.value(&"SimpleChatStore".into())?;
    out.close()
}
