//! The vector store: LlamaIndex's `SimpleVectorStore`, with changes that cost what they change and
//! queries at the speed of the memory.
//!
//! # What is kept
//!
//! With the namespace `default`:
//!
//! ```text
//! collection                    key         value
//! vector_store/default/rows     node id     {[metadata], [ref_doc_id, #ref], #block, #slot, #dim,
//!                                            #order, [#exact]}
//! vector_store/default/blocks   block no    floats: the norm of each row, then the rows
//! vector_store/default/slots    block no    {dim, ids, orders}: which rows it was made of
//! vector_store/default/dead     block no    the slots whose rows are gone
//! vector_store/default/exact    node id     the embedding, if single precision does not hold it
//! vector_store/default/refs     ref doc id  the ids of its rows (a list in chunks)
//! vector_store/default/began    "state"     the version of the last change
//! vector_store/default/state    "state"     {version, next_block, next_order, small, [half]}
//! ```
//!
//! **Blocks.** Embeddings lie in blocks of up to 1,024 rows of one dimension, as little-endian f32,
//! aligned to four bytes in the log: a query reads them where they are mapped. A block is written
//! once, under a number that is never used again. What is added at once makes one block or more;
//! blocks that are not full are *small*, and are merged when there are 16 of a size class (below
//! 16 rows, or more), so that a row that comes alone is written three times in all. Removing a
//! row marks its slot; a block without live rows goes, one that is half dead is small again.
//! So at most half of a block's room is dead, and dead rows are not read.
//!
//! **Exactness.** Rows are compared in single precision with a bound on the error; those that may
//! be among the best are compared again in double precision, with the embeddings as they were
//! given. The result is that of comparing all of them in double precision.
//!
//! **Half precision**, if [`VectorStore::keep_half_precision`] asked for it: blocks hold halves, at
//! half the room, and so does what comes back; `half.rs` has the rules. Results are exact for the
//! rounded embeddings.
//!
//! **In memory.** A [`VectorStore`] and its clones share a table of the rows, made when it is first
//! needed: see [`Table`]. Metadata keys are read when a filter first names them. Changes do not
//! need the table: adding, removing by id or by ref doc and getting read records only.
//!
//! # Atomicity
//!
//! Each call that changes something is one atomic batch: a power cut leaves all of it or nothing,
//! merged blocks included.

mod change;
mod codes;
mod column;
mod distance;
mod filter;
mod half;
mod parse;
mod python;
mod query;
mod records;
mod scan;
mod select;
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "wider registers are behind it; see each SAFETY note")
)]
mod simd;
mod table;
mod top_k;
mod twins;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use filter::{
    FILTER_DEPTH_MAX, Filter, FilterCondition, FilterOperator, MetadataFilter, MetadataFilters,
};
pub use query::{QueryMode, VectorQuery, VectorQueryResult};

use crate::kv::{KvStore, Map, Text};
use crate::model::{KeptContent, Node};
use crate::stores::StoreError;
use crate::stores::writer::Writer;

use change::Change;
use query::exact_embedding;
use records::{Block, Names, Row, State, corrupt};
use scan::{Copies, Source};
use select::{Wanted, ones};
use table::{Needs, Table};

/// The namespace of the store that a context calls its vector store.
pub const DEFAULT_VECTOR_STORE: &str = "default";

/// The namespace of the store that LlamaIndex's contexts have for embeddings of images.
pub const IMAGE_VECTOR_STORE: &str = "image";

/// Stores embeddings with metadata, and finds the nearest ones.
///
/// Clones share one store. The crate's `StorageContext` holds one for each namespace.
///
/// ```
/// use std::sync::Arc;
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::Node;
/// use siltstone::stores::{MetadataFilters, VectorQuery, VectorStore};
///
/// let store = VectorStore::new(Arc::new(MemoryKv::new()));
/// let mut nodes = Vec::new();
/// for (id, year, embedding) in [("n1", 2019, [1.0, 0.0]), ("n2", 2024, [0.6, 0.8])] {
///     let mut node = Node::text(id, "...").with_source("a.txt");
///     node.metadata.insert("year", year);
///     node.embedding = Some(embedding.to_vec());
///     nodes.push(node);
/// }
/// store.add(&nodes)?;
/// let query = VectorQuery::new([1.0, 0.1], 1);
/// assert_eq!(store.query(&query)?.ids, ["n1"]);
/// let query = query.with_filters(MetadataFilters::parse("year >= 2020")?);
/// assert_eq!(store.query(&query)?.ids, ["n2"]);
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone)]
pub struct VectorStore {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    namespace: String,
    names: Names,
    /// Taken after the writer's lock, never before it.
    table: RwLock<Table>,
    copies: Mutex<Copies>,
    /// The store over whose key-value store this one's is laid: as long as nothing was changed
    /// here, its table tells what there is.
    below: Option<VectorStore>,
}

