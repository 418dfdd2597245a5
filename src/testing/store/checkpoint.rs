//! The checkpoint test: a store that is opened from its checkpoint is the same store as without.
//!
//! Random steps, compaction and snapshots among them; at each reopen the files are opened twice,
//! with the checkpoint and without, and everything that can be seen must be the same. Then the
//! same steps are done to both, which shows whether the books behind the surface agree too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{Contents, Model, Rng, SimVfs};
use super::run::{Violation, contents_of};
use crate::engine::{
    CompactionOptions, Db, Durability, Options, PersistOptions, Snapshot, WriteBatch,
};
use crate::vfs::mem::MemVfs;

const DIR: &str = "/store";
const CHECKPOINT: &str = "/store/CHECKPOINT";
const COLLECTIONS: [&str; 3] = ["a", "b", "third"];

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointTally {
    /// Stores that were opened with a checkpoint and without.
    pub opens: u64,
    /// Those that did not ignore it.
    pub used: u64,
    /// Those whose segments had been compacted since.
    pub relocated: u64,
    /// Those that were opened from a checkpoint that is not the newest.
    pub older: u64,
    /// Snapshots that were compared.
    pub snapshots: u64,
}

/// The checkpoint test. What it does follows from a seed.
#[derive(Debug, Default)]
pub struct CheckpointTest {
    /// Every checkpoint that the store has had, oldest first.
    versions: Vec<Vec<u8>>,
    /// What was done so far.
    pub tally: CheckpointTally,
}

/// A store that is driven by random steps, and what it must hold.
struct Driven {
    sim: SimVfs,
    db: Option<Db>,
    held: Vec<Snapshot>,
    model: Model,
    /// Sequence numbers of the checkpoint and of the last compaction, for the tally.
    moved: bool,
}

/// What can be seen of a store.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    contents: Contents,
    collections: Vec<(String, u64)>,
    /// Ids and live records. Bytes drift a little over the life of a store, and what is pinned of
    /// a collection that was cleared is an estimate: only the choice of what to compact looks at
    /// them.
    segments: Vec<(u64, u64)>,
    /// Number, sequence number, collections, contents.
    snapshots: Vec<(u64, u64, Vec<(String, u64)>, Contents)>,
}

impl Seen {
    fn differs_from(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let list = |seen: &Self| {
            let (collections, segments) = (&seen.collections, &seen.segments);
            let snapshots: Vec<_> = seen.snapshots.iter().map(|s| (s.0, s.1, &s.2)).collect();
            format!("{collections:?}\n{segments:?}\n{snapshots:?}")
        };
        Some(format!("these differ:\n{}\nand\n{}", list(self), list(other)))
    }
}

fn violation(what: &str, e: impl std::fmt::Display) -> Violation {
    Violation(format!("{what}: {e}"))
}

fn open(sim: &SimVfs) -> Result<Db, Violation> {
    let options = Options::new()
        .vfs(Arc::new(sim.clone()))
        .segment_len(640)
        .inline_maintenance(true)
        .compaction(CompactionOptions::manual())
        .store_id(*b"checkpoint-test!");
    options.open(DIR).map_err(|e| violation("open", e))
}

impl Driven {
    fn new(files: &BTreeMap<PathBuf, Vec<u8>>, model: Model) -> Result<Self, Violation> {
        let sim = SimVfs::with_files(files);
        let db = Some(open(&sim)?);
        Ok(Driven { sim, db, held: Vec::new(), model, moved: false })
    }

    fn db(&self) -> Result<&Db, Violation> {
        self.db.as_ref().ok_or_else(|| Violation("the store is closed".to_owned()))
    }

    /// Does one random step that leaves the store open.
    fn step(&mut self, rng: &mut Rng, number: u64) -> Result<(), Violation> {
        let db = self.db()?.clone();
        match rng.below(100) {
            0..66 => {
                let mut batch = make_batch(rng, number);
                let sync = rng.percent(30);
                let durability = if sync { Durability::Sync } else { Durability::Buffered };
                db.write(&mut batch, durability).map_err(|e| violation("write", e))?;
                self.model.apply(&batch);
            }
            66..72 => {
                let options = match rng.percent(30) {
                    true => PersistOptions::named(format!("snapshot {number}")),
                    false => PersistOptions::default(),
                };
                db.persist_with(options).map_err(|e| violation("persist", e))?;
            }
            72..76 => {
                let all = db.snapshots();
                let chosen = rng.below(all.len().max(1));
                if let Some(info) = all.get(chosen) {
                    db.drop_snapshot(info.id).map_err(|e| violation("drop a snapshot", e))?;
                }
            }
            76..79 => self.held.push(db.snapshot()),
            79..82 => {
                let chosen = rng.below(self.held.len().max(1));
                if chosen < self.held.len() {
                    drop(self.held.swap_remove(chosen));
                }
            }
            82..92 => {
                let report = db.compact_now().map_err(|e| violation("compact", e))?;
                self.moved |= report.segments_in > 0;
            }
            _ => {
                db.checkpoint().map_err(|e| violation("checkpoint", e))?;
                self.moved = false;
            }
        }
        Ok(())
    }

