//! The damage test: files of small stores are changed in every way, and each time the store must
//! hold the same data, or say that it was cut above the watermark, or name the damaged file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::{Contents, Rng, SimVfs};
use super::run::Violation;
use super::workload::options;
use crate::engine::{
    BatchOp, CollectionOptions, Compression, Db, Durability, OpenError, ReadError, WriteBatch,
};

/// The files of a store, and all that is known about it.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// What it is, for people.
    pub name: &'static str,
    /// Every file by path.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// What it held after each batch, with the sequence number after that batch.
    states: Vec<(u64, Contents)>,
    /// Every operation, with its sequence number.
    pub(super) history: Vec<Written>,
    /// Everything below it is known to be durable by what was written last, or by the close.
    watermark: u64,
}

/// One operation that was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) seqno: u64,
    pub(super) collection: String,
    /// `None` for all keys of the collection.
    pub(super) key: Option<Vec<u8>>,
    /// `None` for a deletion.
    pub(super) value: Option<Vec<u8>>,
}

impl Written {
    /// The operations of `batch`, whose first record has the number `base`.
    fn of(batch: &WriteBatch, base: u64) -> Vec<Written> {
        let written = |(seqno, op): (u64, BatchOp<'_>)| {
            let (collection, key, value) = match op {
                BatchOp::Put { collection, key, value }
                | BatchOp::PutExpiring { collection, key, value, .. } => {
                    (collection, Some(key), Some(value))
                }
                BatchOp::Delete { collection, key } => (collection, Some(key), None),
                BatchOp::Clear { collection } => (collection, None, None),
                BatchOp::Configure { .. } => return None,
            };
            let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            Some(Written { seqno, collection: collection.to_owned(), key, value })
        };
        (base..).zip(batch.ops()).filter_map(written).collect()
    }
}

/// What came of the damage, by number of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The data is the same, and the damage was noticed by the open or by a check.
    pub noticed: u64,
    /// The data is the same, and what was damaged does not matter: padding, the lock file.
    pub same: u64,
    /// The end of the log was cut, at or above the watermark, and the report says so.
    pub cut: u64,
    /// The open refused, and named file and offset.
    pub refused: u64,
    /// Some records could not be read, and the error named file and offset; all others are right.
    pub unreadable: u64,
    /// Whole frames at the end were wiped: nothing that is left can tell that they were there.
    pub wiped: u64,
}

/// What kind of damage is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bytes of a file became zeros.
    Wiped,
    /// Zeros were added at the end: that is what reserved room looks like.
    Room,
    /// Anything else.
    Other,
}

impl Outcomes {
    /// How many cases there were.
    pub fn total(&self) -> u64 {
        self.noticed + self.same + self.cut + self.refused + self.unreadable + self.wiped
    }
}

const SEGMENT_LEN: u64 = 1024;

impl Specimen {
    /// Where the specimens' stores are.
    pub const DIR: &str = "/store";

    /// A small store that was closed in order.
    pub fn closed() -> Self {
        Self::make("closed", 1, 8, true, make_batch)
    }

    /// A store that was closed in order twice, and written to in between: its manifest is whole at
    /// several lengths.
    pub fn reopened() -> Self {
        Self::make("reopened", 5, 8, true, make_batch)
    }

    /// A small store whose process was killed, with batches synced and not.
    pub fn killed() -> Self {
        Self::make("killed", 2, 8, false, make_batch)
    }

    /// A store with several sealed segments, whose process was killed.
    pub fn sealed() -> Self {
        Self::make("sealed", 3, 30, false, make_batch)
    }

    /// As [`Specimen::sealed`], closed in order, with clears, and with batches and values that are
    /// larger than a segment.
    pub fn mixed() -> Self {
        Self::make("mixed", 4, 24, true, make_mixed_batch)
    }

    /// A store that was compacted, with values that are compressed, with a dictionary and without,
    /// and records that expire some day, whose process was killed.
    pub fn packed() -> Self {
        Self::make("packed", 4, 24, false, make_packed_batch)
    }