/// A row as it is added and exported: what LlamaIndex's store keeps of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorEntry {
    /// The node's id.
    pub id: Text,
    /// The embedding.
    pub embedding: Vec<f64>,
    /// The document that the node was cut from.
    pub ref_doc_id: Option<Text>,
    /// The metadata; `None` in stores that LlamaIndex wrote before it kept any.
    pub metadata: Option<Map>,
}

impl VectorEntry {
    /// The row of a node: its embedding, and its metadata with the type and the ref doc's id, as
    /// LlamaIndex's `node_to_metadata_dict` adds them.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if the node has no embedding, [`StoreError::Node`] if it
    /// names several documents as its source.
    pub fn from_node(node: &Node) -> Result<Self, StoreError> {
        let Some(embedding) = node.embedding.clone() else {
            return Err(StoreError::InvalidArgument("embedding not set.".to_owned()));
        };
        let bad = |source| StoreError::Node { id: node.id.clone(), source };
        let ref_doc_id = node.ref_doc_id().map_err(bad)?.cloned();
        let metadata = node.to_metadata_dict(KeptContent::None).map_err(bad)?;
        Ok(VectorEntry { id: node.id.clone(), embedding, ref_doc_id, metadata: Some(metadata) })
    }
}

impl VectorStore {
    /// The store in the default namespace of `kv`.
    pub fn new(kv: Arc<dyn KvStore>) -> Self {
        VectorStore::with_namespace(kv, DEFAULT_VECTOR_STORE)
    }

    /// The store in another namespace. Any text will do, and no two namespaces meet; the names of
    /// the collections, which hold it, are at most 255 bytes long.
    pub fn with_namespace(kv: Arc<dyn KvStore>, namespace: &str) -> Self {
        VectorStore::over(Writer::new(kv), namespace, None)
    }

    /// Refuses a namespace in which nothing could be added.
    pub(crate) fn check_namespace(namespace: &str) -> Result<(), StoreError> {
        let max = Names::namespace_len_max();
        if namespace.len() <= max {
            return Ok(());
        }
        Err(StoreError::InvalidArgument(format!(
            "the name of a vector store has {} bytes, at most {max} are possible; choose a shorter \
             one",
            namespace.len()
        )))
    }

    /// The store in a namespace. `below` is the same one of the key-value store over which that of
    /// `writer` is laid, if it is laid over one; nobody else may change that meanwhile.
    pub(crate) fn over(writer: Writer, namespace: &str, below: Option<VectorStore>) -> Self {
        let inner = Inner {
            writer,
            namespace: namespace.to_owned(),
            names: Names::new(namespace),
            table: RwLock::default(),
            copies: Mutex::default(),
            below,
        };
        VectorStore { inner: Arc::new(inner) }
    }

    /// What changes this store.
    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// Keeps embeddings in half precision (IEEE 754 binary16) from now on, for good: half the room,
    /// on disk and in memory. A query takes as long as in single precision. To be called before
    /// anything is added; again is no error.
    ///
    /// Each number is rounded to the nearest half, of two equally near to the even one. Embeddings
    /// come back as rounded, and queries are exact for those. Adding a number that rounds to more
    /// than 65504 is refused.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use siltstone::kv::MemoryKv;
    /// use siltstone::stores::{VectorEntry, VectorStore};
    ///
    /// let store = VectorStore::new(Arc::new(MemoryKv::new()));
    /// store.keep_half_precision()?;
    /// let embedding = vec![0.5, 0.1];
    /// store.add_entries(&[VectorEntry { id: "n".into(), embedding, ..Default::default() }])?;
    /// assert_eq!(store.get("n")?, [0.5, 0.0999755859375]);
    /// # Ok::<(), siltstone::stores::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] if there are rows already, in single precision;
    /// [`StoreError::Kv`]: nothing was changed.
    pub fn keep_half_precision(&self) -> Result<(), StoreError> {
        self.change(|change| change.keep_halves())
    }

    /// True if embeddings are kept in half precision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] and [`StoreError::Corrupt`] if that cannot be read.
    pub fn is_half_precision(&self) -> Result<bool, StoreError> {
        Ok(State::get(&**self.writer().kv(), &self.inner.names)?.is_half)
    }

