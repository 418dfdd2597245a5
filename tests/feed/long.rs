//! A reader in another process beside a writer that never rests.
//!
//! `SILTSTONE_FEED_SECONDS` sets how long the writer writes, `SILTSTONE_SEED` its choices.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use siltstone::testing::Rng;
use siltstone::{
    BatchOp, ChangeBatch, Changes, Db, FeedError, FeedPosition, Options, Retention, Snapshot,
    SnapshotError, WriteBatch,
};

const SECONDS: u64 = 3;
/// Keys of each of the collections.
const KEYS: usize = 400;
const COLLECTIONS: [&str; 2] = ["one", "two"];

/// Where the child processes work.
const DIR: &str = "SILTSTONE_FEED_READER_DIR";

/// What the reader counts.
#[derive(Debug, Default)]
struct Counts {
    /// Durable snapshots that were opened and read from end to end.
    snapshots: u64,
    /// Opens that loaded a checkpoint.
    checkpoints: u64,
    /// Snapshots that were dropped before they could be opened.
    dropped: u64,
    /// Values that were verified.
    values: u64,
    batches: u64,
    /// How often compaction passed the feed, so that it began anew from a snapshot.
    passed: u64,
}

/// The collections' contents: keys and the numbers of their values.
type Numbers = BTreeMap<(String, Vec<u8>), u64>;

/// A value that says whose it is and which, with bytes that follow from that.
fn value_of(collection: &str, key: &[u8], number: u64) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.extend_from_slice(collection.as_bytes());
    value.extend_from_slice(key);
    let len = 100 + (number as usize * 37) % 900;
    while value.len() < len {
        value.push((value.len() as u64 ^ number) as u8);
    }
    value
}

/// The number of a value, every byte of which is as it must be.
fn number_of(collection: &str, key: &[u8], value: &[u8]) -> u64 {
    let number = value.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let number = number.unwrap_or_else(|| panic!("a short value of {key:?}: {value:?}"));
    assert!(value == value_of(collection, key, number), "wrong bytes of {key:?}, number {number}");
    number
}

/// The whole of a snapshot, verified.
fn read(snapshot: &Snapshot, counts: &mut Counts) -> Numbers {
    let mut found = Numbers::new();
    for (name, len) in snapshot.collections() {
        let before = found.len();
        for entry in snapshot.iter(&name) {
            let entry = entry.unwrap();
            let number = number_of(&name, &entry.key, &entry.value);
            counts.values += 1;
            assert!(found.insert((name.clone(), entry.key), number).is_none(), "a key twice");
        }
        assert_eq!((found.len() - before) as u64, len, "{name}");
    }
    found
}

fn reader(dir: &Path) -> Db {
    Options::new().read_only(true).create(false).open(dir).unwrap()
}

fn apply(numbers: &mut Numbers, batch: &ChangeBatch, counts: &mut Counts) {
    for op in batch.ops() {
        match op {
            BatchOp::Put { collection, key, value } => {
                let number = number_of(collection, key, value);
                let old = numbers.insert((collection.to_owned(), key.to_vec()), number);
                assert!(old.is_none_or(|old| old < number), "{key:?} went back from {old:?}");
                counts.values += 1;
            }
            BatchOp::Delete { collection, key } => {
                numbers.remove(&(collection.to_owned(), key.to_vec()));
            }
            BatchOp::Clear { collection } => numbers.retain(|(name, _), _| name != collection),
            other => panic!("{other:?}"),
        }
    }
    counts.batches += 1;
}

/// Opens the newest durable snapshot, and the feed from there on.
fn begin(dir: &Path, counts: &mut Counts) -> (Numbers, Changes) {
    loop {
        let db = reader(dir);
        let Some(newest) = db.snapshots().pop() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let snapshot = match db.open_snapshot(newest.id) {
            Ok(snapshot) => snapshot,
            Err(SnapshotError::Missing { .. }) => {
                counts.dropped += 1;
                continue;
            }
            Err(e) => panic!("snapshot {}: {e}", newest.id),
        };
        // What a checkpoint has loaded is looked at after its files were compacted away.
        std::thread::sleep(Duration::from_millis(30));
        let numbers = read(&snapshot, counts);
        let report = db.check().unwrap();
        assert!(report.is_ok(), "beside the writer: {report:?}");
        counts.checkpoints += u64::from(db.recovery_report().checkpoint.is_some());
        counts.snapshots += 1;
        match db.changes_since(newest.seqno) {
            Ok(changes) => return (numbers, changes),
            Err(FeedError::Passed { .. }) => counts.passed += 1,
            Err(e) => panic!("the feed from {}: {e}", newest.seqno),
        }
    }
}

