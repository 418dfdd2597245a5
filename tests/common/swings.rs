//! A snapshot that is read while compaction leads keys to new places.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use siltstone::testing::bugs::{Moment, with_hook};
use siltstone::{CompactionOptions, Db, Options};

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
