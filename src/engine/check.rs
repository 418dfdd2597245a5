//! Verification of a whole store while it is in use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::core::Core;
use super::error::{Corruption, ReadError};
use super::segments::Segment;
use crate::format::record::{FRAME_HEADER_LEN, FrameKind};
use crate::format::scan::{Step, frame_at};
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::index::Location;

/// Most defects listed in a report; more are counted only.
const DEFECTS_MAX: usize = 1000;

/// What [`super::Db::check`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Segments read.
    pub segments: u64,
    /// Frames verified.
    pub frames: u64,
    /// Records verified.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Keys of the index that lead to a whole record of that collection.
    pub keys: u64,
    /// How many defects there are.
    pub defect_count: u64,
    /// The first of them, each with file and offset.
    pub defects: Vec<Corruption>,
}

impl CheckReport {
    /// True if nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.defect_count == 0
    }

    fn defect(&mut self, defect: Corruption) {
        self.defect_count += 1;
        if self.defects.len() < DEFECTS_MAX {
            self.defects.push(defect);
        }
    }
}

impl Core {
    /// Reads every frame of every segment and compares the index with what is there.
    pub(super) fn check(&self) -> Result<CheckReport, ReadError> {
        let mut report = CheckReport::default();
        let mut keys: HashMap<u32, HashSet<Location>> = self
            .catalog
            .all()
            .iter()
            .map(|c| (c.id, c.index().locations().into_iter().collect()))
            .collect();
        let expected: u64 = keys.values().map(|k| k.len() as u64).sum();
        for segment in self.segments.all() {
            self.check_segment(&segment, &mut keys, &mut report)?;
        }
        report.keys = expected - keys.values().map(|k| k.len() as u64).sum::<u64>();
        for location in keys.into_values().flatten() {
            let segment = self.segment(location)?;
            let what = "the index points here, but there is no whole record of its collection";
            report.defect(segment.corruption(location.offset(), what));
        }
        Ok(report)
    }

    fn check_segment(
        &self,
        segment: &Arc<Segment>,
        keys: &mut HashMap<u32, HashSet<Location>>,
        report: &mut CheckReport,
    ) -> Result<(), ReadError> {
        report.segments += 1;
        let end = segment.end();
        let mut header = [0; SEGMENT_HEADER_LEN as usize];
        segment.read_at(&mut header, 0)?;
        if !SegmentHeader::decode(&header).is_ok_and(|(_, salt)| salt == segment.salt) {
            report.defect(segment.corruption(0, "segment header is damaged"));
        }
        if let Some(defect) = self.check_hints(segment)? {
            report.defect(defect);
        }
        let mut offset = SEGMENT_HEADER_LEN;
        let mut buf = Vec::new();
        let mut want = FRAME_HEADER_LEN as u64;
        while offset < end {
            let len = want.min(end - offset);
            buf.resize(usize::try_from(len).unwrap_or(0), 0);
            let read = segment.read_at(&mut buf, offset)?;
            match frame_at(buf.get(..read).unwrap_or(&[]), segment.salt, offset) {
                Step::Frame(frame) => {
                    report.frames += 1;
                    for (at, record) in frame.records() {
                        report.records += 1;
                        let location = Location::new(segment.slot, offset + at);
                        if let (Some(location), Some(known)) =
                            (location, keys.get_mut(&record.header.collection))
                        {
                            known.remove(&location);
                        }
                    }
                    offset += frame.len();
                    report.bytes += frame.len();
                    want = FRAME_HEADER_LEN as u64;
                    if frame.header.kind == FrameKind::End {
                        return Ok(());
                    }
                }
                Step::More(len) if len > want && offset + len <= end => want = len,
                Step::More(_) => {
                    report.defect(segment.corruption(offset, "frame reaches behind the log"));
                    return Ok(());
                }
                Step::Bad(at, what) => {
                    report.defect(segment.corruption(offset + at, what));
                    // Nothing tells for sure where the next frame starts: look for one.
                    match self.next_frame(segment, offset + 8, end)? {
                        Some(next) => offset = next,
                        None => return Ok(()),
                    }
                    want = FRAME_HEADER_LEN as u64;
                }
            }
        }
        Ok(())
    }

    /// The offset of the next whole frame from `offset` on.
    fn next_frame(
        &self,
        segment: &Segment,
        mut offset: u64,
        end: u64,
    ) -> Result<Option<u64>, ReadError> {
        const STRETCH: u64 = 1 << 20;
        while offset < end {
            let len = (end - offset).min(STRETCH);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            let read = segment.read_at(&mut bytes, offset)?;
            for at in (0..read).step_by(8) {
                let rest = bytes.get(at..read).unwrap_or(&[]);
                let at = offset + at as u64;
                if !matches!(frame_at(rest, segment.salt, at), Step::Bad(0, _)) {
                    return Ok(Some(at));
                }
            }
            if len <= FRAME_HEADER_LEN as u64 || offset + len >= end {
                return Ok(None);
            }
            offset += (len - FRAME_HEADER_LEN as u64) & !7;
        }
        Ok(None)
    }
}
