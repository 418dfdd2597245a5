//! [`IngestionPipeline`]: a run over documents, those left out that are stored already.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use super::cache::{IngestionCache, Made};
use crate::engine::Durability;
use crate::kv::{Staged, Text};
use crate::model::Node;
use crate::stores::{
    AddOptions, Deduplicator, DocstoreStrategy, DocumentStore, StoreError, VectorStore, Verdict,
};

/// A step of a pipeline: it makes nodes of nodes.
pub trait Transformation {
    /// What it is and with which parameters: the cache gives back what a step of the same
    /// description made of the same nodes. Of LlamaIndex's, `str(transformation.to_dict())`.
    fn description(&self) -> String;

    /// Makes the nodes.
    ///
    /// # Errors
    ///
    /// Any: the run ends with [`StoreError::Transformation`] and records nothing.
    fn apply(&self, nodes: Vec<Node>) -> Result<Vec<Node>, Box<dyn Error + Send + Sync>>;
}

/// How a run is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestionOptions {
    /// Whether the documents are stored, or only their hashes. Default: true.
    pub store_doc_text: bool,
}

impl Default for IngestionOptions {
    fn default() -> Self {
        IngestionOptions { store_doc_text: true }
    }
}

/// Runs steps over documents and keeps what they make (LlamaIndex `IngestionPipeline`, as far as
/// its stores go).
///
/// With a document store, documents that are stored already are left out as a
/// [`DocstoreStrategy`] says. With a vector store, the nodes that come out with an embedding are
/// added to it, and those of documents that changed or vanished go: the rows that name such a
/// document as their source. With a cache, a step is not applied to nodes that it was applied to.
///
/// Documents are known by their ids. LlamaIndex looks for one that names a source under the
/// source's id, where it never stores it, and so runs it every time; here it is judged by its own.
/// Its cache gives a document the nodes of another one with the same content; here they are made
/// anew, unless LlamaIndex wrote the record.
///
/// ```
/// # use std::{error::Error, sync::Arc};
/// use siltstone::kv::MemoryKv;
/// use siltstone::model::Node;
/// use siltstone::stores::{
///     DocstoreStrategy, DocumentStore, IngestionOptions, IngestionPipeline, Transformation,
/// };
///
/// struct Lines;
///
/// impl Transformation for Lines {
///     fn description(&self) -> String {
///         "lines".to_owned()
///     }
///
///     fn apply(&self, nodes: Vec<Node>) -> Result<Vec<Node>, Box<dyn Error + Send + Sync>> {
///         let mut lines = Vec::new();
///         for node in nodes {
///             for (n, line) in node.content_text().to_string().lines().enumerate() {
///                 lines.push(Node::text(format!("{}#{n}", node.id), line).with_source(&node.id));
///             }
///         }
///         Ok(lines)
///     }
/// }
///
/// let docstore = DocumentStore::new(Arc::new(MemoryKv::new()));
/// let pipeline = IngestionPipeline::new(DocstoreStrategy::Upserts).with_docstore(&docstore);
/// let documents = [Node::document("a.txt", "one\ntwo")];
/// let made = pipeline.run(&documents, &[&Lines], &IngestionOptions::default())?;
/// assert_eq!(made.len(), 2);
/// let again = pipeline.run(&documents, &[&Lines], &IngestionOptions::default())?;
/// assert!(again.is_empty());
/// # Ok::<(), siltstone::stores::StoreError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct IngestionPipeline {
    strategy: DocstoreStrategy,
    docstore: Option<DocumentStore>,
    vector_store: Option<VectorStore>,
    cache: Option<IngestionCache>,
}

/// What a run does to the stores in the end.
struct Outcome<'a> {
    /// The documents that were run.
    documents: Vec<&'a Node>,
    /// The nodes to be added to the vector store.
    embedded: Vec<Node>,
    /// Ids of documents that the run was to see and did not.
    vanished: Vec<Text>,
    store_text: bool,
}

impl IngestionPipeline {
    /// A pipeline without stores.
    pub fn new(strategy: DocstoreStrategy) -> Self {
        IngestionPipeline { strategy, ..IngestionPipeline::default() }
    }

    /// With a store of the documents, so that they are known the next time.
    #[must_use]
    pub fn with_docstore(mut self, docstore: &DocumentStore) -> Self {
        self.docstore = Some(docstore.clone());
        self
    }

    /// With a store of the embeddings. If it stands on the same key-value store as the documents,
    /// a run changes both in one batch.
    #[must_use]
    pub fn with_vector_store(mut self, vector_store: &VectorStore) -> Self {
        self.vector_store = Some(vector_store.clone());
        self
    }

