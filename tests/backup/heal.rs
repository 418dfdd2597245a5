//! Backups that were damaged since they were made, and what the next one makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::engine::{RepairError, RepairOptions, repair};
use siltstone::testing::{CrashOptions, SimVfs};
use siltstone::{
    BackupError, BackupOptions, BackupReport, CompactionOptions, Db, OpenError, Options,
};

const STORE: &str = "/store";
const TARGET: &str = "/backup";

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn options(disk: &SimVfs) -> Options {
    let compaction = CompactionOptions::manual();
    let options = Options::new().vfs(Arc::new(disk.clone())).inline_maintenance(true);
    options.segment_len(2048).compaction(compaction).checkpoint_every(0)
}

fn open(disk: &SimVfs) -> Db {
    options(disk).open(STORE).unwrap()
}

fn backup(db: &Db) -> Result<BackupReport, BackupError> {
    db.backup_to(TARGET, BackupOptions::new().hard_links(false).verify(true))
}

/// A store with segments of both kinds and an open one, and its backup.
fn both() -> Files {
    let disk = SimVfs::new();
    let db = open(&disk);
    for key in 0..60u8 {
        db.put("c", &[key % 40], &[key; 100]).unwrap();
        if key == 45 {
            db.compact_now().unwrap();
        }
    }
    let report = backup(&db).unwrap();
    assert!(report.segments_copied > 3, "{report:?}");
    drop(db);
    disk.snapshot()
}

fn of_target(files: &Files) -> Vec<(&PathBuf, &Vec<u8>)> {
    let is_segment = |path: &Path| path.extension().is_some_and(|e| e == "seg");
    files.iter().filter(|(path, _)| path.starts_with(TARGET) && is_segment(path)).collect()
}

/// Goal: a byte that went wrong in a backup is put right by the next one that is verified; not from
/// a source that is damaged itself. Method: every seventh byte of each file, and its last ones.
#[test]
fn what_is_damaged_in_a_backup_is_copied_again() {
    let whole = both();
    let (mut healed, mut copied) = (0, 0);
    for (path, bytes) in of_target(&whole) {
        for at in (0..bytes.len()).filter(|at| at % 7 == 0 || at + 40 > bytes.len()) {
            let mut files = whole.clone();
            files.get_mut(path).unwrap()[at] ^= 0x10;
            let disk = SimVfs::with_files(&files);
            let report = backup(&open(&disk)).unwrap_or_else(|e| panic!("{path:?} {at}: {e}"));
            let after = disk.snapshot();
            if report.segments_healed + report.segments_copied == 0 {
                // It means nothing: what the header does not use, say.
                assert_eq!(of_target(&after), of_target(&files), "{path:?} {at}");
                continue;
            }
            assert_eq!(of_target(&after), of_target(&whole), "{path:?} {at}");
            healed += report.segments_healed;
            copied += report.segments_copied;
            assert_eq!(report.segments_healed + report.segments_copied, 1);

            // The same place at the source: nobody knows of a better one.
            let source = Path::new(STORE).join(path.file_name().unwrap());
            files.get_mut(&source).unwrap()[at] ^= 0x20;
            let disk = SimVfs::with_files(&files);
            if let Ok(db) = options(&disk).open(STORE) {
                let refused = backup(&db).unwrap_err();
                let is_right = matches!(refused, BackupError::Damaged(_) | BackupError::Target(_));
                assert!(is_right, "{path:?} {at}: {refused}");
            }
        }
    }
    say!("backups: {healed} damaged segments healed, {copied} seen to be damaged at once");
    assert!(healed > 500 && copied > 50, "{healed} {copied}");
}

