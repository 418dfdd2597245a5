//! Import and export of what LlamaIndex persists.
//!
//! The directories are those of `tests/golden/persist`, written by the original; more can be given
//! as a folder in `SILTSTONE_PERSIST_DIR`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: panics and reports")]

mod directory;
mod dirs;
mod errors;
mod kept;
mod left_out;
mod memory;
mod round_trip;
mod salvage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siltstone::kv::{KvStore, LogKv, MemoryKv, Value, json};
use siltstone::transfer::{
    FileNames, Import, ImportOptions, ImportReport, Source, TransferError, export,
};

use dirs::Files;

/// Everything in a store: collection, key, value.
type Everything = BTreeMap<(String, Vec<u8>), Value>;

fn everything(kv: &dyn KvStore) -> Everything {
    let mut all = BTreeMap::new();
    for (collection, _) in kv.collections().unwrap() {
        for (key, value) in kv.get_all(&collection).unwrap() {
            all.insert((collection.clone(), key), value);
        }
    }
    all
}

fn import(
    source: &dyn Source,
    kv: &Arc<dyn KvStore>,
    options: ImportOptions,
) -> Result<ImportReport, TransferError> {
    Import::check(source, options, &mut |_, _| {})?.write(kv, &mut |_, _| {})
}

fn import_to_log(
    source: &dyn Source,
    log: &LogKv,
    options: ImportOptions,
) -> Result<ImportReport, TransferError> {
    Import::check(source, options, &mut |_, _| {})?.write_to_log(log, &mut |_, _| {})
}

fn exported(kv: &Arc<dyn KvStore>) -> Files {
    let mut files = Files::default();
    let report = export(kv, &mut files, &FileNames::default(), &mut |_, _| {}).unwrap();
    assert_eq!(report.left_out, []);
    files
}

fn memory() -> Arc<dyn KvStore> {
    Arc::new(MemoryKv::new())
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/persist").join(name)
}

/// All directories and single files to be imported.
fn inputs() -> Vec<PathBuf> {
    let mut folders = vec![golden("")];
    folders.extend(std::env::var_os("SILTSTONE_PERSIST_DIR").map(PathBuf::from));
    let mut inputs = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(&folder).unwrap();
        inputs.extend(entries.map(|entry| entry.unwrap().path()));
    }
    inputs.sort();
    inputs
}

fn parse(text: &[u8]) -> Value {
    json::from_slice(text).unwrap()
}
