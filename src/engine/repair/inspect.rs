//! Shows what stands in a store's files, whole or damaged, for people. Changes nothing and takes no
//! lock: beside a writer, the end of the log may look as if it were torn.

use std::path::{Path, PathBuf};

use super::super::check::Defect;
use super::kind_of;
use super::report::{RecordKind, RepairError};
use super::survey::{Condition, Found, Survey, read_file, survey_beside};
use crate::engine::compression::LooseDictionaries;
use crate::engine::system::{self, SYSTEM_NAME};
use crate::format::hint::{Hint, hash_seed};
use crate::format::record::{FrameKind, Record};
use crate::format::salvage::{self, Known, Piece};
use crate::format::segment::SegmentKind;
use crate::format::value::{Coding, Stored};
use crate::limits::SYSTEM_COLLECTION;
use crate::vfs::Vfs;

/// A store as it stands in its files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The store's id.
    pub store: [u8; 16],
    /// Number of the last open that the manifest knows.
    pub epoch: u32,
    /// Everything below this sequence number was durable, says the manifest.
    pub watermark: u64,
    /// The id of the next segment.
    pub next_segment: u64,
    /// The store was closed in order.
    pub is_closed: bool,
    /// What is wrong with the manifest.
    pub manifest_defects: Vec<Defect>,
    /// The segments, by id.
    pub segments: Vec<InspectedSegment>,
    /// Collections by id.
    pub collections: Vec<(u32, String)>,
}

/// A segment of an [`Inspection`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedSegment {
    /// Its id.
    pub id: u64,
    /// Its file.
    pub file: PathBuf,
    /// Bytes of the file; 0 if it is missing.
    pub file_len: u64,
    /// It holds what compaction moved out of others.
    pub is_compacted: bool,
    /// How often its records were moved.
    pub generation: u32,
    /// Which open of the store created it, as far as can be told.
    pub epoch: u32,
    /// If it is sealed: where its records end, its first sequence number, the one after its last.
    pub seal: Option<(u64, u64, u64)>,
    /// What is wrong with it. The torn end of a log that is in use is listed, too.
    pub defects: Vec<Defect>,
}

/// One thing in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A frame; its records follow.
    Frame {
        /// Where it starts.
        offset: u64,
        /// It ends the segment and has no records.
        is_end: bool,
        /// Sequence number of its first record.
        base: u64,
        /// How many records it has.
        count: u32,
        /// First and last frame of its batch.
        first_last: (bool, bool),
        /// Which open of the store wrote it.
        epoch: u32,
        /// Everything below this sequence number was durable when it was written.
        watermark: u64,
        /// All of it is right.
        is_whole: bool,
    },
    /// A record that is whole.
    Record(Box<InspectedRecord>),
    /// A record that is damaged: key and value as they stand there.
    Damaged(Box<InspectedRecord>),
    /// Bytes that are not what was written.
    Rubble {
        /// Where they start.
        offset: u64,
        /// Where something starts that is right.
        end: u64,
        /// What is wrong.
        what: String,
    },
    /// Sequence numbers of which nothing is there.
    Lost {
        /// The first.
        first: u64,
        /// The one after the last.
        next: u64,
    },
}

/// A record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedRecord {
    /// Where it starts.
    pub offset: u64,
    /// Bytes of the whole record.
    pub len: u64,
    /// Its sequence number.
    pub seqno: u64,
    /// The number is certain.
    pub is_sure: bool,
    /// What it does.
    pub kind: RecordKind,
    /// Id and name of its collection; `#` and the id if the name is not known.
    pub collection: (u32, String),
    /// The key.
    pub key: Vec<u8>,
    /// What it is, in words, if it is one of the engine's own.
    pub system: Option<String>,
    /// The value, decompressed if it was compressed; as it is stored, without what says how, if
    /// that cannot be done.
    pub value: Vec<u8>,
    /// The value is compressed, from so many bytes.
    pub compressed_from: Option<u64>,
    /// How it is compressed: `lz4`, or `zstd, dict` and the number of the dictionary.
    pub compression: Option<String>,
    /// Bytes that the value takes as it is stored.
    pub stored_len: u64,
    /// Why the value could not be decompressed.
    pub undecodable: Option<String>,
    /// From this time on it is not returned.
    pub expires_at: Option<u64>,
}

