//! Dictionaries and the rewriting of values, on a store in memory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::{CollectionOptions, CompactionReport, Durability, Options};
use crate::format::record::RecordHeader;
use crate::vfs::mem::MemVfs;

fn open(vfs: &MemVfs, records: usize) -> Arc<Core> {
    let options = Options::new()
        .vfs(Arc::new(vfs.clone()))
        .inline_maintenance(true)
        .dictionary_records(records);
    Core::open(Path::new("/s"), options).unwrap()
}

/// Short texts that are alike, as chunks of one source are.
fn text(i: u64, topic: &str) -> Vec<u8> {
    let word = |n: u64| ["silt", "sand", "clay", "loam", "gravel", "marl"][(n % 6) as usize];
    let (a, b, c) = (word(i), word(i / 6), word(i / 36));
    format!(
        "{{\"id\": {i}, \"topic\": \"{topic}\", \"text\": \"Layers of {a} lie over {b}, and below \
         them {c} that the river has left behind {i} years ago.\"}}"
    )
    .into_bytes()
}

fn put_all(core: &Core, range: std::ops::Range<u64>, topic: &str) {
    let mut batch = WriteBatch::new();
    for i in range {
        batch.put("t", &i.to_le_bytes(), &text(i, topic)).unwrap();
    }
    core.write(&mut batch, Durability::Buffered).unwrap();
}

fn configure(core: &Core, compression: Compression) {
    let mut batch = WriteBatch::new();
    batch.configure("t", CollectionOptions::new().compression(compression)).unwrap();
    core.write(&mut batch, Durability::Buffered).unwrap();
}

fn parse(bytes: &[u8]) -> Record<'_> {
    Record::parse(bytes).unwrap()
}

/// Moves the records of `range` as compaction would: their bytes before and after, those that were
/// written anew.
fn rewrite(core: &Core, range: std::ops::Range<u64>) -> (usize, usize, usize) {
    let state = core.catalog.find("t").unwrap();
    let all: Vec<Vec<u8>> = range
        .clone()
        .map(|i| core.lookup(&state, &i.to_le_bytes()).unwrap().unwrap().raw().to_vec())
        .collect();
    let mut recompressor = Recompressor::new(core);
    for bytes in &all {
        if recompressor.wants(state.id) {
            recompressor.sample(&parse(bytes));
        }
    }
    recompressor.prepare().unwrap();
    let (mut before, mut after, mut anew) = (0, 0, 0);
    for bytes in &all {
        before += bytes.len();
        let mut buf = b"in front".to_vec();
        if !recompressor.rewrite(&parse(bytes), &mut buf) {
            assert_eq!(buf, b"in front");
            after += bytes.len();
            continue;
        }
        anew += 1;
        let (old, new) = (parse(bytes), parse(&buf[8..]));
        after += new.header.record_len();
        assert_eq!(buf.len(), 8 + new.header.record_len());
        assert!(new.body_is_intact() && new.key == old.key);
        assert_eq!(new.stored().unwrap().expires, old.stored().unwrap().expires);
        let value = |record: &Record<'_>| core.decompress(state.id, &record.stored().unwrap());
        assert_eq!(value(&new).ok().unwrap(), value(&old).ok().unwrap());
    }
    (before, after, anew)
}

