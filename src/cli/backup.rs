//! `siltstone backup DIR TARGET`.

use std::path::{Path, PathBuf};

use super::bar::Bar;
use super::failure::Failure;
use super::output::{Output, bytes, object, plural};
use super::snapshots::look_up;
use super::{Outcome, StoreArg, open_read_only, open_whole, read_only};
use crate::engine::{BackupOptions, BackupReport, Db};
use crate::kv::Map;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Directory or address of the backup (file:///DIR, s3://BUCKET/PREFIX, ...): a new one, or one
    /// with an earlier backup of the same store
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Copy every segment, also where the file system could link it
    #[arg(long)]
    copy: bool,
    /// Back up this durable snapshot (see `siltstone snapshots`), not what the store holds now,
    /// into a target of its own: no other backup goes there
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Verify every byte of the finished backup, also of what an earlier one has brought; what is
    /// damaged there is copied again
    #[arg(long)]
    verify: bool,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = open_source(args)?;
    let snapshot = match &args.snapshot {
        None => None,
        Some(wanted) => Some(look_up(&db, wanted)?.map_err(Failure::new)?.id),
    };
    let report = match address(&args.target) {
        Some(url) => upload(&db, url, snapshot, options_with_bar().verify(args.verify))?,
        None => {
            let options = options_with_bar().hard_links(!args.copy).verify(args.verify);
            match snapshot {
                Some(id) => db.backup_snapshot_to(&args.target, id, options)?,
                None => db.backup_to(&args.target, options)?,
            }
        }
    };
    if out.is_json() {
        out.value(&to_json(&report).into())?;
    } else {
        let done = if report.already_there { "already there:" } else { "backed up" };
        out.line(&in_words(done, &report))?;
    }
    Ok(Outcome::Yes)
}

/// A backup of what the store holds now is one of a whole store.
fn open_source(args: &Args) -> Result<Db, Failure> {
    match args.snapshot {
        Some(_) => open_read_only(&args.store.dir),
        None => open_whole(read_only(), &args.store.dir),
    }
}

/// The address that an argument is, if it is no path.
pub(super) fn address(target: &Path) -> Option<&str> {
    target.to_str().filter(|text| text.contains("://"))
}

#[cfg(feature = "object-store")]
fn upload(
    db: &Db,
    url: &str,
    snapshot: Option<u64>,
    options: BackupOptions,
) -> Result<BackupReport, Failure> {
    if url.starts_with("memory:") {
        return Err(Failure::of(url, "would be gone when this program ends"));
    }
    let remote = crate::remote::Remote::open(url)?;
    Ok(match snapshot {
        Some(id) => remote.backup_snapshot(db, id, options)?,
        None => remote.backup(db, options)?,
    })
}

#[cfg(not(feature = "object-store"))]
fn upload(_: &Db, url: &str, _: Option<u64>, _: BackupOptions) -> Result<BackupReport, Failure> {
    Err(no_object_store(url))
}

#[cfg(not(feature = "object-store"))]
pub(super) fn no_object_store(url: &str) -> Failure {
    Failure::of(url, "this program was built without the feature object-store")
}

/// Options that show how far the work is, on a terminal.
pub(super) fn options_with_bar() -> BackupOptions {
    let bar = Bar::new(0);
    BackupOptions::new().progress(move |done| {
        bar.show(done.bytes_done, done.bytes_total, || match done.is_verifying {
            false => String::new(),
            true => "verified".to_owned(),
        });
    })
}

/// A store that is its own backup would be none.
pub(super) fn refuse_same(from: &Path, to: &Path) -> Result<(), Failure> {
    let same = matches!((from.canonicalize(), to.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same {
        return Err(Failure::new(format!("{} and {} are one", from.display(), to.display())));
    }
    Ok(())
}

pub(super) fn in_words(done: &str, report: &BackupReport) -> String {
    let part = |segments, of, how: &str| {
        (segments > 0).then(|| format!("{} {how} ({})", plural(segments, "segment"), bytes(of)))
    };
    let parts = [
        part(report.segments_linked, report.bytes_linked, "linked"),
        part(report.segments_copied, report.bytes_copied, "copied"),
        part(report.segments_kept, report.bytes_kept, "kept"),
        part(report.segments_healed, report.bytes_healed, "found damaged there and copied again"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let parts = if parts.is_empty() { "an empty store".to_owned() } else { parts.join(", ") };
    format!("{done} everything below sequence number {}: {parts}", report.seqno)
}

pub(super) fn to_json(report: &BackupReport) -> Map {
    object([
        ("seqno", report.seqno.into()),
        ("segments_linked", report.segments_linked.into()),
        ("segments_copied", report.segments_copied.into()),
        ("segments_kept", report.segments_kept.into()),
        ("bytes_linked", report.bytes_linked.into()),
        ("bytes_copied", report.bytes_copied.into()),
        ("bytes_kept", report.bytes_kept.into()),
        ("segments_healed", report.segments_healed.into()),
        ("bytes_healed", report.bytes_healed.into()),
        ("files_removed", report.files_removed.into()),
        ("already_there", report.already_there.into()),
    ])
}
