//! A change: rows are added and removed, and blocks that became small are merged, on a staged view
//! that is written as one batch.

use std::collections::{BTreeMap, HashMap};

use super::VectorEntry;
use super::distance::is_single;
use super::half;
use super::records::{
    Block, Names, Place, Row, STATE_KEY, Slots, Small, State, block_key, corrupt, dead_slots,
    dead_value, rows_max,
};
use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore, Staged, Text, Value};
use crate::stores::StoreError;
use crate::stores::list::List;

/// As many blocks of one class are merged at once. A row is moved at most once for each class.
const MERGE_COUNT: usize = 16;

/// The class of a block with this many live rows.
fn class(live: usize) -> u32 {
    u32::from(live >= MERGE_COUNT)
}

pub(super) struct Change<'a> {
    kv: &'a Staged,
    names: &'a Names,
    state: State,
    /// Dead slots of the blocks that lost rows.
    dead: HashMap<u64, Vec<u32>>,
}

/// A row on its way into a block.
struct Moving {
    id: Text,
    order: u64,
}

/// Appends the embedding, rounded to half precision.
fn put_halves(entry: &VectorEntry, data: &mut Vec<f32>) -> Result<(), StoreError> {
    for (float, place) in entry.embedding.iter().zip(1..) {
        let Some(bits) = half::nearest(*float) else {
            return Err(StoreError::InvalidArgument(format!(
                "number {place} of the embedding of {} is {float}; half precision, which this \
                 vector store keeps, ends at {}; nothing was added",
                entry.id,
                half::MAX
            )));
        };
        data.push(half::single(bits.to_le_bytes()));
    }
    Ok(())
}

impl<'a> Change<'a> {
    pub(super) fn begin(kv: &'a Staged, names: &'a Names) -> Result<Self, StoreError> {
        let state = State::get(kv, names)?;
        Ok(Change { kv, names, state, dead: HashMap::new() })
    }

