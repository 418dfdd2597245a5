//! Looking at damage and repairing it: `check` names each defect, `repair` loses what the damage
//! covered and says what, `inspect` shows what is there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use siltstone::Options;
use siltstone::engine::{BackupOptions, CheckOptions, RepairOptions, repair};
use siltstone::testing::store::{RepairOutcomes, RepairTally, RepairTest, Specimen, contents_of};
use siltstone::testing::{CrashOptions, Rng, SimVfs};

/// Goal: a defect is named by file, offset, sequence number, collection and key. Method: one bit of
/// a value in a sealed segment, found by its bytes.
#[test]
fn check_names_the_record_that_is_damaged() {
    let specimen = Specimen::sealed();
    let ((collection, key), value) =
        specimen.contents().iter().find(|(_, value)| value.len() > 40).unwrap();
    let mut files = specimen.files.clone();
    let found = files.iter_mut().find_map(|(path, bytes)| {
        let at = bytes.windows(value.len()).position(|w| w == &value[..])?;
        bytes[at + 3] ^= 1;
        Some((path.clone(), (at - key.len() - 24) as u64))
    });
    let (path, offset) = found.unwrap();
    let db = Specimen::open_on(&SimVfs::with_files(&files)).unwrap();
    let report = db.check().unwrap();
    let defect = report.defects.iter().find(|d| d.seqno.is_some()).unwrap();
    assert_eq!((&defect.file, defect.offset), (&path, offset));
    assert_eq!(defect.collection.as_deref(), Some(collection.as_str()));
    assert_eq!(defect.key.as_deref(), Some(&key[..]));
    let line = defect.to_string();
    assert!(line.contains("sequence number") && line.contains(&*key.escape_ascii().to_string()));
}

/// Goal: one flip is one place, and what is whole around it counts as verified. Method: each bit of
/// a record of a sealed segment.
#[test]
fn check_names_one_flip_once() {
    let specimen = Specimen::sealed();
    let whole = Specimen::open(&specimen.files).unwrap().check().unwrap();
    let (_, value) = specimen.contents().iter().find(|(_, value)| value.len() > 40).unwrap();
    let (path, end) = specimen
        .files
        .iter()
        .find_map(|(path, bytes)| {
            let at = bytes.windows(value.len()).position(|w| w == &value[..])?;
            Some((path.clone(), at + value.len()))
        })
        .unwrap();
    for bit in (end - value.len() - 24) * 8..end * 8 {
        let mut files = specimen.files.clone();
        files.get_mut(&path).unwrap()[bit / 8] ^= 1 << (bit % 8);
        let db = Specimen::open(&files).unwrap();
        let report = db.check().unwrap();
        assert_eq!((report.defect_count, report.bytes), (1, whole.bytes), "bit {bit}: {report:?}");
        // What is dead beside it is read by nobody.
        assert!((report.keys..whole.records).contains(&report.records), "{bit}: {report:?}");
        assert_eq!(report.keys, whole.keys - 1, "bit {bit}: {report:?}");
        let line = report.defects[0].to_string();
        assert!(line.contains(" of collection ") && line.matches("key ").count() < 2, "{line}");
    }
}

/// Goal: a file that was put among the segments, a copy of one or one of another store, is named
/// for what it is, keeps writers out, and costs nothing when it is taken away.
#[test]
fn a_file_that_strayed_among_the_segments_is_no_loss() {
    let (specimen, other) = (Specimen::sealed(), Specimen::mixed());
    let dir = Path::new(Specimen::DIR);
    let stray = specimen.path("0000000000009999.seg");
    let own = specimen.segments().into_iter().map(|path| (specimen.files[&path].clone(), "this"));
    let others = other.segments().into_iter().map(|path| (other.files[&path].clone(), "another"));
    for (bytes, whose) in own.chain(others) {
        let mut files = specimen.files.clone();
        files.insert(stray.clone(), bytes.clone());
        let disk = SimVfs::with_files(&files);
        let options = || Options::new().vfs(Arc::new(disk.clone()));
        let said = format!("of {whose} store");
        let refused = options().open(dir).unwrap_err().to_string();
        assert!(refused.contains(&said) && refused.contains("9999.seg"), "{refused}");
        let reader = options().read_only(true).open(dir).unwrap();
        let report = reader.check().unwrap();
        assert_eq!(report.defect_count, 1, "{report:?}");
        assert!(report.defects[0].to_string().contains(&said), "{:?}", report.defects);
        let repaired = repair(dir, &RepairOptions::new().vfs(Arc::new(disk.clone()))).unwrap();
        assert_eq!(repaired.damage.len(), 1, "{repaired:?}");
        assert!(repaired.lost.is_empty() && repaired.lost_ranges.is_empty(), "{repaired:?}");
        let after = disk.snapshot();
        assert!(!after.contains_key(&stray));
        let is_kept =
            |(path, kept): (&PathBuf, &Vec<u8>)| path.parent() != Some(dir) && *kept == bytes;
        assert!(after.iter().any(is_kept), "in quarantine");
        let db = Specimen::open(&after).unwrap();
        assert_eq!(contents_of(&db).unwrap(), *specimen.contents());
    }
}