    /// A store with segments that compaction wrote, durable snapshots, and old versions that only
    /// those need; its process was killed.
    pub fn compacted() -> Self {
        let also = |db: &Db, i| {
            if [6, 17].contains(&i) {
                db.persist().expect("nothing fails");
            }
            if [12, 24].contains(&i) {
                db.compact_now().expect("nothing fails");
            }
        };
        Self::make_with("compacted", 4, 34, false, make_batch, also)
    }

    fn make(
        name: &'static str,
        seed: u64,
        batches: u64,
        close: bool,
        make: fn(&mut Rng, u64) -> WriteBatch,
    ) -> Self {
        Self::make_with(name, seed, batches, close, make, |_, _| {})
    }

    /// A store that `seed` fills with `batches`, opened twice on the way. `also` is done before
    /// each batch.
    fn make_with(
        name: &'static str,
        seed: u64,
        batches: u64,
        close: bool,
        make: fn(&mut Rng, u64) -> WriteBatch,
        also: impl Fn(&Db, u64),
    ) -> Self {
        let sim = SimVfs::new();
        let mut id = [0; 16];
        Rng::new(seed).fill(&mut id);
        let (is_packed, is_reopened) = (name == "packed", name == "reopened");
        let open = || {
            // All of it in one segment: nothing else shows then which edits there were.
            let segment_len = if is_reopened { 16 << 10 } else { SEGMENT_LEN };
            let options = options(&sim, segment_len).store_id(id).dictionary_records(8);
            options.open(Specimen::DIR).expect("nothing fails")
        };
        let mut rng = Rng::new(seed);
        let mut model = super::super::Model::default();
        let mut states = vec![(1, Contents::new())];
        let mut history = Vec::new();
        let mut db = open();
        let mut watermark = 1;
        if is_packed {
            configure(&db);
        }
        for i in 0..batches {
            if i == batches / 2 {
                if is_packed {
                    db.compact_now().expect("nothing fails");
                }
                match is_reopened {
                    true => db.close().expect("nothing fails"),
                    false => sim.kill(|| drop(db)),
                }
                db = open();
            }
            also(&db, i);
            states.push((db.stats().next_seqno, model.contents().clone()));
            watermark = db.stats().watermark;
            let batch = &mut make(&mut rng, i);
            history.extend(Written::of(batch, db.stats().next_seqno));
            let durability = if i % 3 == 2 { Durability::Sync } else { Durability::Buffered };
            db.write(batch, durability).expect("nothing fails");
            model.apply(batch);
            states.push((db.stats().next_seqno, model.contents().clone()));
        }
        if close {
            watermark = db.stats().next_seqno;
            db.close().expect("nothing fails");
        } else {
            sim.kill(|| drop(db));
        }
        Specimen { name, files: sim.snapshot(), states, history, watermark }
    }

