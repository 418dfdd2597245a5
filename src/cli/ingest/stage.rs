//! Staging: a group becomes a batch. Many groups are staged at the same time.

use std::fs::File;
use std::io::Read;

use super::super::failure::Failure;
use super::group::Item;
use super::nodes::{Source, nodes_of};
use super::report::{Counts, Skip};
use super::source::stdin_id;
use super::walk::{Found, modified};
use super::{Run, records};
use crate::kv::{Map, Text, TextBuilder};
use crate::model::Node;
use crate::stores::{DocumentBatch, Judged, StoreError, Verdict};

/// Longest text of a document, in bytes: with its record's other fields it must be a value.
pub(super) const TEXT_LEN_MAX: u64 = 512 << 20;

/// Metadata of files that models are not shown, as LlamaIndex's `SimpleDirectoryReader` has it.
const FILE_EXCLUDED: &[&str] = &["file_size", "last_modified_date"];

/// A group, ready to be committed.
pub(super) struct Staged {
    pub(super) batch: DocumentBatch,
    pub(super) judged: Judged,
    pub(super) counts: Counts,
    /// Lines for people.
    pub(super) warnings: Vec<String>,
    /// Why the group ends early; what is before it is to be committed.
    pub(super) error: Option<Failure>,
}

/// What an item turned out to be.
enum Loaded {
    Source(Box<Source>),
    /// Left out; its id, so that what is stored of it stays, and a line for people.
    Unreadable(Text, String),
    Skip(Skip),
    /// A record that is none, and a line for people.
    Bad(String),
    Blank,
}

/// Reads, judges, splits and encodes the documents of a group.
pub(super) fn stage(run: &Run, items: &[Item]) -> Staged {
    let mut batch = run.store.begin();
    let mut round = run.dedup.round();
    let mut counts = Counts::default();
    let mut warnings = Vec::new();
    let mut error = None;
    for (place, item) in items.iter().enumerate() {
        let source = match load(item) {
            Ok(Loaded::Source(source)) => *source,
            Ok(Loaded::Blank) => continue,
            Ok(Loaded::Skip(reason)) => {
                counts.skip(reason);
                continue;
            }
            Ok(Loaded::Bad(warning)) => {
                counts.skip(Skip::BadRecord);
                warnings.push(warning);
                continue;
            }
            Ok(Loaded::Unreadable(id, warning)) => {
                counts.skip(Skip::Unreadable);
                warnings.push(warning);
                match round.keep(&id) {
                    Ok(()) => continue,
                    Err(e) => {
                        error = Some(e.into());
                        break;
                    }
                }
            }
            Err(failure) => {
                error = Some(failure);
                break;
            }
        };
        let judged = judge(run, &mut round, &source, &mut counts);
        let written = judged.and_then(|is_written| match is_written {
            true => write(run, &mut batch, source),
            false => Ok(0),
        });
        match written {
            Ok(chunks) => counts.chunks += chunks,
            Err(e) => {
                // The batch holds a part of this document: stage those before it anew.
                let mut before = stage(run, items.get(..place).unwrap_or_default());
                before.error = before.error.or(Some(Failure::of(name(item), e)));
                return before;
            }
        }
    }
    Staged { batch, judged: round.finish(), counts, warnings, error }
}

/// Whether the document is to be written.
fn judge(
    run: &Run,
    round: &mut crate::stores::Round<'_>,
    source: &Source,
    counts: &mut Counts,
) -> Result<bool, StoreError> {
    let document = &source.document;
    let invalid = |source| StoreError::Node { id: document.id.clone(), source };
    let verdict = round.judge(&document.id, &document.hash().map_err(invalid)?)?;
    counts.bytes += document.content_text().len() as u64;
    match verdict {
        Verdict::New => counts.new += 1,
        Verdict::Changed => counts.changed += 1,
        Verdict::Unchanged if run.force => {
            counts.changed += 1;
            return Ok(true);
        }
        Verdict::Unchanged => counts.unchanged += 1,
        Verdict::Duplicate => counts.duplicates += 1,
    }
    Ok(matches!(verdict, Verdict::New | Verdict::Changed))
}

