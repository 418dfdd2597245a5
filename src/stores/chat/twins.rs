//! Async twins, named as in LlamaIndex. They answer at once: reads come from memory or the page
//! cache, and writes are buffered.

use super::ChatStore;
use crate::kv::Text;
use crate::model::ChatMessage;
use crate::stores::StoreError;

/// Methods whose async twin calls them.
macro_rules! twins {
    ($($(#[$doc:meta])* $twin:ident = $method:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl ChatStore {
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
    /// Async twin of [`ChatStore::set_messages`].
    aset_messages = set_messages(key: impl Into<Text>, messages: &[ChatMessage]) -> ();
    /// Async twin of [`ChatStore::get_messages`].
    aget_messages = get_messages(key: impl Into<Text>) -> Vec<ChatMessage>;
    /// Async twin of [`ChatStore::count_messages`].
    acount_messages = count_messages(key: impl Into<Text>) -> u64;
    /// Async twin of [`ChatStore::add_message`].
    async_add_message = add_message(
        key: impl Into<Text>, message: &ChatMessage, position: Option<i64>) -> ();
    /// Async twin of [`ChatStore::add_messages`].
    async_add_messages = add_messages(key: impl Into<Text>, messages: &[ChatMessage]) -> ();
    /// Async twin of [`ChatStore::delete_messages`].
    adelete_messages = delete_messages(key: impl Into<Text>) -> Option<Vec<ChatMessage>>;
    /// Async twin of [`ChatStore::delete_message`].
    adelete_message = delete_message(
        key: impl Into<Text>, position: i64) -> Option<ChatMessage>;
    /// Async twin of [`ChatStore::delete_last_message`].
    adelete_last_message = delete_last_message(key: impl Into<Text>) -> Option<ChatMessage>;
    /// Async twin of [`ChatStore::get_keys`].
    aget_keys = get_keys() -> Vec<Text>;
}

impl ChatStore {
    /// Async twin of [`ChatStore::persist`]; waits for the device without a thread.
    ///
    /// # Errors
    ///
    /// As its twin.
    pub async fn apersist(&self) -> Result<(), StoreError> {
        Ok(self.writer.kv().persist_async().await?)
    }
}
