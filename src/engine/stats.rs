//! Counters of an open store.

use std::sync::atomic::Ordering;

use super::compaction::CompactionReport;
use super::compression::CompressionStats;
use super::core::Core;
use super::recovery::RecoveryReport;
use crate::format::config::Compression;
use crate::format::segment::SegmentKind;

/// Counters of a store at one moment. Each is right by itself; together they may be a write apart.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Live keys.
    pub keys: u64,
    /// Collections that keys were put into.
    pub collections: u64,
    /// Segments, oldest first.
    pub segments: Vec<SegmentStats>,
    /// Durable snapshots.
    pub snapshots: u64,
    /// Sequence number of the oldest snapshot, durable or held, if there is one.
    pub oldest_snapshot: Option<u64>,
    /// Bytes of records that only snapshots need, and the oldest one is among those: what stays
    /// pinned while it is there, whatever becomes of the others.
    pub oldest_snapshot_needs: u64,
    /// Bytes of records that are kept for the oldest snapshot alone, since later ones do not show
    /// them: what comes back when it is dropped.
    pub oldest_snapshot_pinned: u64,
    /// What compaction did since the open.
    pub compaction: CompactionReport,
    /// A compaction is under way, or a checkpoint is being written, which compaction waits for.
    pub is_compacting: bool,
    /// Bytes of memory that the index takes.
    pub index_bytes: u64,
    /// Bytes of memory, about, that the keys of ordered collections take.
    pub ordered_bytes: u64,
    /// Sequence number of the next record.
    pub next_seqno: u64,
    /// Every record with a smaller sequence number is durable.
    pub watermark: u64,
    /// Bytes appended to the log since the open.
    pub appended_bytes: u64,
    /// Syncs of the log since the open: each serves every writer that waits.
    pub syncs: u64,
    /// What compression did since the open, for each collection that is compressed.
    /// [`Db::measure_compression`](crate::Db::measure_compression) says what is stored.
    pub compression: Vec<CompressionStats>,
    /// The error of the failed sync that made the store refuse writes, if one did.
    pub poisoned: Option<String>,
    /// What the open found.
    pub recovery: RecoveryReport,
}

/// Counters of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Its id; its file is named after it.
    pub id: u64,
    /// It is full, durable, and never changes again.
    pub is_sealed: bool,
    /// It holds records that compaction moved out of other segments.
    pub is_compacted: bool,
    /// Bytes of its log: header, frames, records.
    pub log_bytes: u64,
    /// Bytes of records that are the newest of their key.
    pub live_bytes: u64,
    /// Records that are the newest of their key.
    pub live_records: u64,
    /// Bytes of records that only snapshots need.
    pub pinned_bytes: u64,
}

impl SegmentStats {
    /// Bytes that compaction could give back: overwritten and deleted records, tombstones, frames.
    pub fn dead_bytes(&self) -> u64 {
        self.log_bytes.saturating_sub(self.live_bytes + self.pinned_bytes)
    }
}

impl Stats {
    /// Bytes of live records in all segments.
    pub fn live_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.live_bytes).sum()
    }

    /// Bytes of records that only snapshots need, in all segments.
    pub fn pinned_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.pinned_bytes).sum()
    }

    /// Bytes of log in all segments.
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.log_bytes).sum()
    }
}

impl Core {
    pub(super) fn stats(&self) -> Stats {
        let collections = self.catalog.all();
        let segments = self.segments.all();
        let points = self.points.since(0);
        Stats {
            keys: collections.iter().map(|c| c.index().len()).sum(),
            collections: collections.iter().filter(|c| c.is_listed.load(Ordering::Acquire)).count()
                as u64,
            segments: segments
                .iter()
                .map(|s| SegmentStats {
                    id: s.id,
                    is_sealed: s.seal().is_some(),
                    log_bytes: s.end(),
                    live_bytes: s.live_bytes.load(Ordering::Relaxed),
                    live_records: s.live_records.load(Ordering::Relaxed),
                    is_compacted: s.kind == SegmentKind::Compacted,
                    pinned_bytes: s.pinned_bytes.load(Ordering::Relaxed),
                })
                .collect(),
            snapshots: self.snapshot_list().len() as u64,
            oldest_snapshot: points.last().map(|p| p.seqno),
            oldest_snapshot_needs: points.last().map_or(0, |oldest| self.needed_at(oldest.seqno)),
            oldest_snapshot_pinned: points
                .last()
                .map_or(0, |p| p.pinned_bytes.load(Ordering::Relaxed)),
            compaction: self.compaction.report(),
            is_compacting: self.compaction.is_running(),
            ordered_bytes: collections.iter().map(|c| c.ordered.heap_bytes() as u64).sum(),
            index_bytes: collections.iter().map(|c| c.index().heap_bytes() as u64).sum(),
            next_seqno: self.log.lock().next_seqno,
            watermark: self.watermark(),
            appended_bytes: self.appended_bytes.load(Ordering::Relaxed),
            syncs: self.sync.count.load(Ordering::Relaxed),
            compression: collections
                .iter()
                .map(|c| (c, c.packing.stats(&c.name, self.dictionaries_of(c))))
                .filter(|(c, stats)| {
                    let is_used = stats.compressed + stats.decompressed + stats.dictionaries > 0;
                    is_used || c.options().compression != Compression::Off
                })
                .map(|(_, stats)| stats)
                .collect(),
            poisoned: self.poison.cause().map(ToString::to_string),
            recovery: self.report.clone(),
        }
    }
}
