//! Which rows a query or a deletion is about: restrictions by id, by ref doc and by filters, as
//! bits by row.

use super::filter::{Filter, FilterCondition, MetadataFilter, MetadataFilters};
use super::table::{Needs, Table};
use crate::kv::{Text, Value};
use crate::stores::StoreError;

/// What rows must fulfil.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    pub(super) ids: Option<&'a [Text]>,
    pub(super) ref_doc_ids: Option<&'a [Text]>,
    pub(super) filters: Option<&'a MetadataFilters>,
}

impl<'a> Wanted<'a> {
    /// What must be known of the rows to tell.
    pub(super) fn needs(&self) -> Result<Needs, StoreError> {
        let mut needs = Needs { keys: Vec::new(), records: self.ref_doc_ids.is_some() };
        if let Some(filters) = self.filters {
            filters.check_depth()?;
            needs.records = true;
            filters.each(&mut |filter| {
                if !needs.keys.contains(&filter.key) {
                    needs.keys.push(filter.key.clone());
                }
            });
        }
        Ok(needs)
    }

    /// Bits of the rows that are wanted; `None` if all are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Type`] if a filter cannot be decided for a row that the other restrictions
    /// leave; [`StoreError::NotFound`] if such a row has no metadata at all.
    pub(super) fn select(&self, table: &Table) -> Result<Option<Vec<u64>>, StoreError> {
        let mut bits: Option<Vec<u64>> = None;
        if let Some(ids) = self.ids {
            let mut of_ids = vec![0; table.live().len()];
            for row in ids.iter().filter_map(|id| table.row_of(id)) {
                if let Some(word) = of_ids.get_mut(row as usize / 64) {
                    *word |= 1 << (row % 64);
                }
            }
            bits = Some(of_ids);
        }
        if let (Some(ids), Some(column)) = (self.ref_doc_ids, table.ref_docs()) {
            let is_wanted = |value: &Value| Ok(value.as_text().is_some_and(|id| ids.contains(id)));
            let of_docs = column.bits(table.rows(), is_wanted).map_err(StoreError::Type)?;
            intersect(&mut bits, of_docs);
        }
        let Some(filters) = self.filters.filter(|filters| !filters.filters.is_empty()) else {
            return Ok(bits);
        };
        intersect(&mut bits, table.live().to_vec());
        let candidates = bits.unwrap_or_default();
        refuse_bare(table, &candidates)?;
        match decide(table, filters) {
            Ok(of_filters) => {
                let mut bits = Some(candidates);
                intersect(&mut bits, of_filters);
                Ok(bits)
            }
            // Perhaps of values that only rows have which are no candidates.
            Err(_) => decide_each(table, filters, candidates).map(Some),
        }
    }
}

/// `all` and `more`.
fn intersect(bits: &mut Option<Vec<u64>>, more: Vec<u64>) {
    match bits {
        None => *bits = Some(more),
        Some(bits) => bits.iter_mut().zip(more).for_each(|(word, more)| *word &= more),
    }
}

/// Where the bits are set.
pub(super) fn ones(bits: &[u64]) -> impl Iterator<Item = u32> + '_ {
    bits.iter().zip(0u32..).flat_map(|(word, place)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                place * 64 + bit
            })
        })
    })
}

/// Filters need metadata: LlamaIndex raises a `KeyError` for a row without any.
fn refuse_bare(table: &Table, candidates: &[u64]) -> Result<(), StoreError> {
    let Some(bare) = table.bare().filter(|bare| !bare.is_blank()) else { return Ok(()) };
    let bare = bare.bits(table.rows(), |value| Ok(!value.is_null())).unwrap_or_default();
    let both: Vec<u64> = bare.iter().zip(candidates).map(|(a, b)| a & b).collect();
    match ones(&both).min_by_key(|row| table.order(*row)) {
        None => Ok(()),
        Some(row) => Err(StoreError::NotFound { what: "metadata of", id: table.id(row).clone() }),
    }
}

/// Decides the filters for every value that rows have, and then for all rows at once.
fn decide(table: &Table, filters: &MetadataFilters) -> Result<Vec<u64>, String> {
    let words = table.live().len();
    let start = match filters.condition {
        FilterCondition::And => !0,
        FilterCondition::Or | FilterCondition::Not => 0,
    };
    let mut all = vec![start; words];
    for filter in &filters.filters {
        let bits = match filter {
            Filter::Group(group) => decide(table, group)?,
            Filter::One(one) => match table.column(&one.key) {
                Some(column) => column.bits(table.rows(), |value| one.decide(value))?,
                None => Vec::new(),
            },
        };
        for (word, more) in all.iter_mut().zip(bits) {
            match filters.condition {
                FilterCondition::And => *word &= more,
                FilterCondition::Or | FilterCondition::Not => *word |= more,
            }
        }
    }
    if filters.filters.is_empty() {
        all.fill(!0);
    } else if filters.condition == FilterCondition::Not {
        all.iter_mut().for_each(|word| *word = !*word);
    }
    Ok(all)
}

/// Decides the filters row by row, in the order of insertion, as LlamaIndex does: the first error
/// is the one that it raises.
fn decide_each(
    table: &Table,
    filters: &MetadataFilters,
    mut candidates: Vec<u64>,
) -> Result<Vec<u64>, StoreError> {
    let mut rows: Vec<u32> = ones(&candidates).collect();
    rows.sort_by_key(|row| table.order(*row));
    for row in rows {
        if !decide_row(table, filters, row).map_err(StoreError::Type)?
            && let Some(word) = candidates.get_mut(row as usize / 64)
        {
            *word &= !(1 << (row % 64));
        }
    }
    Ok(candidates)
}

fn decide_row(table: &Table, filters: &MetadataFilters, row: u32) -> Result<bool, String> {
    let one = |filter: &MetadataFilter| match table.column(&filter.key) {
        Some(column) => filter.decide(column.value(row)),
        None => Ok(false),
    };
    let (mut any, mut all) = (false, true);
    for filter in &filters.filters {
        let matches = match filter {
            Filter::One(filter) => one(filter)?,
            Filter::Group(group) => decide_row(table, group, row)?,
        };
        any |= matches;
        all &= matches;
    }
    Ok(match filters.condition {
        _ if filters.filters.is_empty() => true,
        FilterCondition::And => all,
        FilterCondition::Or => any,
        FilterCondition::Not => !any,
    })
}
