//! The list against a `Vec`, with its chunks looked at, and what it costs.

use std::ops::ControlFlow;

use super::*;
use crate::kv::MemoryKv;
use crate::stores::test_kv::{Random, seeds};

/// Every record belongs to the list, and the chain is whole in both directions.
fn check(kv: &MemoryKv, list: &List<'_>, expected: &[Value]) {
    assert_eq!(list.len(), expected.len() as u64);
    assert_eq!(list.values().expect("values"), expected);
    let (mut chunks, mut before, mut at) = (0, None, list.ends.map_or(list.tail, |ends| ends.0));
    while at != list.tail {
        let chunk = list.chunk(at).expect("chunk");
        assert_eq!(chunk.prev, before, "chunk {at}");
        assert!(chunk.items.len() <= CHUNK_LEN_MAX && at < list.next);
        (before, at, chunks) = (Some(at), chunk.next, chunks + 1);
    }
    assert_eq!(before, list.ends.map(|ends| ends.1));
    assert_eq!(kv.len("c").expect("len"), chunks + u64::from(!expected.is_empty()));
}

/// A random history; with `inserts` positions are used, else handles.
fn run(seed: u64, inserts: bool) {
    eprintln!("SEED={seed} inserts={inserts}");
    let kv = MemoryKv::new();
    let mut random = Random(seed);
    let mut expected: Vec<(u64, Value)> = Vec::new();
    let mut values = 0;
    for step in 0..600 {
        let mut list = List::load(&kv, "c", b"own:er").expect("load");
        // Grows, shrinks, grows.
        let grow = if step % 200 < 120 { 7 } else { 2 };
        for _ in 0..=random.below(6) {
            values += 1;
            let value = match random.below(40) {
                0 => Value::from(format!("{values} {}", "x".repeat(random.below(9000) as usize))),
                _ => Value::Int(values),
            };
            let len = expected.len() as u64;
            let position = random.below(len + 1);
            match random.below(10) {
                n if n < grow && inserts && random.below(2) == 0 => {
                    list.insert(position, value.clone()).expect("insert");
                    expected.insert(position as usize, (0, value));
                }
                n if n < grow => {
                    let handle = list.push(value.clone()).expect("push");
                    expected.push((handle, value));
                }
                _ if inserts || random.below(4) == 0 => {
                    let found = expected.get(position as usize).map(|(_, value)| value.clone());
                    assert_eq!(list.get(position).expect("get"), found, "step {step}");
                    assert_eq!(list.remove_at(position).expect("remove"), found, "step {step}");
                    found.map(|_| expected.remove(position as usize));
                }
                _ if position < len && random.below(4) == 0 => {
                    let (handle, old) = &mut expected[position as usize];
                    let is_old = |other: &Value| other == old;
                    assert_eq!(list.find_in(*handle, is_old).expect("find"), Some(old.clone()));
                    assert!(list.replace_in(*handle, is_old, value.clone()).expect("replace"));
                    assert!(!list.replace_in(*handle, is_old, value.clone()).expect("replace"));
                    *old = value;
                }
                _ if position < len => {
                    let (handle, value) = expected.remove(position as usize);
                    let removed = list.remove_in(handle, |other| *other == value).expect("remove");
                    assert_eq!(removed, Some(value), "step {step}");
                }
                _ => {}
            }
        }
        if random.below(150) == 0 {
            list.clear().expect("clear");
            expected.clear();
        }
        list.save().expect("save");
        let expected: Vec<Value> = expected.iter().map(|(_, value)| value.clone()).collect();
        check(&kv, &List::load(&kv, "c", b"own:er").expect("load"), &expected);
        let from = random.below(expected.len() as u64 + 2);
        let (mut seen, most) = (Vec::new(), random.below(100) as usize);
        list.visit(from, &mut |_, value| {
            seen.push(value);
            Ok(if seen.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .expect("visit");
        let rest: Vec<Value> = expected.into_iter().skip(from as usize).take(most + 1).collect();
        assert_eq!(seen, rest, "step {step}");
    }
}

#[test]
fn random_changes_leave_what_a_vec_would() {
    for seed in seeds(20) {
        run(seed, true);
        run(seed, false);
    }
}

#[test]
fn lists_of_one_collection_do_not_mix() {
    let kv = MemoryKv::new();
    let owners: [&[u8]; 4] = [b"", b":", b"0:", b"1"];
    for round in 0..100i64 {
        for (place, owner) in owners.iter().enumerate() {
            let mut list = List::load(&kv, "c", *owner).expect("load");
            list.push(Value::Int(round * 10 + place as i64)).expect("push");
            list.save().expect("save");
        }
    }
    for (place, owner) in owners.iter().enumerate() {
        let list = List::load(&kv, "c", *owner).expect("load");
        let expected: Vec<Value> =
            (0..100).map(|round| Value::Int(round * 10 + place as i64)).collect();
        assert_eq!(list.values().expect("values"), expected);
    }
}

#[test]
fn damage_is_an_error_and_never_an_endless_walk() {
    let kv = MemoryKv::new();
    let mut list = List::new(&kv, "c", b"o");
    for n in 0..200i64 {
        list.push(Value::Int(n)).expect("push");
    }
    let head = list.head();
    let whole = kv.get("c", b"2:o").expect("get").expect("a chunk");
    let mut circle = whole.as_map().expect("a map").clone();
    circle.set("next", 1);
    circle.set("prev", 3);
    for broken in [None, Some(Value::Null), Some(Map::new().into()), Some(circle.into())] {
        match &broken {
            Some(value) => kv.put("c", b"2:o", value).expect("put"),
            None => assert!(kv.delete("c", b"2:o").expect("delete")),
        }
        let mut list = List::open(&kv, "c", b"o", &head).expect("the head is whole");
        let failed = list.values().expect_err("a chunk is broken");
        assert!(matches!(failed, StoreError::Corrupt { .. }), "{failed}");
        // Nothing to promise but an end.
        let _ = (list.get(70), list.get(120), list.remove_at(75), list.insert(110, Value::Null));
    }
    for head in [Value::Null, Map::new().into(), Value::Int(3)] {
        assert!(matches!(List::open(&kv, "c", b"o", &head), Err(StoreError::Corrupt { .. })));
    }
}

#[test]
fn a_push_writes_as_much_whatever_the_length() {
    let kv = MemoryKv::new();
    let mut list = List::new(&kv, "c", b"o");
    let mut longest = 0;
    for n in 0..5000u64 {
        list.push(Value::from(format!("node {n:060}"))).expect("push");
        let mut bytes = Vec::new();
        crate::kv::codec::encode(&list.head(), &mut bytes);
        longest = longest.max(bytes.len());
    }
    assert!(longest < CHUNK_BYTES, "the head has {longest} bytes");
    assert_eq!(kv.len("c").expect("len"), 5000 / CHUNK_LEN_MAX as u64);
}
