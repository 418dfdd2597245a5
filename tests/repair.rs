//! Looking at damage and repairing it: `check` names each defect, `repair` loses what the damage
//! covered and says what, `inspect` shows what is there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::ops::ControlFlow;

use siltstone::engine::CheckOptions;
use siltstone::testing::SimVfs;
use siltstone::testing::store::Specimen;

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
