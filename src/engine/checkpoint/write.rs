//! Writes a checkpoint: the state at one sequence number, while writes go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::catalog::CollectionState;
use super::super::core::Core;
use super::super::error::WriteError;
use super::super::points::{Kept, Point};
use super::super::segments::Segment;
use crate::format::checkpoint::{
    Block, CHECKPOINT_HEADER_LEN, FILE_NAME, Fact, Header, Identity, Meta, SavedCollection,
    SavedIndex, SavedKept, SavedPoint, SavedSegment, Share, TEMP_NAME,
};
use crate::format::checksum;
use crate::index::dump::{self, DumpedEntry, Part};
use crate::index::{Index, Location};
use crate::limits::SYSTEM_COLLECTION;
use crate::vfs::{File, IoError, OpenMode, write_all_at};

/// Bytes written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;
/// How often the store is looked at while a snapshot is being dropped, and how long in between.
const TRIES: u32 = 200;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Why there is no new checkpoint.
pub(super) enum Stopped {
    /// The store is being closed, or never came to rest for a moment.
    GivenUp,
    /// Writing failed. The store is as it was.
    Write(WriteError),
}

impl From<WriteError> for Stopped {
    fn from(e: WriteError) -> Self {
        Stopped::Write(e)
    }
}

/// The state at one sequence number: what of it is small was copied, what is large is kept by a
/// point, as for a snapshot.
struct Frozen {
    seqno: u64,
    /// The points in time before it, oldest first. Held, so that their books stay as they are.
    older: Vec<Arc<Point>>,
    /// The point of the state itself: its books take what changes from now on.
    point: Arc<Point>,
    segments: Vec<SavedSegment>,
    /// By slot: offset behind the last record of the state.
    ends: Vec<u64>,
    collections: Vec<FrozenCollection>,
    /// The system collection's entries.
    facts: Vec<DumpedEntry>,
}

struct FrozenCollection {
    state: Arc<CollectionState>,
    index: Arc<Index>,
    is_listed: bool,
    live: Vec<Share>,
}

/// The file that is being written.
struct Output<'a> {
    core: &'a Core,
    file: Arc<dyn File>,
    salt: u32,
    /// Where the buffer goes.
    offset: u64,
    buf: Vec<u8>,
    /// Given up once this says so.
    is_over: &'a dyn Fn() -> bool,
}

fn shares(tally: Vec<(Arc<Segment>, u64, u64)>) -> Vec<Share> {
    let mut shares: Vec<Share> = tally
        .into_iter()
        .map(|(segment, bytes, records)| Share { slot: segment.slot, bytes, records })
        .collect();
    shares.sort_unstable_by_key(|share| share.slot);
    shares
}

impl Core {
    /// Writes a checkpoint of the store as it is now; returns its length. Requires: no compaction
    /// goes on.
    pub(super) fn write_checkpoint(&self, is_over: &dyn Fn() -> bool) -> Result<u64, Stopped> {
        let frozen = self.hold_still()?;
        let result = self.write_frozen(&frozen, is_over);
        for point in frozen.older.iter().chain([&frozen.point]).rev() {
            self.release_point(point);
        }
        if result.is_err() {
            // Nothing leads to it; the next one written removes it too.
            let _ = self.options.vfs.remove(&self.dir.join(TEMP_NAME));
        }
        result
    }

    /// Holds the state as it is now. Costs writers a moment: it follows the number of collections
    /// and segments, not that of keys.
    fn hold_still(&self) -> Result<Frozen, Stopped> {
        for _ in 0..TRIES {
            let applying = self.apply.lock();
            if let Some(older) = self.points.hold_all() {
                return Ok(self.freeze_now(older));
            }
            drop(applying);
            std::thread::sleep(TRY_AGAIN_AFTER);
        }
        Err(Stopped::GivenUp)
    }

    /// Requires: apply lock held.
    fn freeze_now(&self, older: Vec<Arc<Point>>) -> Frozen {
        let segments: Vec<SavedSegment> = self.segments.all().iter().map(|s| saved(s)).collect();
        // A sealed segment may end with a part of a batch that found no room for the rest: its
        // numbers are used up, and nothing of it will ever be applied.
        let sealed = segments.iter().filter_map(|s| s.seal).map(|seal| seal.next);
        let seqno = sealed.fold(self.applied(), u64::max);
        let point = self.points.hold(seqno);
        let slots = segments.iter().map(|s| s.slot + 1).max().unwrap_or(0);
        let mut ends = vec![0; slots as usize];
        for segment in &segments {
            if let Some(end) = ends.get_mut(segment.slot as usize) {
                *end = segment.end;
            }
        }
        let frozen = |state: Arc<CollectionState>| FrozenCollection {
            index: state.index(),
            is_listed: state.is_listed.load(Ordering::Acquire),
            live: shares(state.live()),
            state,
        };
        let logged = |c: &Arc<CollectionState>| c.is_logged.load(Ordering::Acquire);
        let mut collections: Vec<FrozenCollection> =
            self.catalog.all().into_iter().filter(logged).map(frozen).collect();
        let system = frozen(Arc::clone(self.catalog.system()));
        let mut facts = system.index.entries_in(Part::Whole);
        facts.sort_unstable();
        collections.push(system);
        Frozen { seqno, older, point, segments, ends, collections, facts }
    }