/// Goal: a check tells how far it is and leaves off when told to.
#[test]
fn check_tells_its_progress_and_can_be_stopped() {
    let db = Specimen::open(&Specimen::sealed().files).unwrap();
    let mut calls = Vec::new();
    let options = CheckOptions::new().bytes_per_second(1 << 30).progress(|p| {
        calls.push(p);
        ControlFlow::Continue(())
    });
    let report = db.check_with(options).unwrap();
    assert!(report.is_complete && report.is_ok(), "{report:?}");
    let last = calls.last().unwrap();
    assert_eq!((last.bytes, last.total_bytes, last.defects), (report.bytes, report.bytes, 0));
    let stop = CheckOptions::new().progress(|_| ControlFlow::Break(()));
    assert!(!db.check_with(stop).unwrap().is_complete);
}

/// Goal: a repair, and a backup that is verified, tell how far they are, in both of their halves.
#[test]
fn repairs_and_verified_backups_tell_their_progress() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let open = || Options::new().segment_len(64 << 10).open(&dir).unwrap();
    let db = open();
    for key in 0..2000_u32 {
        db.put("c", &key.to_le_bytes(), &[7; 100]).unwrap();
    }
    db.close().unwrap();

    let told = Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    let options = BackupOptions::new().verify(true).progress(move |done| {
        list.lock().unwrap().push((done.is_verifying, done.bytes_done, done.bytes_total));
    });
    let db = open();
    db.backup_to(temp.path().join("backup"), options).unwrap();
    db.close().unwrap();
    comes_to_its_end_twice(&told.lock().unwrap());

    let segment =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
            path.extension().is_some_and(|extension| extension == "seg")
                && path.metadata().unwrap().len() > 60_000
        });
    let segment = segment.expect("a full segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[30_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    let options = RepairOptions::new().progress(move |done| {
        list.lock().unwrap().push((done.is_proving, done.bytes_done, done.bytes_total));
    });
    assert!(repair(&dir, &options).unwrap().is_changed);
    comes_to_its_end_twice(&told.lock().unwrap());
}

/// Goal: a checkpoint that is damaged is no reason for a check to complain for ever: a repair takes
/// it away, and says that nothing is lost.
#[test]
fn a_damaged_checkpoint_is_repaired() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let db = Options::new().open(&dir).unwrap();
    for key in 0..2000_u32 {
        db.put("c", &key.to_le_bytes(), &[7; 100]).unwrap();
    }
    db.close().unwrap();
    let path = dir.join("CHECKPOINT");
    let whole = std::fs::read(&path).unwrap();
    for at in [3, 50, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let is_ok = || {
            let db = Options::new().read_only(true).create(false).open(&dir).unwrap();
            db.check().unwrap().is_ok()
        };
        assert!(!is_ok(), "byte {at}");
        let would = repair(&dir, &RepairOptions::new().dry_run(true)).unwrap();
        assert!(would.is_changed && would.is_lossless() && path.exists(), "{would:?}");
        let report = repair(&dir, &RepairOptions::new()).unwrap();
        assert!(report.is_changed && report.is_lossless(), "{report:?}");
        assert!(report.damage.iter().any(|d| d.file == path), "{report:?}");
        assert!(is_ok(), "byte {at}");
        assert!(repair(&dir, &RepairOptions::new()).unwrap().is_ok());
    }
}

