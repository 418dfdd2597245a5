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
    /// Embeddings of another dimension do not matter at nodes that `keep` rejects. A node that it
    /// accepts would have to be compared, which fails, as in LlamaIndex's similarity.
    ///
    /// Cost: all embeddings are read; of the nodes only those that may be in the result and those
    /// with an embedding of another dimension.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if the embedding of a node that `keep` accepts is of another
    /// dimension; otherwise as [`PropertyGraphStore::get`].
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
            let (mut scores, mut others) = (Vec::new(), Vec::new());
            let mut damaged = None;
            let scanned = view.kv.scan(&view.names.embeddings, &mut |key, value| {
                match score(embedding, key, &value) {
                    Some((number, Score::Cosine(cosine))) => scores.push((cosine, number)),
                    Some((_, Score::None)) => {}
                    Some((number, Score::OtherDimension)) => others.push(number),
                    None => {
                        damaged = Some(key.to_vec());
                        return Err(KvError::InvalidArgument("an embedding cannot be used".into()));
                    }
                }
                Ok(())
            });
            if let Some(key) = damaged {
                let what = "is no embedding of a node";
                return Err(StoreError::corrupt(&view.names.embeddings, &key, what));
            }
            scanned?;
            for number in others {
                if let Some(node) = view.find_whole_node(number)?.filter(&keep) {
                    return Err(StoreError::InvalidArgument(format!(
                        "the embedding has {} dimensions, that of node \"{}\" has {}; replace it, \
                         or reject the node",
                        embedding.len(),
                        node.id.to_string_lossy().escape_debug(),
                        node.embedding.map_or(0, |stored| stored.len()),
                    )));
                }
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

/// How a stored embedding compares.
enum Score {
    /// Its similarity.
    Cosine(f64),
    /// One of the two has no direction.
    None,
    OtherDimension,
}

/// How a stored embedding compares, with its node's number; `None` if it is damaged.
fn score(query: &[f64], key: &[u8], value: &Value) -> Option<(u64, Score)> {
    let number = <[u8; 8]>::try_from(key).map(u64::from_le_bytes).ok()?;
    let stored = as_floats(value)?;
    if stored.len() != query.len() {
        return Some((number, Score::OtherDimension));
    }
    let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in query.iter().zip(&stored) {
        dot += a * b;
        left += a * a;
        right += b * b;
    }
    let cosine = dot / (f64::sqrt(left) * f64::sqrt(right));
    let score = if cosine.is_finite() { Score::Cosine(cosine) } else { Score::None };
    Some((number, score))
}
