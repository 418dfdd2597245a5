//! `siltstone chat DIR [SESSION]`.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::failure::{Failure, warn};
use super::output::{Output, bytes, count, object, shown_key};
use super::{Outcome, ReadArg};
use crate::kv::{KvStore, LogKv, Map, Text, Value, json};
use crate::model::{ChatMessage, ContentBlock};
use crate::stores::{ChatQueue, ChatRow, ChatStore, MessageStatus, StoreError};

/// Most keys that are named when one is not there.
const NAMED_LEN_MAX: usize = 10;

/// Where a message is from, in JSON.
const IN_STORE: &str = "chat_store";

/// See [`IN_STORE`].
const IN_QUEUE: &str = "chat_queue";

/// Fields that hold bytes in base64.
const BASE64_FIELDS: [&str; 4] = ["image", "audio", "video", "data"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read: ReadArg,
    /// Print the messages of this conversation; default: list the conversations
    #[arg(allow_hyphen_values = true)]
    session: Option<String>,
    /// The namespace of the chat store or queue; default: those of a storage context
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    namespace: String,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let kv: Arc<dyn KvStore> = Arc::new(LogKv::new(args.read.open()?));
    let store = ChatStore::with_namespace(kv.clone(), &args.namespace);
    let queue = ChatQueue::with_namespace(kv, &args.namespace);
    let Some(session) = &args.session else {
        list(&store, &queue, out)?;
        return Ok(Outcome::Yes);
    };
    let key = Text::from(session.as_str());
    let shown = format!("conversation \"{}\"", session.escape_debug());
    let dir = args.read.store.dir.display();
    let (kept, queued) = (store.get_keys()?, queue.get_keys()?);
    let (is_kept, is_queued) = (kept.contains(&key), queued.contains(&key));
    if !is_kept && !is_queued {
        let there = names(kept.into_iter().chain(queued));
        warn(&format!("there is no {shown} in {dir}; there are: {there}"));
        return Ok(Outcome::No);
    }
    // Two conversations with one key are told apart; in JSON each line says where it is from.
    let has_headings = is_kept && is_queued && !out.is_json();
    let mut messages = 0;
    if is_kept {
        if has_headings {
            out.line("In the chat store:")?;
        }
        messages += print_kept(&store, &key, out)?;
    }
    if is_queued {
        if has_headings {
            out.line("In the chat queue:")?;
        }
        messages += print_queued(&queue.get_rows(&key, None, None, 0)?, out)?;
    }
    if messages == 0 {
        warn(&format!("{shown} in {dir} has no messages"));
        return Ok(Outcome::No);
    }
    Ok(Outcome::Yes)
}

/// Prints the conversations: how many messages, and the key.
fn list(store: &ChatStore, queue: &ChatQueue, out: &mut Output) -> Result<(), Failure> {
    for key in store.get_keys()? {
        let messages = store.count_messages(&key)?;
        if out.is_json() {
            let line = object([("session", key.into()), ("messages", messages.into())]);
            out.value(&line.into())?;
        } else {
            out.line(&format!("{:>12}  {}", count(messages), shown_key(key.as_bytes())))?;
        }
    }
    for key in queue.get_keys()? {
        let active = queue.count_messages(&key, Some(MessageStatus::Active))?;
        let archived = queue.count_messages(&key, Some(MessageStatus::Archived))?;
        let messages = active + archived;
        if out.is_json() {
            out.value(
                &object([
                    ("session", key.into()),
                    ("messages", messages.into()),
                    ("active", active.into()),
                    ("archived", archived.into()),
                ])
                .into(),
            )?;
        } else {
            let (active, archived) = (count(active), count(archived));
            let key = shown_key(key.as_bytes());
            let (messages, parts) =
                (count(messages), format!("{active} active, {archived} archived"));
            out.line(&format!("{messages:>12}  {key}  ({parts})"))?;
        }
    }
    Ok(())
}

