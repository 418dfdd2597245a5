//! `siltstone chat`: conversations for people and for machines, and what is not there.

use std::path::Path;

use siltstone::StorageContext;
use siltstone::kv::{Map, Value as Stored, json as stored_json};
use siltstone::model::{BlockKind, ChatMessage, ContentBlock, MessageRole};
use siltstone::stores::{ChatQueue, ChatStore, MessageStatus};

use crate::program::run;

/// Runs `siltstone chat` on the store in `dir`: exit code, standard output, standard error.
fn chat(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run(dir, &[&["chat", dir.to_str().unwrap()], args].concat(), "")
}

fn block(kind: BlockKind, fields: &str) -> ContentBlock {
    let fields = stored_json::from_slice(fields.as_bytes()).unwrap();
    ContentBlock::new(kind, fields.as_map().unwrap().clone()).unwrap()
}

/// A store with a chat of three messages, an empty one, and a queue.
fn store() -> (tempfile::TempDir, Vec<ChatMessage>) {
    let dir = tempfile::tempdir().unwrap();
    let context = StorageContext::open(dir.path()).unwrap();
    let store = ChatStore::new(context.kv().clone());
    let mut kwargs = Map::new();
    kwargs.set("n", 1);
    let messages = vec![
        ChatMessage::new(MessageRole::System, "Be\nbrief.\u{1b}[31m"),
        ChatMessage {
            role: MessageRole::User,
            blocks: vec![
                ContentBlock::text("Look:"),
                block(BlockKind::Image, r#"{"image": "AAAA", "detail": "low"}"#),
            ],
            ..ChatMessage::default()
        },
        ChatMessage {
            role: MessageRole::Assistant,
            additional_kwargs: kwargs,
            blocks: vec![block(
                BlockKind::ToolCall,
                r#"{"tool_name": "search", "tool_kwargs": {"q": "x"}}"#,
            )],
        },
    ];
    store.set_messages("alice", &messages).unwrap();
    store.set_messages("empty", &[]).unwrap();
    let queue = ChatQueue::new(context.kv().clone());
    queue.add_messages("bob", &messages[..2], MessageStatus::Active).unwrap();
    queue.archive_oldest_messages("bob", 1).unwrap();
    ChatStore::with_namespace(context.kv().clone(), "other")
        .add_message("carol", &messages[0], None)
        .unwrap();
    context.persist().unwrap();
    (dir, messages)
}

#[test]
fn a_conversation_is_printed_for_people() {
    let (dir, _) = store();
    let (code, out, err) = chat(dir.path(), &["alice"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "[0] system\n    Be\n    brief.\\u{1b}[31m\n\
         [1] user\n    Look:\n    <image> image: 4 B of base64 detail: \"low\"\n\
         [2] assistant\n    <tool_call> tool_name: \"search\" tool_kwargs: {\"q\": \"x\"}\n    \
         + {\"n\": 1}\n"
    );
    let (code, out, _) = chat(dir.path(), &["bob"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("[0] system (archived)\n    Be\n"), "{out}");
    assert!(out.contains("\n[1] user\n    Look:\n"), "{out}");
    assert_eq!(chat(dir.path(), &["carol", "--namespace", "other"]).0, 0);
}

/// The lines hold the messages as they were put in.
#[test]
fn a_conversation_is_printed_for_machines() {
    let (dir, messages) = store();
    for (session, count) in [("alice", 3), ("bob", 2)] {
        let (code, out, err) = chat(dir.path(), &[session, "--json"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let lines: Vec<Stored> =
            out.lines().map(|line| stored_json::from_slice(line.as_bytes()).unwrap()).collect();
        let found: Vec<ChatMessage> =
            lines.iter().map(|line| ChatMessage::from_value(line).unwrap()).collect();
        assert_eq!(found, messages[..count]);
        for (position, line) in lines.iter().enumerate() {
            assert_eq!(line.get("position"), Some(&Stored::from(position as u64)));
        }
        let status = lines[0].get("status");
        assert_eq!(status, (session == "bob").then_some(&Stored::from("archived")));
    }
}

/// A key may be in the chat store and in the queue: neither hides the other.
#[test]
fn conversations_with_one_key_are_both_printed() {
    let (dir, messages) = store();
    let context = StorageContext::open(dir.path()).unwrap();
    ChatQueue::new(context.kv().clone())
        .add_messages("alice", &messages[..1], MessageStatus::Active)
        .unwrap();
    context.persist().unwrap();
    drop(context);
    let (code, out, err) = chat(dir.path(), &["alice"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let heads: Vec<&str> = out.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        "In the chat store:",
        "[0] system",
        "[1] user",
        "[2] assistant",
        "In the chat queue:",
        "[0] system",
    ];
    assert_eq!(heads, expected);
    let (code, out, _) = chat(dir.path(), &["alice", "--json"]);
    assert_eq!(code, 0);
    let places: Vec<String> = out
        .lines()
        .map(|line| stored_json::from_slice(line.as_bytes()).unwrap())
        .map(|line| format!("{:?} {:?}", line.get("in"), line.get("position")))
        .collect();
    let place = |place: &str, position: u64| {
        format!("{:?} {:?}", Some(Stored::from(place)), Some(Stored::from(position)))
    };
    let expected = [("chat_store", 0), ("chat_store", 1), ("chat_store", 2), ("chat_queue", 0)];
    assert_eq!(places, expected.map(|(name, position)| place(name, position)));
}

#[test]
fn keys_may_begin_with_a_hyphen() {
    let (dir, messages) = store();
    let context = StorageContext::open(dir.path()).unwrap();
    ChatStore::new(context.kv().clone()).add_message("-42", &messages[0], None).unwrap();
    context.persist().unwrap();
    drop(context);
    for args in [&["-42", "--json"][..], &["--json", "-42"]] {
        let (code, out, err) = chat(dir.path(), args);
        assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 1));
    }
    let (code, _, err) = chat(dir.path(), &["--zoe"]);
    assert_eq!(code, 1, "{err}");
}

#[test]
fn conversations_are_listed() {
    let (dir, _) = store();
    let (code, out, _) = chat(dir.path(), &[]);
    let right = |text: &str| format!("{text:>12}");
    let (three, none, two) = (right("3"), right("0"), right("2"));
    let expected = format!("{three}  alice\n{none}  empty\n{two}  bob  (1 active, 1 archived)\n");
    assert_eq!((code, out), (0, expected));
    let (code, out, _) = chat(dir.path(), &["--json"]);
    assert_eq!(code, 0);
    assert_eq!(out.lines().next(), Some(r#"{"session": "alice", "messages": 3}"#));
    assert_eq!(out.lines().count(), 3);
}

#[test]
fn what_is_not_there_is_said() {
    let (dir, _) = store();
    let (code, out, err) = chat(dir.path(), &["zoe\u{7}"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let said = "siltstone: there is no conversation \"zoe\\u{7}\" in ";
    assert!(err.starts_with(said), "{err}");
    assert!(err.ends_with("; there are: \"alice\", \"empty\", \"bob\"\n"), "{err}");
    let (code, _, err) = chat(dir.path(), &["empty"]);
    assert_eq!(code, 1);
    assert!(err.contains("conversation \"empty\" in ") && err.ends_with("has no messages\n"));
    let (code, _, err) = chat(dir.path(), &["zoe", "--namespace", "nobody"]);
    assert_eq!(code, 1);
    assert!(err.ends_with("there are: none\n"), "{err}");
    // A directory without a store is a failure, and none is made there.
    let nothing = tempfile::tempdir().unwrap();
    let (code, _, err) = chat(nothing.path(), &["zoe"]);
    assert_eq!((code, err.lines().count()), (2, 1), "{err}");
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
}
