//! What stands in for the codecs in a build without the feature `compression`.

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
