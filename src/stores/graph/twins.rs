//! Async twins. They answer at once: reads come from memory or the page cache, and writes wait for
//! no device.

use super::{GraphStore, TextTriplet};
use crate::kv::{Text, Value};
use crate::stores::StoreError;

/// Methods whose async twin calls them.
macro_rules! twins {
    ($($(#[$doc:meta])* $twin:ident = $method:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl GraphStore {
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

twins! {
    /// Async twin of [`GraphStore::get`].
    aget = get(subj: impl Into<Text>) -> Vec<(Text, Text)>;
    /// Async twin of [`GraphStore::get_rel_map`].
    aget_rel_map = get_rel_map(
        subjs: Option<&[Text]>,
        depth: i64,
        limit: i64
    ) -> Vec<(Text, Vec<TextTriplet>)>;
    /// Async twin of [`GraphStore::upsert_triplet`].
    aupsert_triplet = upsert_triplet(
        subj: impl Into<Text>,
        rel: impl Into<Text>,
        obj: impl Into<Text>
    ) -> ();
    /// Async twin of [`GraphStore::upsert_triplets`].
    aupsert_triplets = upsert_triplets(triplets: &[TextTriplet]) -> ();
    /// Async twin of [`GraphStore::delete`].
    adelete = delete(subj: impl Into<Text>, rel: impl Into<Text>, obj: impl Into<Text>) -> ();
    /// Async twin of [`GraphStore::get_schema`].
    aget_schema = get_schema() -> Value;
    /// Async twin of [`GraphStore::query`].
    aquery = query(query: &str) -> Value;
}

impl GraphStore {
    /// Async twin of [`GraphStore::persist`].
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn apersist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist_async().await?)
    }
}
