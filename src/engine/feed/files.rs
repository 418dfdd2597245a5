//! [`LogFiles`]: the log's segments as a feed sees them.
//!
//! In the process that writes the store, they are those of the open store, and the feed reads up
//! to what has been applied, or is durable. Anywhere else the feed follows the directory: it reads
//! the manifest again whenever it may have changed, and opens segments by itself. It may meet a
//! manifest that lists a segment which is gone by now: it reads the manifest again then. A segment
//! that is open stays readable whatever becomes of its name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::core::Core;
use super::super::error::{Corruption, OpenError};
use super::super::manifest;
use super::super::segments::Segment;
use super::FeedError;
use super::cursor::Window;
use super::position::Mark;
use crate::format::manifest::{FILE_NAME, SegmentState, State};
use crate::format::record::FrameKind;
use crate::format::segment::{
    HeaderError, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, file_name,
};
use crate::vfs::{File, IoError, OpenMode, read_full_at};

/// A manifest, or a segment, may change under a reader's eyes: it tries again, this often.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes at the manifest's end that tell whether it has changed: the last edit's checksum is
/// among them, unless that lists many segments; then the length tells.
const MANIFEST_TAIL: u64 = 256;

/// The log's segments.
pub(super) struct LogFiles {
    pub(super) core: Arc<Core>,
    /// `None` in the process that writes the store.
    follower: Option<Follower>,
    kinds: HashMap<u64, SegmentKind>,
}

/// What a reader of the directory knows.
struct Follower {
    state: State,
    /// Length and end of the manifest that `state` was read from.
    seen: (u64, Vec<u8>),
    /// The segment opened last.
    opened: Option<Arc<Segment>>,
}

/// A segment of the log with records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    /// Sequence number of its first record.
    pub(super) first: u64,
}

/// The segments from which on the log is whole.
pub(super) struct Chain {
    pub(super) links: Vec<Link>,
    /// If there are none: the next sequence number.
    pub(super) end: u64,
}

impl LogFiles {
    pub(super) fn new(core: Arc<Core>) -> Result<Self, FeedError> {
        let follower = core.options.read_only.then(|| Follower {
            state: core.manifest.lock().state.clone(),
            seen: (0, Vec::new()),
            opened: None,
        });
        let mut files = LogFiles { core, follower, kinds: HashMap::new() };
        files.refresh()?;
        Ok(files)
    }

    /// True if the feed follows the directory of a store that others write.
    pub(super) fn is_follower(&self) -> bool {
        self.follower.is_some()
    }

    /// Everything below this sequence number is durable, as far as the manifest knows.
    pub(super) fn noted_watermark(&self) -> u64 {
        self.with_state(|state| state.watermark)
    }

    /// Where the log ends, if it was closed and not opened again: what follows is not its own.
    pub(super) fn closed_at(&self) -> Option<u64> {
        self.with_state(|state| state.is_clean.then_some(state.watermark))
    }

    /// The sequence number after the last sealed segment of the log, as far as the manifest knows.
    pub(super) fn sealed_next(&self) -> u64 {
        self.with_state(|state| state.sealed_next)
    }

    /// What ended at `seqno` in a part of the log that compaction has taken, if that is known.
    pub(super) fn mark_at(&self, seqno: u64) -> Option<Mark> {
        let known = self.with_state(|state| state.mark.0).filter(|mark| mark.next == seqno)?;
        Some(Mark { epoch: known.epoch, checksum: known.checksum })
    }

    fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        match &self.follower {
            Some(follower) => look(&follower.state),
            None => look(&self.core.manifest.lock().state),
        }
    }

    /// Reads the manifest again, if it has changed and is not this process's own.
    pub(super) fn refresh(&mut self) -> Result<(), FeedError> {
        let (core, Some(follower)) = (&self.core, &mut self.follower) else { return Ok(()) };
        let vfs = &*core.options.vfs;
        let path = core.dir.join(FILE_NAME);
        let mut tries = 0;
        loop {
            let seen = manifest_end(&path, vfs.open(&path, OpenMode::Read))?;
            if seen == follower.seen {
                return Ok(());
            }
            match manifest::read(vfs, &core.dir) {
                Ok(Some(read)) if read.store == core.store_id => {
                    follower.state = read.state;
                    follower.seen = seen;
                    let state = &follower.state;
                    self.kinds.retain(|id, _| is_listed(state, *id));
                    return Ok(());
                }
                Ok(Some(_)) => {
                    let what = "another store has taken the place of the one that was opened";
                    return Err(Corruption { file: path, offset: 0, what: what.to_owned() }.into());
                }
                Ok(None) => return Err(OpenError::Missing { dir: core.dir.clone() }.into()),
                Err(OpenError::Corrupt(_)) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// True if nothing of the log follows at `offset` of segment `id`, as far as the manifest
    /// knows: the segment has left the store, which none does that is not sealed, or ends there.
    pub(super) fn is_over(&self, id: u64, offset: u64) -> bool {
        self.with_state(|state| match state.segments.iter().find(|s| s.id == id) {
            Some(segment) => segment.seal.is_some_and(|seal| seal.data_end <= offset),
            None => true,
        })
    }

    /// The segment `id`; `None` if it has left the store.
    fn open(&mut self, id: u64) -> Result<Option<Arc<Segment>>, FeedError> {
        let Some(follower) = &mut self.follower else {
            return Ok(self.core.segments.all().into_iter().find(|segment| segment.id == id));
        };
        if let Some(opened) = follower.opened.as_ref().filter(|opened| opened.id == id) {
            return Ok(Some(Arc::clone(opened)));
        }
        let seal = follower.state.segments.iter().find(|s| s.id == id).and_then(|s| s.seal);
        let path = self.core.dir.join(file_name(id));
        let file = match self.core.options.vfs.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(IoError::new("open", path, e).into()),
        };
        let (header, salt) = read_header(&*file, &path)?;
        if header.store != self.core.store_id || header.id != id {
            let what = format!("its header says segment {} of another store", header.id);
            return Err(Corruption { file: path, offset: 0, what }.into());
        }
        let segment = Segment::new(&header, 0, salt, path, file);
        if let Some(seal) = seal {
            segment.set_sealed(seal, self.core.map(&segment, seal.data_end));
        }
        let segment = Arc::new(segment);
        self.kinds.insert(id, header.kind);
        follower.opened = Some(Arc::clone(&segment));
        Ok(Some(segment))
    }

    /// What segment `id` holds; `None` if it has left the store.
    fn kind(&mut self, id: u64) -> Result<Option<SegmentKind>, FeedError> {
        if let Some(kind) = self.kinds.get(&id) {
            return Ok(Some(*kind));
        }
        let kind = self.open(id)?.map(|segment| segment.kind);
        self.kinds.extend(kind.map(|kind| (id, kind)));
        Ok(kind)
    }

    /// The log segment `link`; `None` if it has left the store.
    pub(super) fn segment(&mut self, link: Link) -> Result<Option<Arc<Segment>>, FeedError> {
        self.open(link.id)
    }

    /// The log segment behind segment `id`; `None` if there is none yet.
    pub(super) fn successor(&mut self, id: u64) -> Result<Option<Arc<Segment>>, FeedError> {
        let mut after = id;
        let mut tries = 0;
        loop {
            let next = self.with_state(|state| {
                state.segments.iter().map(|s| s.id).filter(|id| *id > after).min()
            });
            let Some(next) = next else {
                // The manifest may know more by now.
                if !self.is_follower() || tries > 0 {
                    return Ok(None);
                }
                self.refresh()?;
                (after, tries) = (id, tries + 1);
                continue;
            };
            if self.kind(next)? == Some(SegmentKind::Compacted) {
                after = next;
                continue;
            }
            match self.open(next)? {
                Some(segment) => return Ok(Some(segment)),
                None if tries < TRIES => {
                    self.gone(next)?;
                    (after, tries) = (id, tries + 1);
                }
                None => return Err(self.missing(next)),
            }
        }
    }

    /// A listed segment is not there: it has left the store meanwhile. Reads the manifest again.
    pub(super) fn gone(&mut self, id: u64) -> Result<(), FeedError> {
        self.refresh()?;
        if self.with_state(|state| is_listed(state, id)) {
            std::thread::sleep(PAUSE);
            self.refresh()?;
        }
        Ok(())
    }

    fn missing(&self, id: u64) -> FeedError {
        let file = self.core.dir.join(file_name(id));
        Corruption { file, offset: 0, what: "listed but not there".to_owned() }.into()
    }

    /// The segments from which on the log is whole, up to its end; those without records left out.
    pub(super) fn chain(&mut self, window: &mut Window) -> Result<Chain, FeedError> {
        for _ in 0..TRIES {
            if !self.is_follower() {
                let all = self.core.segments.all();
                self.kinds = all.iter().map(|segment| (segment.id, segment.kind)).collect();
            }
            let (states, sealed_next) =
                self.with_state(|state| (state.segments.clone(), state.sealed_next));
            match self.try_chain(&states, sealed_next, window)? {
                Ok(chain) => return Ok(chain),
                Err(gone) => self.gone(gone)?,
            }
        }
        let what = "its segments come and go too fast to be read".to_owned();
        Err(Corruption { file: self.core.dir.clone(), offset: 0, what }.into())
    }

    /// `Err`: the segment with this id has left the store.
    fn try_chain(
        &mut self,
        states: &[SegmentState],
        sealed_next: u64,
        window: &mut Window,
    ) -> Result<Result<Chain, u64>, FeedError> {
        let mut links: Vec<Link> = Vec::new();
        // Sequence number at which the log goes on behind `links`, where that is known.
        let mut end = None;
        let mut is_sealed = true;
        for state in states {
            match self.kind(state.id)? {
                Some(SegmentKind::Log) => {}
                Some(SegmentKind::Compacted) => continue,
                None => return Ok(Err(state.id)),
            }
            if is_sealed && state.seal.is_none() {
                is_sealed = false;
                if end.is_some_and(|end| end != sealed_next) {
                    links.clear();
                }
                end = Some(sealed_next);
            }
            let (first, next) = match state.seal {
                Some(seal) => (seal.first, Some(seal.next)),
                None => {
                    let Some(segment) = self.open(state.id)? else { return Ok(Err(state.id)) };
                    let header = window.header(&segment, SEGMENT_HEADER_LEN)?;
                    (header.filter(|h| h.kind == FrameKind::Batch).map_or(0, |h| h.base), None)
                }
            };
            if first == 0 {
                continue;
            }
            if end.is_some_and(|end| end != first) {
                if !is_sealed {
                    // Compaction takes sealed segments only: what was in between is not there yet,
                    // or never reached the disk.
                    break;
                }
                links.clear();
            }
            links.push(Link { id: state.id, first });
            end = next;
        }
        if is_sealed && end.is_some_and(|end| end != sealed_next) {
            links.clear();
        }
        Ok(Ok(Chain { links, end: sealed_next }))
    }
}

fn is_listed(state: &State, id: u64) -> bool {
    state.segments.binary_search_by_key(&id, |s| s.id).is_ok()
}

/// Length and last bytes of a manifest.
fn manifest_end(
    path: &Path,
    opened: std::io::Result<Arc<dyn File>>,
) -> Result<(u64, Vec<u8>), FeedError> {
    let failed = |op| move |e| FeedError::Io(IoError::new(op, path, e));
    let file = opened.map_err(failed("open"))?;
    let len = file.len().map_err(failed("stat"))?;
    let start = len.saturating_sub(MANIFEST_TAIL);
    let mut tail = vec![0; usize::try_from(len - start).unwrap_or(0)];
    let read = read_full_at(&*file, &mut tail, start).map_err(failed("read"))?;
    tail.truncate(read);
    Ok((len, tail))
}

/// The header of a segment and its salt.
fn read_header(file: &dyn File, path: &Path) -> Result<(SegmentHeader, u32), FeedError> {
    let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
    let read = read_full_at(file, &mut bytes, 0).map_err(|e| IoError::new("read", path, e))?;
    SegmentHeader::decode(bytes.get(..read).unwrap_or(&[])).map_err(|e| match e {
        HeaderError::Damaged(what) => {
            Corruption { file: path.to_owned(), offset: 0, what: what.to_owned() }.into()
        }
        HeaderError::Version(major, minor) => {
            let file = path.to_owned();
            FeedError::Unreadable(OpenError::Version { file, found: (major, minor) })
        }
    })
}
