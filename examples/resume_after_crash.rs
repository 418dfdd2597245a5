//! What a crash leaves, and how a program goes on after it.
//!
//! ```text
//! cargo run --release --example resume_after_crash
//! ```
//!
//! The example starts itself as a second process that writes numbered batches and kills itself
//! in the middle of one. Then it opens the store, looks at what recovery reports, finds where it
//! has to go on, and does.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::process::Command;

use siltstone::{Db, Durability, WriteBatch};

/// Batches to be written.
const BATCHES: u64 = 100;

/// The batch in which the first process dies.
const DIES_IN: u64 = 42;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join("siltstone-example-resume");
    if std::env::args().nth(1).as_deref() == Some("die") {
        return write_batches(&dir, Some(DIES_IN));
    }
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }

    let status = Command::new(std::env::current_exe()?).arg("die").status()?;
    println!("the writer ended: {status}");

    let db = Db::open(&dir)?;
    let report = db.recovery_report();
    println!(
        "recovered {} records, closed in order: {}, {} notes",
        report.tail_records,
        report.clean,
        report.notes.len()
    );
    // Every batch that was acknowledged is there, the one that never was written is not.
    println!("next batch to write: {}", next_batch(&db)?);
    assert_eq!(next_batch(&db)?, DIES_IN);
    db.close()?;

    write_batches(&dir, None)?;
    let db = Db::open(&dir)?;
    assert_eq!(db.len("items"), BATCHES * 10);
    let check = db.check()?;
    println!("{} items, check finds {} defects", db.len("items"), check.defect_count);
    assert!(check.is_ok());
    Ok(())
}

/// Writes what is missing. The progress is part of each batch, so it can never be ahead of the
/// data, nor behind it.
fn write_batches(dir: &Path, dies_in: Option<u64>) -> Result<(), Box<dyn Error>> {
    let db = Db::open(dir)?;
    for number in next_batch(&db)?..BATCHES {
        let mut batch = WriteBatch::new();
        for item in 0..10 {
            let key = format!("{number}/{item}");
            batch.put("items", key.as_bytes(), b"the content of the item")?;
            if dies_in == Some(number) && item == 5 {
                // As a power cut or kill -9 would: no destructor runs, nothing is closed.
                std::process::abort();
            }
        }
        batch.put("progress", b"next batch", &(number + 1).to_le_bytes())?;
        db.write(&mut batch, Durability::Sync)?;
    }
    db.close()?;
    Ok(())
}

/// Where to go on.
fn next_batch(db: &Db) -> Result<u64, Box<dyn Error>> {
    match db.get("progress", b"next batch")? {
        Some(bytes) => Ok(u64::from_le_bytes(bytes[..].try_into()?)),
        None => Ok(0),
    }
}
