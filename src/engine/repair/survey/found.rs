//! A segment as it was found, and what its pieces say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::super::report::RepairError;
use super::read_file;
use crate::engine::check::Defect;
use crate::engine::error::Corruption;
use crate::format::checksum;
use crate::format::hint::{HINT_LEN, Hint};
use crate::format::manifest::Seal;
use crate::format::record::{Kind, Record};
use crate::format::salvage::{Mend, Piece};
use crate::format::segment::{SEGMENT_FOOTER_LEN, SegmentFooter, SegmentKind};
use crate::vfs::Vfs;

/// What is to be done about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::repair) enum Condition {
    /// Nothing is wrong with it.
    Intact,
    /// It is damaged, or stands under a wrong name: what is whole in it goes to a new one.
    Damaged,
    /// There is no file.
    Missing,
    /// It belongs to another store, or nobody knows to which: it is taken out.
    Foreign,
}

/// A segment that is, or should be, part of the store.
pub(in crate::engine::repair) struct Found {
    pub(in crate::engine::repair) id: u64,
    /// Its file, or where that should be.
    pub(in crate::engine::repair) path: PathBuf,
    pub(in crate::engine::repair) file_len: u64,
    pub(in crate::engine::repair) salt: u32,
    pub(in crate::engine::repair) kind: SegmentKind,
    pub(in crate::engine::repair) generation: u32,
    /// Length that the manifest knows of an unsealed segment.
    pub(in crate::engine::repair) made_len: u64,
    pub(in crate::engine::repair) seal: Option<Seal>,
    pub(in crate::engine::repair) condition: Condition,
    pub(in crate::engine::repair) damage: Vec<Defect>,
    /// What is in it; nothing for an intact sealed segment.
    pub(in crate::engine::repair) pieces: Vec<Piece>,
    /// Bits of headers that were wrong: to be put right wherever its bytes are used.
    pub(in crate::engine::repair) mends: Vec<Mend>,
    /// Its hints are whole and say what records there are.
    pub(in crate::engine::repair) is_by_hints: bool,
    /// There is nothing behind its header but room that was never written to.
    pub(in crate::engine::repair) is_blank: bool,
    /// Collections that its records are of, and the names that it gives to some.
    pub(in crate::engine::repair) used: BTreeSet<u32>,
    pub(in crate::engine::repair) names: BTreeMap<u32, String>,
    /// The keys of records that are unsure.
    pub(in crate::engine::repair) unsure: Vec<(Hint, Vec<u8>)>,
    /// Its first frame does not go on with a batch that began in the segment before it.
    pub(in crate::engine::repair) starts_batch: Option<bool>,
    /// Highest watermark and highest epoch of its frames.
    pub(in crate::engine::repair) watermark: u64,
    pub(in crate::engine::repair) epoch: u32,
}

/// The footer at the end of a file, with its hints, if both are right.
pub(super) fn read_footer(bytes: &[u8], found: &Found) -> Option<(Seal, Vec<Hint>)> {
    let start = bytes.len().checked_sub(SEGMENT_FOOTER_LEN as usize)?;
    let footer = SegmentFooter::decode(bytes.get(start..)?, found.salt)?;
    let hints = bytes.get(usize::try_from(footer.data_end).ok()?..start)?;
    let is_right = footer.id == found.id
        && footer.hints.checked_mul(HINT_LEN as u64) == Some(hints.len() as u64)
        && checksum::salted(found.salt, hints) == footer.hints_checksum;
    let SegmentFooter { data_end, first, next, .. } = footer;
    let seal = Seal { data_end, file_len: bytes.len() as u64, first, next };
    is_right.then(|| (seal, hints.chunks_exact(HINT_LEN).filter_map(Hint::decode).collect()))
}

/// The hints of an intact sealed segment.
pub(in crate::engine::repair) fn load_hints(
    vfs: &dyn Vfs,
    found: &Found,
) -> Result<Vec<Hint>, RepairError> {
    let bytes = read_file(vfs, &found.path)?.unwrap_or_default();
    Ok(read_footer(&bytes, found).map(|(_, hints)| hints).unwrap_or_default())
}

/// The sequence number after everything in a segment, if it says.
pub(in crate::engine::repair) fn next_of(found: &Found) -> Option<u64> {
    if let Some(seal) = found.seal {
        return Some(seal.next).filter(|next| *next > 0);
    }
    found.pieces.iter().filter_map(end_of).max()
}

/// The sequence number after a piece.
pub(in crate::engine::repair) fn end_of(piece: &Piece) -> Option<u64> {
    match piece {
        Piece::Frame { header, .. } => header.base.checked_add(u64::from(header.count)),
        Piece::Record { hint, .. } | Piece::Bad { hint, .. } => hint.seqno.checked_add(1),
        Piece::Lost { next, .. } => Some(*next),
        Piece::Damage { .. } => None,
    }
}

impl Found {
    /// It is part of the end of the log that was not sealed yet.
    pub(in crate::engine::repair) fn is_tail(&self) -> bool {
        self.seal.is_none() && self.kind == SegmentKind::Log
    }

    pub(in crate::engine::repair) fn defect(&mut self, offset: u64, what: &str) {
        let place = Corruption { file: self.path.clone(), offset, what: what.to_owned() };
        self.damage.push(place.into());
    }

    /// Notes what the frames say of the store as a whole.
    pub(super) fn note_frames(&mut self) {
        for piece in &self.pieces {
            let Piece::Frame { header, .. } = piece else { continue };
            self.starts_batch.get_or_insert(header.first);
            self.watermark = self.watermark.max(header.watermark);
            self.epoch = self.epoch.max(header.epoch);
        }
    }

    /// Notes the collections of its records, and the keys of those that are unsure.
    pub(super) fn note_collections(&mut self, bytes: &[u8]) {
        let mut last = None;
        for piece in &self.pieces {
            let Piece::Record { hint, is_sure } = piece else { continue };
            if last != Some(hint.collection) {
                self.used.insert(hint.collection);
                last = Some(hint.collection);
            }
            if *is_sure && hint.kind != Kind::CreateCollection {
                continue;
            }
            let at = usize::try_from(hint.offset).unwrap_or(usize::MAX);
            let Some(record) = bytes.get(at..).and_then(Record::parse) else { continue };
            if !is_sure {
                self.unsure.push((*hint, record.key.to_vec()));
            }
            if let (Kind::CreateCollection, Ok(name)) =
                (hint.kind, std::str::from_utf8(record.value))
            {
                self.names.insert(hint.collection, name.to_owned());
            }
        }
    }

    /// Lists what is damaged, each place once: with key and number where a record is.
    pub(super) fn note_damage(&mut self) {
        let mut defects: BTreeMap<u64, Defect> = BTreeMap::new();
        let pieces = std::mem::take(&mut self.pieces);
        for piece in &pieces {
            let (offset, what) = match piece {
                Piece::Damage { offset, what, .. } => (*offset, *what),
                Piece::Bad { hint, .. } => (hint.offset, "record is damaged"),
                _ => continue,
            };
            let place = Corruption { file: self.path.clone(), offset, what: what.to_owned() };
            let defect = defects.entry(offset).or_insert_with(|| place.into());
            if let Piece::Bad { hint, key, .. } = piece {
                defect.seqno = Some(hint.seqno);
                defect.key.clone_from(key);
            }
        }
        self.pieces = pieces;
        self.damage.extend(defects.into_values());
    }
}