/// Goal: an open segment that nothing was written to holds nothing, whatever its header is like;
/// one that something may have been wiped from, or was cut, is not taken for it.
#[test]
fn an_empty_segment_with_a_damaged_header_held_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let options = Options::new().segment_len(64 << 10).inline_maintenance(true);
    let db = options.open(&dir).unwrap();
    let files = || -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| !path.ends_with("LOCK"));
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let segments = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files.keys().filter(|path| path.extension().is_some_and(|e| e == "seg")).count()
    };
    // The first record of the third segment, which a power cut takes away again.
    let mut keys = 0_u32;
    while segments(&files()) < 3 {
        db.put("c", &keys.to_le_bytes(), &[7; 500]).unwrap();
        keys += 1;
    }
    keys -= 1;
    let mut files = files();
    drop(db);
    let empty = files.keys().rfind(|path| path.extension().is_some_and(|e| e == "seg"));
    let empty = empty.unwrap().clone();
    files.get_mut(&empty).unwrap()[64..].fill(0);
    let whole = files[&empty].clone();
    let damaged = |damage: &dyn Fn(&mut Vec<u8>)| {
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        for (path, bytes) in &files {
            std::fs::write(path, bytes).unwrap();
        }
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&empty, bytes).unwrap();
        let report = repair(&dir, &RepairOptions::new()).unwrap();
        let db = Options::new().open(&dir).unwrap();
        for key in 0..keys {
            assert!(db.get("c", &key.to_le_bytes()).unwrap().is_some(), "{key}: {report:?}");
        }
        report
    };
    assert!(damaged(&|_| ()).is_ok());
    for at in [0, 9, 20, 35, 45, 50, 61] {
        let report = damaged(&|bytes| bytes[at] ^= 1);
        assert!(report.is_lossless(), "byte {at}: {report:?}");
        assert!(report.notes.iter().any(|n| n.contains("nothing was in segment")), "{report:?}");
    }
    let lossy: [&dyn Fn(&mut Vec<u8>); 4] = [
        &|bytes| bytes.fill(0),
        &|bytes| bytes[20..].fill(0),
        &|bytes| bytes.truncate(40),
        // What is left of frames.
        &|bytes| (bytes[5], bytes[300]) = (0, 1),
    ];
    for (n, damage) in lossy.iter().enumerate() {
        let report = damaged(damage);
        let whats: Vec<&str> = report.lost_ranges.iter().map(|lost| &*lost.what).collect();
        assert!(whats.iter().any(|what| what.contains("held anything")), "{n}: {report:?}");
    }
}

/// The bytes grow up to all of them, in the first half and again in the second.
fn comes_to_its_end_twice(told: &[(bool, u64, u64)]) {
    let (second, first): (Vec<_>, Vec<_>) = told.iter().partition(|(is_second, ..)| *is_second);
    for half in [first, second] {
        assert!(!half.is_empty(), "{told:?}");
        assert!(half.is_sorted_by_key(|(_, done, _)| *done), "{told:?}");
        let (_, done, total) = half.last().unwrap();
        assert_eq!(done, total, "{told:?}");
    }
    assert!(told.is_sorted_by_key(|(is_second, ..)| *is_second), "{told:?}");
}

fn tests() -> Vec<RepairTest> {
    let specimens = [
        Specimen::closed(),
        Specimen::reopened(),
        Specimen::killed(),
        Specimen::sealed(),
        Specimen::mixed(),
    ];
    specimens.into_iter().map(RepairTest::new).collect()
}

/// Goal: one flipped bit, wherever it is, costs the record that it is in, and nothing else;
/// and what it costs is said. Method: bits all over every file, and what a repair makes of each.
#[test]
fn a_flipped_bit_costs_what_it_covers() {
    for test in tests() {
        let mut outcomes = RepairOutcomes::default();
        let (mut bits, started) = (0, Instant::now());
        // Few enough of a large store, and no multiple of a field's length.
        let len: usize = test.specimen.files.values().map(Vec::len).sum();
        let step = if len < 15_000 { 3 } else { 37 };
        for (path, bytes) in &test.specimen.files {
            for bit in (0..bytes.len() * 8).step_by(step) {
                let mut files = test.specimen.files.clone();
                files.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
                let allowed = test.seqno_at(path, (bit / 8) as u64).into_iter().collect();
                let judged = test.judge(&files, Some(&allowed), &mut outcomes);
                let name = test.specimen.name;
                judged.unwrap_or_else(|e| panic!("{name}, {}, bit {bit}: {e}", path.display()));
                bits += 1;
            }
        }
        let rate = f64::from(bits) / started.elapsed().as_secs_f64();
        say!("repair: {bits} bits of {:?}: {outcomes:?}, {rate:.0} a second", test.specimen.name);
        assert!(outcomes.lossless > 0 && outcomes.lossy > 0);
    }
}

