//! Read-modify-write: writes that happen only if a key is still what it was.
//!
//! The caller's computation runs on what a plain read has found, with no lock held. Then, under the
//! log lock and with every earlier batch applied, the key is looked up again: if its record has the
//! same sequence number, the batch is appended before anybody else can append; if not, all of it
//! is done again. So an update never overwrites what it has not seen: neither a single write, nor
//! one in a batch, a clear, a rollback, or the passing of an expiry. Sequence numbers are not used
//! twice and compaction keeps them, so a key that was changed and changed back is seen as changed.
//!
//! Somebody always comes through: an update starts again only because another write was done.

use std::fmt;

use super::batch::WriteBatch;
use super::commit::Commit;
use super::core::Core;
use super::db::Db;
use super::error::{ReadError, WriteError};
use super::options::Durability;
use super::read::{Found, ValueRef};

/// What [`Db::fetch_update`] is to do with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// Set it.
    Put(Vec<u8>),
    /// Set it until a time, see [`WriteBatch::put_expiring`].
    PutExpiring(Vec<u8>, u64),
    /// Remove it.
    Delete,
    /// Leave it as it is: nothing is written.
    Keep,
}

/// What [`Db::fetch_update`] found and did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Updated {
    /// The value that the update was computed from.
    pub before: Option<ValueRef>,
    /// The write; what [`Update::Keep`] leaves counts as written already.
    pub commit: Commit,
}

/// Why [`Db::compare_and_set`] wrote nothing: the key has this value.
#[derive(Clone, Debug)]
pub struct Current(
    /// The value; `None` if the key is not there.
    pub Option<ValueRef>,
);

/// Why an update failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UpdateError {
    /// The key could not be read. Data: unchanged. A damaged record is replaced by a plain put.
    Read(ReadError),
    /// The update could not be written. Data: as [`WriteError`] says.
    Write(WriteError),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Read(e) => write!(f, "{e}"),
            UpdateError::Write(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for UpdateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            UpdateError::Read(e) => Some(e),
            UpdateError::Write(e) => Some(e),
        }
    }
}

impl From<ReadError> for UpdateError {
    fn from(e: ReadError) -> Self {
        UpdateError::Read(e)
    }
}

impl From<WriteError> for UpdateError {
    fn from(e: WriteError) -> Self {
        UpdateError::Write(e)
    }
}

impl Db {
    /// Reads `key`, computes what is to become of it, and does that if nobody has changed the key
    /// meanwhile; else all of it again, so that `update` may run several times. Buffered; see
    /// [`Db::sync_commit`] for what must be durable.
    ///
    /// No lock is held while `update` runs: it may take its time, and use the store.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use siltstone::{Db, Update};
    /// let db = Db::open(dir.path())?;
    /// let count = |old: Option<&[u8]>| {
    ///     let old = old.and_then(|old| old.try_into().ok()).map_or(0, u64::from_le_bytes);
    ///     Update::Put((old + 1).to_le_bytes().to_vec())
    /// };
    /// db.fetch_update("counts", b"visits", count)?;
    /// db.fetch_update("counts", b"visits", count)?;
    /// assert_eq!(&*db.get("counts", b"visits")?.unwrap(), 2u64.to_le_bytes());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`UpdateError`].
    pub fn fetch_update(
        &self,
        collection: &str,
        key: &[u8],
        mut update: impl FnMut(Option<&[u8]>) -> Update,
    ) -> Result<Updated, UpdateError> {
        let core = self.core();
        loop {
            let seen = core.see(collection, key)?;
            let mut batch = WriteBatch::new();
            match update(seen.value.as_deref()) {
                Update::Put(value) => batch.put(collection, key, &value)?,
                Update::PutExpiring(value, at) => {
                    batch.put_expiring(collection, key, &value, at)?;
                }
                Update::Delete => batch.delete(collection, key)?,
                Update::Keep => {}
            }
            if let Some(commit) = self.write_if_seen(&mut batch, collection, key, &seen)? {
                return Ok(Updated { before: seen.value, commit });
            }
        }
    }