/// The first few keys.
fn names(keys: impl Iterator<Item = Text>) -> String {
    let all: Vec<Text> = keys.collect();
    let first = all.iter().take(NAMED_LEN_MAX);
    let mut names: Vec<String> =
        first.map(|key| format!("\"{}\"", shown_key(key.as_bytes()))).collect();
    if let Some(more) = all.len().checked_sub(NAMED_LEN_MAX).filter(|more| *more > 0) {
        names.push(format!("{} more", count(more as u64)));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Prints a conversation of the chat store as it is read; returns how many messages it has.
fn print_kept(store: &ChatStore, key: &Text, out: &mut Output) -> Result<u64, Failure> {
    let mut position = 0;
    let mut failed = None;
    store.for_each_message(key, 0, &mut |message| -> Result<_, StoreError> {
        let printed = match out.is_json() {
            true => out.value(&at(IN_STORE, position, &message).into()),
            false => print(&format!("[{position}] {}", message.role.name()), &message, out),
        };
        position += 1;
        Ok(match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        })
    })?;
    failed.map_or(Ok(position), Err)
}

/// Prints a conversation of the queue; returns how many messages it has.
fn print_queued(rows: &[ChatRow], out: &mut Output) -> Result<u64, Failure> {
    for (position, row) in (0..).zip(rows) {
        let status = row.status.name();
        if out.is_json() {
            let mut line = at(IN_QUEUE, position, &row.message);
            line.set("id", row.id);
            line.set("timestamp", row.timestamp);
            line.set("status", status);
            out.value(&line.into())?;
        } else {
            let role = row.message.role.name();
            let status = match row.status {
                MessageStatus::Active => String::new(),
                MessageStatus::Archived => format!(" ({status})"),
            };
            print(&format!("[{position}] {role}{status}"), &row.message, out)?;
        }
    }
    Ok(rows.len() as u64)
}

/// A message as LlamaIndex has it, with where it is from and its position there.
fn at(place: &'static str, position: u64, message: &ChatMessage) -> Map {
    let mut line = object([("in", place.into()), ("position", position.into())]);
    if let Some(fields) = message.to_value().as_map() {
        line.update(fields);
    }
    line
}

/// Prints a message for people.
fn print(title: &str, message: &ChatMessage, out: &mut Output) -> Result<(), Failure> {
    out.line(title)?;
    for block in &message.blocks {
        match block.as_text() {
            Some(text) => indented(text, out)?,
            None => {
                out.line(&format!("    <{}>{}", block.kind().name(), fields(block)))?;
            }
        }
    }
    if !message.additional_kwargs.is_empty() {
        let more = Value::from(message.additional_kwargs.clone());
        out.line(&format!("    + {}", json::to_string(&more, json::Style::Python)))?;
    }
    Ok(())
}

/// Prints a text, its lines indented. What a terminal would obey is escaped.
fn indented(text: &Text, out: &mut Output) -> Result<(), Failure> {
    for line in text.to_string_lossy().lines() {
        let mut shown = String::with_capacity(line.len() + 4);
        for c in line.chars() {
            match c.is_control() && c != '\t' {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
        out.line(&format!("    {shown}"))?;
    }
    Ok(())
}

/// The fields of a block that are set, on one line.
fn fields(block: &ContentBlock) -> String {
    let value = block.to_value();
    let all = value.as_map().into_iter().flat_map(Map::iter);
    let mut shown = String::new();
    for (name, value) in all.filter(|(name, _)| **name != "block_type") {
        let name = name.to_string_lossy();
        let value = match value {
            Value::Null => continue,
            Value::Map(map) if map.is_empty() => continue,
            Value::Text(data) if BASE64_FIELDS.contains(&&*name) => {
                format!("{} of base64", bytes(data.len() as u64))
            }
            value => json::to_string(value, json::Style::Python),
        };
        shown.push_str(&format!(" {name}: {value}"));
    }
    shown
}
