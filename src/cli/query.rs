//! `siltstone query DIR --embedding FILE`.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Failure, warn};
use super::output::{Output, object, plural, shown_key};
use super::{Outcome, ReadArg};
use crate::StorageContext;
use crate::kv::{KvStore, LogKv, Text, Value, json};
use crate::stores::{DEFAULT_VECTOR_STORE, MetadataFilters, QueryMode, VectorQuery, VectorStore};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read: ReadArg,
    /// The vector store to search
    #[arg(long, value_name = "NS", default_value = DEFAULT_VECTOR_STORE)]
    namespace: String,
    /// A JSON list of numbers to compare with; - is standard input
    #[arg(long, value_name = "FILE")]
    embedding: PathBuf,
    /// How many results
    #[arg(long, value_name = "N", default_value_t = 10)]
    top_k: usize,
    /// Only rows with such metadata: 'year >= 2020 and (lang == "en" or not tags contains "old")'
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    filter: Option<String>,
    /// By the cosine, by maximal marginal relevance, by the dot product or by the distance
    #[arg(long, default_value = "default", value_parser =
        ["default", "mmr", "dot_product", "euclidean"])]
    mode: String,
}

/// A result, with what the document store has of it.
struct Hit {
    id: Text,
    score: f64,
    ref_doc_id: Option<Text>,
    /// The first line of its text.
    text: Option<String>,
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let mut query = VectorQuery::new(read_embedding(&args.embedding)?, args.top_k);
    query.mode = QueryMode::from_name(&args.mode)?;
    if let Some(filter) = &args.filter {
        query.filters = Some(MetadataFilters::parse(filter)?);
    }
    let kv: Arc<dyn KvStore> = Arc::new(LogKv::new(args.read.open()?));
    let context = StorageContext::from_kv(kv);
    let Some(vectors) = find_rows(args, &context)? else { return Ok(Outcome::No) };
    check_dimension(args, &vectors, &query)?;
    let found = vectors.query(&query)?;
    let docstore = context.docstore();
    let mut hits = Vec::with_capacity(found.ids.len());
    for (id, score) in found.ids.into_iter().zip(found.similarities) {
        let ref_doc_id = vectors.find(id.clone())?.and_then(|row| row.ref_doc_id);
        let node = docstore.find_document(id.clone())?;
        let text = node.and_then(|node| first_line(node.content_text()));
        hits.push(Hit { id, score, ref_doc_id, text });
    }
    if out.is_json() {
        out.value(&to_json(args, hits))?;
    } else {
        for hit in &hits {
            out.line(&in_words(hit))?;
        }
    }
    Ok(Outcome::Yes)
}

/// The vector store that is asked for, if it has rows. Says what there is instead if it has none.
fn find_rows(args: &Args, context: &StorageContext) -> Result<Option<VectorStore>, Failure> {
    let (mut with_rows, mut found) = (Vec::new(), None);
    let namespaces = context.vector_namespaces()?;
    for namespace in &namespaces {
        let store = context.vector_store_in(namespace)?;
        if !store.is_empty()? {
            with_rows.push(namespace.clone());
            if *namespace == args.namespace {
                found = Some(store);
            }
        }
    }
    if found.is_some() {
        return Ok(found);
    }
    let (name, dir) = (args.namespace.escape_debug(), args.read.store.dir.display());
    let is_there = namespaces.contains(&args.namespace);
    let nodes = context.docstore().len()?;
    warn(&if with_rows.is_empty() && nodes > 0 {
        format!(
            "documents are in {dir}, but no embeddings: it has {} and no vector store with rows; \
             add nodes with embeddings to vector store \"{name}\"",
            plural(nodes, "node")
        )
    } else if is_there {
        let there = listed(&with_rows);
        format!("vector store \"{name}\" in {dir} has no rows; those that have some: {there}")
    } else {
        let there = listed(&namespaces);
        format!("there is no vector store \"{name}\" in {dir}; there are: {there}")
    });
    Ok(None)
}

