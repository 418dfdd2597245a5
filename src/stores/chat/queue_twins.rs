//! Async twins of the queue's methods, which LlamaIndex has as async only. They answer at once.

use super::{ChatQueue, MessageStatus};
use crate::kv::Text;
use crate::model::ChatMessage;
use crate::stores::StoreError;

/// Methods whose async twin calls them.
macro_rules! twins {
    ($($(#[$doc:meta])* $twin:ident = $method:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl ChatQueue {
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
    /// Async twin of [`ChatQueue::get_messages`].
    aget_messages = get_messages(
        key: impl Into<Text>, status: Option<MessageStatus>, limit: Option<u64>, offset: u64)
        -> Vec<ChatMessage>;
    /// Async twin of [`ChatQueue::count_messages`].
    acount_messages = count_messages(
        key: impl Into<Text>, status: Option<MessageStatus>) -> u64;
    /// Async twin of [`ChatQueue::add_message`].
    async_add_message = add_message(
        key: impl Into<Text>, message: &ChatMessage, status: MessageStatus) -> u64;
    /// Async twin of [`ChatQueue::add_messages`].
    async_add_messages = add_messages(
        key: impl Into<Text>, messages: &[ChatMessage], status: MessageStatus) -> u64;
    /// Async twin of [`ChatQueue::set_messages`].
    aset_messages = set_messages(
        key: impl Into<Text>, messages: &[ChatMessage], status: MessageStatus) -> ();
    /// Async twin of [`ChatQueue::delete_message`].
    adelete_message = delete_message(key: impl Into<Text>, id: u64) -> Option<ChatMessage>;
    /// Async twin of [`ChatQueue::delete_messages`].
    adelete_messages = delete_messages(
        key: impl Into<Text>, status: Option<MessageStatus>) -> ();
    /// Async twin of [`ChatQueue::delete_oldest_messages`].
    adelete_oldest_messages = delete_oldest_messages(
        key: impl Into<Text>, n: u64) -> Vec<ChatMessage>;
    /// Async twin of [`ChatQueue::archive_oldest_messages`].
    aarchive_oldest_messages = archive_oldest_messages(
        key: impl Into<Text>, n: u64) -> Vec<ChatMessage>;
    /// Async twin of [`ChatQueue::get_keys`].
    aget_keys = get_keys() -> Vec<Text>;
}
