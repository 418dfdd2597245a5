//! Checkpoints that lie, with every checksum right.

use std::path::Path;
use std::sync::Arc;

use super::super::{CompactionOptions, Db, Options, ReadError};
use crate::format::checkpoint::{Block, ENTRY_LEN, FILE_NAME, Header, Meta, SavedIndex};
use crate::format::checksum;
use crate::vfs::Vfs;
use crate::vfs::mem::MemVfs;

const DIR: &str = "/store";
const KEYS: u32 = 40;

fn open(vfs: &MemVfs) -> Db {
    let options = Options::new().vfs(Arc::new(vfs.clone())).segment_len(1024);
    options.inline_maintenance(true).store_id([7; 16]).open(DIR).expect("it opens")
}

fn value(key: u32) -> Vec<u8> {
    format!("the value of {key}").into_bytes()
}

/// A store that was closed, and its checkpoint.
fn closed() -> (MemVfs, Vec<u8>) {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    for key in 0..KEYS {
        db.put("c", &key.to_le_bytes(), &value(key)).expect("written");
    }
    db.close().expect("closed");
    let bytes = vfs.snapshot().get(&Path::new(DIR).join(FILE_NAME)).cloned();
    (vfs, bytes.expect("a close writes a checkpoint"))
}

/// Changes a checkpoint, and makes its checksums right again.
fn forge(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Header, &mut Meta, &mut [u8])) {
    let mut header = Header::decode(bytes, bytes.len() as u64).expect("it is good");
    let at = usize::try_from(header.meta_offset).expect("small");
    let mut meta = Meta::decode(&bytes[at..], &header).expect("it is good");
    bytes.truncate(at);
    change(&mut header, &mut meta, bytes);
    let salt = header.identity.salt();
    let sign = |index: &mut SavedIndex| {
        for block in &mut index.blocks {
            let range = range(block);
            block.checksum = checksum::at(salt, block.offset, &bytes[range]);
        }
    };
    meta.collections.iter_mut().for_each(|c| sign(&mut c.index));
    let encoded = meta.encode();
    header.meta_len = encoded.len() as u64;
    header.meta_checksum = checksum::at(salt, header.meta_offset, &encoded);
    bytes.extend_from_slice(&encoded);
    bytes[..header.encode().len()].copy_from_slice(&header.encode());
}

fn range(block: &Block) -> std::ops::Range<usize> {
    let start = usize::try_from(block.offset).expect("small");
    start..start + usize::try_from(block.len()).expect("small")
}

/// The store with this checkpoint.
fn open_with(vfs: &MemVfs, bytes: Vec<u8>) -> Db {
    vfs.put(Path::new(DIR).join(FILE_NAME), bytes);
    open(vfs)
}

/// Leads every key of the collection to the record of the one that stands `distance` further on.
fn move_locations(bytes: &mut Vec<u8>, distance: usize) {
    forge(bytes, |_, meta, bytes| {
        let blocks = &meta.collections.iter().find(|c| c.name == "c").expect("there").index;
        let entries = &mut bytes[range(&blocks.blocks[0])];
        let locations: Vec<[u8; 6]> = entries
            .chunks(ENTRY_LEN)
            .map(|entry| entry[6..].try_into().expect("six bytes"))
            .collect();
        for (i, entry) in entries.chunks_mut(ENTRY_LEN).enumerate() {
            entry[6..].copy_from_slice(&locations[(i + distance) % locations.len()]);
        }
    });
}

/// Goal: a location that is wrong is an error, never another value. Method: the locations of all
/// keys are moved on by some keys.
#[test]
fn wrong_locations_never_lead_to_wrong_data() {
    for distance in 1..10 {
        let (vfs, mut bytes) = closed();
        move_locations(&mut bytes, distance);
        let db = open_with(&vfs, bytes);
        assert!(db.recovery_report().checkpoint.is_some(), "it looks good");
        for key in 0..KEYS {
            let got = db.get("c", &key.to_le_bytes());
            assert!(matches!(got, Err(ReadError::Corrupt(_))), "{key}: {got:?}");
        }
        assert!(db.iter("c").all(|entry| entry.is_err()));
        assert!(!db.check().expect("it reads").is_ok());
    }
}

