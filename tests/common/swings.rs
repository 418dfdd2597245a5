//! A snapshot that is read while compaction leads keys to new places.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use siltstone::testing::bugs::{Moment, with_hook};
use siltstone::{CompactionOptions, Db, Durability, Options, WriteBatch};

/// Long for a compaction of a few records that nobody holds up.
const LONG: Duration = Duration::from_millis(300);

/// Reads a snapshot; when the index is read and the books are not, another thread overwrites a key
/// and compacts. Returns how often each of two keys was found.
pub(crate) fn read_while_swung() -> [usize; 2] {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().compaction(CompactionOptions::manual());
    let db = options.open(dir.path()).unwrap();
    for key in [b"0", b"1", b"2"] {
        db.put("c", key, b"first").unwrap();
    }
    // Something to give back, so that the segment is compacted.
    db.delete("c", b"2").unwrap();
    let snapshot = db.snapshot();
    let (is_swung, swung) = channel();
    let (go_on, gone_on) = channel();
    let mut other = Some((db.clone(), is_swung, gone_on));
    let hook = move |moment| {
        if moment == Moment::IndexRead
            && let Some((db, is_swung, gone_on)) = other.take()
        {
            std::thread::spawn(move || overwrite_and_compact(&db, is_swung, gone_on));
            // Not for ever: it may be waiting for this one.
            let _ = swung.recv_timeout(LONG);
        }
    };
    let keys: Vec<Vec<u8>> =
        with_hook(hook, || snapshot.iter("c").map(|entry| entry.unwrap().key).collect());
    let _ = go_on.send(());
    [b"0", b"1"].map(|key| keys.iter().filter(|found| *found == key).count())
}

/// Compacts records that have expired and that are overwritten between survey and swing, while a
/// snapshot knows them. Returns what is wrong with the snapshot or with the store, if anything is.
pub(crate) fn expired_while_compacted() -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().time(1).compaction(CompactionOptions::manual());
    let db = options().open(dir.path()).unwrap();
    let mut batch = WriteBatch::new();
    for key in 0..20u8 {
        batch.put_expiring("c", &[key], &[key; 40], 10).unwrap();
    }
    db.write(&mut batch, Durability::Buffered).unwrap();
    db.put("c", b"stays", b"here").unwrap();
    let kept = db.persist().unwrap();
    db.set_time(20);
    let mut other = Some(db.clone());
    let hook = move |moment| {
        if moment == Moment::Surveyed
            && let Some(db) = other.take()
        {
            (0..20u8).for_each(|key| db.put("c", &[key], b"new").unwrap());
        }
    };
    with_hook(hook, || db.compact_now().unwrap());
    // Others come to stand where they stood.
    for _ in 0..3 {
        (0..20u8).for_each(|key| db.put("c", &[key, key], &[1; 60]).unwrap());
        db.compact_now().unwrap();
    }
    let look = |db: &Db| {
        let snapshot = db.open_snapshot(kept.id).unwrap();
        let found: Vec<_> = snapshot.iter("c").map(|e| e.map(|e| e.key)).collect();
        let only_one_stays = matches!(&found[..], [Ok(key)] if key == b"stays");
        let gone = (0..20u8).find(|key| !matches!(snapshot.get("c", &[*key]), Ok(None)));
        let report = db.check().unwrap();
        if only_one_stays && gone.is_none() && report.is_ok() {
            return None;
        }
        Some(format!("the snapshot shows {found:?}, of key {gone:?}; {report:?}"))
    };
    let pinned = db.stats().pinned_bytes();
    if pinned > 0 {
        return Some(format!("{pinned} bytes are pinned for nothing"));
    }
    look(&db).or_else(|| {
        db.close().unwrap();
        look(&options().time(20).open(dir.path()).unwrap())
    })
}

/// Stops when the keys lead to their new places and the old ones are still there.
fn overwrite_and_compact(db: &Db, is_swung: Sender<()>, gone_on: Receiver<()>) {
    db.put("c", b"0", b"second").unwrap();
    let hook = move |moment| {
        if moment == Moment::Swung {
            let _ = is_swung.send(());
            let _ = gone_on.recv_timeout(10 * LONG);
        }
    };
    with_hook(hook, || db.compact_now().unwrap());
}
