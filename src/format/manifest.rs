//! The manifest: which segments are alive, as a log of edits.
//!
//! ```text
//! manifest = header edit*
//! edit     = len u32, checksum u32, payload, padding to 8
//! ```
//!
//! Header, 48 bytes: magic `SILTMAN1`, major u16, minor u16, reserved u32, store id 16 bytes,
//! features u64, reserved u32, checksum u32 of bytes 0..44. The checksum of an edit covers
//! its length and payload, is salted by the header's checksum and bound to the edit's offset.
//! Payloads are [`Edit`]s in [`super::codec`]'s encoding.
//!
//! Each edit is synced before the next is written, so only the last one can be torn. A manifest
//! that has grown is written anew under a temporary name, synced, and renamed over the old one.

use std::ops::Range;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use super::bytes::{align8, array_at, put_at, u16_at, u32_at, u64_at};
use super::codec;
use super::segment::StoreId;
use super::{FORMAT_MAJOR, FORMAT_MINOR, checksum};

/// File name of the manifest.
pub(crate) const FILE_NAME: &str = "MANIFEST";
/// Name under which a new manifest is written before it replaces the old one.
pub(crate) const TEMP_NAME: &str = "MANIFEST.tmp";

/// Bytes of the manifest's header.
pub(crate) const MANIFEST_HEADER_LEN: usize = 48;
const EDIT_HEADER_LEN: usize = 8;
/// Longest edit that is looked for behind damage, in bytes: all but those that list many segments
/// are shorter, and a look at every place for one of any length would take for ever.
const SEARCHED_LEN_MAX: usize = 1024;
/// What the file begins with.
pub(crate) const MAGIC: &[u8; 8] = b"SILTMAN1";

/// A change to the set of live segments. New variants go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Edit {
    /// The whole state: the first edit of every manifest.
    State(State),
    /// A writer opened the store; frames written from now on carry `epoch`.
    Open {
        /// Number of the open, one more than the last.
        epoch: u32,
        /// Everything below this sequence number is durable.
        watermark: u64,
    },
    /// A segment was created and may hold frames from now on.
    Add {
        /// Its id, above all earlier ones.
        id: u64,
        /// Length of the file.
        len: u64,
    },
    /// An unsealed segment has another length: a file shorter than that has lost something.
    Resize {
        /// Its id.
        id: u64,
        /// Length of the file.
        len: u64,
    },
    /// A segment was sealed: it is durable and never changes again.
    Seal {
        /// Its id.
        id: u64,
        /// Its extent.
        seal: Seal,
    },
    /// Segments no longer belong to the store; their files may go.
    Remove {
        /// Their ids.
        ids: Vec<u64>,
    },
    /// The store was closed in order.
    Close {
        /// Everything below this sequence number is durable, and nothing else was written.
        watermark: u64,
        /// The active segment and the length that its file was cut to.
        active: Option<(u64, u64)>,
    },
    /// Compaction moved what was needed of some sealed segments to new ones, in one step.
    Compact {
        /// The new segments, all sealed.
        added: Vec<SegmentState>,
        /// The ids of those that they replace.
        removed: Vec<u64>,
        /// Everything below this sequence number is durable: records that the new segments no
        /// longer hold were replaced by ones below it.
        watermark: u64,
    },
    /// What a stretch of the log ended with that compaction is about to take. True for good, and
    /// of use to readers of the change feed who have come to that place.
    Mark(EndMark),
}

/// Feature bit: the manifest may hold [`Edit::Compact`] and [`Edit::Mark`], and segments what came
/// with them: compacted segments, records with flags, records of the system collection.
const FEATURE_COMPACTION: u64 = 1;
/// The feature bits of manifests that are written now, and all that are understood.
const FEATURES: u64 = FEATURE_COMPACTION;

/// Extent of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Seal {
    /// Offset behind the last frame.
    pub data_end: u64,
    /// Length of the file.
    pub file_len: u64,
    /// Sequence number of the first record.
    pub first: u64,
    /// Sequence number after the last record.
    pub next: u64,
}

