//! `siltstone compact DIR`.

use std::time::Duration;

use super::bar::Bar;
use super::failure::Failure;
use super::output::{Output, bytes, object, plural};
use super::{Outcome, StoreArg, open};
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
    let db = open(options, &args.store.dir)?;
    let before = db.stats();
    let report = compact(&db, before.log_bytes())?;
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

/// Compacts on another thread, so that this one can show how far it has come.
fn compact(db: &Db, total: u64) -> Result<CompactionReport, Failure> {
    let bar = Bar::new(total);
    let worker = {
        let db = db.clone();
        std::thread::spawn(move || db.compact_now())
    };
    while !worker.is_finished() {
        let done = db.stats().compaction;
        bar.show(done.bytes_in, total, || bytes(done.bytes_out) + " written");
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
