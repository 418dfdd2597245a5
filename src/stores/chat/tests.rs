//! Conversations against plain lists, what changes cost, and what faults leave behind.

use std::sync::atomic::Ordering;

use super::*;
use crate::kv::{MemoryKv, json};
use crate::model::MessageRole;
use crate::stores::test_kv::{Counting, Random, seeds};

fn message(text: impl Into<Text>) -> ChatMessage {
    ChatMessage::new(MessageRole::User, text)
}

impl Random {
    fn message(&mut self) -> ChatMessage {
        let len = if self.one_in(20) { self.below(6000) } else { self.below(30) };
        message(format!("{} {}", self.below(1000), "x".repeat(len as usize)))
    }

    fn messages(&mut self, most: u64) -> Vec<ChatMessage> {
        (0..self.below(most)).map(|_| self.message()).collect()
    }
}

/// Python's `list.insert`.
fn insert(list: &mut Vec<ChatMessage>, position: i64, message: ChatMessage) {
    let len = list.len() as i64;
    let position = if position < 0 { (len + position).max(0) } else { position.min(len) };
    list.insert(position as usize, message);
}

#[test]
fn conversations_are_lists_under_keys() {
    for seed in seeds(15) {
        eprintln!("SEED={seed}");
        let mut random = Random(seed);
        let kv = Arc::new(MemoryKv::new());
        let mut store = ChatStore::new(kv.clone());
        let mut model: Vec<(Text, Vec<ChatMessage>)> = Vec::new();
        for step in 0..800 {
            let key = Text::from(["", "a", "b", "a:b"][random.below(4) as usize]);
            let known = model.iter().position(|(known, _)| *known == key);
            match random.below(20) {
                0 => {
                    let messages = random.messages(150);
                    store.set_messages(&key, &messages).expect("set");
                    match known {
                        Some(place) => model[place].1 = messages,
                        None => model.push((key, messages)),
                    }
                }
                1 if random.one_in(2) => {
                    let gone = known.map(|place| model.remove(place).1);
                    assert_eq!(store.delete_messages(&key).expect("delete"), gone, "step {step}");
                }
                2..=5 => {
                    let position = random.below(80) as i64 - 5;
                    let list = known.map(|place| &mut model[place].1);
                    let found = list.filter(|list| (0..list.len() as i64).contains(&position));
                    let gone = found.map(|list| list.remove(position as usize));
                    let deleted = store.delete_message(&key, position).expect("delete");
                    assert_eq!(deleted, gone, "step {step}");
                }
                6..=8 => {
                    let gone = known.and_then(|place| model[place].1.pop());
                    let deleted = store.delete_last_message(&key).expect("delete");
                    assert_eq!(deleted, gone, "step {step}");
                }
                change => {
                    let place = known.unwrap_or_else(|| {
                        model.push((key.clone(), Vec::new()));
                        model.len() - 1
                    });
                    let list = &mut model[place].1;
                    if change < 12 {
                        let position = random.below(80) as i64 - 10;
                        let message = random.message();
                        store.add_message(&key, &message, Some(position)).expect("add");
                        insert(list, position, message);
                    } else if change < 14 {
                        let messages = random.messages(40);
                        store.add_messages(&key, &messages).expect("add");
                        list.extend(messages);
                    } else {
                        let message = random.message();
                        store.add_message(&key, &message, None).expect("add");
                        list.push(message);
                    }
                }
            }
            if random.one_in(10) {
                store = ChatStore::new(kv.clone());
            }
            let keys: Vec<Text> = model.iter().map(|(key, _)| key.clone()).collect();
            assert_eq!(store.get_keys().expect("keys"), keys, "step {step}");
            for (key, messages) in &model {
                assert_eq!(store.get_messages(key).expect("get"), *messages, "step {step}");
                assert_eq!(store.count_messages(key).expect("count"), messages.len() as u64);
            }
        }
        // In and out as LlamaIndex has it; and nothing stays of what is deleted.
        let dict = store.to_dict().expect("to_dict");
        let text = json::to_string(&dict, json::Style::Utf8);
        let copy = ChatStore::new(Arc::new(MemoryKv::new()));
        copy.load_dict(&json::from_slice(text.as_bytes()).expect("JSON")).expect("load");
        assert_eq!(copy.to_dict().expect("to_dict"), dict);
        for (key, _) in model {
            assert!(store.delete_messages(key).expect("delete").is_some());
        }
        assert_eq!(kv.len("chat_store/chats").expect("len"), 0);
        assert_eq!(kv.len("chat_store/messages").expect("len"), 1);
    }
}

