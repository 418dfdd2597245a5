//! [`List`]: a list of values in chunk records, changed without rewriting it.
//!
//! LlamaIndex keeps its lists (the nodes of an index, the messages of a conversation, the edges of
//! a graph's node) in one value and rewrites it for every change. Here a list is cut into chunks of
//! at most [`CHUNK_LEN_MAX`] values that are doubly linked. The last chunk, the *tail*, lives in
//! the list's head, so that a short list is one record. A full tail becomes a record of its own,
//! under the number that it always had, and a new tail starts.
//!
//! ```text
//! head    {"len", "tail", "next", "items": [tail's values] [, "first", "last"]}
//! chunk   {"items": [..], "next" [, "prev"]}         key: "{chunk number}:{owner}"
//! ```
//!
//! `first` and `last` are the ends of the chunks before the tail, `next` in the head is the first
//! chunk number that was never used. Numbers are the list's own, so there is no counter to share;
//! they start again when the list is empty.
//!
//! **The head** is a [`Value`] that the owner keeps in its record: [`List::new`] or [`List::open`],
//! change, and put [`List::head`] back. An owner without a record uses [`List::load`] and
//! [`List::save`], which keep the head under the key `":{owner}"` beside the chunks, and nothing
//! at all for an empty list. Chunks are written at once, the head only then: run all of it inside
//! one change of the store's writer, so that it is one batch.
//!
//! **Handles.** [`List::push`] gives the number of the chunk in which the value is. It stays there
//! until it is removed, unless [`List::insert`] splits the chunk: an owner that keeps handles does
//! not insert. [`List::remove_in`] looks only into that chunk.
//!
//! **Costs.** A push or a removal by handle reads and writes at most the head and two chunks. A
//! position is found by walking the chunks from the nearer end, and a place in a sorted list from
//! both: near an end that costs the same at any length, in the middle it reads a chunk for each 64
//! values of the list. Reading all reads every chunk once. A chunk is closed once its values have
//! [`CHUNK_BYTES`] bytes, so a push rewrites no more than that: an owner with large values still
//! does better to keep them in records of their own and their keys in the list.

use std::ops::ControlFlow;

use crate::kv::{KvStore, Map, Value};
use crate::limits::KEY_LEN_MAX;
use crate::stores::StoreError;

/// Most values in one chunk.
const CHUNK_LEN_MAX: usize = 32;

/// A chunk takes no further value once its values have this many bytes, as estimated by
/// [`weight`].
const CHUNK_BYTES: usize = 4096;

/// Longest owner, in bytes: before it stands a chunk's number, of 20 digits at most, and a colon.
pub(crate) const OWNER_LEN_MAX: usize = KEY_LEN_MAX - 21;

/// A list of values. See the [module](self).
pub(crate) struct List<'a> {
    kv: &'a dyn KvStore,
    collection: &'a str,
    owner: Vec<u8>,
    len: u64,
    /// First and last of the chunks before the tail.
    ends: Option<(u64, u64)>,
    /// The number that the tail has.
    tail: u64,
    /// The values of the tail.
    items: Vec<Value>,
    /// The first chunk number that was never used.
    next: u64,
}

/// A chunk before the tail.
struct Chunk {
    items: Vec<Value>,
    prev: Option<u64>,
    /// The next chunk's number, or the tail's.
    next: u64,
}

impl<'a> List<'a> {
    /// An empty list whose chunks will be in `collection`. `owner` tells its chunks from those of
    /// other lists there.
    pub(crate) fn new(kv: &'a dyn KvStore, collection: &'a str, owner: impl Into<Vec<u8>>) -> Self {
        let owner = owner.into();
        List { kv, collection, owner, len: 0, ends: None, tail: 0, items: Vec::new(), next: 1 }
    }

