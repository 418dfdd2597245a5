//! Compaction: gives back the space of what was overwritten and deleted.
//!
//! [`plan::choose`] says which sealed segments are worth it; [`survey`] what is needed of them;
//! [`run`] moves that to segments of their own, never into the log, and swaps them in; [`control`]
//! is the thread, its pace and its switches; [`reserve`] keeps room for it on a full device.
//!
//! # The order of a run, and what a power cut leaves behind
//!
//! 1. *Survey*: which records of the inputs are live, needed by snapshots, or tombstones of keys
//!    that still have an older record somewhere. Nothing is written.
//! 2. *Sync the log* up to now. What the survey takes for dead was overwritten by records that may
//!    not have been durable: without them the old ones must not go.
//! 3. *Write the outputs*: records in the order of their sequence numbers, which they keep; an end
//!    frame, hints, footer. Sync each file, then the directory. A power cut leaves files that no
//!    manifest lists: the next open removes them.
//!    Before, an edit of the manifest notes the last frame of the log among the inputs, for those
//!    who follow the change feed: true whatever comes of the run.
//! 4. *One manifest edit*, synced, takes the inputs out and the outputs in. Before it the store is
//!    as it was, behind it the inputs are no part of it.
//! 5. *Swing the index*, key by key, under the apply lock, a few at a time: a key moves only if it
//!    still is where the survey saw it.
//! 6. *Retire the inputs*: their files go when the last reader lets go. A power cut before that
//!    leaves files that are not listed: the next open removes them.
//!
//! Records keep their sequence numbers, and the index is loaded in the order of sequence numbers,
//! so it does not matter where a record stands.
//!
//! # Tombstones
//!
//! A tombstone stays as long as an older put of its key is anywhere on disk, dead or pinned by a
//! snapshot, since the next open would bring that back. Whether there is one is told by the
//! segments that hold puts which are not the newest of their key: if none of them is older than
//! the tombstone it goes; if some are, their hints are searched, provided that the search is cheap
//! against what it may free.

mod control;
mod expiry;
mod output;
mod plan;
mod reserve;
mod run;
mod survey;

pub use control::CompactionReport;
pub(super) use control::{Compactor, Control};
pub(super) use expiry::Expiry;
pub(super) use reserve::RESERVE_NAME;
