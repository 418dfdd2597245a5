//! [`IngestionCache`]: what a pipeline's steps made of which nodes.

use std::sync::Arc;

use crate::engine::Durability;
use crate::kv::{KvBatch, KvStore, Map, Text, TextBuilder, Value};
use crate::model::{Node, sha256};
use crate::stores::StoreError;

/// The collection of a cache that was given no name.
pub const DEFAULT_CACHE_COLLECTION: &str = "llama_cache";

/// The field that holds the nodes.
const NODES: &str = "nodes";
/// The field that tells which nodes they were made of.
const INPUT: &str = "#input";

/// Keeps the nodes that a step of a pipeline made, under a key of what it made them from.
///
/// One record holds all nodes of a step, as LlamaIndex has it; at most as much as a value may hold
/// ([`limits::VALUE_LEN_MAX`](crate::limits::VALUE_LEN_MAX) bytes).
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::Node;
/// use siltstone::stores::IngestionCache;
///
/// let cache = IngestionCache::new(Arc::new(MemoryKv::new()));
/// let input = [Node::document("a.txt", "First. Second.")];
/// let key = IngestionCache::key(&input, "split at full stops")?;
/// assert_eq!(cache.get(&key)?, None);
/// let made = [Node::text("1", "First."), Node::text("2", "Second.")];
/// cache.put(&key, &made)?;
/// assert_eq!(cache.get(&key)?.as_deref(), Some(&made[..]));
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct IngestionCache {
    kv: Arc<dyn KvStore>,
    collection: String,
}

impl IngestionCache {
    /// The cache in [`DEFAULT_CACHE_COLLECTION`].
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        IngestionCache::with_collection(kv, DEFAULT_CACHE_COLLECTION)
    }

    /// The cache in another collection.
    pub fn with_collection(kv: Arc<dyn KvStore>, collection: &str) -> Self {
        IngestionCache { kv, collection: collection.to_owned() }
    }

    /// The key of what a step makes of `nodes`, LlamaIndex's `get_transformation_hash`: the sha256
    /// of the contents with all metadata, one after the other, and of the step's description, for
    /// LlamaIndex `str(transformation.to_dict())`. Addresses of Python objects are left out of it.
    ///
    /// As there, nodes of other ids have the same key, and so has the same text divided otherwise
    /// among nodes. [`IngestionPipeline`](super::IngestionPipeline) takes neither for the same.
    ///
    /// # Errors
    ///
    /// [`StoreError::Node`] if a node's templates cannot be filled.
    pub fn key(nodes: &[Node], transformation: &str) -> Result<Text, StoreError> {
        Ok(Made::of(nodes, transformation)?.key)
    }

    /// Stores what was made; replaces what was there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]: nothing was stored, for instance since it is too much for one value.
    pub fn put(&self, key: impl Into<Text>, nodes: &[Node]) -> Result<(), StoreError> {
        self.put_record(&key.into(), nodes, None)
    }

    /// As [`IngestionCache::put`], with what they were made of.
    pub(super) fn put_made(&self, made: &Made, nodes: &[Node]) -> Result<(), StoreError> {
        self.put_record(&made.key, nodes, Some(&made.input))
    }

    fn put_record(
        &self,
        key: &Text,
        nodes: &[Node],
        input: Option<&Text>,
    ) -> Result<(), StoreError> {
        let nodes: Vec<Value> = nodes.iter().map(Node::to_value).collect();
        let mut record = Map::with_capacity(2);
        record.set(NODES, nodes);
        if let Some(input) = input {
            record.set(INPUT, input);
        }
        Ok(self.kv.put(&self.collection, key.as_bytes(), &record.into())?)
    }

    /// What was made, if it is known.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the record holds no nodes, [`StoreError::Node`] with the
    /// record's key if one of them is none.
    pub fn get(&self, key: impl Into<Text>) -> Result<Option<Vec<Node>>, StoreError> {
        self.get_record(&key.into(), |_| true)
    }

    /// As [`IngestionCache::get`], unless it is known to be made of other nodes.
    pub(super) fn get_made(&self, made: &Made) -> Result<Option<Vec<Node>>, StoreError> {
        self.get_record(&made.key, |input| input.as_text() == Some(&made.input))
    }

    fn get_record(
        &self,
        key: &Text,
        is_right: impl FnOnce(&Value) -> bool,
    ) -> Result<Option<Vec<Node>>, StoreError> {
        let Some(record) = self.kv.get(&self.collection, key.as_bytes())? else { return Ok(None) };
        if record.get(INPUT).is_some_and(|input| !is_right(input)) {
            return Ok(None);
        }
        let nodes = record.get(NODES).and_then(Value::as_list).ok_or_else(|| {
            StoreError::corrupt(&self.collection, key.as_bytes(), "holds no list of nodes")
        })?;
        let bad = |source| StoreError::Node { id: key.clone(), source };
        let nodes: Result<_, _> = nodes.iter().map(Node::from_value).collect();
        nodes.map(Some).map_err(bad)
    }

    /// How many results the cache holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn len(&self) -> Result<u64, StoreError> {
        Ok(self.kv.len(&self.collection)?)
    }

    /// True if the cache holds nothing.
    ///
    /// # Errors
    ///
    /// As [`IngestionCache::len`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// Removes everything, in one batch.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]: nothing was removed.
    pub fn clear(&self) -> Result<(), StoreError> {
        let mut batch = KvBatch::new();
        batch.clear(&self.collection)?;
        self.kv.write(batch, Durability::Buffered)?;
        Ok(())
    }

    /// Makes everything written so far durable, in all stores over the same key-value store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; its source says what became of the data.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.kv.persist()?)
    }
}