/// Names, quoted.
fn listed(names: &[String]) -> String {
    let names: Vec<String> =
        names.iter().map(|name| format!("\"{}\"", name.escape_debug())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The numbers in a JSON file.
fn read_embedding(path: &Path) -> Result<Vec<f64>, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let bad = |what: &dyn std::fmt::Display| {
        Failure::new(format!("cannot read the embedding in {name}: {what}"))
    };
    let bytes = if is_stdin {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let value = json::from_slice(&bytes.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
    let Some(list) = value.as_list() else {
        return Err(bad(&"it is not a list of numbers"));
    };
    let mut embedding = Vec::with_capacity(list.len());
    for (place, value) in list.iter().enumerate() {
        let number = match value {
            Value::Float(float) => Some(*float),
            Value::Int(int) => Some(*int as f64),
            Value::BigInt(big) => big.as_decimal().parse().ok(),
            _ => None,
        };
        let Some(number) = number.filter(|number| number.is_finite()) else {
            return Err(bad(&format!("number {} of it is not a finite number", place + 1)));
        };
        embedding.push(number);
    }
    Ok(embedding)
}

/// Refuses an embedding that is as long as no row's.
fn check_dimension(args: &Args, vectors: &VectorStore, query: &VectorQuery) -> Result<(), Failure> {
    let there = vectors.dimensions()?;
    let len = query.embedding.as_ref().map_or(0, Vec::len);
    if there.is_empty() || there.contains(&len) {
        return Ok(());
    }
    let there: Vec<String> = there.iter().map(usize::to_string).collect();
    Err(Failure::new(format!(
        "the embedding in {} has {len} numbers; those in vector store \"{}\" have {}",
        args.embedding.display(),
        args.namespace.escape_debug(),
        there.join(" or ")
    )))
}

/// The first line that is not blank.
fn first_line(text: &Text) -> Option<String> {
    let text = text.to_string_lossy();
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn to_json(args: &Args, hits: Vec<Hit>) -> Value {
    let results = hits.into_iter().map(|hit| {
        let text = hit.text.map_or(Value::Null, Value::from);
        let ref_doc_id = hit.ref_doc_id.map_or(Value::Null, Value::from);
        let fields = [
            ("id", hit.id.into()),
            ("score", json_score(hit.score)),
            ("ref_doc_id", ref_doc_id),
            ("text", text),
        ];
        object(fields).into()
    });
    object([
        ("namespace", args.namespace.as_str().into()),
        ("mode", args.mode.as_str().into()),
        ("results", Value::List(results.collect())),
    ])
    .into()
}

/// A score for machines. Where there is none, as at an embedding of zeros, it is printed as null.
fn json_score(score: f64) -> Value {
    // Adding zero takes the sign off a zero.
    (score + 0.0).into()
}

/// A score for people.
fn shown_score(score: f64) -> String {
    let shown = format!("{score:.6}");
    match shown.strip_prefix('-') {
        Some(zero) if !zero.contains(|c: char| c != '0' && c != '.') => zero.to_owned(),
        _ => shown,
    }
}

/// Most characters of a text that are shown to people.
const SHOWN_LEN_MAX: usize = 100;

/// `0.980581  n1  a.txt  First paragraph.`
fn in_words(hit: &Hit) -> String {
    let mut line = format!("{}  {}", shown_score(hit.score), shown_key(hit.id.as_bytes()));
    let ref_doc_id = hit.ref_doc_id.as_ref().map(|id| shown_key(id.as_bytes()));
    // A string takes whatever is written to it.
    let _ = write!(line, "  {}", ref_doc_id.as_deref().unwrap_or("-"));
    if let Some(text) = &hit.text {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        line.push_str("  ");
        line.extend(text.chars().take(SHOWN_LEN_MAX).map(plain));
        if text.chars().nth(SHOWN_LEN_MAX).is_some() {
            line.push_str("...");
        }
    }
    line
}
