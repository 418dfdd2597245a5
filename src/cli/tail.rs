//! `siltstone tail DIR`.

use super::failure::Failure;
use super::output::{Output, bytes, count, key_field, object, plural, value_field};
use super::{Outcome, StoreArg, open_read_only};
use crate::engine::{BatchOp, ChangeBatch, FeedOptions, FeedPosition};
use crate::kv::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Begin with the batch at this sequence number, or behind this position, as tail prints it;
    /// default: with the oldest that compaction has left
    #[arg(long, value_name = "N")]
    since: Option<FeedPosition>,
    /// Wait for more, until the program is stopped
    #[arg(long)]
    follow: bool,
    /// Print only what a power cut cannot take away any more: the last batch appears when the
    /// next one is written, or the store is closed
    #[arg(long)]
    durable: bool,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = open_read_only(&args.store.dir)?;
    let since = match args.since {
        Some(position) => position,
        None => {
            let oldest = db.oldest_change()?;
            if oldest > 1 && !out.is_json() {
                out.line(&format!(
                    "changes from {} on: compaction has passed others",
                    count(oldest)
                ))?;
            }
            oldest.into()
        }
    };
    let options = FeedOptions::new().only_durable(args.durable);
    let mut changes = db.changes_with(since, options)?;
    loop {
        while let Some(batch) = changes.try_next()? {
            print(&batch, out)?;
        }
        out.finish()?;
        if !args.follow {
            return Ok(Outcome::Yes);
        }
        if let Some(batch) = changes.wait_next()? {
            print(&batch, out)?;
        }
    }
}

/// One line for each operation. For machines, a line with the position follows: what came since the
/// last such line is the batch. For people, a line with the position stands before it.
fn print(batch: &ChangeBatch, out: &mut Output) -> Result<(), Failure> {
    let (first, next, epoch) = (batch.first_seqno(), batch.next_seqno(), batch.epoch());
    let position = batch.position().to_string();
    if !out.is_json() {
        let ops = plural(batch.len() as u64, "operation");
        out.line(&format!("batch {first}..{next}, {ops}, position {position}"))?;
        return batch.ops().try_for_each(|op| out.line(&line_of(&op)));
    }
    for op in batch.ops() {
        out.value(&value_of(&op))?;
    }
    let mut end = object([("op", "commit".into())]);
    end.set("first", first);
    end.set("next", next);
    end.set("epoch", u64::from(epoch));
    end.set("position", position);
    out.value(&end.into())
}

/// An operation for people: the value's size, not the value.
fn line_of(op: &BatchOp<'_>) -> String {
    let shown = |name: &str| name.escape_debug().to_string();
    let line = |verb: &str, collection: &str, key: &[u8], rest: String| {
        format!("  {verb:<9} {}  {}{rest}", shown(collection), key.escape_ascii())
    };
    let size = |value: &[u8]| format!("  {}", bytes(value.len() as u64));
    match op {
        BatchOp::Put { collection, key, value } => line("put", collection, key, size(value)),
        BatchOp::PutExpiring { collection, key, value, expires_at } => {
            line("put", collection, key, format!("{}, until {expires_at}", size(value)))
        }
        BatchOp::Delete { collection, key } => line("delete", collection, key, String::new()),
        BatchOp::Clear { collection } => format!("  {:<9} {}", "clear", shown(collection)),
        BatchOp::Configure { collection, .. } => {
            format!("  {:<9} {}", "configure", shown(collection))
        }
    }
}

/// An operation for machines.
fn value_of(op: &BatchOp<'_>) -> Value {
    let (verb, collection, key, value, expires_at) = match *op {
        BatchOp::Put { collection, key, value } => {
            ("put", collection, Some(key), Some(value), None)
        }
        BatchOp::PutExpiring { collection, key, value, expires_at } => {
            ("put", collection, Some(key), Some(value), Some(expires_at))
        }
        BatchOp::Delete { collection, key } => ("delete", collection, Some(key), None, None),
        BatchOp::Clear { collection } => ("clear", collection, None, None, None),
        BatchOp::Configure { collection, .. } => ("configure", collection, None, None, None),
    };
    let mut fields = object([("op", verb.into()), ("collection", collection.into())]);
    if let Some(key) = key {
        let (name, key) = key_field("key", key);
        fields.insert(name, key);
    }
    if let Some(value) = value {
        let (name, value) = value_field(value);
        fields.set(name, value);
    }
    if let Some(time) = expires_at {
        fields.set("expires_at", time);
    }
    fields.into()
}
