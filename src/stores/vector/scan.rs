//! Reading blocks, quickly: all rows or some, on one thread or on several.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::distance::{Measure, is_ordinary, relative_error};
use super::records::{Block, Names, block_key, corrupt};
use super::select::ones;
use super::simd::{Distance, dot, half_dot, half_squared_distance, read_ahead, squared_distance};
use super::table::{BlockRows, NO_ROW, Table};
use super::top_k::TopK;
use crate::kv::KvStore;
use crate::stores::StoreError;

/// Bytes of embeddings below which one thread is quicker than several.
const THREAD_BYTES: usize = 4 << 20;

/// Most bytes of blocks that are kept because reading them again would copy them again.
const COPIES_LEN_MAX: usize = 96 << 20;

/// Blocks that lie in the segment that is written to, which is not mapped: each is read from the
/// file and verified once. When there are too many all are dropped; those whose segment was sealed
/// in the meantime are mapped then. A block is never changed, so a copy is never wrong.
#[derive(Default)]
pub(super) struct Copies {
    blocks: HashMap<u64, Block>,
    len: usize,
}

/// What blocks are read from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) kv: &'a dyn KvStore,
    pub(super) names: &'a Names,
    pub(super) copies: &'a Mutex<Copies>,
}

impl Source<'_> {
    /// A block; `None` if it is not there any more.
    pub(super) fn block(&self, number: u64, dim: usize) -> Result<Option<Block>, StoreError> {
        if let Some(found) = self.copies.lock().blocks.get(&number) {
            return Ok(Some(found.clone()));
        }
        let Some(found) = Block::get(self.kv, self.names, number, dim)? else { return Ok(None) };
        if found.is_copy() {
            let mut copies = self.copies.lock();
            if copies.len > COPIES_LEN_MAX {
                *copies = Copies::default();
            }
            if copies.blocks.insert(number, found.clone()).is_none() {
                copies.len += found.byte_len();
            }
        }
        Ok(Some(found))
    }
}

/// A query in the form that the quick distances take.
pub(super) struct Quick {
    measure: Measure,
    floats: Vec<f32>,
    norm: f32,
}

impl Quick {
    /// `None` if the embedding is one whose distances must all be computed exactly.
    pub(super) fn new(measure: Measure, embedding: &[f64]) -> Option<Quick> {
        let norm = embedding.iter().map(|f| f * f).sum::<f64>().sqrt();
        if !is_ordinary(norm as f32) {
            return None;
        }
        let unit = if measure == Measure::Euclidean { 1.0 } else { norm };
        let floats = embedding.iter().map(|f| (f / unit) as f32).collect();
        Some(Quick { measure, floats, norm: norm as f32 })
    }
}

/// The blocks with rows that are wanted.
pub(super) fn wanted_blocks<'a>(table: &'a Table, bits: Option<&[u64]>) -> Vec<&'a BlockRows> {
    let has_any = |block: &&BlockRows| match bits {
        None => block.live > 0,
        Some(bits) => match block.words(bits) {
            Some((_, words)) if words.iter().all(|word| *word == 0) => false,
            _ => block.rows.iter().any(|row| is_set(bits, *row)),
        },
    };
    table.blocks.values().filter(has_any).collect()
}

/// True if `bits` hold the row, or if there are none. [`NO_ROW`] is never wanted.
fn is_wanted(bits: Option<&[u64]>, row: u32) -> bool {
    match bits {
        None => row != NO_ROW,
        Some(bits) => is_set(bits, row),
    }
}

fn is_set(bits: &[u64], row: u32) -> bool {
    bits.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
}

/// Calls `visit` with the slots and rows of `block` that are wanted.
fn each_row(block: &BlockRows, bits: Option<&[u64]>, mut visit: impl FnMut(u32, u32)) {
    for (row, slot) in block.rows.iter().zip(0..) {
        if is_wanted(bits, *row) {
            visit(*row, slot);
        }
    }
}

