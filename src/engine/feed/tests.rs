//! What a feed says when parts of the log have left the store, as compaction takes them.

use std::sync::Arc;

use super::*;
use crate::engine::{CompactionOptions, Durability, Options, WriteBatch};
use crate::format::manifest::Edit;
use crate::vfs::Vfs;
use crate::vfs::mem::MemVfs;

fn options(vfs: &MemVfs) -> Options {
    let options = Options::new().vfs(Arc::new(vfs.clone())).segment_len(512);
    options.inline_maintenance(true).compaction(CompactionOptions::manual())
}

/// A store of many segments; every fourth batch is larger than one.
fn filled(vfs: &MemVfs) -> Db {
    let db = options(vfs).open("/store").unwrap();
    for n in 0..40u8 {
        let mut batch = WriteBatch::new();
        for i in 0..if n % 4 == 3 { 12 } else { 2 } {
            batch.put("c", &[n, i], &[n; 60]).unwrap();
        }
        db.write(&mut batch, Durability::Sync).unwrap();
    }
    db
}

/// Takes the sealed segments that `choose` wants out of the store.
fn take_out(db: &Db, vfs: &MemVfs, choose: impl Fn(usize, usize) -> bool) {
    let core = db.core();
    let mut manifest = core.manifest.lock();
    let states = manifest.state.segments.iter();
    let sealed: Vec<u64> = states.filter(|s| s.seal.is_some()).map(|s| s.id).collect();
    let chosen = sealed.iter().enumerate().filter(|(i, _)| choose(*i, sealed.len()));
    let removed: Vec<u64> = chosen.map(|(_, id)| *id).collect();
    let edit = Edit::Compact { added: Vec::new(), removed: removed.clone(), watermark: 0 };
    manifest.append(&edit, &core.poison).unwrap();
    drop(manifest);
    for segment in core.segments.all().iter().filter(|s| removed.contains(&s.id)) {
        core.segments.remove(segment);
        vfs.remove(&segment.path).unwrap();
    }
}

fn read(changes: &mut Changes) -> Result<Vec<(u64, u64)>, FeedError> {
    let mut found = Vec::new();
    while let Some(batch) = changes.try_next()? {
        found.push((batch.first_seqno(), batch.next_seqno()));
    }
    Ok(found)
}

fn is_passed(error: &FeedError, floor: u64) -> bool {
    matches!(error, FeedError::Passed { floor: found, .. } if *found == floor)
}

/// Goal: whatever segments are gone, a feed delivers whole batches from the floor on, and says what
/// the floor is when asked for more; in the writer's process and beside it.
#[test]
fn what_compaction_has_passed_is_refused() {
    type Choice = fn(usize, usize) -> bool;
    let choices: [Choice; 6] = [
        |_, _| false,
        |i, _| i == 0,
        |i, len| i < len / 2,
        |i, len| i == len / 2,
        |i, len| i % 3 == 0 && i < len - 4,
        |_, _| true,
    ];
    for (n, choose) in choices.into_iter().enumerate() {
        let vfs = MemVfs::new();
        let db = filled(&vfs);
        let early = options(&vfs).read_only(true).open("/store").unwrap();
        let all = read(&mut db.changes_since(0).unwrap()).unwrap();
        let positions: Vec<FeedPosition> = {
            let mut changes = db.changes_since(0).unwrap();
            std::iter::from_fn(|| Some(changes.try_next().unwrap()?.position())).collect()
        };
        take_out(&db, &vfs, choose);
        let late = options(&vfs).read_only(true).open("/store");
        for db in [&db, &early].into_iter().chain(late.as_ref()) {
            let floor = db.oldest_change().unwrap();
            assert_eq!(floor > 1, n > 0, "choice {n}");
            let everything = FeedOptions::new().only_durable(false);
            for since in 1..=all.last().unwrap().1 {
                match db.changes_with(since, everything.clone()) {
                    Ok(mut changes) => {
                        assert!(since >= floor, "choice {n}: {since} below {floor}");
                        let rest: Vec<_> =
                            all.iter().copied().filter(|(_, next)| *next > since).collect();
                        assert_eq!(read(&mut changes).unwrap(), rest, "choice {n}, {since}");
                    }
                    Err(e) => {
                        assert!(since < floor && is_passed(&e, floor), "choice {n}, {since}: {e}");
                    }
                }
            }
            for position in &positions {
                match db.changes_with(*position, everything.clone()) {
                    Ok(_) => assert!(position.seqno() >= floor),
                    Err(e) => assert!(position.seqno() <= floor && is_passed(&e, floor), "{e}"),
                }
            }
        }
    }
}

/// Goal: a feed that stands in a segment that leaves the store reads it to its end, and then says
/// that it was passed.
#[test]
fn a_slow_feed_is_passed() {
    let vfs = MemVfs::new();
    let db = filled(&vfs);
    let reader = options(&vfs).read_only(true).open("/store").unwrap();
    let everything = FeedOptions::new().only_durable(false);
    let mut feeds = [
        db.changes_since(0).unwrap(),
        reader.changes_since(0).unwrap(),
        reader.changes_with(0, everything).unwrap(),
    ];
    for changes in &mut feeds {
        changes.try_next().unwrap().unwrap();
    }
    take_out(&db, &vfs, |i, len| i < len / 2);
    let floor = db.oldest_change().unwrap();
    for changes in &mut feeds {
        let error = read(changes).unwrap_err();
        assert!(is_passed(&error, floor), "{error}");
        assert!(changes.position().seqno() < floor);
    }
    let position = feeds[0].position();
    assert!(is_passed(&db.changes_since(position).unwrap_err(), floor));
}