/// Goal: compaction takes no record for dead that a lying index only leads to by another name: the
/// log has it still when the checkpoint is gone. Method: every second record of the log is dead,
/// and all locations are wrong.
#[test]
fn compaction_keeps_what_a_lying_index_hides() {
    let vfs = MemVfs::new();
    let manual = |vfs: &MemVfs| {
        let compaction = CompactionOptions::manual();
        let options = Options::new().vfs(Arc::new(vfs.clone())).compaction(compaction);
        options.segment_len(1024).inline_maintenance(true).open(DIR).expect("it opens")
    };
    let db = manual(&vfs);
    for key in 0..KEYS {
        db.put("c", &key.to_le_bytes(), &value(key)).expect("written");
        db.put("other", b"key", &value(key)).expect("written");
    }
    db.close().expect("closed");
    let path = Path::new(DIR).join(FILE_NAME);
    let mut bytes = vfs.snapshot().get(&path).cloned().expect("a close writes a checkpoint");
    move_locations(&mut bytes, 1);
    vfs.put(path.clone(), bytes);

    let db = manual(&vfs);
    assert!(db.recovery_report().checkpoint.is_some(), "it looks good");
    let segments = db.stats().segments.len();
    db.compact_now().expect("what is damaged is left alone");
    assert!(db.stats().segments.len() >= segments, "a segment went");
    db.close().expect("closed");
    vfs.remove(&path).expect("it is there");
    let db = manual(&vfs);
    for key in 0..KEYS {
        let got = db.get("c", &key.to_le_bytes()).expect("readable");
        assert_eq!(got.as_deref(), Some(&value(key)[..]), "{key}");
    }
}

/// Goal: what contradicts the store is ignored, and the data is right.
#[test]
fn contradictions_are_ignored() {
    type Change = fn(&mut Header, &mut Meta, &mut [u8]);
    let changes: [(&str, Change); 11] = [
        ("other store", |h, _, _| h.identity.store[0] ^= 1),
        ("later epoch", |h, _, _| h.identity.epoch += 5),
        ("later manifest", |h, _, _| {
            // The store is opened once more below, before this one is put in place.
            h.identity.epoch += 1;
            h.identity.next_segment += 1 << 20;
        }),
        ("behind the log", |h, _, _| h.identity.seqno += 1),
        ("other salt", |_, m, _| m.segments[0].salt ^= 1),
        ("shorter segment", |_, m, _| {
            let seal = m.segments[0].seal.as_mut().expect("the first one is sealed");
            seal.data_end -= 8;
            m.segments[0].end -= 8;
        }),
        ("records cut", |_, m, _| m.segments.iter_mut().for_each(|s| s.end = 64)),
        ("slot taken", |_, m, _| m.segments[1].slot = m.segments[0].slot),
        ("unknown segment", |_, m, _| m.segments.truncate(1)),
        ("collection twice", |_, m, _| m.collections[0].id = m.collections[1].id),
        ("out of order", |_, m, bytes| {
            let entries = &mut bytes[range(&m.collections[0].index.blocks[0])];
            let (first, rest) = entries.split_at_mut(ENTRY_LEN);
            first.swap_with_slice(&mut rest[..ENTRY_LEN]);
        }),
    ];
    for (what, change) in changes {
        let (vfs, mut bytes) = closed();
        let good = open_with(&vfs, bytes.clone());
        assert!(good.recovery_report().notes.is_empty());
        drop(good);
        forge(&mut bytes, change);
        let db = open_with(&vfs, bytes);
        let report = db.recovery_report();
        assert!(report.checkpoint.is_none(), "{what}: it was used");
        let is_told = report.notes.iter().any(|n| n.case.is_of_checkpoint());
        assert!(is_told, "{what}: {report:?}");
        for key in 0..KEYS {
            let got = db.get("c", &key.to_le_bytes()).expect("readable");
            assert_eq!(got.as_deref(), Some(&value(key)[..]), "{what}");
        }
        assert!(db.check().expect("it reads").is_ok(), "{what}");
    }
}
