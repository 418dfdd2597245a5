//! The records of a vector store, and their names.

use super::distance::norm;
use super::half;
use crate::kv::{KvBytes, KvStore, Map, Text, Value, codec, escape_key};
use crate::limits::COLLECTION_NAME_LEN_MAX;
use crate::stores::StoreError;

/// Most rows in one block.
const BLOCK_ROWS_MAX: usize = 1024;

/// Most bytes of one block, unless a single row has more.
const BLOCK_BYTES_MAX: usize = 4 << 20;

/// The most rows that a block of this dimension takes.
pub(super) fn rows_max(dim: usize) -> usize {
    (BLOCK_BYTES_MAX / dim.saturating_add(1).saturating_mul(4)).clamp(1, BLOCK_ROWS_MAX)
}

/// The collections of a store. A batch is applied in the order of their names: `began` is the
/// first and `state` the last of a change that becomes visible.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) began: String,
    pub(super) blocks: String,
    pub(super) dead: String,
    pub(super) exact: String,
    pub(super) refs: String,
    pub(super) rows: String,
    pub(super) slots: String,
    pub(super) state: String,
}

/// What stands before the namespace in the collections' names.
const PREFIX: &str = "vector_store/";
const STATE: &str = "/state";

impl Names {
    pub(super) fn new(namespace: &str) -> Self {
        let name = |suffix: &str| format!("{PREFIX}{namespace}{suffix}");
        Names {
            began: name("/began"),
            blocks: name("/blocks"),
            dead: name("/dead"),
            exact: name("/exact"),
            refs: name("/refs"),
            rows: name("/rows"),
            slots: name("/slots"),
            state: name(STATE),
        }
    }

    /// The longest namespace, in bytes: one that leaves room for the other parts of the longest
    /// name.
    pub(super) fn namespace_len_max() -> usize {
        let Names { began, blocks, dead, exact, refs, rows, slots, state } = &Names::new("");
        let names = [began, blocks, dead, exact, refs, rows, slots, state];
        let longest = names.iter().map(|name| name.len()).max().unwrap_or_default();
        COLLECTION_NAME_LEN_MAX.saturating_sub(longest)
    }

    /// The namespace of which `collection` holds the state.
    pub(super) fn namespace_of(collection: &str) -> Option<&str> {
        collection.strip_prefix(PREFIX)?.strip_suffix(STATE)
    }
}

/// The key of the only record in `began` and in `state`.
pub(super) const STATE_KEY: &[u8] = b"state";

/// The key of a block's records: ten bytes, with which the floats of a block stand at a multiple
/// of eight bytes in the log.
pub(super) fn block_key(number: u64) -> [u8; 10] {
    let mut key = [b'0'; 10];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// A record that is not as the store wrote it.
pub(super) fn corrupt(collection: &str, key: &[u8], what: &'static str) -> StoreError {
    let key = Text::from_bytes(key).unwrap_or_else(|_| escape_key(key).into());
    StoreError::Corrupt { collection: collection.to_owned(), key, what }
}

/// A field that holds a number that is not negative.
fn number(map: &Map, key: &str) -> Option<u64> {
    u64::try_from(map.get(key)?.as_int()?).ok()
}

fn numbers(value: &Value) -> Option<Vec<u64>> {
    value.as_list()?.iter().map(|n| u64::try_from(n.as_int()?).ok()).collect()
}

fn list(numbers: impl IntoIterator<Item = u64>) -> Value {
    Value::List(numbers.into_iter().map(Value::from).collect())
}

/// Where a row's floats are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u64,
    pub(super) slot: u32,
}

/// The record of a row, under its id.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) dim: usize,
    /// Its place in the order of insertion.
    pub(super) order: u64,
    pub(super) ref_doc_id: Option<Text>,
    /// Where the list of the ref doc's rows holds it.
    pub(super) handle: Option<u64>,
    pub(super) metadata: Option<Map>,
    /// Single precision does not hold the embedding bit for bit: `exact` does.
    pub(super) is_exact: bool,
}

