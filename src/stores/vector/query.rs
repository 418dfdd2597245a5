//! Queries: LlamaIndex's `VectorStoreQuery` and what it gives.

use std::cmp::Ordering;

use super::VectorStore;
use super::distance::Measure;
use super::filter::MetadataFilters;
use super::scan::{Quick, Scored, Source, best, score_all, wanted_blocks};
use super::select::Wanted;
use super::table::{BlockRows, Table};
use crate::kv::{KvError, KvStore, Text, Value};
use crate::stores::StoreError;

/// How often a query starts again because blocks that it was to read were merged.
const TRIES_MAX: usize = 100;

/// How rows are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueryMode {
    /// By the cosine of the angle to the query.
    #[default]
    Default,
    /// Maximal marginal relevance: near to the query, and unlike the row that was picked before.
    Mmr,
    /// By the dot product with the query.
    DotProduct,
    /// By the distance from the query, the nearest first; similarities are negative distances.
    Euclidean,
}

impl QueryMode {
    /// The mode of this name: LlamaIndex's `default` and `mmr`, and `dot_product`, `euclidean`.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] for every other: LlamaIndex's learner modes are not offered,
    /// and its simple store does not know the rest either.
    pub fn from_name(name: &str) -> Result<Self, StoreError> {
        match name {
            "default" => Ok(QueryMode::Default),
            "mmr" => Ok(QueryMode::Mmr),
            "dot_product" => Ok(QueryMode::DotProduct),
            "euclidean" => Ok(QueryMode::Euclidean),
            "svm" | "linear_regression" | "logistic_regression" => {
                Err(StoreError::InvalidArgument(format!(
                    "the query mode {name} is not offered; use default, mmr, dot_product or \
                     euclidean"
                )))
            }
            other => Err(StoreError::InvalidArgument(format!(
                "Invalid query mode: VectorStoreQueryMode.{}",
                other.to_uppercase()
            ))),
        }
    }
}

/// What to look for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorQuery {
    /// The embedding that rows are compared with. Needed if there is any row to compare.
    pub embedding: Option<Vec<f64>>,
    /// How many rows are wanted: 0 is none, `None` is all. Default: 1.
    pub top_k: Option<usize>,
    /// How they are ranked.
    pub mode: QueryMode,
    /// Which metadata they must have.
    pub filters: Option<MetadataFilters>,
    /// Only rows with these ids. Default: any.
    pub node_ids: Option<Vec<Text>>,
    /// Only rows of these ref docs. Default: any.
    pub doc_ids: Option<Vec<Text>>,
    /// For [`QueryMode::Mmr`]: how much nearness counts, against unlikeness to the last pick.
    /// Default: 0.5.
    pub mmr_threshold: Option<f64>,
    /// Threads to search with. Default: 0, as many as there are cores, or 1 if there is little to
    /// read.
    pub threads: usize,
}

impl Default for VectorQuery {
    fn default() -> Self {
        VectorQuery {
            embedding: None,
            top_k: Some(1),
            mode: QueryMode::Default,
            filters: None,
            node_ids: None,
            doc_ids: None,
            mmr_threshold: None,
            threads: 0,
        }
    }
}

impl VectorQuery {
    /// The `top_k` rows nearest to `embedding`.
    pub fn new(embedding: impl Into<Vec<f64>>, top_k: usize) -> Self {
        VectorQuery { embedding: Some(embedding.into()), top_k: Some(top_k), ..Self::default() }
    }

    /// Of the rows that match `filters` only.
    pub fn with_filters(mut self, filters: MetadataFilters) -> Self {
        self.filters = Some(filters);
        self
    }
}

/// What a query found, the best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorQueryResult {
    /// The rows' ids.
    pub ids: Vec<Text>,
    /// How similar they are to the query; for [`QueryMode::Mmr`] the scores of the picks.
    pub similarities: Vec<f64>,
}

impl VectorStore {
    /// The rows that are nearest to an embedding. Exact: every row that the query does not exclude
    /// is compared; similarities are computed in double precision.
    ///
    /// Of rows that are equally similar those with larger ids come first, as they do in LlamaIndex
    /// where the cut is. A similarity that is no number (the cosine with a zero vector) is least.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Type`] where Python raises a `TypeError`: filters on values of kinds that do
    ///   not go together, no embedding.
    /// - [`StoreError::InvalidArgument`] if a row that is to be compared has another dimension, if
    ///   filters are nested too deeply, or if there are filters and no row has metadata.
    /// - [`StoreError::NotFound`] if there are filters and a row has no metadata.
    pub fn query(&self, query: &VectorQuery) -> Result<VectorQueryResult, StoreError> {
        let wanted = Wanted {
            ids: query.node_ids.as_deref(),
            ref_doc_ids: query.doc_ids.as_deref(),
            filters: query.filters.as_ref(),
        };
        let needs = wanted.needs()?;
        let kv = &**self.inner.writer.kv();
        for _ in 0..TRIES_MAX {
            let run = |table: &Table| self.run(kv, table, query, &wanted);
            if let Some(found) = self.with_table(kv, &needs, run)?? {
                return Ok(found);
            }
            std::thread::yield_now();
        }
        let what = "cannot search the vector store";
        Err(StoreError::Kv(KvError::custom(
            what,
            "others merge its blocks all the time; try again",
        )))
    }

