//! [`Table`]: which rows there are and where, in memory, as of one version of the store.
//!
//! It is made from the records when it is first needed and brought up to date by
//! [`Table::catch_up`], which reads what changed: the directories of blocks that are new, and for
//! each older block whether it is still there and which of its slots died. It makes no difference
//! who changed the store: this handle, another one, or a transaction over several stores.
//!
//! **Reading while others write.** Operations of a batch become visible one after another, in the
//! order of the batch, and a change's batch starts with the record `began` and ends with `state`,
//! which both hold the change's version. So `state`, then the records, then `began`: if both
//! say the same, all that was read is of one version. Otherwise it is read again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::column::Column;
use super::records::{Names, Place, Row, Slots, State, corrupt, dead_slots};
use crate::kv::{KvError, KvStore, Text, Value};
use crate::stores::StoreError;

/// A slot without a row.
pub(super) const NO_ROW: u32 = u32::MAX;

/// How often a change that goes on is waited for before it is an error.
const TRIES_MAX: usize = 100_000;

/// What a query needs to know of the rows' metadata.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    pub(super) keys: Vec<Text>,
    /// Anything of their records: metadata keys, ref docs.
    pub(super) records: bool,
}

/// The rows of one block.
#[derive(Clone, Debug)]
pub(super) struct BlockRows {
    pub(super) number: u64,
    pub(super) dim: usize,
    /// By slot; [`NO_ROW`] for dead ones.
    pub(super) rows: Vec<u32>,
    pub(super) live: usize,
    /// The first row, if all follow each other and none is dead.
    pub(super) run: Option<u32>,
}

impl BlockRows {
    /// The rows, if all follow each other, as they do when many are added at once, and those of
    /// `bits`, by row, that their bits are in.
    pub(super) fn words<'b>(&self, bits: &'b [u64]) -> Option<(Range<u32>, &'b [u64])> {
        let start = self.run?;
        let end = start + self.rows.len() as u32;
        let words = (start / 64) as usize..(end.div_ceil(64) as usize).min(bits.len());
        Some((start..end, bits.get(words).unwrap_or_default()))
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    id: Option<Arc<Text>>,
    order: u64,
    place: Option<Place>,
}

/// What the rows' records hold, by row.
#[derive(Clone, Debug, Default)]
struct Columns {
    ref_docs: Column,
    /// 1 for rows that were stored without metadata.
    bare: Column,
    keys: HashMap<Text, Column>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    version: Option<u64>,
    next_block: u64,
    pub(super) blocks: BTreeMap<u64, BlockRows>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    ids: HashMap<Arc<Text>, u32>,
    /// Bits of the rows that there are.
    live: Vec<u64>,
    columns: Option<Columns>,
}

impl Table {
    /// True if nothing was read yet.
    pub(super) fn is_new(&self) -> bool {
        self.version.is_none() && self.blocks.is_empty()
    }

    /// True if nothing has to be read for a query with these needs.
    pub(super) fn is_current(&self, state: &State, needs: &Needs) -> bool {
        self.version == Some(state.version) && self.has(needs)
    }

    fn has(&self, needs: &Needs) -> bool {
        match &self.columns {
            None => !needs.records,
            Some(columns) => needs.keys.iter().all(|key| columns.keys.contains_key(key)),
        }
    }

    /// Reads what changed since the last time, and what is needed in addition.
    pub(super) fn catch_up(
        &mut self,
        kv: &dyn KvStore,
        names: &Names,
        needs: &Needs,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES_MAX {
            let state = State::get(kv, names)?;
            let is_quiet = State::began(kv, names)? == state.version;
            if is_quiet && self.is_current(&state, needs) {
                return Ok(());
            }
            if is_quiet {
                let done = self.read_changes(kv, names, &state, needs);
                if State::began(kv, names)? == state.version {
                    return done;
                }
                // What was read may be of two versions, and so may what looked damaged.
            }
            std::thread::yield_now();
        }
        let what = "cannot read the rows of the vector store";
        Err(StoreError::Kv(KvError::custom(what, "others change it all the time; try again")))
    }