impl Seal {
    /// The sequence numbers among which those of all its records are.
    pub(crate) fn numbers(&self) -> Range<u64> {
        self.first..self.next
    }
}

/// A segment of the live set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SegmentState {
    /// Its id.
    pub id: u64,
    /// Length that its file had at least, when the last edit about it was written.
    pub len: u64,
    /// Its extent, if it is sealed.
    pub seal: Option<Seal>,
}

/// The last frame of a stretch of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct EndMark {
    /// Sequence number after its last record.
    pub next: u64,
    /// Which open wrote it.
    pub epoch: u32,
    /// The checksum of its records' headers.
    pub checksum: u32,
}

/// A part of the state that is not encoded with it: an edit of its own tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aside<T>(pub T);

impl<T> Encode for Aside<T> {
    fn encode<E: Encoder>(&self, _: &mut E) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<C, T: Default> Decode<C> for Aside<T> {
    fn decode<D: Decoder<Context = C>>(_: &mut D) -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl<'de, C, T: Default> BorrowDecode<'de, C> for Aside<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(_: &mut D) -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

/// What the edits add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct State {
    /// Number of the last open.
    pub epoch: u32,
    /// Everything below this sequence number was durable when the last edit was written.
    pub watermark: u64,
    /// The next segment's id: every id below it was given out once.
    pub next_segment: u64,
    /// Sequence number after the last sealed log segment, whether that is still alive or not.
    pub sealed_next: u64,
    /// The last edit was a close.
    pub is_clean: bool,
    /// The live segments, by id.
    pub segments: Vec<SegmentState>,
    /// What the newest stretch of the log ended with that compaction took.
    pub mark: Aside<Option<EndMark>>,
}

impl State {
    /// The state of an empty store.
    pub(crate) fn new() -> Self {
        State { next_segment: 1, sealed_next: 1, watermark: 1, ..State::default() }
    }

    /// Applies `edit`; says what is wrong if it does not fit.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        // A mark says nothing of the log's end: it stands behind a whole state too.
        if !matches!(edit, Edit::Mark(_)) {
            self.is_clean = matches!(edit, Edit::Close { .. });
        }
        match edit {
            Edit::State(state) => {
                state.check()?;
                *self = state.clone();
            }
            Edit::Open { epoch, watermark } => {
                if *epoch <= self.epoch {
                    return Err(format!("epoch {epoch} follows epoch {}", self.epoch));
                }
                self.epoch = *epoch;
                self.watermark = self.watermark.max(*watermark);
            }
            Edit::Add { id, len } => {
                if *id < self.next_segment {
                    return Err(format!("segment {id} added again"));
                }
                self.next_segment =
                    id.checked_add(1).ok_or_else(|| "segment ids are used up".to_owned())?;
                self.segments.push(SegmentState { id: *id, len: *len, seal: None });
            }
            Edit::Seal { id, seal } => {
                if seal.first > seal.next {
                    return Err(format!(
                        "segment {id} is sealed with its end before its beginning"
                    ));
                }
                let segment = self.find(*id)?;
                segment.seal = Some(*seal);
                segment.len = seal.file_len;
                self.sealed_next = self.sealed_next.max(seal.next);
                self.check_seal(*id, Some(*seal))?;
                self.watermark = self.watermark.max(seal.next);
            }
            Edit::Resize { id, len } => self.find(*id)?.len = *len,
            Edit::Remove { ids } => self.segments.retain(|s| !ids.contains(&s.id)),
            Edit::Close { watermark, active } => {
                self.watermark = self.watermark.max(*watermark);
                if let Some((id, len)) = active {
                    self.find(*id)?.len = *len;
                }
            }
            Edit::Compact { added, removed, watermark } => {
                self.compact(added, removed)?;
                self.watermark = self.watermark.max(*watermark);
            }
            Edit::Mark(mark) => self.mark = Aside(Some(*mark)),
        }
        Ok(())
    }

