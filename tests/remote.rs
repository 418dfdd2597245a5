//! Backups in object stores: a directory and memory stand for all of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use siltstone::remote::{Remote, RemoteError};
use siltstone::{
    BackupError, BackupOptions, CompactionOptions, Db, Durability, OpenError, Options, WriteBatch,
};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(dir: &Path) -> Db {
    // Which objects are kept is counted: one that is sealed between two backups is another one.
    let options = Options::new().compaction(CompactionOptions::manual()).inline_maintenance(true);
    options.segment_len(64 << 10).open(dir).unwrap()
}

fn write(db: &Db, keys: std::ops::Range<u32>, len: usize) {
    for key in keys {
        let mut batch = WriteBatch::new();
        let value = key.to_le_bytes().repeat(len / 4);
        batch.put("c", &(key % 5000).to_le_bytes(), &value).unwrap();
        db.write(&mut batch, Durability::Buffered).unwrap();
    }
}

/// Verifies a store and returns what is in it.
fn contents(dir: &Path) -> Contents {
    let db = Options::new().read_only(true).create(false).open(dir).unwrap();
    assert!(db.recovery_report().notes.is_empty());
    let check = db.check().unwrap();
    assert!(check.is_ok(), "{:?}", check.defects);
    let entries = db.iter("c").map(|entry| entry.unwrap());
    entries.map(|entry| (entry.key.to_vec(), entry.value.to_vec())).collect()
}

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// A store of `keys` keys in the directory `store`, and a place for its backups in the directory
/// `objects`, both in a new directory.
fn store_and_place(keys: u32) -> (tempfile::TempDir, Db, Remote) {
    let temp = tempfile::tempdir().unwrap();
    let remote = Remote::open(&url(&temp.path().join("objects"))).unwrap();
    let db = open(&temp.path().join("store"));
    write(&db, 0..keys, 200);
    (temp, db, remote)
}

/// The objects with segments below `dir`.
fn objects(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("segments")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_backup_comes_back_as_it_went() {
    let temp = tempfile::tempdir().unwrap();
    let memory = Arc::new(InMemory::new());
    let places = [
        Remote::open(&url(&temp.path().join("with space/objects"))).unwrap(),
        Remote::new(memory, "some/prefix").unwrap(),
    ];
    let store = temp.path().join("store");
    let db = open(&store);
    for (i, remote) in places.iter().enumerate() {
        let missing = remote.restore(temp.path().join("no"), BackupOptions::new()).unwrap_err();
        assert!(matches!(missing, RemoteError::Missing { .. }), "{missing}");
        // A file is named by a path that leads to it.
        let said = missing.to_string();
        assert_eq!(said.contains(&*temp.path().to_string_lossy()), i == 0, "{said}");
        for round in 0..3_u32 {
            write(&db, round * 1500..round * 1500 + 2000, 200);
            db.sync().unwrap();
            let report = remote.backup(&db, BackupOptions::new()).unwrap();
            assert!(report.segments_copied > 0, "{report:?}");
            if round > 0 {
                assert!(report.segments_kept > 0, "{report:?}");
            }
            let dir = temp.path().join(format!("restored-{i}-{round}"));
            let restored = remote.restore(&dir, BackupOptions::new()).unwrap();
            assert_eq!(restored.seqno, report.seqno);
            assert!(contents(&dir) == contents(&store));
            let refused = remote.restore(&dir, BackupOptions::new()).unwrap_err();
            assert!(refused.to_string().contains("a store in"), "{refused}");
        }
        // Full segments get their footer in the background; when all have, nothing is moved.
        let again = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let again = remote.backup(&db, BackupOptions::new()).unwrap();
            (again.segments_copied == 0).then_some(again)
        });
        assert_eq!(again.map(|again| again.files_removed), Some(0));
    }
    assert!(Remote::open("memory:///").unwrap().backup(&db, BackupOptions::new()).is_ok());
    // Segments longer than a part go in several requests.
    let large = Options::new().segment_len(40 << 20).open(temp.path().join("large")).unwrap();
    write(&large, 0..30, 1_000_000);
    let remote = Remote::open(&url(&temp.path().join("large-objects"))).unwrap();
    let report = remote.backup(&large, BackupOptions::new()).unwrap();
    assert!(report.bytes_copied > 28 << 20, "{report:?}");
    let dir = temp.path().join("large-restored");
    remote.restore(&dir, BackupOptions::new()).unwrap();
    assert!(contents(&dir).len() == 30);
}

