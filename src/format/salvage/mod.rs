//! Finding what is whole in a damaged segment.
//!
//! [`super::scan`] says whether a frame is whole. This module goes on where it is not: records have
//! checksums of their own, so those beside the damage can be told from those under it.
//!
//! - A frame whose header is right, and whose records are not all: the records that are right have
//!   their places in the frame, and so their sequence numbers.
//! - Bytes without a frame header, up to the next one (a frame's checksum is bound to its offset,
//!   so that it is found by looking at every eighth byte): records that are right are *placed* by
//!   what stands beside them. Where that does not settle a number the lowest possible one is
//!   taken, so that no newer record of the key is hidden, and the record is marked as unsure.
//! - A segment header that is damaged: its checksum, the salt of everything in the segment, is
//!   found by running the checksum of a frame header backwards ([`find_salt`]).
//!
//! The hints of a sealed segment, where they are whole, make all of that unnecessary: they list
//! every record with its number ([`by_hints`]).
//!
//! Records say which segment they belong to, but not where in it: a copy of a record over another
//! one of the segment looks right by itself. One that is placed by less than a whole frame, and
//! has a twin in the segment, is given up.
//!
//! One wrong bit in a header is put right first ([`mend`]): its checksum tells which bit it is, and
//! a second checksum, that of what the header leads to, proves it. Values are never mended.

mod manifest;
mod mend;

use std::collections::HashMap;

use super::bytes::u64_at;
use super::checksum;
use super::hint::{Hint, hash_key};
use super::record::{
    FRAME_HEADER_LEN, FrameHeader, FrameKind, Kind, RECORD_HEADER_LEN, Record, RecordHeader,
    RecordsChecksum,
};
use super::scan::{Frame, Step, frame_at, is_sound};
use super::segment::{SEGMENT_HEADER_LEN, SegmentKind};

pub(crate) use manifest::{FoundManifest, read_manifest};
pub(crate) use mend::{Mend, mend};

/// What is found in a segment, in the order of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A frame header with a right checksum; its records follow.
    Frame {
        /// Offset of the frame.
        offset: u64,
        /// The header.
        header: FrameHeader,
        /// All of the frame is right.
        is_whole: bool,
    },
    /// A record that is whole.
    Record {
        /// What a hint says of it.
        hint: Hint,
        /// Its number is certain, and that it belongs where it stands.
        is_sure: bool,
    },
    /// A record whose key or value is damaged.
    Bad {
        /// What its header, or a hint, says of it.
        hint: Hint,
        /// The key that stands there, if a key does.
        key: Option<Vec<u8>>,
        /// The key is the one that was written: the hash in a hint says so.
        is_key_sure: bool,
    },
    /// Sequence numbers of which no record was found.
    Lost {
        /// The first.
        first: u64,
        /// The one after the last.
        next: u64,
        /// At most so many records are lost: compacted segments have gaps in their numbers.
        max: u64,
    },
    /// Bytes that are not what was written.
    Damage {
        /// Where they start, in the segment.
        offset: u64,
        /// Where the next thing starts that is right.
        end: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// What is known of a segment before it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The salt of its checksums.
    pub salt: u32,
    /// Seed of key hashes.
    pub hash_seed: u64,
    /// What kind it is.
    pub kind: SegmentKind,
    /// Sequence number of its first record, if that is known.
    pub first: Option<u64>,
    /// Sequence number after its last record, if that is known.
    pub next: Option<u64>,
    /// Offset behind its frames; of an unsealed segment, the length of its file.
    pub end: u64,
    /// It is sealed: there are frames up to its end.
    pub is_sealed: bool,
}

/// The salt of the segment with these bytes, whatever its header says: found by a frame header
/// and confirmed by the header of the record behind it. `None` if there is no such frame.
pub(crate) fn find_salt(bytes: &[u8]) -> Option<u32> {
    let start = SEGMENT_HEADER_LEN as usize;
    (start..bytes.len()).step_by(8).find_map(|at| {
        let header = bytes.get(at..at + FRAME_HEADER_LEN)?;
        if header.get(4) != Some(&(FrameKind::Batch as u8)) {
            return None;
        }
        let (sum, signed) = header.split_first_chunk::<4>()?;
        let salt = checksum::salt_of(u32::from_le_bytes(*sum), at as u64, signed);
        let frame = FrameHeader::verify(header, salt, at as u64)?;
        let record = bytes.get(at + FRAME_HEADER_LEN..)?;
        let is_right = frame.count > 0 && RecordHeader::verify(record, salt).is_some();
        is_right.then_some(salt)
    })
}

