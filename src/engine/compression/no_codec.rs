//! What stands in for the codecs in a build without the feature `compression`.

use std::sync::Arc;

use super::Undecodable;

/// This build cannot compress.
pub(super) const IS_AVAILABLE: bool = false;

/// Nothing: this build cannot.
pub(super) fn lz4_compress(_value: &[u8]) -> Option<Vec<u8>> {
    None
}

/// An error that names the feature.
pub(super) fn lz4_decompress(_bytes: &[u8], _raw_len: usize) -> Result<Vec<u8>, Undecodable> {
    Err(Undecodable::NoFeature)
}

/// There is none in this build.
pub(super) enum Dictionary {}

impl Dictionary {
    /// Nothing: this build cannot.
    pub(super) fn new(_bytes: Vec<u8>) -> Option<Self> {
        None
    }

    /// Never called: there is no dictionary.
    pub(super) fn compress(&self, _value: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Never called: there is no dictionary.
    pub(super) fn decompress(&self, _: &[u8], _: usize) -> Result<Vec<u8>, Undecodable> {
        Err(Undecodable::NoFeature)
    }
}

/// Nothing: this build cannot.
pub(super) fn train(_samples: &[Vec<u8>], _len: usize) -> Option<Vec<u8>> {
    None
}

/// Keeps nothing: there is nothing to keep in this build.
pub(in crate::engine) struct ValueCache;

impl ValueCache {
    /// One that stays empty.
    pub(in crate::engine) fn new(_bytes_max: u64) -> Self {
        ValueCache
    }

    /// Nothing.
    pub(in crate::engine) fn get(&self, _id: u64, _offset: u64) -> Option<Arc<Vec<u8>>> {
        None
    }

    /// Does nothing.
    pub(in crate::engine) fn offer(&self, _id: u64, _offset: u64, _value: &Arc<Vec<u8>>) {}
}
