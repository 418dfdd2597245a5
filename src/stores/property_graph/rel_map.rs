//! `get_rel_map`: what can be reached from some nodes, level by level.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::PropertyGraphStore;
use super::read::Triplet;
use super::view::{Listed, Nodes, RelationRecord, View};
use crate::kv::Text;
use crate::stores::StoreError;

/// Most triplets in one result of [`PropertyGraphStore::get_rel_map`], which stands in memory.
pub const TRIPLETS_LEN_MAX: usize = 1 << 20;

impl PropertyGraphStore {
    /// The relations that touch one of the nodes `ids`, then those that touch a node that the
    /// former lead to, and so on for `depth` levels; without repeats. Those labelled as one of
    /// `ignore_rels` are followed, but left out. At most `limit` are given, the nearest.
    /// LlamaIndex's defaults are a depth of 2 and a limit of 30; below 1 either gives nothing.
    ///
    /// (LlamaIndex's gives the first level twice, and lists a level in no order; here it is in the
    /// order of its nodes.)
    ///
    /// Cost: each relation is read once at most, and reading ends at `limit`. Depth and cycles add
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if `limit` is above [`TRIPLETS_LEN_MAX`] and so many are
    /// reached; otherwise as [`PropertyGraphStore::get`].
    pub fn get_rel_map(
        &self,
        ids: &[Text],
        depth: i64,
        limit: i64,
        ignore_rels: &[Text],
    ) -> Result<Vec<Triplet>, StoreError> {
        let limit = usize::try_from(limit.max(0)).unwrap_or(usize::MAX);
        self.read(|view| {
            let mut walk = Walk {
                view,
                ignored: ignore_rels.iter().collect(),
                limit: limit.min(TRIPLETS_LEN_MAX + 1),
                seen: HashSet::new(),
                done: HashSet::new(),
                nodes: Nodes::new(),
                found: Vec::new(),
            };
            let mut level = Vec::new();
            for id in ids {
                level.extend(view.node_number(id)?);
            }
            for _ in 0..depth.max(0) {
                if level.is_empty() || walk.is_full() {
                    break;
                }
                level = walk.expand(&level)?;
            }
            if walk.found.len() > TRIPLETS_LEN_MAX {
                return Err(StoreError::InvalidArgument(format!(
                    "more than {TRIPLETS_LEN_MAX} triplets are reached, ask for a smaller depth \
                     or limit"
                )));
            }
            Ok(walk.found)
        })
    }
}

/// A walk over the graph.
struct Walk<'a> {
    view: View<'a>,
    ignored: HashSet<&'a Text>,
    limit: usize,
    /// Relations that were read.
    seen: HashSet<u64>,
    /// Nodes whose relations were all read.
    done: HashSet<u64>,
    nodes: Nodes,
    found: Vec<Triplet>,
}

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.found.len() >= self.limit
    }

    /// Finds what touches the nodes of `level`; returns the nodes that it leads to.
    fn expand(&mut self, level: &[u64]) -> Result<Vec<u64>, StoreError> {
        let mut next = Vec::new();
        let view = self.view;
        for node in level {
            if !self.done.insert(*node) {
                continue;
            }
            for listed in [Listed::From(*node), Listed::To(*node)] {
                view.visit(listed, &mut |number| {
                    if self.is_full() {
                        return Ok(ControlFlow::Break(()));
                    }
                    if self.seen.insert(number) {
                        let record = view.relation(number)?;
                        next.push(record.target);
                        self.take(record)?;
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
            }
        }
        Ok(next)
    }

    fn take(&mut self, record: RelationRecord) -> Result<(), StoreError> {
        if !self.ignored.contains(&record.relation.label) {
            self.found.push(self.view.triplet(record, &mut self.nodes)?);
        }
        Ok(())
    }
}
