//! Where backups and stores may be put: whatever is refused is left as it was, to the last byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use siltstone::engine::{RepairError, RepairOptions, repair};
use siltstone::{BackupError, BackupOptions, CompactionOptions, Db, OpenError, Options};

fn open(dir: &Path) -> Db {
    // Files are compared: nothing is to happen to them behind the test's back.
    let options = Options::new().compaction(CompactionOptions::manual()).inline_maintenance(true);
    options.segment_len(64 << 10).open(dir).unwrap()
}

fn fill(dir: &Path, from: u32) -> Db {
    let db = open(dir);
    for key in from..from + 300 {
        db.put("c", &key.to_le_bytes(), &[7; 500]).unwrap();
    }
    db.sync().unwrap();
    db
}

/// Everything below `dir`: directories without bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
            all.insert(path, None);
        } else {
            all.insert(path.clone(), fs::read(&path).ok());
        }
    }
    all
}

/// Goal: a directory that holds anything but a backup of the store is refused, with nothing
/// created there; what nobody has used yet is none of that. Method: one thing at a time in it.
#[test]
fn targets_that_are_not_empty_are_refused_untouched() {
    let temp = tempfile::tempdir().unwrap();
    let db = fill(&temp.path().join("store"), 0);
    let snapshot = db.persist().unwrap();
    let foreign = fill(&temp.path().join("other"), 1000);
    foreign.checkpoint().unwrap();
    let taken = |name: &str| fs::read(temp.path().join("other").join(name)).unwrap();
    type Put = Box<dyn Fn(&Path)>;
    let file = |name: &'static str, bytes: Vec<u8>| -> Put {
        Box::new(move |dir| fs::write(dir.join(name), &bytes).unwrap())
    };
    let refused: Vec<(&str, Put)> = vec![
        ("notes.txt", file("notes.txt", b"mine".to_vec())),
        ("CHECKPOINT", file("CHECKPOINT", taken("CHECKPOINT"))),
        ("UNFINISHED", file("UNFINISHED", Vec::new())),
        ("movie.tmp", file("movie.tmp", b"mine".to_vec())),
        ("1.seg", file("1.seg", b"mine".to_vec())),
        ("photos", Box::new(|dir| fs::create_dir(dir.join("photos")).unwrap())),
        #[cfg(unix)]
        ("link", Box::new(|dir| std::os::unix::fs::symlink("/nowhere", dir.join("link")).unwrap())),
        ("", file("0000000000000001.seg", taken("0000000000000001.seg"))),
        ("", file("MANIFEST", taken("MANIFEST"))),
    ];
    for (n, (name, put)) in refused.iter().enumerate() {
        // The mark of an unfinished backup alone is ours; with something else beside it it is not.
        let target = temp.path().join(format!("target-{n}"));
        fs::create_dir(&target).unwrap();
        put(&target);
        if *name == "UNFINISHED" {
            fs::write(target.join("notes.txt"), b"mine").unwrap();
        }
        let before = tree(&target);
        for of_snapshot in [false, true] {
            let error = match of_snapshot {
                false => db.backup_to(&target, BackupOptions::new()),
                true => db.backup_snapshot_to(&target, snapshot.id, BackupOptions::new()),
            };
            let error = error.unwrap_err();
            let is_right = match &error {
                BackupError::NotEmpty { name: found, .. } => {
                    found == name || *name == "UNFINISHED" && found == "notes.txt"
                }
                BackupError::Foreign { .. } => name.is_empty(),
                _ => false,
            };
            assert!(is_right, "{name}: {error:?}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            assert!(tree(&target) == before, "{name}: changed");
        }
    }
    let clean = temp.path().join("clean");
    fs::create_dir_all(clean.join("lost+found")).unwrap();
    fs::write(clean.join(".DS_Store"), b"of a file manager").unwrap();
    db.backup_to(&clean, BackupOptions::new().verify(true)).unwrap();
    assert_eq!(fs::read(clean.join(".DS_Store")).unwrap(), b"of a file manager");
}