/// Looks at the store in `dir`. Reads all of it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let db = siltstone::Db::open(dir.path())?;
/// db.put("c", b"key", b"value")?;
/// use siltstone::engine::{Item, inspect, inspect_segment};
/// use siltstone::vfs::os::OsVfs;
///
/// let seen = inspect(&OsVfs, dir.path())?;
/// let items = inspect_segment(&OsVfs, dir.path(), seen.segments[0].id)?;
/// let is_put = |item: &Item| matches!(item, Item::Record(record) if record.key == b"key");
/// assert!(items.ok_or("no such segment")?.iter().any(is_put));
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`RepairError::Io`], [`RepairError::Missing`], [`RepairError::Version`]. Damage is no error.
pub fn inspect(vfs: &dyn Vfs, dir: impl AsRef<Path>) -> Result<Inspection, RepairError> {
    let survey = survey_beside(vfs, dir.as_ref(), &|_, _| ())?;
    let segments = survey.segments.iter().map(|found| InspectedSegment {
        id: found.id,
        file: found.path.clone(),
        file_len: found.file_len,
        is_compacted: found.kind == SegmentKind::Compacted,
        generation: found.generation,
        epoch: found.epoch,
        seal: found.seal.map(|seal| (seal.data_end, seal.first, seal.next)),
        defects: found.damage.clone(),
    });
    let names = survey.segments.iter().flat_map(|found| &found.names);
    let names: std::collections::BTreeMap<u32, String> =
        names.map(|(id, name)| (*id, name.clone())).collect();
    Ok(Inspection {
        store: survey.store,
        epoch: survey.state.epoch,
        watermark: survey.state.watermark,
        next_segment: survey.state.next_segment,
        is_closed: survey.state.is_clean,
        collections: names.into_iter().collect(),
        segments: segments.collect(),
        manifest_defects: survey.manifest_damage,
    })
}

/// What stands in segment `id` of the store in `dir`, in the order of the file; `None` if there is
/// no such segment. Reads the whole store, for the names of its collections.
///
/// # Errors
///
/// As [`inspect`].
pub fn inspect_segment(
    vfs: &dyn Vfs,
    dir: impl AsRef<Path>,
    id: u64,
) -> Result<Option<Vec<Item>>, RepairError> {
    let survey = survey_beside(vfs, dir.as_ref(), &|_, _| ())?;
    let Some(found) = survey.segments.iter().find(|found| found.id == id) else {
        return Ok(None);
    };
    if matches!(found.condition, Condition::Missing | Condition::Foreign) {
        return Ok(Some(Vec::new()));
    }
    let mut bytes = read_file(vfs, &found.path)?.unwrap_or_default();
    found.mends.iter().for_each(|mend| mend.apply(&mut bytes));
    let pieces = pieces(&survey, found, &bytes);
    let needs_dictionary = |piece: &Piece| {
        let record = piece_hint(piece).and_then(|hint| record_at(&bytes, hint));
        let stored = record.as_ref().and_then(Record::stored);
        stored.is_some_and(|stored| matches!(stored.coding, Some((Coding::Zstd(_), _))))
    };
    let dictionaries = match pieces.iter().any(needs_dictionary) {
        true => read_dictionaries(vfs, &survey)?,
        false => LooseDictionaries::default(),
    };
    let item = |piece| item(&survey, &dictionaries, &bytes, piece);
    Ok(Some(pieces.iter().filter_map(item).collect()))
}

/// All dictionaries that are whole. Reads the store once more.
fn read_dictionaries(vfs: &dyn Vfs, survey: &Survey) -> Result<LooseDictionaries, RepairError> {
    let mut dictionaries = LooseDictionaries::default();
    let is_there = |found: &&Found| {
        !matches!(found.condition, Condition::Missing | Condition::Foreign)
            && (found.used.is_empty() || found.used.contains(&SYSTEM_COLLECTION))
    };
    for found in survey.segments.iter().filter(is_there) {
        let mut bytes = read_file(vfs, &found.path)?.unwrap_or_default();
        found.mends.iter().for_each(|mend| mend.apply(&mut bytes));
        for piece in pieces(survey, found, &bytes) {
            if let Piece::Record { hint, .. } = &piece
                && hint.collection == SYSTEM_COLLECTION
                && let Some(record) = record_at(&bytes, hint)
            {
                dictionaries.add(record.key, record.value);
            }
        }
    }
    Ok(dictionaries)
}

/// The record that a piece is, if it is one.
fn piece_hint(piece: &Piece) -> Option<&Hint> {
    match piece {
        Piece::Record { hint, .. } | Piece::Bad { hint, .. } => Some(hint),
        _ => None,
    }
}

