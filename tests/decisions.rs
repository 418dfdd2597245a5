//! The decision table of recovery, walked: every case is brought about for real, and what the open
//! does about it is what [`Case::decision`] says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::engine::{Case, Decision};
use siltstone::testing::store::{Run, Setup, Specimen, Step, Workload, resign};
use siltstone::testing::{CrashOptions, SimVfs};
use siltstone::{Db, Durability, OpenError, Options, WriteBatch};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A disk on which an open meets the case.
fn bring_about(case: Case) -> SimVfs {
    let (killed, sealed) = (Specimen::killed(), Specimen::sealed());
    let (first, last) = ends_of(&sealed);
    let mut files = sealed.files.clone();
    match case {
        Case::TornTail => write(&mut files, &last, |b| *b.last_mut().unwrap() = 1),
        Case::BelowWatermark => {
            let sim = SimVfs::new();
            let db = Specimen::open_on(&sim).unwrap();
            (0..3).for_each(|key| put(&db, key, 50));
            sim.kill(|| drop(db));
            files = sim.snapshot();
            let first = sealed.path("0000000000000001.seg");
            write(&mut files, &first, |bytes| bytes[100] ^= 1);
        }
        Case::ShortFile => write(&mut files, &last, |bytes| bytes.truncate(bytes.len() - 1)),
        Case::DamagedHints => write(&mut files, &first, |bytes| *bytes.last_mut().unwrap() ^= 1),
        Case::DamagedSealed => write(&mut files, &first, |bytes| bytes.truncate(300)),
        Case::DamagedHeader => write(&mut files, &first, |bytes| bytes[40] ^= 1),
        Case::ForeignSegment => {
            let other = killed.files[&killed.segments()[0]].clone();
            write(&mut files, &first, |bytes| *bytes = other);
        }
        Case::MissingSegment => drop(files.remove(&first)),
        Case::MissingManifest => drop(files.remove(&sealed.path("MANIFEST"))),
        Case::TornManifest => write(&mut files, &sealed.path("MANIFEST"), |bytes| bytes.push(9)),
        Case::Inconsistent => {
            // The collection of the first record of the tail, behind segment, frame and 16 bytes.
            write(&mut files, &last, |bytes| bytes[64 + 40 + 16] = 99);
            resign(&mut files);
        }
        Case::UnlistedEmptySegment => {
            let header = files[&last][..64].to_vec();
            files.insert(sealed.path("0000000000000099.seg"), header);
        }
        Case::DeadSegment => {
            // Sixteen digits that were given out long ago.
            files.insert(sealed.path("0000000000000000.seg"), files[&first].clone());
        }
        Case::DamagedCheckpoint => {
            files.insert(sealed.path("CHECKPOINT"), b"not a checkpoint".to_vec());
        }
        Case::StaleCheckpoint => {
            let sim = SimVfs::new();
            let other = Options::new().vfs(Arc::new(sim.clone())).store_id(*b"another store id");
            let other = other.open("/other").unwrap();
            put(&other, 1, 50);
            other.close().unwrap();
            let written = sim.snapshot().remove(Path::new("/other/CHECKPOINT")).unwrap();
            files.insert(sealed.path("CHECKPOINT"), written);
        }
        Case::EpochAhead | Case::UnlistedSegment => return with_old_manifest(case),
        Case::Gap | Case::IncompleteBatch => return crash_with(case),
        case => panic!("nobody knows how to bring {case:?} about"),
    }
    SimVfs::with_files(&files)
}

/// The first segment that is sealed, and the one that the log ends in: compaction may have written
/// younger ones.
fn ends_of(specimen: &Specimen) -> (PathBuf, PathBuf) {
    let db = Specimen::open(&specimen.files).unwrap();
    let segments = db.stats().segments;
    let first = segments.iter().find(|s| s.is_sealed).unwrap();
    let last = segments.iter().rfind(|s| !s.is_sealed && s.log_bytes > 64).unwrap();
    let path = |id| specimen.path(&format!("{id:016}.seg"));
    (path(first.id), path(last.id))
}

fn write(files: &mut Files, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    change(files.get_mut(path).unwrap());
}

fn put(db: &Db, key: u32, len: usize) {
    let mut batch = WriteBatch::new();
    batch.put("c", &key.to_le_bytes(), &vec![3; len]).unwrap();
    db.write(&mut batch, Durability::Sync).unwrap();
}

/// A store whose manifest is that of an earlier moment: before the last open, or before the last
/// segment.
fn with_old_manifest(case: Case) -> SimVfs {
    let sim = SimVfs::new();
    let db = Specimen::open_on(&sim).unwrap();
    let manifest = Path::new(Specimen::DIR).join("MANIFEST");
    put(&db, 1, 100);
    let old = sim.snapshot()[&manifest].clone();
    let mut key = 2;
    if case == Case::EpochAhead {
        // Not closed: behind the end of a closed log nothing is looked at.
        sim.kill(|| drop(db));
        let db = Specimen::open_on(&sim).unwrap();
        put(&db, key, 100);
        sim.kill(|| drop(db));
    } else {
        while db.stats().segments.len() < 2 {
            put(&db, key, 100);
            key += 1;
        }
        sim.kill(|| drop(db));
    }
    let mut files = sim.snapshot();
    files.insert(manifest, old);
    SimVfs::with_files(&files)
}

/// What a power cut left of a batch over several segments, such that an open reports the case.
fn crash_with(case: Case) -> SimVfs {
    let mut batch = WriteBatch::new();
    for key in 0..12_u8 {
        batch.put("c", &[key], &[key; 250]).unwrap();
    }
    let steps = vec![Step::Write(batch, Durability::Sync)];
    let setup = Setup::of(1024);
    let mut workload = Workload { seed: 0, dir: Specimen::DIR.into(), setup, steps };
    let (sim, _) = Run::whole(&mut workload).unwrap();
    let found = sim.crash_states(&CrashOptions::default()).find(|state| {
        let db = workload.options(&state.disk()).open(&workload.dir).unwrap();
        db.recovery_report().notes.iter().any(|note| note.case == case)
    });
    found.unwrap_or_else(|| panic!("no power cut leaves {case:?}")).disk()
}

#[test]
fn every_case_is_decided_as_the_table_says() {
    for case in Case::ALL {
        let sim = bring_about(case);
        let before = sim.snapshot();
        let opened = Specimen::open_on(&sim);
        if case.decision() == Decision::Refuse {
            let Err(OpenError::Corrupt(e)) = opened else { panic!("{case:?}: {opened:?}") };
            assert!(e.what.contains(case.label()), "{case:?}: {e}");
            assert_eq!(e.file.parent(), Some(Path::new(Specimen::DIR)), "{case:?}: {e}");
            let after = sim.snapshot();
            assert!(before.iter().all(|(path, bytes)| after[path] == *bytes), "{case:?}");
            continue;
        }
        let db = opened.unwrap_or_else(|e| panic!("{case:?}: {e}"));
        let report = db.recovery_report();
        let note = report.notes.iter().find(|note| note.case == case);
        let note = note.unwrap_or_else(|| panic!("{case:?} is not in {report:?}"));
        assert!(note.to_string().contains(case.label()));
        assert!(!report.clean, "{case:?}");
        if case.decision() == Decision::Remove {
            assert!(!sim.snapshot().contains_key(&note.file), "{case:?}: {note}");
        }
        let check = db.check().unwrap();
        assert!(check.is_ok() || case == Case::DamagedHints, "{case:?}: {:?}", check.defects);
    }
}