/// Everything that can be told of the frames of a segment with these `bytes`.
pub(crate) fn scan(bytes: &[u8], known: &Known) -> Vec<Piece> {
    let end = usize::try_from(known.end).unwrap_or(usize::MAX).min(bytes.len());
    let bytes = bytes.get(..end).unwrap_or(bytes);
    let mut scan = Scan { bytes, known, expected: known.first, out: Vec::new(), loose: Vec::new() };
    scan.run();
    scan.drop_twins();
    scan.out
}

/// The records that `hints` list, which are those of the segment: whole or not.
pub(crate) fn by_hints(bytes: &[u8], known: &Known, hints: &[Hint]) -> Vec<Piece> {
    let look = |hint: &Hint| {
        let at = usize::try_from(hint.offset).unwrap_or(usize::MAX);
        let record = bytes.get(at..).and_then(|rest| Record::verify_header(rest, known.salt));
        let fits = |record: &Record<'_>| {
            record.header.record_len() as u64 == hint.len
                && record.header.kind == hint.kind
                && record.header.collection == hint.collection
        };
        let Some(record) = record.filter(fits) else {
            return Piece::Bad { hint: *hint, key: None, is_key_sure: false };
        };
        let has_hash = hint.hash == hash_of(known.hash_seed, &record);
        if has_hash && record.body_is_intact() && is_sound(&record) {
            return Piece::Record { hint: *hint, is_sure: true };
        }
        let has_key = matches!(hint.kind, Kind::Put | Kind::Delete);
        let key = has_key.then(|| record.key.to_vec());
        Piece::Bad { hint: *hint, key, is_key_sure: has_key && has_hash }
    };
    hints.iter().map(look).collect()
}

fn hash_of(seed: u64, record: &Record<'_>) -> u64 {
    match record.header.kind {
        Kind::Put | Kind::Delete => hash_key(seed, record.key),
        _ => 0,
    }
}

/// Records that stand one behind the other, with indexes that rise.
struct Run {
    start: usize,
    end: usize,
    /// Offset, header, and whether the body is right.
    records: Vec<(usize, RecordHeader, bool)>,
}

impl Run {
    fn first_index(&self) -> u64 {
        self.records.first().map_or(0, |r| u64::from(r.1.index))
    }

    fn last_index(&self) -> u64 {
        self.records.last().map_or(0, |r| u64::from(r.1.index))
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    known: &'a Known,
    /// Sequence number of the next record, if it is known; of a compacted segment, at least.
    expected: Option<u64>,
    out: Vec<Piece>,
    /// Indexes into `out` of records that were placed by less than a whole frame.
    loose: Vec<usize>,
}

impl<'a> Scan<'a> {
    fn is_log(&self) -> bool {
        self.known.kind == SegmentKind::Log
    }

    fn run(&mut self) {
        let mut at = SEGMENT_HEADER_LEN as usize;
        let mut is_closed = false;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (wrong_at, what) = match frame_at(rest, self.known.salt, at as u64) {
                Step::Frame(frame) => {
                    if self.take_whole(at, &frame) {
                        is_closed = true;
                        break;
                    }
                    at += usize::try_from(frame.len()).unwrap_or(usize::MAX);
                    continue;
                }
                Step::More(_) => (0, "frame reaches behind the end"),
                Step::Bad(wrong_at, what) => (usize::try_from(wrong_at).unwrap_or(0), what),
            };
            if let Some(header) = FrameHeader::verify(rest, self.known.salt, at as u64) {
                at = self.take_damaged(at, &header, wrong_at, what);
                continue;
            }
            let next = self.next_frame(at + 8);
            let stop = next.map_or(self.bytes.len(), |(at, _)| at);
            let gap = rest.get(..stop - at).unwrap_or(rest);
            if next.is_none() && !self.known.is_sealed && gap.iter().all(|b| *b == 0) {
                break;
            }
            let next_base = next.map_or(self.known.next, |(_, header)| Some(header.base));
            self.take_headless(at, stop, next_base, what);
            at = stop;
        }
        let Some(next) = self.known.next else { return };
        if self.is_log() {
            self.lose_upto(next);
        } else if self.known.is_sealed && !is_closed && (self.bytes.len() as u64) < self.known.end {
            let first = self.expected.unwrap_or(0);
            let room = (self.known.end - self.bytes.len() as u64) / RECORD_HEADER_LEN as u64;
            let max = next.saturating_sub(first).min(room);
            if max > 0 {
                self.out.push(Piece::Lost { first, next, max });
            }
        }
    }

