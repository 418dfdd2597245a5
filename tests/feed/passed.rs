//! What a feed is told when compaction has taken parts of the log.

use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{Changes, Db, Durability, FeedError, FeedOptions, FeedPosition, Options};

use super::{drain, numbered, plain};

/// A store of many small segments, and a reader of it that follows the directory.
fn open_both() -> (Options, Db, Db) {
    let options = plain().vfs(Arc::new(MemVfs::new())).segment_len(512).inline_maintenance(true);
    let db = options.clone().open("/store").unwrap();
    let reader = options.clone().read_only(true).open("/store").unwrap();
    (options, db, reader)
}

fn write(db: &Db, numbers: std::ops::Range<u64>) {
    for n in numbers {
        db.write(&mut numbered(n), Durability::Sync).unwrap();
    }
}

/// Takes the whole log: the deletion gives compaction a reason to end the active segment too.
fn compact_all(db: &Db) {
    db.delete("even", b"none").unwrap();
    db.sync().unwrap();
    db.compact_now().unwrap();
    assert_eq!(db.oldest_change().unwrap(), db.stats().next_seqno);
}

fn everything(db: &Db) -> Changes {
    db.changes_with(0, FeedOptions::new().only_durable(false)).unwrap()
}

/// Goal: a feed that lags behind is told that it was passed, also when the segment it stands in was
/// the last one with records: what follows is gone and the active segment is empty.
#[test]
fn a_feed_before_an_empty_segment_is_passed() {
    let (_, db, reader) = open_both();
    // The second frame says that the first one is durable.
    write(&db, 0..2);
    let mut feeds = [
        db.changes_since(0).unwrap(),
        everything(&db),
        reader.changes_since(0).unwrap(),
        everything(&reader),
    ];
    for changes in &mut feeds {
        changes.try_next().unwrap().unwrap();
    }
    write(&db, 2..60);
    compact_all(&db);
    let end = db.stats().next_seqno;
    for changes in &mut feeds {
        for _ in 0..2 {
            let error = std::iter::from_fn(|| changes.try_next().transpose())
                .find_map(Result::err)
                .unwrap_or_else(|| panic!("no more, and no word of it: {changes:?}"));
            let since = changes.position().seqno();
            assert!(since < end);
            assert!(matches!(error, FeedError::Passed { floor, .. } if floor == end), "{error}");
        }
    }
    // From there on all is well.
    let mut again = db.changes_since(end).unwrap();
    write(&db, 60..61);
    assert_eq!(drain(&mut again).len(), 1);
}

/// Goal: a consumer that has seen everything goes on where it stood when compaction has taken all
/// of the log, or all up to its position, also over a close, a backup and manifests written anew;
/// one that stood at the same place of another history is refused.
#[test]
fn who_has_seen_everything_goes_on() {
    let (options, db, reader) = open_both();
    write(&db, 0..60);
    db.delete("even", b"none").unwrap();
    db.sync().unwrap();
    let mut changes = db.changes_since(0).unwrap();
    drain(&mut changes);
    let position = changes.position();
    drop(changes);
    let mut other = position.to_bytes();
    other[12] ^= 1;
    let other = FeedPosition::from_bytes(other);
    db.compact_now().unwrap();
    assert_eq!(db.oldest_change().unwrap(), position.seqno());
    let check = |dbs: &[&Db], new: usize| {
        for db in dbs {
            let all = FeedOptions::new().only_durable(false);
            let mut changes = db.changes_with(position, all).unwrap();
            assert_eq!(drain(&mut changes).len(), new);
            let mut changes = db.changes_since(position.seqno()).unwrap();
            drain(&mut changes);
            let error = db.changes_since(other).unwrap_err();
            assert!(matches!(error, FeedError::Diverged { found: Some(1), .. }), "{error}");
        }
    };
    check(&[&db, &reader], 0);
    db.backup_to("/copy", siltstone::BackupOptions::new()).unwrap();
    let copy = options.clone().open("/copy").unwrap();
    check(&[&copy], 0);
    db.close().unwrap();
    // Opens that write nothing, too; each one may write the manifest anew.
    for _ in 0..3 {
        options.clone().open("/store").unwrap().close().unwrap();
    }
    let db = options.open("/store").unwrap();
    check(&[&db, &reader], 0);
    write(&db, 60..63);
    check(&[&db, &reader], 3);
    write(&copy, 60..62);
    check(&[&copy], 2);
}