    /// The edits that a new manifest with this state begins with.
    pub(crate) fn edits(&self) -> impl Iterator<Item = Edit> {
        let state = std::iter::once_with(|| Edit::State(self.clone()));
        state.chain(self.mark.0.map(Edit::Mark))
    }

    /// Replaces the sealed segments `removed` by `added`.
    fn compact(&mut self, added: &[SegmentState], removed: &[u64]) -> Result<(), String> {
        for id in removed {
            if self.find(*id)?.seal.is_none() {
                return Err(format!("segment {id} is replaced but not sealed"));
            }
        }
        self.segments.retain(|s| !removed.contains(&s.id));
        for segment in added {
            let id = segment.id;
            self.check_seal(id, segment.seal)?;
            if segment.seal.is_none() {
                return Err(format!("segment {id} is added by compaction but not sealed"));
            }
            let Err(at) = self.segments.binary_search_by_key(&id, |s| s.id) else {
                return Err(format!("segment {id} added again"));
            };
            self.segments.insert(at, *segment);
            let next = id.checked_add(1).ok_or_else(|| "segment ids are used up".to_owned())?;
            self.next_segment = self.next_segment.max(next);
        }
        Ok(())
    }

    /// Says what is wrong if the parts of a whole state contradict each other.
    fn check(&self) -> Result<(), String> {
        let firsts = [self.next_segment, self.sealed_next, self.watermark];
        if firsts.contains(&0) {
            let [id, sealed, watermark] = firsts;
            return Err(format!(
                "the next segment is {id}, sealed is what is below sequence number {sealed}, \
                 durable below {watermark}: all of them begin with 1"
            ));
        }
        let mut last = 0;
        for SegmentState { id, seal, .. } in &self.segments {
            self.check_seal(*id, *seal)?;
            if *id <= last || *id >= self.next_segment {
                let next = self.next_segment;
                return Err(format!("segment {id} is listed behind {last}, the next is {next}"));
            }
            last = *id;
        }
        Ok(())
    }

    /// Says what is wrong if a segment ends before it begins, or behind the sealed part of the log.
    fn check_seal(&self, id: u64, seal: Option<Seal>) -> Result<(), String> {
        match seal {
            Some(Seal { next, .. }) if next > self.sealed_next => {
                let sealed = self.sealed_next;
                Err(format!(
                    "segment {id} ends at sequence number {next}, sealed is up to {sealed}"
                ))
            }
            Some(Seal { first, next, .. }) if first > next => {
                Err(format!("segment {id} begins at sequence number {first} and ends at {next}"))
            }
            _ => Ok(()),
        }
    }

    fn find(&mut self, id: u64) -> Result<&mut SegmentState, String> {
        let found = self.segments.iter_mut().find(|s| s.id == id);
        found.ok_or_else(|| format!("segment {id} is changed but not alive"))
    }
}

/// The manifest's header and the salt of its edits.
pub(crate) fn encode_header(store: &StoreId) -> ([u8; MANIFEST_HEADER_LEN], u32) {
    let mut bytes = [0; MANIFEST_HEADER_LEN];
    put_at(&mut bytes, 0, MAGIC);
    put_at(&mut bytes, 8, &FORMAT_MAJOR.to_le_bytes());
    put_at(&mut bytes, 10, &FORMAT_MINOR.to_le_bytes());
    put_at(&mut bytes, 16, store);
    put_at(&mut bytes, 32, &FEATURES.to_le_bytes());
    let salt = checksum::plain(bytes.get(..44).unwrap_or(&[]));
    put_at(&mut bytes, 44, &salt.to_le_bytes());
    (bytes, salt)
}

/// Appends `edit` to `buf`, to stand at `offset` of a manifest with `salt`.
pub(crate) fn encode_edit(
    buf: &mut Vec<u8>,
    salt: u32,
    offset: u64,
    edit: &Edit,
) -> Result<(), String> {
    let payload = codec::encode(edit)?;
    let len = u32::try_from(payload.len()).map_err(|_| "manifest edit too long".to_owned())?;
    let start = buf.len();
    buf.extend_from_slice(&len.to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&payload);
    let sum = edit_checksum(salt, offset, len, &payload);
    put_at(buf.get_mut(start..).unwrap_or(&mut []), 4, &sum.to_le_bytes());
    buf.resize(start + align8(buf.len() - start), 0);
    Ok(())
}

