//! `siltstone snapshots list | create | drop | rollback | diff DIR ...`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::bar::Bar;
use super::failure::{Failure, warn};
use super::ingest::rfc3339;
use super::output::{Output, count, key_field, object, plural, shown_key};
use super::{Outcome, StoreArg, open_read_only};
use crate::engine::{
    CollectionDiff, Db, Diff, Options, PersistOptions, Retention, Rollback, SnapshotError,
    SnapshotInfo, WriteError,
};
use crate::kv::{Map, Value};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the durable snapshots, oldest first
    List {
        #[command(flatten)]
        store: StoreArg,
    },
    /// Record a snapshot of the store as it is
    Create {
        #[command(flatten)]
        store: StoreArg,
        /// A name; snapshots with a name stay until they are dropped
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: Option<String>,
    },
    /// Forget a snapshot; what only it needed becomes free
    Drop {
        #[command(flatten)]
        store: StoreArg,
        /// Number or name
        snapshot: String,
    },
    /// Make the store what it was at a snapshot; can be undone by rolling back to the snapshot
    /// that this records
    Rollback {
        #[command(flatten)]
        store: StoreArg,
        /// Number or name
        snapshot: String,
    },
    /// Print what is different in TO from what was in FROM
    Diff {
        #[command(flatten)]
        store: StoreArg,
        /// Number or name
        from: String,
        /// Number or name; default: the store as it is
        to: Option<String>,
        /// Print each key: + added, ~ changed, - deleted
        #[arg(long)]
        keys: bool,
    },
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    match &args.action {
        Action::List { store } => list(&open_read_only(&store.dir)?, out),
        Action::Create { store, name } => create(&store.dir, name.as_deref(), out),
        Action::Drop { store, snapshot } => {
            let db = open(&store.dir)?;
            let Some(info) = find(&db, snapshot)? else { return Ok(Outcome::No) };
            db.drop_snapshot(info.id)?;
            db.close()?;
            say(out, &info, &format!("dropped {}", title(&info)))
        }
        Action::Rollback { store, snapshot } => rollback(&store.dir, snapshot, out),
        Action::Diff { store, from, to, keys } => {
            let db = open_read_only(&store.dir)?;
            let Some(from) = find(&db, from)? else { return Ok(Outcome::No) };
            let to = match to.as_deref().map(|to| find(&db, to)).transpose()? {
                Some(None) => return Ok(Outcome::No),
                to => to.flatten().map(|to| to.id),
            };
            let bar = Bar::of_records(0);
            let mut show = |done, total| bar.show(done, total, String::new);
            let diff = db.diff_with(from.id, to, &mut show)?;
            drop(bar);
            print_diff(&diff, *keys, out)
        }
    }
}

/// Options of a store that is written to. What an application keeps is not this program's to drop:
/// retention belongs to whoever opens, and this lets nothing go by itself.
pub(super) fn keeping_all() -> Options {
    Options::new().retention(Retention::count(usize::MAX))
}

fn open(dir: &Path) -> Result<Db, Failure> {
    super::open(keeping_all().create(false), dir)
}

/// Records an unnamed snapshot. There are as many of those afterwards as the engine keeps by
/// default, or one more than before if there were more: then somebody wants them.
pub(super) fn persist_unnamed(db: &Db) -> Result<(), WriteError> {
    let unnamed = || {
        let mut all = db.snapshots();
        all.retain(|info| info.name.is_none());
        all
    };
    let kept = Retention::default().count;
    let were_more = unnamed().len() > kept;
    db.persist_with(persist_options(None))?;
    let all = unnamed();
    let over = if were_more { 0 } else { all.len().saturating_sub(kept) };
    for info in all.iter().take(over) {
        // One that stays is listed, and goes the next time.
        let _ = db.drop_snapshot(info.id);
    }
    Ok(())
}

/// What a snapshot of this program is recorded with: seconds since 1970 are its time.
#[expect(clippy::disallowed_methods, reason = "the program passes the time in")]
pub(super) fn persist_options(name: Option<&str>) -> PersistOptions {
    let named = name.map_or_else(PersistOptions::default, PersistOptions::named);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => named.at(since.as_secs()),
        // A clock that is set to before 1970 says nothing.
        Err(_) => named,
    }
}

/// The snapshot of this number or name; warns if there is none.
fn find(db: &Db, wanted: &str) -> Result<Option<SnapshotInfo>, Failure> {
    let found = look_up(db, wanted)?;
    Ok(found.map_err(|what| warn(&what)).ok())
}

