//! Bodies of the fuzz targets: each takes any bytes and panics if the store does what it must not.
//! The targets in `fuzz/` call them, and so does a plain test that replays the corpus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::store::{Run, Specimen, Step, Workload, contents_of, fingerprint_of, resign};
use super::{CallKind, Fault, FaultPlan, SimVfs};
use crate::engine::{Durability, OpenError, WriteBatch};
use crate::format::manifest::FILE_NAME;
use crate::format::segment::file_name;

/// Most bytes that are looked at: more make the fuzzer slow and find nothing else.
const INPUT_LEN_MAX: usize = 32 << 10;

/// A store as fuzz input: file by file a tag (0 for the manifest, else the id of a segment), the
/// length in two bytes, the bytes.
pub fn pack(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<u8> {
    let mut data = Vec::new();
    for tag in 0..=u8::MAX {
        let Some(bytes) = files.get(&path_of(tag)) else { continue };
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        data.push(tag);
        data.extend_from_slice(&len.to_le_bytes());
        data.extend(bytes.iter().take(usize::from(len)));
    }
    data
}

fn path_of(tag: u8) -> PathBuf {
    let name = if tag == 0 { FILE_NAME.to_owned() } else { file_name(u64::from(tag)) };
    Path::new(Specimen::DIR).join(name)
}

/// The store that `data` stands for; a file that is cut short ends where `data` does.
fn unpack(data: &[u8]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut rest = data.get(..INPUT_LEN_MAX).unwrap_or(data);
    let mut files = BTreeMap::new();
    while let [tag, low, high, bytes @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let (bytes, after) = bytes.split_at(len);
        files.insert(path_of(*tag), bytes.to_vec());
        rest = after;
    }
    files
}

/// A whole store from bytes: it opens or is refused, and what opens can be used.
///
/// # Panics
///
/// On anything that a store must not do.
pub fn store_bytes(data: &[u8]) {
    use_store(&unpack(data));
}

/// As [`store_bytes`], with every checksum made right.
///
/// # Panics
///
/// As [`store_bytes`].
pub fn store_fixsum(data: &[u8]) {
    let mut files = unpack(data);
    resign(&mut files);
    use_store(&files);
}

/// Opens the store, reads all of it, writes, and opens it again.
fn use_store(files: &BTreeMap<PathBuf, Vec<u8>>) {
    let sim = SimVfs::with_files(files);
    let db = match Specimen::open_on(&sim) {
        Ok(db) => db,
        Err(OpenError::Io(e)) => panic!("nothing fails on this disk: {e}"),
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    let before = contents_of(&db);
    let _ = db.check().expect("nothing fails on this disk");
    let mut batch = WriteBatch::new();
    batch.put("fuzz", b"probe", &[5; 100]).expect("small");
    if db.write(&mut batch, Durability::Sync).is_err() {
        // Numbers that are used up, in a store that was forged.
        return;
    }
    assert_eq!(db.get("fuzz", b"probe").expect("just written").as_deref(), Some(&[5; 100][..]));
    let Ok(mut expected) = before else { return };
    expected.insert(("fuzz".to_owned(), b"probe".to_vec()), vec![5; 100]);
    sim.kill(|| drop(db));
    let db = Specimen::open_on(&sim).unwrap_or_else(|e| panic!("does not open again: {e}"));
    assert_eq!(contents_of(&db).unwrap_or_else(|e| panic!("cannot be read again: {e}")), expected);
}

/// Reads fuzz input byte by byte; zeros when it has run out.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
}

/// Operations on a store, with reopens, kills and calls that fail, against a model.
///
/// # Panics
///
/// On anything that a store must not do.
pub fn ops_faults(data: &[u8]) {
    let mut input = Input(data.get(..4096).unwrap_or(data));
    let segment_len = 512 + 8 * u64::from(input.byte());
    let workload = Workload { seed: 0, dir: "/store".into(), segment_len, steps: Vec::new() };
    let sim = SimVfs::new();
    let mut run = Run::new(&sim, &workload, true);
    let mut steps = 0;
    while !input.0.is_empty() && steps < 200 {
        steps += 1;
        let result = match input.byte() % 16 {
            0 => run.step(&mut Step::Close),
            1 => run.step(&mut Step::Kill),
            2 => run.step(&mut Step::Persist),
            3 | 4 => {
                sim.set_fault(Some(make_fault(&mut input)));
                Ok(())
            }
            5 => {
                sim.set_fault(None);
                Ok(())
            }
            n => {
                let durability = if n < 9 { Durability::Sync } else { Durability::Buffered };
                run.step(&mut Step::Write(make_batch(&mut input), durability))
            }
        };
        result.unwrap_or_else(|e| panic!("{e}"));
    }
    sim.set_fault(None);
    let compared = run.compare("the faults");
    run.kill();
    run.expect_faults(false);
    let ended = compared.and_then(|()| run.open()).and_then(|()| {
        let mut probe = WriteBatch::new();
        probe.put("c0", b"probe", b"at the end").expect("small");
        run.step(&mut Step::Write(probe, Durability::Sync))?;
        run.step(&mut Step::Kill)?;
        run.step(&mut Step::Close)
    });
    ended.unwrap_or_else(|e| panic!("{e}"));
    let db = run.db().expect("it was opened");
    assert!(db.check().expect("nothing fails any more").is_ok());
    assert_eq!(fingerprint_of(db).expect("readable"), run.history().now().fingerprint());
}

fn make_fault(input: &mut Input<'_>) -> FaultPlan {
    let codes = [Fault::EIO, Fault::ENOSPC, Fault::EINTR, Fault::EDQUOT, Fault::EACCES];
    let code = codes[usize::from(input.byte()) % codes.len()];
    let fault = match input.byte() % 6 {
        0 | 1 => Fault::Error(code),
        2 => Fault::ErrorAfter(code),
        3 => Fault::ErrorAfterAll(code),
        4 => Fault::Short(usize::from(input.byte())),
        _ => Fault::Kill,
    };
    let first = u64::from(input.byte() % 64);
    let kinds = [CallKind::Write, CallKind::Sync, CallKind::Read, CallKind::Allocate];
    let plan = FaultPlan { times: 1 + u64::from(input.byte()), ..FaultPlan::once(first, fault) };
    match kinds.get(usize::from(input.byte() % 8)) {
        Some(kind) => plan.of(&[*kind]),
        None => plan,
    }
}

fn make_batch(input: &mut Input<'_>) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + input.byte() % 6 {
        let (kind, key) = (input.byte(), input.byte());
        let collection = ["c0", "c1", ""][usize::from(kind >> 4) % 3];
        let key = &[key % 16][..usize::from(key % 17).min(1)];
        let done = match kind % 8 {
            0 => batch.delete(collection, key),
            1 if kind > 128 => batch.clear(collection),
            _ => {
                let len = usize::from(input.byte()) * if kind % 8 == 7 { 6 } else { 1 };
                batch.put(collection, key, &vec![input.byte(); len])
            }
        };
        done.expect("far below every limit");
    }
    batch
}
