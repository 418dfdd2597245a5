//! `siltstone dump DIR [COLLECTION]`.

use super::failure::Failure;
use super::get::entry;
use super::output::Output;
use super::{Outcome, StoreArg, no_such_collection, open_read_only};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Only this collection
    collection: Option<String>,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = open_read_only(&args.store.dir)?;
    let mut names: Vec<String> = db.collections().into_iter().map(|(name, _)| name).collect();
    if let Some(only) = &args.collection {
        if !names.contains(only) {
            return Ok(no_such_collection(&db, only, &args.store.dir));
        }
        names.retain(|name| name == only);
    }
    for name in names {
        for found in db.iter(&name) {
            let found = found?;
            out.value(&entry(&name, &found.key, &found.value))?;
        }
    }
    Ok(Outcome::Yes)
}