/// What a step's result is known by.
pub(super) struct Made {
    /// LlamaIndex's key.
    key: Text,
    /// The sha256 of the ids and the contents with their lengths, which tells apart what that does
    /// not.
    input: Text,
}

impl Made {
    pub(super) fn of(nodes: &[Node], transformation: &str) -> Result<Made, StoreError> {
        let (mut key, mut input) = (TextBuilder::default(), TextBuilder::default());
        for node in nodes {
            let bad = |source| StoreError::Node { id: node.id.clone(), source };
            let content = node.content_with_metadata().map_err(bad)?;
            key.push_text(&content);
            for part in [&node.id, &content] {
                input.push_str(&format!("{}:", part.len()));
                input.push_text(part);
            }
        }
        key.push_str(&without_addresses(transformation));
        Ok(Made { key: sha256(&key.finish()), input: sha256(&input.finish()) })
    }
}

impl std::fmt::Debug for IngestionCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestionCache").field("collection", &self.collection).finish()
    }
}

/// LlamaIndex `remove_unstable_values`: without `<function f at 0x7fb9f37a8900>` and its like.
fn without_addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        match after.split_once('>') {
            Some((inside, behind)) if is_object(inside) => rest = behind,
            _ => {
                out.push('<');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// True for `[\w\s_\. ]+ at 0x[a-z0-9]+`.
fn is_object(text: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c.is_whitespace() || c == '_' || c == '.';
    let is_digit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.rsplit_once(" at 0x").is_some_and(|(name, address)| {
        !name.is_empty()
            && name.chars().all(is_name)
            && !address.is_empty()
            && address.chars().all(is_digit)
    })
}

#[cfg(test)]
mod tests {
    use super::without_addresses;

    #[test]
    fn addresses_of_objects_are_left_out() {
        for (given, left) in [
            ("{'f': <function test_fn at 0x7fb9f37a8900>}", "{'f': }"),
            ("<__main__.Test object at 0x7fb9f3793f50>, <b at 0x1>", ", "),
            ("<<a at 0x1>", "<"),
            ("<a at 0xG>", "<a at 0xG>"),
            ("< at 0x1>", "< at 0x1>"),
            ("<a-b at 0x1>", "<a-b at 0x1>"),
            ("<a at 0x1", "<a at 0x1"),
            ("1 < 2 > 0", "1 < 2 > 0"),
        ] {
            assert_eq!(without_addresses(given), left, "{given}");
        }
    }
}