/// Goal: a power cut while a backup is healed leaves each of its files as it was or whole, and the
/// next one goes on. Method: every crash state, with damage in two files.
#[test]
fn a_crash_while_a_backup_is_healed_loses_nothing() {
    let whole = both();
    let mut damaged = whole.clone();
    let paths: Vec<PathBuf> = of_target(&whole).into_iter().map(|(path, _)| path.clone()).collect();
    for path in &paths[..2] {
        damaged.get_mut(path).unwrap()[300] ^= 1;
    }
    let disk = SimVfs::with_files(&damaged);
    let report = backup(&open(&disk)).unwrap();
    assert_eq!(report.segments_healed, 2);
    disk.mark();
    let mut states = 0;
    let crash = CrashOptions { samples: 50, ..CrashOptions::default() };
    for state in disk.crash_states(&crash) {
        let left = state.disk().snapshot();
        for path in &paths {
            let found = &left[path];
            assert!(*found == whole[path] || *found == damaged[path], "{path:?} {}", state.point);
        }
        let disk = state.disk();
        backup(&open(&disk)).unwrap();
        assert_eq!(of_target(&disk.snapshot()), of_target(&whole), "{}", state.point);
        states += 1;
    }
    say!("backups: {states} crash states while healing, 0 violations");
    assert!(states > 30, "{states}");
}

/// Goal: the list of segments of a backup that is damaged is written anew by the next one that is
/// verified, and by no other. Method: every byte of it; power cuts meanwhile.
#[test]
fn a_damaged_list_of_segments_is_written_anew() {
    let whole = both();
    let list = Path::new(TARGET).join("MANIFEST");
    let mut healed = 0;
    for at in 0..whole[&list].len() {
        let mut files = whole.clone();
        files.get_mut(&list).unwrap()[at] ^= 0x10;
        let disk = SimVfs::with_files(&files);
        if disk_opens(&disk) {
            // It means nothing, or is the end of the list, torn.
            continue;
        }
        let db = open(&disk);
        let refused = db.backup_to(TARGET, BackupOptions::new()).unwrap_err();
        assert!(refused.to_string().contains("a backup that is verified"), "{at}: {refused}");
        assert_eq!(of_target(&disk.snapshot()), of_target(&files), "{at}");
        disk.mark();
        let report = backup(&db).unwrap_or_else(|e| panic!("{at}: {e}"));
        // The open one, of which nobody knows how much was there.
        assert_eq!((report.segments_copied, report.segments_linked), (1, 0), "{at}: {report:?}");
        assert_eq!(of_target(&disk.snapshot()), of_target(&whole), "{at}");
        healed += 1;
        if at % 16 != 0 {
            continue;
        }
        for state in disk.crash_states(&CrashOptions { samples: 10, ..CrashOptions::default() }) {
            let disk = state.disk();
            backup(&open(&disk)).unwrap();
            assert_eq!(of_target(&disk.snapshot()), of_target(&whole), "{}", state.point);
        }
    }
    say!("backups: {healed} damaged lists written anew");
    assert!(healed > 100, "{healed}");
}

fn disk_opens(disk: &SimVfs) -> bool {
    options(disk).read_only(true).open(TARGET).is_ok()
}

/// Goal: what has gone on as a store of its own, or is a later backup, is not overwritten because
/// its list of segments is damaged.
#[test]
fn a_damaged_list_of_a_later_state_is_left_alone() {
    let earlier = both();
    let went_on = |dir: &str, records: u8| {
        let disk = SimVfs::with_files(&earlier);
        let db = options(&disk).open(dir).unwrap();
        for key in 0..records {
            db.put("c", &[key], b"mine").unwrap();
        }
        (disk, db)
    };
    let mut all = Vec::new();
    for records in [1, 30] {
        let (disk, db) = went_on(TARGET, records);
        drop(db);
        all.push(disk.snapshot());
        let (disk, db) = went_on(STORE, records);
        backup(&db).unwrap();
        drop(db);
        let mut later = disk.snapshot();
        later.retain(|path, _| path.starts_with(TARGET));
        later.extend(earlier.iter().filter(|(path, _)| path.starts_with(STORE)).map(pair));
        all.push(later);
    }
    // Another copy of the store, with other records under the same numbers: fewer, as many, more.
    for records in [1, 10, 200] {
        let store = earlier.iter().filter(|(path, _)| path.starts_with(STORE));
        let moved = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            (Path::new(TARGET).join(path.strip_prefix(STORE).unwrap()), bytes.clone())
        };
        let mut files: Files = store.clone().map(pair).chain(store.map(moved)).collect();
        files.remove(&Path::new(TARGET).join("CHECKPOINT"));
        let disk = SimVfs::with_files(&files);
        for (dir, records, value) in [(TARGET, records, b"mine"), (STORE, 100, b"ours")] {
            let db = options(&disk).open(dir).unwrap();
            for key in 0..records {
                db.put("c", &[key], value).unwrap();
            }
        }
        all.push(disk.snapshot());
    }
    for (n, mut files) in all.into_iter().enumerate() {
        files.get_mut(&Path::new(TARGET).join("MANIFEST")).unwrap()[20] ^= 1;
        let disk = SimVfs::with_files(&files);
        let refused = backup(&open(&disk)).unwrap_err();
        assert!(matches!(refused, BackupError::Target(_)), "{n}: {refused}");
        let of = |files: &Files| -> Files {
            files.iter().filter(|(path, _)| path.starts_with(TARGET)).map(pair).collect()
        };
        assert!(of(&disk.snapshot()) == of(&files), "{n}: changed");
    }
}

