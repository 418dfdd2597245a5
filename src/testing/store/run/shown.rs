//! What a store shows, all of it: to be compared, or to be explained.

use super::super::super::{Contents, Fingerprint};
use crate::engine::{Db, ReadError, Snapshot, SnapshotError};

/// The fingerprint of what a snapshot shows.
pub(super) fn shown_by(snapshot: &Snapshot) -> Result<Fingerprint, ReadError> {
    let mut print = Fingerprint::default();
    for (name, _) in snapshot.collections() {
        for entry in snapshot.iter(&name) {
            let entry = entry?;
            print.add(&name, &entry.key, &entry.value);
        }
    }
    Ok(print)
}

/// As [`fingerprint_of`], with the durable snapshots and what each of them shows.
///
/// # Errors
///
/// As [`Db::get`].
pub fn whole_of(db: &Db) -> Result<Fingerprint, ReadError> {
    let mut whole = fingerprint_of(db)?;
    for info in db.snapshots() {
        let shown = match db.open_snapshot(info.id) {
            Ok(snapshot) => shown_by(&snapshot)?,
            Err(SnapshotError::Read(e)) => return Err(e),
            // One that is listed and not there looks like one of nothing.
            Err(_) => Fingerprint::default(),
        };
        whole.add_snapshot(info.id, info.name.as_deref(), shown);
    }
    Ok(whole)
}

/// The fingerprint of everything in the store, read key by key and verified.
///
/// # Errors
///
/// As [`Db::get`].
pub fn fingerprint_of(db: &Db) -> Result<Fingerprint, ReadError> {
    let mut print = Fingerprint::default();
    for (name, _) in db.collections() {
        for entry in db.iter(&name) {
            let entry = entry?;
            print.add(&name, &entry.key, &entry.value);
        }
    }
    Ok(print)
}

/// Everything in the store.
///
/// # Errors
///
/// As [`Db::get`].
pub fn contents_of(db: &Db) -> Result<Contents, ReadError> {
    let mut contents = Contents::new();
    for (name, _) in db.collections() {
        for entry in db.iter(&name) {
            let entry = entry?;
            contents.insert((name.clone(), entry.key), entry.value.to_vec());
        }
    }
    Ok(contents)
}
