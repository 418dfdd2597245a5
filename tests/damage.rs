//! Damaged files: the data is the same, or the cut is reported and lies above the watermark, or an
//! error names file and offset. Nothing else, and no panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use siltstone::Options;
use siltstone::testing::Rng;
use siltstone::testing::store::{Damage, Outcomes, Specimen};
use siltstone::vfs::mem::MemVfs;

fn specimens() -> [Specimen; 6] {
    [
        Specimen::closed(),
        Specimen::reopened(),
        Specimen::killed(),
        Specimen::sealed(),
        Specimen::packed(),
        Specimen::compacted(),
    ]
}

#[test]
fn compacted_specimen_is_what_it_says() {
    let db = Specimen::open(&Specimen::compacted().files).unwrap();
    let stats = db.stats();
    assert!(stats.segments.iter().any(|s| s.is_compacted) && stats.pinned_bytes() > 0, "{stats:?}");
    assert_eq!(stats.snapshots, 2);
}

/// Damages the file at `path` and fails the test, with the place, if that is not borne.
fn damage(
    specimen: &Specimen,
    path: &Path,
    what: std::fmt::Arguments<'_>,
    damage: Damage,
    outcomes: &mut Outcomes,
    change: impl FnOnce(&mut Vec<u8>),
) {
    if let Err(e) = specimen.damage(path, damage, outcomes, change) {
        panic!("store {:?}, {}, {what}: {e}", specimen.name, path.display());
    }
}

fn report(what: &str, specimen: &Specimen, outcomes: Outcomes, started: Instant) {
    let rate = outcomes.total() as f64 / started.elapsed().as_secs_f64();
    say!("damage: {what}, store {:?}: {outcomes:?}, {rate:.0} a second", specimen.name);
}

#[test]
fn every_flipped_bit_is_borne() {
    for specimen in specimens() {
        let (mut outcomes, started) = (Outcomes::default(), Instant::now());
        let mut bits = 0;
        for (path, bytes) in &specimen.files {
            for bit in 0..bytes.len() * 8 {
                bits += 1;
                damage(
                    &specimen,
                    path,
                    format_args!("bit {bit}"),
                    Damage::Other,
                    &mut outcomes,
                    |bytes| {
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    },
                );
            }
        }
        report("bits flipped", &specimen, outcomes, started);
        assert_eq!(outcomes.total(), bits);
        assert!(bits > 10_000 && outcomes.refused > 0 && outcomes.noticed > 0, "{outcomes:?}");
        if ["closed", "reopened"].contains(&specimen.name) {
            assert_eq!(outcomes.cut, 0, "everything was durable when it was closed");
        }
    }
}

#[test]
fn every_truncation_is_borne() {
    for specimen in specimens() {
        let (mut outcomes, started) = (Outcomes::default(), Instant::now());
        for (path, bytes) in &specimen.files {
            for len in 0..bytes.len() {
                damage(
                    &specimen,
                    path,
                    format_args!("cut to {len}"),
                    Damage::Other,
                    &mut outcomes,
                    |bytes| {
                        bytes.truncate(len);
                    },
                );
            }
            for more in [1, 8, 63, 512, 5000] {
                damage(
                    &specimen,
                    path,
                    format_args!("{more} zeros added"),
                    Damage::Room,
                    &mut outcomes,
                    |b| {
                        b.resize(b.len() + more, 0);
                    },
                );
            }
        }
        report("truncated", &specimen, outcomes, started);
        assert_eq!(outcomes.cut + outcomes.wiped, 0, "a truncation cannot be mistaken");
    }
}

#[test]
fn every_missing_file_is_borne() {
    for specimen in specimens() {
        let (mut outcomes, started) = (Outcomes::default(), Instant::now());
        for path in specimen.files.keys() {
            let mut files = specimen.files.clone();
            files.remove(path);
            let judged = specimen.judge(path, &files, Damage::Other, &mut outcomes);
            judged.unwrap_or_else(|e| panic!("{:?} without {path:?}: {e}", specimen.name));
        }
        report("files missing", &specimen, outcomes, started);
        // All but the lock file and the checkpoint are needed.
        let spare = 1 + u64::from(specimen.files.contains_key(&specimen.path("CHECKPOINT")));
        let needed = specimen.files.len() as u64 - spare;
        assert_eq!((outcomes.refused, outcomes.same), (needed, spare));
    }
}