/// Runs `work` on all blocks and brings its results together. `None` if a block is not there any
/// more.
fn on_threads<T: Send>(
    blocks: &[&BlockRows],
    threads: usize,
    work: impl Fn(&mut dyn Iterator<Item = usize>) -> Result<Option<T>, StoreError> + Sync,
) -> Result<Option<Vec<T>>, StoreError> {
    let next = AtomicUsize::new(0);
    let take = || {
        let taken = next.fetch_add(1, Ordering::Relaxed);
        (taken < blocks.len()).then_some(taken)
    };
    let run = || work(&mut std::iter::from_fn(take));
    let bytes: usize = blocks.iter().map(|block| block.live * block.dim * 4).sum();
    let threads = match threads {
        0 if bytes < THREAD_BYTES => 1,
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        threads => threads,
    };
    if threads.min(blocks.len()) <= 1 {
        return Ok(run()?.map(|done| vec![done]));
    }
    let done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(blocks.len())).map(|_| scope.spawn(run)).collect();
        let mut done = vec![run()];
        done.extend(others.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        done
    });
    done.into_iter().collect()
}

/// The rows that may be among the `k` best. `None` if a block is not there any more.
pub(super) fn best(
    source: Source<'_>,
    blocks: &[&BlockRows],
    bits: Option<&[u64]>,
    quick: &Quick,
    k: usize,
    threads: usize,
) -> Result<Option<TopK>, StoreError> {
    let error = relative_error(quick.floats.len());
    let query = &quick.floats[..];
    let work = |taken: &mut dyn Iterator<Item = usize>| {
        let mut top = TopK::new(k);
        let mut taken = taken.filter_map(|place| blocks.get(place).copied());
        let mut batch = Batch::default();
        loop {
            if !batch.open(source, &mut taken.by_ref().take(BATCH_BLOCKS), bits)? {
                return Ok(None);
            }
            if batch.blocks.is_empty() {
                return Ok(Some(top));
            }
            // All blocks of a store have one precision, but for those of a moment that is over.
            let is_half = batch.blocks.iter().any(|(block, ..)| block.is_half());
            if is_half && !batch.blocks.iter().all(|(block, ..)| block.is_half()) {
                return Ok(None);
            }
            let (dot, squared_distance): (Distance, Distance) = match is_half {
                true => (half_dot, half_squared_distance),
                false => (dot, squared_distance),
            };
            match quick.measure {
                Measure::Cosine => {
                    batch.offer(&mut top, |row, norm| (dot(row, query) / norm, error));
                }
                Measure::Dot => {
                    batch.offer(&mut top, |row, norm| (dot(row, query), error * norm));
                }
                Measure::Euclidean => batch.offer(&mut top, |row, norm| {
                    let distance = squared_distance(row, query).sqrt();
                    (-distance, error * (distance + norm + quick.norm))
                }),
            }
        }
    };
    let Some(done) = on_threads(blocks, threads, work)? else { return Ok(None) };
    let mut done = done.into_iter();
    let Some(mut top) = done.next() else { return Ok(None) };
    done.for_each(|other| top.merge(other));
    Ok(Some(top))
}

/// Blocks that are read at once.
const BATCH_BLOCKS: usize = 4;

/// Rows that do not follow each other are asked of the memory before they are compared: so many at
/// most...
const AHEAD_ROWS: usize = 40;

/// ... and about as many bytes of them.
const AHEAD_BYTES: usize = 20 << 10;

/// Some blocks and the rows of them that are wanted: reading ahead goes on from one to the next.
#[derive(Default)]
struct Batch {
    blocks: Vec<(Block, u64, usize)>,
    /// Rows with their places in `blocks` and their slots.
    rows: Vec<(u32, u32, u32)>,
}

impl Batch {
    /// Takes other blocks in, in the room of those it had. False if one is not there any more.
    fn open(
        &mut self,
        source: Source<'_>,
        taken: &mut dyn Iterator<Item = &BlockRows>,
        bits: Option<&[u64]>,
    ) -> Result<bool, StoreError> {
        self.blocks.clear();
        self.rows.clear();
        for (rows, place) in taken.zip(0..) {
            let Some(block) = source.block(rows.number, rows.dim)? else { return Ok(false) };
            if block.rows() != rows.rows.len() {
                let what = "has not as many rows as its directory";
                return Err(corrupt(&source.names.blocks, &block_key(rows.number), what));
            }
            let len = block.row_len();
            self.blocks.push((block, rows.number, len));
            self.list(rows, place, bits);
        }
        Ok(true)
    }

