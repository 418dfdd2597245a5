//! Every bound of the engine, in one place, checked before the first byte is written.

/// Longest key, in bytes: its length is a `u16` in the record header. The empty key is allowed,
/// since LlamaIndex's stores allow it.
pub const KEY_LEN_MAX: usize = u16::MAX as usize;

/// Longest value, in bytes (1 GiB): one value is read and checksummed as one piece.
pub const VALUE_LEN_MAX: usize = 1 << 30;

/// Longest collection name, in bytes of UTF-8. The empty name is allowed, as in LlamaIndex.
pub const COLLECTION_NAME_LEN_MAX: usize = 255;

/// Most collections in one store: each costs memory for its name and an empty table.
pub const COLLECTIONS_MAX: u32 = 1 << 20;

/// Id of the collection in which the engine keeps its own facts: durable snapshots, dictionaries.
/// It has no name, is never listed, and its records are ordinary ones.
pub(crate) const SYSTEM_COLLECTION: u32 = u32::MAX - 1;

/// Most operations in one write batch: a record's place in its batch is a `u32`.
pub const BATCH_OPS_MAX: usize = u32::MAX as usize - 1;

/// Smallest segment, in bytes. Tests use it so that segments roll within a few records.
pub const SEGMENT_LEN_MIN: u64 = 512;

/// Largest segment, in bytes (1 GiB): a record's start must fit the index's 28 bits of 8-byte
/// units. A segment made for one larger value may be longer than this.
pub const SEGMENT_LEN_MAX: u64 = 1 << 30;

/// Size of a segment unless the options say otherwise, in bytes (64 MiB).
pub const SEGMENT_LEN_DEFAULT: u64 = 64 << 20;

/// Least space that a log may be held to, in percent of what is needed of it: below it compaction
/// would copy twenty bytes for each that comes back.
pub const SPACE_PERCENT_MIN: u64 = 105;

/// Most segments alive at once: the index keeps a segment in 20 bits.
pub const SEGMENTS_MAX: usize = (1 << 20) - 1;

/// Largest sequence number of a batch that is recovered. A store reaches it after a million records
/// a second for two thousand years; a larger one on disk is damage, and would overflow.
pub const SEQNO_MAX: u64 = 1 << 56;

/// Deepest nesting of a value (lists in lists); Python's own reader gives up near 1,000.
pub const VALUE_DEPTH_MAX: usize = 500;

const _: () = assert!(SEGMENT_LEN_MAX / 8 < 1 << 28, "record starts fit the index");
const _: () = assert!(SEGMENT_LEN_MIN.is_multiple_of(8) && SEGMENT_LEN_DEFAULT <= SEGMENT_LEN_MAX);
const _: () = assert!(VALUE_LEN_MAX <= u32::MAX as usize, "value length is a u32 on disk");
