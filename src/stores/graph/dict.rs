//! In and out of the dictionary that LlamaIndex's `SimpleGraphStore` persists:
//! `{"graph_dict": {subject: [[relation, object], ..]}}`.

use std::ops::ControlFlow;

use super::{GraphStore, List};
use crate::kv::{KvStore, Map, Text, Value};
use crate::model::to_str;
use crate::stores::StoreError;

/// Subjects or edges that are read at a time while others may change the store.
const PAGE_LEN: usize = 1 << 14;

impl GraphStore {
    /// Calls `visit` with every subject, in the order of insertion; the edges of each come from
    /// [`GraphStore::for_each_edge`]. Holds some thousands of them at a time. What is changed in
    /// the meantime may shift the rest.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; otherwise as [`GraphStore::get`].
    pub fn for_each_subject(
        &self,
        visit: &mut dyn FnMut(Text) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut position = 0;
        loop {
            let page = self.writer.read(|kv| self.subjects(kv, position, PAGE_LEN))?;
            let last = page.len() < PAGE_LEN;
            position += page.len() as u64;
            page.into_iter().try_for_each(&mut *visit)?;
            if last {
                return Ok(());
            }
        }
    }

    /// Calls `visit` with relation and object of every edge of `subj`, in the order of insertion,
    /// as [`GraphStore::for_each_subject`] does.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s; otherwise as [`GraphStore::get`].
    pub fn for_each_edge(
        &self,
        subj: &Text,
        visit: &mut dyn FnMut(Text, Text) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut position = 0;
        loop {
            let page = self.writer.read(|kv| self.edges(kv, subj, position, PAGE_LEN))?;
            let last = page.len() < PAGE_LEN;
            position += page.len() as u64;
            page.into_iter().try_for_each(|(rel, obj)| visit(rel, obj))?;
            if last {
                return Ok(());
            }
        }
    }

    /// At most `len` subjects from the one at `position` on.
    fn subjects(
        &self,
        kv: &dyn KvStore,
        position: u64,
        len: usize,
    ) -> Result<Vec<Text>, StoreError> {
        let mut page = Vec::new();
        List::load(kv, &self.names.order, b"")?.visit(position, &mut |_, subj| {
            let Value::Text(subj) = subj else { return Err(self.bad_order()) };
            page.push(subj);
            Ok(if page.len() < len { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(page)
    }

    /// Enters `subj` without an edge, as a stored dictionary may have it.
    ///
    /// # Errors
    ///
    /// As [`GraphStore::upsert_triplet`].
    pub fn add_subject(&self, subj: impl Into<Text>) -> Result<(), StoreError> {
        let subj = subj.into();
        self.writer.change(|kv| self.enter(kv, &subj))
    }

    fn enter(&self, kv: &dyn KvStore, subj: &Text) -> Result<(), StoreError> {
        let subject = self.subject_or_new(kv, subj)?;
        self.put_subject(kv, subj, &subject)
    }

    /// All of the store as LlamaIndex has it. Holds everything in memory.
    ///
    /// # Errors
    ///
    /// As [`GraphStore::get`].
    pub fn to_dict(&self) -> Result<Value, StoreError> {
        self.writer.read(|kv| {
            let mut graph = Map::new();
            for subj in self.subjects(kv, 0, usize::MAX)? {
                let edges = self.edges(kv, &subj, 0, usize::MAX)?.into_iter();
                let edges = edges.map(|(rel, obj)| Value::List(vec![rel.into(), obj.into()]));
                graph.insert(subj, edges.collect::<Vec<_>>());
            }
            let mut dict = Map::with_capacity(1);
            dict.set("graph_dict", graph);
            Ok(dict.into())
        })
    }

    /// Replaces everything in the store by what LlamaIndex persisted, in one atomic batch.
    /// Triplets that come twice are kept once. A relation or object that is no text becomes what
    /// Python's `str` makes of it, as it does when LlamaIndex loads it: `30`, `None`, `True`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dict`] if the dictionary is no such thing: nothing was changed.
    pub fn load_dict(&self, dict: &Value) -> Result<(), StoreError> {
        let bad = |pointer: String, what| StoreError::Dict { pointer, what };
        let graph = match dict.as_map().map(|map| map.get("graph_dict")) {
            Some(Some(Value::Map(graph))) => Some(graph),
            // LlamaIndex reads an absent graph as an empty one.
            Some(None) => None,
            Some(Some(_)) => return Err(bad("/graph_dict".into(), "is no dictionary")),
            None => return Err(bad("/".into(), "is no dictionary")),
        };
        self.writer.change(|kv| {
            self.wipe(kv)?;
            for (subj, edges) in graph.into_iter().flat_map(Map::iter) {
                let pointer = |index: usize| format!("/graph_dict/{subj}/{index}");
                let Value::List(edges) = edges else {
                    return Err(bad(format!("/graph_dict/{subj}"), "is no list"));
                };
                self.enter(kv, subj)?;
                for (index, edge) in edges.iter().enumerate() {
                    match edge.as_list() {
                        Some([rel, obj]) => self.add(kv, subj, &to_str(rel), &to_str(obj))?,
                        _ => return Err(bad(pointer(index), "is no pair")),
                    }
                }
            }
            Ok(())
        })
    }
}
