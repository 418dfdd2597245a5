//! `get_rel_map`: what can be reached from some subjects.
//!
//! The result is LlamaIndex's, the way there is not: that one walks everything that the depth
//! allows, which is exponential where there are cycles, and cuts the result afterwards. Here the
//! walk stops as soon as the cut is known. It keeps its own stack, so that no depth overflows the
//! thread's. Each edge that is read becomes an entry of the result, so `limit` bounds the work.

use std::ops::ControlFlow;

use super::{GraphStore, List};
use crate::kv::{KvStore, Text, Value};
use crate::stores::StoreError;

/// A subject, a relation and an object.
pub type TextTriplet = (Text, Text, Text);

/// Most triplets in one result of [`GraphStore::get_rel_map`]: through cycles a walk has no end,
/// and all of it stands in memory.
pub const REL_MAP_LEN_MAX: usize = 1 << 18;

/// Most edges that are followed from one node, other than the subjects asked for: LlamaIndex's
/// default limit, which it uses there whatever the caller's is.
const NESTED_LIMIT: u64 = 30;

/// Edges that are read at a time from one node, at first; doubles up to [`PAGE_LEN_MAX`].
const PAGE_LEN: usize = 8;

/// Most edges that are read at a time from one node.
const PAGE_LEN_MAX: usize = 1024;

/// A node whose edges are being followed.
struct Frame {
    subj: Text,
    /// Levels below this one; negative is without end.
    depth: i64,
    /// How many more edges may be followed.
    left: u64,
    /// Where in the node's list the page ends.
    position: u64,
    page_len: usize,
    page: std::vec::IntoIter<(Text, Text)>,
}

impl GraphStore {
    /// The triplets that can be reached from each of `subjs` within `depth` steps, depth first;
    /// from all subjects in the order of insertion if there is none given. LlamaIndex's defaults
    /// are a depth of 2 and a limit of 30.
    ///
    /// As there: at most `limit` edges of a subject are followed and at most 30 of each node
    /// further on; cycles repeat up to `depth`; a negative `depth` has no end. `limit` is the most
    /// triplets overall: the first subject that exceeds it is cut, those after it are left out.
    ///
    /// Cost: O(`limit` + subjects), whatever the depth; memory in proportion.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if `limit` is above [`REL_MAP_LEN_MAX`] and so many
    /// triplets are reached; otherwise as [`GraphStore::get`].
    pub fn get_rel_map(
        &self,
        subjs: Option<&[Text]>,
        depth: i64,
        limit: i64,
    ) -> Result<Vec<(Text, Vec<TextTriplet>)>, StoreError> {
        self.writer.read(|kv| {
            let mut map = RelMap { store: self, kv, depth, limit, len: 0, entries: Vec::new() };
            match subjs {
                Some(subjs) => {
                    let mut known = std::collections::HashSet::new();
                    for subj in subjs {
                        if known.insert(subj) && map.add(subj)?.is_break() {
                            break;
                        }
                    }
                }
                None => {
                    let order = List::load(kv, &self.names.order, b"")?;
                    order.visit(0, &mut |_, subj| match subj {
                        Value::Text(subj) => map.add(&subj),
                        _ => Err(self.bad_order()),
                    })?;
                }
            }
            Ok(map.entries)
        })
    }
}

/// A result in the making.
struct RelMap<'a> {
    store: &'a GraphStore,
    kv: &'a dyn KvStore,
    depth: i64,
    limit: i64,
    /// Triplets so far.
    len: usize,
    entries: Vec<(Text, Vec<TextTriplet>)>,
}

impl RelMap<'_> {
    /// Adds what is reached from `subj`; breaks if the limit is exceeded.
    fn add(&mut self, subj: &Text) -> Result<ControlFlow<()>, StoreError> {
        let limit = usize::try_from(self.limit.max(0)).unwrap_or(usize::MAX);
        let room = limit.min(REL_MAP_LEN_MAX) - self.len;
        // One more than there is room for, to see whether there is more.
        let mut found = self.walk(subj, room + 1)?;
        if found.len() > room && limit > REL_MAP_LEN_MAX {
            return Err(StoreError::InvalidArgument(format!(
                "more than {REL_MAP_LEN_MAX} triplets are reached, ask for a smaller depth or limit"
            )));
        }
        let exceeded = found.len() > room || self.limit < 0;
        found.truncate(room);
        self.len += found.len();
        self.entries.push((subj.clone(), found));
        Ok(if exceeded { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// The first `len` triplets that are reached from `subj`.
    fn walk(&self, subj: &Text, len: usize) -> Result<Vec<TextTriplet>, StoreError> {
        let mut found = Vec::new();
        let mut frames = Vec::new();
        if self.depth != 0 {
            frames.push(Frame::new(subj, self.depth, self.limit.max(0).unsigned_abs()));
        }
        while let Some(frame) = frames.last_mut() {
            if found.len() == len {
                break;
            }
            let Some((rel, obj)) = frame.next(self.store, self.kv)? else {
                frames.pop();
                continue;
            };
            found.push((frame.subj.clone(), rel, obj.clone()));
            let depth = frame.depth.saturating_sub(1);
            if depth != 0 {
                frames.push(Frame::new(&obj, depth, NESTED_LIMIT));
            }
        }
        Ok(found)
    }
}

impl Frame {
    fn new(subj: &Text, depth: i64, left: u64) -> Self {
        let page = Vec::new().into_iter();
        Frame { subj: subj.clone(), depth, left, position: 0, page_len: PAGE_LEN, page }
    }

    /// The next edge, if there is one to follow.
    fn next(
        &mut self,
        store: &GraphStore,
        kv: &dyn KvStore,
    ) -> Result<Option<(Text, Text)>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.page.len() == 0 {
            let page = store.edges(kv, &self.subj, self.position, self.page_len)?;
            self.position += page.len() as u64;
            self.page_len = PAGE_LEN_MAX.min(self.page_len * 2);
            self.page = page.into_iter();
        }
        self.left -= 1;
        Ok(self.page.next())
    }
}