fn record_at<'a>(bytes: &'a [u8], hint: &Hint) -> Option<Record<'a>> {
    bytes.get(usize::try_from(hint.offset).ok()?..).and_then(Record::parse)
}

/// What is in a segment: a whole sealed one is looked at again.
fn pieces(survey: &Survey, found: &Found, bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = found.pieces.clone();
    if pieces.is_empty() {
        let number = |n: u64| Some(n).filter(|n| *n > 0);
        let known = Known {
            salt: found.salt,
            hash_seed: hash_seed(&survey.store),
            kind: found.kind,
            first: found.seal.and_then(|seal| number(seal.first)),
            next: found.seal.and_then(|seal| number(seal.next)),
            end: found.seal.map_or(found.file_len, |seal| seal.data_end),
            is_sealed: found.seal.is_some(),
        };
        pieces = salvage::scan(bytes, &known);
    }
    // What the hints know comes behind the frames: to where it stands.
    pieces.sort_by_key(|piece| match piece {
        Piece::Frame { offset, .. } => (*offset, 0),
        Piece::Damage { offset, .. } => (*offset, 1),
        Piece::Record { hint, .. } | Piece::Bad { hint, .. } => (hint.offset, 2),
        Piece::Lost { .. } => (u64::MAX, 3),
    });
    pieces
}

fn item(
    survey: &Survey,
    dictionaries: &LooseDictionaries,
    bytes: &[u8],
    piece: &Piece,
) -> Option<Item> {
    Some(match piece {
        Piece::Frame { offset, header, is_whole } => Item::Frame {
            offset: *offset,
            is_end: header.kind == FrameKind::End,
            base: header.base,
            count: header.count,
            first_last: (header.first, header.last),
            epoch: header.epoch,
            watermark: header.watermark,
            is_whole: *is_whole,
        },
        Piece::Damage { offset, end, what } => {
            Item::Rubble { offset: *offset, end: *end, what: (*what).to_owned() }
        }
        Piece::Lost { first, next, .. } => Item::Lost { first: *first, next: *next },
        Piece::Record { hint, is_sure, .. } => Item::Record(Box::new(InspectedRecord {
            is_sure: *is_sure,
            ..inspected(survey, bytes, hint, |id, stored| dictionaries.decompress(id, stored))
        })),
        Piece::Bad { hint, .. } => {
            let refuse = |_, _: &Stored<'_>| Err("the record is damaged".to_owned());
            Item::Damaged(Box::new(inspected(survey, bytes, hint, refuse)))
        }
    })
}

/// What stands at the place of a record. `decompress` is asked for values that are compressed.
fn inspected(
    survey: &Survey,
    bytes: &[u8],
    hint: &Hint,
    decompress: impl Fn(u32, &Stored<'_>) -> Result<Vec<u8>, String>,
) -> InspectedRecord {
    let id = hint.collection;
    let name_of = |id: u32| {
        let name = survey.segments.iter().rev().find_map(|found| found.names.get(&id));
        name.cloned().unwrap_or_else(|| format!("#{id}"))
    };
    let record = record_at(bytes, hint);
    let stored = record.as_ref().and_then(Record::stored);
    let coding = stored.as_ref().and_then(|stored| stored.coding);
    let (value, undecodable) = match &stored {
        Some(stored) if coding.is_some() => match decompress(id, stored) {
            Ok(value) => (value, None),
            Err(why) => (stored.bytes.to_vec(), Some(why)),
        },
        Some(stored) => (stored.bytes.to_vec(), None),
        None => (Vec::new(), None),
    };
    let key = record.as_ref().map(|record| record.key);
    let system = system::describe(id, key, Some(&value), name_of);
    let name = if system.is_some() { SYSTEM_NAME.to_owned() } else { name_of(id) };
    InspectedRecord {
        offset: hint.offset,
        len: hint.len,
        seqno: hint.seqno,
        is_sure: false,
        kind: kind_of(hint.kind),
        collection: (id, name),
        key: key.unwrap_or_default().to_vec(),
        system,
        value,
        compressed_from: coding.map(|(_, raw_len)| raw_len as u64),
        compression: coding.map(|(coding, _)| match coding {
            Coding::Lz4 => "lz4".to_owned(),
            Coding::Zstd(number) => format!("zstd, dict {number}"),
        }),
        stored_len: stored.as_ref().map_or(0, |stored| stored.bytes.len() as u64),
        undecodable,
        expires_at: stored.as_ref().and_then(|stored| stored.expires),
    }
}
