//! LlamaIndex's storage context: documents and their nodes in a directory, replaced, looked up,
//! persisted.
//!
//! ```text
//! cargo run --release --example storage_context
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use siltstone::StorageContext;
use siltstone::kv::{Text, json};
use siltstone::model::Node;
use siltstone::stores::{AddOptions, Missing};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join("siltstone-example-context");
    let context = StorageContext::open(&dir)?;
    let docstore = context.docstore();

    // Nodes know the document that they were cut from: their ref doc.
    let lines = ["Basalt is dark.", "Granite is hard.", "Siltstone keeps what settles."];
    let nodes: Vec<Node> = lines
        .iter()
        .enumerate()
        .map(|(line, text)| {
            let mut node = Node::text(format!("stones#{line}"), *text).with_source("stones");
            node.metadata.insert("line", i64::try_from(line).unwrap_or(i64::MAX));
            node
        })
        .collect();
    // One atomic batch: bodies, hashes and the ref doc's list.
    docstore.add_documents(&nodes, &AddOptions::default())?;
    // Everything written so far survives a power cut now. It costs what changed, not what is there.
    context.persist()?;

    let info = docstore.get_ref_doc_info("stones")?.unwrap_or_default();
    let ids: Vec<String> = info.node_ids.iter().map(Text::to_string).collect();
    println!("stones has the nodes {}", ids.join(", "));
    for node in docstore.get_nodes(&info.node_ids, Missing::Error)? {
        println!("{:>8}  {}  {}", node.id, &node.hash()?.to_string()[..8], node.content_text());
    }
    // What LlamaIndex would write for the first node.
    let stored = docstore.get_document("stones#0")?.to_value();
    println!("{}", json::to_string(&stored, json::Style::Python));

    // The document goes with all its nodes, or not at all.
    docstore.delete_ref_doc("stones", Missing::Error)?;
    context.persist()?;
    println!("{} nodes left in {}", docstore.len()?, dir.display());
    Ok(())
}
