//! `siltstone stats DIR`.

use super::failure::Failure;
use super::output::{Output, bytes, count, object, plural};
use super::{Outcome, StoreArg, open_whole, read_only};
use crate::engine::{RecoveryReport, SegmentStats, Stats, StoredValues};
use crate::kv::{Map, Value};

/// Characters of a bar.
const BAR_LEN: u64 = 40;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Look at every record of the compressed collections, and say how far their values shrink
    #[arg(long)]
    exact: bool,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = open_whole(read_only(), &args.store.dir)?;
    let stats = db.stats();
    let stored = if args.exact { Some(db.measure_compression()?) } else { None };
    if out.is_json() {
        let mut shown = to_json(&stats);
        if let Some(stored) = &stored {
            shown.set("stored_values", stored.iter().map(stored_to_json).collect::<Vec<_>>());
        }
        out.value(&shown.into())?;
    } else {
        print(&stats, stored.as_deref(), out)?;
    }
    Ok(Outcome::Yes)
}

fn print(stats: &Stats, stored: Option<&[StoredValues]>, out: &mut Output) -> Result<(), Failure> {
    print_space(stats, out)?;
    print_compression(stats, stored, out)?;
    print_work(stats, out)?;
    let longest = stats.segments.iter().map(|s| s.log_bytes).max().unwrap_or(0).max(1);
    out.line("segment               live #, only for snapshots =, dead -")?;
    for segment in &stats.segments {
        out.line(&segment_line(segment, longest))?;
    }
    Ok(())
}

/// What is there and what it takes.
fn print_space(stats: &Stats, out: &mut Output) -> Result<(), Failure> {
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
        let age = plural(stats.next_seqno.saturating_sub(seqno), "record");
        let (needed, own) = (stats.oldest_snapshot_needs, stats.oldest_snapshot_pinned);
        format!(
            ", the oldest {age} back, which keeps {}, {} of it alone",
            bytes(needed),
            bytes(own)
        )
    });
    out.line(&format!("snapshots  {}{oldest}", count(stats.snapshots)))?;
    let per_key = stats.index_bytes as f64 / stats.keys.max(1) as f64;
    let ordered = match stats.ordered_bytes {
        0 => String::new(),
        taken => format!(", and {} for ordered collections", bytes(taken)),
    };
    out.line(&format!("index      {}, {per_key:.1} B per key{ordered}", bytes(stats.index_bytes)))
}

/// The compressed collections. What was counted since the open says nothing about a store that is
/// opened to be looked at, so without the exact figures there are no others.
fn print_compression(
    stats: &Stats,
    stored: Option<&[StoredValues]>,
    out: &mut Output,
) -> Result<(), Failure> {
    let line = |name: &str, rest: String| format!("compressed {}: {rest}", name.escape_debug());
    let Some(stored) = stored else {
        return stats.compression.iter().try_for_each(|collection| {
            let dictionaries = dictionaries(collection.dictionaries);
            out.line(&line(&collection.collection, format!("{dictionaries}; --exact measures it")))
        });
    };
    stored.iter().try_for_each(|values| {
        out.line(&line(
            &values.collection,
            format!(
                "{} of {}, {} in {}, ratio {:.2}, {}",
                count(values.compressed),
                plural(values.values, "value"),
                bytes(values.raw_bytes),
                bytes(values.stored_bytes),
                values.ratio(),
                dictionaries(values.dictionaries)
            ),
        ))
    })
}

fn dictionaries(number: u64) -> String {
    match number {
        0 => "no dictionary".to_owned(),
        1 => "1 dictionary".to_owned(),
        n => format!("{} dictionaries", count(n)),
    }
}

/// What is durable, and what the open found.
fn print_work(stats: &Stats, out: &mut Output) -> Result<(), Failure> {
    out.line(&format!(
        "watermark  {} of {} known to be durable",
        count(stats.watermark),
        plural(stats.next_seqno, "sequence number")
    ))?;
    if let Some(poisoned) = &stats.poisoned {
        out.line(&format!("poisoned   {poisoned}"))?;
    }
    out.line(&format!("open       {}", open_line(&stats.recovery)))?;
    stats.recovery.notes.iter().try_for_each(|note| out.line(&format!("           {note}")))
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
        ("oldest_snapshot", optional(stats.oldest_snapshot)),
        ("oldest_snapshot_needs", stats.oldest_snapshot_needs.into()),
        ("oldest_snapshot_pinned", stats.oldest_snapshot_pinned.into()),
        ("index_bytes", stats.index_bytes.into()),
        ("ordered_bytes", stats.ordered_bytes.into()),
        ("next_seqno", stats.next_seqno.into()),
        ("watermark", stats.watermark.into()),
        ("poisoned", optional(stats.poisoned.clone())),
        ("since_open", since_open(stats).into()),
        ("segments", stats.segments.iter().map(segment).collect::<Vec<_>>().into()),
        ("open", report_to_json(&stats.recovery).into()),
    ])
}

fn optional(value: Option<impl Into<Value>>) -> Value {
    value.map_or(Value::Null, Into::into)
}

/// Counters of this open: it is one to look, so most are 0.
fn since_open(stats: &Stats) -> Map {
    let compaction = &stats.compaction;
    let compression = stats.compression.iter().map(|c| {
        Value::from(object([
            ("collection", c.collection.as_str().into()),
            ("compressed", c.compressed.into()),
            ("raw_bytes", c.raw_bytes.into()),
            ("stored_bytes", c.stored_bytes.into()),
            ("ratio", c.ratio().into()),
            ("decompressed", c.decompressed.into()),
            ("dictionaries", c.dictionaries.into()),
        ]))
    });
    object([
        ("appended_bytes", stats.appended_bytes.into()),
        ("syncs", stats.syncs.into()),
        ("is_compacting", stats.is_compacting.into()),
        (
            "compaction",
            Value::from(object([
                ("runs", compaction.runs.into()),
                ("segments_in", compaction.segments_in.into()),
                ("segments_out", compaction.segments_out.into()),
                ("bytes_in", compaction.bytes_in.into()),
                ("bytes_out", compaction.bytes_out.into()),
                ("failure", optional(compaction.failure.clone())),
            ])),
        ),
        ("compression", compression.collect::<Vec<_>>().into()),
    ])
}

fn stored_to_json(stored: &StoredValues) -> Value {
    object([
        ("collection", stored.collection.as_str().into()),
        ("values", stored.values.into()),
        ("compressed", stored.compressed.into()),
        ("raw_bytes", stored.raw_bytes.into()),
        ("stored_bytes", stored.stored_bytes.into()),
        ("ratio", stored.ratio().into()),
        ("dictionaries", stored.dictionaries.into()),
    ])
    .into()
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
