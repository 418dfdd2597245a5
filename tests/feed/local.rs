//! In the process that writes the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use siltstone::testing::{CallKind, Fault, FaultPlan, SimVfs};
use siltstone::vfs::mem::MemVfs;
use siltstone::vfs::{OpenMode, Vfs};
use siltstone::{
    CollectionOptions, Compression, Db, Durability, FeedError, FeedOptions, FeedPosition, Options,
    WriteBatch,
};

use super::{Op, drain, numbered, ops_of, plain, seen};

fn small(segment_len: u64) -> Options {
    let vfs = Arc::new(MemVfs::new());
    plain().vfs(vfs).segment_len(segment_len).inline_maintenance(true)
}

/// Goal: from every sequence number on, and from every batch's position, a feed delivers exactly
/// the batches that end behind it, over many segments and a reopen.
#[test]
fn a_feed_goes_on_from_anywhere() {
    let options = small(1024);
    let mut expected = Vec::new();
    for round in 0..3 {
        let db = options.clone().open("/store").unwrap();
        for n in round * 40..round * 40 + 40 {
            let mut batch = numbered(n);
            db.write(&mut batch, Durability::Buffered).unwrap();
            expected.push(ops_of(&batch));
        }
        db.close().unwrap();
    }
    let writer = options.clone().open("/store").unwrap();
    let reader = options.read_only(true).open("/store").unwrap();
    for db in [writer, reader] {
        let all = drain(&mut db.changes_since(0).unwrap());
        assert_eq!(all.iter().map(seen).collect::<Vec<_>>(), expected);
        for pair in all.windows(2) {
            assert!(pair[0].next_seqno() <= pair[1].first_seqno());
        }
        assert_eq!(all.iter().map(|b| b.epoch()).collect::<Vec<_>>(), {
            (0..120).map(|n| 1 + n / 40).collect::<Vec<u32>>()
        });
        let end = all.last().unwrap().next_seqno();
        for since in 0..=end {
            let mut changes = db.changes_since(since).unwrap();
            let rest: Vec<_> = drain(&mut changes).iter().map(seen).collect();
            let skipped = all.iter().filter(|b| b.next_seqno() <= since).count();
            assert_eq!(rest, expected[skipped..], "since {since}");
            assert_eq!(changes.position().seqno(), end);
        }
        for (i, batch) in all.iter().enumerate() {
            let position = FeedPosition::from_bytes(batch.position().to_bytes());
            let rest = drain(&mut db.changes_since(position).unwrap());
            assert_eq!(rest.len(), all.len() - i - 1, "after {position}");
        }
        assert!(matches!(
            db.changes_since(end + 1).unwrap_err(),
            FeedError::Ahead { since, next } if since == end + 1 && next == end
        ));
        assert_eq!(db.oldest_change().unwrap(), 1);
    }
}

/// Goal: only what is durable is delivered, unless all is asked for.
#[test]
fn what_is_not_durable_waits() {
    let db = small(64 << 10).open("/store").unwrap();
    let mut durable = db.changes_since(0).unwrap();
    let mut all = db.changes_with(0, FeedOptions::new().only_durable(false)).unwrap();
    assert!(all.try_next().unwrap().is_none());
    for n in 0..10 {
        db.write(&mut numbered(n), Durability::Buffered).unwrap();
        assert!(durable.try_next().unwrap().is_none());
        assert_eq!(seen(&all.try_next().unwrap().unwrap()), ops_of(&numbered(n)));
        assert!(all.try_next().unwrap().is_none());
    }
    db.sync().unwrap();
    assert_eq!(drain(&mut durable).len(), 10);
    db.write(&mut numbered(10), Durability::Sync).unwrap();
    assert_eq!(drain(&mut durable).len(), 1);
    assert_eq!(durable.position(), {
        drain(&mut all);
        all.position()
    });
}

/// Goal: a batch over many segments is delivered whole, one with a record larger than a segment
/// too, and what is around it as well.
#[test]
fn batches_larger_than_segments_are_delivered_whole() {
    let options = small(512);
    let db = options.clone().open("/store").unwrap();
    let mut expected = Vec::new();
    for n in 0..12u64 {
        let mut batch = numbered(n);
        for i in 0..n * 3 {
            batch.put("large", &i.to_le_bytes(), &[n as u8; 100]).unwrap();
        }
        if n % 4 == 3 {
            batch.put("large", b"huge", &[n as u8; 2000]).unwrap();
        }
        db.write(&mut batch, Durability::Sync).unwrap();
        expected.push(ops_of(&batch));
    }
    let reader = options.read_only(true).open("/store").unwrap();
    for db in [&db, &reader] {
        let options = FeedOptions::new().only_durable(false);
        let all = drain(&mut db.changes_with(0, options.clone()).unwrap());
        assert_eq!(all.iter().map(seen).collect::<Vec<_>>(), expected);
        assert_eq!(all.iter().map(|b| b.len()).sum::<usize>(), expected.concat().len());
        // In the middle of a batch: all of it.
        for since in 1..all.last().unwrap().next_seqno() {
            let mut changes = db.changes_with(since, options.clone()).unwrap();
            let next = changes.try_next().unwrap().unwrap();
            let wanted = all.iter().find(|b| b.next_seqno() > since).unwrap();
            assert_eq!(next.first_seqno(), wanted.first_seqno(), "since {since}");
            assert_eq!(seen(&next), seen(wanted));
        }
    }
}