#[test]
fn sectors_wiped_doubled_or_scrambled_are_borne() {
    for specimen in specimens() {
        let (mut outcomes, started) = (Outcomes::default(), Instant::now());
        for (path, bytes) in &specimen.files {
            for sector in [64, 512] {
                for at in (0..bytes.len()).step_by(sector) {
                    let end = (at + sector).min(bytes.len());
                    let here = format_args!("{sector} bytes at {at}");
                    damage(&specimen, path, here, Damage::Wiped, &mut outcomes, |b| {
                        b[at..end].fill(0);
                    });
                    damage(&specimen, path, here, Damage::Other, &mut outcomes, |b| {
                        Rng::new(at as u64).fill(&mut b[at..end]);
                    });
                    // Old versions beside new ones: a copy of a whole record over a newer one of
                    // the same key and length is more than checksums tell.
                    let copies = if specimen.name == "compacted" { 0 } else { bytes.len() };
                    for from in (0..copies).step_by(sector) {
                        damage(&specimen, path, here, Damage::Other, &mut outcomes, |b| {
                            let len = (end - at).min(b.len() - from);
                            b.copy_within(from..from + len, at);
                        });
                    }
                }
            }
        }
        report("sectors", &specimen, outcomes, started);
        assert!(outcomes.total() > 100);
    }
}

/// Goal: a check of a store that is open names damage that came to its other files meanwhile, and
/// of a closed one damage that the open for reading gets along with. Method: every bit of the
/// manifest and of the checkpoint.
#[test]
fn a_running_store_names_flipped_bits_beside_its_segments() {
    let disk = MemVfs::new();
    let options = || Options::new().vfs(Arc::new(disk.clone())).inline_maintenance(true);
    let db = options().segment_len(1024).open("/store").unwrap();
    for key in 0..40u8 {
        db.put("c", &[key], &[key; 40]).unwrap();
    }
    assert!(db.checkpoint().unwrap());
    let mut bits = 0;
    for name in ["MANIFEST", "CHECKPOINT"] {
        let path = Path::new("/store").join(name);
        let whole = disk.snapshot().remove(&path).unwrap();
        let len = whole.len();
        let (mut noticed, mut read_only) = (0, 0);
        for bit in 0..len * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.put(&path, bytes);
            let report = db.check().unwrap();
            assert!(report.defects.iter().all(|d| d.file == path), "{name} {bit}: {report:?}");
            noticed += report.defect_count;
            bits += 1;
            // An open that finds the manifest damaged looks again, in case somebody is writing it.
            if name == "CHECKPOINT" {
                let reader = options().read_only(true).open("/store").unwrap();
                read_only += u64::from(!reader.check().unwrap().is_ok());
            }
        }
        disk.put(&path, whole);
        assert!(db.check().unwrap().is_ok(), "{name} is whole again");
        say!("damage: {name}: {noticed} of {} bits named, {read_only} read-only", len * 8);
        if name == "CHECKPOINT" {
            assert_eq!((noticed, read_only), (len as u64 * 8, len as u64 * 8));
        } else {
            // Its edits are padded, and the padding means nothing.
            assert!(noticed >= len as u64 * 8 * 3 / 4, "{noticed} of {}", len * 8);
        }
    }
    assert!(bits > 5000, "{bits}");
}

/// Files of one store among those of another, and files under each other's names.
#[test]
fn files_in_the_wrong_place_are_borne() {
    let specimens = specimens();
    let mut outcomes = Outcomes::default();
    for specimen in &specimens {
        for path in specimen.files.keys() {
            for (from, other) in specimens.iter().flat_map(|s| &s.files) {
                let is_own = specimen.files.get(path) == Some(other);
                let is_lock = path.ends_with("LOCK");
                // A manifest of a store with the same id is an older copy, which is another
                // matter: what it lists is judged by what is there.
                if !is_own && !is_lock && !from.ends_with("MANIFEST") {
                    let here = format_args!("replaced by {}", from.display());
                    damage(specimen, path, here, Damage::Other, &mut outcomes, |b| {
                        b.clone_from(other)
                    });
                }
            }
        }
        let mut files = specimen.files.clone();
        for name in ["._0000000000000001.seg", ".DS_Store", "1.seg", "notes.txt", "MANIFEST.tmp"] {
            files.insert(specimen.path(name), b"not of the store".to_vec());
        }
        let db = Specimen::open(&files).unwrap();
        assert!(db.recovery_report().notes.is_empty(), "{:?}", db.recovery_report());
        assert_eq!(siltstone::testing::store::contents_of(&db).unwrap(), *specimen.contents());
    }
    say!("damage: files in the wrong place: {outcomes:?}");
}
