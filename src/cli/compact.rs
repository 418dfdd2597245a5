//! `siltstone compact DIR`.

use std::path::Path;
use std::time::Duration;

use super::bar::Bar;
use super::failure::Failure;
use super::output::{Output, bytes, object, plural};
use super::{Outcome, StoreArg, open_whole};
use crate::engine::{CompactionOptions, CompactionReport, Db, Options, Stats};
use crate::kv::Value;

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Write at most this many MiB a second, to leave the disk to others
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    rate: Option<u64>,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let rate = args.rate.map_or(0, |mib| mib << 20);
    let compaction = CompactionOptions::manual().bytes_per_second(rate);
    let options = Options::new().create(false).compaction(compaction);
    let db = open_whole(options, &args.store.dir)?;
    let before = db.stats();
    let report = compact(&db, &args.store.dir, before.log_bytes())?;
    let after = db.stats();
    db.close()?;
    if out.is_json() {
        out.value(
            &object([
                ("runs", report.runs.into()),
                ("segments_in", report.segments_in.into()),
                ("segments_out", report.segments_out.into()),
                ("bytes_in", report.bytes_in.into()),
                ("bytes_out", report.bytes_out.into()),
                ("log_bytes_before", before.log_bytes().into()),
                ("log_bytes", after.log_bytes().into()),
                ("pinned_bytes", after.pinned_bytes().into()),
                ("left_alone", report.failure.as_deref().map_or(Value::Null, Value::from)),
            ])
            .into(),
        )?;
    } else {
        print(&before, &after, &report, out)?;
    }
    // What is damaged was left alone.
    Ok(if report.failure.is_none() { Outcome::Yes } else { Outcome::No })
}

/// Bytes that the present run has written: they stand in segments that the store does not list yet.
/// The store is locked, so nobody else makes any.
fn bytes_under_way(dir: &Path, stats: &Stats) -> u64 {
    // A file that cannot be looked at is missing in the bar, and nowhere else.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_unlisted = |name: &str| {
        let id = name.strip_suffix(".seg").and_then(|digits| digits.parse::<u64>().ok());
        id.is_some_and(|id| !stats.segments.iter().any(|segment| segment.id == id))
    };
    let unlisted = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_unlisted));
    unlisted.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Compacts on another thread, so that this one can show how far it has come.
fn compact(db: &Db, dir: &Path, total: u64) -> Result<CompactionReport, Failure> {
    let bar = Bar::new(total);
    let worker = {
        let db = db.clone();
        std::thread::spawn(move || db.compact_now())
    };
    let mut position = 0;
    while !worker.is_finished() {
        let stats = db.stats();
        let under_way = bytes_under_way(dir, &stats);
        // A run counts what it has read when it is done; until then what it has written counts.
        position = position.max(stats.compaction.bytes_in + under_way).min(total);
        let written = stats.compaction.bytes_out + under_way;
        bar.show(position, total, || bytes(written) + " written");
        std::thread::sleep(TICK);
    }
    match worker.join() {
        Ok(report) => Ok(report?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn print(
    before: &Stats,
    after: &Stats,
    report: &CompactionReport,
    out: &mut Output,
) -> Result<(), Failure> {
    out.line(&format!(
        "log        {} -> {}: {} live, {} only for snapshots",
        bytes(before.log_bytes()),
        bytes(after.log_bytes()),
        bytes(after.live_bytes()),
        bytes(after.pinned_bytes())
    ))?;
    out.line(&format!(
        "rewritten  {} to {}, {} to {}",
        plural(report.segments_in, "segment"),
        plural(report.segments_out, "segment"),
        bytes(report.bytes_in),
        bytes(report.bytes_out)
    ))?;
    match &report.failure {
        Some(what) => out.line(&format!("left alone {what}; see siltstone check")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::testing::bugs::{Moment, with_hook};

    /// Goal: the bar moves within a run. Method: a look at it when a run has written its segments
    /// and nobody knows of them; then, and after the run, by what the run itself counts.
    #[test]
    fn what_a_run_has_written_is_seen_before_it_ends() {
        let temp = tempfile::tempdir().expect("a directory");
        let options = Options::new().segment_len(64 << 10);
        let options = options.compaction(CompactionOptions::manual());
        let db = options.open(temp.path()).expect("open");
        for key in 0..600u32 {
            db.put("c", &key.to_le_bytes(), &[7; 500]).expect("put");
        }
        for key in (0..600u32).step_by(3) {
            db.delete("c", &key.to_le_bytes()).expect("delete");
        }
        let most = Rc::new(Cell::new(0));
        let (seen, of, dir) = (Rc::clone(&most), db.clone(), temp.path().to_owned());
        let hook = move |moment| {
            let stats = of.stats();
            if moment == Moment::Written && stats.compaction.bytes_in == 0 {
                seen.set(seen.get().max(bytes_under_way(&dir, &stats)));
            }
        };
        let report = with_hook(hook, || db.compact_now()).expect("compact");
        assert!(report.bytes_out > 100_000, "{report:?}");
        // Hints and footers are written as well.
        let written = most.get();
        assert!(written > 50_000 && written < 2 * report.bytes_out, "{written}: {report:?}");
        assert_eq!(bytes_under_way(temp.path(), &db.stats()), 0);
    }
}