/// Goal: a store is never backed up into itself, by whatever path.
#[test]
fn targets_within_the_store_are_refused_untouched() {
    let temp = tempfile::tempdir().unwrap();
    let store = temp.path().join("store");
    let db = fill(&store, 0);
    fs::create_dir(temp.path().join("else")).unwrap();
    let mut targets = vec![
        store.clone(),
        store.join("backup"),
        store.join("deep/er"),
        temp.path().join("else/../store/backup"),
        temp.path().join("else/not/there/../../../store"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&store, temp.path().join("alias")).unwrap();
        targets.push(temp.path().join("alias"));
        targets.push(temp.path().join("alias/backup"));
    }
    let read_only = Options::new().read_only(true).create(false).open(&store).unwrap();
    let before = tree(temp.path());
    for target in &targets {
        for db in [&db, &read_only] {
            let error = db.backup_to(target, BackupOptions::new()).unwrap_err();
            assert!(matches!(error, BackupError::Within { .. }), "{target:?}: {error}");
            assert!(error.to_string().contains("of the store itself"), "{error}");
        }
    }
    assert!(tree(temp.path()) == before);
    // A name that only begins alike is another directory.
    db.backup_to(temp.path().join("store-backup"), BackupOptions::new()).unwrap();
}

/// Goal: nothing is put into the directory of another store or backup, at whatever depth.
#[test]
fn targets_within_other_stores_are_refused_untouched() {
    let temp = tempfile::tempdir().unwrap();
    let db = fill(&temp.path().join("store"), 0);
    let snapshot = db.persist().unwrap();
    drop(fill(&temp.path().join("other"), 1000));
    db.backup_to(temp.path().join("backup"), BackupOptions::new()).unwrap();
    db.backup_snapshot_to(temp.path().join("then"), snapshot.id, BackupOptions::new()).unwrap();
    fs::create_dir(temp.path().join("backup/photos")).unwrap();
    // Files that are only called so are none of a store.
    fs::create_dir(temp.path().join("program")).unwrap();
    fs::write(temp.path().join("program/MANIFEST"), b"include README\n").unwrap();
    fs::write(temp.path().join("program/BACKUP"), b"by hand").unwrap();
    let before = tree(temp.path());
    for target in ["other/in", "backup/in", "backup/photos/of/me", "then/in", "then/../other/in"] {
        let target = temp.path().join(target);
        let errors = [
            db.backup_to(&target, BackupOptions::new()).unwrap_err(),
            db.backup_snapshot_to(&target, snapshot.id, BackupOptions::new()).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, BackupError::Nested { .. }), "{target:?}: {error}");
            assert!(error.to_string().contains("is a store or a backup"), "{error}");
        }
    }
    assert!(tree(temp.path()) == before);
    db.backup_to(temp.path().join("program/backup"), BackupOptions::new()).unwrap();
}

/// Goal: the same for backups through an address, on either way.
#[cfg(feature = "object-store")]
#[test]
fn addresses_within_other_stores_are_refused_untouched() {
    use siltstone::remote::{Remote, RemoteError};

    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    let db = fill(&root.join("store"), 0);
    drop(fill(&root.join("other"), 1000));
    let remote = |name: &str| Remote::open(&format!("file://{}/{name}", root.display())).unwrap();
    remote("backup").backup(&db, BackupOptions::new()).unwrap();
    let before = tree(&root);
    let refused = [
        remote("other/in").backup(&db, BackupOptions::new()).unwrap_err(),
        remote("backup/in").backup(&db, BackupOptions::new()).unwrap_err(),
        remote("backup").restore(root.join("backup/in"), BackupOptions::new()).unwrap_err(),
        remote("backup").restore(root.join("other/in"), BackupOptions::new()).unwrap_err(),
    ];
    for error in refused {
        let is_right = matches!(&error, RemoteError::Local(BackupError::Nested { .. }));
        assert!(is_right, "{error}");
    }
    let local = db.backup_to(root.join("backup/in"), BackupOptions::new()).unwrap_err();
    assert!(matches!(local, BackupError::Nested { .. }), "{local}");
    assert!(tree(&root) == before);
}