    /// The next frame header that is right, from `start` on.
    fn next_frame(&self, start: usize) -> Option<(usize, FrameHeader)> {
        (start..self.bytes.len()).step_by(8).find_map(|at| {
            let header = FrameHeader::verify(self.bytes.get(at..)?, self.known.salt, at as u64)?;
            (self.expected.is_none_or(|e| header.base >= e)).then_some((at, header))
        })
    }

    /// The log has lost what is missing below `next`.
    fn lose_upto(&mut self, next: u64) {
        if let Some(first) = self.expected.filter(|e| *e < next) {
            self.out.push(Piece::Lost { first, next, max: next - first });
        }
        self.expected = Some(self.expected.unwrap_or(next).max(next));
    }

    /// Takes a whole frame; true if it is the last.
    fn take_whole(&mut self, at: usize, frame: &Frame<'_>) -> bool {
        let header = frame.header;
        let offset = at as u64;
        if self.expected.is_some_and(|e| header.base < e) {
            let end = offset + frame.len();
            let what = "frame goes back in the log";
            self.out.push(Piece::Damage { offset, end, what });
            return false;
        }
        if self.is_log() {
            self.lose_upto(header.base);
        }
        self.out.push(Piece::Frame { offset, header, is_whole: true });
        let mut next = header.base.saturating_add(u64::from(header.count));
        for (skip, record) in frame.records() {
            let index = u64::from(record.header.index);
            next = next.max(header.base.saturating_add(index).saturating_add(1));
            let hint = self.hint(offset + skip, &record, header.base.saturating_add(index));
            self.out.push(Piece::Record { hint, is_sure: true });
        }
        if self.is_log() || header.count > 0 {
            self.expected = Some(next);
        }
        header.kind == FrameKind::End
    }

    fn hint(&self, offset: u64, record: &Record<'_>, seqno: u64) -> Hint {
        let hash = hash_of(self.known.hash_seed, record);
        let RecordHeader { collection, kind, flags, .. } = record.header;
        Hint {
            hash,
            seqno,
            offset,
            len: record.header.record_len() as u64,
            collection,
            kind,
            flags,
        }
    }

