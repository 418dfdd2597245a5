//! `siltstone restore BACKUP DIR`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::backup::{address, in_words, options_with_bar, refuse_same, to_json};
use super::check;
use super::failure::Failure;
use super::output::Output;
use super::{Outcome, open_read_only};
use crate::engine::{BackupError, BackupReport};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup's directory or address
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// Where the store is to be: a directory that is empty or not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let report = match address(&args.backup) {
        Some(url) => {
            refuse_used(&args.dir)?;
            download(url, &args.dir)?
        }
        None => {
            refuse_same(&args.backup, &args.dir)?;
            refuse_used(&args.dir)?;
            // Never linked: a store and its backup that share their blocks are lost together.
            let options = options_with_bar().hard_links(false);
            let restored = open_read_only(&args.backup)?.backup_to(&args.dir, options);
            restored.map_err(in_backup)?
        }
    };
    finish(&args.dir, &report, out)
}

/// What is the store itself for the engine is the backup here.
fn in_backup(error: BackupError) -> Failure {
    match error {
        BackupError::Within { dir, store } => Failure::new(format!(
            "{} lies within the backup itself, {}; nothing was changed, choose another directory",
            dir.display(),
            store.display()
        )),
        BackupError::Io(e) => Failure::new(format!("cannot restore, there is no store yet: {e}")),
        error => error.into(),
    }
}

#[cfg(feature = "object-store")]
fn download(url: &str, dir: &Path) -> Result<BackupReport, Failure> {
    Ok(crate::remote::Remote::open(url)?.restore(dir, options_with_bar())?)
}

#[cfg(not(feature = "object-store"))]
fn download(url: &str, _: &Path) -> Result<BackupReport, Failure> {
    Err(super::backup::no_object_store(url))
}

/// Checks what was restored, and says what was done.
fn finish(dir: &Path, report: &BackupReport, out: &mut Output) -> Result<Outcome, Failure> {
    let (found, notes) = check::look(dir, None)?;
    if out.is_json() {
        let mut shown = to_json(report);
        shown.set("check", check::to_json(&found, &notes));
        out.value(&shown.into())?;
    } else {
        out.line(&in_words("restored", report))?;
        check::print(&found, &notes, out)?;
    }
    Ok(if found.is_ok() { Outcome::Yes } else { Outcome::No })
}

/// Refuses a directory with anything in it but what an interrupted restore left.
fn refuse_used(dir: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::of(format!("cannot read {}", dir.display()), e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Failure::of(format!("cannot read {}", dir.display()), e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name == "LOCK" || name.ends_with(".seg") || name.ends_with(".tmp");
        if !is_ours {
            let dir = dir.display();
            let what = match name == "MANIFEST" {
                true => format!(
                    "there is a store in {dir}: choose another directory; if it is what an \
                     earlier restore has brought, which was stopped while it was checked, \
                     `siltstone check {dir}` goes on with that"
                ),
                false => format!("{dir} is not empty ({name:?}): choose another directory"),
            };
            return Err(Failure::new(what));
        }
    }
    Ok(())
}
