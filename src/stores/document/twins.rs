//! Async twins, named as in LlamaIndex. Reads answer at once, since they come from memory or the
//! page cache; a write that asks for [`Durability::Sync`] waits for the device without a thread.

use std::collections::{BTreeMap, BTreeSet};

use super::write::found;
use super::{AddOptions, DocumentStore, Missing, RefDocInfo};
use crate::engine::Durability;
use crate::kv::Text;
use crate::model::Node;
use crate::stores::StoreError;

/// Twins that only read.
macro_rules! read_twins {
    ($($(#[$doc:meta])* $twin:ident = $method:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl DocumentStore {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// As its twin.
                pub async fn $twin(&self, $($arg: $kind),*) -> Result<$out, StoreError> {
                    self.$method($($arg),*)
                }
            )*
        }
    };
}

read_twins! {
    /// Async twin of [`DocumentStore::get_document`].
    aget_document = get_document(id: impl Into<Text>) -> Node;
    /// Async twin of [`DocumentStore::find_document`].
    afind_document = find_document(id: impl Into<Text>) -> Option<Node>;
    /// Async twin of [`DocumentStore::document_exists`].
    adocument_exists = document_exists(id: impl Into<Text>) -> bool;
    /// Async twin of [`DocumentStore::get_node`].
    aget_node = get_node(id: impl Into<Text>) -> Node;
    /// Async twin of [`DocumentStore::get_nodes`].
    aget_nodes = get_nodes(ids: &[Text], missing: Missing) -> Vec<Node>;
    /// Async twin of [`DocumentStore::get_node_dict`].
    aget_node_dict = get_node_dict(ids: &BTreeMap<i64, Text>) -> BTreeMap<i64, Node>;
    /// Async twin of [`DocumentStore::get_ref_doc_info`].
    aget_ref_doc_info = get_ref_doc_info(id: impl Into<Text>) -> Option<RefDocInfo>;
    /// Async twin of [`DocumentStore::get_all_ref_doc_info`].
    aget_all_ref_doc_info = get_all_ref_doc_info() -> BTreeMap<Text, RefDocInfo>;
    /// Async twin of [`DocumentStore::ref_doc_exists`].
    aref_doc_exists = ref_doc_exists(id: impl Into<Text>) -> bool;
    /// Async twin of [`DocumentStore::get_document_hash`].
    aget_document_hash = get_document_hash(id: impl Into<Text>) -> Option<Text>;
    /// Async twin of [`DocumentStore::get_all_document_hashes`].
    aget_all_document_hashes = get_all_document_hashes() -> BTreeMap<Text, Text>;
    /// Async twin of [`DocumentStore::get_all_document_ids`].
    aget_all_document_ids = get_all_document_ids() -> BTreeSet<Text>;
}

impl DocumentStore {
    /// Async twin of [`DocumentStore::add_documents`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn async_add_documents(
        &self,
        nodes: &[Node],
        options: &AddOptions,
    ) -> Result<(), StoreError> {
        let mut batches = self.add_batches(nodes, options)?.into_iter().peekable();
        while let Some(batch) = batches.next() {
            let last = batches.peek().is_none();
            let durability = if last { options.durability } else { Durability::Buffered };
            batch.commit_async(durability).await?;
        }
        Ok(())
    }

    /// Async twin of [`DocumentStore::delete_document`]; does what that does, where LlamaIndex's
    /// leaves the ref doc as it was.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn adelete_document(
        &self,
        id: impl Into<Text>,
        missing: Missing,
    ) -> Result<(), StoreError> {
        let id = id.into();
        let mut batch = self.begin();
        batch.delete_document(&id);
        found(batch.apply_async(Durability::Buffered).await?, "doc_id", id, missing)
    }

    /// Async twin of [`DocumentStore::delete_ref_doc`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn adelete_ref_doc(
        &self,
        id: impl Into<Text>,
        missing: Missing,
    ) -> Result<(), StoreError> {
        let id = id.into();
        let mut batch = self.begin();
        batch.delete_ref_doc(&id);
        found(batch.apply_async(Durability::Buffered).await?, "ref_doc_id", id, missing)
    }

    /// Async twin of [`DocumentStore::replace_ref_doc`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn areplace_ref_doc(
        &self,
        ref_doc_id: impl Into<Text>,
        nodes: &[Node],
        hash: Option<Text>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut batch = self.begin();
        batch.replace_ref_doc(ref_doc_id, nodes, hash)?;
        batch.commit_async(durability).await
    }

    /// Async twin of [`DocumentStore::set_document_hash`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn aset_document_hash(
        &self,
        id: impl Into<Text>,
        hash: impl Into<Text>,
    ) -> Result<(), StoreError> {
        self.aset_document_hashes([(id.into(), hash.into())]).await
    }

    /// Async twin of [`DocumentStore::set_document_hashes`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn aset_document_hashes(
        &self,
        hashes: impl IntoIterator<Item = (Text, Text)>,
    ) -> Result<(), StoreError> {
        self.hash_batch(hashes).commit_async(Durability::Buffered).await
    }

    /// Async twin of [`DocumentStore::persist`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn apersist(&self) -> Result<(), StoreError> {
        Ok(self.inner.kv.persist_async().await?)
    }
}