/// Goal: an upload that is cut off leaves the earlier backup, and the next one does not begin
/// anew. Method: the process dies in the middle: segments are there, the catalog is the old one.
#[test]
fn an_interrupted_upload_goes_on() {
    let (temp, db, remote) = store_and_place(2000);
    let (store, place) = (temp.path().join("store"), temp.path().join("objects"));
    remote.backup(&db, BackupOptions::new()).unwrap();
    let (earlier, catalog) = (contents(&store), fs::read(place.join("BACKUP")).unwrap());
    let kept = objects(&place);
    // As if the earlier objects had not been removed yet, and the catalog not been written.
    let saved: Vec<(PathBuf, Vec<u8>)> =
        kept.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    write(&db, 2000..4500, 200);
    let whole = remote.backup(&db, BackupOptions::new()).unwrap();
    for (path, bytes) in &saved {
        fs::write(path, bytes).unwrap();
    }
    fs::write(place.join("BACKUP"), &catalog).unwrap();
    let half: Vec<PathBuf> = objects(&place).into_iter().filter(|p| !kept.contains(p)).collect();
    for path in &half[half.len() / 2..] {
        fs::remove_file(path).unwrap();
    }
    let dir = temp.path().join("earlier");
    remote.restore(&dir, BackupOptions::new()).unwrap();
    assert!(contents(&dir) == earlier, "the earlier backup stands");
    let resumed = remote.backup(&db, BackupOptions::new()).unwrap();
    assert!(resumed.segments_copied < whole.segments_copied, "{resumed:?} {whole:?}");
    let dir = temp.path().join("restored");
    remote.restore(&dir, BackupOptions::new()).unwrap();
    assert!(contents(&dir) == contents(&store));
    assert_eq!(objects(&place).len() as u64, resumed.segments_kept + resumed.segments_copied);
}

#[test]
fn an_interrupted_restore_goes_on() {
    let (temp, db, remote) = store_and_place(3000);
    let (store, dir) = (temp.path().join("store"), temp.path().join("restored"));
    remote.backup(&db, BackupOptions::new()).unwrap();
    let whole = remote.restore(&dir, BackupOptions::new()).unwrap();
    fs::remove_file(dir.join("MANIFEST")).unwrap();
    fs::remove_file(dir.join("0000000000000002.seg")).unwrap();
    fs::write(dir.join("0000000000000003.seg"), b"half").unwrap();
    fs::write(dir.join("0000000000000004.seg.tmp"), b"half").unwrap();
    let resumed = remote.restore(&dir, BackupOptions::new()).unwrap();
    assert_eq!(resumed.segments_copied, 2, "{resumed:?}");
    assert_eq!(resumed.segments_kept, whole.segments_copied - 2);
    assert!(contents(&dir) == contents(&store));
}