#[test]
fn a_dictionary_is_trained_once_and_kept() {
    let vfs = MemVfs::new();
    let core = open(&vfs, 300);
    put_all(&core, 0..2000, "soil");
    let state = core.catalog.find("t").unwrap();
    let (before, after, anew) = rewrite(&core, 0..400);
    assert_eq!((before, anew), (after, 0), "compression is off");
    configure(&core, Compression::Lz4);
    let (_, after, anew) = rewrite(&core, 0..400);
    assert!(core.newest_dictionary(&state).unwrap().is_none());
    assert!(anew <= 400 && after <= before);
    configure(&core, Compression::Dictionary);
    assert_eq!(rewrite(&core, 0..299).2, rewrite(&core, 0..299).2);
    assert!(core.newest_dictionary(&state).unwrap().is_none(), "too few to learn from");
    let (before, after, anew) = rewrite(&core, 0..1000);
    assert_eq!(anew, 1000);
    assert!(after * 2 < before, "{after} of {before}");
    let number = |core: &Core| {
        let state = core.catalog.find("t").unwrap();
        core.newest_dictionary(&state).unwrap().map_or(0, |d| d.number)
    };
    assert_eq!(number(&core), 1);
    // What is alike is compressed with the same one, also after an open.
    core.close().unwrap();
    drop(core);
    let core = open(&vfs, 300);
    assert_eq!(number(&core), 1);
    assert!(core.catalog.all().iter().all(|c| c.name == "t"), "the system's is hidden");
    let (before, after, anew) = rewrite(&core, 1000..2000);
    assert!(anew == 1000 && after * 2 < before, "{after} of {before}");
    assert_eq!(number(&core), 1);
    // What is not alike gets one of its own.
    let mut batch = WriteBatch::new();
    let noise = |i: u64| {
        let n = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("<row a='{n}' b='{}' kind='measurement of another kind'/>", n ^ i)
    };
    for i in 3000..4000u64 {
        batch.put("t", &i.to_le_bytes(), noise(i).as_bytes()).unwrap();
    }
    core.write(&mut batch, Durability::Buffered).unwrap();
    let (before, after, _) = rewrite(&core, 3000..4000);
    assert!(after < before, "{after} of {before}");
    assert_eq!(number(&core), 2);
    let stats = core.stats();
    assert_eq!(stats.compression[0].collection, "t");
    assert!(stats.compression[0].compressed >= 2000 && stats.compression[0].ratio() < 0.8);
}

/// Goal: compaction that is asked for stores values as their collections are configured now, those
/// that it has moved before and those of the segment in use too, and comes to an end.
#[test]
fn values_written_before_it_was_configured_are_compressed_when_asked_for() {
    let core = open(&MemVfs::new(), 300);
    put_all(&core, 0..2000, "soil");
    core.compact_all().unwrap();
    put_all(&core, 2000..2500, "soil");
    let bytes = || core.segments.all().iter().map(|s| s.end()).sum::<u64>();
    let (plain, moved) = (bytes(), |report: &CompactionReport| report.bytes_in);
    // What is moved already stays as it is, as long as nothing in it would take less.
    core.compact_all().unwrap();
    assert_eq!(moved(&core.compact_all().unwrap()), 0);
    configure(&core, Compression::Dictionary);
    assert!(moved(&core.compact_all().unwrap()) >= plain * 9 / 10);
    assert!(bytes() * 10 < plain * 7, "{} of {plain}", bytes());
    let again = core.compact_all().unwrap();
    assert!(again.bytes_in * 4 < plain, "only what the first has written: {again:?}");
    let state = core.catalog.find("t").unwrap();
    for i in 0..2500u64 {
        let found = core.lookup(&state, &i.to_le_bytes()).unwrap().unwrap();
        assert!(found.record().stored().unwrap().coding.is_some(), "{i}");
        assert_eq!(*core.verified_value(found).unwrap().unwrap(), *text(i, "soil"));
    }
}

/// Goal: what is to be compressed is seen however the records of several collections take turns.
#[test]
fn values_that_take_turns_with_others_are_compressed_when_asked_for() {
    for records in (3000..3400u64).step_by(25) {
        for is_first in [true, false] {
            let core = open(&MemVfs::new(), 300);
            for i in 0..records {
                let mut batch = WriteBatch::new();
                let put = |batch: &mut WriteBatch, name: &str, value: &[u8]| {
                    batch.put(name, &i.to_le_bytes(), value).unwrap();
                };
                if is_first {
                    put(&mut batch, "t", &text(i, "soil").repeat(4));
                }
                put(&mut batch, "meta", b"m");
                if !is_first {
                    put(&mut batch, "t", &text(i, "soil").repeat(4));
                }
                core.write(&mut batch, Durability::Buffered).unwrap();
            }
            core.compact_all().unwrap();
            configure(&core, Compression::Lz4);
            let report = core.compact_all().unwrap();
            assert!(report.bytes_out * 2 < report.bytes_in, "{records} {is_first}: {report:?}");
        }
    }
}