/// Goal: a checkpoint that an open of the earlier backup has left is gone with the next backup.
#[test]
fn a_backup_keeps_no_checkpoint_of_the_earlier_one() {
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("backup");
    let db = fill(&temp.path().join("store"), 0);
    db.backup_to(&target, BackupOptions::new()).unwrap();
    let opened = open(&target);
    opened.checkpoint().unwrap();
    opened.close().unwrap();
    assert!(target.join("CHECKPOINT").exists());
    db.put("c", b"later", b"1").unwrap();
    db.backup_to(&target, BackupOptions::new().verify(true)).unwrap();
    assert!(!target.join("CHECKPOINT").exists());
    let backup = open(&target);
    assert!(backup.recovery_report().notes.is_empty(), "{:?}", backup.recovery_report());
    assert_eq!(backup.get("c", b"later").unwrap().as_deref(), Some(&b"1"[..]));
}

/// Goal: where there is no store and none is to be made, nothing is left.
#[test]
fn nothing_is_left_where_there_is_no_store() {
    let temp = tempfile::tempdir().unwrap();
    let (empty, used) = (temp.path().join("empty"), temp.path().join("used"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&used).unwrap();
    fs::write(used.join("notes.txt"), b"mine").unwrap();
    let before = tree(temp.path());
    for dir in [&empty, &used, &temp.path().join("nowhere")] {
        for read_only in [false, true] {
            let opened = Options::new().create(false).read_only(read_only).open(dir);
            assert!(matches!(opened, Err(OpenError::Missing { .. })), "{opened:?}");
        }
        for dry_run in [false, true] {
            let repaired = repair(dir, &RepairOptions::new().dry_run(dry_run));
            assert!(matches!(repaired, Err(RepairError::Missing { .. })), "{repaired:?}");
        }
    }
    assert!(tree(temp.path()) == before);
}

#[cfg(feature = "cli")]
mod program {
    use std::process::Command;

    use super::*;

    fn fails(dir: &Path, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siltstone"));
        let output = command.current_dir(dir).args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        said
    }

    #[test]
    fn the_program_leaves_alone_what_it_refuses() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        drop(fill(&dir.join("store"), 0));
        drop(fill(&dir.join("other"), 1000));
        open(&dir.join("store")).backup_to(dir.join("backup"), BackupOptions::new()).unwrap();
        fs::create_dir_all(dir.join("used/photos")).unwrap();
        fs::write(dir.join("used/movie.tmp"), b"mine").unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
        let before = tree(dir);
        let verbs: [&[&str]; 12] = [
            &["compact"],
            &["repair"],
            &["repair", "--dry-run"],
            &["check"],
            &["stats"],
            &["inspect"],
            &["tail"],
            &["dump"],
            &["snapshots", "list"],
            &["snapshots", "create"],
            &["snapshots", "drop", "1"],
            &["snapshots", "rollback", "1"],
        ];
        for verb in verbs {
            for place in ["empty", "used"] {
                let args = match verb {
                    [first, second, rest @ ..] if *first == "snapshots" => {
                        [&[*first, *second, place], rest].concat()
                    }
                    verb => [&[verb[0], place], &verb[1..]].concat(),
                };
                let said = fails(dir, &args);
                assert!(said.contains(place), "{args:?}: {said}");
            }
        }
        assert!(fails(dir, &["backup", "store", "used"]).contains("not empty"));
        assert!(fails(dir, &["backup", "store", "store"]).contains("store itself"));
        assert!(fails(dir, &["backup", "store", "store/backup"]).contains("store itself"));
        assert!(fails(dir, &["backup", "store", "other/new"]).contains("is a store or a backup"));
        assert!(fails(dir, &["backup", "store", "backup/new"]).contains("is a store or a backup"));
        assert!(fails(dir, &["restore", "backup", "store/new"]).contains("is a store or a backup"));
        assert!(fails(dir, &["backup", "empty", "new"]).contains("no store"));
        assert!(fails(dir, &["restore", "backup", "used"]).contains("not empty"));
        assert!(fails(dir, &["restore", "backup", "backup"]).contains("are one"));
        assert!(fails(dir, &["restore", "backup", "backup/new"]).contains("backup itself"));
        assert!(fails(dir, &["restore", "backup", "store"]).contains("not empty"));
        assert!(fails(dir, &["restore", "empty", "new"]).contains("no store"));
        assert!(tree(dir) == before);
    }
}