/// Goal: no damaged object gets into a store. Method: each object in turn gets a flipped bit, is
/// cut, is removed.
#[test]
fn damaged_objects_are_refused() {
    let (temp, db, remote) = store_and_place(2000);
    let place = temp.path().join("objects");
    remote.backup(&db, BackupOptions::new()).unwrap();
    let mut paths = objects(&place);
    assert!(paths.len() > 4);
    paths.push(place.join("BACKUP"));
    for (n, path) in paths.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() * (n + 1) / (paths.len() + 1)] ^= 4;
        let cut = bytes[..bytes.len() - 1].to_vec();
        for (how, damaged) in [Some(flipped), Some(cut), None].into_iter().enumerate() {
            match damaged {
                Some(damaged) => fs::write(path, damaged).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let dir = temp.path().join(format!("restored-{n}-{how}"));
            let refused = remote.restore(&dir, BackupOptions::new()).unwrap_err();
            let is_catalog = path.ends_with("BACKUP") && how == 2;
            match refused {
                RemoteError::Missing { .. } if is_catalog => {}
                RemoteError::Damaged { object, .. } if !is_catalog => {
                    assert!(object.ends_with(path.file_name().unwrap().to_str().unwrap()));
                }
                other => panic!("{path:?}, {how}: {other}"),
            }
            assert!(!dir.join("MANIFEST").exists());
            // What has come is not taken for a store that has lost its list of segments.
            if path.ends_with("BACKUP") {
                assert!(!dir.exists());
            } else {
                let refused = Db::open(&dir).unwrap_err();
                assert!(matches!(refused, OpenError::Unfinished { .. }), "{refused}");
            }
            fs::write(path, &bytes).unwrap();
        }
    }
}

#[test]
fn places_of_other_stores_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().join("objects");
    let remote = Remote::open(&url(&place)).unwrap();
    let (one, other) = (open(&temp.path().join("one")), open(&temp.path().join("other")));
    write(&one, 0..1000, 200);
    write(&other, 0..1000, 200);
    remote.backup(&one, BackupOptions::new()).unwrap();
    let restored = temp.path().join("restored");
    remote.restore(&restored, BackupOptions::new()).unwrap();
    // Another store, one that went its own way, and one that has gone back.
    let own = open(&restored);
    write(&own, 0..1000, 100);
    write(&one, 1000..1100, 200);
    remote.backup(&one, BackupOptions::new()).unwrap();
    let before = fs::read(place.join("BACKUP")).unwrap();
    for db in [&other, &own] {
        let refused = remote.backup(db, BackupOptions::new()).unwrap_err();
        assert!(matches!(refused, RemoteError::Diverged { .. }), "{refused}");
    }
    let early = temp.path().join("early");
    one.backup_to(&early, BackupOptions::new()).unwrap();
    assert!(fs::read(place.join("BACKUP")).unwrap() == before);
    write(&one, 1100..1200, 200);
    remote.backup(&one, BackupOptions::new()).unwrap();
    let early = open(&early);
    let refused = remote.backup(&early, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, RemoteError::Diverged { .. }), "{refused}");
    for wrong in ["nonsense", "ftp://host/dir", "s3:", ""] {
        assert!(matches!(Remote::open(wrong), Err(RemoteError::Url { .. })), "{wrong}");
    }
    // Not built with it: the error says how to.
    let refused = Remote::open("s3://bucket/prefix").unwrap_err().to_string();
    assert!(refused.contains("object_store/aws"), "{refused}");
}