/// The checksum of an edit with this payload, at `offset` of a manifest with `salt`.
pub(crate) fn edit_checksum(salt: u32, offset: u64, len: u32, payload: &[u8]) -> u32 {
    checksum::at(salt.wrapping_add(len), offset, payload)
}

/// What is wrong with [`Manifest::padding`].
pub(crate) const PADDING: &str = "padding is not zero";

/// A manifest as read.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The store's id.
    pub store: StoreId,
    /// Salt of the edits.
    pub salt: u32,
    /// What the edits add up to.
    pub state: State,
    /// Offset behind the last whole edit.
    pub end: u64,
    /// True if bytes that are no edit follow: the last edit was torn by a crash.
    pub torn: bool,
    /// Where padding is not zero, which means nothing but that a bit has flipped.
    pub padding: Option<u64>,
    /// True if its header does not name all features that are written now: it must be written
    /// anew before anything is added.
    pub is_old: bool,
}

/// Why a manifest could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ManifestError {
    /// Damaged at an offset.
    Corrupt(u64, String),
    /// A format version that this program does not read.
    Version(u16, u16),
}

/// Reads a whole manifest.
pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let damaged = |what: &str| ManifestError::Corrupt(0, what.to_owned());
    let header =
        bytes.get(..MANIFEST_HEADER_LEN).ok_or_else(|| damaged("manifest is too short"))?;
    if header.get(..8) != Some(MAGIC) {
        return Err(damaged("no manifest magic"));
    }
    let salt = checksum::plain(header.get(..44).unwrap_or(&[]));
    if salt != u32_at(header, 44) {
        return Err(damaged("manifest header checksum does not match"));
    }
    let (major, minor) = (u16_at(header, 8), u16_at(header, 10));
    let features = u64_at(header, 32);
    if major != FORMAT_MAJOR || features & !FEATURES != 0 {
        return Err(ManifestError::Version(major, minor));
    }
    let store = array_at(header, 16).unwrap_or_default();
    let mut state = State::new();
    let mut end = MANIFEST_HEADER_LEN;
    let mut edits = 0u64;
    let mut padding = None;
    while let Some((edit, len)) = edit_at(bytes, salt, end) {
        let corrupt = |what| ManifestError::Corrupt(end as u64, what);
        let edit = edit.map_err(|_| corrupt("an edit that cannot be read".to_owned()))?;
        if edits == 0 && !matches!(edit, Edit::State(_)) {
            return Err(corrupt("the first edit is not the whole state".to_owned()));
        }
        state.apply(&edit).map_err(corrupt)?;
        edits += 1;
        let used = EDIT_HEADER_LEN + u32_at(bytes.get(end..).unwrap_or(&[]), 0) as usize;
        let pads = bytes.get(end + used..end + len).unwrap_or(&[]);
        let bad = pads.iter().position(|byte| *byte != 0);
        padding = padding.or(bad.map(|at| (end + used + at) as u64));
        end += len;
    }
    if edits == 0 {
        return Err(ManifestError::Corrupt(end as u64, "the first edit is damaged".to_owned()));
    }
    let rest = bytes.get(end..).unwrap_or(&[]);
    // Each edit was synced before the next was written: one that follows damage proves rot.
    for skip in (8..rest.len()).step_by(8) {
        let reach = (end + skip + SEARCHED_LEN_MAX).min(bytes.len());
        if edit_at(bytes.get(..reach).unwrap_or(&[]), salt, end + skip).is_some() {
            let what = format!("damaged edit, with a whole one behind it at byte {}", end + skip);
            return Err(ManifestError::Corrupt(end as u64, what));
        }
    }
    let torn = rest.iter().any(|b| *b != 0);
    let is_old = features != FEATURES;
    Ok(Manifest { store, salt, state, end: end as u64, torn, padding, is_old })
}

