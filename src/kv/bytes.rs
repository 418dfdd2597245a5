//! [`KvBytes`]: a stored value as bytes, where it lies.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::engine::ValueRef;

/// The stored form of a value, as [`KvStore::get_bytes`](super::KvStore::get_bytes) gives it: a
/// piece of a mapped segment, or a buffer. It stays as it is when the key is overwritten.
#[derive(Clone)]
pub struct KvBytes(Repr);

#[derive(Clone)]
enum Repr {
    Log(ValueRef),
    Shared(Arc<[u8]>),
    Copy(Arc<Vec<u8>>),
}

impl KvBytes {
    /// True if the bytes were copied for the caller, so that getting them again copies them again.
    pub fn is_copy(&self) -> bool {
        match &self.0 {
            Repr::Log(value) => !value.is_mapped(),
            Repr::Shared(_) => false,
            Repr::Copy(_) => true,
        }
    }
}

impl Deref for KvBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Log(value) => value,
            Repr::Shared(bytes) => bytes,
            Repr::Copy(bytes) => bytes,
        }
    }
}

impl From<ValueRef> for KvBytes {
    fn from(value: ValueRef) -> Self {
        KvBytes(Repr::Log(value))
    }
}

impl From<Arc<[u8]>> for KvBytes {
    /// Bytes that the store itself holds.
    fn from(bytes: Arc<[u8]>) -> Self {
        KvBytes(Repr::Shared(bytes))
    }
}

impl From<Vec<u8>> for KvBytes {
    /// Bytes that were copied for the caller.
    fn from(bytes: Vec<u8>) -> Self {
        KvBytes(Repr::Copy(Arc::new(bytes)))
    }
}

impl fmt::Debug for KvBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KvBytes").field(&self.escape_ascii().to_string()).finish()
    }
}
