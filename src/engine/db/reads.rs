//! [`Db`]: reads by key, and [`Collection`], whose reads need not look its name up.

use std::sync::Arc;

use super::super::catalog::CollectionState;
use super::super::core::Core;
use super::super::error::ReadError;
use super::super::iter::Iter;
use super::super::options::Verify;
use super::super::read::ValueRef;
use super::Db;
use crate::index::Location;

/// A collection of an open store, looked up once.
#[derive(Clone)]
pub struct Collection {
    db: Db,
    state: Arc<CollectionState>,
}

impl Db {
    /// The collection called `name`, or `None` if nothing was ever written to it. A handle saves
    /// the look-up of the name.
    pub fn collection(&self, name: &str) -> Option<Collection> {
        let state = self.inner.core.catalog.find(name)?;
        Some(Collection { db: self.clone(), state })
    }

    /// The collections that keys were put into and how many each holds, by name.
    pub fn collections(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self
            .inner
            .core
            .catalog
            .all()
            .into_iter()
            .filter(|c| c.is_listed.load(std::sync::atomic::Ordering::Acquire))
            .map(|c| (c.name.clone(), c.index().len()))
            .collect();
        all.sort_unstable();
        all
    }

    /// The value of `key`, verified and without a copy where its segment is mapped.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get(&self, collection: &str, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        match self.inner.core.catalog.find(collection) {
            Some(state) => self.inner.core.get(&state, key),
            None => Ok(None),
        }
    }

    /// As [`Db::get`], for large values that are read again and again: where the segment is mapped
    /// the value is verified at its first read only, as with [`Verify::Once`], even if the options
    /// say [`Verify::Always`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_verified_once(
        &self,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<ValueRef>, ReadError> {
        let core = &self.inner.core;
        let Some(state) = core.catalog.find(collection) else { return Ok(None) };
        let Some(found) = core.lookup(&state, key)? else { return Ok(None) };
        let verify = match core.options.verify {
            Verify::Always => Verify::Once,
            other => other,
        };
        core.verify_body_as(&found, verify)?;
        core.verified_value(found)
    }

    /// The values of `keys` in their order; read in the order of the log.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_many(
        &self,
        collection: &str,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<ValueRef>>, ReadError> {
        match self.inner.core.catalog.find(collection) {
            Some(state) => self.inner.core.get_many(&state, keys),
            None => Ok(vec![None; keys.len()]),
        }
    }

    /// True if `key` is there. The record's header and key are read, its value is not.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, ReadError> {
        match self.inner.core.catalog.find(collection) {
            Some(state) => self.inner.core.contains(&state, key),
            None => Ok(false),
        }
    }

    /// Number of keys in `collection`; costs nothing. Those that have expired count until
    /// compaction has dropped them.
    pub fn len(&self, collection: &str) -> u64 {
        self.inner.core.catalog.find(collection).map_or(0, |state| state.index().len())
    }

    /// True if `collection` holds no key.
    pub fn is_empty(&self, collection: &str) -> bool {
        self.len(collection) == 0
    }

    /// The keys and values of `collection` as of now, in the order in which they were last
    /// written.
    pub fn iter(&self, collection: &str) -> Iter {
        match self.inner.core.catalog.find(collection) {
            Some(state) => Iter::of(&self.inner.core, &state),
            None => Iter::empty(&self.inner.core),
        }
    }
}

impl Core {
    fn get(&self, state: &CollectionState, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        let Some(found) = self.lookup(state, key)? else { return Ok(None) };
        self.value_of(found)
    }

    fn contains(&self, state: &CollectionState, key: &[u8]) -> Result<bool, ReadError> {
        self.has_key(state, key)
    }

    fn get_many(
        &self,
        state: &CollectionState,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<ValueRef>>, ReadError> {
        let (mut wanted, slots) = self.segments.pin_with(|| {
            let index = state.index();
            let find = |(i, key): (usize, &&[u8])| {
                index.find(self.hash_key(key)).into_iter().map(move |location| (location, i))
            };
            keys.iter().enumerate().flat_map(find).collect::<Vec<(Location, usize)>>()
        });
        wanted.sort_unstable();
        let mut values = vec![None; keys.len()];
        for (location, i) in wanted {
            let found = self.read_pinned(&slots, location)?;
            let (Some(key), Some(value)) = (keys.get(i), values.get_mut(i)) else { continue };
            if self.is_record_of(state.id, key, &found)? {
                *value = self.value_of(found)?;
            }
        }
        Ok(values)
    }
}

impl Collection {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// As [`Db::get`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        self.db.inner.core.get(&self.state, key)
    }

    /// As [`Db::get_many`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<ValueRef>>, ReadError> {
        self.db.inner.core.get_many(&self.state, keys)
    }

    /// As [`Db::contains`].
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        self.db.inner.core.contains(&self.state, key)
    }

    /// As [`Db::len`].
    pub fn len(&self) -> u64 {
        self.state.index().len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Db::iter`].
    pub fn iter(&self) -> Iter {
        Iter::of(&self.db.inner.core, &self.state)
    }
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("name", &self.state.name).finish_non_exhaustive()
    }
}
