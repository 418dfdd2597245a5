//! A pipeline of one's own on top of the library: read files, cut them into nodes, store them in
//! batches, and know when each batch is durable.
//!
//! ```text
//! cargo run --release --example ingest [DIR]     default: the sources of this crate
//! ```
//!
//! The program `siltstone ingest` does the same with many threads and a better splitter. This
//! example shows what is below it: [`Deduplicator`] says what has to be written, a
//! [`DocumentBatch`](siltstone::stores::DocumentBatch) writes several documents all or nothing,
//! and durability is asked for once per batch.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::kv::LogKv;
use siltstone::model::Node;
use siltstone::stores::{Deduplicator, DocstoreStrategy, DocumentStore, Verdict};
use siltstone::{Db, Durability};

/// Documents in one batch.
const BATCH: usize = 16;

/// Lines in one node.
const LINES: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("src"), PathBuf::from);
    let dir = std::env::temp_dir().join("siltstone-example-ingest");
    let db = Db::open(&dir)?;
    let store = DocumentStore::new(Arc::new(LogKv::new(db.clone())));

    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();

    let run = Deduplicator::new(&store, DocstoreStrategy::Upserts)?;
    let (mut written, mut unchanged) = (0, 0);
    for files in files.chunks(BATCH) {
        let mut round = run.round();
        let mut batch = store.begin();
        for file in files {
            let Ok(text) = fs::read_to_string(file) else { continue };
            let id = file.display().to_string();
            let document = Node::document(id.as_str(), text.as_str());
            match round.judge(&document.id, &document.hash()?)? {
                Verdict::New | Verdict::Changed => written += 1,
                Verdict::Unchanged | Verdict::Duplicate => {
                    unchanged += 1;
                    continue;
                }
            }
            let mut nodes = vec![document];
            nodes.extend(cut(&id, &text));
            // Old nodes of this document go in the same batch in which the new ones come.
            batch.replace_ref_doc(id, &nodes, None)?;
        }
        // When this returns, the whole batch survives a power cut.
        batch.commit(Durability::Sync)?;
        run.accept(round.finish());
    }

    println!("{written} documents written, {unchanged} unchanged, {} syncs", db.stats().syncs);
    println!("{} nodes in {}; run it again: nothing changes", store.len()?, dir.display());
    db.close()?;
    Ok(())
}

/// The files below `dir`.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// Cuts a text into nodes of some lines each.
fn cut(id: &str, text: &str) -> Vec<Node> {
    let lines: Vec<&str> = text.lines().collect();
    let pieces = lines.chunks(LINES).enumerate();
    pieces
        .map(|(n, lines)| Node::text(format!("{id}#{n:04}"), lines.join("\n")).with_source(id))
        .collect()
}
