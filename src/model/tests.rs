//! The stored form and the hashes, with what LlamaIndex gives for the same input. The golden
//! traces hold many more.

use super::*;
use crate::kv::{Map, Text, Value, json};

fn value(text: &str) -> Value {
    json::from_slice(text.as_bytes()).expect("JSON")
}

/// Reads `{"__type__": kind, "__data__": data}`.
fn read(kind: &str, data: &str) -> Result<Node, ModelError> {
    let stored = format!(r#"{{"__type__": "{kind}", "__data__": {data}}}"#);
    Node::from_value(&value(&stored))
}

fn node(kind: &str, data: &str) -> Node {
    read(kind, data).unwrap_or_else(|e| panic!("{data}: {e}"))
}

#[test]
fn what_is_built_is_what_is_read() {
    let image = ImageContent { path: Some("a/b.png".into()), ..ImageContent::default() };
    let mut image = Node::image("i", image);
    image.embedding = Some(vec![0.1, -0.0, f64::INFINITY]);
    let media = Resources {
        audio: Some(MediaResource::from_data(b"\0\x01sound")),
        video: Some(MediaResource::from_path("x/film.mp4")),
        ..Resources::default()
    };
    let inner = Node::text("inner", "text").with_source("d");
    let mut children = Node::text("c", "");
    let child = RelatedNode::new("n", NodeKind::Text);
    children.relationships.insert(Relationship::Child, Related::Many(vec![child.clone(), child]));
    children.metadata.insert("k", Value::integer("123456789012345678901234567890"));
    let plain = Map::from_iter([("a", 1)]);
    for mut node in [
        Node::text("t", "text").with_source("d"),
        children,
        image,
        Node::index("x", "text", "index", IndexTarget::None),
        Node::index("y", "text", "index", IndexTarget::Node(Box::new(inner))),
        Node::index("z", "text", "index", IndexTarget::Other("a string".into())),
        Node::index("o", "text", "index", IndexTarget::Other(plain.into())),
        Node::document("d", "text"),
        Node::document("e", ""),
        Node::multimodal("m", media),
    ] {
        let stored = node.to_value();
        let back = Node::from_value(&stored).expect("it reads what it wrote");
        if let Content::Image { image, .. } = &mut node.content {
            image.mimetype = Some("image/png".into());
        }
        assert_eq!(back, node);
        assert_eq!(back.hash(), node.hash());
    }
}

#[test]
fn defaults_and_aliases_are_llamaindexs() {
    let text = node("1", r#"{"id_": "a", "metadata_seperator": "S", "embedding": [1, true, 2.5]}"#);
    assert_eq!(text.metadata_separator, "S");
    assert_eq!(text.embedding, Some(vec![1.0, 1.0, 2.5]));
    assert_eq!(text.content, Content::Text(TextContent::default()));
    let document = node("4", r#"{"doc_id": "b", "text": "t", "class_name": "Document"}"#);
    assert_eq!(document, Node::document("b", "t"));
    let both = r#"{"id_": "a", "text": "hello", "text_resource": {"text": "x"}}"#;
    assert_eq!(node("4", both).content_text(), &"x");
    let old = node("4", r#"{"id_": "a", "class_name": "ImageDocument"}"#).to_value();
    let class = old.get("__data__").and_then(|data| data.get("class_name"));
    assert_eq!(class, Some(&Value::from("ImageDocument")));
    let index = node("1", r#"{"id_": "a", "start_char_idx": 3.0, "unknown": 1}"#);
    assert!(matches!(index.content, Content::Text(text) if text.start_char_idx == Some(3.into())));
    let far = node("1", r#"{"id_": "a", "start_char_idx": 9.1e18}"#);
    assert!(matches!(far.content, Content::Text(text)
        if text.start_char_idx == Some(9_100_000_000_000_000_000.into())));
    let image = node("2", r#"{"id_": "a", "image_resource": {"path": "q.gif"}}"#);
    assert!(matches!(image.content, Content::Image { image, .. }
        if image.path == Some("q.gif".into()) && image.mimetype == Some("image/gif".into())));
}

#[test]
fn paths_and_kinds_are_as_pathlib_and_filetype_have_them() {
    for (given, path, mimetype) in [
        ("a//b/./c.png", "a/b/c.png", Some("image/png")),
        ("", ".", None),
        ("/x/", "/x", None),
        ("//x", "//x", None),
        ("///x.jpg", "/x.jpg", Some("image/jpeg")),
        ("a.PNG", "a.PNG", None),
        (".png", ".png", None),
    ] {
        let data = format!(r#"{{"id_": "x", "image_resource": {{"path": "{given}"}}}}"#);
        let Content::Multimodal(resources) = node("5", &data).content else { panic!("no node") };
        let image = resources.image.expect("an image");
        assert_eq!(image.path, Some(path.into()), "{given:?}");
        assert_eq!(image.mimetype, mimetype.map(Text::from), "{given:?}");
    }
}

#[test]
fn what_is_no_node_is_refused_with_the_field() {
    for (kind, data, message) in [
        ("1", "1", "field __data__ is an integer, expected a dictionary"),
        ("1", "{}", "field __data__.id_ is missing"),
        ("1", r#"{"id_": 1}"#, "field __data__.id_ is an integer, expected a string"),
        ("3", r#"{"id_": ""}"#, "field __data__.index_id is missing"),
        (
            "1",
            r#"{"id_": "", "metadata": null}"#,
            "field __data__.metadata is null, expected a dictionary",
        ),
        (
            "1",
            r#"{"id_": "", "relationships": {"9": {"node_id": ""}}}"#,
            "field __data__.relationships is another key, expected keys \"1\" to \"5\"",
        ),
        (
            "1",
            r#"{"id_": "", "relationships": {"5": [{"node_id": ""}, {}]}}"#,
            "field __data__.relationships.5.node_id is missing",
        ),
        ("99", "{}", "Unknown doc type: 99"),
        ("5", r#"{"extra_info": {}, "doc_id": ""}"#, "Unknown doc type: 5"),
    ] {
        let refused = read(kind, data).map_err(|e| e.to_string());
        assert_eq!(refused, Err(message.to_owned()), "{data}");
    }
    let error = Node::from_value(&value("{}")).expect_err("no node");
    assert_eq!(error.to_string(), "field __type__ is missing");
    let keyed =
        Node::from_stored(&value(r#"{"__type__": "1", "__data__": {}}"#), Some(&"k".into()));
    assert_eq!(keyed.map(|node| node.id), Ok("k".into()), "the key stands in for the id");
}

#[test]
fn two_sources_are_none() {
    let source = r#"{"id_": "", "relationships": {"1": [{"node_id": "a"}]}}"#;
    assert_eq!(node("1", source).ref_doc_id(), Err(ModelError::SourceIsList));
    let source = r#"{"id_": "", "relationships": {"1": {"node_id": ""}}}"#;
    assert_eq!(node("1", source).ref_doc_id(), Ok(None), "an empty id is none");
}

#[test]
fn hashes_are_llamaindexs() {
    for (kind, data, hash) in [
        (
            "1",
            r#"{"id_": "", "text": "a"}"#,
            "5f546eb4606b5c2b7d2a449a5cc2bbb477ed5a246c7051ce871b12f2dbfc8419",
        ),
        (
            "1",
            r#"{"id_": "", "text": "a\ud800"}"#,
            "e0760e69297c6432675814881069129d90a69f60bf55e6004007c79bc66cad11",
        ),
        (
            "2",
            r#"{"id_": "", "text": "a", "image_path": "a/b.jpg"}"#,
            "a95b0fb948b27717093555b80b30d54b9f11a9e9438831d9c7b87b04c92ba2e4",
        ),
        (
            "5",
            r#"{"id_": "", "text_resource": {"path": "a.PNG"}}"#,
            "be0ee60135abfc7ede0a1f5da8fb078ca83f6beffa87808fa2e3f0e1ec6f3a34",
        ),
        (
            "4",
            r#"{"id_": "", "text": "x"}"#,
            "a57b5956dbc6e02127bbb40c87cb8244196d6d18e0e141936ffcd8cffad457ad",
        ),
    ] {
        assert_eq!(node(kind, data).hash(), Ok(hash.into()), "{data}");
    }
}

#[test]
fn repr_is_pythons() {
    let mut out = crate::kv::TextBuilder::default();
    let metadata = value(
        r#"{"it's": ["a\"b", "'\"", "\\\n\t\r\u0001\u007f\u00a0\u00ad\u200b\ud800\ue000\u00e9"],
            "n": [null, true, false, 1, -0.0, 1e16, NaN, -Infinity], "": {}, "e": []}"#,
    );
    python::push_repr(&metadata, &mut out);
    let expected = r#"{"it's": ['a"b', '\'"', '\\\n\t\r\x01\x7f\xa0\xad\u200b\ud800\ue000"#
        .to_owned()
        + "\u{e9}"
        + r#"'], 'n': [None, True, False, 1, -0.0, 1e+16, nan, -inf], '': {}, 'e': []}"#;
    assert_eq!(out.finish(), *expected);
    let mut out = crate::kv::TextBuilder::default();
    python::push_repr(&Text::from_code_points([0x10_ffff]).into(), &mut out);
    assert_eq!(out.finish(), "'\\U0010ffff'");
}

#[test]
fn templates_are_pythons_as_far_as_they_go() {
    let format = |template: &str| {
        let mut out = crate::kv::TextBuilder::default();
        let fields = [("key", &"k".into()), ("value", &"v'".into())];
        python::push_format(&template.into(), fields, &mut out)?;
        Ok::<_, ModelError>(out.finish().to_string())
    };
    assert_eq!(format("{{{key}}}: {value!s}{value!r}").as_deref(), Ok("{k}: v'\"v'\""));
    assert_eq!(format("").as_deref(), Ok(""));
    for bad in ["{", "}", "{other}", "{}", "{0}", "{key:>3}", "{key!x}", "{key"] {
        let error = format(bad).expect_err(bad).to_string();
        assert!(error.starts_with(&format!("metadata template \"{bad}\": ")), "{error}");
    }
    let mut document = Node::document("d", "text");
    document.metadata_template = "{".into();
    assert!(document.hash().is_ok(), "without metadata the template does not count");
    document.metadata.insert("k", "v");
    assert!(matches!(document.hash(), Err(ModelError::Template { .. })));
}

#[test]
fn base64_round_trips() {
    for len in 0..70 {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 89 + len) as u8).collect();
        let data = MediaData::new(&bytes);
        assert_eq!(data.to_bytes().as_deref(), Some(&bytes[..]));
    }
    assert_eq!(MediaData::new(b"hi").as_base64(), &"aGk=");
    for bad in ["a", "ab", "abc", "a===", "ab!=", "====="] {
        assert_eq!(MediaData::from_base64(bad).to_bytes(), None, "{bad:?}");
    }
}
