//! The records of a ref doc: its own, with the tail of the list, and those of full chunks.

use super::RefDocInfo;
use crate::kv::{Map, Text, Value};

/// A ref doc's own record.
#[derive(Clone, Debug, Default)]
pub(super) struct RefDoc {
    pub(super) metadata: Map,
    /// Ids of the tail chunk.
    pub(super) ids: Vec<Text>,
    /// The number that the tail has, and will have as a record of its own.
    pub(super) tail: u64,
    /// First and last of the chunks before the tail.
    pub(super) ends: Option<(u64, u64)>,
    /// How many of the listed ids may lack a metadata record that links back.
    pub(super) stale: u64,
    /// It differs from what is stored.
    pub(super) changed: bool,
}

/// A chunk before the tail.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) ids: Vec<Text>,
    pub(super) prev: Option<u64>,
    /// The next chunk's number, or the tail's.
    pub(super) next: u64,
}

/// A ref doc record, as found.
pub(super) enum Found {
    /// Nothing, or an empty dictionary, which LlamaIndex takes for nothing.
    Nothing,
    /// Written by this store.
    Ours(RefDoc),
    /// Written by LlamaIndex, new form or old: the whole list in one record.
    Plain(RefDocInfo),
}

impl Found {
    /// Reads the record. `None` if it is malformed.
    pub(super) fn read(value: Option<&Value>) -> Option<Found> {
        let Some(value) = value else { return Some(Found::Nothing) };
        let map = value.as_map()?;
        if map.is_empty() {
            return Some(Found::Nothing);
        }
        // The oldest form says `doc_ids` and `extra_info`.
        let (ids, metadata) = match map.get("doc_ids") {
            Some(ids) => (Some(ids), map.get("extra_info")),
            None => (map.get("node_ids"), map.get("metadata")),
        };
        let ids = ids.map_or(Some(Vec::new()), texts)?;
        let metadata = match metadata {
            None | Some(Value::Null) => Map::new(),
            Some(found) => found.as_map()?.clone(),
        };
        if !map.contains_key("#tail") {
            return Some(Found::Plain(RefDocInfo { node_ids: ids, metadata }));
        }
        Some(Found::Ours(RefDoc {
            metadata,
            ids,
            tail: number(map, "#tail")?,
            ends: number(map, "#head").zip(number(map, "#last")),
            stale: number(map, "#stale").unwrap_or(0),
            changed: false,
        }))
    }
}

impl RefDoc {
    /// A ref doc without nodes.
    pub(super) fn new(tail: u64) -> Self {
        RefDoc { tail, changed: true, ..RefDoc::default() }
    }

    /// A ref doc whose list LlamaIndex wrote: all of it is the tail, until that is next full.
    pub(super) fn from_plain(info: RefDocInfo, tail: u64) -> Self {
        // None of its nodes says where in the list it is.
        let stale = info.node_ids.len() as u64;
        RefDoc { metadata: info.metadata, ids: info.node_ids, stale, ..RefDoc::new(tail) }
    }

    /// True if no node is left.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.ends.is_none()
    }

    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(6);
        map.set("node_ids", list(&self.ids));
        map.set("metadata", self.metadata.clone());
        map.set("#tail", self.tail);
        if let Some((head, last)) = self.ends {
            map.set("#head", head);
            map.set("#last", last);
        }
        if self.stale > 0 {
            map.set("#stale", self.stale);
        }
        map.into()
    }
}

impl Chunk {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(3);
        map.set("node_ids", list(&self.ids));
        map.set("#next", self.next);
        if let Some(prev) = self.prev {
            map.set("#prev", prev);
        }
        map.into()
    }

    /// Reads the record. `None` if it is malformed.
    pub(super) fn read(value: &Value) -> Option<Chunk> {
        let map = value.as_map()?;
        let ids = texts(map.get("node_ids")?)?;
        Some(Chunk { ids, prev: number(map, "#prev"), next: number(map, "#next")? })
    }
}

/// The key of a chunk.
pub(super) fn chunk_key(chunk: u64) -> [u8; 8] {
    chunk.to_le_bytes()
}

/// A field that is a number.
pub(super) fn number(map: &Map, field: &str) -> Option<u64> {
    u64::try_from(map.get(field)?.as_int()?).ok()
}

fn texts(value: &Value) -> Option<Vec<Text>> {
    value.as_list()?.iter().map(|item| item.as_text().cloned()).collect()
}

fn list(ids: &[Text]) -> Value {
    Value::List(ids.iter().map(Value::from).collect())
}
