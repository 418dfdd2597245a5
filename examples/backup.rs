//! A store backed up while it is written to, again with only what is new, and restored.
//!
//! ```text
//! cargo run --release --example backup
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use siltstone::{BackupOptions, Db, Durability, Options, WriteBatch};

/// Writes `count` chunks from number `first` on.
fn write(db: &Db, first: u32, count: u32) -> Result<(), Box<dyn Error>> {
    let mut batch = WriteBatch::new();
    for n in first..first + count {
        batch.put("chunks", &n.to_le_bytes(), &[n as u8; 1000])?;
    }
    db.write(&mut batch, Durability::Buffered)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (store, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let db = Options::new().segment_len(1 << 20).open(&store)?;
    write(&db, 0, 5000)?;

    // Sealed segments are linked where the file system can do it. Writers go on meanwhile, and the
    // backup is the store at one moment: everything below one sequence number.
    let first = db.backup_to(&backup, BackupOptions::new())?;
    println!(
        "backup up to {}: {} segments linked, {} copied",
        first.seqno, first.segments_linked, first.segments_copied
    );
    write(&db, 5000, 2000)?;
    // Into the same target: what is there stays.
    let options = BackupOptions::new().verify(true);
    let second = db.backup_to(&backup, options)?;
    println!("backup up to {}: {} bytes copied", second.seqno, second.bytes_copied);
    write(&db, 0, 100)?;
    db.close()?;

    // To restore is to back up the backup. Copied: two stores must not share their blocks.
    let restored = dir.path().join("restored");
    let source = Options::new().read_only(true).create(false).open(&backup)?;
    source.backup_to(&restored, BackupOptions::new().hard_links(false))?;
    let db = Db::open(&restored)?;
    let check = db.check()?;
    println!("restored {} keys, {} of them verified", db.stats().keys, check.keys);
    assert!(check.is_ok() && db.stats().keys == 7000);
    write(&db, 7000, 1)?;
    db.close()?;
    Ok(())
}
