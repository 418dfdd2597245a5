//! [`Vectors`]: the vector stores of a context, by namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Persist;
use crate::stores::{IMAGE_VECTOR_STORE, Registry, StoreError, VectorStore, Writer};

/// Vector stores by namespace; clones share them.
pub(super) struct Vectors<V> {
    given: Arc<Mutex<Given<V>>>,
    /// `None` if there are the given ones only.
    own: Option<Arc<Own<V>>>,
}

/// The stores that were given.
struct Given<V> {
    stores: BTreeMap<String, V>,
    /// Those that came after the context was made.
    added: BTreeSet<String>,
}

impl<V> Default for Given<V> {
    fn default() -> Self {
        Given { stores: BTreeMap::new(), added: BTreeSet::new() }
    }
}

/// How a vector store of the context's own is made; the last is the same store of the context
/// that a transaction is laid over.
pub(super) type MakeVectors<V> = fn(Writer, &str, Option<V>) -> V;

/// The context's own ones: which there are stands in the key-value store.
struct Own<V> {
    writer: Writer,
    make: MakeVectors<V>,
    /// There is `image` at most.
    is_image_only: bool,
    /// Those of the context that this one is laid over.
    below: Option<Arc<Own<V>>>,
    /// Those that were asked for; each holds a table of its rows.
    made: Mutex<BTreeMap<String, V>>,
}

impl<V> Clone for Vectors<V> {
    fn clone(&self) -> Self {
        Vectors { given: self.given.clone(), own: self.own.clone() }
    }
}

impl<V> Own<V> {
    fn new(writer: &Writer, make: MakeVectors<V>, is_image_only: bool) -> Arc<Self> {
        let (writer, made) = (writer.clone(), Mutex::default());
        Arc::new(Own { writer, make, is_image_only, below: None, made })
    }

    /// The same ones over `writer`.
    fn over(self: &Arc<Self>, writer: &Writer) -> Arc<Self> {
        let Own { make, is_image_only, .. } = **self;
        let (writer, below) = (writer.clone(), Some(self.clone()));
        Arc::new(Own { writer, make, is_image_only, below, made: Mutex::default() })
    }

    fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        let kv = &**self.writer.kv();
        let registry = Registry::get(kv)?;
        if !self.is_image_only {
            return registry.vector_namespaces(kv);
        }
        let image = registry.image_beside_given.then(|| IMAGE_VECTOR_STORE.to_owned());
        Ok(image.into_iter().collect())
    }
}

impl<V> Vectors<V> {
    /// The context's own ones, and those that will be given.
    pub(super) fn own(writer: &Writer, make: MakeVectors<V>) -> Self {
        Vectors { given: Arc::default(), own: Some(Own::new(writer, make, false)) }
    }

    /// Those that will be given, and the context's own `image` if it has that.
    pub(super) fn own_image(writer: &Writer, make: MakeVectors<V>) -> Self {
        Vectors { given: Arc::default(), own: Some(Own::new(writer, make, true)) }
    }

    /// None but those that will be given.
    pub(super) fn none() -> Self {
        Vectors { given: Arc::default(), own: None }
    }

    /// True if not all of them are the context's own, or could be.
    pub(super) fn has_given(&self) -> bool {
        self.own.as_ref().is_none_or(|own| own.is_image_only)
            || !self.given.lock().stores.is_empty()
    }

    /// Puts in a store of the caller's, which hides what is stored under its name.
    pub(super) fn give(&self, namespace: String, store: V) {
        let mut given = self.given.lock();
        given.added.insert(namespace.clone());
        given.stores.insert(namespace, store);
    }
}

impl<V: Clone> Vectors<V> {
    /// The stores as a transaction sees them: over `writer`, but for those that were given. What
    /// is given there is there only, until [`Vectors::adopt`].
    pub(super) fn over(&self, writer: &Writer) -> Self {
        let own = self.own.as_ref().map(|own| own.over(writer));
        let stores = self.given.lock().stores.clone();
        Vectors { given: Arc::new(Mutex::new(Given { stores, added: BTreeSet::new() })), own }
    }

    /// Takes over the stores that were given within a transaction that is done.
    pub(super) fn adopt(&self, inside: &Self) {
        let inside = inside.given.lock();
        for name in &inside.added {
            if let Some(store) = inside.stores.get(name) {
                self.give(name.clone(), store.clone());
            }
        }
    }

    pub(super) fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        let own = self.own.as_ref().map_or_else(|| Ok(Vec::new()), |own| own.namespaces())?;
        let given: Vec<String> = self.given.lock().stores.keys().cloned().collect();
        // What the context has in the first place stands before what was added to it.
        let is_beside = self.own.as_ref().is_some_and(|own| own.is_image_only);
        let (mut names, more) = if is_beside { (given, own) } else { (own, given) };
        for name in more {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// All namespaces, each with the store that the caller gave, if it is one.
    pub(super) fn listed(&self) -> Result<Vec<(String, Option<V>)>, StoreError> {
        let names = self.namespaces()?;
        let given = self.given.lock();
        let store = |name: String| {
            let store = given.stores.get(&name).cloned();
            (name, store)
        };
        Ok(names.into_iter().map(store).collect())
    }

    pub(super) fn get(&self, namespace: &str) -> Result<Option<V>, StoreError> {
        if let Some(store) = self.given.lock().stores.get(namespace) {
            return Ok(Some(store.clone()));
        }
        let Some(own) = &self.own else { return Ok(None) };
        if let Some(store) = own.made.lock().get(namespace) {
            return Ok(Some(store.clone()));
        }
        let is_there = self.namespaces()?.iter().any(|name| name == namespace);
        Ok(is_there.then(|| own.store(namespace)))
    }

    /// The context's own store of that name, entered if it is new. `None` if there are the given
    /// ones only.
    pub(super) fn create(&self, namespace: &str) -> Result<Option<V>, StoreError> {
        let Some(own) = self.own.as_ref().filter(|own| !own.is_image_only) else {
            return Ok(None);
        };
        VectorStore::check_namespace(namespace)?;
        own.writer.change(|kv| {
            let mut registry = Registry::get(kv)?;
            if registry.add_vector_store(namespace) { registry.put(kv) } else { Ok(()) }
        })?;
        Ok(Some(own.store(namespace)))
    }
}

impl<V: Clone> Own<V> {
    fn store(&self, namespace: &str) -> V {
        let mut made = self.made.lock();
        // One that is new in a transaction is not there below.
        let is_there = |below: &Self| {
            below.namespaces().is_ok_and(|names| names.iter().any(|name| name == namespace))
        };
        let below = || Some(self.below.as_ref().filter(|below| is_there(below))?.store(namespace));
        let make = || (self.make)(self.writer.clone(), namespace, below());
        made.entry(namespace.to_owned()).or_insert_with(make).clone()
    }
}

impl<V: Persist + Clone> Vectors<V> {
    pub(super) fn persist_given(&self) -> Result<(), StoreError> {
        let given: Vec<V> = self.given.lock().stores.values().cloned().collect();
        given.iter().try_for_each(Persist::persist)
    }
}