    /// The list whose head is `head`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if `head` is none that [`List::head`] gave.
    pub(crate) fn open(
        kv: &'a dyn KvStore,
        collection: &'a str,
        owner: impl Into<Vec<u8>>,
        head: &Value,
    ) -> Result<Self, StoreError> {
        let mut list = List::new(kv, collection, owner);
        let fields = head.as_map().and_then(|map| {
            list.items = map.get("items")?.as_list()?.to_vec();
            list.ends = number(map, "first").zip(number(map, "last"));
            Some((number(map, "len")?, number(map, "tail")?, number(map, "next")?))
        });
        let Some((len, tail, next)) = fields else {
            return Err(list.corrupt(list.head_key(), "is no head of a list"));
        };
        (list.len, list.tail, list.next) = (len, tail, next);
        Ok(list)
    }

    /// The list whose head is a record of `collection`; empty if there is none.
    ///
    /// # Errors
    ///
    /// As [`List::open`].
    pub(crate) fn load(
        kv: &'a dyn KvStore,
        collection: &'a str,
        owner: impl Into<Vec<u8>>,
    ) -> Result<Self, StoreError> {
        let list = List::new(kv, collection, owner);
        match kv.get(collection, &list.head_key())? {
            Some(head) => List::open(kv, collection, list.owner, &head),
            None => Ok(list),
        }
    }

    /// Puts the head where [`List::load`] looks for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be written.
    pub(crate) fn save(&self) -> Result<(), StoreError> {
        if self.is_empty() {
            self.kv.delete(self.collection, &self.head_key())?;
        } else {
            self.kv.put(self.collection, &self.head_key(), &self.head())?;
        }
        Ok(())
    }

    /// The head, for the owner's record.
    pub(crate) fn head(&self) -> Value {
        let mut map = Map::with_capacity(6);
        map.set("len", self.len);
        map.set("tail", self.tail);
        map.set("next", self.next);
        map.set("items", self.items.clone());
        if let Some((first, last)) = self.ends {
            map.set("first", first);
            map.set("last", last);
        }
        map.into()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// True if there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `value` at the end; returns its handle.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if a chunk is damaged, [`StoreError::Kv`] if the store fails.
    pub(crate) fn push(&mut self, value: Value) -> Result<u64, StoreError> {
        let handle = self.tail;
        self.items.push(value);
        self.len += 1;
        self.close_full_tail()?;
        Ok(handle)
    }

    /// Adds `value` so that it stands at `position`; at the end if that is beyond it. Moves values
    /// between chunks, so handles no longer hold.
    ///
    /// # Errors
    ///
    /// As [`List::push`].
    pub(crate) fn insert(&mut self, position: u64, value: Value) -> Result<(), StoreError> {
        if position >= self.len {
            return self.push(value).map(drop);
        }
        let (number, place) = self.find(position)?;
        self.len += 1;
        if number == self.tail {
            self.items.insert(place.min(self.items.len()), value);
            return self.close_full_tail();
        }
        let mut chunk = self.chunk(number)?;
        let full = is_full(&chunk.items);
        chunk.items.insert(place.min(chunk.items.len()), value);
        if full { self.split(number, chunk) } else { self.put_chunk(number, &chunk) }
    }

    /// The value at `position`, if there is one.
    ///
    /// # Errors
    ///
    /// As [`List::push`].
    pub(crate) fn get(&self, position: u64) -> Result<Option<Value>, StoreError> {
        if position >= self.len {
            return Ok(None);
        }
        let (number, place) = self.find(position)?;
        if number == self.tail {
            return Ok(self.items.get(place).cloned());
        }
        Ok(self.chunk(number)?.items.into_iter().nth(place))
    }

    /// How many values stand before the first that `is_before` refuses; they must be sorted so that
    /// it refuses all after that one. Walks from both ends at once, so it is quick for what belongs
    /// near either.
    ///
    /// # Errors
    ///
    /// As [`List::push`].
    pub(crate) fn partition_point(
        &self,
        is_before: impl Fn(&Value) -> bool,
    ) -> Result<u64, StoreError> {
        let point = |items: &[Value]| items.partition_point(&is_before) as u64;
        let tail = self.items.len() as u64;
        let mut end = self.len.checked_sub(tail).ok_or_else(|| self.miscounted())?;
        let Some((mut front, mut back)) = self.ends else { return Ok(end + point(&self.items)) };
        if self.items.first().is_some_and(&is_before) {
            return Ok(end + point(&self.items));
        }
        // All of the chunks before `front` is before the point, `start` values; `end` values stand
        // before what is known to be after it.
        let mut start = 0;
        loop {
            let chunk = self.chunk(back)?;
            end = end.checked_sub(chunk.items.len() as u64).ok_or_else(|| self.miscounted())?;
            if chunk.items.first().is_some_and(&is_before) {
                return Ok(end + point(&chunk.items));
            }
            let Some(prev) = chunk.prev else { return Ok(end) };
            back = prev;
            let chunk = self.chunk(front)?;
            start += point(&chunk.items);
            if chunk.next == self.tail || !chunk.items.last().is_some_and(&is_before) {
                return Ok(start);
            }
            front = chunk.next;
        }
    }

    /// True if there is a chunk `handle`: after an insertion a handle may be of none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub(crate) fn has_chunk(&self, handle: u64) -> Result<bool, StoreError> {
        Ok(handle == self.tail || self.kv.contains(self.collection, &self.chunk_key(handle))?)
    }