/// Not a test: what the reader's process runs.
#[test]
fn reads_along() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (dir, mut counts) = (Path::new(&dir), Counts::default());
    let store = dir.join("store");
    let (mut numbers, mut changes) = begin(&store, &mut counts);
    let mut at_most = 500;
    loop {
        let is_done = dir.join("done").exists();
        match changes.next_timeout(Duration::from_millis(20)) {
            Ok(Some(batch)) => apply(&mut numbers, &batch, &mut counts),
            Ok(None) if is_done => break,
            Ok(None) => {}
            Err(FeedError::Passed { .. }) => {
                counts.passed += 1;
                (numbers, changes) = begin(&store, &mut counts);
            }
            Err(e) => panic!("after {counts:?}: {e}"),
        }
        // Now and then a snapshot, which the feed must lead to as well, and a pause, in which
        // compaction may pass.
        if counts.batches > at_most && !is_done {
            at_most = counts.batches + 500;
            let (then, from) = begin(&store, &mut counts);
            if counts.snapshots.is_multiple_of(4) {
                std::thread::sleep(Duration::from_millis(300));
            }
            let reached: FeedPosition = changes.position();
            if from.position().seqno() >= reached.seqno() {
                (numbers, changes) = (then, from);
            }
        }
    }
    let end = read(&reader(&store).snapshot(), &mut counts);
    assert!(numbers == end, "the feed led to {} keys, there are {}", numbers.len(), end.len());
    let lines: Vec<String> =
        end.iter().map(|((c, k), n)| format!("{c} {} {n}", k.escape_ascii())).collect();
    std::fs::write(dir.join("reader"), lines.join("\n")).unwrap();
    std::fs::write(dir.join("counts"), format!("{counts:?}")).unwrap();
}

/// Puts, overwrites, deletes and clears; persists now and then.
fn write(db: &Db, until: Instant, rng: &mut Rng) -> (Numbers, u64) {
    let (mut expected, mut number) = (Numbers::new(), 0);
    let mut batches = 0;
    while Instant::now() < until {
        let mut batch = WriteBatch::new();
        let collection = COLLECTIONS[rng.below(2)];
        if rng.below(2000) == 0 {
            batch.clear(collection).unwrap();
            expected.retain(|(name, _), _| name != collection);
        }
        for _ in 0..1 + rng.below(12) {
            let key = format!("key {}", rng.below(KEYS)).into_bytes();
            number += 1;
            if rng.percent(15) {
                batch.delete(collection, &key).unwrap();
                expected.remove(&(collection.to_owned(), key));
            } else {
                batch.put(collection, &key, &value_of(collection, &key, number)).unwrap();
                expected.insert((collection.to_owned(), key), number);
            }
        }
        db.write(&mut batch, siltstone::Durability::Buffered).unwrap();
        batches += 1;
        if batches % 50 == 0 {
            db.persist().unwrap();
        }
    }
    (expected, batches)
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "long::reads_along", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Goal: another process opens durable snapshots and follows the feed while the writer ingests,
/// overwrites, deletes, persists and compacts: no error but that it was passed, no wrong byte, and
/// in the end it holds what the writer wrote.
#[test]
fn a_process_reads_along() {
    let seconds: u64 =
        std::env::var("SILTSTONE_FEED_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let seed = std::env::var("SILTSTONE_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    say!("feed beside a writer: SILTSTONE_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_len(64 << 10).retention(Retention::count(4));
    let options = options.checkpoint_every(64 << 10);
    let db = options.open(dir.path().join("store")).unwrap();
    let mut child = spawn(dir.path());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (expected, batches) = write(&db, until, &mut Rng::new(seed));
    db.persist().unwrap();
    let stats = db.stats();
    let runs = stats.compaction.runs;
    db.close().unwrap();
    std::fs::write(dir.path().join("done"), "").unwrap();
    assert!(child.wait().unwrap().success(), "the reader failed, seed {seed}");
    let lines: Vec<String> =
        expected.iter().map(|((c, k), n)| format!("{c} {} {n}", k.escape_ascii())).collect();
    let reader = std::fs::read_to_string(dir.path().join("reader")).unwrap();
    assert!(reader == lines.join("\n"), "seed {seed}: the reader ended elsewhere");
    let counts = std::fs::read_to_string(dir.path().join("counts")).unwrap();
    for zero in ["snapshots: 0", "checkpoints: 0"] {
        assert!(runs > 0 && !counts.contains(zero), "{runs} compactions, {counts}");
    }
    say!(
        "feed beside a writer: {seconds} s, {batches} batches written, {runs} compactions, \
         {} segments compacted, the reader: {counts}, equal at the end",
        stats.compaction.segments_in
    );
}