    /// With a cache.
    #[must_use]
    pub fn with_cache(mut self, cache: &IngestionCache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// The strategy that a run follows: without a vector store it is
    /// [`DocstoreStrategy::DuplicatesOnly`] whatever was asked for, as LlamaIndex has it.
    pub fn strategy(&self) -> DocstoreStrategy {
        match self.vector_store {
            Some(_) => self.strategy,
            None => DocstoreStrategy::DuplicatesOnly,
        }
    }

    /// Runs `steps` over those of `documents` that are not stored already, and records them.
    /// Returns the nodes that came out. Of several documents with one id the last counts.
    ///
    /// Costs memory for all nodes of the run, and for [`DocstoreStrategy::DuplicatesOnly`] some 40
    /// bytes for each stored document. Written buffered.
    ///
    /// # Errors
    ///
    /// [`StoreError::Transformation`] if a step fails, [`StoreError::Node`] if a document has no
    /// hash; else those of the stores. Nothing was recorded but in the cache.
    pub fn run(
        &self,
        documents: &[Node],
        steps: &[&dyn Transformation],
        options: &IngestionOptions,
    ) -> Result<Vec<Node>, StoreError> {
        let (documents, vanished) = self.choose(documents)?;
        let nodes = match documents.is_empty() {
            true => Vec::new(),
            false => self.transform(documents.iter().copied().cloned().collect(), steps)?,
        };
        let is_embedded = |node: &&Node| node.embedding.is_some() && self.vector_store.is_some();
        let embedded = nodes.iter().filter(is_embedded).cloned().collect();
        let store_text = options.store_doc_text;
        self.record(&Outcome { documents, embedded, vanished, store_text })?;
        Ok(nodes)
    }

    /// The documents to be run, and the ids of those that vanished.
    fn choose<'a>(&self, documents: &'a [Node]) -> Result<(Vec<&'a Node>, Vec<Text>), StoreError> {
        let Some(docstore) = &self.docstore else {
            return Ok((documents.iter().collect(), Vec::new()));
        };
        let strategy = self.strategy();
        let run = Deduplicator::new(docstore, strategy)?;
        let mut round = run.round();
        let mut chosen: Vec<&Node> = Vec::new();
        let mut places: HashMap<&Text, usize> = HashMap::new();
        for document in documents {
            let bad = |source| StoreError::Node { id: document.id.clone(), source };
            let verdict = round.judge(&document.id, &document.hash().map_err(bad)?)?;
            if let Some(source) = document.ref_doc_id().map_err(bad)? {
                round.keep(source)?;
            }
            if !matches!(verdict, Verdict::New | Verdict::Changed) {
                continue;
            }
            match places.get(&document.id).and_then(|place| chosen.get_mut(*place)) {
                Some(known) => *known = document,
                None => {
                    places.insert(&document.id, chosen.len());
                    chosen.push(document);
                }
            }
        }
        run.accept(round.finish());
        let vanished = match strategy {
            DocstoreStrategy::UpsertsAndDelete => run.vanished()?,
            _ => Vec::new(),
        };
        Ok((chosen, vanished))
    }

    /// Applies the steps, or takes from the cache what they made before.
    fn transform(
        &self,
        mut nodes: Vec<Node>,
        steps: &[&dyn Transformation],
    ) -> Result<Vec<Node>, StoreError> {
        for step in steps {
            let Some(cache) = &self.cache else {
                nodes = step.apply(nodes).map_err(StoreError::Transformation)?;
                continue;
            };
            let made = Made::of(&nodes, &step.description())?;
            nodes = match cache.get_made(&made)? {
                Some(found) => found,
                None => {
                    let result = step.apply(nodes).map_err(StoreError::Transformation)?;
                    cache.put_made(&made, &result)?;
                    result
                }
            };
        }
        Ok(nodes)
    }

    /// Writes what the run changes: in one batch, if all of it is in one key-value store. Else the
    /// documents come last, so that a run that failed in between is done again.
    fn record(&self, outcome: &Outcome<'_>) -> Result<(), StoreError> {
        if outcome.documents.is_empty() && outcome.vanished.is_empty() {
            return Ok(());
        }
        let stores = (self.docstore.as_ref(), self.vector_store.as_ref());
        let (Some(docstore), Some(vector_store)) = stores else {
            return outcome.write(stores.0, stores.1);
        };
        let kv = docstore.kv();
        if !Arc::ptr_eq(kv, vector_store.writer().kv()) {
            return outcome.write(stores.0, stores.1);
        }
        vector_store.writer().alone(|| {
            docstore.alone(|| {
                let staged = Arc::new(Staged::new(kv.clone()));
                let documents = docstore.over(staged.clone());
                let vectors = VectorStore::with_namespace(staged.clone(), vector_store.namespace());
                outcome.write(Some(&documents), Some(&vectors))?;
                docstore.write(|| staged.commit(Durability::Buffered))?;
                Ok(())
            })
        })??
    }
}

impl Outcome<'_> {
    fn write(
        &self,
        docstore: Option<&DocumentStore>,
        vector_store: Option<&VectorStore>,
    ) -> Result<(), StoreError> {
        // What is known by now, which another run may have changed since the documents were judged.
        let mut known = Vec::new();
        for document in &self.documents {
            if let Some(docstore) = docstore
                && docstore.get_document_hash(&document.id)?.is_some()
            {
                known.push(&document.id);
            }
        }
        if let Some(vector_store) = vector_store {
            for id in known.iter().copied().chain(&self.vanished) {
                vector_store.delete(id)?;
            }
            vector_store.add(&self.embedded)?;
        }
        let Some(docstore) = docstore else { return Ok(()) };
        let mut batch = docstore.begin();
        for id in known.iter().copied().chain(&self.vanished) {
            batch.delete_ref_doc(id);
        }
        // A body that is not stored anew must not stay behind as it was.
        let gone = known.iter().copied().filter(|_| !self.store_text).chain(&self.vanished);
        gone.for_each(|id| batch.delete_document(id));
        let options = AddOptions { store_text: self.store_text, ..AddOptions::default() };
        let documents: Vec<Node> = self.documents.iter().copied().cloned().collect();
        batch.add_documents(&documents, &options)?;
        batch.commit(Durability::Buffered)
    }
}
