//! A bad ingest, undone: durable snapshots, what differs between them, and the way back.
//!
//! ```text
//! cargo run --release --example undo
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use siltstone::{Db, Durability, PersistOptions, WriteBatch};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path())?;
    let mut batch = WriteBatch::new();
    for n in 0..1000 {
        batch.put("chunks", format!("a.txt#{n:04}").as_bytes(), b"a good chunk")?;
    }
    db.write(&mut batch, Durability::Buffered)?;
    // Everything above is durable, and this state can be read for as long as the snapshot is there.
    let good = db.persist_with(PersistOptions::named("monday"))?;
    println!("snapshot {} at sequence number {}", good.id, good.seqno);

    // Somebody gives the wrong options to the splitter, and does not notice.
    let mut batch = WriteBatch::new();
    for n in 0..400 {
        batch.put("chunks", format!("a.txt#{n:04}").as_bytes(), b"half a chu")?;
    }
    for n in 900..1000 {
        batch.delete("chunks", format!("a.txt#{n:04}").as_bytes())?;
    }
    db.write(&mut batch, Durability::Buffered)?;
    db.persist()?;

    let (added, changed, deleted) = db.diff(good.id, None)?.counts();
    println!("since then: {added} added, {changed} changed, {deleted} deleted");
    // The state then can be read beside the state now.
    let then = db.open_snapshot(good.id)?;
    assert_eq!(then.get("chunks", b"a.txt#0000")?.as_deref(), Some(&b"a good chunk"[..]));

    // One atomic batch. It records the state before it, so that it can be undone as well.
    let rollback = db.rollback_to(good.id)?;
    println!("restored {} keys; to undo: snapshot {}", rollback.restored, rollback.undo.id);
    assert!(db.diff(good.id, None)?.is_empty());
    assert_eq!(db.get("chunks", b"a.txt#0999")?.as_deref(), Some(&b"a good chunk"[..]));
    db.close()?;
    Ok(())
}