#[test]
fn values_keep_their_expiry_and_a_missing_dictionary_is_named() {
    let vfs = MemVfs::new();
    let core = open(&vfs, 100);
    configure(&core, Compression::Dictionary);
    let mut batch = WriteBatch::new();
    for i in 0..500u64 {
        batch.put_expiring("t", &i.to_le_bytes(), &text(i, "soil"), 1000 + i).unwrap();
    }
    core.write(&mut batch, Durability::Buffered).unwrap();
    let (_, _, anew) = rewrite(&core, 0..500);
    assert_eq!(anew, 500);
    let id = core.catalog.find("t").unwrap().id;
    let area = Stored { expires: None, coding: Some((Coding::Zstd(9), 10)), bytes: b"x" };
    let Err(e) = core.decompress(id, &area) else { panic!("there is no dictionary 9") };
    let found = core.lookup(core.catalog.system(), b"d\0\0\0\0").unwrap().unwrap();
    let error = e.at(&found.segment, found.offset, b"key").to_string();
    assert!(error.contains("dictionary 9") && error.contains(".seg"), "{error}");
}

#[test]
fn bytes_that_no_compressor_made_are_errors() {
    let vfs = MemVfs::new();
    let core = open(&vfs, 100);
    configure(&core, Compression::Dictionary);
    put_all(&core, 0..500, "soil");
    rewrite(&core, 0..500);
    let state = core.catalog.find("t").unwrap();
    let dictionary = core.newest_dictionary(&state).unwrap().unwrap();
    let value = text(7, "soil");
    let mut random = 1u64;
    for (coding, bytes) in [
        (Coding::Lz4, codec::lz4_compress(&value).unwrap()),
        (Coding::Zstd(1), dictionary.codec.compress(&value).unwrap()),
    ] {
        let open = |bytes: &[u8], raw_len| {
            core.decompress(
                state.id,
                &Stored { expires: None, coding: Some((coding, raw_len)), bytes },
            )
        };
        assert_eq!(open(&bytes, value.len()).ok().unwrap(), value);
        for wrong in [0, 1, value.len() - 1, value.len() + 1, bytes.len() * 256] {
            assert!(open(&bytes, wrong).is_err(), "{coding:?} {wrong}");
        }
        for len in 0..bytes.len() {
            assert!(open(&bytes[..len], value.len()).is_err(), "{coding:?} cut to {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = open(&bytes, value.len()) {
                assert_eq!(other.len(), value.len());
            }
        }
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = bytes.clone();
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] = random as u8;
            let raw_len = (random >> 40) as usize % (256 * bytes.len());
            if let Ok(value) = open(&bytes, raw_len) {
                assert_eq!(value.len(), raw_len);
            }
        }
    }
    assert!(RecordHeader::parse(&[0; 24]).is_none());
}

/// Goal: what is asked for twice is decompressed once, and a scan leaves nothing behind.
#[test]
fn values_that_were_got_are_kept() {
    let core = open(&MemVfs::new(), 10);
    put_all(&core, 0..1, "any");
    configure(&core, Compression::Lz4);
    // Long enough to be worth it on its own.
    let value = |i: u64, topic: &str| text(i, topic).repeat(3);
    let put = |topic: &str| {
        let mut batch = WriteBatch::new();
        (0..50u64).for_each(|i| batch.put("t", &i.to_le_bytes(), &value(i, topic)).unwrap());
        core.write(&mut batch, Durability::Buffered).unwrap();
    };
    put("first");
    let state = core.catalog.find("t").unwrap();
    let get = |i: u64| {
        let found = core.lookup(&state, &i.to_le_bytes()).unwrap().unwrap();
        core.value_of(found).unwrap().unwrap()
    };
    let scan = || {
        (0..50u64).for_each(|i| {
            let found = core.lookup(&state, &i.to_le_bytes()).unwrap().unwrap();
            assert_eq!(*core.verified_value(found).unwrap().unwrap(), *value(i, "first"));
        });
    };
    let decompressed = || state.packing.stats("t", 0).decompressed;
    scan();
    assert_eq!(decompressed(), 50);
    for _ in 0..4 {
        (0..50).for_each(|i| assert_eq!(*get(i), *value(i, "first")));
    }
    // By those who came first, and by those with whom it was seen to be asked for again.
    assert_eq!(decompressed(), 150);
    scan();
    assert_eq!(decompressed(), 150);
    // A new value of a key stands elsewhere.
    put("second");
    (0..50).for_each(|i| assert_eq!(*get(i), *value(i, "second")));
    assert_eq!(decompressed(), 200);
}
