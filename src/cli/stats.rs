//! `siltstone stats DIR`.

use super::failure::Failure;
use super::output::{Output, bytes, count, object, plural};
use super::{Outcome, StoreArg, open_read_only};
use crate::engine::{RecoveryReport, SegmentStats, Stats};
use crate::kv::{Map, Value};

/// Characters of a bar.
const BAR_LEN: u64 = 40;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = open_read_only(&args.store.dir)?;
    let stats = db.stats();
    if out.is_json() {
        out.value(&to_json(&stats).into())?;
    } else {
        print(&stats, out)?;
    }
    Ok(Outcome::Yes)
}

fn print(stats: &Stats, out: &mut Output) -> Result<(), Failure> {
    let (log, live) = (stats.log_bytes(), stats.live_bytes());
    out.line(&format!(
        "keys       {} in {}",
        count(stats.keys),
        plural(stats.collections, "collection")
    ))?;
    out.line(&format!(
        "log        {} in {}: {} live, {} only for snapshots, {} dead",
        bytes(log),
        plural(stats.segments.len() as u64, "segment"),
        bytes(live),
        bytes(stats.pinned_bytes()),
        bytes(log.saturating_sub(live + stats.pinned_bytes()))
    ))?;
    let oldest = stats.oldest_snapshot.map_or_else(String::new, |seqno| {
        format!(", the oldest {} back", plural(stats.next_seqno.saturating_sub(seqno), "record"))
    });
    out.line(&format!("snapshots  {}{oldest}", count(stats.snapshots)))?;
    let per_key = stats.index_bytes as f64 / stats.keys.max(1) as f64;
    out.line(&format!("index      {}, {per_key:.1} B per key", bytes(stats.index_bytes)))?;
    out.line(&format!(
        "watermark  {} of {} known to be durable",
        count(stats.watermark),
        plural(stats.next_seqno, "record")
    ))?;
    out.line(&format!("open       {}", open_line(&stats.recovery)))?;
    for note in &stats.recovery.notes {
        out.line(&format!("           {note}"))?;
    }
    let longest = stats.segments.iter().map(|s| s.log_bytes).max().unwrap_or(0).max(1);
    out.line("segment               live #, only for snapshots =, dead -")?;
    for segment in &stats.segments {
        out.line(&segment_line(segment, longest))?;
    }
    Ok(())
}

/// What the open found, in one line.
fn open_line(report: &RecoveryReport) -> String {
    let how = if report.clean { "closed in order" } else { "not closed, or open for writing" };
    format!(
        "{how}; {} by their hints, {} read: {}, {}",
        plural(report.sealed_segments, "sealed segment"),
        plural(report.tail_segments, "other"),
        plural(report.tail_records, "record"),
        bytes(report.tail_bytes)
    )
}

fn segment_line(segment: &SegmentStats, longest: u64) -> String {
    // Rounded up, so that a little is seen to be there.
    let columns = |bytes: u64| bytes.saturating_mul(BAR_LEN).div_ceil(longest).min(BAR_LEN);
    let all = columns(segment.log_bytes);
    let live = columns(segment.live_bytes).min(all);
    let pinned = columns(segment.pinned_bytes).min(all - live);
    let repeat = |what: &str, times: u64| what.repeat(usize::try_from(times).unwrap_or(0));
    let bar = repeat("#", live)
        + &repeat("=", pinned)
        + &repeat("-", all - live - pinned)
        + &repeat(" ", BAR_LEN - all);
    let state = match (segment.is_compacted, segment.is_sealed) {
        (true, _) => "compact",
        (false, true) => "sealed",
        (false, false) => "open",
    };
    let percent = segment.live_bytes.saturating_mul(100) / segment.log_bytes.max(1);
    format!(
        "{:>6} {state:<7} {:>10}  [{bar}] {percent:>3}% live, {}",
        segment.id,
        bytes(segment.log_bytes),
        plural(segment.live_records, "record")
    )
}

fn to_json(stats: &Stats) -> Map {
    let segment = |segment: &SegmentStats| {
        Value::from(object([
            ("id", segment.id.into()),
            ("sealed", segment.is_sealed.into()),
            ("log_bytes", segment.log_bytes.into()),
            ("live_bytes", segment.live_bytes.into()),
            ("dead_bytes", segment.dead_bytes().into()),
            ("live_records", segment.live_records.into()),
            ("pinned_bytes", segment.pinned_bytes.into()),
            ("compacted", segment.is_compacted.into()),
        ]))
    };
    object([
        ("keys", stats.keys.into()),
        ("collections", stats.collections.into()),
        ("log_bytes", stats.log_bytes().into()),
        ("live_bytes", stats.live_bytes().into()),
        ("pinned_bytes", stats.pinned_bytes().into()),
        ("snapshots", stats.snapshots.into()),
        ("index_bytes", stats.index_bytes.into()),
        ("ordered_bytes", stats.ordered_bytes.into()),
        ("next_seqno", stats.next_seqno.into()),
        ("watermark", stats.watermark.into()),
        ("segments", stats.segments.iter().map(segment).collect::<Vec<_>>().into()),
        ("open", report_to_json(&stats.recovery).into()),
    ])
}

fn report_to_json(report: &RecoveryReport) -> Map {
    let notes: Vec<Value> = report.notes.iter().map(|note| note.to_string().into()).collect();
    object([
        ("clean", report.clean.into()),
        ("sealed_segments", report.sealed_segments.into()),
        ("tail_segments", report.tail_segments.into()),
        ("tail_records", report.tail_records.into()),
        ("tail_bytes", report.tail_bytes.into()),
        ("watermark", report.watermark.into()),
        ("next_seqno", report.next_seqno.into()),
        ("notes", notes.into()),
    ])
}