/// Goal: a message more costs the same in a long conversation. Method: reads, writes and bytes of
/// one are counted with 100 and with 20,000 messages, over as many as fill a chunk.
#[test]
fn a_message_more_costs_the_same_in_any_conversation() {
    type Use = fn(&ChatStore, &ChatQueue, i64);
    let uses: [(&str, Use); 4] = [
        ("add", |store, _, n| {
            store.add_message("k", &message(format!("m {n:06}")), None).expect("add");
        }),
        ("delete the last", |store, _, _| {
            assert!(store.delete_last_message("k").expect("delete").is_some());
        }),
        ("add to the queue", |_, queue, n| {
            let message = message(format!("m {n:06}"));
            queue.add_message("k", &message, MessageStatus::Active).expect("add");
        }),
        ("archive the oldest", |_, queue, _| {
            assert_eq!(queue.archive_oldest_messages("k", 1).expect("archive").len(), 1);
        }),
    ];
    for (name, run) in uses {
        let cost = |messages: i64| {
            let counting = Arc::new(Counting::default());
            let store = ChatStore::new(counting.clone());
            let queue = ChatQueue::new(counting.clone());
            let many: Vec<ChatMessage> =
                (0..messages).map(|n| message(format!("m {n:06}"))).collect();
            store.set_messages("k", &many).expect("set");
            queue.set_messages("k", &many, MessageStatus::Active).expect("set");
            counting.take();
            let mut most = [0; 3];
            for n in 0..40 {
                run(&store, &queue, messages + n);
                let cost = counting.take();
                most = [0, 1, 2].map(|i| cost[i].max(most[i]));
            }
            most
        };
        let (small, large) = (cost(100), cost(20_000));
        eprintln!("{name}: reads, writes, bytes {small:?} of 100, {large:?} of 20,000");
        for i in 0..3 {
            // Numbers in a list take up to three bytes instead of one.
            assert!(large[i] <= small[i] * 3 / 2 + 2, "{name}: {small:?} {large:?}");
        }
    }
}

