//! LZ4 and Zstandard, behind functions that never panic and never allocate more than the length
//! that a record states, whatever bytes they are given.

use std::cell::RefCell;

use parking_lot::Mutex;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DDict, ParamSwitch, compress_bound};

use super::Undecodable;

/// This build can compress.
pub(super) const IS_AVAILABLE: bool = true;

/// Of Zstandard. Compaction compresses each value once, in the background.
const LEVEL: i32 = 7;
/// Shortest match, in bytes. Shorter ones are the default and would save a few bytes more, but
/// their many small copies are what reading takes longest for.
const MATCH_LEN_MIN: u32 = 6;

thread_local! {
    /// What a thread decompresses with, made when it first does: about 100 KiB.
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// `value` as an LZ4 block.
pub(super) fn lz4_compress(value: &[u8]) -> Option<Vec<u8>> {
    Some(lz4_flex::block::compress(value))
}

/// The value of `raw_len` bytes in an LZ4 block.
pub(super) fn lz4_decompress(bytes: &[u8], raw_len: usize) -> Result<Vec<u8>, Undecodable> {
    let mut value = Vec::new();
    value.try_reserve_exact(raw_len).map_err(|_| Undecodable::Damaged("no memory for it"))?;
    value.resize(raw_len, 0);
    match lz4_flex::block::decompress_into(bytes, &mut value) {
        Ok(len) if len == raw_len => Ok(value),
        Ok(_) => Err(Undecodable::Damaged("the LZ4 block is shorter than its record says")),
        Err(_) => Err(Undecodable::Damaged("not an LZ4 block of the length its record says")),
    }
}

/// A dictionary that is ready for use both ways.
pub(super) struct Dictionary {
    decoder: DDict<'static>,
    /// Made from the dictionary when the first value is compressed with it.
    encoder: Mutex<Option<CCtx<'static>>>,
    bytes: Vec<u8>,
}

impl Dictionary {
    /// Makes ready what [`train`] returned.
    pub(super) fn new(bytes: Vec<u8>) -> Option<Self> {
        let decoder = DDict::try_create(&bytes)?;
        Some(Dictionary { decoder, encoder: Mutex::new(None), bytes })
    }

    /// `value` as a Zstandard frame.
    pub(super) fn compress(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut encoder = self.encoder.lock();
        if encoder.is_none() {
            *encoder = self.make_encoder();
        }
        let mut frame = Vec::with_capacity(compress_bound(value.len()));
        encoder.as_mut()?.compress2(&mut frame, value).ok()?;
        frame.shrink_to_fit();
        Some(frame)
    }

    fn make_encoder(&self) -> Option<CCtx<'static>> {
        let mut encoder = CCtx::try_create()?;
        let parameters = [
            CParameter::CompressionLevel(LEVEL),
            CParameter::MinMatch(MATCH_LEN_MIN),
            // Not compressed a second time by their frequency: reading is what counts.
            CParameter::LiteralCompressionMode(ParamSwitch::Disable),
            // The record says which dictionary it is, and has a checksum.
            CParameter::DictIdFlag(false),
            CParameter::ChecksumFlag(false),
        ];
        for parameter in parameters {
            encoder.set_parameter(parameter).ok()?;
        }
        encoder.load_dictionary(&self.bytes).ok()?;
        Some(encoder)
    }

    /// The value of `raw_len` bytes in a frame that was made with this dictionary.
    pub(super) fn decompress(&self, frame: &[u8], raw_len: usize) -> Result<Vec<u8>, Undecodable> {
        let mut value = Vec::new();
        value.try_reserve_exact(raw_len).map_err(|_| Undecodable::Damaged("no memory for it"))?;
        DECODER.with_borrow_mut(|decoder| {
            if decoder.is_none() {
                *decoder = DCtx::try_create();
            }
            let decoder = decoder.as_mut().ok_or(Undecodable::Damaged("no memory for it"))?;
            match decoder.decompress_using_ddict(&mut value, frame, &self.decoder) {
                Ok(_) if value.len() == raw_len => Ok(()),
                Ok(_) => Err(Undecodable::Damaged("the frame is not as long as its record says")),
                Err(_) => Err(Undecodable::Damaged("not a frame of the length its record says")),
            }
        })?;
        Ok(value)
    }
}

/// A dictionary of at most `len` bytes for values like `samples`; `None` if nothing can be made of
/// them.
pub(super) fn train(samples: &[Vec<u8>], len: usize) -> Option<Vec<u8>> {
    let lens: Vec<usize> = samples.iter().map(Vec::len).collect();
    let mut dictionary = Vec::with_capacity(len);
    zstd::zstd_safe::train_from_buffer(&mut dictionary, &samples.concat(), &lens).ok()?;
    Some(dictionary)
}
