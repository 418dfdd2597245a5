//! The strings that the stored form of a value has a short name for.

/// Keys that LlamaIndex's stored forms use, one byte each. Part of the format: append only, at
/// most 128.
pub const KNOWN_KEYS: [&str; 60] = [
    "__data__",
    "__type__",
    "id_",
    "embedding",
    "metadata",
    "excluded_embed_metadata_keys",
    "excluded_llm_metadata_keys",
    "relationships",
    "metadata_template",
    "metadata_separator",
    "class_name",
    "node_id",
    "node_type",
    "hash",
    "1",
    "2",
    "3",
    "4",
    "5",
    "mimetype",
    "start_char_idx",
    "end_char_idx",
    "text",
    "text_template",
    "text_resource",
    "image_resource",
    "audio_resource",
    "video_resource",
    "embeddings",
    "path",
    "url",
    "data",
    "image",
    "image_path",
    "image_url",
    "image_mimetype",
    "text_embedding",
    "index_id",
    "obj",
    "doc_hash",
    "ref_doc_id",
    "node_ids",
    "#order",
    "#chunk",
    "#head",
    "#last",
    "#tail",
    "#stale",
    "#prev",
    "#next",
    "#reserved",
    "file_path",
    "file_name",
    "file_type",
    "file_size",
    "creation_date",
    "last_modified_date",
    "nodes_dict",
    "summary",
    "nodes",
];

/// Texts that every stored node repeats, two bytes each. Part of the format: append only.
pub const KNOWN_TEXTS: [&str; 9] = [
    "{key}: {value}",
    "{metadata_str}\n\n{content}",
    "text/plain",
    "TextNode",
    "Document",
    "RelatedNodeInfo",
    "ImageNode",
    "IndexNode",
    "Node",
];

/// Finds an entry of a table of known strings with one probe: a hash without collisions, found
/// when the crate is compiled. Not part of the format.
pub(super) struct Known {
    /// Entry plus one by hash; 0 for none.
    slots: [u8; 1024],
    factor: u32,
}

pub(super) static KEYS: Known = Known::new(&KNOWN_KEYS);
pub(super) static TEXTS: Known = Known::new(&KNOWN_TEXTS);

impl Known {
    const fn new(table: &[&str]) -> Self {
        let mut factor = 1u32;
        loop {
            let mut slots = [0; 1024];
            let mut entry = 0;
            while entry < table.len() {
                let slot = Known::slot(table[entry].as_bytes(), factor);
                if slots[slot] != 0 {
                    break;
                }
                entry += 1;
                slots[slot] = entry as u8;
            }
            if entry == table.len() {
                return Known { slots, factor };
            }
            factor += 2;
        }
    }

    /// Mixes the length, the first, a middle and the last two bytes.
    const fn slot(text: &[u8], factor: u32) -> usize {
        let len = text.len();
        if len == 0 {
            return 0;
        }
        let ends = text[0] as u32 | (text[len / 2] as u32) << 8 | (text[len - 1] as u32) << 16;
        let rest = (len as u32) << 8 | text[len - 1 - (len > 1) as usize] as u32;
        let mixed =
            (ends ^ rest.wrapping_mul(0x9e37_79b1)).wrapping_mul(factor.wrapping_mul(0x85eb_ca6b));
        (mixed >> 22) as usize
    }

    /// The entry of `text` in `table`, from which this was made.
    pub(super) fn entry(&self, text: &[u8], table: &[&str]) -> Option<u8> {
        let entry = self.slots.get(Known::slot(text, self.factor))?.checked_sub(1)?;
        (table.get(usize::from(entry))?.as_bytes() == text).then_some(entry)
    }
}