/// Goal: a batch whose writer was told that it failed, after some of its frames were written, is
/// never delivered, nor a part of it.
#[test]
fn a_batch_that_was_given_up_is_skipped() {
    let mut given_up = 0;
    for fail_at in 0..12 {
        let sim = SimVfs::new();
        let options = plain().vfs(Arc::new(sim.clone())).segment_len(512);
        let db = options.clone().inline_maintenance(true).open("/store").unwrap();
        let mut changes = db.changes_with(0, FeedOptions::new().only_durable(false)).unwrap();
        db.write(&mut numbered(1), Durability::Sync).unwrap();
        let mut large = WriteBatch::new();
        for i in 0..20u8 {
            large.put("new", &[i], &[i; 100]).unwrap();
        }
        sim.set_fault(Some(
            FaultPlan::once(fail_at, Fault::Error(Fault::EIO)).of(&[CallKind::Write]),
        ));
        let failed = db.write(&mut large, Durability::Buffered).is_err();
        sim.set_fault(None);
        given_up += u32::from(failed);
        db.write(&mut numbered(2), Durability::Sync).unwrap();
        let mut expected = vec![ops_of(&numbered(1)), ops_of(&large), ops_of(&numbered(2))];
        if failed {
            expected.remove(1);
        }
        let found: Vec<_> = drain(&mut changes).iter().map(seen).collect();
        assert_eq!(found, expected, "fault {fail_at}");
        for since in 0..=changes.position().seqno() {
            let mut changes = db.changes_since(since).unwrap();
            drain(&mut changes);
        }
        let reader = options.read_only(true).open("/store").unwrap();
        let mut changes = reader.changes_with(0, FeedOptions::new().only_durable(false)).unwrap();
        let found: Vec<_> = drain(&mut changes).iter().map(seen).collect();
        assert_eq!(found, expected, "beside, fault {fail_at}");
    }
    assert!(given_up > 4, "{given_up} batches failed");
}

/// Goal: those who wait are woken by writes and syncs, get everything once and in order, and end
/// when the store is closed. What is delivered can be read already.
#[test]
fn waiting_ends_with_the_next_batch() {
    const BATCHES: u64 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let db = plain().segment_len(64 << 10).open(dir.path()).unwrap();
    let consumers: Vec<_> = [true, false]
        .into_iter()
        .map(|only_durable| {
            let options = FeedOptions::new().only_durable(only_durable);
            let mut changes = db.changes_with(0, options).unwrap();
            let db = db.clone();
            std::thread::spawn(move || {
                let mut n = 0;
                while let Some(batch) = changes.wait_next().unwrap() {
                    assert_eq!(seen(&batch), vec![Op::Put("c".into(), n_key(n), n_key(n))]);
                    assert_eq!(&*db.get("c", &n_key(n)).unwrap().unwrap(), &*n_key(n));
                    n += 1;
                    if n == BATCHES {
                        break;
                    }
                }
                drop(db);
                (n, changes)
            })
        })
        .collect();
    for n in 0..BATCHES {
        let mut batch = WriteBatch::new();
        batch.put("c", &n_key(n), &n_key(n)).unwrap();
        let durability = if n % 50 == 49 { Durability::Sync } else { Durability::Buffered };
        db.write(&mut batch, durability).unwrap();
    }
    let mut consumers: Vec<_> = consumers.into_iter().map(|c| c.join().unwrap()).collect();
    for (n, changes) in &mut consumers {
        assert_eq!(*n, BATCHES);
        assert!(changes.next_timeout(Duration::from_millis(1)).unwrap().is_none());
    }
    let waiting = std::thread::spawn(move || {
        consumers.iter_mut().all(|(_, c)| c.wait_next().unwrap().is_none())
    });
    db.close().unwrap();
    assert!(waiting.join().unwrap());
}

fn n_key(n: u64) -> Vec<u8> {
    n.to_string().into_bytes()
}

