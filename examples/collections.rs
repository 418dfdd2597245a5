//! What a collection can be told to do: keep its keys in order, and compress its values. And what a
//! record can: expire, and change only if nobody else has changed it.
//!
//! ```text
//! cargo run --release --example collections
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use siltstone::{
    CollectionOptions, CompactionOptions, Compression, Db, Durability, Options, Update, WriteBatch,
};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    // Small segments, so that something is sealed and can be compacted; by hand, for the example.
    let options = Options::new().segment_len(1 << 18).compaction(CompactionOptions::manual());
    let db = options.open(dir.path())?;
    ordered(&db)?;
    compressed(&db)?;
    expiring(&db)?;
    changed_by_many(&db)?;
    db.close()?;
    Ok(())
}

/// Ranges and prefixes, in both directions.
fn ordered(db: &Db) -> Result<(), Box<dyn Error>> {
    db.configure("chunks", CollectionOptions::new().ordered(true))?;
    for key in ["b.txt#0001", "a.txt#0000", "b.txt#0000", "c.txt#0000"] {
        db.put("chunks", key.as_bytes(), b"text")?;
    }
    let of_b: Result<Vec<_>, _> = db.prefix("chunks", b"b.txt#")?.collect();
    let keys: Vec<String> =
        of_b?.iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned()).collect();
    println!("chunks of b.txt: {}", keys.join(", "));
    assert_eq!(keys, ["b.txt#0000", "b.txt#0001"]);
    let last = db.range("chunks", ..)?.next_back().ok_or("there are chunks")??;
    assert_eq!(last.key, b"c.txt#0000");
    Ok(())
}

/// Values that are alike shrink most with a dictionary, which compaction trains from them.
fn compressed(db: &Db) -> Result<(), Box<dyn Error>> {
    let options = CollectionOptions::new().compression(Compression::Dictionary);
    db.configure("texts", options)?;
    for n in 0..5000u32 {
        let text =
            format!("{{\"id\": {n}, \"file\": \"a.txt\", \"text\": \"silt, layer {}\"}}", n / 7);
        db.put("texts", &n.to_le_bytes(), text.as_bytes())?;
    }
    // What was overwritten makes a segment worth compacting.
    for n in 0..5000u32 {
        let text =
            format!("{{\"id\": {n}, \"file\": \"b.txt\", \"text\": \"sand, bed {}\"}}", n / 9);
        db.put("texts", &n.to_le_bytes(), text.as_bytes())?;
    }
    db.compact_now()?;
    for stored in db.measure_compression()? {
        println!(
            "{}: {} values, {} bytes in {}, {} dictionaries",
            stored.collection,
            stored.values,
            stored.raw_bytes,
            stored.stored_bytes,
            stored.dictionaries
        );
    }
    let text = db.get("texts", &9u32.to_le_bytes())?.ok_or("it is there")?;
    assert!(text.ends_with(b"bed 1\"}"));
    Ok(())
}

/// The store reads no clock: it is told the time, in whatever unit.
fn expiring(db: &Db) -> Result<(), Box<dyn Error>> {
    let now = 1_000;
    db.set_time(now);
    let mut batch = WriteBatch::new();
    batch.put_expiring("sessions", b"anna", b"token", now + 60)?;
    db.write(&mut batch, Durability::Buffered)?;
    assert!(db.get("sessions", b"anna")?.is_some());
    db.set_time(now + 60);
    println!("a minute later the session is there: {}", db.get("sessions", b"anna")?.is_some());
    assert!(db.get("sessions", b"anna")?.is_none());
    Ok(())
}

/// Threads that count together, and one that only writes over what it has seen.
fn changed_by_many(db: &Db) -> Result<(), Box<dyn Error>> {
    let add_one = |old: Option<&[u8]>| {
        let old = old.and_then(|old| old.try_into().ok()).map_or(0, u64::from_le_bytes);
        Update::Put((old + 1).to_le_bytes().to_vec())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..100)
                        .try_for_each(|_| db.fetch_update("counts", b"visits", add_one).map(drop))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a thread panicked")?.map_err(Box::<dyn Error>::from)
        })
    })?;
    let visits = db.get("counts", b"visits")?.ok_or("it was counted")?;
    println!("visits: {}", u64::from_le_bytes((*visits).try_into()?));
    assert_eq!(*visits, 400u64.to_le_bytes());
    let seen = b"not what is there".as_slice();
    let outcome = db.compare_and_set("counts", b"visits", Some(seen), Some(b"0"))?;
    assert!(outcome.is_err(), "it has another value");
    Ok(())
}
