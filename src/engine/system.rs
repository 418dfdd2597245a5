//! The engine's own records, told in words: for reports that people read.
//!
//! They stand in the system collection, which has no name of its own.

use super::clock;
use super::compression::parse_dictionary_key;
use super::durable;
use crate::limits::SYSTEM_COLLECTION;

/// What the system collection is called in reports. A collection of the user's may have that name
/// too: what says that a record is the engine's is that there are words for it.
pub(super) const SYSTEM_NAME: &str = "(engine)";

/// What a record of collection `id` is, if it is one of the engine's own: by its key, which may be
/// damaged, and its value, if that is whole. `name_of` gives the names of collections.
pub(super) fn describe(
    id: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    name_of: impl Fn(u32) -> String,
) -> Option<String> {
    if id != SYSTEM_COLLECTION {
        return None;
    }
    let Some(key) = key else { return Some("a record of the engine".to_owned()) };
    let quoted = |id| format!("\"{}\"", name_of(id).escape_debug());
    if let Some(number) = durable::parse_key(key) {
        let name = value.and_then(durable::name_in);
        let name = name.map_or_else(String::new, |name| format!(" \"{}\"", name.escape_debug()));
        return Some(format!("durable snapshot {number}{name}"));
    }
    if let Some(id) = durable::parse_listed_key(key) {
        return Some(format!("the note that collection {} is listed", quoted(id)));
    }
    Some(match (parse_dictionary_key(key), key) {
        (Some((id, Some(number))), _) => {
            format!("dictionary {number} of collection {}", quoted(id))
        }
        (Some((id, None)), _) => {
            format!("the number of the newest dictionary of collection {}", quoted(id))
        }
        (None, durable::NEXT_KEY) => "the number of the next durable snapshot".to_owned(),
        (None, clock::KEY) => "the time that records expire by".to_owned(),
        (None, _) => "a record of the engine".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each kind of record is named, and no key is a panic. Method: the keys as they are
    /// made, and all their prefixes.
    #[test]
    fn records_of_the_engine_are_named() {
        let name = |id: u32| format!("c{id}");
        let words = |key: &[u8]| describe(SYSTEM_COLLECTION, Some(key), None, name);
        let cases: [(&[u8], &str); 6] = [
            (b"s\0\0\0\0\0\0\0\x03", "durable snapshot 3"),
            (b"n", "the number of the next durable snapshot"),
            (b"l\x05\0\0\0", "the note that collection \"c5\" is listed"),
            (b"d\0\0\0\x05\0\0\0\x02", "dictionary 2 of collection \"c5\""),
            (b"d\0\0\0\x05", "the number of the newest dictionary of collection \"c5\""),
            (b"c", "the time that records expire by"),
        ];
        for (key, wanted) in cases {
            assert_eq!(words(key).as_deref(), Some(wanted));
            for len in 0..key.len() {
                assert!(words(&key[..len]).is_some());
            }
            assert_eq!(describe(5, Some(key), None, name), None);
        }
        assert!(describe(SYSTEM_COLLECTION, None, None, name).is_some());
    }
}