    /// Ends the process, or closes the store in order.
    fn end(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let Some(db) = self.db.take() else { return Ok(()) };
        let held = std::mem::take(&mut self.held);
        if rng.percent(75) {
            self.sim.kill(|| {
                drop(held);
                drop(db);
            });
            return Ok(());
        }
        drop(held);
        self.moved = false;
        db.close().map_err(|e| violation("close", e))
    }

    fn seen(&self) -> Result<Seen, Violation> {
        let db = self.db()?;
        let read = |e| violation("read", e);
        let mut snapshots = Vec::new();
        for info in db.snapshots() {
            let snapshot =
                db.open_snapshot(info.id).map_err(|e| violation("open a snapshot", e))?;
            let mut contents = Contents::new();
            for (name, _) in snapshot.collections() {
                for entry in snapshot.iter(&name) {
                    let entry = entry.map_err(read)?;
                    let found = snapshot.get(&name, &entry.key).map_err(read)?;
                    if found.as_deref() != Some(&*entry.value) {
                        return Err(Violation("a snapshot finds something else".to_owned()));
                    }
                    contents.insert((name.clone(), entry.key), entry.value.to_vec());
                }
            }
            snapshots.push((info.id, info.seqno, snapshot.collections(), contents));
        }
        let segments = db.stats().segments;
        Ok(Seen {
            contents: contents_of(db).map_err(read)?,
            collections: db.collections(),
            segments: segments.iter().map(|s| (s.id, s.live_records)).collect(),
            snapshots,
        })
    }
}