/// Goal: what comes back from the backup of a snapshot is what the snapshot holds, and the store is
/// as it was; a place with a backup of the store is left as it is. Method: to new places, after
/// overwrites, deletes and a compaction that moved what the snapshot needs.
#[test]
fn a_snapshot_goes_to_an_object_store() {
    let temp = tempfile::tempdir().unwrap();
    let store = temp.path().join("store");
    let places = [
        Remote::open(&url(&temp.path().join("objects"))).unwrap(),
        Remote::new(Arc::new(InMemory::new()), "prefix").unwrap(),
    ];
    let db = open(&store);
    write(&db, 0..3000, 200);
    let used = Remote::open(&url(&temp.path().join("used"))).unwrap();
    let earlier = used.backup(&db, BackupOptions::new()).unwrap();
    let snapshot = db.persist().unwrap();
    let then = contents(&store);
    write(&db, 1000..4000, 100);
    assert!((0..500u32).all(|key| db.delete("c", &key.to_le_bytes()).unwrap()));
    db.compact_now().unwrap();
    db.sync().unwrap();
    let (now, files) = (contents(&store), fs::read_dir(&store).unwrap().count());
    for (i, remote) in places.iter().enumerate() {
        let missing = remote.backup_snapshot(&db, snapshot.id + 7, BackupOptions::new());
        let missing = missing.unwrap_err();
        assert!(missing.to_string().contains("snapshot"), "{missing}");
        let options = BackupOptions::new().verify(true);
        let report = remote.backup_snapshot(&db, snapshot.id, options).unwrap();
        assert_eq!(report.seqno, snapshot.seqno);
        let dir = temp.path().join(format!("restored-{i}"));
        remote.restore(&dir, BackupOptions::new()).unwrap();
        assert!(contents(&dir) == then, "place {i}");
        let ids: Vec<u64> = open(&dir).snapshots().iter().map(|s| s.id).collect();
        assert_eq!(ids, [snapshot.id], "place {i}");
        // It goes its own way from there.
        let refused = remote.backup(&db, BackupOptions::new()).unwrap_err();
        assert!(matches!(refused, RemoteError::Diverged { .. }), "{refused}");
    }
    let refused = used.backup_snapshot(&db, snapshot.id, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, RemoteError::NotEmpty { .. }), "{refused}");
    let restored = used.restore(temp.path().join("earlier"), BackupOptions::new()).unwrap();
    assert_eq!(restored.seqno, earlier.seqno);
    used.backup(&db, BackupOptions::new()).unwrap();
    assert_eq!(fs::read_dir(&store).unwrap().count(), files, "nothing is left beside the store");
    assert!(contents(&store) == now);
    assert!(db.check().unwrap().is_ok());
}