    /// The namespaces of `kv` in which something was ever added, sorted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the collections cannot be listed.
    pub fn namespaces(kv: &dyn KvStore) -> Result<Vec<String>, StoreError> {
        let all = kv.collections()?;
        let of = |(name, records): &(String, u64)| {
            Names::namespace_of(name).filter(|_| *records > 0).map(str::to_owned)
        };
        let mut found: Vec<String> = all.iter().filter_map(of).collect();
        found.sort();
        Ok(found)
    }

    /// The store's namespace.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Adds nodes by their embeddings and metadata, all or none; a node whose id is there already
    /// replaces that row. Returns their ids.
    ///
    /// # Errors
    ///
    /// As [`VectorEntry::from_node`], and [`StoreError::Kv`]: nothing was added.
    pub fn add(&self, nodes: &[Node]) -> Result<Vec<Text>, StoreError> {
        let entries = nodes.iter().map(VectorEntry::from_node).collect::<Result<Vec<_>, _>>()?;
        self.add_entries(&entries)?;
        Ok(entries.into_iter().map(|entry| entry.id).collect())
    }

    /// Adds rows, all or none; one whose id is there already replaces that row, in its place in
    /// the order of insertion. Of several with one id the last counts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; the source says what became of the data.
    /// [`StoreError::InvalidArgument`]: see [`VectorStore::keep_half_precision`].
    pub fn add_entries(&self, entries: &[VectorEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.change(|change| change.add(entries))
    }

    /// Removes every row of a ref doc. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`], [`StoreError::Corrupt`]: nothing was removed.
    pub fn delete(&self, ref_doc_id: impl Into<Text>) -> Result<(), StoreError> {
        let ref_doc_id = ref_doc_id.into();
        self.change(|change| change.remove_ref_doc(&ref_doc_id))
    }

    /// Removes the rows with these ids (`None`: any) that match the filters (`None` or empty: all
    /// do). Without ids and filters nothing is removed: [`VectorStore::clear`] removes everything.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::query`] where filters are concerned: nothing was removed.
    pub fn delete_nodes(
        &self,
        node_ids: Option<&[Text]>,
        filters: Option<&MetadataFilters>,
    ) -> Result<(), StoreError> {
        let filters = filters.filter(|filters| !filters.filters.is_empty());
        if filters.is_none() {
            let Some(ids) = node_ids else { return Ok(()) };
            return self.change(|change| ids.iter().try_for_each(|id| change.remove(id).map(drop)));
        }
        let wanted = Wanted { ids: node_ids, filters, ref_doc_ids: None };
        let needs = wanted.needs()?;
        self.inner.writer.change(|kv| {
            let ids = self.with_table(kv, &needs, |table| -> Result<Vec<Text>, StoreError> {
                let bits = wanted.select(table)?.unwrap_or_default();
                Ok(ones(&bits).map(|row| table.id(row).clone()).collect())
            })??;
            let mut change = Change::begin(kv, &self.inner.names)?;
            for id in &ids {
                change.remove(id)?;
            }
            change.finish()
        })
    }

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]: nothing was removed.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.change(|change| change.clear())
    }

    fn change(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.inner.writer.change(|kv| {
            let mut change = Change::begin(kv, &self.inner.names)?;
            work(&mut change)?;
            change.finish()
        })
    }

    /// Runs `read` with the table, brought up to date.
    fn with_table<T>(
        &self,
        kv: &dyn KvStore,
        needs: &Needs,
        read: impl FnOnce(&Table) -> T,
    ) -> Result<T, StoreError> {
        let Inner { names, below, .. } = &*self.inner;
        let state = State::get(kv, names)?;
        let table = self.inner.table.read();
        if table.is_current(&state, needs) {
            return Ok(read(&table));
        }
        let is_new = table.is_new();
        drop(table);
        let mut begin = None;
        if let Some(below) = below.as_ref().filter(|_| is_new) {
            let kv = &**below.writer().kv();
            if State::get(kv, names)?.version == state.version {
                return below.with_table(kv, needs, read);
            }
            // Only what was changed here is read in addition.
            begin = Some(below.with_table(kv, needs, Table::clone)?);
        }
        let mut table = self.inner.table.write();
        if let Some(begin) = begin.filter(|_| table.is_new()) {
            *table = begin;
        }
        table.catch_up(kv, &self.inner.names, needs)?;
        let table = parking_lot::RwLockWriteGuard::downgrade(table);
        Ok(read(&table))
    }

    /// The embedding of a node, as it was given.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is none of that id.
    pub fn get(&self, id: impl Into<Text>) -> Result<Vec<f64>, StoreError> {
        let id = id.into();
        let found = self.find(&id)?;
        found.map(|entry| entry.embedding).ok_or(StoreError::NotFound { what: "text_id", id })
    }

    /// The row of a node, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if its records are damaged.
    pub fn find(&self, id: impl Into<Text>) -> Result<Option<VectorEntry>, StoreError> {
        let id = id.into();
        let Inner { writer, names, copies, .. } = &*self.inner;
        let kv = &**writer.kv();
        let source = Source { kv, names, copies };
        // A row that moves in the meantime is looked up again; twice in a row it is damage.
        for _ in 0..64 {
            let Some(row) = Row::get(kv, names, id.as_bytes())? else { return Ok(None) };
            let Some(block) = source.block(row.place.block, row.dim)? else {
                std::thread::yield_now();
                continue;
            };
            return self.entry(kv, id, row, &block).map(Some);
        }
        Err(corrupt(&names.rows, id.as_bytes(), "names a block that is not there"))
    }

    fn entry(
        &self,
        kv: &dyn KvStore,
        id: Text,
        row: Row,
        block: &Block,
    ) -> Result<VectorEntry, StoreError> {
        let names = &self.inner.names;
        let floats = || block.floats(row.place.slot);
        if row.place.slot as usize >= block.rows() {
            return Err(corrupt(&names.rows, id.as_bytes(), "names a slot that is not there"));
        }
        let exact = match row.is_exact {
            true => exact_embedding(kv, &names.exact, &id, floats())?,
            false => None,
        };
        let embedding = exact.unwrap_or_else(|| floats().map(f64::from).collect());
        Ok(VectorEntry { id, embedding, ref_doc_id: row.ref_doc_id, metadata: row.metadata })
    }

    /// What LlamaIndex's `SimpleVectorStore.get_nodes` gives: an error, since the store keeps no
    /// nodes. See [`VectorStore::find`] and [`VectorStore::select`].
    ///
    /// # Errors
    ///
    /// Always [`StoreError::Unsupported`].
    pub fn get_nodes(&self) -> Result<Vec<Node>, StoreError> {
        Err(StoreError::Unsupported("SimpleVectorStore does not store nodes directly."))
    }

    /// The ids of the rows that match all filters, in the order of insertion.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::query`] where filters are concerned.
    pub fn select(&self, filters: &MetadataFilters) -> Result<Vec<Text>, StoreError> {
        let wanted = Wanted { filters: Some(filters), ..Wanted::default() };
        let needs = wanted.needs()?;
        self.with_table(&**self.inner.writer.kv(), &needs, |table| {
            let Some(bits) = wanted.select(table)? else { return Ok(table.ordered_ids()) };
            let mut rows: Vec<u32> = ones(&bits).collect();
            rows.sort_by_key(|row| table.order(*row));
            Ok(rows.into_iter().map(|row| table.id(row).clone()).collect())
        })?
    }

    /// The ids of all rows in the order of insertion.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`], [`StoreError::Corrupt`].
    pub fn ids(&self) -> Result<Vec<Text>, StoreError> {
        self.with_table(&**self.inner.writer.kv(), &Needs::default(), Table::ordered_ids)
    }

    /// How many numbers embeddings have here: each length that a row has, ascending. A query's must
    /// have as many as the rows that it is compared with.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`], [`StoreError::Corrupt`].
    pub fn dimensions(&self) -> Result<Vec<usize>, StoreError> {
        self.with_table(&**self.inner.writer.kv(), &Needs::default(), |table| {
            let live = table.blocks.values().filter(|block| block.live > 0);
            let all: BTreeSet<usize> = live.map(|block| block.dim).collect();
            all.into_iter().collect()
        })
    }

    /// Calls `visit` with every row in the order of insertion, holding the ids of all but no more
    /// than one row. Rows that are removed meanwhile are left out.
    ///
    /// # Errors
    ///
    /// The first of `visit`'s, and as [`VectorStore::find`].
    pub fn for_each_entry(
        &self,
        visit: &mut dyn FnMut(VectorEntry) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for id in self.ids()? {
            if let Some(entry) = self.find(id)? {
                visit(entry)?;
            }
        }
        Ok(())
    }

    /// How many rows there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn len(&self) -> Result<u64, StoreError> {
        Ok(self.inner.writer.kv().len(&self.inner.names.rows)?)
    }

    /// True if there is no row.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`] if the store cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// Makes everything written so far durable. The key-value store decides what that means.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; the source says what became of the data.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.inner.writer.kv().persist()?)
    }
}

impl std::fmt::Debug for VectorStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorStore").field("namespace", &self.inner.namespace).finish()
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