    /// The path of a file of the specimen.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(Specimen::DIR).join(name)
    }

    /// The segment files, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|e| e == "seg");
        self.files.keys().filter(is_segment).cloned().collect()
    }

    /// What the store holds.
    pub fn contents(&self) -> &Contents {
        &self.states.last().expect("there is always the empty state").1
    }

    /// Opens the store on a disk with these files.
    ///
    /// # Errors
    ///
    /// As [`Db::open_with`].
    pub fn open(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Db, OpenError> {
        Self::open_on(&SimVfs::with_files(files))
    }

    /// Opens the store on `disk`.
    ///
    /// # Errors
    ///
    /// As [`Db::open_with`].
    pub fn open_on(disk: &SimVfs) -> Result<Db, OpenError> {
        options(disk, SEGMENT_LEN).open(Specimen::DIR)
    }

    /// Changes the file at `path` with `change` and judges what comes of it.
    ///
    /// # Errors
    ///
    /// None of the permitted outcomes.
    pub fn damage(
        &self,
        path: &Path,
        damage: Damage,
        outcomes: &mut Outcomes,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Violation> {
        let mut files = self.files.clone();
        let bytes = files.entry(path.to_owned()).or_default();
        change(bytes);
        if self.files.get(path) == Some(bytes) {
            return Ok(());
        }
        self.judge(path, &files, damage, outcomes)
    }

    /// Judges the store that `files` hold, in which `path` was changed.
    ///
    /// # Errors
    ///
    /// None of the permitted outcomes.
    pub fn judge(
        &self,
        path: &Path,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        damage: Damage,
        outcomes: &mut Outcomes,
    ) -> Result<(), Violation> {
        let db = match Self::open(files) {
            Ok(db) => db,
            Err(OpenError::Corrupt(corruption)) => {
                names_a_place(&corruption.file, corruption.offset, files)?;
                outcomes.refused += 1;
                return Ok(());
            }
            Err(e) => return Err(Violation(format!("opening fails without a place: {e}"))),
        };
        let check = db.check().map_err(|e| Violation(format!("check: {e}")))?;
        for defect in &check.defects {
            names_a_place(&defect.file, defect.offset, files)?;
        }
        let found = Found::read(&db, files)?;
        let (gets, failed_gets) = self.gets(&db, files)?;
        let expected = self.contents();
        if found.errors == 0 && found.contents == *expected && gets == expected.len() {
            if !db.recovery_report().notes.is_empty() || !check.is_ok() {
                outcomes.noticed += 1;
                return Ok(());
            }
            if path.extension().is_some_and(|e| e == "seg") && damage != Damage::Room {
                return Err(Violation("damage of a segment goes unnoticed".to_owned()));
            }
            outcomes.same += 1;
            return Ok(());
        }
        if found.errors > 0 || !check.is_ok() {
            let is_right = |(key, value)| expected.get(key) == Some(value);
            let total = found.contents.len() + found.errors;
            let bad_gets = expected.len() - gets - failed_gets;
            if bad_gets == 0 && found.contents.iter().all(is_right) && total == expected.len() {
                outcomes.unreadable += 1;
                return Ok(());
            }
            return Err(Violation(format!(
                "damage of one record has changed others: {total} of {} keys, {} unreadable, \
                 {bad_gets} look-ups are wrong",
                expected.len(),
                found.errors,
            )));
        }
        self.judge_cut(&db, &found.contents, damage, outcomes)
    }

    /// The store holds something else, and finds nothing wrong with it: its end must have been cut.
    fn judge_cut(
        &self,
        db: &Db,
        found: &Contents,
        damage: Damage,
        outcomes: &mut Outcomes,
    ) -> Result<(), Violation> {
        let report = db.recovery_report();
        let Some((seqno, _)) = self.states.iter().rev().find(|(_, state)| state == found) else {
            return Err(Violation(format!("the data is wrong: {} keys", found.len())));
        };
        let is_told = report.cuts().next().is_some();
        if *seqno >= self.watermark && is_told {
            outcomes.cut += 1;
        } else if damage == Damage::Wiped && *seqno >= report.watermark {
            outcomes.wiped += 1;
        } else {
            let watermark = self.watermark;
            return Err(Violation(format!(
                "cut to {seqno}, the watermark is {watermark}\n{report:?}"
            )));
        }
        Ok(())
    }

    /// Gets every key, alone and with `get_many`: how many are right, and how many cannot be read.
    fn gets(
        &self,
        db: &Db,
        files: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<(usize, usize), Violation> {
        let (mut right, mut failed) = (0, 0);
        for ((collection, key), value) in self.contents() {
            let one = db.get(collection, key);
            let many = db.get_many(collection, &[key]).map(|mut values| values.pop().flatten());
            match (one, many) {
                (Ok(one), Ok(many)) if one.as_deref() == many.as_deref() => {
                    right += usize::from(one.as_deref() == Some(value));
                }
                (Err(ReadError::Corrupt(one)), Err(ReadError::Corrupt(_))) => {
                    names_a_place(&one.file, one.offset, files)?;
                    failed += 1;
                }
                (one, many) => {
                    return Err(Violation(format!("get says {one:?}, get_many {many:?}")));
                }
            }
        }
        Ok((right, failed))
    }
}

/// What an iteration found.
struct Found {
    contents: Contents,
    errors: usize,
}

impl Found {
    fn read(db: &Db, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Self, Violation> {
        let mut found = Found { contents: Contents::new(), errors: 0 };
        for (name, _) in db.collections() {
            for entry in db.iter(&name) {
                match entry {
                    Ok(entry) => {
                        found.contents.insert((name.clone(), entry.key), entry.value.to_vec());
                    }
                    Err(ReadError::Corrupt(corruption)) => {
                        names_a_place(&corruption.file, corruption.offset, files)?;
                        found.errors += 1;
                    }
                    Err(e) => return Err(Violation(format!("reading fails without a place: {e}"))),
                }
            }
        }
        Ok(found)
    }
}

/// Has the values of both collections compressed, if this build can do that.
fn configure(db: &Db) {
    if cfg!(feature = "compression") {
        let options = CollectionOptions::new();
        let lz4 = options.compression(Compression::Lz4);
        db.configure("a", lz4).expect("nothing fails");
        let dictionary = options.compression(Compression::Dictionary);
        db.configure("second", dictionary).expect("nothing fails");
    }
}

/// A value that can be compressed.
fn make_text(rng: &mut Rng) -> Vec<u8> {
    let words = ["silt and sand, ", "clay below it, ", "loam on top; ", "gravel, "];
    (0..4 + rng.below(6)).flat_map(|_| words[rng.below(words.len())].bytes()).collect()
}

/// A batch of the specimens: small, over two collections.
fn make_batch(rng: &mut Rng, step: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + rng.below(3) {
        let collection = ["a", "second"][rng.below(2)];
        let key = [b'k', b'0' + u8::try_from(rng.below(7)).unwrap_or(0)];
        if rng.percent(80) {
            let mut value = vec![0; rng.below(60)];
            rng.fill(&mut value);
            batch.put(collection, &key, &value).expect("small");
        } else {
            batch.delete(collection, &key).expect("small");
        }
    }
    // Every batch changes something, so that the states differ.
    batch.put("a", b"step", &step.to_le_bytes()).expect("small");
    batch
}

/// A batch of the packed specimen.
fn make_packed_batch(rng: &mut Rng, step: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + rng.below(3) {
        let collection = ["a", "second"][rng.below(2)];
        let key = [b'k', b'0' + u8::try_from(rng.below(20)).unwrap_or(0)];
        let text = make_text(rng);
        let put = match rng.percent(30) {
            true => batch.put_expiring(collection, &key, &text, 1 + step),
            false => batch.put(collection, &key, &text),
        };
        put.expect("small");
        if rng.percent(10) {
            batch.delete(collection, &key).expect("small");
        }
    }
    batch.append(&make_batch(rng, step)).expect("small");
    batch
}

/// A batch of the mixed specimen.
fn make_mixed_batch(rng: &mut Rng, step: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    match step % 6 {
        2 => batch.clear("second").expect("small"),
        3 => {
            for i in 0..30 {
                let mut value = vec![0; 50];
                rng.fill(&mut value);
                batch.put("a", &[b'm', i], &value).expect("small");
            }
        }
        5 => {
            let mut value = vec![0; 1500];
            rng.fill(&mut value);
            batch.put("second", b"large", &value).expect("small");
        }
        _ => {}
    }
    batch.append(&make_batch(rng, step)).expect("small");
    batch
}

/// The error must lead to the damage: to a file that is there or should be, within its length.
fn names_a_place(
    file: &Path,
    offset: u64,
    files: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), Violation> {
    let known = files.get(file).map(Vec::len);
    let in_store = file.parent() == Some(Path::new(Specimen::DIR));
    let is_missing = known.is_none() && in_store && offset == 0;
    if is_missing || known.is_some_and(|len| offset <= len as u64) {
        return Ok(());
    }
    let file = file.display();
    Err(Violation(format!("an error that names no place in the store: {file} at {offset}")))
}