/// Goal: a backup that is to be verified is read again, the objects too that were there already.
/// Method: an object that the next backup keeps is damaged, in its bytes and in its length.
#[test]
fn a_verified_backup_is_read_again() {
    let (temp, db, remote) = store_and_place(2000);
    let place = temp.path().join("objects");
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let sum = Arc::clone(&told);
    let options = BackupOptions::new().verify(true).progress(move |done| {
        if done.is_verifying {
            sum.fetch_max(done.bytes_done, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let report = remote.backup(&db, options).unwrap();
    let bytes = report.bytes_copied;
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), bytes, "all of it is read");
    let object = objects(&place).remove(1);
    let whole = fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(&object, &flipped).unwrap();
    let unseen = remote.backup(&db, BackupOptions::new()).unwrap();
    assert!(unseen.segments_kept > 2, "{unseen:?}");
    let restored = remote.restore(temp.path().join("refused"), BackupOptions::new()).unwrap_err();
    let RemoteError::Damaged { object: named, .. } = restored else { panic!("{restored}") };
    assert!(named.ends_with(object.file_name().unwrap().to_str().unwrap()), "{named}");
    let healed = remote.backup(&db, BackupOptions::new().verify(true)).unwrap();
    assert_eq!((healed.segments_healed, healed.segments_copied), (1, 0), "{healed:?}");
    assert!(fs::read(&object).unwrap() == whole);
    // One of another length is written again in any case.
    fs::write(&object, &whole[1..]).unwrap();
    remote.backup(&db, BackupOptions::new()).unwrap();
    assert!(fs::read(&object).unwrap() == whole);
}

/// Goal: what a killed upload has left is removed; a list of segments that is damaged at the place
/// is written again by a backup that is verified, if the place holds segments of this store, and
/// refused else.
#[test]
fn a_damaged_list_of_segments_is_written_again() {
    let (temp, db, remote) = store_and_place(2000);
    let early = temp.path().join("early");
    db.backup_to(&early, BackupOptions::new().hard_links(false)).unwrap();
    write(&db, 0..100, 200);
    let first = remote.backup(&db, BackupOptions::new()).unwrap();
    // What a killed upload leaves; and what is none of ours.
    let object = objects(&temp.path().join("objects")).remove(0);
    let beside = |end: &str| {
        let name = object.file_name().unwrap().to_str().unwrap().to_owned();
        object.with_file_name(name + end)
    };
    let (staged, others) = (beside("#1"), beside("#x"));
    for path in [&staged, &others] {
        fs::write(path, b"half").unwrap();
    }
    assert_eq!(remote.backup(&db, BackupOptions::new()).unwrap().files_removed, 1);
    assert!(!staged.exists() && others.exists());
    let catalog = temp.path().join("objects/BACKUP");
    let mut bytes = fs::read(&catalog).unwrap();
    bytes[100] ^= 4;
    fs::write(&catalog, &bytes).unwrap();
    let verified = || BackupOptions::new().verify(true);
    let refused = remote.backup(&db, BackupOptions::new()).unwrap_err();
    assert!(matches!(refused, RemoteError::Damaged { .. }), "{refused}");
    let other = open(&temp.path().join("other"));
    write(&other, 0..500, 100);
    let refused = remote.backup(&other, verified()).unwrap_err();
    assert!(matches!(refused, RemoteError::Damaged { .. }), "{refused}");
    assert_eq!(fs::read(&catalog).unwrap(), bytes);
    // Nor does a state that is earlier than what is there take its place.
    let place = objects(&temp.path().join("objects"));
    let refused = remote.backup(&open(&early), verified()).unwrap_err();
    assert!(matches!(refused, RemoteError::Damaged { .. }), "{refused}");
    assert_eq!(objects(&temp.path().join("objects")), place);
    let healed = remote.backup(&db, verified()).unwrap();
    assert_eq!((healed.segments_copied, healed.segments_kept), (0, first.segments_copied));
    let dir = temp.path().join("restored");
    remote.restore(&dir, BackupOptions::new()).unwrap();
    assert!(contents(&dir) == contents(&temp.path().join("store")));
}

/// Goal: a backup that is verified has no damage of the store in it: while there is some it is
/// refused, and what an earlier backup was given of it is written anew. Method: a bit of a sealed
/// segment is wrong for a while.
#[test]
fn a_verified_backup_has_no_damage_of_the_store() {
    use std::os::unix::fs::FileExt;
    let (temp, db, remote) = store_and_place(2000);
    let mut segments: Vec<_> = fs::read_dir(temp.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    segments.sort();
    let flip = || {
        let file = fs::OpenOptions::new().read(true).write(true).open(&segments[1]).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 3000).unwrap();
        file.write_all_at(&[byte[0] ^ 8], 3000).unwrap();
    };
    flip();
    let refused = remote.backup(&db, BackupOptions::new().verify(true)).unwrap_err();
    let RemoteError::Local(BackupError::Damaged(place)) = &refused else { panic!("{refused}") };
    assert_eq!(place.file.file_name(), segments[1].file_name());
    // Nobody looks: it is backed up as it stands there.
    remote.backup(&db, BackupOptions::new()).unwrap();
    flip();
    let report = remote.backup(&db, BackupOptions::new().verify(true)).unwrap();
    assert_eq!((report.segments_copied, report.files_removed), (1, 1), "{report:?}");
    let dir = temp.path().join("restored");
    remote.restore(&dir, BackupOptions::new()).unwrap();
    assert!(open(&dir).check().unwrap().is_ok());
    assert!(contents(&dir) == contents(&temp.path().join("store")));
}

/// Goal: what is no backup is not written into, and nothing of others is ever removed. Method: one
/// foreign thing at a time where the first backup would go; then some beside a backup.
#[test]
fn places_that_are_not_empty_are_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let db = open(&temp.path().join("store"));
    write(&db, 0..1000, 200);
    for (n, name) in
        ["notes.txt", "photos/one.jpg", "segments/mine", "segments/a/b"].iter().enumerate()
    {
        let place = temp.path().join(format!("objects-{n}"));
        let path = place.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"mine").unwrap();
        let refused = Remote::open(&url(&place)).unwrap().backup(&db, BackupOptions::new());
        let refused = refused.unwrap_err();
        assert!(matches!(refused, RemoteError::NotEmpty { .. }), "{name}: {refused}");
        assert!(refused.to_string().contains("nothing was changed"), "{refused}");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
    let place = temp.path().join("objects");
    let remote = Remote::open(&url(&place)).unwrap();
    remote.backup(&db, BackupOptions::new()).unwrap();
    let mine = [place.join("segments/mine"), place.join("notes.txt")];
    mine.iter().for_each(|path| fs::write(path, b"mine").unwrap());
    write(&db, 1000..2000, 200);
    remote.backup(&db, BackupOptions::new()).unwrap();
    assert!(mine.iter().all(|path| fs::read(path).unwrap() == b"mine"));
    // The store itself, as a place for its objects.
    for place in ["store", "store/objects"] {
        let remote = Remote::open(&url(&temp.path().join(place))).unwrap();
        let refused = remote.backup(&db, BackupOptions::new()).unwrap_err();
        assert!(refused.to_string().contains("of the store itself"), "{refused}");
    }
    assert!(!temp.path().join("store/objects").exists());
    // What comes back goes into a directory of its own.
    let used = temp.path().join("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("notes.txt"), b"mine").unwrap();
    let refused = remote.restore(&used, BackupOptions::new()).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    assert_eq!(fs::read_dir(&used).unwrap().count(), 1);
}

/// Goal: the calls can be made within an asynchronous program, which has a runtime of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_can_be_made_from_within_a_runtime() {
    let temp = tempfile::tempdir().unwrap();
    let db = open(&temp.path().join("store"));
    write(&db, 0..200, 200);
    let slow = ThrottledStore::new(InMemory::new(), ThrottleConfig::default());
    let remote = Remote::new(Arc::new(slow), "").unwrap();
    remote.backup(&db, BackupOptions::new()).unwrap();
    let dir = temp.path().join("restored");
    remote.restore(&dir, BackupOptions::new()).unwrap();
    assert_eq!(contents(&dir).len(), 200);
}

#[cfg(feature = "cli")]
#[test]
fn the_program_takes_addresses() {
    let temp = tempfile::tempdir().unwrap();
    let run = |args: &[&str], code: i32| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_siltstone"));
        let output = command.current_dir(temp.path()).args(args).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    };
    let db = open(&temp.path().join("store"));
    write(&db, 0..2000, 200);
    db.close().unwrap();
    let url = url(&temp.path().join("objects"));
    run(&["backup", "store", &url], 0);
    assert!(run(&["backup", "store", &url], 0).contains("kept"));
    let said = run(&["restore", &url, "restored"], 0);
    assert!(said.contains("ok: verified"), "{said}");
    assert!(contents(&temp.path().join("restored")) == contents(&temp.path().join("store")));
    run(&["restore", &url, "restored"], 2);
    let db = open(&temp.path().join("store"));
    let snapshot = db.persist().unwrap();
    let then = contents(&temp.path().join("store"));
    write(&db, 0..500, 100);
    db.close().unwrap();
    let of_snapshot = format!("file://{}", temp.path().join("of-snapshot").display());
    let id = snapshot.id.to_string();
    let said = run(&["backup", "store", &of_snapshot, "--snapshot", &id, "--verify"], 0);
    assert!(said.contains(&format!("sequence number {}", snapshot.seqno)), "{said}");
    run(&["restore", &of_snapshot, "of-snapshot-restored"], 0);
    assert!(contents(&temp.path().join("of-snapshot-restored")) == then);
    run(&["backup", "store", &url, "--snapshot", "77"], 2);
    run(&["backup", "store", &url, "--verify"], 0);
    run(&["restore", "memory:///", "other"], 2);
    run(&["backup", "store", "nonsense://"], 2);
}