/// Goal: feeds of several threads beside several writers see every batch, each writer's in order.
#[test]
fn many_writers_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let db = plain().segment_len(32 << 10).open(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    let orders = std::thread::scope(|scope| {
        let feeds: Vec<_> = (0..2)
            .map(|_| {
                let mut changes =
                    db.changes_with(0, FeedOptions::new().only_durable(false)).unwrap();
                let done = &done;
                scope.spawn(move || {
                    let mut order = Vec::new();
                    loop {
                        let is_done = done.load(Ordering::Acquire);
                        match changes.next_timeout(Duration::from_millis(2)).unwrap() {
                            Some(batch) => order.extend(seen(&batch)),
                            None if is_done => return order,
                            None => {}
                        }
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..3u8)
            .map(|writer| {
                let db = db.clone();
                scope.spawn(move || {
                    for n in 0..500u32 {
                        db.put("c", &[writer], &n.to_le_bytes()).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|w| w.join().unwrap());
        done.store(true, Ordering::Release);
        feeds.into_iter().map(|f| f.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(orders[0].len(), 1500);
    assert_eq!(orders[0], orders[1]);
    for writer in 0..3u8 {
        let own = orders[0].iter().filter_map(|op| match op {
            Op::Put(_, key, value) if *key == [writer] => Some(value.clone()),
            _ => None,
        });
        assert!(own.eq((0..500u32).map(|n| n.to_le_bytes().to_vec())));
    }
}

/// Goal: values are delivered as they were written, compressed or expiring in the log or not; what
/// the engine writes for itself is not delivered.
#[test]
fn values_come_as_they_were_written() {
    let options = small(4096);
    let db = options.clone().open("/store").unwrap();
    let packed = CollectionOptions::new().compression(Compression::Lz4);
    db.configure("packed", packed).unwrap();
    let mut expected = Vec::new();
    for n in 0..30u64 {
        let mut batch = WriteBatch::new();
        let text = format!("the same text again and again, {n}; ").repeat(1 + n as usize % 9);
        batch.put("packed", b"text", text.as_bytes()).unwrap();
        batch.put_expiring("packed", b"until", text.as_bytes(), 100 + n).unwrap();
        batch.put_expiring("plain", b"until", b"short", 100 + n).unwrap();
        batch.put("plain", b"text", text.as_bytes()).unwrap();
        batch.put("packed", b"short", b"short").unwrap();
        db.write(&mut batch, Durability::Sync).unwrap();
        expected.push(ops_of(&batch));
    }
    db.set_time(1000);
    for db in [&db, &options.read_only(true).open("/store").unwrap()] {
        let options = FeedOptions::new().only_durable(false);
        let all = drain(&mut db.changes_with(0, options).unwrap());
        assert_eq!(all.iter().map(seen).collect::<Vec<_>>(), expected);
        let mut copy = WriteBatch::new();
        all.iter().for_each(|batch| batch.append_to(&mut copy).unwrap());
        assert_eq!(ops_of(&copy), expected.concat());
    }
}

/// Goal: a position of another store, and one that never was, are refused.
#[test]
fn a_position_of_another_history_is_refused() {
    let (one, other) = (small(1024).open("/a").unwrap(), small(1024).open("/b").unwrap());
    for n in 0..10 {
        one.write(&mut numbered(n), Durability::Sync).unwrap();
        other.write(&mut numbered(n + 1), Durability::Sync).unwrap();
    }
    other.write(&mut numbered(11), Durability::Sync).unwrap();
    let mut refused = 0;
    for batch in drain(&mut other.changes_since(0).unwrap()) {
        match one.changes_since(batch.position()) {
            Err(FeedError::Diverged { position, .. }) => assert_eq!(position, batch.position()),
            Err(FeedError::Ahead { .. }) => {}
            other => panic!("{other:?}"),
        }
        refused += 1;
    }
    assert_eq!(refused, 11);
}

/// Goal: damage in the log is told with its place, and not delivered.
#[test]
fn damage_is_not_delivered() {
    let vfs = MemVfs::new();
    let options = plain().vfs(Arc::new(vfs.clone())).segment_len(64 << 10).inline_maintenance(true);
    let db: Db = options.open("/store").unwrap();
    for n in 0..10 {
        db.write(&mut numbered(n), Durability::Sync).unwrap();
    }
    let path = std::path::Path::new("/store/0000000000000001.seg");
    let at = vfs.snapshot()[path].windows(9).position(|w| w == b"value 6.1").unwrap();
    vfs.open(path, OpenMode::ReadWrite).unwrap().write_at(b"V", at as u64).unwrap();
    let mut changes = db.changes_since(0).unwrap();
    for _ in 0..6 {
        changes.try_next().unwrap().unwrap();
    }
    for _ in 0..2 {
        let error = changes.try_next().unwrap_err();
        assert!(
            matches!(&error, FeedError::Corrupt(c) if c.file == path && c.offset > 64),
            "{error}"
        );
    }
}