    fn read_changes(
        &mut self,
        kv: &dyn KvStore,
        names: &Names,
        state: &State,
        needs: &Needs,
    ) -> Result<(), StoreError> {
        if self.version != Some(state.version) {
            self.version = None;
            self.drop_dead(kv, names)?;
            for block in self.next_block..state.next_block {
                self.read_block(kv, names, block)?;
            }
        }
        if !self.has(needs) {
            self.read_columns(kv, names, needs)?;
        }
        self.version = Some(state.version);
        self.next_block = state.next_block;
        Ok(())
    }

    /// Takes out the rows that are not any more where they were.
    fn drop_dead(&mut self, kv: &dyn KvStore, names: &Names) -> Result<(), StoreError> {
        // What was read of a version that did not last is read again.
        let started = self.blocks.split_off(&self.next_block);
        started.into_values().for_each(|block| self.forget(block));
        let known: Vec<u64> = self.blocks.keys().copied().collect();
        for number in known {
            if !kv.contains(&names.slots, &super::records::block_key(number))? {
                if let Some(block) = self.blocks.remove(&number) {
                    self.forget(block);
                }
                continue;
            }
            for slot in dead_slots(kv, names, number)? {
                let Some(block) = self.blocks.get_mut(&number) else { continue };
                let Some(row) = block.rows.get_mut(slot as usize) else { continue };
                let row = std::mem::replace(row, NO_ROW);
                if row != NO_ROW {
                    block.live -= 1;
                    block.run = None;
                    self.forget_row(row, Place { block: number, slot });
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, block: BlockRows) {
        for (row, slot) in block.rows.iter().zip(0..) {
            if *row != NO_ROW {
                self.forget_row(*row, Place { block: block.number, slot });
            }
        }
    }

    /// Takes out a row, unless it is somewhere else already.
    fn forget_row(&mut self, row: u32, place: Place) {
        let Some(entry) = self.entries.get_mut(row as usize) else { return };
        if entry.place != Some(place) {
            return;
        }
        if let Some(id) = entry.id.take() {
            self.ids.remove(&id);
        }
        entry.place = None;
        self.free.push(row);
        if let Some(word) = self.live.get_mut(row as usize / 64) {
            *word &= !(1 << (row % 64));
        }
        if let Some(columns) = &mut self.columns {
            columns.ref_docs.set(row, None);
            columns.bare.set(row, None);
            columns.keys.values_mut().for_each(|column| column.set(row, None));
        }
    }

    /// Enters the rows of a block that was not known, if it is (still) there.
    fn read_block(
        &mut self,
        kv: &dyn KvStore,
        names: &Names,
        number: u64,
    ) -> Result<(), StoreError> {
        let Some(Slots { dim, ids, orders }) = Slots::get(kv, names, number)? else {
            return Ok(());
        };
        let rows = vec![NO_ROW; ids.len()];
        let mut block = BlockRows { number, dim, rows, live: ids.len(), run: None };
        let dead = dead_slots(kv, names, number)?;
        let mut is_dead = vec![false; ids.len()];
        for slot in dead {
            if let Some(flag) = is_dead.get_mut(slot as usize) {
                *flag = true;
            }
        }
        let slots = ids.into_iter().zip(orders).zip(is_dead).zip(&mut block.rows).zip(0..);
        for ((((id, order), is_dead), row), slot) in slots {
            if is_dead {
                block.live -= 1;
                continue;
            }
            *row = self.enter(id, order, Place { block: number, slot });
            if self.columns.is_some() {
                let id = self.id(*row).clone();
                if let Some(record) = Row::get(kv, names, id.as_bytes())? {
                    self.note(*row, &record);
                }
            }
        }
        let first = block.rows.first().copied().filter(|first| *first != NO_ROW);
        block.run =
            first.filter(|first| block.rows.iter().copied().eq((*first..).take(block.live)));
        if block.live > 0 {
            self.blocks.insert(number, block);
        }
        Ok(())
    }

    /// The row of `id`, which is at `place` from now on.
    fn enter(&mut self, id: Text, order: u64, place: Place) -> u32 {
        let known = self.ids.get(&id).copied();
        let row = known.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.entries.push(Entry::default());
            u32::try_from(self.entries.len() - 1).unwrap_or(NO_ROW)
        });
        let Some(entry) = self.entries.get_mut(row as usize) else { return NO_ROW };
        (entry.order, entry.place) = (order, Some(place));
        if known.is_none() {
            let id = Arc::new(id);
            entry.id = Some(Arc::clone(&id));
            self.ids.insert(id, row);
        }
        let word = row as usize / 64;
        if self.live.len() <= word {
            self.live.resize(word + 1, 0);
        }
        if let Some(word) = self.live.get_mut(word) {
            *word |= 1 << (row % 64);
        }
        row
    }

    /// Enters what a row's record holds into the columns.
    fn note(&mut self, row: u32, record: &Row) {
        let Some(columns) = &mut self.columns else { return };
        let ref_doc_id = record.ref_doc_id.as_ref().map(Value::from);
        columns.ref_docs.set(row, ref_doc_id.as_ref());
        let bare = record.metadata.is_none().then_some(Value::Bool(true));
        columns.bare.set(row, bare.as_ref());
        for (key, column) in &mut columns.keys {
            column.set(row, record.metadata.as_ref().and_then(|map| map.get(key.as_bytes())));
        }
    }

    /// Reads all records for columns that are not there yet.
    fn read_columns(
        &mut self,
        kv: &dyn KvStore,
        names: &Names,
        needs: &Needs,
    ) -> Result<(), StoreError> {
        let mut columns = self.columns.take().unwrap_or_default();
        for key in &needs.keys {
            columns.keys.entry(key.clone()).or_default();
        }
        self.columns = Some(columns);
        let mut damaged = None;
        let read = kv.scan(&names.rows, &mut |id, value| {
            let row = Text::from_bytes(id).ok().and_then(|id| self.ids.get(&id).copied());
            match (row, Row::from_value(value)) {
                (Some(row), Some(record)) => self.note(row, &record),
                (_, None) => damaged = Some(id.to_vec()),
                // Not of the version that is read.
                (None, Some(_)) => {}
            }
            Ok(())
        });
        let read = read.map_err(StoreError::from).and_then(|()| match damaged {
            None => Ok(()),
            Some(id) => Err(corrupt(&names.rows, &id, "is no row of a vector store")),
        });
        if read.is_err() {
            self.columns = None;
        }
        read
    }

    /// How many rows there are, of whatever dimension.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The first row number that was never used.
    pub(super) fn rows(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn live(&self) -> &[u64] {
        &self.live
    }

    pub(super) fn row_of(&self, id: &Text) -> Option<u32> {
        self.ids.get(id).copied()
    }

    pub(super) fn id(&self, row: u32) -> &Text {
        static NONE: Text = Text::from_static("");
        self.entries.get(row as usize).and_then(|entry| entry.id.as_deref()).unwrap_or(&NONE)
    }

    pub(super) fn order(&self, row: u32) -> u64 {
        self.entries.get(row as usize).map_or(0, |entry| entry.order)
    }

    /// The column of a metadata key. Requires: it was needed.
    pub(super) fn column(&self, key: &Text) -> Option<&Column> {
        self.columns.as_ref()?.keys.get(key)
    }

    /// The column of the ref docs' ids. Requires: records were needed.
    pub(super) fn ref_docs(&self) -> Option<&Column> {
        Some(&self.columns.as_ref()?.ref_docs)
    }

    /// The column of rows without metadata. Requires: records were needed.
    pub(super) fn bare(&self) -> Option<&Column> {
        Some(&self.columns.as_ref()?.bare)
    }

    /// The ids in the order of insertion.
    pub(super) fn ordered_ids(&self) -> Vec<Text> {
        let mut ids: Vec<(u64, &Text)> =
            self.ids.iter().map(|(id, row)| (self.order(*row), &**id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id.clone()).collect()
    }
}