    /// Merges what should be, and puts the records that every change writes.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        while let Some(group) = self.mergeable() {
            self.merge(group)?;
        }
        for (block, slots) in self.dead.drain() {
            self.kv.put(&self.names.dead, &block_key(block), &dead_value(&slots))?;
        }
        self.state.version += 1;
        self.kv.put(&self.names.began, STATE_KEY, &self.state.version.into())?;
        self.kv.put(&self.names.state, STATE_KEY, &self.state.to_value())?;
        Ok(())
    }

    /// From now on embeddings are kept in half precision.
    pub(super) fn keep_halves(&mut self) -> Result<(), StoreError> {
        if !self.state.is_half && self.kv.len(&self.names.rows)? > 0 {
            return Err(StoreError::InvalidArgument(
                "a vector store that has rows cannot change its precision; nothing was changed"
                    .to_owned(),
            ));
        }
        self.state.is_half = true;
        Ok(())
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        let mut batch = KvBatch::new();
        let names = self.names;
        for name in
            [&names.blocks, &names.dead, &names.exact, &names.refs, &names.rows, &names.slots]
        {
            batch.clear(name)?;
        }
        self.kv.write(batch, Durability::Buffered)?;
        self.dead.clear();
        self.state.small.clear();
        Ok(())
    }

    /// Adds rows; one whose id is there already replaces it and keeps its place in the order. Of
    /// several with the same id the last counts.
    pub(super) fn add(&mut self, entries: &[VectorEntry]) -> Result<(), StoreError> {
        let mut places: HashMap<&Text, usize> = HashMap::with_capacity(entries.len());
        let mut unique: Vec<&VectorEntry> = Vec::with_capacity(entries.len());
        for entry in entries {
            match places.get(&entry.id).and_then(|place| unique.get_mut(*place)) {
                Some(known) => *known = entry,
                None => {
                    places.insert(&entry.id, unique.len());
                    unique.push(entry);
                }
            }
        }
        let mut rows = Vec::with_capacity(unique.len());
        for entry in unique {
            rows.push((entry, self.row_for(entry)?));
        }
        self.list(&mut rows)?;
        let mut by_dim: BTreeMap<usize, Vec<(&VectorEntry, Row)>> = BTreeMap::new();
        for (entry, row) in rows {
            by_dim.entry(row.dim).or_default().push((entry, row));
        }
        for (dim, rows) in &mut by_dim {
            for rows in rows.chunks_mut(rows_max(*dim)) {
                self.add_rows(*dim, rows)?;
            }
        }
        Ok(())
    }

    /// Enters rows into the lists of their ref docs, where they are not listed yet.
    fn list(&self, rows: &mut [(&VectorEntry, Row)]) -> Result<(), StoreError> {
        let mut lists: HashMap<&Text, List<'_>> = HashMap::new();
        for (entry, row) in rows {
            let (Some(ref_doc_id), None) = (&entry.ref_doc_id, row.handle) else { continue };
            if !lists.contains_key(ref_doc_id) {
                let owner = ref_doc_id.as_bytes();
                lists.insert(ref_doc_id, List::load(self.kv, &self.names.refs, owner)?);
            }
            if let Some(list) = lists.get_mut(ref_doc_id) {
                row.handle = Some(list.push(Value::from(&entry.id))?);
            }
        }
        lists.values().try_for_each(List::save)
    }

    /// The record of a row to be, without its place; an older row of the id is taken out.
    fn row_for(&mut self, entry: &VectorEntry) -> Result<Row, StoreError> {
        let old = Row::get(self.kv, self.names, entry.id.as_bytes())?;
        let mut row = Row {
            place: Place { block: 0, slot: 0 },
            dim: entry.embedding.len(),
            order: self.state.next_order,
            ref_doc_id: entry.ref_doc_id.clone(),
            handle: None,
            metadata: entry.metadata.clone(),
            is_exact: !self.state.is_half && entry.embedding.iter().any(|f| !is_single(*f)),
        };
        match old {
            None => self.state.next_order += 1,
            Some(old) => {
                row.order = old.order;
                self.kill(old.place, old.dim)?;
                if old.is_exact && !row.is_exact {
                    self.kv.delete(&self.names.exact, entry.id.as_bytes())?;
                }
                if old.ref_doc_id == row.ref_doc_id {
                    row.handle = old.handle;
                } else {
                    self.unlist(&entry.id, &old)?;
                }
            }
        }
        if row.is_exact {
            let exact = entry.embedding.iter().map(|f| Value::Float(*f)).collect();
            self.kv.put(&self.names.exact, entry.id.as_bytes(), &Value::List(exact))?;
        }
        Ok(row)
    }

    /// Writes a block of new rows. Requires: not more than fit into one.
    fn add_rows(&mut self, dim: usize, rows: &mut [(&VectorEntry, Row)]) -> Result<(), StoreError> {
        let mut data = Vec::with_capacity(rows.len() * dim);
        let mut moving = Vec::with_capacity(rows.len());
        for (entry, row) in rows.iter() {
            match self.state.is_half {
                true => put_halves(entry, &mut data)?,
                false => data.extend(entry.embedding.iter().map(|f| *f as f32)),
            }
            moving.push(Moving { id: entry.id.clone(), order: row.order });
        }
        let block = self.put_block(dim, moving, &data)?;
        for ((entry, row), slot) in rows.iter_mut().zip(0..) {
            row.place = Place { block, slot };
            self.kv.put(&self.names.rows, entry.id.as_bytes(), &row.to_value())?;
        }
        Ok(())
    }

    /// Writes a block and its directory. Returns its number.
    fn put_block(
        &mut self,
        dim: usize,
        rows: Vec<Moving>,
        data: &[f32],
    ) -> Result<u64, StoreError> {
        let block = self.state.next_block;
        self.state.next_block += 1;
        let live = rows.len();
        let stored = Block::to_floats(dim, live, data, self.state.is_half);
        let mut batch = KvBatch::new();
        batch.put_f32s(&self.names.blocks, &block_key(block), &stored)?;
        self.kv.write(batch, Durability::Buffered)?;
        let (ids, orders) = rows.into_iter().map(|row| (row.id, row.order)).unzip();
        let slots = Slots { dim, ids, orders };
        self.kv.put(&self.names.slots, &block_key(block), &slots.to_value())?;
        if live < rows_max(dim) {
            self.state.small.push(Small { dim, block, live });
        }
        Ok(block)
    }

    /// Removes the row of `id`; false if there is none.
    pub(super) fn remove(&mut self, id: &Text) -> Result<bool, StoreError> {
        let Some(row) = self.take_row(id)? else { return Ok(false) };
        self.unlist(id, &row)?;
        Ok(true)
    }

    /// Removes every row of a ref doc.
    pub(super) fn remove_ref_doc(&mut self, ref_doc_id: &Text) -> Result<(), StoreError> {
        let names = self.names;
        let mut list = List::load(self.kv, &names.refs, ref_doc_id.as_bytes())?;
        for id in list.values()? {
            if let Value::Text(id) = &id {
                self.take_row(id)?;
            }
        }
        list.clear()?;
        list.save()
    }

    /// Removes a row, but not from the list of its ref doc.
    fn take_row(&mut self, id: &Text) -> Result<Option<Row>, StoreError> {
        let Some(row) = Row::get(self.kv, self.names, id.as_bytes())? else { return Ok(None) };
        self.kv.delete(&self.names.rows, id.as_bytes())?;
        if row.is_exact {
            self.kv.delete(&self.names.exact, id.as_bytes())?;
        }
        self.kill(row.place, row.dim)?;
        Ok(Some(row))
    }

    fn unlist(&mut self, id: &Text, row: &Row) -> Result<(), StoreError> {
        let (Some(ref_doc_id), Some(handle)) = (&row.ref_doc_id, row.handle) else {
            return Ok(());
        };
        let mut list = List::load(self.kv, &self.names.refs, ref_doc_id.as_bytes())?;
        list.remove_in(handle, |value| value.as_text() == Some(id))?;
        list.save()
    }

    /// Marks a slot as dead. A block that has no row left goes; one that is half dead is small.
    fn kill(&mut self, place: Place, dim: usize) -> Result<(), StoreError> {
        let block = place.block;
        let mut slots = match self.dead.remove(&block) {
            Some(slots) => slots,
            None => dead_slots(self.kv, self.names, block)?,
        };
        slots.push(place.slot);
        let dead = slots.len();
        self.dead.insert(block, slots);
        let known = self.state.small.iter().position(|small| small.block == block);
        let live = match known.and_then(|known| self.state.small.get_mut(known)) {
            Some(small) => {
                small.live = small.live.saturating_sub(1);
                small.live
            }
            None => {
                let live = rows_max(dim).saturating_sub(dead);
                if live * 2 <= rows_max(dim) {
                    self.state.small.push(Small { dim, block, live });
                }
                live
            }
        };
        if live == 0 { self.drop_block(block) } else { Ok(()) }
    }

    fn drop_block(&mut self, block: u64) -> Result<(), StoreError> {
        self.state.small.retain(|small| small.block != block);
        self.dead.remove(&block);
        let key = block_key(block);
        for name in [&self.names.blocks, &self.names.slots, &self.names.dead] {
            self.kv.delete(name, &key)?;
        }
        Ok(())
    }

    /// Small blocks of one dimension and class, if there are enough to be merged.
    fn mergeable(&self) -> Option<Vec<Small>> {
        let alike = |a: &Small, b: &Small| a.dim == b.dim && class(a.live) == class(b.live);
        let small = &self.state.small;
        let one = small.iter().find(|one| {
            small.iter().filter(|other| alike(one, other)).take(MERGE_COUNT).count() == MERGE_COUNT
        })?;
        let mut group: Vec<Small> =
            small.iter().filter(|other| alike(one, other)).copied().collect();
        group.sort_by_key(|small| small.block);
        group.truncate(MERGE_COUNT);
        Some(group)
    }

    /// Writes the live rows of some blocks into new ones, as full as can be.
    fn merge(&mut self, group: Vec<Small>) -> Result<(), StoreError> {
        let Some(dim) = group.first().map(|small| small.dim) else { return Ok(()) };
        let (mut moving, mut data) = (Vec::new(), Vec::new());
        for small in group {
            self.take_block(small, &mut moving, &mut data)?;
        }
        let mut moving = moving.into_iter().peekable();
        let mut rest = &data[..];
        while moving.peek().is_some() {
            let rows: Vec<Moving> = moving.by_ref().take(rows_max(dim)).collect();
            let ids: Vec<Text> = rows.iter().map(|row| row.id.clone()).collect();
            let (data, after) = rest.split_at_checked(rows.len() * dim).unwrap_or_default();
            rest = after;
            let block = self.put_block(dim, rows, data)?;
            for (id, slot) in ids.iter().zip(0..) {
                let row = Row::get(self.kv, self.names, id.as_bytes())?;
                let what = "is missing, a block lists it";
                let mut row = row.ok_or_else(|| corrupt(&self.names.rows, id.as_bytes(), what))?;
                row.place = Place { block, slot };
                self.kv.put(&self.names.rows, id.as_bytes(), &row.to_value())?;
            }
        }
        Ok(())
    }

    /// Removes a block; its live rows go into `moving` and `data`.
    fn take_block(
        &mut self,
        small: Small,
        moving: &mut Vec<Moving>,
        data: &mut Vec<f32>,
    ) -> Result<(), StoreError> {
        let Small { dim, block, .. } = small;
        let found = Block::get(self.kv, self.names, block, dim)?;
        let slots = Slots::get(self.kv, self.names, block)?;
        let (Some(found), Some(slots)) = (found, slots) else {
            return Err(corrupt(&self.names.blocks, &block_key(block), "is missing"));
        };
        let dead = match self.dead.get(&block) {
            Some(slots) => slots.clone(),
            None => dead_slots(self.kv, self.names, block)?,
        };
        for ((id, order), slot) in slots.ids.into_iter().zip(slots.orders).zip(0..) {
            if !dead.contains(&slot) {
                data.extend(found.floats(slot));
                moving.push(Moving { id, order });
            }
        }
        self.drop_block(block)
    }
}