impl Row {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(8);
        if let Some(metadata) = &self.metadata {
            map.set("metadata", metadata.clone());
        }
        if let Some(id) = &self.ref_doc_id {
            map.set("ref_doc_id", id);
            map.set("#ref", self.handle.unwrap_or(0));
        }
        map.set("#block", self.place.block);
        map.set("#slot", self.place.slot);
        map.set("#dim", self.dim as u64);
        map.set("#order", self.order);
        if self.is_exact {
            map.set("#exact", true);
        }
        map.into()
    }

    pub(super) fn from_value(value: Value) -> Option<Row> {
        let Value::Map(mut map) = value else { return None };
        let metadata = match map.get_mut("metadata").map(std::mem::take) {
            None => None,
            Some(Value::Map(metadata)) => Some(metadata),
            Some(_) => return None,
        };
        let ref_doc_id = match map.get_mut("ref_doc_id").map(std::mem::take) {
            None => None,
            Some(Value::Text(id)) => Some(id),
            Some(_) => return None,
        };
        Some(Row {
            place: Place {
                block: number(&map, "#block")?,
                slot: number(&map, "#slot")?.try_into().ok()?,
            },
            dim: number(&map, "#dim")?.try_into().ok()?,
            order: number(&map, "#order")?,
            handle: number(&map, "#ref"),
            is_exact: map.contains_key("#exact"),
            ref_doc_id,
            metadata,
        })
    }

    /// The row of `id`, if there is one.
    pub(super) fn get(
        kv: &dyn KvStore,
        names: &Names,
        id: &[u8],
    ) -> Result<Option<Row>, StoreError> {
        let Some(value) = kv.get(&names.rows, id)? else { return Ok(None) };
        let row = Row::from_value(value);
        row.map(Some).ok_or_else(|| corrupt(&names.rows, id, "is no row of a vector store"))
    }
}

/// Which rows a block was made of, by slot. Written once.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) dim: usize,
    pub(super) ids: Vec<Text>,
    pub(super) orders: Vec<u64>,
}

impl Slots {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(3);
        map.set("dim", self.dim as u64);
        map.set("ids", Value::List(self.ids.iter().map(Value::from).collect()));
        map.set("orders", list(self.orders.iter().copied()));
        map.into()
    }

    pub(super) fn get(
        kv: &dyn KvStore,
        names: &Names,
        block: u64,
    ) -> Result<Option<Slots>, StoreError> {
        let key = block_key(block);
        let Some(value) = kv.get(&names.slots, &key)? else { return Ok(None) };
        let read = || {
            let Value::Map(mut map) = value else { return None };
            let dim = usize::try_from(number(&map, "dim")?).ok()?;
            let orders = numbers(map.get("orders")?)?;
            let Value::List(ids) = std::mem::take(map.get_mut("ids")?) else { return None };
            let ids = ids.into_iter().map(|id| match id {
                Value::Text(id) => Some(id),
                _ => None,
            });
            let ids = ids.collect::<Option<Vec<Text>>>()?;
            (ids.len() == orders.len()).then_some(Slots { dim, ids, orders })
        };
        read().map(Some).ok_or_else(|| corrupt(&names.slots, &key, "is no list of a block's rows"))
    }
}

/// The slots of a block whose rows are gone, ascending or not.
pub(super) fn dead_slots(
    kv: &dyn KvStore,
    names: &Names,
    block: u64,
) -> Result<Vec<u32>, StoreError> {
    let key = block_key(block);
    let Some(value) = kv.get(&names.dead, &key)? else { return Ok(Vec::new()) };
    let slots = numbers(&value).and_then(|slots| {
        slots.into_iter().map(|slot| u32::try_from(slot).ok()).collect::<Option<Vec<u32>>>()
    });
    slots.ok_or_else(|| corrupt(&names.dead, &key, "is no list of a block's dead rows"))
}

pub(super) fn dead_value(slots: &[u32]) -> Value {
    list(slots.iter().map(|slot| u64::from(*slot)))
}

/// The first float of a block in half precision. Norms, with which others begin, are never that.
const HALF_MARK: f32 = -1.0;

/// The floats of a block: the norm of each row, then the rows. One in half precision begins with
/// [`HALF_MARK`], and its rows are as in [`half`].
#[derive(Clone)]
pub(super) struct Block {
    bytes: KvBytes,
    dim: usize,
    rows: usize,
    is_half: bool,
}

impl Block {
    /// The block `number`, whose rows have `dim` floats; `None` if it is not there.
    pub(super) fn get(
        kv: &dyn KvStore,
        names: &Names,
        number: u64,
        dim: usize,
    ) -> Result<Option<Block>, StoreError> {
        let key = block_key(number);
        let Some(bytes) = kv.get_bytes(&names.blocks, &key)? else { return Ok(None) };
        let words = codec::f32s(&bytes).unwrap_or_default().as_chunks::<4>().0;
        let is_half = words.first() == Some(&HALF_MARK.to_le_bytes());
        let (row_words, words) = match is_half {
            true => (1 + half::words(dim), words.len() - 1),
            false => (1 + dim, words.len()),
        };
        if words == 0 || !words.is_multiple_of(row_words) {
            return Err(corrupt(&names.blocks, &key, "is no block of embeddings"));
        }
        Ok(Some(Block { bytes, dim, rows: words / row_words, is_half }))
    }