/// The edit at `offset` and its length in the file, if there is one with a right checksum.
pub(super) fn edit_at(
    bytes: &[u8],
    salt: u32,
    offset: usize,
) -> Option<(Result<Edit, String>, usize)> {
    let rest = bytes.get(offset..)?;
    let len = u32_at(rest.get(..EDIT_HEADER_LEN)?, 0);
    let end = EDIT_HEADER_LEN.checked_add(len as usize)?;
    let payload = rest.get(EDIT_HEADER_LEN..end)?;
    if len == 0 || edit_checksum(salt, offset as u64, len, payload) != u32_at(rest, 4) {
        return None;
    }
    Some((codec::decode(payload), align8(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a manifest that was written can be read, with as many segments as a store may have.
    #[test]
    fn the_largest_state_is_read_back() {
        let seal = Seal { data_end: 1 << 26, file_len: 1 << 26, first: 1 << 40, next: 1 << 40 };
        let segments = (1..=crate::limits::SEGMENTS_MAX as u64)
            .map(|id| SegmentState { id, len: 1 << 26, seal: Some(seal) })
            .collect();
        let state = State { segments, next_segment: 1 << 20, sealed_next: 1 << 40, ..State::new() };
        let (header, salt) = encode_header(&StoreId::default());
        let mut bytes = header.to_vec();
        let offset = MANIFEST_HEADER_LEN as u64;
        encode_edit(&mut bytes, salt, offset, &Edit::State(state.clone())).expect("encode");
        assert!(decode(&bytes).expect("decode").state == state);
    }

    /// Goal: a state that no store can be in is refused, whatever its checksum says.
    #[test]
    fn states_that_contradict_themselves_are_refused() {
        let seal = Seal { data_end: 64, file_len: 128, first: 3, next: 7 };
        let good = State {
            segments: vec![SegmentState { id: 2, len: 128, seal: Some(seal) }],
            next_segment: 3,
            sealed_next: 7,
            watermark: 7,
            ..State::new()
        };
        let refused = |change: fn(&mut State)| {
            let mut state = good.clone();
            change(&mut state);
            State::new().apply(&Edit::State(state)).expect_err("it is impossible")
        };
        assert_eq!(State::new().apply(&Edit::State(good.clone())), Ok(()));
        assert!(refused(|s| s.watermark = 0).contains("begin with 1"));
        assert!(refused(|s| s.sealed_next = 0).contains("begin with 1"));
        assert!(refused(|s| s.next_segment = 2).contains("listed behind"));
        let ends_first = |s: &mut State| {
            s.segments.iter_mut().filter_map(|s| s.seal.as_mut()).for_each(|seal| seal.first = 8);
        };
        assert!(refused(ends_first).contains("begins at sequence number 8"));
        assert!(refused(|s| s.sealed_next = 6).contains("ends at sequence number 7"));

        let added = vec![SegmentState { id: 3, len: 128, seal: Some(Seal { next: 8, ..seal }) }];
        let edit = Edit::Compact { added, removed: vec![2], watermark: 7 };
        let refused = good.clone().apply(&edit).expect_err("it is impossible");
        assert!(refused.contains("ends at sequence number 8"), "{refused}");
    }

    /// Goal: a manifest with much damage is judged at once. Method: four MiB behind the header's
    /// first edit in which every place looks like a long edit; looking at each in full takes hours.
    #[test]
    fn a_damaged_tail_costs_its_length() {
        let (header, salt) = encode_header(&StoreId::default());
        let mut bytes = header.to_vec();
        let offset = MANIFEST_HEADER_LEN as u64;
        encode_edit(&mut bytes, salt, offset, &Edit::State(State::new())).expect("encode");
        bytes.extend((0..1 << 19).flat_map(|_| [0, 0, 0x20, 0, 1, 2, 3, 4]));
        assert!(decode(&bytes).expect("decode").torn);
    }
}