    /// Lists the rows of a block that are wanted.
    fn list(&mut self, block: &BlockRows, place: u32, bits: Option<&[u64]>) {
        let mut len = self.rows.len();
        if let Some((run, words)) = bits.and_then(|bits| block.words(bits)) {
            let base = run.start / 64 * 64;
            let wanted = ones(words).map(|row| base + row).filter(|row| run.contains(row));
            self.rows.extend(wanted.map(|row| (row, place, row - run.start)));
            return;
        }
        // Each is written, and counted if it is wanted: a branch that nobody can foresee would
        // take longer than all the rest.
        self.rows.resize(len + block.rows.len(), (NO_ROW, 0, 0));
        for (row, slot) in block.rows.iter().zip(0..) {
            if let Some(to) = self.rows.get_mut(len) {
                *to = (*row, place, slot);
            }
            len += usize::from(is_wanted(bits, *row));
        }
        self.rows.truncate(len);
    }

    /// Offers the rows with the score and its error that `score` makes of a row and its norm.
    fn offer(&self, top: &mut TopK, score: impl Fn(&[u8], f32) -> (f32, f32)) {
        let parts: [_; BATCH_BLOCKS] = std::array::from_fn(|place| {
            let Some((block, number, len)) = self.blocks.get(place) else {
                return (&[][..], &[][..], 0, 0);
            };
            let (norms, data) = block.parts();
            (norms.as_chunks::<4>().0, data, *number, *len)
        });
        let find = |(_, place, slot): (u32, u32, u32)| {
            let (norms, data, number, len) = parts.get(place as usize)?;
            let start = slot as usize * len;
            Some((norms.get(slot as usize)?, data.get(start..start + len)?, *number))
        };
        let ask = |row: &(u32, u32, u32)| {
            if let Some((norm, bytes, _)) = find(*row) {
                read_ahead(norm);
                read_ahead(bytes);
            }
        };
        let len = parts.first().map_or(0, |(.., len)| *len);
        let ahead = (AHEAD_BYTES / len.max(1)).clamp(1, AHEAD_ROWS);
        // What follows its predecessor, the processor asks for by itself, and better.
        let follows = |place: usize| {
            let before = place.checked_sub(1).and_then(|place| self.rows.get(place));
            let pair = before.zip(self.rows.get(place));
            pair.is_some_and(|((_, a, before), (_, b, slot))| a == b && before + 1 == *slot)
        };
        self.rows.iter().take(ahead).for_each(ask);
        for (place, wanted) in self.rows.iter().enumerate() {
            if !follows(place + ahead) {
                self.rows.get(place + ahead).into_iter().for_each(ask);
            }
            let (row, _, slot) = *wanted;
            let Some((norm, bytes, number)) = find(*wanted) else { continue };
            let norm = f32::from_le_bytes(*norm);
            let (score, error) =
                if is_ordinary(norm) { score(bytes, norm) } else { (f32::NAN, 0.0) };
            top.offer(row, number, slot, score, error);
        }
    }
}

/// A row with its exact similarity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scored {
    pub(super) row: u32,
    pub(super) block: u64,
    pub(super) slot: u32,
    pub(super) score: f64,
}

/// The exact similarity of every row that is wanted, in the order of the blocks. `None` if a block
/// is not there any more.
pub(super) fn score_all(
    source: Source<'_>,
    blocks: &[&BlockRows],
    bits: Option<&[u64]>,
    measure: Measure,
    embedding: &[f64],
    threads: usize,
) -> Result<Option<Vec<Scored>>, StoreError> {
    let work = |taken: &mut dyn Iterator<Item = usize>| {
        let mut scored = Vec::new();
        for rows in taken.filter_map(|place| blocks.get(place).copied()) {
            let Some(block) = source.block(rows.number, rows.dim)? else { return Ok(None) };
            each_row(rows, bits, |row, slot| {
                let score = measure.exact(block.floats(slot).map(f64::from), embedding);
                scored.push(Scored { row, block: rows.number, slot, score });
            });
        }
        Ok(Some(scored))
    };
    let Some(done) = on_threads(blocks, threads, work)? else { return Ok(None) };
    let mut scored = done.concat();
    scored.sort_unstable_by_key(|scored| (scored.block, scored.slot));
    Ok(Some(scored))
}
