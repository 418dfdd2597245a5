//! Backups that were damaged since they were made, and what the next one makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::testing::{CrashOptions, SimVfs};
use siltstone::{BackupError, BackupOptions, BackupReport, CompactionOptions, Db, Options};

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
