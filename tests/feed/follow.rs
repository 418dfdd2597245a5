//! Beside the writer: readers that follow the directory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use siltstone::{Changes, Db, Durability, FeedError, FeedOptions, ReadMode};

use super::{drain, numbered, ops_of, plain, seen};

/// So long nobody waits, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn reader(dir: &Path, read_mode: ReadMode) -> Db {
    plain().read_only(true).read_mode(read_mode).open(dir).unwrap()
}

/// Takes batches until number `count` has come; each must be the next one.
fn follow_up_to(changes: &mut Changes, from: u64, count: u64) {
    for n in from..count {
        let batch = changes.next_timeout(PATIENCE).unwrap();
        let batch = batch.unwrap_or_else(|| panic!("no batch {n} at {changes:?}"));
        assert_eq!(seen(&batch), ops_of(&numbered(n)), "batch {n}");
    }
}

/// Goal: a reader that was opened before the first batch sees every one, once and whole, while the
/// writer rolls segments, seals them, closes the store and opens it again.
#[test]
fn a_reader_follows_the_writer() {
    const BATCHES: u64 = 6000;
    let dir = tempfile::tempdir().unwrap();
    let options = plain().segment_len(8 << 10);
    options.clone().open(dir.path()).unwrap().close().unwrap();
    let follow = |only_durable: bool, read_mode| {
        let reader = reader(dir.path(), read_mode);
        let options = FeedOptions::new().only_durable(only_durable);
        let mut changes =
            reader.changes_with(0, options.poll_max(Duration::from_millis(4))).unwrap();
        move || follow_up_to(&mut changes, 0, BATCHES)
    };
    std::thread::scope(|scope| {
        scope.spawn(follow(true, ReadMode::Mmap));
        scope.spawn(follow(false, ReadMode::Mmap));
        scope.spawn(follow(false, ReadMode::Pread));
        for n in 0..BATCHES {
            // A store is closed and opened again now and then.
            if n % 1000 == 0 {
                let db = options.clone().open(dir.path()).unwrap();
                for n in n..n + 1000 {
                    let sync = n % 40 == 7;
                    let durability = if sync { Durability::Sync } else { Durability::Buffered };
                    db.write(&mut numbered(n), durability).unwrap();
                }
                db.close().unwrap();
            }
        }
    });
}

/// Goal: a feed that begins somewhere in the middle, while the writer is at it, goes on from there,
/// in collections that were created after the reader had opened the store.
#[test]
fn a_reader_may_begin_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let early = {
        plain().open(dir.path()).unwrap().close().unwrap();
        reader(dir.path(), ReadMode::Mmap)
    };
    let db = plain().segment_len(16 << 10).open(dir.path()).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..3000 {
                db.write(&mut numbered(n), Durability::Buffered).unwrap();
            }
            is_done.store(true, Ordering::Release);
        });
        let mut starts = 0;
        while !is_done.load(Ordering::Acquire) {
            let options = FeedOptions::new().only_durable(false);
            let all = drain(&mut early.changes_with(0, options.clone()).unwrap());
            let step = (all.len() / 7).max(1);
            for (n, batch) in (0u64..).zip(&all).step_by(step) {
                let mut changes = early.changes_with(batch.position(), options.clone()).unwrap();
                if let Some(next) = changes.try_next().unwrap() {
                    assert_eq!(seen(&next), ops_of(&numbered(n + 1)));
                    starts += 1;
                }
            }
        }
        assert!(starts > 0);
    });
}

/// Goal: a reader of what is not durable is told when the writer has lost what was delivered.
/// Method: the directory is put back to an earlier state below the reader, as a power cut would,
/// and other batches are written.
#[test]
fn a_reader_is_told_that_history_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let options = plain().segment_len(64 << 10);
    let path = dir.path().join("0000000000000001.seg");
    let db = options.clone().open(dir.path()).unwrap();
    for n in 0..10 {
        db.write(&mut numbered(n), Durability::Sync).unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    for n in 10..20 {
        db.write(&mut numbered(n), Durability::Buffered).unwrap();
    }
    let reader = reader(dir.path(), ReadMode::Mmap);
    let everything = FeedOptions::new().only_durable(false);
    let mut live = reader.changes_with(0, everything.clone()).unwrap();
    follow_up_to(&mut live, 0, 20);
    let seen_position = live.position();
    let manifest = std::fs::read(dir.path().join("MANIFEST")).unwrap();
    db.close().unwrap();
    std::fs::write(dir.path().join("MANIFEST"), manifest).unwrap();
    // The same file, as the writer's own recovery would cut it.
    std::fs::write(&path, before).unwrap();

    let error = live.try_next().unwrap_err();
    assert!(matches!(error, FeedError::Diverged { .. }), "{error}");
    let db = options.open(dir.path()).unwrap();
    let error = db.changes_since(seen_position).unwrap_err();
    assert!(matches!(error, FeedError::Ahead { .. }), "{error}");
    for n in 30..50 {
        db.write(&mut numbered(n), Durability::Sync).unwrap();
    }
    let reader = plain().read_only(true).open(dir.path()).unwrap();
    for db in [db, reader] {
        let error = db.changes_since(seen_position).unwrap_err();
        assert!(matches!(error, FeedError::Diverged { .. }), "{error}");
    }
}
