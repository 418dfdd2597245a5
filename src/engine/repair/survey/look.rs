//! Looks into one segment: at its header, its frames and its footer, each of which may be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::report::RepairError;
use super::found::{Condition, Found, read_footer};
use super::{Header, Surveyor, read_file};
use crate::engine::recovery::whose;
use crate::format::hint::hash_seed;
use crate::format::manifest::SegmentState;
use crate::format::record::FrameHeader;
use crate::format::salvage::{self, Known, Mend, Piece, find_salt, mend};
use crate::format::segment::{
    HeaderError, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, file_name,
};

impl Surveyor<'_> {
    /// Looks at the segment `id`; `expected` is the sequence number after the log before it.
    pub(super) fn look(
        &mut self,
        id: u64,
        listed: Option<&SegmentState>,
        expected: Option<u64>,
    ) -> Result<Found, RepairError> {
        let own = self.dir.join(file_name(id));
        let (path, header) = self.file_of(id, &own);
        let mut found = Found {
            id,
            file_len: 0,
            salt: 0,
            kind: SegmentKind::Log,
            generation: 0,
            made_len: listed.map_or(0, |s| s.len),
            seal: listed.and_then(|s| s.seal),
            condition: Condition::Intact,
            damage: Vec::new(),
            pieces: Vec::new(),
            mends: Vec::new(),
            is_by_hints: false,
            is_blank: false,
            used: BTreeSet::new(),
            names: BTreeMap::new(),
            unsure: Vec::new(),
            starts_batch: None,
            watermark: 0,
            epoch: 0,
            path,
        };
        let Some(mut bytes) = read_file(self.vfs, &found.path)? else {
            found.condition = Condition::Missing;
            found.defect(0, "listed but not there");
            return Ok(found);
        };
        found.file_len = bytes.len() as u64;
        found.is_blank = is_blank(&bytes, found.made_len);
        if found.path != own {
            found.defect(0, &format!("is segment {id} under another's name"));
        }
        match header {
            Some(Ok((header, salt))) => {
                if header.store != self.store || header.id != id {
                    found.condition = Condition::Foreign;
                    found.defect(0, &whose(&header, &self.store));
                    return Ok(found);
                }
                (found.salt, found.kind, found.generation) = (salt, header.kind, header.generation);
                found.epoch = header.epoch;
            }
            Some(Err(HeaderError::Damaged(what))) => self.find_header(&mut found, &bytes, what),
            _ => found.defect(0, "no segment header"),
        }
        if found.condition != Condition::Foreign {
            self.look_inside(&mut found, &mut bytes, expected);
        }
        Ok(found)
    }

    /// The file that holds segment `id`, and its header: that of its name, or one under another
    /// name if that is better.
    fn file_of(&self, id: u64, own: &Path) -> (PathBuf, Option<Header>) {
        let is_it =
            |header: &Header| matches!(header, Ok((h, _)) if h.store == self.store && h.id == id);
        match self.headers.get(&id) {
            Some(header) if is_it(header) => (own.to_owned(), Some(*header)),
            own_header => {
                let other = self.headers.iter().find(|(_, header)| is_it(header));
                match other {
                    Some((name, header)) => (self.dir.join(file_name(*name)), Some(*header)),
                    None => (own.to_owned(), own_header.copied()),
                }
            }
        }
    }

    /// Finds out what a damaged header said, from the frames and from what is left of it.
    fn find_header(&self, found: &mut Found, bytes: &[u8], what: &str) {
        found.defect(0, what);
        let Some(salt) = find_salt(bytes) else { return };
        found.salt = salt;
        let kinds = [(SegmentKind::Log, 0..1), (SegmentKind::Compacted, 0..64)];
        for (kind, generations) in kinds {
            for (generation, epoch) in generations
                .flat_map(|g| (0..=self.manifest.state.epoch.min(1 << 12)).map(move |e| (g, e)))
            {
                let header =
                    SegmentHeader { store: self.store, id: found.id, epoch, kind, generation };
                if header.encode().1 == salt {
                    (found.kind, found.generation, found.epoch) = (kind, generation, epoch);
                    return;
                }
            }
        }
        // Its epoch is unknown, say: then most of the store's id should still be there.
        let id = bytes.get(16..32).unwrap_or(&[]);
        let wrong: u32 = id.iter().zip(&self.store).map(|(a, b)| (a ^ b).count_ones()).sum();
        if wrong > 16 {
            found.condition = Condition::Foreign;
        } else if bytes.get(12) == Some(&(SegmentKind::Compacted as u8)) {
            found.kind = SegmentKind::Compacted;
        }
    }

    fn look_inside(&self, found: &mut Found, bytes: &mut [u8], expected: Option<u64>) {
        let footer = read_footer(bytes, found);
        // What the manifest does not say yet, or because it is damaged, the footer does: all that
        // it speaks of was durable before it was written.
        if found.seal.is_none()
            && let Some((seal, _)) = &footer
        {
            found.seal = Some(*seal);
        }
        let known = |number: u64| Some(number).filter(|n| *n > 0);
        let seal = found.seal;
        let known = Known {
            salt: found.salt,
            hash_seed: hash_seed(&self.store),
            kind: found.kind,
            first: seal.map_or(expected, |seal| known(seal.first)),
            next: seal.map_or_else(|| self.first_after(found.id), |seal| known(seal.next)),
            end: seal.map_or(found.file_len, |seal| seal.data_end),
            is_sealed: seal.is_some(),
        };
        found.mends = mend(bytes, &known);
        for Mend { offset, .. } in found.mends.clone() {
            found.defect(offset as u64, "one bit of a header is wrong; it can be put right");
        }
        found.pieces = salvage::scan(bytes, &known);
        found.note_frames();
        let was = found.damage.len();
        found.note_damage();
        if let Some(seal) = seal {
            if found.file_len < seal.data_end {
                let what = format!("the file ends here, its records ended at {}", seal.data_end);
                found.defect(found.file_len, &what);
            }
            let hints = footer.filter(|(own, _)| *own == seal).map(|(_, hints)| hints);
            match hints {
                None => found.defect(seal.data_end.min(found.file_len), "hints are damaged"),
                Some(hints) if found.damage.len() > was => {
                    // They know every record and its number.
                    found.is_by_hints = true;
                    found.pieces.retain(|piece| {
                        matches!(piece, Piece::Frame { .. } | Piece::Damage { .. })
                    });
                    found.pieces.extend(salvage::by_hints(bytes, &known, &hints));
                    found.damage.truncate(was);
                    found.note_damage();
                }
                Some(_) => {}
            }
        } else if found.kind == SegmentKind::Compacted {
            found.defect(found.file_len, "a compacted segment without a footer");
        } else if found.file_len < found.made_len {
            let what = format!("the file ends here, it had {} bytes", found.made_len);
            found.defect(found.file_len, &what);
        }
        found.note_collections(bytes);
        if !found.damage.is_empty() {
            found.condition = Condition::Damaged;
        } else if found.seal.is_some() {
            found.pieces = Vec::new();
        }
    }

    /// The sequence number of the first record of the log segment after `id`.
    fn first_after(&self, id: u64) -> Option<u64> {
        let (next, header) = self.headers.range(id.checked_add(1)?..).next()?;
        let (header, salt) = header.as_ref().ok()?;
        if header.kind != SegmentKind::Log || header.store != self.store || header.id != *next {
            return None;
        }
        let path = self.dir.join(file_name(*next));
        let bytes = read_file(self.vfs, &path).ok()??;
        let frame = bytes.get(SEGMENT_HEADER_LEN as usize..)?;
        Some(FrameHeader::verify(frame, *salt, SEGMENT_HEADER_LEN)?.base)
    }
}

/// True if there are only zeros behind the header, and whatever has damaged that has not wiped
/// frames as well: it has left the end of the header, or there was never any more.
fn is_blank(bytes: &[u8], made_len: u64) -> bool {
    let Some((header, rest)) = bytes.split_at_checked(SEGMENT_HEADER_LEN as usize) else {
        return false;
    };
    let has_end = header.iter().rev().take(4).any(|byte| *byte != 0);
    rest.iter().all(|byte| *byte == 0) && (has_end || made_len == SEGMENT_HEADER_LEN)
}