impl CheckpointTest {
    /// Runs the steps that follow from `seed`.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn run(&mut self, seed: u64) -> Result<(), Violation> {
        self.run_steps(seed).map_err(|e| Violation(format!("REPRO seed={seed}\n{e}")))
    }

    /// Writes, makes and drops snapshots and compacts on other threads while checkpoints are
    /// written; then compares as [`CheckpointTest::run`] does.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn race(&mut self, seed: u64) -> Result<(), Violation> {
        let mut files = BTreeMap::new();
        let mut model = Model::default();
        for round in 0..4 {
            let vfs = MemVfs::new();
            files.iter().for_each(|(path, bytes): (&PathBuf, &Vec<u8>)| {
                vfs.put(path, bytes.clone());
            });
            let options = Options::new().vfs(Arc::new(vfs.clone())).segment_len(4096);
            let options = options.checkpoint_every(0).store_id(*b"checkpoint-test!");
            let db = options.open(DIR).map_err(|e| violation("open", e))?;
            let is_over = AtomicBool::new(false);
            let result = std::thread::scope(|scope| {
                let write = || write_until(&db, &is_over, Rng::new(seed << 8 | round), &mut model);
                let writing = scope.spawn(write);
                let mut result = Ok(true);
                for _ in 0..6 {
                    result = result.and(db.checkpoint());
                }
                is_over.store(true, Ordering::Release);
                let wrote = writing.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
                wrote.and(result.map_err(|e| violation("checkpoint", e)))
            });
            if !result? {
                return Err(Violation("no checkpoint was written".to_owned()));
            }
            db.close().map_err(|e| violation("close", e))?;
            files = vfs.snapshot();
            files.retain(|path, _| !path.ends_with("LOCK"));
            self.compare(&files, model.clone(), true, &mut Rng::new(seed), 0)?;
        }
        Ok(())
    }

    fn run_steps(&mut self, seed: u64) -> Result<(), Violation> {
        let mut rng = Rng::new(seed);
        self.versions.clear();
        let mut driven = Driven::new(&BTreeMap::new(), Model::default())?;
        let mut number = 0;
        for _ in 0..2 + rng.below(4) {
            for _ in 0..rng.below(40) {
                number += 1;
                driven.step(&mut rng, number)?;
                self.note_version(&driven.sim.snapshot());
            }
            let moved = driven.moved;
            driven.end(&mut rng)?;
            let mut files = driven.sim.snapshot();
            self.note_version(&files);
            let older = self.versions.len().saturating_sub(1);
            if let Some(version) = self.versions.get(rng.below(older)).filter(|_| older > 0) {
                files.insert(CHECKPOINT.into(), version.clone());
                self.tally.older += 1;
                self.compare(&files, driven.model.clone(), true, &mut rng.clone(), number)?;
                files = driven.sim.snapshot();
            }
            driven = self.compare(&files, driven.model, moved, &mut rng, number)?;
            driven.moved = moved;
        }
        Ok(())
    }

    fn note_version(&mut self, files: &BTreeMap<PathBuf, Vec<u8>>) {
        if let Some(bytes) = files.get(Path::new(CHECKPOINT))
            && self.versions.last() != Some(bytes)
        {
            self.versions.push(bytes.clone());
        }
    }

    /// Opens the files with the checkpoint and without; returns the one with it.
    fn compare(
        &mut self,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        model: Model,
        moved: bool,
        rng: &mut Rng,
        number: u64,
    ) -> Result<Driven, Violation> {
        let mut bare = files.clone();
        let has_checkpoint = bare.remove(Path::new(CHECKPOINT)).is_some();
        let mut with = Driven::new(files, model.clone())?;
        let mut without = Driven::new(&bare, model)?;
        let report = with.db()?.recovery_report().clone();
        if let Some(note) = report.notes.iter().find(|n| n.case.is_of_checkpoint()) {
            return Err(Violation(format!("a good checkpoint is not used: {note}")));
        }
        self.tally.opens += 1;
        self.tally.used += u64::from(report.checkpoint.is_some());
        self.tally.relocated += u64::from(report.checkpoint.is_some() && moved);
        if has_checkpoint != report.checkpoint.is_some() {
            return Err(Violation("a checkpoint is not used".to_owned()));
        }
        self.same(&with, &without, "at the open")?;
        // The same steps on both.
        for i in 1..rng.below(25) as u64 {
            let mut again = rng.clone();
            with.step(rng, number + i)?;
            without.step(&mut again, number + i)?;
        }
        // Compaction may have chosen otherwise.
        self.same_data(&with, &without, "some steps after the open")?;
        Ok(with)
    }

    fn same(&mut self, with: &Driven, without: &Driven, when: &str) -> Result<(), Violation> {
        let (a, b) = (with.seen()?, without.seen()?);
        self.same_seen(with, (a, b), when)
    }

    fn same_data(&mut self, with: &Driven, without: &Driven, when: &str) -> Result<(), Violation> {
        let bare = |seen: Seen| Seen { segments: Vec::new(), ..seen };
        self.same_seen(with, (bare(with.seen()?), bare(without.seen()?)), when)
    }

    fn same_seen(
        &mut self,
        with: &Driven,
        (a, b): (Seen, Seen),
        when: &str,
    ) -> Result<(), Violation> {
        self.tally.snapshots += a.snapshots.len() as u64;
        if a.contents != *with.model.contents() {
            return Err(Violation(format!("{when}: the contents are wrong")));
        }
        if let Some(what) = a.differs_from(&b) {
            return Err(Violation(format!("{when}: with and without, {what}")));
        }
        let check = with.db()?.check().map_err(|e| violation("check", e))?;
        match check.defects.first() {
            Some(defect) => Err(violation(when, defect)),
            None => Ok(()),
        }
    }
}

/// Writes to the store until it is over.
fn write_until(
    db: &Db,
    is_over: &AtomicBool,
    mut rng: Rng,
    model: &mut Model,
) -> Result<bool, Violation> {
    let mut held = Vec::new();
    let mut number = 0;
    while !is_over.load(Ordering::Acquire) {
        number += 1;
        let mut batch = make_batch(&mut rng, number);
        db.write(&mut batch, Durability::Buffered).map_err(|e| violation("write", e))?;
        model.apply(&batch);
        match rng.below(40) {
            0 => drop(db.persist().map_err(|e| violation("persist", e))?),
            1 => held.push(db.snapshot()),
            2 => drop(held.pop()),
            3 => {
                if let Some(info) = db.snapshots().first() {
                    db.drop_snapshot(info.id).map_err(|e| violation("drop a snapshot", e))?;
                }
            }
            _ => {}
        }
    }
    Ok(true)
}

/// A batch of a few operations on a few keys.
fn make_batch(rng: &mut Rng, number: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + rng.below(5) {
        let collection = COLLECTIONS[rng.below(COLLECTIONS.len())];
        let key = [b'k', rng.below(14) as u8];
        let done = match rng.below(100) {
            0..72 => {
                let mut value = vec![0; 8 + rng.below(60)];
                rng.fill(&mut value);
                value[..8].copy_from_slice(&number.to_le_bytes());
                batch.put(collection, &key, &value)
            }
            72..97 => batch.delete(collection, &key),
            _ => batch.clear(collection),
        };
        done.expect("far below every limit");
    }
    batch
}