    /// Removes the value at `position` and returns it, if there is one.
    ///
    /// # Errors
    ///
    /// As [`List::push`].
    pub(crate) fn remove_at(&mut self, position: u64) -> Result<Option<Value>, StoreError> {
        if position >= self.len {
            return Ok(None);
        }
        let (number, place) = self.find(position)?;
        self.remove_from(number, |items| Some(place).filter(|place| *place < items.len()))
    }

    /// Removes the first value that `is_it` accepts in the chunk `handle`, and returns it.
    ///
    /// # Errors
    ///
    /// As [`List::push`]; a handle that was never given out is reported as a missing chunk.
    pub(crate) fn remove_in(
        &mut self,
        handle: u64,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Option<Value>, StoreError> {
        self.remove_from(handle, |items| items.iter().position(&is_it))
    }

    /// The first value that `is_it` accepts in the chunk `handle`.
    ///
    /// # Errors
    ///
    /// As [`List::remove_in`].
    pub(crate) fn find_in(
        &self,
        handle: u64,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Option<Value>, StoreError> {
        if handle == self.tail {
            return Ok(self.items.iter().find(|value| is_it(value)).cloned());
        }
        Ok(self.chunk(handle)?.items.into_iter().find(is_it))
    }

    /// Replaces the first value that `is_it` accepts in the chunk `handle`; true if there is one.
    ///
    /// # Errors
    ///
    /// As [`List::remove_in`].
    pub(crate) fn replace_in(
        &mut self,
        handle: u64,
        is_it: impl Fn(&Value) -> bool,
        value: Value,
    ) -> Result<bool, StoreError> {
        if handle == self.tail {
            let found = self.items.iter_mut().find(|value| is_it(value));
            return Ok(found.map(|found| *found = value).is_some());
        }
        let mut chunk = self.chunk(handle)?;
        let Some(found) = chunk.items.iter_mut().find(|value| is_it(value)) else {
            return Ok(false);
        };
        *found = value;
        self.put_chunk(handle, &chunk)?;
        Ok(true)
    }

    /// Calls `visit` with the handle and the value of everything from `position` on, in order,
    /// until it says [`ControlFlow::Break`].
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; [`StoreError::Corrupt`] if a chunk is missing or damaged.
    pub(crate) fn visit(
        &self,
        position: u64,
        visit: &mut dyn FnMut(u64, Value) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if position >= self.len {
            return Ok(());
        }
        let (mut number, mut place) = self.find(position)?;
        let mut left = self.len - position;
        while number != self.tail {
            let chunk = self.chunk(number)?;
            for value in chunk.items.into_iter().skip(place) {
                left = left.checked_sub(1).ok_or_else(|| self.miscounted())?;
                if visit(number, value)?.is_break() {
                    return Ok(());
                }
            }
            (number, place) = (chunk.next, 0);
        }
        for value in self.items.iter().skip(place) {
            left = left.checked_sub(1).ok_or_else(|| self.miscounted())?;
            if visit(number, value.clone())?.is_break() {
                return Ok(());
            }
        }
        if left == 0 { Ok(()) } else { Err(self.miscounted()) }
    }

    /// All values in order.
    ///
    /// # Errors
    ///
    /// As [`List::visit`].
    pub(crate) fn values(&self) -> Result<Vec<Value>, StoreError> {
        let mut values = Vec::new();
        self.visit(0, &mut |_, value| {
            values.push(value);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(values)
    }

    /// Removes all values and their records. An owner that drops the list calls this first.
    ///
    /// # Errors
    ///
    /// As [`List::visit`].
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        let mut next = self.ends.map_or(self.tail, |(first, _)| first);
        while next != self.tail {
            let number = next;
            next = self.chunk(number)?.next;
            self.kv.delete(self.collection, &self.chunk_key(number))?;
        }
        *self = List::new(self.kv, self.collection, std::mem::take(&mut self.owner));
        Ok(())
    }

    /// Makes the tail a record of its own if it is full.
    fn close_full_tail(&mut self) -> Result<(), StoreError> {
        if !is_full(&self.items) {
            return Ok(());
        }
        let items = std::mem::take(&mut self.items);
        let prev = self.ends.map(|(_, last)| last);
        self.put_chunk(self.tail, &Chunk { items, prev, next: self.next })?;
        self.ends = Some((self.ends.map_or(self.tail, |(first, _)| first), self.tail));
        self.tail = self.next;
        self.next += 1;
        Ok(())
    }

    /// Writes `chunk` as two: the second half under a new number.
    fn split(&mut self, number: u64, mut chunk: Chunk) -> Result<(), StoreError> {
        let second = self.next;
        self.next += 1;
        let items = chunk.items.split_off(chunk.items.len().div_ceil(2));
        self.link_back(chunk.next, Some(second))?;
        self.put_chunk(second, &Chunk { items, prev: Some(number), next: chunk.next })?;
        chunk.next = second;
        self.put_chunk(number, &chunk)
    }

    /// Removes the value of the chunk `number` whose place `choose` gives.
    fn remove_from(
        &mut self,
        number: u64,
        choose: impl Fn(&[Value]) -> Option<usize>,
    ) -> Result<Option<Value>, StoreError> {
        let removed = if number == self.tail {
            let Some(place) = choose(&self.items) else { return Ok(None) };
            self.items.remove(place)
        } else {
            let mut chunk = self.chunk(number)?;
            let Some(place) = choose(&chunk.items) else { return Ok(None) };
            let removed = chunk.items.remove(place);
            if chunk.items.is_empty() {
                self.unlink(number, &chunk)?;
            } else {
                self.put_chunk(number, &chunk)?;
            }
            removed
        };
        self.len = self.len.checked_sub(1).ok_or_else(|| self.miscounted())?;
        if self.is_empty() {
            *self = List::new(self.kv, self.collection, std::mem::take(&mut self.owner));
        }
        Ok(Some(removed))
    }

    /// Takes an empty chunk out of the chain.
    fn unlink(&mut self, number: u64, chunk: &Chunk) -> Result<(), StoreError> {
        self.kv.delete(self.collection, &self.chunk_key(number))?;
        self.link_back(chunk.next, chunk.prev)?;
        match chunk.prev {
            Some(prev) => {
                let mut before = self.chunk(prev)?;
                before.next = chunk.next;
                self.put_chunk(prev, &before)
            }
            None => {
                let last = self.ends.map(|(_, last)| last);
                self.ends = last.filter(|_| chunk.next != self.tail).map(|last| (chunk.next, last));
                Ok(())
            }
        }
    }

    /// Says that `prev` is what stands before the chunk `number`, which may be the tail.
    fn link_back(&mut self, number: u64, prev: Option<u64>) -> Result<(), StoreError> {
        if number == self.tail {
            self.ends = self.ends.zip(prev).map(|((first, _), last)| (first, last));
            return Ok(());
        }
        let mut chunk = self.chunk(number)?;
        chunk.prev = prev;
        self.put_chunk(number, &chunk)
    }

    /// The chunk in which `position` is, and the place there. Requires: it is within the list.
    fn find(&self, position: u64) -> Result<(u64, usize), StoreError> {
        let mut from_end = self.len - position;
        let tail = self.items.len() as u64;
        if from_end <= tail {
            return Ok((self.tail, place(tail - from_end)));
        }
        let (first, last) = self.ends.ok_or_else(|| self.miscounted())?;
        if position <= from_end {
            let (mut number, mut left) = (first, position);
            while number != self.tail {
                let chunk = self.chunk(number)?;
                let len = chunk.items.len() as u64;
                if left < len {
                    return Ok((number, place(left)));
                }
                left -= len;
                number = chunk.next;
            }
        } else {
            from_end -= tail;
            let mut next = Some(last);
            while let Some(number) = next {
                let chunk = self.chunk(number)?;
                let len = chunk.items.len() as u64;
                if from_end <= len {
                    return Ok((number, place(len - from_end)));
                }
                from_end -= len;
                next = chunk.prev;
            }
        }
        Err(self.miscounted())
    }

    /// Reads a chunk. It is never empty, so a walk over chunks ends even if links are damaged.
    fn chunk(&self, number: u64) -> Result<Chunk, StoreError> {
        let key = self.chunk_key(number);
        let Some(value) = self.kv.get(self.collection, &key)? else {
            return Err(self.corrupt(key, "is missing"));
        };
        let read = match value {
            Value::Map(mut map) => match map.remove("items") {
                Some(Value::List(items)) if !items.is_empty() => {
                    let prev = self::number(&map, "prev");
                    self::number(&map, "next").map(|next| Chunk { items, prev, next })
                }
                _ => None,
            },
            _ => None,
        };
        read.ok_or_else(|| self.corrupt(key, "is no chunk of a list"))
    }

    fn put_chunk(&self, number: u64, chunk: &Chunk) -> Result<(), StoreError> {
        let mut map = Map::with_capacity(3);
        map.set("items", chunk.items.clone());
        map.set("next", chunk.next);
        if let Some(prev) = chunk.prev {
            map.set("prev", prev);
        }
        Ok(self.kv.put(self.collection, &self.chunk_key(number), &map.into())?)
    }

    /// The digits end at the first colon, so keys of different lists differ whatever their owners.
    fn chunk_key(&self, number: u64) -> Vec<u8> {
        [number.to_string().as_bytes(), b":", &*self.owner].concat()
    }

    fn head_key(&self) -> Vec<u8> {
        [b":", &*self.owner].concat()
    }

    fn miscounted(&self) -> StoreError {
        self.corrupt(self.head_key(), "counts other values than its chunks hold")
    }

    fn corrupt(&self, key: Vec<u8>, what: &'static str) -> StoreError {
        StoreError::corrupt(self.collection, &key, what)
    }
}

/// True if a chunk takes no further value.
fn is_full(items: &[Value]) -> bool {
    items.len() >= CHUNK_LEN_MAX || items.iter().map(weight).sum::<usize>() >= CHUNK_BYTES
}

/// About how many bytes a value takes in the log.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Int(_) => 4,
        Value::Float(_) => 8,
        Value::BigInt(big) => big.as_decimal().len(),
        Value::Text(text) => text.len() + 1,
        Value::List(list) => 2 + list.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 2 + map.iter().map(|(k, v)| k.len() + 1 + weight(v)).sum::<usize>(),
    }
}

/// A number of values of one chunk, which is in memory.
fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A field that is a number.
pub(super) fn number(map: &Map, field: &str) -> Option<u64> {
    u64::try_from(map.get(field)?.as_int()?).ok()
}

#[cfg(test)]
mod tests;
