//! Adding and deleting.

use super::{AddOptions, DocumentBatch, DocumentStore, Missing};
use crate::engine::Durability;
use crate::kv::Text;
use crate::model::Node;
use crate::stores::StoreError;

impl DocumentStore {
    /// Adds nodes with their hashes, and lists them in the ref docs that they name as source.
    ///
    /// A node of the same id is replaced. One that was listed in another ref doc leaves it, which
    /// goes if it was the last. A new ref doc takes the metadata of its first nodes.
    ///
    /// Atomic in batches of `options.batch_size`; everything is checked before the first is
    /// written.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`], [`StoreError::Node`]: nothing was changed.
    /// [`StoreError::Kv`]: earlier batches are there; the source says what became of this one.
    pub fn add_documents(&self, nodes: &[Node], options: &AddOptions) -> Result<(), StoreError> {
        let mut batches = self.add_batches(nodes, options)?.into_iter().peekable();
        while let Some(batch) = batches.next() {
            // One sync at the end makes all of them durable.
            let last = batches.peek().is_none();
            batch.commit(if last { options.durability } else { Durability::Buffered })?;
        }
        Ok(())
    }

    /// The batches of an add, checked as far as that can be without the store's lock.
    pub(super) fn add_batches(
        &self,
        nodes: &[Node],
        options: &AddOptions,
    ) -> Result<Vec<DocumentBatch>, StoreError> {
        let size = options.batch_size.filter(|size| *size > 0).unwrap_or(usize::MAX);
        if !options.allow_update && nodes.len() > size {
            for node in nodes {
                if self.document_exists(&node.id)? {
                    return Err(StoreError::AlreadyExists { id: node.id.clone() });
                }
            }
        }
        let batch = |chunk: &[Node]| {
            let mut batch = self.begin();
            batch.add_documents(chunk, options)?;
            Ok(batch)
        };
        nodes.chunks(size).map(batch).collect()
    }

    /// Deletes a node, and takes it out of its ref doc's list. If it was the last, the ref doc
    /// goes too, with its document's body and hash.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if no body was there and `missing` says so; hash and ref doc are
    /// cleaned up all the same, as in LlamaIndex.
    pub fn delete_document(&self, id: impl Into<Text>, missing: Missing) -> Result<(), StoreError> {
        let id = id.into();
        let mut batch = self.begin();
        batch.delete_document(&id);
        found(batch.apply(Durability::Buffered)?, "doc_id", id, missing)
    }

    /// Deletes a ref doc: its nodes, and its own body and hash.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if it has no nodes and `missing` says so: nothing was changed.
    pub fn delete_ref_doc(&self, id: impl Into<Text>, missing: Missing) -> Result<(), StoreError> {
        let id = id.into();
        let mut batch = self.begin();
        batch.delete_ref_doc(&id);
        found(batch.apply(Durability::Buffered)?, "ref_doc_id", id, missing)
    }

    /// Makes `nodes` the nodes of a ref doc, atomically (see
    /// [`DocumentBatch::replace_ref_doc`]).
    ///
    /// # Errors
    ///
    /// As [`DocumentBatch::replace_ref_doc`] and [`DocumentBatch::commit`].
    pub fn replace_ref_doc(
        &self,
        ref_doc_id: impl Into<Text>,
        nodes: &[Node],
        hash: Option<Text>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut batch = self.begin();
        batch.replace_ref_doc(ref_doc_id, nodes, hash)?;
        batch.commit(durability)
    }

    /// Sets the hash of a document, which need not be stored. Its ref doc stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; the source says what became of the data.
    pub fn set_document_hash(
        &self,
        id: impl Into<Text>,
        hash: impl Into<Text>,
    ) -> Result<(), StoreError> {
        self.set_document_hashes([(id.into(), hash.into())])
    }

    /// Sets many hashes in one atomic batch.
    ///
    /// # Errors
    ///
    /// As [`DocumentStore::set_document_hash`].
    pub fn set_document_hashes(
        &self,
        hashes: impl IntoIterator<Item = (Text, Text)>,
    ) -> Result<(), StoreError> {
        self.hash_batch(hashes).commit(Durability::Buffered)
    }

    pub(super) fn hash_batch(
        &self,
        hashes: impl IntoIterator<Item = (Text, Text)>,
    ) -> DocumentBatch {
        let mut batch = self.begin();
        hashes.into_iter().for_each(|(id, hash)| batch.set_document_hash(id, hash));
        batch
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Kv`]; the source says what became of the data.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.inner.kv.persist()?)
    }
}

/// [`StoreError::NotFound`] if nothing was `found` and that matters.
pub(super) fn found(
    found: bool,
    what: &'static str,
    id: Text,
    missing: Missing,
) -> Result<(), StoreError> {
    match missing {
        Missing::Error if !found => Err(StoreError::NotFound { what, id }),
        _ => Ok(()),
    }
}
