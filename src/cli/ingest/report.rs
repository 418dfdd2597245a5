//! What an ingest did, for people and for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::failure::Failure;
use super::super::output::{Output, bytes, count, object, plural};
use crate::kv::{Map, Value};

/// Why a file or a record was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    OtherExtension,
    NotUtf8,
    Binary,
    TooLarge,
    ChunkLikeName,
    NotAFile,
    Unreadable,
    BadRecord,
}

/// What became of documents and files.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) new: u64,
    pub(super) changed: u64,
    pub(super) unchanged: u64,
    pub(super) duplicates: u64,
    pub(super) deleted: u64,
    /// Chunks written.
    pub(super) chunks: u64,
    /// Bytes of text read, also of unchanged documents.
    pub(super) bytes: u64,
    skipped: BTreeMap<Skip, u64>,
}

/// The outcome of a run.
pub(super) struct Report {
    pub(super) counts: Counts,
    pub(super) store: String,
    pub(super) interrupted: bool,
    /// Nothing failed.
    pub(super) complete: bool,
    /// How long it took to make durable what was not yet.
    pub(super) persist: Duration,
    pub(super) elapsed: Duration,
    pub(super) appended_bytes: u64,
    pub(super) syncs: u64,
}

impl Skip {
    fn name(self) -> &'static str {
        match self {
            Skip::OtherExtension => "other_extension",
            Skip::NotUtf8 => "not_utf8",
            Skip::Binary => "binary",
            Skip::TooLarge => "too_large",
            Skip::ChunkLikeName => "chunk_like_name",
            Skip::NotAFile => "not_a_file",
            Skip::Unreadable => "unreadable",
            Skip::BadRecord => "bad_record",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Skip::OtherExtension => "of another kind",
            Skip::NotUtf8 => "not UTF-8",
            Skip::Binary => "binary",
            Skip::TooLarge => "larger than 512 MiB",
            Skip::ChunkLikeName => "named like a chunk (#0000)",
            Skip::NotAFile => "no regular file",
            Skip::Unreadable => "unreadable",
            Skip::BadRecord => "bad record",
        }
    }
}

impl Counts {
    pub(super) fn skip(&mut self, reason: Skip) {
        *self.skipped.entry(reason).or_default() += 1;
    }

    pub(super) fn unreadable(&self) -> u64 {
        self.skipped.get(&Skip::Unreadable).copied().unwrap_or(0)
    }

    pub(super) fn bad_records(&self) -> u64 {
        self.skipped.get(&Skip::BadRecord).copied().unwrap_or(0)
    }

    /// Documents seen.
    pub(super) fn documents(&self) -> u64 {
        self.new + self.changed + self.unchanged + self.duplicates
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.duplicates += other.duplicates;
        self.deleted += other.deleted;
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        for (reason, count) in &other.skipped {
            *self.skipped.entry(*reason).or_default() += count;
        }
    }
}

impl Report {
    pub(super) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        if out.is_json() { out.value(&self.to_json().into()) } else { self.print_text(out) }
    }

    /// Millions of bytes of text per second, over the whole run.
    fn rate(&self) -> f64 {
        self.counts.bytes as f64 / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn print_text(&self, out: &mut Output) -> Result<(), Failure> {
        let Counts { new, changed, unchanged, duplicates, deleted, .. } = self.counts;
        if self.interrupted {
            out.line("stopped by Ctrl-C: what follows is on disk, run again to go on")?;
        } else if !self.complete {
            out.line("ended early: what follows is on disk")?;
        }
        let mut documents = vec![
            format!("{} new", count(new)),
            format!("{} changed", count(changed)),
            format!("{} unchanged", count(unchanged)),
            format!("{} deleted", count(deleted)),
        ];
        if duplicates > 0 {
            documents.push(plural(duplicates, "duplicate"));
        }
        let skipped: u64 = self.counts.skipped.values().sum();
        documents.push(format!("{} skipped", count(skipped)));
        out.line(&format!("documents  {}", documents.join(", ")))?;
        if skipped > 0 {
            let reasons = self.counts.skipped.iter();
            let reasons: Vec<String> =
                reasons.map(|(reason, n)| format!("{} {}", count(*n), reason.sentence())).collect();
            out.line(&format!("skipped    {}", reasons.join(", ")))?;
        }
        out.line(&format!("chunks     {} written", count(self.counts.chunks)))?;
        out.line(&format!(
            "text       {} in {:.3} s, {:.1} MB/s",
            bytes(self.counts.bytes),
            self.elapsed.as_secs_f64(),
            self.rate()
        ))?;
        out.line(&format!(
            "log        {} written, {}, persist took {:.1} ms",
            bytes(self.appended_bytes),
            plural(self.syncs, "fsync"),
            self.persist.as_secs_f64() * 1e3
        ))?;
        out.line(&format!("store      {}", self.store))
    }

    fn to_json(&self) -> Map {
        let counts = &self.counts;
        let skipped = counts.skipped.iter().map(|(reason, n)| (reason.name(), *n));
        let documents = object([
            ("new", counts.new.into()),
            ("changed", counts.changed.into()),
            ("unchanged", counts.unchanged.into()),
            ("duplicate", counts.duplicates.into()),
            ("deleted", counts.deleted.into()),
            ("skipped", counts.skipped.values().sum::<u64>().into()),
        ]);
        object([
            ("documents", documents.into()),
            ("skipped", Value::Map(skipped.collect())),
            ("chunks", counts.chunks.into()),
            ("bytes", counts.bytes.into()),
            ("seconds", self.elapsed.as_secs_f64().into()),
            ("mb_per_second", self.rate().into()),
            ("log_bytes", self.appended_bytes.into()),
            ("fsyncs", self.syncs.into()),
            ("persist_seconds", self.persist.as_secs_f64().into()),
            ("interrupted", self.interrupted.into()),
            ("complete", (self.complete && !self.interrupted).into()),
            ("store", self.store.as_str().into()),
        ])
    }
}