/// The snapshot of this number or name, or what to say if there is none.
pub(super) fn look_up(db: &Db, wanted: &str) -> Result<Result<SnapshotInfo, String>, Failure> {
    let mut all = db.snapshots();
    if let Ok(id) = wanted.parse::<u64>()
        && let Some(at) = all.iter().position(|s| s.id == id)
    {
        return Ok(Ok(all.swap_remove(at)));
    }
    let mut named = all.iter().filter(|s| s.name.as_deref() == Some(wanted));
    match (named.next(), named.next()) {
        (Some(one), None) => Ok(Ok(one.clone())),
        (Some(one), Some(other)) => Err(Failure::new(format!(
            "several snapshots are called \"{wanted}\", such as {} and {}: give the number",
            one.id, other.id
        ))),
        (None, _) => {
            let known: Vec<String> = all.iter().map(|s| s.id.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Ok(Err(format!("there is no snapshot \"{wanted}\"; there are: {known}")))
        }
    }
}

fn list(db: &Db, out: &mut Output) -> Result<Outcome, Failure> {
    for info in db.snapshots() {
        if out.is_json() {
            out.value(&to_json(&info).into())?;
        } else {
            let (seqno, time) = (count(info.seqno), shown_time(info.time));
            let name = info.name.unwrap_or_default();
            let line = format!("{:>6}  {time:<20}  below {seqno:>12}  {name}", info.id);
            out.line(line.trim_end())?;
        }
    }
    Ok(Outcome::Yes)
}

fn create(dir: &Path, name: Option<&str>, out: &mut Output) -> Result<Outcome, Failure> {
    if name.is_some_and(|name| name.parse::<u64>().is_ok()) {
        return Err(Failure::new("a name that is a number would be taken for that of a snapshot"));
    }
    let db = open(dir)?;
    let info = db.persist_with(persist_options(name))?;
    db.close()?;
    say(out, &info, &format!("recorded {}", title(&info)))
}

fn rollback(dir: &Path, wanted: &str, out: &mut Output) -> Result<Outcome, Failure> {
    let db = open(dir)?;
    let Some(info) = find(&db, wanted)? else { return Ok(Outcome::No) };
    let bar = Bar::of_records(0);
    let mut show = |done, total| bar.show(done, total, String::new);
    let time = persist_options(None).time;
    let done: Result<Rollback, SnapshotError> = db.rollback_with(info.id, time, &mut show);
    drop(bar);
    let done = done?;
    db.close()?;
    if out.is_json() {
        let report = object([
            ("snapshot", info.id.into()),
            ("restored", done.restored.into()),
            ("deleted", done.deleted.into()),
            ("undo", to_json(&done.undo).into()),
        ]);
        out.value(&report.into())?;
        return Ok(Outcome::Yes);
    }
    out.line(&format!(
        "rolled back to {}: {} restored, {} deleted",
        title(&info),
        plural(done.restored, "key"),
        plural(done.deleted, "key")
    ))?;
    out.line(&format!("to undo: siltstone snapshots rollback {} {}", dir.display(), done.undo.id))?;
    Ok(Outcome::Yes)
}

fn print_diff(diff: &Diff, keys: bool, out: &mut Output) -> Result<Outcome, Failure> {
    if out.is_json() {
        let collections: Vec<Value> =
            diff.collections.iter().map(|c| collection_to_json(c, keys).into()).collect();
        let report = object([
            ("from_seqno", diff.from_seqno.into()),
            ("to_seqno", diff.to_seqno.into()),
            ("collections", collections.into()),
        ]);
        out.value(&report.into())?;
        return Ok(Outcome::Yes);
    }
    for collection in &diff.collections {
        let lists = lists(collection);
        let [added, changed, deleted] = lists.map(|(_, _, keys)| count(keys.len() as u64));
        let name = collection.name.escape_debug();
        out.line(&format!("{name}: {added} added, {changed} changed, {deleted} deleted"))?;
        for (sign, _, list) in lists.into_iter().filter(|_| keys) {
            for key in list {
                out.line(&format!("  {sign} {}", shown_key(key)))?;
            }
        }
    }
    if diff.is_empty() {
        out.line("no difference")?;
    }
    Ok(Outcome::Yes)
}

fn lists(collection: &CollectionDiff) -> [(char, &'static str, &Vec<Vec<u8>>); 3] {
    [
        ('+', "added", &collection.added),
        ('~', "changed", &collection.changed),
        ('-', "deleted", &collection.deleted),
    ]
}

fn collection_to_json(collection: &CollectionDiff, keys: bool) -> Map {
    let mut shown = object([("collection", collection.name.as_str().into())]);
    for (_, name, list) in lists(collection) {
        shown.set(name, list.len() as u64);
    }
    if keys {
        let listed: Vec<Value> = lists(collection)
            .into_iter()
            .flat_map(|(_, change, list)| list.iter().map(move |key| (change, key)))
            .map(|(change, key)| {
                let mut line = object([("change", change.into())]);
                let (field, key) = key_field("key", key);
                line.insert(field, key);
                line.into()
            })
            .collect();
        shown.set("keys", listed);
    }
    shown
}

/// One line about one snapshot.
fn say(out: &mut Output, info: &SnapshotInfo, line: &str) -> Result<Outcome, Failure> {
    if out.is_json() {
        out.value(&to_json(info).into())?;
    } else {
        out.line(line)?;
    }
    Ok(Outcome::Yes)
}

/// `snapshot 3 "nightly"`.
fn title(info: &SnapshotInfo) -> String {
    match &info.name {
        Some(name) => format!("snapshot {} \"{}\"", info.id, name.escape_debug()),
        None => format!("snapshot {}", info.id),
    }
}

/// A time in seconds since 1970 as a date; one that cannot be that as the number that it is.
fn shown_time(time: Option<u64>) -> String {
    const YEAR_10000: u64 = 253_402_300_800;
    match time {
        None => "-".to_owned(),
        Some(time) if time < YEAR_10000 => rfc3339(i64::try_from(time).unwrap_or(0)),
        Some(other) => other.to_string(),
    }
}

fn to_json(info: &SnapshotInfo) -> Map {
    let mut shown = object([("id", info.id.into()), ("seqno", info.seqno.into())]);
    if let Some(name) = &info.name {
        shown.set("name", name.as_str());
    }
    if let Some(time) = info.time {
        shown.set("time", time);
    }
    shown
}