    /// What is stored for rows of `dim` floats. Requires: for half precision, that they are halves.
    pub(super) fn to_floats(dim: usize, rows: usize, data: &[f32], is_half: bool) -> Vec<f32> {
        let row = |n: usize| data.get(n * dim..(n + 1) * dim).unwrap_or_default();
        let mut stored = Vec::with_capacity(1 + rows + data.len());
        if is_half {
            stored.push(HALF_MARK);
        }
        stored.extend((0..rows).map(|n| norm(row(n)) as f32));
        match is_half {
            true => (0..rows).for_each(|n| half::put_row(row(n), &mut stored)),
            false => stored.extend_from_slice(data),
        }
        stored
    }

    /// True if it takes memory of its own: see [`KvBytes::is_copy`].
    pub(super) fn is_copy(&self) -> bool {
        self.bytes.is_copy()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// How many rows it was made of.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// True if its rows are of halves.
    pub(super) fn is_half(&self) -> bool {
        self.is_half
    }

    /// How many bytes a row takes.
    pub(super) fn row_len(&self) -> usize {
        4 * if self.is_half { half::words(self.dim) } else { self.dim }
    }

    /// The norms, four little-endian bytes each, and the rows.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        let floats = codec::f32s(&self.bytes).unwrap_or_default();
        let floats = floats.get(usize::from(self.is_half) * 4..).unwrap_or_default();
        floats.split_at_checked(self.rows * 4).unwrap_or_default()
    }

    /// The floats of one row; none if there is no such row.
    pub(super) fn floats(&self, slot: u32) -> impl Iterator<Item = f32> + '_ {
        let (start, len) = (slot as usize * self.row_len(), self.row_len());
        let row = self.parts().1.get(start..start + len).unwrap_or_default();
        let size = if self.is_half { 2 } else { 4 };
        row.chunks_exact(size).take(self.dim).map(|bytes| match *bytes {
            [a, b] => half::single([a, b]),
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
            _ => f32::NAN,
        })
    }
}

/// A block that can be merged with others: not full, or at least half dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Small {
    pub(super) dim: usize,
    pub(super) block: u64,
    /// Rows that are not dead.
    pub(super) live: usize,
}

/// The one record that every change rewrites.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// How many changes there were.
    pub(super) version: u64,
    /// The first block number that was never used. Numbers are not used again.
    pub(super) next_block: u64,
    pub(super) next_order: u64,
    pub(super) small: Vec<Small>,
    /// Embeddings are kept in half precision.
    pub(super) is_half: bool,
}

impl State {
    pub(super) fn get(kv: &dyn KvStore, names: &Names) -> Result<State, StoreError> {
        let Some(value) = kv.get(&names.state, STATE_KEY)? else { return Ok(State::default()) };
        let read = || {
            let map = value.as_map()?;
            let flat = numbers(map.get("small")?)?;
            let (triples, rest) = flat.as_chunks::<3>();
            let small = triples.iter().map(|[dim, block, live]| {
                Some(Small {
                    dim: usize::try_from(*dim).ok()?,
                    block: *block,
                    live: usize::try_from(*live).ok()?,
                })
            });
            let small = small.collect::<Option<Vec<_>>>().filter(|_| rest.is_empty())?;
            Some(State {
                version: number(map, "version")?,
                next_block: number(map, "next_block")?,
                next_order: number(map, "next_order")?,
                is_half: map.contains_key("half"),
                small,
            })
        };
        read().ok_or_else(|| corrupt(&names.state, STATE_KEY, "is no state of a vector store"))
    }

    pub(super) fn to_value(&self) -> Value {
        let triples = self.small.iter().flat_map(|s| [s.dim as u64, s.block, s.live as u64]);
        let mut map = Map::with_capacity(5);
        map.set("version", self.version);
        map.set("next_block", self.next_block);
        map.set("next_order", self.next_order);
        map.set("small", list(triples));
        if self.is_half {
            map.set("half", true);
        }
        map.into()
    }

    /// The version that a change says it is making, while it becomes visible and after.
    pub(super) fn began(kv: &dyn KvStore, names: &Names) -> Result<u64, StoreError> {
        let value = kv.get(&names.began, STATE_KEY)?;
        Ok(value.and_then(|v| v.as_int()).and_then(|v| u64::try_from(v).ok()).unwrap_or(0))
    }
}