fn pair((path, bytes): (&PathBuf, &Vec<u8>)) -> (PathBuf, Vec<u8>) {
    (path.clone(), bytes.clone())
}

/// Goal: what has come of a first backup that was cut off is not taken for a store that has lost
/// its list of segments. Method: every crash state: the directory is empty, or says that it is
/// unfinished to whoever opens or repairs it, or is done; in the end the next backup is.
#[test]
fn a_first_backup_that_was_cut_off_says_so() {
    let mut files = both();
    files.retain(|path, _| path.starts_with(STORE));
    let disk = SimVfs::with_files(&files);
    let db = open(&disk);
    disk.mark();
    backup(&db).unwrap();
    let (mut unfinished, mut done) = (0, 0);
    for state in disk.crash_states(&CrashOptions { samples: 50, ..CrashOptions::default() }) {
        let disk = state.disk();
        let has_segments = !of_target(&disk.snapshot()).is_empty();
        match options(&disk).read_only(true).open(TARGET) {
            Ok(_) => done += 1,
            Err(OpenError::Unfinished { .. }) => {
                let refused = options(&disk).open(TARGET).unwrap_err();
                assert!(matches!(refused, OpenError::Unfinished { .. }), "{refused}");
                let repair_options = RepairOptions::new().vfs(Arc::new(disk.clone()));
                let repaired = repair(TARGET, &repair_options);
                if has_segments {
                    let refused = repaired.unwrap_err();
                    assert!(matches!(refused, RepairError::Unfinished { .. }), "{refused}");
                    unfinished += 1;
                }
            }
            // While the list takes the place of the mark, there is neither.
            Err(OpenError::Missing { .. }) => {}
            Err(e) => panic!("{}: {e}", state.point),
        }
        backup(&open(&disk)).unwrap();
        assert!(disk_opens(&disk), "{}", state.point);
    }
    say!("backups: {unfinished} states of a first one say that it is not finished, {done} are");
    assert!(unfinished > 30 && done > 0, "{unfinished} {done}");
}

/// Goal: of a store that was opened again since, a later backup has frames of later epochs; a power
/// cut in it leaves the earlier backup, and these are not taken for edits that it has lost.
#[test]
fn what_a_later_backup_brings_is_not_part_of_the_earlier_one() {
    let mut disk = SimVfs::new();
    for key in 0..3u8 {
        // What was there before stays.
        disk = SimVfs::with_files(&disk.snapshot());
        let options = Options::new().vfs(Arc::new(disk.clone())).inline_maintenance(true);
        let db = options.open(STORE).unwrap();
        db.put("c", &[key], b"value").unwrap();
        db.backup_to(TARGET, BackupOptions::new()).unwrap();
    }
    let mut ahead = 0;
    for state in disk.crash_states(&CrashOptions::default()) {
        let db = options(&state.disk()).read_only(true).open(TARGET).unwrap();
        assert!((2..=3).contains(&db.len("c")), "{}: {}", state.point, db.len("c"));
        ahead += u64::from(!db.recovery_report().notes.is_empty());
    }
    assert!(ahead > 100, "{ahead}");
}
