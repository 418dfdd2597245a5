//! Replays traces recorded from the real Python library.
//!
//! Reads every `*.json` in the folder named by `SILTSTONE_GOLDEN_DIR`, by default the copies in
//! `tests/golden/traces`, and runs those whose store exists on every key-value store. Prints one
//! line for each trace that failed or was skipped, with the reason, then
//! `golden: N passed, N failed, N skipped`; fails if a trace failed or none was run.
//!
//! Where Siltstone is right and the original is not, `tests/golden/overrides/NAME.json` names the
//! operations of trace NAME that differ, what they give instead, and why.

#![expect(clippy::print_stdout, reason = "the report is this program's output")]

#[path = "golden/chat.rs"]
mod chat;
#[path = "golden/compare.rs"]
mod compare;
#[path = "golden/context.rs"]
mod context;
#[path = "golden/docstore.rs"]
mod docstore;
#[path = "golden/graph.rs"]
mod graph;
#[path = "golden/index_store.rs"]
mod index_store;
#[path = "golden/ingestion.rs"]
mod ingestion;
#[path = "golden/kvstore.rs"]
mod kvstore;
#[path = "golden/property_graph.rs"]
mod property_graph;
#[path = "golden/reload.rs"]
mod reload;
#[path = "golden/vector.rs"]
mod vector;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use siltstone::kv::{KvStore, LogKv, Map, MemoryKv, Value, json};

/// A key-value store that can be closed and opened again.
pub trait Backend {
    /// How it is called in messages.
    fn name(&self) -> &'static str;

    /// Opens it. What an earlier `open` returned was dropped before.
    fn open(&mut self) -> Arc<dyn KvStore>;
}

/// In memory; "closing" keeps it.
struct Memory(Arc<MemoryKv>);

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "MemoryKv"
    }

    fn open(&mut self) -> Arc<dyn KvStore> {
        self.0.clone()
    }
}

/// In the log engine; closing and opening goes through the files.
struct Log(tempfile::TempDir);

impl Backend for Log {
    fn name(&self) -> &'static str {
        "LogKv"
    }

    fn open(&mut self) -> Arc<dyn KvStore> {
        Arc::new(LogKv::open(self.0.path()).expect("a directory of our own opens"))
    }
}

/// Every kind of store, empty.
fn backends() -> Vec<Box<dyn Backend>> {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    vec![Box::new(Memory(Arc::new(MemoryKv::new()))), Box::new(Log(dir))]
}

/// One operation of a trace.
pub struct Op<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments.
    pub args: &'a Value,
}

/// What an operation did: a value, or an error's Python class and message.
pub type Outcome = Result<Value, Raised>;

/// An error, as Python would have it.
pub struct Raised {
    /// The exception's class.
    pub class: &'static str,
    /// The exception's message.
    pub message: String,
}

/// Something that runs operations.
pub trait Runner {
    /// Runs one; `Err` if the operation is not known or its arguments make no sense.
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String>;
}

fn main() -> ExitCode {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = std::env::var_os("SILTSTONE_GOLDEN_DIR").map_or(home.join("traces"), PathBuf::from);
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(&dir) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(e) => {
            println!("golden: cannot read {}: {e}", dir.display());
            return ExitCode::FAILURE;
        }
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match replay(&path, &home.join("overrides").join(format!("{name}.json"))) {
            Ok(None) => passed += 1,
            Ok(Some(reason)) => {
                skipped += 1;
                println!("skipped {name}: {reason}");
            }
            Err(reason) => {
                failed += 1;
                println!("FAILED {name}: {reason}");
            }
        }
    }
    println!("golden: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Replays one trace on every backend; `Ok(Some(reason))` if it was skipped.
fn replay(path: &Path, overrides: &Path) -> Result<Option<String>, String> {
    let trace = read(path)?;
    let overrides = match overrides.exists() {
        true => read(overrides)?,
        false => Map::new().into(),
    };
    let store = trace.get("store").and_then(Value::as_text).map(ToString::to_string);
    let store = store.ok_or("the trace names no store")?;
    let known = [
        "chat_store",
        "ingestion_cache",
        "ingestion_pipeline",
        "kvstore",
        "docstore",
        "graph_store",
        "index_store",
        "property_graph_store",
        "storage_context",
        "sql_chat_store",
        "vector_store",
    ];
    if !known.contains(&store.as_str()) {
        return Ok(Some(format!("there is no {store} yet")));
    }
    let empty = Map::new().into();
    let init = trace.get("init").unwrap_or(&empty);
    for mut backend in backends() {
        let name = backend.name();
        let mut runner: Box<dyn Runner + '_> = match store.as_str() {
            "chat_store" => Box::new(chat::ChatRunner::new(&mut *backend)),
            "sql_chat_store" => Box::new(chat::QueueRunner::new(&mut *backend)),
            "ingestion_cache" => Box::new(ingestion::CacheRunner::new(&mut *backend)),
            "ingestion_pipeline" => Box::new(ingestion::PipelineRunner::new(&mut *backend, init)?),
            "kvstore" => Box::new(kvstore::KvRunner::new(&mut *backend, init)?),
            "index_store" => Box::new(index_store::IndexRunner::new(&mut *backend, init)?),
            "storage_context" => Box::new(context::ContextRunner::new(&mut *backend)),
            "graph_store" => Box::new(graph::GraphRunner::new(&mut *backend, init)?),
            "vector_store" => Box::new(vector::VectorRunner::new(&mut *backend, init)?),
            "property_graph_store" => {
                Box::new(property_graph::PropertyGraphRunner::new(&mut *backend, init)?)
            }
            _ => Box::new(docstore::DocRunner::new(&mut *backend, init)?),
        };
        replay_on(&mut *runner, &trace, &overrides).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(None)
}

fn replay_on(runner: &mut dyn Runner, trace: &Value, overrides: &Value) -> Result<(), String> {
    let ops = trace.get("ops").and_then(Value::as_list).ok_or("the trace has no operations")?;
    let overrides = overrides.get("ops").and_then(Value::as_map);
    let mut used = 0;
    for (index, recorded) in ops.iter().enumerate() {
        let name = recorded.get("op").and_then(Value::as_text).and_then(|name| name.as_str());
        let name = name.ok_or_else(|| format!("operation {index} has no name"))?;
        let args = recorded.get("args").ok_or_else(|| format!("operation {index}: no args"))?;
        let outcome = runner.run(&Op { name, args });
        let outcome = outcome.map_err(|e| format!("operation {index} ({name}): {e}"))?;
        let corrected = overrides.and_then(|overrides| overrides.get(index.to_string()));
        used += usize::from(corrected.is_some());
        compare::check(name, corrected.unwrap_or(recorded), outcome)
            .map_err(|e| format!("operation {index} ({name}): {e}"))?;
    }
    if used != overrides.map_or(0, Map::len) {
        return Err("the override names operations that the trace does not have".to_owned());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let value = json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(compare::decode_floats(value))
}
