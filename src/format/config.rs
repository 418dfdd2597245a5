//! Options of a collection: the value of a configure record.
//!
//! They are encoded by [`super::codec`] as one variant of an enum that starts with the number of
//! its version: options that are added make a new variant, and stores written before stay
//! readable. A reader that meets a version it does not know refuses it.

use bincode::{Decode, Encode};

use super::codec;

/// How the values of a collection are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all. Right for embeddings and everything else that looks random: it does not
    /// shrink, and reads of it stay free of copies.
    #[default]
    Off,
    /// LZ4 when a value is written: quick both ways, a third to a half off text.
    Lz4,
    /// LZ4 when a value is written, and Zstandard when compaction moves it: with a dictionary
    /// that is trained from the collection's own records, so that small records that are alike
    /// shrink far below what they could one by one.
    Dictionary,
}

/// Options of one collection, kept in the log.
///
/// ```
/// use siltstone::{CollectionOptions, Compression};
/// let options = CollectionOptions::new().compression(Compression::Dictionary);
/// assert_eq!(options.compression, Compression::Dictionary);
/// assert!(!options.ordered);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CollectionOptions {
    /// Keys can be walked in their order, at the price of keeping them in memory. Default: false.
    pub ordered: bool,
    /// How values are compressed. Default: [`Compression::Off`].
    pub compression: Compression,
}

/// What is on disk. New variants go to the end.
#[derive(Encode, Decode)]
enum Config {
    V1 { ordered: bool, compression: Compression },
}

impl CollectionOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`CollectionOptions::ordered`].
    pub fn ordered(mut self, yes: bool) -> Self {
        self.ordered = yes;
        self
    }

    /// Sets [`CollectionOptions::compression`].
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The value of the configure record.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        codec::encode(&Config::V1 { ordered: self.ordered, compression: self.compression })
    }

    /// The options in the value of a configure record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match codec::decode(bytes)? {
            Config::V1 { ordered, compression } => Ok(CollectionOptions { ordered, compression }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pinned_and_unknown_ones_refused() {
        let options = CollectionOptions::new().ordered(true).compression(Compression::Dictionary);
        assert_eq!(options.encode().unwrap(), [0, 1, 2]);
        assert_eq!(CollectionOptions::new().encode().unwrap(), [0, 0, 0]);
        assert_eq!(CollectionOptions::decode(&[0, 1, 2]), Ok(options));
        for bytes in [&[][..], &[0], &[0, 1], &[0, 2, 0], &[0, 0, 3], &[1, 0, 0], &[0, 0, 0, 0]] {
            assert!(CollectionOptions::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
