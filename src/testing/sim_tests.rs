//! Does the simulated disk lose what it may lose, and nothing else?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{CallKind, CrashOptions, CrashPoint, Fault, FaultPlan, SimVfs};
use crate::vfs::{OpenMode, Vfs};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Every distinct set of files that a crash at `cut` can leave.
fn states_at(sim: &SimVfs, cut: usize) -> Vec<Files> {
    let states = sim.crash_states(&CrashOptions::default());
    let at_cut = states.filter(|state| state.point.cut == cut);
    at_cut.map(|state| state.disk().snapshot()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn contents(states: &[Files], path: &str) -> BTreeSet<Option<Vec<u8>>> {
    states.iter().map(|files| files.get(Path::new(path)).cloned()).collect()
}

/// A disk with a durable file `/a` of these bytes.
fn disk_with(bytes: &[u8]) -> SimVfs {
    SimVfs::with_files(&Files::from([(PathBuf::from("/a"), bytes.to_vec())]))
}

#[test]
fn synced_bytes_stay_and_others_may_go() {
    let sim = disk_with(b"....");
    let file = sim.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
    file.write_at(b"AB", 0).unwrap();
    let unsynced = states_at(&sim, sim.position());
    let found = contents(&unsynced, "/a");
    for expected in ["AB..", "A...", "A\0..", ".B.."] {
        assert!(found.contains(&Some(expected.into())), "{expected} is missing in {found:?}");
    }
    assert!(contents(&states_at(&sim, 0), "/a") == [Some(b"....".to_vec())].into());
    file.sync_data().unwrap();
    assert_eq!(contents(&states_at(&sim, sim.mark()), "/a"), [Some(b"AB..".to_vec())].into());
}

#[test]
fn length_and_bytes_go_separately() {
    let sim = disk_with(b"");
    let file = sim.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
    file.write_at(b"XY", 0).unwrap();
    let found = contents(&states_at(&sim, sim.mark()), "/a");
    for expected in ["", "\0\0", "X\0", "XY", "\0Y"] {
        assert!(found.contains(&Some(expected.into())), "{expected:?} is missing in {found:?}");
    }
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let sim = disk_with(b"old");
    let file = sim.open(Path::new("/tmp"), OpenMode::CreateNew).unwrap();
    file.write_at(b"new", 0).unwrap();
    sim.rename(Path::new("/tmp"), Path::new("/a")).unwrap();
    // The rename is there and the bytes are not: the classic.
    let found = contents(&states_at(&sim, sim.mark()), "/a");
    for expected in ["old", "", "\0\0\0", "new"] {
        assert!(found.contains(&Some(expected.into())), "{expected:?} is missing in {found:?}");
    }
    file.sync_all().unwrap();
    let found = contents(&states_at(&sim, sim.mark()), "/a");
    assert_eq!(found, [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
    sim.sync_dir(Path::new("/")).unwrap();
    let found = states_at(&sim, sim.mark());
    assert_eq!(found, [Files::from([("/a".into(), b"new".to_vec())])]);
}

#[test]
fn files_of_a_lost_directory_are_lost() {
    let sim = SimVfs::new();
    sim.create_dir_all(Path::new("/store/deep")).unwrap();
    let path = Path::new("/store/deep/a");
    sim.open(path, OpenMode::CreateNew).unwrap().sync_all().unwrap();
    sim.sync_dir(Path::new("/store/deep")).unwrap();
    let found = contents(&states_at(&sim, sim.mark()), "/store/deep/a");
    assert_eq!(found, [None, Some(vec![])].into());
    sim.sync_dir(Path::new("/")).unwrap();
    sim.sync_dir(Path::new("/store")).unwrap();
    assert_eq!(contents(&states_at(&sim, sim.mark()), "/store/deep/a"), [Some(vec![])].into());
}

#[test]
fn failed_sync_is_never_made_good() {
    let sim = disk_with(b"..");
    let file = sim.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
    file.write_at(b"B", 0).unwrap();
    sim.set_fault(Some(FaultPlan::once(0, Fault::Error(Fault::EIO)).of(&[CallKind::Sync])));
    assert!(file.sync_data().is_err());
    file.write_at(b"C", 1).unwrap();
    file.sync_data().unwrap();
    let mut readable = [0; 2];
    file.read_at(&mut readable, 0).unwrap();
    assert_eq!(&readable, b"BC", "bytes stay readable until the crash");
    let found = contents(&states_at(&sim, sim.mark()), "/a");
    assert_eq!(found, [Some(b".C".to_vec()), Some(b"BC".to_vec())].into());
}

#[test]
fn points_lead_back_to_their_states() {
    let sim = disk_with(b"0123456789");
    let file = sim.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
    for i in 0..12 {
        file.write_at(&[b'a' + i; 3], u64::from(i)).unwrap();
    }
    let options = CrashOptions::default();
    for state in sim.crash_states(&options).step_by(97) {
        let point: CrashPoint = state.point.to_string().parse().unwrap();
        let again = sim.crash_states(&options).seek(point).unwrap();
        assert_eq!((again.hash, again.point), (state.hash, state.point));
        assert_eq!(again.disk().snapshot(), state.disk().snapshot());
    }
}

#[test]
fn faults_hit_the_call_they_name() {
    let sim = disk_with(b"....");
    let file = sim.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
    sim.set_fault(Some(FaultPlan::once(1, Fault::Error(Fault::EIO)).of(&[CallKind::Write])));
    assert_eq!(file.write_at(b"1", 0).unwrap(), 1);
    assert_eq!(file.write_at(b"2", 1).unwrap_err().raw_os_error(), Some(Fault::EIO));
    assert_eq!(file.write_at(b"3", 2).unwrap(), 1);
    assert_eq!(sim.injected(), 1);
    sim.set_fault(Some(FaultPlan::forever(0, Fault::ErrorAfter(Fault::EIO))));
    assert!(file.write_at(b"ab", 0).is_err());
    assert!(file.len().is_err());
    sim.set_fault(Some(FaultPlan::forever(0, Fault::Short(3))));
    assert_eq!(file.read_at(&mut [0; 4], 0).unwrap(), 3);
    sim.set_fault(None);
    assert_eq!(sim.snapshot()[Path::new("/a")], b"a.3.");
}

#[test]
fn full_disk_takes_what_fits_and_recovers_with_space() {
    let sim = disk_with(b"0123");
    sim.set_quota(Some(6));
    let file = sim.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
    assert_eq!(file.write_at(b"abcd", 4).unwrap(), 2);
    let full = file.write_at(b"cd", 6).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert!(file.allocate(7).is_err());
    assert_eq!(file.write_at(b"xy", 0).unwrap(), 2, "overwriting takes no space");
    sim.set_quota(Some(8));
    assert_eq!(file.write_at(b"cd", 6).unwrap(), 2);
    sim.remove(Path::new("/a")).unwrap();
    assert_eq!(sim.used(), 0);
}

#[test]
fn lock_is_exclusive_until_dropped_and_dies_with_the_power() {
    let sim = disk_with(b"");
    let path = Path::new("/LOCK");
    let guard = sim.lock(path, "me").unwrap().unwrap();
    assert_eq!(sim.lock(path, "you").unwrap().unwrap_err(), "me");
    let last = sim.crash_states(&CrashOptions::default()).last().unwrap();
    assert!(last.disk().lock(path, "you").unwrap().is_ok());
    drop(guard);
    assert!(sim.lock(path, "you").unwrap().is_ok());
}

/// Goal: a link is a name, lost and kept as such, and leads to the one file, also after the cut.
#[test]
fn a_link_is_a_second_name_of_one_file() {
    let sim = disk_with(b"..");
    let (old, new) = (Path::new("/a"), Path::new("/b"));
    sim.link(old, new).unwrap();
    assert!(sim.link(old, new).is_err(), "the name is taken");
    assert_eq!(sim.used(), 2, "one file");
    let found = contents(&states_at(&sim, sim.mark()), "/b");
    assert_eq!(found, [None, Some(b"..".to_vec())].into());
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(contents(&states_at(&sim, sim.mark()), "/b"), [Some(b"..".to_vec())].into());
    let after = sim.crash_states(&CrashOptions::default()).last().unwrap().disk();
    for disk in [&sim, &after] {
        disk.open(old, OpenMode::ReadWrite).unwrap().write_at(b"X", 0).unwrap();
        assert_eq!(disk.snapshot()[new], b"X.");
        disk.remove(old).unwrap();
        assert_eq!(disk.snapshot()[new], b"X.");
    }
}

/// Goal: a copy is written, and is another file.
#[test]
fn a_copy_is_another_file() {
    let sim = disk_with(b"..");
    let copy = sim.copy(Path::new("/a"), Path::new("/b")).unwrap();
    let found = contents(&states_at(&sim, sim.mark()), "/b");
    for expected in [None, Some(b"".to_vec()), Some(b"\0\0".to_vec()), Some(b"..".to_vec())] {
        assert!(found.contains(&expected), "{expected:?} is missing in {found:?}");
    }
    copy.write_at(b"X", 0).unwrap();
    assert_eq!(sim.snapshot()[Path::new("/a")], b"..");
    assert!(sim.copy(Path::new("/none"), Path::new("/c")).is_err());
}
