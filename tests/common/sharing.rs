//! A directory that the store does not have to itself: other writers, dead owners, foreign files,
//! and a sync that fails while somebody is about to write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::testing::bugs::{Moment, with_hook};
use siltstone::testing::{CallKind, Fault, FaultPlan, SimVfs};
use siltstone::{
    BackupOptions, CompactionOptions, Db, Durability, OpenError, Options, WriteBatch, WriteError,
};

const STORE: &str = "/store";

fn open(sim: &SimVfs) -> Result<Db, OpenError> {
    let options = Options::new().vfs(Arc::new(sim.clone())).segment_len(512);
    let options = options.compaction(CompactionOptions::manual());
    options.inline_maintenance(true).open(STORE)
}

/// Overwrites a key often enough for some segments, and deletes another one.
fn churn(db: &Db) -> Result<(), WriteError> {
    for i in 0..30u8 {
        db.put("c", b"key", &[i; 100])?;
        db.put("c", &[i], &[i; 20])?;
    }
    db.delete("c", &[7]).map(drop)
}

fn holds(db: &Db) -> Result<(), String> {
    let get = |key: &[u8]| db.get("c", key).map_err(|e| e.to_string());
    let is_right = get(b"key")?.as_deref() == Some(&[29; 100])
        && get(&[7])?.is_none()
        && get(&[8])?.as_deref() == Some(&[8; 20]);
    if is_right { Ok(()) } else { Err("the store holds something else".to_owned()) }
}

/// One writer at a time, from before its first change until after its last; the lock of a dead one
/// is free.
pub(crate) fn one_writer() -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let sim = SimVfs::new();
    let db = open(&sim).map_err(|e| failed(&e))?;
    churn(&db).map_err(|e| failed(&e))?;
    if !matches!(open(&sim), Err(OpenError::Locked { .. })) {
        return Err("a second writer is let in".to_owned());
    }
    // As a kill leaves it: the lock's file is there, and nobody holds it.
    let left = SimVfs::with_files(&sim.snapshot());
    assert!(left.snapshot().contains_key(&Path::new(STORE).join("LOCK")));
    let next = open(&left).map_err(|e| failed(&e))?;
    next.compact_now().map_err(|e| failed(&e))?;
    holds(&next)?;
    db.compact_now().map_err(|e| failed(&e))?;
    db.close().map_err(|e| failed(&e))?;
    match sim.changes_without_lock() {
        0 => Ok(()),
        n => Err(format!("{n} changes while others could take the lock")),
    }
}

/// A sync fails while a batch is ready and waits for the log.
pub(crate) fn sync_fails_before_the_append() -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let sim = SimVfs::new();
    // One long segment: whoever begins another one asks again anyway.
    let options = Options::new().vfs(Arc::new(sim.clone())).segment_len(64 << 10);
    let options = options.compaction(CompactionOptions::manual());
    let db = options.inline_maintenance(true).open(STORE).map_err(|e| failed(&e))?;
    db.put("c", b"a", b"1").map_err(|e| failed(&e))?;
    let other = (sim.clone(), db.clone());
    let hook = move |moment| {
        let (sim, db) = &other;
        if moment == Moment::Stamped {
            let plan = FaultPlan::once(0, Fault::Error(Fault::EIO)).of(&[CallKind::Sync]);
            sim.set_fault(Some(plan));
            assert!(db.sync().is_err());
            sim.set_fault(None);
        }
    };
    let mut batch = WriteBatch::new();
    batch.put("c", b"b", b"2").map_err(|e| failed(&e))?;
    match with_hook(hook, || db.write(&mut batch, Durability::Buffered)) {
        Err(WriteError::Poisoned(_)) => Ok(()),
        other => Err(format!("a write after a failed sync: {other:?}")),
    }
}

/// What file managers, editors and people leave in directories.
fn foreign_files() -> Vec<(PathBuf, Vec<u8>)> {
    let names = [
        ".DS_Store",
        "._0000000000000001.seg",
        "._0000000000000999.seg",
        "._MANIFEST",
        "0000000000000001.seg.bak",
        "00000000000000001.seg",
        "1.seg",
        "MANIFEST~",
        "CHECKPOINT.orig",
        "Thumbs.db",
        "notes on the store.txt",
    ];
    let made = names.iter().enumerate();
    made.map(|(i, name)| (Path::new(STORE).join(name), vec![i as u8; 64])).collect()
}

/// A store with foreign files beside its own is the same store, and leaves them alone.
pub(crate) fn beside_foreign_files() -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let sim = SimVfs::new();
    let db = open(&sim).map_err(|e| failed(&e))?;
    churn(&db).map_err(|e| failed(&e))?;
    let mut files = sim.snapshot();
    files.extend(foreign_files());
    let sim = SimVfs::with_files(&files);
    for _ in 0..2 {
        let db = open(&sim).map_err(|e| failed(&e))?;
        holds(&db)?;
        churn(&db).map_err(|e| failed(&e))?;
        db.compact_now().map_err(|e| failed(&e))?;
        db.persist().map_err(|e| failed(&e))?;
        db.backup_to("/backup", BackupOptions::new()).map_err(|e| failed(&e))?;
        let check = db.check().map_err(|e| failed(&e))?;
        if !check.is_ok() {
            return Err(format!("{:?}", check.defects));
        }
        holds(&db)?;
        db.close().map_err(|e| failed(&e))?;
    }
    let left = sim.snapshot();
    let lost = foreign_files().into_iter().find(|(path, bytes)| left.get(path) != Some(bytes));
    match lost {
        Some((path, _)) => Err(format!("{} is not what it was", path.display())),
        None => Ok(()),
    }
}
