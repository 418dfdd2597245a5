//! Nodes by the similarity of their embeddings.

use std::cmp::Ordering;

use super::PropertyGraphStore;
use super::view::as_floats;
use crate::kv::{KvError, Value};
use crate::model::LabelledNode;
use crate::stores::StoreError;

impl PropertyGraphStore {
    /// The `top_k` nodes that `keep` accepts whose embeddings are most similar to `embedding` by
    /// cosine, the best first, with the similarity; of equal ones the node that was added first.
    /// Nodes without an embedding, and embeddings of length zero, which have no direction, are
    /// left out. Exact. (LlamaIndex's simple store has none.)
    ///
    /// Cost: all embeddings are read; of the nodes only those that may be in the result.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if an embedding is of another dimension; otherwise as
    /// [`PropertyGraphStore::get`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use siltstone::{kv::MemoryKv, model::LabelledNode, stores::PropertyGraphStore};
    /// # let graph = PropertyGraphStore::new(std::sync::Arc::new(MemoryKv::new()));
    /// let north = LabelledNode::entity("north").with_embedding(vec![0.0, 1.0]);
    /// let east = LabelledNode::entity("east").with_embedding(vec![1.0, 0.0]);
    /// graph.upsert_nodes(&[north, east])?;
    /// let found = graph.vector_query(&[0.1, 2.0], 1, |node| node.label == "entity")?;
    /// assert_eq!(found[0].0.id, "north");
    /// # Ok::<(), siltstone::stores::StoreError>(())
    /// ```
    pub fn vector_query(
        &self,
        embedding: &[f64],
        top_k: usize,
        keep: impl Fn(&LabelledNode) -> bool,
    ) -> Result<Vec<(LabelledNode, f64)>, StoreError> {
        self.read(|view| {
            let mut scores = Vec::new();
            let mut failed = None;
            let scanned = view.kv.scan(&view.names.embeddings, &mut |key, value| {
                match score(embedding, key, &value) {
                    Ok(scored) => scores.extend(scored),
                    Err(what) => {
                        failed = Some((key.to_vec(), what));
                        return Err(KvError::InvalidArgument("an embedding cannot be used".into()));
                    }
                }
                Ok(())
            });
            match failed {
                Some((key, Unfit::Damaged)) => {
                    let what = "is no embedding of a node";
                    return Err(StoreError::corrupt(&view.names.embeddings, &key, what));
                }
                Some((_, Unfit::Dimension(found))) => {
                    return Err(StoreError::InvalidArgument(format!(
                        "the embedding has {} dimensions, a stored one has {found}",
                        embedding.len()
                    )));
                }
                None => scanned?,
            }
            scores.sort_unstable_by(|(a, first), (b, second)| {
                b.partial_cmp(a).unwrap_or(Ordering::Equal).then(first.cmp(second))
            });
            let mut found = Vec::new();
            for (score, number) in scores {
                if found.len() == top_k {
                    break;
                }
                found.extend(view.find_whole_node(number)?.filter(&keep).map(|node| (node, score)));
            }
            Ok(found)
        })
    }
}

/// Why an embedding has no similarity.
enum Unfit {
    /// It is none.
    Damaged,
    /// It is of this dimension.
    Dimension(usize),
}

/// The similarity of a stored embedding, with its node's number; `None` if there is none.
fn score(query: &[f64], key: &[u8], value: &Value) -> Result<Option<(f64, u64)>, Unfit> {
    let number = <[u8; 8]>::try_from(key).map(u64::from_le_bytes).map_err(|_| Unfit::Damaged)?;
    let stored = as_floats(value).ok_or(Unfit::Damaged)?;
    if stored.len() != query.len() {
        return Err(Unfit::Dimension(stored.len()));
    }
    let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in query.iter().zip(&stored) {
        dot += a * b;
        left += a * a;
        right += b * b;
    }
    let cosine = dot / (f64::sqrt(left) * f64::sqrt(right));
    Ok(Some((cosine, number)).filter(|_| cosine.is_finite()))
}
