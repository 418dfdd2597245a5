//! Siltstone's column of a table whose other column is LlamaIndex: `compare.py`, beside this file,
//! makes the input, runs both, and prints the table.
//!
//! ```text
//! python3 benches/compare_llamaindex/compare.py
//! ```
//!
//! Each step is a process of its own, so that the peak of its memory is that step's. A step prints
//! one line for each figure: its name and its value, in seconds or bytes.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use siltstone::StorageContext;
use siltstone::model::Node;
use siltstone::stores::{AddOptions, IndexStruct, StructKind, StructMethods, VectorQuery};

/// These are the same in `compare.py`.
const DIM: usize = 384;
const TEXT_LEN: usize = 1024;
const BATCH: usize = 1_000;
const NODES_PER_REF_DOC: usize = 100;
const TOP_K: usize = 10;
/// How often one node is added and everything persisted.
const CHANGES: usize = 5;

/// How often each query is asked after the first time.
const REPEATS: usize = 20;

struct Input {
    nodes: usize,
    vectors: usize,
    queries: usize,
    /// The embeddings, those of the nodes added later, and the queries, as little-endian f32.
    floats: File,
    store: PathBuf,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [step, dir, nodes, vectors, queries] = &args[..] else {
        println!("Run it with python3 benches/compare_llamaindex/compare.py");
        return;
    };
    let dir = Path::new(dir);
    let input = Input {
        nodes: nodes.parse().unwrap(),
        vectors: vectors.parse().unwrap(),
        queries: queries.parse().unwrap(),
        floats: File::open(dir.join("floats")).unwrap(),
        store: dir.join("siltstone"),
    };
    figure("memory_before", memory("VmHWM"));
    match step.as_str() {
        "write" => write(&input),
        "read" => read(&input),
        _ => panic!("no such step: {step}"),
    }
    figure("memory_peak", memory("VmHWM"));
}

impl Input {
    fn embedding(&self, row: usize) -> Vec<f64> {
        let mut bytes = [0; 4 * DIM];
        self.floats.read_exact_at(&mut bytes, (row * 4 * DIM) as u64).unwrap();
        let (floats, _) = bytes.as_chunks::<4>();
        floats.iter().map(|float| f64::from(f32::from_le_bytes(*float))).collect()
    }

    fn node(&self, i: usize) -> Node {
        let mut text = format!("{i} ");
        while text.len() < TEXT_LEN {
            text.push_str("Siltstone is what settles. ");
        }
        text.truncate(TEXT_LEN);
        let source = format!("doc-{}", i / NODES_PER_REF_DOC);
        let mut node = Node::text(format!("node-{i}"), text).with_source(source);
        node.metadata.insert("page", (i % NODES_PER_REF_DOC) as i64);
        node
    }
}

/// Adds nodes to all stores, those up to `vectors` with their embeddings.
fn add(context: &StorageContext, nodes: &[Node], embedded: &[Node]) {
    context.docstore().add_documents(nodes, &AddOptions::default()).unwrap();
    context.vector_store().unwrap().add(embedded).unwrap();
    let enter = |index: &mut siltstone::stores::StoredStruct<'_>| {
        embedded.iter().try_for_each(|node| index.add_node(&node.id))
    };
    context.index_store().edit("index", enter).unwrap();
}

fn embedded(input: &Input, nodes: &[Node], start: usize) -> Vec<Node> {
    let with = |(i, node): (usize, &Node)| {
        let mut node = node.clone();
        node.embedding = Some(input.embedding(start + i));
        node
    };
    let count = input.vectors.saturating_sub(start).min(nodes.len());
    nodes.iter().take(count).enumerate().map(with).collect()
}

fn write(input: &Input) {
    let context = StorageContext::open(&input.store).unwrap();
    let mut took = 0.0;
    let index = IndexStruct::new(StructKind::VectorStore, "index");
    context.index_store().add_index_struct(&index).unwrap();
    for start in (0..input.nodes).step_by(BATCH) {
        let end = input.nodes.min(start + BATCH);
        let nodes: Vec<Node> = (start..end).map(|i| input.node(i)).collect();
        let embedded = embedded(input, &nodes, start);
        took += time(|| add(&context, &nodes, &embedded));
    }
    figure("add", took);
    figure("persist", time(|| context.persist().unwrap()));
    let mut times = Vec::new();
    for i in 0..CHANGES {
        let nodes = [input.node(input.nodes + i)];
        let mut embedded = nodes.to_vec();
        embedded[0].embedding = Some(input.embedding(input.vectors + i));
        times.push(time(|| {
            add(&context, &nodes, &embedded);
            context.persist().unwrap();
        }));
    }
    figure("change", median(times));
}

fn read(input: &Input) {
    let queries: Vec<VectorQuery> = (0..input.queries)
        .map(|i| VectorQuery::new(input.embedding(input.vectors + CHANGES + i), TOP_K))
        .collect();
    let mut opened = None;
    figure("load", time(|| opened = Some(StorageContext::open(&input.store).unwrap())));
    let context = opened.unwrap();
    let store = context.vector_store().unwrap();
    figure("first_query", time(|| drop(black_box(store.query(&queries[0]).unwrap()))));
    let mut times = Vec::new();
    for query in &queries {
        let ids = store.query(query).unwrap().ids;
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        println!("ids {}", ids.join(","));
    }
    for _ in 0..REPEATS {
        for query in &queries {
            times.push(time(|| drop(black_box(store.query(query).unwrap()))));
        }
    }
    figure("query", median(times));
    let node = context.docstore().get_document(format!("node-{}", input.nodes - 1)).unwrap();
    assert_eq!(node.content_text().as_bytes().len(), TEXT_LEN);
}

fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn figure(name: &str, value: f64) {
    println!("{name} {value}");
}

/// A line of what Linux tells of this process, in bytes.
fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: f64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    kib * 1024.0
}