    /// The runs of records between `start` and `end`.
    fn runs(&self, start: usize, end: usize) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut at = start;
        while at + RECORD_HEADER_LEN <= end {
            let bytes = self.bytes.get(at..end).unwrap_or(&[]);
            let Some(record) = Record::verify_header(bytes, self.known.salt) else {
                at += 8;
                continue;
            };
            let next = at + record.header.record_len();
            let found = (at, record.header, record.body_is_intact() && is_sound(&record));
            let index = u64::from(record.header.index);
            let goes_on = |run: &Run| {
                let last = run.last_index();
                run.end == at && (index == last + 1 || (!self.is_log() && index > last))
            };
            match runs.last_mut().filter(|run| goes_on(run)) {
                Some(run) => {
                    run.records.push(found);
                    run.end = next;
                }
                None => runs.push(Run { start: at, end: next, records: vec![found] }),
            }
            at = next;
        }
        runs
    }

    /// Takes what is right of a frame whose header is; returns where it ends.
    fn take_damaged(
        &mut self,
        at: usize,
        header: &FrameHeader,
        wrong_at: usize,
        what: &'static str,
    ) -> usize {
        let start = at + FRAME_HEADER_LEN;
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let frame_end = start.saturating_add(len);
        let end = frame_end.min(self.bytes.len());
        let offset = at as u64;
        if self.expected.is_some_and(|e| header.base < e) {
            let what = "frame goes back in the log";
            self.out.push(Piece::Damage { offset, end: end as u64, what });
            return end;
        }
        if self.is_log() {
            self.lose_upto(header.base);
        }
        self.out.push(Piece::Frame { offset, header: *header, is_whole: false });
        let damage = Piece::Damage { offset: offset + wrong_at as u64, end: end as u64, what };
        self.out.push(damage);
        let count = u64::from(header.count);
        let runs = self.runs(start, end);
        let loose = self.loose.len();
        // A run that ends where the frame does bounds those before it.
        let limit = runs.last().filter(|run| {
            run.end == frame_end && (!self.is_log() || run.last_index() + 1 == count)
        });
        let limit = limit.map(|run| (run.start, run.first_index()));
        let (mut next, mut found, mut run_end) = (0, 0, start);
        for run in &runs {
            let is_last = limit.is_some_and(|(start, _)| start == run.start);
            let below = if is_last { None } else { limit.map(|(_, index)| index) };
            let below = below.unwrap_or(if self.is_log() { count } else { u64::MAX });
            let (first, last) = (run.first_index(), run.last_index());
            let missing = first.saturating_sub(next);
            let room = (run.start - run_end) / RECORD_HEADER_LEN;
            let fits = !self.is_log() || missing <= room as u64;
            if first < next || last >= below || !fits {
                continue;
            }
            self.take_run(run, header.base);
            (next, run_end) = (last + 1, run.end);
            found += run.records.len() as u64;
        }
        if self.has_all_headers(&runs, header, frame_end) {
            // Nothing but keys and values is wrong: the others are surely those of the frame.
            self.loose.truncate(loose);
        }
        if self.is_log() {
            self.lose_upto(header.base.saturating_add(count));
        } else if found < count {
            let first = header.base;
            let next = self.next_frame(end).map(|(_, next)| next.base).or(self.known.next);
            let next = next.unwrap_or(first.saturating_add(u64::from(u32::MAX)));
            self.out.push(Piece::Lost { first, next, max: count - found });
        }
        end
    }

    /// True if the headers of all records of a frame are there, and are those that were written.
    fn has_all_headers(&self, runs: &[Run], header: &FrameHeader, frame_end: usize) -> bool {
        let [run] = runs else { return false };
        let mut sum = RecordsChecksum::new(self.known.salt);
        for (at, ..) in &run.records {
            sum.add(self.bytes.get(*at..).unwrap_or(&[]));
        }
        run.end == frame_end && sum.finish() == header.records_checksum
    }

    /// Takes the records of a run; their frame's first number is `base`.
    fn take_run(&mut self, run: &Run, base: u64) {
        for (at, header, is_intact) in &run.records {
            let seqno = base.saturating_add(u64::from(header.index));
            if self.is_log() {
                self.lose_upto(seqno);
            }
            let rest = self.bytes.get(*at..).unwrap_or(&[]);
            let Some(record) = Record::parse(rest) else { continue };
            let hint = self.hint(*at as u64, &record, seqno);
            if *is_intact {
                self.loose.push(self.out.len());
                self.out.push(Piece::Record { hint, is_sure: true });
            } else {
                let has_key = matches!(hint.kind, Kind::Put | Kind::Delete);
                let key = has_key.then(|| record.key.to_vec());
                self.out.push(Piece::Bad { hint, key, is_key_sure: false });
            }
            self.expected = Some(seqno.saturating_add(1));
        }
    }

    /// Takes what is right between `start` and `stop`, where no frame header is. What follows
    /// starts with the number `next`, if that is known.
    fn take_headless(&mut self, start: usize, stop: usize, next: Option<u64>, what: &'static str) {
        let damage = Piece::Damage { offset: start as u64, end: stop as u64, what };
        self.out.push(damage);
        let runs = self.runs(start, stop);
        let bases = self.place(&runs, start, stop, next);
        let is_settled = self.is_log() && bases.iter().all(|(_, is_exact)| *is_exact);
        let (first, mut found) = (self.expected.unwrap_or(0), 0);
        for (run, (base, is_exact)) in runs.iter().zip(bases) {
            let (run_first, last) = (run.first_index(), run.last_index());
            let (run_first, last) = (base.saturating_add(run_first), base.saturating_add(last));
            let goes_back = self.expected.is_some_and(|e| run_first < e);
            if goes_back || next.is_some_and(|next| last >= next) {
                continue;
            }
            if !is_settled {
                // Which numbers are lost between the runs is not known.
                self.expected = Some(run_first);
            }
            let from = self.out.len();
            self.take_run(run, base);
            found += run.records.len() as u64;
            for piece in self.out.get_mut(from..).unwrap_or(&mut []) {
                if let Piece::Record { is_sure, .. } = piece {
                    *is_sure &= is_exact;
                }
            }
        }
        if is_settled {
            if let Some(next) = next {
                self.lose_upto(next);
            }
            return;
        }
        let Some(next) = next.or(self.expected) else { return };
        let room = ((stop - start) / RECORD_HEADER_LEN) as u64;
        let max = next.saturating_sub(first).min(room).saturating_sub(found);
        if max > 0 {
            self.out.push(Piece::Lost { first, next, max });
        }
        if self.is_log() {
            self.expected = Some(next);
        }
    }

    /// The first number of the frame of each run, and whether it is certain.
    fn place(
        &self,
        runs: &[Run],
        start: usize,
        stop: usize,
        next: Option<u64>,
    ) -> Vec<(u64, bool)> {
        let starts_frame = |i: usize| runs.get(i).is_some_and(|run| run.first_index() == 0);
        // The run before run `i` ends where the header of its frame starts.
        let follows = |i: usize| {
            let before = match i.checked_sub(1) {
                Some(i) => runs.get(i).map_or(start, |run| run.end),
                None => start,
            };
            starts_frame(i) && runs.get(i).is_some_and(|r| r.start == before + FRAME_HEADER_LEN)
        };
        let mut bases = Vec::with_capacity(runs.len());
        let mut base = self.expected.unwrap_or(0);
        let mut is_exact = self.is_log() && self.expected.is_some();
        for (i, run) in runs.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| runs.get(i));
            if starts_frame(i) {
                is_exact &= follows(i);
                base = before.map_or(base, |run| base.saturating_add(run.last_index() + 1));
            } else if before.is_none_or(|before| before.last_index() >= run.first_index()) {
                // The start of its frame is lost.
                is_exact = false;
                base = before.map_or(base, |run| base.saturating_add(run.last_index() + 1));
            }
            bases.push((base, is_exact));
        }
        // From behind, as far as one run leads to the one before it.
        let reaches = runs.last().is_some_and(|run| run.end == stop);
        let mut bound = next.filter(|_| reaches && self.is_log());
        for (i, run) in runs.iter().enumerate().rev() {
            let Some(end) = bound else { break };
            let base = end.checked_sub(run.last_index() + 1);
            if let (Some(base), Some(place)) = (base, bases.get_mut(i)) {
                *place = (base, true);
            }
            bound = base.filter(|_| follows(i));
        }
        bases
    }

    /// Of records that were placed by less than a whole frame, those are given up that look like
    /// another one of the segment: they may be a copy, over something else, and with the number of
    /// that they would hide what is newer.
    fn drop_twins(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        // Both checksums of a record, which stand at its start, tell it from all others.
        let face = |bytes: &[u8], hint: &Hint| {
            usize::try_from(hint.offset).ok().and_then(|at| bytes.get(at..)).map(|b| u64_at(b, 0))
        };
        let mut faces: HashMap<u64, u32> = HashMap::new();
        for piece in &self.out {
            if let Piece::Record { hint, .. } = piece
                && let Some(face) = face(self.bytes, hint)
            {
                *faces.entry(face).or_default() += 1;
            }
        }
        for i in std::mem::take(&mut self.loose) {
            if let Some(Piece::Record { hint, .. }) = self.out.get(i)
                && let Some(face) = face(self.bytes, hint)
                && faces.get(&face).is_some_and(|n| *n > 1)
            {
                let piece = Piece::Bad { hint: *hint, key: None, is_key_sure: false };
                self.out[i] = piece;
            }
        }
    }
}