/// Goal: whatever happens to one file, the repaired store opens, is whole, and the report covers
/// all that is not there. Method: files cut at every length, missing, with stretches wiped,
/// scrambled and doubled.
#[test]
fn any_damage_of_one_file_is_repaired_and_told() {
    for test in tests() {
        let mut outcomes = RepairOutcomes::default();
        let (mut cases, started) = (0, Instant::now());
        let name = test.specimen.name;
        let mut judge = |path: &Path, what: String, change: &dyn Fn(&mut Vec<u8>)| {
            let mut files = test.specimen.files.clone();
            change(files.get_mut(path).unwrap());
            let judged = test.judge(&files, None, &mut outcomes);
            judged.unwrap_or_else(|e| panic!("{name}, {}, {what}: {e}", path.display()));
            cases += 1;
        };
        for (path, bytes) in &test.specimen.files {
            // A store of many files is looked at in fewer places of each.
            let step = if test.specimen.files.len() < 12 { 1 } else { 5 };
            for len in (0..bytes.len()).step_by(step) {
                judge(path, format!("cut to {len}"), &|b| b.truncate(len));
            }
            for sector in [64, 200, 512] {
                for at in (0..bytes.len()).step_by(sector * step.div_ceil(2)) {
                    let end = (at + sector).min(bytes.len());
                    judge(path, format!("{sector} wiped at {at}"), &|b| b[at..end].fill(0));
                    judge(path, format!("{sector} scrambled at {at}"), &|b| {
                        Rng::new(at as u64).fill(&mut b[at..end]);
                    });
                    for from in (0..bytes.len()).step_by(sector * (2 + step)) {
                        judge(path, format!("{sector} of {from} at {at}"), &|b| {
                            let len = (end - at).min(b.len() - from);
                            b.copy_within(from..from + len, at);
                        });
                    }
                }
            }
        }
        for path in test.specimen.files.keys() {
            let mut files = test.specimen.files.clone();
            files.remove(path);
            let judged = test.judge(&files, None, &mut outcomes);
            judged.unwrap_or_else(|e| panic!("{name} without {}: {e}", path.display()));
            cases += 1;
        }
        let rate = f64::from(cases) / started.elapsed().as_secs_f64();
        say!("repair: {cases} damages of {name:?}: {outcomes:?}, {rate:.0} a second");
    }
}

/// Goal: a power cut in a repair costs nothing: the second repair ends the same. Method: bits and
/// whole files damaged here and there, every crash state of each repair.
#[test]
fn a_power_cut_in_a_repair_costs_nothing() {
    let floor = std::env::var("SILTSTONE_REPAIR_STATES").map_or(40_000, |n| n.parse().unwrap());
    let (mut tally, mut seen) = (RepairTally::default(), HashSet::new());
    let started = Instant::now();
    let tests = tests();
    for round in 0.. {
        let seed = round;
        let test = &tests[usize::try_from(round).unwrap() % tests.len()];
        let mut rng = Rng::new(seed);
        let mut files = test.specimen.files.clone();
        let paths: Vec<_> = files.keys().filter(|p| !p.ends_with("LOCK")).cloned().collect();
        let path = &paths[rng.below(paths.len())];
        match rng.below(4) {
            0 => drop(files.remove(path)),
            1 => {
                let bytes = files.get_mut(path).unwrap();
                let at = rng.below(bytes.len());
                let end = (at + 100).min(bytes.len());
                bytes[at..end].fill(0);
            }
            _ => {
                let bytes = files.get_mut(path).unwrap();
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        let options = CrashOptions { subsets_max: 6, samples: 10, contexts: 1, tears: 12, seed };
        let looked = test.cut_power(&files, &options, &mut seen, &mut tally);
        let name = test.specimen.name;
        looked.unwrap_or_else(|e| panic!("seed {seed}, {name}, {}: {e}", path.display()));
        if tally.distinct >= floor {
            break;
        }
    }
    let rate = tally.distinct as f64 / started.elapsed().as_secs_f64();
    say!("repair: power cuts: {tally:?}, {rate:.0} a second");
}

/// Goal: where the list of segments is lost, a repair does not say that nothing is. Method: a
/// manifest that is empty, scrambled or not there, with a segment in the middle of the log or
/// without it; and one with a flip that can be put right.
#[test]
fn what_nobody_can_know_is_said() {
    let specimen = Specimen::sealed();
    let list = specimen.path("MANIFEST");
    let segments = specimen.segments();
    let run = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let disk = SimVfs::with_files(files);
        repair(Specimen::DIR, &RepairOptions::new().vfs(Arc::new(disk))).unwrap()
    };
    for is_missing in [false, true] {
        for how in 0..3 {
            let mut files = specimen.files.clone();
            match how {
                0 => files.get_mut(&list).unwrap().clear(),
                1 => Rng::new(7).fill(files.get_mut(&list).unwrap()),
                _ => drop(files.remove(&list)),
            }
            if is_missing {
                files.remove(&segments[segments.len() / 2]);
            }
            let report = run(&files);
            assert!(report.may_miss_segments, "{how}: {report}");
            let has_gap = report.notes.iter().any(|note| note.contains("nothing is left of"));
            assert!(has_gap || !is_missing, "{how}: {report}");
        }
    }
    let mut files = specimen.files.clone();
    files.get_mut(&list).unwrap()[20] ^= 1;
    let report = run(&files);
    assert!(!report.damage.is_empty() && !report.may_miss_segments, "{report}");
}
