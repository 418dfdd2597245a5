//! A document and its chunks as LlamaIndex's nodes.

use super::split::{Piece, Splitter};
use crate::kv::{Map, Text};
use crate::model::{Content, ModelError, Node, Related, RelatedNode, Relationship, TextContent};

/// A document to be stored.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) document: Node,
    /// The metadata of its chunks.
    pub(super) chunk_metadata: Map,
    /// Metadata keys that embedding and language models do not see.
    pub(super) excluded: &'static [&'static str],
    /// The embedding of the text, which then is not split.
    pub(super) embedding: Option<Vec<f64>>,
}

/// The document and its chunks, in their order, related as LlamaIndex's node parsers do it.
pub(super) fn nodes_of(source: Source, splitter: &Splitter) -> Result<Vec<Node>, ModelError> {
    let Source { document, chunk_metadata, excluded, embedding } = source;
    let text = document.content_text();
    let mut chunks: Vec<Node> = match &embedding {
        Some(_) => {
            let end = text.code_points().count();
            vec![chunk(&document, 0, text.clone(), 0..end)]
        }
        None => pieces(text, splitter)
            .into_iter()
            .enumerate()
            .map(|(place, (text, chars))| chunk(&document, place, text, chars))
            .collect(),
    };
    let excluded: Vec<Text> = excluded.iter().map(|key| Text::from_static(key)).collect();
    for chunk in &mut chunks {
        chunk.metadata = chunk_metadata.clone();
        chunk.excluded_embed_metadata_keys = excluded.clone();
        chunk.excluded_llm_metadata_keys = excluded.clone();
        chunk.embedding = embedding.clone();
    }
    relate(&document, &mut chunks)?;
    chunks.insert(0, document);
    Ok(chunks)
}

/// Gives each chunk its source and its neighbours.
fn relate(document: &Node, chunks: &mut [Node]) -> Result<(), ModelError> {
    let source = document.as_related()?;
    let related: Vec<RelatedNode> =
        chunks.iter().map(Node::as_related).collect::<Result<_, _>>()?;
    for (place, chunk) in chunks.iter_mut().enumerate() {
        let mut set = |relationship, node: Option<&RelatedNode>| {
            if let Some(node) = node {
                chunk.relationships.insert(relationship, Related::One(node.clone()));
            }
        };
        set(Relationship::Source, Some(&source));
        set(Relationship::Previous, place.checked_sub(1).and_then(|place| related.get(place)));
        set(Relationship::Next, related.get(place + 1));
    }
    Ok(())
}

fn chunk(document: &Node, place: usize, text: Text, chars: std::ops::Range<usize>) -> Node {
    let mut id = document.id.code_points().collect::<Vec<_>>();
    id.extend(format!("#{place:04}").chars().map(u32::from));
    let mut content = TextContent::from(text);
    content.start_char_idx = i64::try_from(chars.start).ok().map(Into::into);
    content.end_char_idx = i64::try_from(chars.end).ok().map(Into::into);
    Node::new(Text::from_code_points(id), Content::Text(content))
}

/// The chunks of a text and their places in characters.
fn pieces(text: &Text, splitter: &Splitter) -> Vec<(Text, std::ops::Range<usize>)> {
    if let Some(utf8) = text.as_str() {
        let cut = |piece: Piece| (utf8.get(piece.bytes).unwrap_or_default().into(), piece.chars);
        return splitter.split(utf8).into_iter().map(cut).collect();
    }
    // A text with lone surrogates is split as if another character stood in their place.
    let points: Vec<u32> = text.code_points().collect();
    let cut = |piece: Piece| {
        let points = points.get(piece.chars.clone()).unwrap_or_default();
        (Text::from_code_points(points.iter().copied()), piece.chars)
    };
    splitter.split(&text.to_string_lossy()).into_iter().map(cut).collect()
}
