//! `siltstone get DIR COLLECTION KEY`.

use super::failure::{Failure, warn};
use super::output::{Output, key_field, object, value_field};
use super::{Outcome, ReadArg};
use crate::kv::{Map, Value};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read: ReadArg,
    /// The collection, such as docstore/data
    collection: String,
    /// The key
    #[arg(allow_hyphen_values = true)]
    key: String,
    /// KEY is written with escapes: \xNN, \n, \r, \t, \\, \', \"
    #[arg(long)]
    escaped: bool,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let key = if args.escaped {
        unescape(&args.key).ok_or_else(|| {
            Failure::new(format!(
                "KEY {:?} has an escape that is none of \\xNN \\n \\r \\t \\\\ \\' \\\"",
                args.key
            ))
        })?
    } else {
        args.key.clone().into_bytes()
    };
    let db = args.read.open()?;
    let found = db.get(&args.collection, &key)?;
    if out.is_json() {
        let mut answer = Map::new();
        answer.set("found", found.is_some());
        answer.set("collection", args.collection.as_str());
        let (name, shown) = key_field("key", &key);
        answer.insert(name, shown);
        if let Some(bytes) = &found {
            let (name, value) = value_field(bytes);
            answer.set(name, value);
        }
        out.value(&answer.into())?;
    } else if let Some(bytes) = &found {
        match value_field(bytes) {
            ("value", value) => out.value(&value)?,
            (_, escaped) => out.line(&text_of(&escaped))?,
        }
    } else {
        let (key, collection) = (key.escape_ascii(), args.collection.escape_debug());
        let dir = args.read.store.dir.display();
        warn(&format!("there is no key \"{key}\" in collection \"{collection}\" of {dir}"));
    }
    Ok(if found.is_some() { Outcome::Yes } else { Outcome::No })
}

fn text_of(value: &Value) -> String {
    value.as_text().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Undoes `escape_ascii`. `None` if an escape is unknown.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            quoted @ (b'\\' | b'\'' | b'"') => quoted,
            b'x' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(rest.next()?)? << 4 | digit(rest.next()?)?;
                u8::try_from(value).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

/// One key and its value, as `get --json` and `dump` print it.
pub(super) fn entry(collection: &str, key: &[u8], value: &[u8]) -> Value {
    let mut entry = object([("collection", collection.into())]);
    let (name, key) = key_field("key", key);
    entry.insert(name, key);
    let (name, value) = value_field(value);
    entry.set(name, value);
    entry.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&all.escape_ascii().to_string()), Some(all));
        assert_eq!(unescape("plain \u{e9}"), Some("plain \u{e9}".into()));
        for bad in ["\\", "\\q", "\\x", "\\x1", "\\xg0"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }
}