    /// `None` if a block is not there any more.
    fn run(
        &self,
        kv: &dyn KvStore,
        table: &Table,
        query: &VectorQuery,
        wanted: &Wanted<'_>,
    ) -> Result<Option<VectorQueryResult>, StoreError> {
        let nothing = Ok(Some(VectorQueryResult::default()));
        if query.filters.is_some() && table.len() > 0 {
            refuse_without_metadata(table)?;
        }
        let bits = wanted.select(table)?;
        let bits = bits.as_deref();
        let blocks = wanted_blocks(table, bits);
        let count = match bits {
            None => table.len(),
            Some(bits) => bits.iter().map(|word| word.count_ones() as usize).sum(),
        };
        if count == 0 || query.top_k == Some(0) {
            return nothing;
        }
        let Some(embedding) = &query.embedding else {
            let what = "unsupported operand type(s) for *: 'NoneType' and 'float'";
            return Err(StoreError::Type(what.to_owned()));
        };
        check_dims(&blocks, embedding.len())?;
        let source = Source { kv, names: &self.inner.names, copies: &self.inner.copies };
        let k = query.top_k.unwrap_or(count).min(count);
        let search = Search { source, table, blocks, bits, embedding, threads: query.threads };
        let scored = match query.mode {
            QueryMode::Mmr => search.mmr(k, query.mmr_threshold.unwrap_or(0.5))?,
            QueryMode::Default => search.nearest(k, count, Measure::Cosine)?,
            QueryMode::DotProduct => search.nearest(k, count, Measure::Dot)?,
            QueryMode::Euclidean => search.nearest(k, count, Measure::Euclidean)?,
        };
        Ok(scored.map(|scored| VectorQueryResult {
            ids: scored.iter().map(|scored| table.id(scored.row).clone()).collect(),
            similarities: scored.iter().map(|scored| scored.score).collect(),
        }))
    }
}

/// LlamaIndex stores of old kept no metadata, and cannot be filtered.
fn refuse_without_metadata(table: &Table) -> Result<(), StoreError> {
    let bare = table
        .bare()
        .filter(|bare| !bare.is_blank())
        .map(|bare| bare.bits(table.rows(), |value| Ok(!value.is_null())));
    let bare = bare.and_then(Result::ok).unwrap_or_default();
    if bare.iter().map(|word| word.count_ones() as usize).sum::<usize>() < table.len() {
        return Ok(());
    }
    let what = "Cannot filter stores that were persisted without metadata. Please rebuild the \
                store with metadata to enable filtering.";
    Err(StoreError::InvalidArgument(what.to_owned()))
}

fn check_dims(blocks: &[&BlockRows], dim: usize) -> Result<(), StoreError> {
    match blocks.iter().find(|block| block.dim != dim) {
        None => Ok(()),
        Some(other) => Err(StoreError::InvalidArgument(format!(
            "shapes ({dim},) and ({0},) not aligned: {dim} (dim 0) != {0} (dim 0)",
            other.dim
        ))),
    }
}

struct Search<'a> {
    source: Source<'a>,
    table: &'a Table,
    blocks: Vec<&'a BlockRows>,
    bits: Option<&'a [u64]>,
    embedding: &'a [f64],
    threads: usize,
}

