//! What is common to stores that are closed, opened again, and loaded from their own JSON text.

use std::sync::Arc;

use siltstone::kv::{KvStore, Value, json};
use siltstone::stores::{GraphStore, IndexStore, PropertyGraphStore, StoreError};

use crate::Backend;

/// A store that LlamaIndex persists as one dictionary.
pub(crate) trait Kept: Sized {
    fn open(kv: Arc<dyn KvStore>) -> Self;
    fn persist(&self) -> Result<(), StoreError>;
    fn to_dict(&self) -> Result<Value, StoreError>;
    fn load_dict(&self, dict: &Value) -> Result<(), StoreError>;
}

macro_rules! kept {
    ($($store:ty),*) => {
        $(impl Kept for $store {
            fn open(kv: Arc<dyn KvStore>) -> Self {
                <$store>::new(kv)
            }

            fn persist(&self) -> Result<(), StoreError> {
                <$store>::persist(self)
            }

            fn to_dict(&self) -> Result<Value, StoreError> {
                <$store>::to_dict(self)
            }

            fn load_dict(&self, dict: &Value) -> Result<(), StoreError> {
                <$store>::load_dict(self, dict)
            }
        })*
    };
}

kept!(GraphStore, IndexStore, PropertyGraphStore);

/// Closes the key-value store and opens it again; then takes everything out as JSON text and loads
/// that, so that both ways of keeping a store are passed.
pub(crate) fn reload<S: Kept>(
    backend: &mut dyn Backend,
    store: &mut Option<S>,
) -> Result<(), String> {
    let said = |e: StoreError| e.to_string();
    if let Some(store) = store.take() {
        store.persist().map_err(said)?;
    }
    let opened = S::open(backend.open());
    let text = json::to_string(&opened.to_dict().map_err(said)?, json::Style::Python);
    let dict = json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
    opened.load_dict(&dict).map_err(said)?;
    *store = Some(opened);
    Ok(())
}