    /// Sets `key` to `new`, or removes it if that is `None`, if its value is `expected`, `None`
    /// standing for a key that is not there. Else nothing is written, and the answer is the value
    /// that it has. Atomic against all other writers. Buffered; see [`Db::sync_commit`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let db = siltstone::Db::open(dir.path())?;
    /// assert!(db.compare_and_set("jobs", b"7", None, Some(b"mine"))?.is_ok());
    /// let taken = db.compare_and_set("jobs", b"7", None, Some(b"theirs"))?.unwrap_err();
    /// assert_eq!(taken.0.as_deref(), Some(&b"mine"[..]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`UpdateError`].
    pub fn compare_and_set(
        &self,
        collection: &str,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<Commit, Current>, UpdateError> {
        let mut batch = WriteBatch::new();
        match new {
            Some(value) => batch.put(collection, key, value)?,
            // Checked like any other, but what is not there needs no tombstone.
            None if expected.is_none() => {}
            None => batch.delete(collection, key)?,
        }
        loop {
            let seen = self.core().see(collection, key)?;
            if seen.value.as_deref() != expected {
                return Ok(Err(Current(seen.value)));
            }
            if let Some(commit) = self.write_if_seen(&mut batch, collection, key, &seen)? {
                return Ok(Ok(commit));
            }
        }
    }

    /// Writes `batch` if `key` is still what was `seen`.
    fn write_if_seen(
        &self,
        batch: &mut WriteBatch,
        collection: &str,
        key: &[u8],
        seen: &Seen,
    ) -> Result<Option<Commit>, UpdateError> {
        let is_full = |e: &UpdateError| matches!(e, UpdateError::Write(WriteError::Full(_)));
        let core = self.core();
        core.with_relief(is_full, || core.write_if_seen(batch, collection, key, seen))
    }
}

/// A key as it was at one moment.
struct Seen {
    value: Option<ValueRef>,
    /// Sequence number of its record, if it has one, and whether that has not expired.
    version: Option<(u64, bool)>,
}

impl Core {
    fn see(&self, collection: &str, key: &[u8]) -> Result<Seen, ReadError> {
        let found = self.current_record(collection, key)?;
        let Some((found, seqno)) = found else { return Ok(Seen { value: None, version: None }) };
        let value = self.value_of(found)?;
        let version = Some((seqno, value.is_some()));
        Ok(Seen { value, version })
    }

    /// The record of `key`, expired or not, with its sequence number.
    fn current_record(
        &self,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<(Found, u64)>, ReadError> {
        let Some(state) = self.catalog.find(collection) else { return Ok(None) };
        let Some(found) = self.lookup(&state, key)? else { return Ok(None) };
        let seqno = found.segment.seqno_at(found.offset)?.ok_or_else(|| {
            let what = "a record to which the index leads is not in the hints of its segment";
            found.segment.corruption(found.offset, what)
        })?;
        Ok(Some((found, seqno)))
    }

    /// Appends `batch` and applies it, if `key` is still what was `seen` when every earlier batch
    /// is applied and no other can come in between.
    fn write_if_seen(
        &self,
        batch: &mut WriteBatch,
        collection: &str,
        key: &[u8],
        seen: &Seen,
    ) -> Result<Option<Commit>, UpdateError> {
        let is_same = || -> Result<bool, ReadError> {
            let now = match self.current_record(collection, key)? {
                Some((found, seqno)) => Some((seqno, self.is_current(&found)?)),
                None => None,
            };
            Ok(now == seen.version || planted!(UpdateNotChecked))
        };
        let written = {
            let _shared = self.gate.read();
            self.append_if(batch, is_same)?
        };
        if let Some(written) = &written {
            self.finish(written, Durability::Buffered)?;
        }
        Ok(written)
    }
}
