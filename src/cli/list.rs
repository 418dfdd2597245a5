//! `siltstone list DIR [COLLECTION]`.

use super::failure::Failure;
use super::output::{Output, count, key_field, shown_key};
use super::{Outcome, ReadArg, no_such_collection};
use crate::kv::Map;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read: ReadArg,
    /// List the keys of this collection, in the order of the log; default: list the collections
    collection: Option<String>,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let db = args.read.open()?;
    let Some(name) = &args.collection else {
        for (name, keys) in db.collections() {
            if out.is_json() {
                let mut line = Map::new();
                line.set("collection", name);
                line.set("keys", keys);
                out.value(&line.into())?;
            } else {
                out.line(&format!("{:>12}  {}", count(keys), name.escape_debug()))?;
            }
        }
        return Ok(Outcome::Yes);
    };
    if !db.collections().iter().any(|(known, _)| known == name) {
        return Ok(no_such_collection(&db, name, &args.read.store.dir));
    }
    for entry in db.iter(name) {
        let key = entry?.key;
        if out.is_json() {
            let (field, key) = key_field("key", &key);
            out.value(&Map::from_iter([(field, key)]).into())?;
        } else {
            out.line(&shown_key(&key))?;
        }
    }
    Ok(Outcome::Yes)
}