    fn write_frozen(&self, frozen: &Frozen, is_over: &dyn Fn() -> bool) -> Result<u64, Stopped> {
        let identity = Identity {
            store: self.store_id,
            epoch: self.epoch,
            seqno: frozen.seqno,
            // At least what it was when the state was taken: a reader whose manifest is older may
            // not know its segments.
            next_segment: self.manifest.lock().state.next_segment,
        };
        let mut output = Output::create(self, identity.salt(), is_over)?;
        let collections = frozen
            .collections
            .iter()
            .map(|collection| self.write_collection(frozen, collection, &mut output))
            .collect::<Result<_, Stopped>>()?;
        // A point at the very number of the state is the one that takes what changes from now on.
        let points = frozen
            .older
            .iter()
            .filter(|point| point.seqno < frozen.seqno)
            .map(|point| {
                let kept = point.all_kept();
                let kept = kept.iter().map(|(id, kept)| write_kept(*id, kept, &mut output));
                Ok(SavedPoint { seqno: point.seqno, kept: kept.collect::<Result<_, Stopped>>()? })
            })
            .collect::<Result<_, Stopped>>()?;
        let segments = frozen.segments.clone();
        let meta = Meta { segments, collections, facts: self.facts(frozen)?, points };
        let len = output.finish(identity, &meta)?;
        self.put_in_place(frozen.seqno)?;
        Ok(len)
    }

    /// Puts the new checkpoint in the place of the old one, once the log that it speaks of is
    /// durable.
    fn put_in_place(&self, seqno: u64) -> Result<(), Stopped> {
        if !planted!(CheckpointBeforeLog) {
            self.sync_upto(seqno)?;
        }
        let (temp, path) = (self.dir.join(TEMP_NAME), self.dir.join(FILE_NAME));
        let renamed = self.options.vfs.rename(&temp, &path);
        renamed.map_err(|e| WriteError::from_append(IoError::new("rename", temp, e)))?;
        let synced = self.options.vfs.sync_dir(&self.dir);
        // It may have been about the name of a new segment too.
        synced.map_err(|e| self.poison.set(IoError::new("sync directory", &self.dir, e)))?;
        Ok(())
    }

    fn write_collection(
        &self,
        frozen: &Frozen,
        collection: &FrozenCollection,
        output: &mut Output<'_>,
    ) -> Result<SavedCollection, Stopped> {
        let state = &collection.state;
        let index = if state.id == SYSTEM_COLLECTION {
            output.index_of(&frozen.facts)?
        } else {
            // Of what changed since, the books of the points from the state on have the old entry.
            // They are looked at after the table: an entry is there before it is gone from here.
            output.index(&collection.index, |part, entries| {
                let read = entries.len();
                for point in self.points.since(frozen.seqno) {
                    if let Some(kept) = point.kept(state.id) {
                        entries.extend(kept.changed.entries_in(part));
                    }
                }
                let is_changed = entries.len() > read;
                entries.retain(|(_, location)| frozen.has(*location));
                if is_changed {
                    entries.sort_unstable();
                    entries.dedup();
                }
            })?
        };
        let (options_seqno, options) = state.configured();
        let options = match options_seqno {
            // Not of this state: it is read from the log again.
            seqno if seqno == 0 || seqno >= frozen.seqno => (0, Vec::new()),
            seqno => (seqno, options.encode().map_err(|_| Stopped::GivenUp)?),
        };
        Ok(SavedCollection {
            id: state.id,
            is_listed: collection.is_listed,
            name: state.name.clone(),
            options: options.1,
            options_seqno: options.0,
            live: collection.live.clone(),
            index,
        })
    }

    /// The records of the system collection.
    fn facts(&self, frozen: &Frozen) -> Result<Vec<Fact>, Stopped> {
        let fact = |(_, location): &DumpedEntry| {
            let segment = self.segments.get(*location)?;
            let found = self.read_key(&segment, location.offset()).ok()?;
            let seqno = segment.seqno_at(location.offset()).ok()??;
            Some(Fact { seqno, location: location.to_bits(), key: found.key().to_vec() })
        };
        // A damaged one is a matter for whoever reads it from the log.
        let facts: Option<Vec<Fact>> = frozen.facts.iter().map(fact).collect();
        facts.ok_or(Stopped::GivenUp)
    }
}

