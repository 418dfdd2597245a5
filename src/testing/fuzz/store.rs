//! Whole stores: their files are the fuzzer's, with wrong checksums or with right ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::store::resign;
use super::Outcome;
use super::input::Input;
use crate::engine::{Case, Db, Durability, Note, OpenError, Options, ReadMode, WriteBatch};
use crate::format::segment::file_name;
use crate::vfs::mem::MemVfs;

type Files = BTreeMap<PathBuf, Vec<u8>>;

const DIR: &str = "/store";
const SEGMENT_LEN: u64 = 1024;

/// Keys and values in the order of their names; `None` for one that cannot be read.
type Entries = Vec<(String, Option<(Vec<u8>, Vec<u8>)>)>;

/// The input is the files of a store: options (one byte), then for each file its number (one byte,
/// 0 for the manifest, else a segment), its length (two bytes) and its bytes.
pub fn store_bytes(bytes: &[u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let mode = mode(input.byte());
    let mut files = Files::new();
    while !input.is_empty() && files.len() < 8 {
        let name = match input.byte() {
            0 => "MANIFEST".to_owned(),
            255 => "MANIFEST.tmp".to_owned(),
            n => file_name(u64::from(n)),
        };
        let len = input.short();
        files.insert(Path::new(DIR).join(name), input.take(len).to_vec());
    }
    exercise(&files, mode)
}

/// The input of [`store_bytes`] that is the store with these files; the lock file is left out.
pub fn pack(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![0];
    for (path, content) in files {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
        let number = match name {
            "MANIFEST" => 0,
            name => match name.parse() {
                Ok(number) => number,
                Err(_) => continue,
            },
        };
        let Ok(len) = u16::try_from(content.len()) else { continue };
        bytes.push(number);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(content);
    }
    bytes
}

/// The input makes a small store, damages its files, and makes their checksums right again.
pub fn store_fixsum(bytes: &[u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let mode = mode(input.byte());
    let mut files = build(&mut input);
    let is_signed = input.byte() != 1;
    while !input.is_empty() {
        change(&mut files, &mut input);
        // In between as well: later changes then find their way through lengths changed earlier.
        if is_signed && input.below(8) == 7 {
            resign(&mut files);
        }
    }
    if is_signed {
        resign(&mut files);
    }
    exercise(&files, mode)
}

/// The files of a store that up to 16 operations have made.
fn build(input: &mut Input<'_>) -> Files {
    let vfs = MemVfs::new();
    let mut db = options(&vfs, ReadMode::Mmap).open(DIR).expect("an empty store opens");
    for step in 0..u8::try_from(input.below(17)).unwrap_or(0) {
        match input.below(8) {
            0 => {
                db.close().expect("nothing fails in memory");
                db = options(&vfs, ReadMode::Mmap).open(DIR).expect("it was closed");
            }
            1 => drop(db.persist().expect("nothing fails in memory")),
            _ => {
                let mut batch = input.batch(step);
                let durability = input.durability();
                db.write(&mut batch, durability).expect("nothing fails in memory");
            }
        }
    }
    if input.below(2) == 0 {
        db.close().expect("nothing fails in memory");
    }
    // Not closed: as the death of the process leaves it.
    vfs.snapshot().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

/// Changes one place of one file.
fn change(files: &mut Files, input: &mut Input<'_>) {
    let count = files.len();
    let Some(bytes) = files.values_mut().nth(input.below(count)) else { return };
    let how = input.byte();
    let at = input.short() % (bytes.len() + 1);
    let rest = bytes.get_mut(at..).unwrap_or_default();
    match how % 8 {
        0 | 1 => {
            let new = input.byte();
            rest.iter_mut().take(1).for_each(|b| *b = new);
        }
        2 => {
            let bit = input.below(8);
            rest.iter_mut().take(1).for_each(|b| *b ^= 1 << bit);
        }
        3 => {
            let new = input.take(1 + usize::from(how >> 4));
            rest.iter_mut().zip(new).for_each(|(b, new)| *b = *new);
        }
        4 => rest.iter_mut().take(usize::from(how >> 5) + 1).for_each(|b| *b = 0xFF),
        5 => bytes.truncate(at),
        6 => {
            let from = input.short() % (bytes.len() + 1);
            let len = (8 + 8 * input.below(64)).min(bytes.len() - from.max(at));
            bytes.copy_within(from..from + len, at);
        }
        _ => {
            let len = 8 * (1 + input.below(32));
            let zeros = std::iter::repeat_n(0, len);
            bytes.splice(at..at, zeros);
        }
    }
}

fn mode(choice: u8) -> ReadMode {
    if choice % 2 == 1 { ReadMode::Pread } else { ReadMode::Mmap }
}

fn options(vfs: &MemVfs, mode: ReadMode) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .segment_len(SEGMENT_LEN)
        .read_mode(mode)
        .inline_maintenance(true)
        .store_id([7; 16])
}

fn disk(files: &Files) -> MemVfs {
    let vfs = MemVfs::new();
    for (path, bytes) in files {
        vfs.put(path.clone(), bytes.clone());
    }
    vfs
}

/// Opens the store, uses it, and opens it again.
fn exercise(files: &Files, mode: ReadMode) -> Outcome {
    let vfs = disk(files);
    let Ok(db) = options(&vfs, mode).open(DIR) else {
        // A refused store is as it was.
        let left: Files =
            vfs.snapshot().into_iter().filter(|(p, _)| !p.ends_with("LOCK")).collect();
        assert!(left == *files, "a refused open has changed the store");
        return Outcome::Refused;
    };
    let found = entries(&db);
    check_reader(files, mode, &found, db.recovery_report().created);
    // Records of unsealed segments were all verified by the open. Hints and checkpoints are
    // believed.
    let report = db.recovery_report();
    let is_verified = report.sealed_segments == 0 && report.checkpoint.is_none();
    // A store that is damaged below its checkpoint opens only as long as the checkpoint counts.
    let is_bridged = report.checkpoint.is_some() && !db.check().is_ok_and(|check| check.is_ok());
    if is_verified {
        check_all(&db, &found);
    } else {
        look_around(&db, &found);
    }
    let is_written = write_some(&db, &found);
    let expected = entries(&db);
    if is_verified && is_written {
        check_all(&db, &expected);
    }
    if db.close().is_err() {
        return Outcome::Accepted;
    }
    let db = match options(&vfs, mode).open(DIR) {
        Ok(db) => db,
        Err(_) if is_bridged => return Outcome::Accepted,
        Err(e) => panic!("does not open again: {e}"),
    };
    // Damaged hints stay, since sealed segments never change; everything else is settled.
    let is_hints = |note: &Note| note.case == Case::DamagedHints;
    assert!(db.recovery_report().notes.iter().all(is_hints), "{:?}", db.recovery_report());
    assert_same(&entries(&db), &expected, "another store after it was closed");
    Outcome::Accepted
}

/// Everything that an iteration hands out.
fn entries(db: &Db) -> Entries {
    let mut entries = Entries::new();
    for (name, count) in db.collections() {
        let start = entries.len();
        entries.extend(db.iter(&name).map(|entry| {
            let entry = entry.ok().map(|entry| (entry.key, entry.value.to_vec()));
            (name.clone(), entry)
        }));
        assert_eq!((entries.len() - start) as u64, count, "length of {name:?}");
    }
    entries.sort();
    entries
}

/// Fails with what only one of the two has, without its values.
fn assert_same(found: &Entries, expected: &Entries, what: &str) {
    let only = |one: &Entries, other: &Entries| {
        let only = one.iter().filter(|entry| !other.contains(entry));
        let key_of = |(name, entry): &(String, Option<(Vec<u8>, Vec<u8>)>)| {
            let key = entry.as_ref().map(|(key, value)| (key.clone(), value.len()));
            (name.clone(), key)
        };
        only.map(key_of).collect::<Vec<_>>()
    };
    if found != expected {
        let (new, gone) = (only(found, expected), only(expected, found));
        panic!(
            "{what}: {} entries, {} expected; new {new:?}, gone {gone:?}",
            found.len(),
            expected.len()
        );
    }
}

/// A reader must see what a writer sees.
fn check_reader(files: &Files, mode: ReadMode, found: &Entries, is_new: bool) {
    let vfs = disk(files);
    match options(&vfs, mode).read_only(true).open(DIR) {
        Ok(reader) => assert_same(&entries(&reader), found, "a reader sees something else"),
        Err(OpenError::Missing { .. }) if is_new => {}
        Err(e) => panic!("a writer can open it, a reader cannot: {e}"),
    }
    assert!(vfs.snapshot() == *files, "a reader has changed the store");
}

/// All of a store that was verified when it was opened is right.
fn check_all(db: &Db, found: &Entries) {
    let check = db.check().expect("nothing fails in memory");
    assert!(check.is_ok(), "{check:?}");
    assert_eq!(check.keys, found.len() as u64);
    for (name, entry) in found {
        let (key, value) = entry.as_ref().expect("it was verified");
        let got = db.get(name, key).expect("it was verified");
        assert_eq!(got.as_deref(), Some(&**value), "{name:?} {key:?}");
        let many = db.get_many(name, &[key, b"absent", key]).expect("it was verified");
        assert_eq!(many[0].as_deref(), Some(&**value));
        assert_eq!(many[2].as_deref(), Some(&**value));
    }
}

/// Calls everything; errors are fine.
fn look_around(db: &Db, found: &Entries) {
    let _ = (db.check(), db.stats());
    for (name, entry) in found {
        if let Some((key, _)) = entry {
            let _ = (db.get(name, key), db.get_many(name, &[key]), db.contains(name, key));
        }
    }
}

/// Writes: a new key, an old key, a deletion, more than a segment. True if all of it was taken.
fn write_some(db: &Db, found: &Entries) -> bool {
    let mut batch = WriteBatch::new();
    let mut add = |collection: &str, key: &[u8], len: usize| {
        batch.put(collection, key, &vec![0x5A; len]).expect("far below every limit");
    };
    add("fuzz", b"new", 10);
    add("fuzz", b"long", 700);
    let mut known = found.iter().filter_map(|(name, entry)| Some((name, &entry.as_ref()?.0)));
    if let Some((name, key)) = known.next() {
        add(name, key, 20);
    }
    let gone = known.next();
    if let Some((name, key)) = gone {
        batch.delete(name, key).expect("far below every limit");
    }
    let is_written = db.write(&mut batch, Durability::Sync).is_ok();
    let mut is_all = is_written;
    for i in 0..3u8 {
        is_all &= db.put("fuzz", &[i], &[i; 300]).is_ok();
    }
    is_all
}
