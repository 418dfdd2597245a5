//! `siltstone dump DIR [COLLECTION]`.

use super::bar::Bar;
use super::failure::Failure;
use super::get::entry;
use super::output::Output;
use super::{Outcome, ReadArg, no_such_collection};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read: ReadArg,
    /// Only this collection
    collection: Option<String>,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = args.read.open()?;
    let mut names: Vec<String> = db.collections().into_iter().map(|(name, _)| name).collect();
    if let Some(only) = &args.collection {
        if !names.contains(only) {
            return Ok(no_such_collection(&db, only, &args.read.store.dir));
        }
        names.retain(|name| name == only);
    }
    let total = db.collections().into_iter().filter(|(name, _)| names.contains(name));
    let (total, mut done) = (total.map(|(_, keys)| keys).sum(), 0);
    let bar = Bar::of_records(total).unless_printed();
    for name in names {
        for found in db.iter(&name) {
            let found = found?;
            out.value(&entry(&name, &found.key, &found.value))?;
            done += 1;
            if done % 1024 == 0 {
                bar.show(done, total, String::new);
            }
        }
    }
    Ok(Outcome::Yes)
}
