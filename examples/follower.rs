//! A second store that follows a first one, in another process.
//!
//! ```text
//! cargo run --release --example follower -- LEADER FOLLOWER
//! ```
//!
//! `LEADER` is a store that some other process writes, `FOLLOWER` one that this program keeps equal
//! to it. Each batch is applied together with the position behind it, in one batch: a follower that
//! is killed at any moment has either both or neither, and goes on where it stood. Only batches
//! that are durable in the leader are followed, so a power cut on either side does no harm.
//!
//! Where the follower cannot go on, because compaction has removed what it has not seen yet, or
//! because the leader was replaced by another copy, it begins anew with a snapshot.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use siltstone::{Changes, Db, Durability, FeedError, FeedPosition, Options, WriteBatch};

/// The collection of the follower that holds its position, and nothing of the leader's.
pub(crate) const OWN: &str = "follower/own";

/// The key of the position.
const POSITION: &[u8] = b"position";

/// Bytes copied from a snapshot at a time.
const COPY_LEN: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(leader), Some(follower)) = (args.next(), args.next()) else {
        return Err("usage: follower LEADER FOLLOWER".into());
    };
    let mut batches = 0;
    follow(leader.as_ref(), follower.as_ref(), |news| {
        match news {
            News::Applied => batches += 1,
            News::Copied(keys) => println!("copied a snapshot of {keys} keys"),
            News::Idle(position) => println!("at {position}, {batches} batches"),
        }
        true
    })
}

/// What happened.
pub(crate) enum News {
    /// A batch was applied.
    Applied,
    /// The follower began anew with so many keys.
    Copied(u64),
    /// There is nothing to do at this position.
    Idle(FeedPosition),
}

/// Keeps the store in `follower` equal to that in `leader` until `tell` returns false.
pub(crate) fn follow(
    leader: &Path,
    follower: &Path,
    mut tell: impl FnMut(News) -> bool,
) -> Result<(), Box<dyn Error>> {
    let follower = Db::open(follower)?;
    loop {
        let mut changes = match go_on(leader, &follower) {
            Ok(Some(changes)) => changes,
            Ok(None) => {
                let (changes, keys) = begin_anew(leader, &follower)?;
                if !tell(News::Copied(keys)) {
                    return Ok(follower.close()?);
                }
                changes
            }
            Err(e) => return Err(e.into()),
        };
        loop {
            let goes_on = match changes.next_timeout(Duration::from_millis(200)) {
                Ok(Some(batch)) => {
                    let mut copy = WriteBatch::new();
                    batch.append_to(&mut copy)?;
                    copy.put(OWN, POSITION, &batch.position().to_bytes())?;
                    follower.write(&mut copy, Durability::Buffered)?;
                    tell(News::Applied)
                }
                Ok(None) => tell(News::Idle(changes.position())),
                Err(e) if needs_snapshot(&e) => break,
                Err(e) => return Err(e.into()),
            };
            if !goes_on {
                return Ok(follower.close()?);
            }
        }
    }
}

/// The feed from where the follower stands; `None` if it has no position that is good.
fn go_on(leader: &Path, follower: &Db) -> Result<Option<Changes>, FeedError> {
    let stored = follower.get(OWN, POSITION).ok().flatten();
    let Some(stored) = stored.and_then(|bytes| bytes[..].try_into().ok()) else {
        return Ok(None);
    };
    let leader = open(leader)?;
    match leader.changes_since(FeedPosition::from_bytes(stored)) {
        Ok(changes) => Ok(Some(changes)),
        Err(e) if needs_snapshot(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn needs_snapshot(e: &FeedError) -> bool {
    use FeedError::{Ahead, Diverged, Passed};
    matches!(e, Passed { .. } | Ahead { .. } | Diverged { .. })
}

fn open(leader: &Path) -> Result<Db, FeedError> {
    Ok(Options::new().read_only(true).create(false).open(leader)?)
}

/// Makes the follower a copy of the leader as of now; returns the feed from there on. The position
/// is written last: a copy that was interrupted is begun anew.
fn begin_anew(leader: &Path, follower: &Db) -> Result<(Changes, u64), Box<dyn Error>> {
    let leader = open(leader)?;
    let snapshot = leader.snapshot();
    // The position knows what stands before it, so that the next run is told if that is lost.
    let changes = leader.changes_since(snapshot.seqno())?;
    let mut batch = WriteBatch::new();
    for (name, _) in follower.collections() {
        batch.clear(&name)?;
    }
    let mut keys = 0;
    for (name, _) in snapshot.collections() {
        batch.configure(&name, leader.collection_options(&name))?;
        for entry in snapshot.iter(&name) {
            let entry = entry?;
            match entry.expires_at {
                None => batch.put(&name, &entry.key, &entry.value)?,
                Some(at) => batch.put_expiring(&name, &entry.key, &entry.value, at)?,
            }
            keys += 1;
            if batch.byte_len() > COPY_LEN {
                follower.write(&mut batch, Durability::Buffered)?;
                batch.reset();
            }
        }
    }
    batch.put(OWN, POSITION, &changes.position().to_bytes())?;
    follower.write(&mut batch, Durability::Buffered)?;
    Ok((changes, keys))
}
