//! Content hashes, equal to LlamaIndex's (`schema.py`, the `hash` properties).
//!
//! Each is the lower-case hexadecimal sha256 of generalised UTF-8 (Python's `surrogatepass`).
//! LlamaIndex raises for a lone surrogate in a media resource; here it is hashed like any other.

use sha2::{Digest, Sha256};

use super::error::ModelError;
use super::media::MediaResource;
use super::node::{Content, ImageContent, Node, Resources, TextContent};
use super::python::push_map_repr;
use crate::kv::{Text, TextBuilder};

impl Node {
    /// The content hash, as LlamaIndex computes it: of text and metadata, not of id,
    /// relationships or embedding. Of an image node the metadata does not count either.
    ///
    /// # Errors
    ///
    /// [`ModelError::Template`] if a document's or multimodal node's metadata template is not one
    /// that `key` and `value` fill.
    pub fn hash(&self) -> Result<Text, ModelError> {
        let mut identity = TextBuilder::default();
        match &self.content {
            Content::Text(text) | Content::Index { text, .. } => {
                identity.push_text(&text.text);
                push_map_repr(self.metadata.iter(), &mut identity);
            }
            Content::Image { text, image } => push_image(text, image, &mut identity),
            Content::Document { resources, .. } | Content::Multimodal(resources) => {
                self.push_resources(resources, &mut identity)?;
            }
        }
        Ok(sha256(&identity.finish()))
    }

    /// The metadata as text and the hashes of the resources, joined by `-`.
    fn push_resources(
        &self,
        resources: &Resources,
        out: &mut TextBuilder,
    ) -> Result<(), ModelError> {
        let metadata = Some(self.metadata_text()?).filter(|text| !text.is_empty());
        let Resources { text, image, audio, video, .. } = resources;
        let hashes = [audio, image, text, video].into_iter().flatten().map(resource_hash);
        for (index, identity) in metadata.into_iter().chain(hashes).enumerate() {
            out.push_str(if index > 0 { "-" } else { "" });
            out.push_text(&identity);
        }
        Ok(())
    }
}

fn push_image(text: &TextContent, image: &ImageContent, out: &mut TextBuilder) {
    let parts = [image.image.as_ref(), image.path.as_ref(), image.url.as_ref(), Some(&text.text)];
    for (index, part) in parts.into_iter().enumerate() {
        out.push_str(if index > 0 { "-" } else { "" });
        match part.filter(|part| !part.is_empty()) {
            Some(part) => out.push_text(part),
            None => out.push_str("None"),
        }
    }
}

/// LlamaIndex `MediaResource.hash`; empty if the resource holds nothing.
fn resource_hash(resource: &MediaResource) -> Text {
    let mut identity = TextBuilder::default();
    let mut empty = true;
    if let Some(text) = &resource.text {
        // An empty text is told apart from none.
        empty = false;
        if text.is_empty() {
            identity.push_str("<empty_string>");
        } else {
            identity.push_text(text);
        }
    }
    let data = resource.data.as_ref().map(|data| data.as_base64());
    for part in [data, resource.path.as_ref(), resource.url.as_ref()].into_iter().flatten() {
        empty = false;
        identity.push_text(&sha256(part));
    }
    if empty { Text::default() } else { sha256(&identity.finish()) }
}

/// The lower-case hexadecimal sha256 of the text's bytes.
pub(crate) fn sha256(text: &Text) -> Text {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        for nibble in [byte >> 4, byte & 0xf] {
            hex.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
    hex.into()
}