/// A segment as it is now. Requires: apply lock held.
fn saved(segment: &Segment) -> SavedSegment {
    let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let (seal, end) = match segment.seal() {
        Some(seal) => (Some(seal), seal.data_end),
        None => {
            // Frames may be there already whose records are not in the index yet.
            let last = segment.hints.lock().last().map(|hint| hint.offset + hint.len);
            match (last, segment.seal()) {
                (Some(end), _) => (None, end),
                // Sealed at this moment: its hints are gone.
                (None, Some(seal)) => (Some(seal), seal.data_end),
                (None, None) => (None, 0),
            }
        }
    };
    SavedSegment {
        slot: segment.slot,
        salt: segment.salt,
        id: segment.id,
        seal,
        end,
        live_bytes: load(&segment.live_bytes),
        live_records: load(&segment.live_records),
        records: load(&segment.written.records),
        bytes: load(&segment.written.bytes),
        puts: load(&segment.written.puts),
        tombstone_bytes: load(&segment.written.tombstone_bytes),
    }
}

fn write_kept(collection: u32, kept: &Kept, output: &mut Output<'_>) -> Result<SavedKept, Stopped> {
    // In the order in which they are read.
    let changed = output.index(&kept.changed, |_, _| ())?;
    let cleared = kept.cleared.get().map(|cleared| output.index(cleared, |_, _| ()));
    Ok(SavedKept {
        collection,
        grown: kept.grown(),
        pinned: shares(kept.pinned.all()),
        changed,
        cleared: cleared.transpose()?,
    })
}

impl Frozen {
    /// True if the record at `location` is one of the state.
    fn has(&self, location: Location) -> bool {
        self.ends.get(location.slot()).is_some_and(|end| location.offset() < *end)
    }
}

impl<'a> Output<'a> {
    fn create(core: &'a Core, salt: u32, is_over: &'a dyn Fn() -> bool) -> Result<Self, Stopped> {
        let temp = core.dir.join(TEMP_NAME);
        let failed = |op| {
            let temp = temp.clone();
            move |e| Stopped::Write(WriteError::from_append(IoError::new(op, temp, e)))
        };
        match core.options.vfs.remove(&temp) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove")(e)),
            _ => {}
        }
        let file = core.options.vfs.open(&temp, OpenMode::CreateNew).map_err(failed("create"))?;
        let offset = CHECKPOINT_HEADER_LEN as u64;
        Ok(Output { core, file, salt, offset, buf: Vec::new(), is_over })
    }

    fn failed(&self, op: &'static str, e: std::io::Error) -> Stopped {
        Stopped::Write(WriteError::from_append(IoError::new(op, self.core.dir.join(TEMP_NAME), e)))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if (self.is_over)() {
            return Err(Stopped::GivenUp);
        }
        write_all_at(&*self.file, &self.buf, self.offset).map_err(|e| self.failed("write", e))?;
        self.offset += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    /// Writes the tables of an index, each changed by `correct` before.
    fn index(
        &mut self,
        index: &Index,
        correct: impl Fn(Part, &mut Vec<DumpedEntry>),
    ) -> Result<SavedIndex, Stopped> {
        let mut blocks = Vec::new();
        index.for_each_table(|part, mut entries| {
            correct(part, &mut entries);
            blocks.push(self.block(&entries)?);
            Ok::<_, Stopped>(())
        })?;
        Ok(SavedIndex { blocks })
    }

    /// Writes an index of one table.
    fn index_of(&mut self, entries: &[DumpedEntry]) -> Result<SavedIndex, Stopped> {
        Ok(SavedIndex { blocks: vec![self.block(entries)?] })
    }

    fn block(&mut self, entries: &[DumpedEntry]) -> Result<Block, Stopped> {
        let start = self.buf.len();
        let offset = self.offset + start as u64;
        dump::encode(entries, &mut self.buf);
        let bytes = self.buf.get(start..).unwrap_or(&[]);
        let checksum = checksum::at(self.salt, offset, bytes);
        if self.buf.len() >= WRITTEN_AT_ONCE {
            self.flush()?;
        }
        let entries = u32::try_from(entries.len()).map_err(|_| Stopped::GivenUp)?;
        Ok(Block { offset, entries, checksum })
    }

    /// Writes what is left, then the header; makes the file durable. Returns its length.
    fn finish(mut self, identity: Identity, meta: &Meta) -> Result<u64, Stopped> {
        let meta_offset = self.offset + self.buf.len() as u64;
        let bytes = meta.encode();
        let header = Header {
            identity,
            meta_offset,
            meta_len: bytes.len() as u64,
            meta_checksum: checksum::at(self.salt, meta_offset, &bytes),
        };
        self.buf.extend_from_slice(&bytes);
        self.flush()?;
        let header = header.encode();
        write_all_at(&*self.file, &header, 0).map_err(|e| self.failed("write", e))?;
        if !planted!(CheckpointRenamedBeforeSync) {
            // Nobody relies on the file yet: after a failure it goes, and the error is told.
            self.file.sync_all().map_err(|e| self.failed("sync", e))?;
        }
        Ok(self.offset)
    }
}