impl Search<'_> {
    /// The `k` of `count` rows that are most similar, the best first.
    fn nearest(
        &self,
        k: usize,
        count: usize,
        measure: Measure,
    ) -> Result<Option<Vec<Scored>>, StoreError> {
        let quick = if k < count { Quick::new(measure, self.embedding) } else { None };
        let scored = match quick {
            None => self.score_all(measure, self.embedding)?,
            Some(quick) => {
                let top = best(self.source, &self.blocks, self.bits, &quick, k, self.threads)?;
                let Some(top) = top else { return Ok(None) };
                let blank = |c: super::top_k::Candidate| Scored {
                    row: c.row,
                    block: c.block,
                    slot: c.slot,
                    score: 0.0,
                };
                Some(top.finish().into_iter().map(blank).collect())
            }
        };
        let Some(mut scored) = scored else { return Ok(None) };
        let is_known = k == count;
        if !self.rescore(&mut scored, measure, is_known)? {
            return Ok(None);
        }
        scored.sort_by(|a, b| {
            by_score(b.score, a.score).then_with(|| self.table.id(b.row).cmp(self.table.id(a.row)))
        });
        scored.truncate(k);
        Ok(Some(scored))
    }

    fn score_all(
        &self,
        measure: Measure,
        embedding: &[f64],
    ) -> Result<Option<Vec<Scored>>, StoreError> {
        score_all(self.source, &self.blocks, self.bits, measure, embedding, self.threads)
    }

    /// Computes the similarities exactly, from the embeddings as they were given. False if a block
    /// is not there any more. `is_known`: they are those of the rows in single precision already.
    fn rescore(
        &self,
        scored: &mut [Scored],
        measure: Measure,
        is_known: bool,
    ) -> Result<bool, StoreError> {
        let exact = &self.source.names.exact;
        let has_exact = self.source.kv.len(exact)? > 0;
        if is_known && !has_exact {
            return Ok(true);
        }
        let dim = self.embedding.len();
        for scored in scored {
            let Some(block) = self.source.block(scored.block, dim)? else { return Ok(false) };
            let row = || block.floats(scored.slot);
            let id = self.table.id(scored.row);
            let given = match has_exact {
                true => exact_embedding(self.source.kv, exact, id, row())?,
                false => None,
            };
            scored.score = match given {
                Some(given) => measure.exact(given.into_iter(), self.embedding),
                None => measure.exact(row().map(f64::from), self.embedding),
            };
        }
        Ok(true)
    }

    /// Picks `k` rows, each the best by its similarity to the query and its unlikeness to the one
    /// picked before (LlamaIndex: `get_top_k_mmr_embeddings`). One pass over the rows for each.
    fn mmr(&self, k: usize, threshold: f64) -> Result<Option<Vec<Scored>>, StoreError> {
        let Some(mut left) = self.score_all(Measure::Cosine, self.embedding)? else {
            return Ok(None);
        };
        // Of equal ones the first in the order of insertion is picked.
        let orders: Vec<u64> = left.iter().map(|scored| self.table.order(scored.row)).collect();
        let mut is_picked = vec![false; left.len()];
        let mut overlaps: Option<Vec<Scored>> = None;
        let mut picks = Vec::with_capacity(k);
        while picks.len() < k {
            let score = |place: usize, scored: &Scored| {
                let overlap = overlaps.as_ref().and_then(|all| all.get(place));
                match overlap {
                    None => threshold * scored.score,
                    Some(overlap) => threshold * scored.score - (1.0 - threshold) * overlap.score,
                }
            };
            let mut pick: Option<(usize, f64, u64)> = None;
            for (place, scored) in left.iter().enumerate() {
                let order = orders.get(place).copied().unwrap_or(0);
                if is_picked.get(place).copied().unwrap_or(true) {
                    continue;
                }
                let score = score(place, scored);
                let is_better = pick.is_none_or(|(_, best, first)| match by_score(score, best) {
                    Ordering::Equal => order < first,
                    order => order.is_gt(),
                });
                if is_better {
                    pick = Some((place, score, order));
                }
            }
            let Some((place, score, _)) = pick else { break };
            let Some(scored) = left.get_mut(place) else { break };
            picks.push(Scored { score, ..*scored });
            if let Some(flag) = is_picked.get_mut(place) {
                *flag = true;
            }
            if picks.len() == k {
                break;
            }
            let (number, slot) = (scored.block, scored.slot);
            let Some(block) = self.source.block(number, self.embedding.len())? else {
                return Ok(None);
            };
            let last: Vec<f64> = block.floats(slot).map(f64::from).collect();
            overlaps = self.score_all(Measure::Cosine, &last)?;
            if overlaps.as_ref().is_none_or(|all| all.len() != left.len()) {
                return Ok(None);
            }
        }
        Ok(Some(picks))
    }
}

/// Ordered as numbers, what is no number below all.
fn by_score(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The embedding of `id` as it was given, if single precision did not hold it and it is the one
/// whose floats are `row`.
pub(super) fn exact_embedding(
    kv: &dyn KvStore,
    collection: &str,
    id: &Text,
    row: impl Iterator<Item = f32>,
) -> Result<Option<Vec<f64>>, StoreError> {
    let Some(value) = kv.get(collection, id.as_bytes())? else { return Ok(None) };
    let given = value.as_list().and_then(|list| {
        let float = |value: &Value| match value {
            Value::Float(float) => Some(*float),
            _ => None,
        };
        list.iter().map(float).collect::<Option<Vec<f64>>>()
    });
    let is_it = |given: &Vec<f64>| {
        given.iter().map(|float| (*float as f32).to_bits()).eq(row.map(f32::to_bits))
    };
    Ok(match given {
        Some(given) if is_it(&given) => Some(given),
        _ => None,
    })
}
