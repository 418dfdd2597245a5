//! What a node shows: its text, with its metadata.

use super::error::ModelError;
use super::node::{Content, Node};
use super::python::push_format;
use crate::kv::{Text, TextBuilder, Value};

impl Node {
    /// The text with all metadata, laid out by the node's templates: LlamaIndex
    /// `get_content(MetadataMode.ALL)`.
    ///
    /// ```
    /// use siltstone::model::Node;
    /// let mut node = Node::text("n1", "First paragraph.");
    /// node.metadata.set("page", 3);
    /// assert_eq!(node.content_with_metadata()?, "page: 3\n\nFirst paragraph.");
    /// # Ok::<(), siltstone::model::ModelError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ModelError::Template`] if a template is not one that its two fields fill.
    pub fn content_with_metadata(&self) -> Result<Text, ModelError> {
        let mut metadata = self.metadata_text()?;
        let template = match &self.content {
            Content::Text(text) | Content::Index { text, .. } | Content::Image { text, .. } => {
                metadata = strip(&metadata);
                &text.text_template
            }
            Content::Document { resources, .. } | Content::Multimodal(resources) => {
                &resources.text_template
            }
        };
        if metadata.is_empty() {
            return Ok(self.content_text().clone());
        }
        let (metadata, content) = (Value::from(metadata), Value::from(self.content_text()));
        let mut out = TextBuilder::default();
        push_format(template, [("metadata_str", &metadata), ("content", &content)], &mut out)?;
        Ok(strip(&out.finish()))
    }

    /// The metadata, laid out by the node's template: LlamaIndex `get_metadata_str`.
    pub(super) fn metadata_text(&self) -> Result<Text, ModelError> {
        let mut out = TextBuilder::default();
        for (index, (key, value)) in self.metadata.iter().enumerate() {
            if index > 0 {
                out.push_text(&self.metadata_separator);
            }
            let key = Value::from(key);
            push_format(&self.metadata_template, [("key", &key), ("value", value)], &mut out)?;
        }
        Ok(out.finish())
    }
}

/// Python's `str.strip`.
fn strip(text: &Text) -> Text {
    let is_space = |point: &u32| {
        (0x1c..=0x1f).contains(point) || char::from_u32(*point).is_some_and(char::is_whitespace)
    };
    let points: Vec<u32> = text.code_points().collect();
    let Some(start) = points.iter().position(|point| !is_space(point)) else {
        return Text::default();
    };
    let end = points.iter().rposition(|point| !is_space(point)).map_or(start, |last| last + 1);
    Text::from_code_points(points.into_iter().take(end).skip(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What LlamaIndex gives for the same nodes.
    #[test]
    fn text_and_metadata_are_shown_as_llamaindex_does() {
        let mut node = Node::text("n", "  body\u{a0}\u{1d} ");
        assert_eq!(node.content_with_metadata().expect("shown"), "  body\u{a0}\u{1d} ");
        node.metadata.set("a", Value::Null);
        node.metadata.set("b", vec![Value::from("x"), Value::from(1.0)]);
        let shown = node.content_with_metadata().expect("shown");
        assert_eq!(shown, "a: None\nb: ['x', 1.0]\n\n  body");
        node.metadata_template = "{value!r}<{key}".into();
        node.metadata_separator = " ".into();
        let Content::Text(text) = &mut node.content else { panic!("a text") };
        text.text_template = "{content}|{{{metadata_str}}}".into();
        let shown = node.content_with_metadata().expect("shown");
        assert_eq!(shown, "body\u{a0}\u{1d} |{'None'<a \"['x', 1.0]\"<b}");
        let Content::Text(text) = &mut node.content else { panic!("a text") };
        text.text_template = "{value}".into();
        let failed = node.content_with_metadata().expect_err("no such field").to_string();
        assert!(failed.contains("neither {metadata_str} nor {content}"), "{failed}");
        let mut document = Node::document("d", "");
        document.metadata.set("a", 1);
        assert_eq!(document.content_with_metadata().expect("shown"), "a: 1");
    }
}
