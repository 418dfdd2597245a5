//! The full-disk test: a store that is full of what was overwritten gets room by compaction, with
//! the help of its reserve, and takes writes again without a reopen.

use std::sync::Arc;

use super::super::rng::Rng;
use super::super::{Model, SimVfs};
use super::run::{Violation, fingerprint_of};
use crate::engine::{CompactionOptions, Db, Durability, Options, WriteBatch, WriteError};
use crate::format::record::RECORD_HEADER_LEN;

const SEGMENT_LEN: u64 = 8 << 10;
const KEYS: u32 = 250;

/// Fills a disk of which `spare` bytes are left when the store holds its keys once, with
/// overwrites and then, if `deletes`, with deletions, until it takes no more; compacts; writes on.
///
/// # Errors
///
/// Something was lost, or there is no way on.
pub fn full_disk_is_left_by_compaction(spare: usize, deletes: bool) -> Result<(), Violation> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Violation(format!("{spare} bytes spare, {what}: {e}"))
    };
    let sim = SimVfs::new();
    let options = || {
        let manual = CompactionOptions::manual();
        let options = Options::new().vfs(Arc::new(sim.clone())).segment_len(SEGMENT_LEN);
        options.inline_maintenance(true).compaction(manual)
    };
    let db = options().open("/store").map_err(|e| failed("open", &e))?;
    let mut model = Model::default();
    for key in 0..KEYS {
        put(&db, &mut model, key, 0).map_err(|e| failed("filling", &e))?;
    }
    db.compact_now().map_err(|e| failed("the first compaction", &e))?;
    sim.set_quota(Some(sim.used() + spare));
    let full = (1..).find_map(|n| put(&db, &mut model, n * 7 % KEYS, n).err());
    match full {
        Some(WriteError::Full(_)) => {}
        e => return Err(Violation(format!("{spare} bytes spare: the disk never fills: {e:?}"))),
    }
    if deletes {
        // As far as there is room for them.
        for key in 0..KEYS / 3 {
            let mut batch = WriteBatch::new();
            batch.delete("c", &key.to_le_bytes()).map_err(|e| failed("a batch", &e))?;
            if db.write(&mut batch, Durability::Sync).is_ok() {
                model.apply(&batch);
            }
        }
    }
    let compare = |db: &Db, model: &Model, when: &str| match fingerprint_of(db) {
        Ok(print) if print == model.fingerprint() => Ok(()),
        Ok(_) => Err(failed(when, &"the store holds something else")),
        Err(e) => Err(failed(when, &e)),
    };
    compare(&db, &model, "full")?;
    db.compact_now().map_err(|e| failed("compaction of the full store", &e))?;
    compare(&db, &model, "compacted")?;
    for n in 0..60 {
        let mut result = put(&db, &mut model, n, 1 << 20);
        if let Err(WriteError::Full(_)) = result {
            db.compact_now().map_err(|e| failed("compaction, full again", &e))?;
            result = put(&db, &mut model, n, 1 << 20);
        }
        result.map_err(|e| {
            let (stats, files) = (db.stats(), sim.snapshot());
            let sizes: Vec<_> = files.iter().map(|(path, bytes)| (path, bytes.len())).collect();
            let (log, live) = (stats.log_bytes(), stats.live_bytes());
            let used = sim.used();
            let where_to = format!("{used} used, {log} of log, {live} live, {sizes:?}");
            failed("writing on, no reopen", &format!("{e}; {where_to}; {:?}", stats.compaction))
        })?;
    }
    compare(&db, &model, "written on")?;
    sim.kill(|| drop(db));
    let db = options().open("/store").map_err(|e| failed("open again", &e))?;
    compare(&db, &model, "opened again")
}

/// Overwrites keys at random on a disk of `percent` of what they take, over and over, with
/// compaction in its thread: however full the disk is, it must always be possible to go on.
///
/// # Errors
///
/// Something was lost, or there is no way on.
pub fn full_disk_never_sticks(
    percent: usize,
    segment_len: u64,
    seed: u64,
) -> Result<(), Violation> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Violation(format!("a disk of {percent} %, seed {seed}, {what}: {e}"))
    };
    let sim = SimVfs::new();
    let live: usize = (0..KEYS).map(|key| value_len(key) + RECORD_HEADER_LEN + 4).sum();
    sim.set_quota(Some(live * percent / 100));
    let options = Options::new().vfs(Arc::new(sim)).segment_len(segment_len);
    let db = options.open("/store").map_err(|e| failed("open", &e))?;
    let mut model = Model::default();
    let mut rng = Rng::new(seed);
    for version in 0..20 * KEYS {
        let key = if version < KEYS { version } else { rng.below(KEYS as usize) as u32 };
        let mut tries = 0;
        while let Err(e) = put_with(Durability::Buffered, &db, &mut model, key, version) {
            tries += 1;
            if !matches!(e, WriteError::Full(_)) || tries > 10 {
                return Err(failed(&format!("write {version}"), &e));
            }
            // A run may be at work for which the thread holds the room.
            if let Err(e) = db.compact_now()
                && !matches!(e, WriteError::Full(_))
            {
                return Err(failed("compaction", &e));
            }
        }
    }
    match fingerprint_of(&db) {
        Ok(print) if print == model.fingerprint() => Ok(()),
        Ok(_) => Err(failed("at the end", &"the store holds something else")),
        Err(e) => Err(failed("at the end", &e)),
    }
}

fn value_len(key: u32) -> usize {
    500 + key as usize % 200
}

fn put(db: &Db, model: &mut Model, key: u32, version: u32) -> Result<(), WriteError> {
    put_with(Durability::Sync, db, model, key, version)
}

fn put_with(
    durability: Durability,
    db: &Db,
    model: &mut Model,
    key: u32,
    version: u32,
) -> Result<(), WriteError> {
    let mut batch = WriteBatch::new();
    let mut value = vec![7; value_len(key)];
    value.splice(..4, version.to_le_bytes());
    batch.put("c", &key.to_le_bytes(), &value)?;
    db.write(&mut batch, durability)?;
    model.apply(&batch);
    Ok(())
}