/// Goal: what is near either end of a conversation costs the same at any length, whatever the way
/// to it. Method: the reads of the same steps are counted at two lengths. Half of the queue's
/// messages are archived, in turns, so that both of its lists are long.
#[test]
fn the_ends_of_a_conversation_cost_the_same_at_any_length() {
    type Step = (&'static str, fn(&ChatStore, &ChatQueue, u64));
    let steps: [Step; 8] = [
        ("last page of all", |_, queue, n| {
            assert_eq!(queue.get_rows("k", None, Some(10), n - 10).expect("get").len(), 10);
        }),
        ("last page of a status", |_, queue, n| {
            let active = Some(MessageStatus::Active);
            let page = queue.get_rows("k", active, Some(10), n / 2 - 10).expect("get");
            assert_eq!(page.len(), 10);
        }),
        ("first page of all", |_, queue, _| {
            assert_eq!(queue.get_rows("k", None, Some(10), 5).expect("get").len(), 10);
        }),
        ("delete near the end", |_, queue, n| {
            assert!(queue.delete_message_at("k", n - 5, None).expect("delete").is_some());
        }),
        ("add what is old", |_, queue, _| {
            queue.add_message_at("k", &message("old"), MessageStatus::Active, -5).expect("add");
        }),
        ("delete what was inserted", |_, queue, _| {
            let id = queue.get_rows("k", None, Some(1), 0).expect("get")[0].id;
            assert!(queue.delete_message("k", id).expect("delete").is_some());
        }),
        ("insert near the start", |store, _, _| {
            store.add_message("k", &message("early"), Some(7)).expect("add");
        }),
        ("delete near the end of a chat", |store, _, n| {
            assert!(store.delete_message("k", n as i64 - 7).expect("delete").is_some());
        }),
    ];
    let reads = [400u64, 6400].map(|messages| {
        let counting = Arc::new(Counting::default());
        let (store, queue) = (ChatStore::new(counting.clone()), ChatQueue::new(counting.clone()));
        let many: Vec<ChatMessage> = (0..messages).map(|n| message(format!("m{n}"))).collect();
        store.set_messages("k", &many).expect("set");
        for (n, message) in (0..).zip(&many) {
            let status = [MessageStatus::Active, MessageStatus::Archived][n as usize % 2];
            queue.add_message_at("k", message, status, n).expect("add");
        }
        steps.map(|(_, run)| {
            counting.take();
            run(&store, &queue, messages);
            counting.take()[0]
        })
    });
    for (place, (name, _)) in steps.iter().enumerate() {
        let [short, long] = [reads[0][place], reads[1][place]];
        assert!(long <= short + 8, "{name}: {short} reads in 400 messages, {long} in 6,400");
    }
}

#[test]
fn a_failing_write_leaves_nothing_behind() {
    let counting = Arc::new(Counting::default());
    let (store, queue) = (ChatStore::new(counting.clone()), ChatQueue::new(counting.clone()));
    let many: Vec<ChatMessage> = (0..100).map(|n| message(format!("m{n}"))).collect();
    store.set_messages("k", &many).expect("set");
    queue.set_messages("k", &many, MessageStatus::Active).expect("set");
    counting.full.store(true, Ordering::Relaxed);
    assert!(matches!(store.add_message("k", &many[0], None), Err(StoreError::Kv(_))));
    assert!(store.delete_messages("k").is_err() && store.clear().is_err());
    assert!(queue.archive_oldest_messages("k", 40).is_err());
    assert!(queue.add_message("new", &many[0], MessageStatus::Active).is_err());
    counting.full.store(false, Ordering::Relaxed);
    // What is no message among them changes nothing either.
    let broken = br#"{"store": {"x": [{"role": "user"}], "y": [{"role": "nobody"}]}}"#;
    let failed = store.load_dict(&json::from_slice(broken).expect("JSON")).expect_err("refused");
    assert!(matches!(failed, StoreError::Message { .. }), "{failed}");
    for broken in ["[]", r#"{"store": []}"#, r#"{"store": {"a/b": {}}}"#, r#""no JSON""#] {
        let broken = json::from_slice(broken.as_bytes()).expect("JSON");
        let failed = store.load_dict(&broken).expect_err("refused");
        assert!(matches!(failed, StoreError::Dict { .. }), "{failed}");
    }
    assert_eq!(store.get_messages("k").expect("get"), many);
    assert_eq!(queue.get_messages("k", None, None, 0).expect("get"), many);
    assert_eq!(queue.get_keys().expect("keys"), ["k"].map(Text::from));
}

/// Goal: a dictionary is loaded by the name of its class, with LlamaIndex's errors for others,
/// which change nothing.
#[test]
fn a_chat_store_is_loaded_by_the_name_of_its_class() {
    let store = ChatStore::new(Arc::new(MemoryKv::new()));
    store.set_messages("k", &[message("m".to_owned())]).expect("set");
    let kept = store.to_dict().expect("to_dict");
    let other = ChatStore::new(Arc::new(MemoryKv::new()));
    other.load_chat_store(&kept).expect("load");
    assert_eq!(other.to_dict().expect("to_dict"), kept);
    for (dict, error) in [
        (r#"{"store": {}}"#, "ChatStore loading requires a class_name"),
        (r#"{"class_name": null}"#, "ChatStore loading requires a class_name"),
        (r#"{"class_name": "X", "store": {}}"#, "Invalid ChatStore name: X"),
        (r#"{"class_name": ""}"#, "Invalid ChatStore name: "),
        (r#"{"class_name": 5}"#, "Invalid ChatStore name: 5"),
    ] {
        let dict = json::from_slice(dict.as_bytes()).expect("JSON");
        let failed = store.load_chat_store(&dict).expect_err("refused");
        assert!(matches!(&failed, StoreError::InvalidArgument(what) if what == error), "{failed}");
    }
    for dict in ["[]", r#"{"class_name": "SimpleChatStore", "store": []}"#] {
        let dict = json::from_slice(dict.as_bytes()).expect("JSON");
        let failed = store.load_chat_store(&dict).expect_err("refused");
        assert!(matches!(failed, StoreError::Dict { .. }), "{failed:?}");
    }
    assert_eq!(store.to_dict().expect("to_dict"), kept);
    let empty = json::from_slice(br#"{"class_name": "SimpleChatStore"}"#).expect("JSON");
    store.load_chat_store(&empty).expect("load");
    assert!(store.get_keys().expect("keys").is_empty());
}

#[test]
fn a_lost_message_is_an_error_with_its_place() {
    let kv = Arc::new(MemoryKv::new());
    let store = ChatStore::new(kv.clone());
    for n in 0..70 {
        store.add_message("k", &message(format!("m{n}")), None).expect("add");
    }
    assert!(kv.delete("chat_store/messages", b"m0:40").expect("delete"));
    let failed = store.get_messages("k").expect_err("a message is lost").to_string();
    assert!(failed.contains("m0:40") && failed.contains("chat_store/messages"), "{failed}");
    let mut seen = 0;
    let read = store.for_each_message("k", 41, &mut |_| {
        seen += 1;
        Ok(if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert!(read.is_err() || seen == 5);
    assert!(store.delete_message("k", 39).expect("the one before is whole").is_some());
}

/// Rows as a table sorted by time.
#[test]
fn the_queue_is_a_table_sorted_by_time() {
    for seed in seeds(15) {
        eprintln!("SEED={seed}");
        let mut random = Random(seed);
        let kv = Arc::new(MemoryKv::new());
        let mut queue = ChatQueue::new(kv.clone());
        let mut model: Vec<ChatRow> = Vec::new();
        let (mut next, mut latest) = (1, 0);
        for step in 0..700 {
            let key = Text::from(["", "a", "b"][random.below(3) as usize]);
            let status = match random.below(3) {
                0 => MessageStatus::Archived,
                _ => MessageStatus::Active,
            };
            let some_status = (!random.one_in(3)).then_some(status);
            let is_in = |row: &ChatRow, status: Option<MessageStatus>| {
                row.key == key && status.is_none_or(|status| row.status == status)
            };
            let mut added = Vec::new();
            match random.below(16) {
                0..=4 => {
                    let message = random.message();
                    queue.add_message(&key, &message, status).expect("add");
                    added.push((latest + 1, status, message));
                }
                5..=7 => {
                    let message = random.message();
                    let timestamp = random.below(2 * latest as u64 + 10) as i64 - 5;
                    queue.add_message_at(&key, &message, status, timestamp).expect("add");
                    added.push((timestamp, status, message));
                }
                8 => {
                    let messages = random.messages(60);
                    let done = queue.add_messages(&key, &messages, status);
                    assert_eq!(done.is_ok(), !messages.is_empty());
                    let times = latest + 1..;
                    added.extend(times.zip(messages).map(|(time, m)| (time, status, m)));
                }
                9 if random.one_in(3) => {
                    let messages = random.messages(90);
                    queue.set_messages(&key, &messages, status).expect("set");
                    model.retain(|row| row.key != key);
                    let times = latest + 1..;
                    added.extend(times.zip(messages).map(|(time, m)| (time, status, m)));
                }
                10 => {
                    let id = random.below(next + 3);
                    let place = model.iter().position(|row| row.id == id && row.key == key);
                    let gone = place.map(|place| model.remove(place).message);
                    assert_eq!(queue.delete_message(&key, id).expect("delete"), gone);
                }
                11 => {
                    let position = random.below(40);
                    let row = model.iter().filter(|row| is_in(row, some_status));
                    let id = row.map(|row| row.id).nth(position as usize);
                    let place = model.iter().position(|row| Some(row.id) == id);
                    let gone = place.map(|place| model.remove(place).message);
                    let deleted = queue.delete_message_at(&key, position, some_status);
                    assert_eq!(deleted.expect("delete"), gone, "step {step}");
                }
                12 if random.one_in(4) => {
                    queue.delete_messages(&key, some_status).expect("delete");
                    model.retain(|row| !is_in(row, some_status));
                }
                13 | 14 => {
                    let n = random.below(40);
                    let active = Some(MessageStatus::Active);
                    let chosen: Vec<u64> = model
                        .iter()
                        .filter(|row| is_in(row, active))
                        .map(|row| row.id)
                        .take(n as usize)
                        .collect();
                    let expected: Vec<ChatMessage> = model
                        .iter()
                        .filter(|row| chosen.contains(&row.id))
                        .map(|row| row.message.clone())
                        .collect();
                    let given = if random.one_in(3) {
                        model.retain(|row| !chosen.contains(&row.id));
                        queue.delete_oldest_messages(&key, n).expect("delete")
                    } else {
                        for row in model.iter_mut().filter(|row| chosen.contains(&row.id)) {
                            row.status = MessageStatus::Archived;
                        }
                        queue.archive_oldest_messages(&key, n).expect("archive")
                    };
                    assert_eq!(given, expected, "step {step}");
                }
                _ => queue = ChatQueue::new(kv.clone()),
            }
            for (timestamp, status, message) in added {
                model.push(ChatRow { id: next, key: key.clone(), timestamp, status, message });
                (next, latest) = (next + 1, latest.max(timestamp));
            }
            model.sort_by_key(|row| (row.timestamp, row.id));
            let mut keys: Vec<Text> = queue.get_keys().expect("keys");
            keys.sort();
            let mut expected: Vec<Text> = model.iter().map(|row| row.key.clone()).collect();
            expected.sort();
            expected.dedup();
            assert_eq!(keys, expected, "step {step}");
            let (offset, limit) = (random.below(60), random.below(60));
            for status in [None, Some(MessageStatus::Active), Some(MessageStatus::Archived)] {
                let all: Vec<ChatRow> =
                    model.iter().filter(|row| is_in(row, status)).cloned().collect();
                let count = queue.count_messages(&key, status).expect("count");
                assert_eq!(count, all.len() as u64, "step {step}");
                assert_eq!(queue.get_rows(&key, status, None, 0).expect("get"), all);
                let part: Vec<ChatRow> =
                    all.into_iter().skip(offset as usize).take(limit as usize).collect();
                let rows = queue.get_rows(&key, status, Some(limit), offset).expect("get");
                assert_eq!(rows, part, "step {step} {status:?} {offset} {limit}");
            }
        }
        for key in queue.get_keys().expect("keys") {
            queue.delete_messages(key, None).expect("delete");
        }
        assert_eq!(kv.len("chat_queue/queues").expect("len"), 0);
        // The directory and the counter stay.
        assert_eq!(kv.len("chat_queue/rows").expect("len"), 2);
    }
}

#[test]
fn a_store_and_a_queue_of_one_namespace_do_not_meet() {
    let kv = Arc::new(MemoryKv::new());
    let store = ChatStore::with_namespace(kv.clone(), "ns");
    let queue = ChatQueue::with_namespace(kv, "ns");
    store.set_messages("k", &[message("kept")]).expect("set");
    assert!(queue.get_keys().expect("keys").is_empty());
    queue.set_messages("k", &[message("queued")], MessageStatus::Active).expect("set");
    store.clear().expect("clear");
    let queued = queue.get_messages("k", None, None, 0).expect("get");
    assert_eq!(queued, [message("queued")]);
}