/// Adds the document to the batch; returns how many chunks it has.
fn write(run: &Run, batch: &mut DocumentBatch, source: Source) -> Result<u64, StoreError> {
    let id = source.document.id.clone();
    let nodes = nodes_of(source, &run.splitter)
        .map_err(|source| StoreError::Node { id: id.clone(), source })?;
    batch.replace_ref_doc(id, &nodes, None)?;
    Ok(nodes.len() as u64 - 1)
}

/// The item's name in messages.
fn name(item: &Item) -> String {
    match item {
        Item::File(found) => found.path.display().to_string(),
        Item::Record { origin, line, .. } => format!("{} line {line}", origin.name),
        Item::Stdin(_) => "standard input".to_owned(),
    }
}

fn load(item: &Item) -> Result<Loaded, Failure> {
    match item {
        Item::File(found) => Ok(load_file(found)),
        Item::Record { origin, line, bytes } => {
            let record = match records::parse(bytes) {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(Loaded::Blank),
                Err(what) => return Ok(Loaded::Bad(format!("{}: {what}", name(item)))),
            };
            let id = record.id.unwrap_or_else(|| {
                let mut id = TextBuilder::default();
                id.push_text(&origin.id);
                id.push_str(&format!(":{line}"));
                id.finish()
            });
            let mut document = Node::document(id, record.text);
            document.metadata = record.metadata.clone();
            Ok(Loaded::Source(Box::new(Source {
                document,
                chunk_metadata: record.metadata,
                excluded: &[],
                embedding: record.embedding,
            })))
        }
        Item::Stdin(bytes) => match text_of(bytes.clone()) {
            Ok(text) => Ok(Loaded::Source(Box::new(Source {
                document: Node::document(stdin_id(), text),
                chunk_metadata: Map::new(),
                excluded: &[],
                embedding: None,
            }))),
            Err(reason) => Err(Failure::of(name(item), reason.sentence())),
        },
    }
}

fn load_file(found: &Found) -> Loaded {
    let (bytes, modified) = match read(found) {
        Ok(Some(read)) => read,
        Ok(None) => return Loaded::Skip(Skip::TooLarge),
        Err(e) => {
            let warning = format!("cannot read {}: {e}", found.path.display());
            return Loaded::Unreadable(found.id.clone(), warning);
        }
    };
    let size = bytes.len() as u64;
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(reason) => return Loaded::Skip(reason),
    };
    let mut metadata = Map::with_capacity(3);
    metadata.set("file_path", &found.id);
    metadata.set("file_size", size);
    if let Some(modified) = modified {
        metadata.set("last_modified_date", modified);
    }
    Loaded::Source(Box::new(Source {
        document: Node::document(&found.id, text),
        chunk_metadata: metadata,
        excluded: FILE_EXCLUDED,
        embedding: None,
    }))
}

/// The file's bytes and modification time. `None` if it is too large.
fn read(found: &Found) -> std::io::Result<Option<(Vec<u8>, Option<String>)>> {
    let file = File::open(&found.path)?;
    let metadata = file.metadata()?;
    let mut bytes =
        Vec::with_capacity(usize::try_from(metadata.len().min(TEXT_LEN_MAX)).unwrap_or(0));
    file.take(TEXT_LEN_MAX + 1).read_to_end(&mut bytes)?;
    let fits = bytes.len() as u64 <= TEXT_LEN_MAX;
    Ok(fits.then(|| (bytes, modified(&metadata))))
}

/// The bytes as text, or why they are none.
fn text_of(bytes: Vec<u8>) -> Result<String, Skip> {
    if bytes.len() as u64 > TEXT_LEN_MAX {
        return Err(Skip::TooLarge);
    }
    if bytes.contains(&0) {
        return Err(Skip::Binary);
    }
    String::from_utf8(bytes).map_err(|_| Skip::NotUtf8)
}
