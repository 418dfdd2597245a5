//! `kill -9` of a real `ingest` at random moments. After every kill the store must pass `check`
//! and hold each document whole, as it was before or as it is to be; a final run must end in the
//! state of a run that nobody disturbed.
//!
//! `SILTSTONE_KILLS` sets the number of kills (default 40, shared by the scenarios),
//! `SILTSTONE_SEED` repeats a run's choices; the moments themselves depend on the machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use siltstone::Options;
use siltstone::kv::{LogKv, Map, Text};
use siltstone::model::Node;
use siltstone::stores::{DocumentStore, Missing};

/// A document as it is stored, with everything that belongs to it.
#[derive(Debug, PartialEq)]
struct Stored {
    document: Option<Node>,
    hash: Text,
    metadata: Map,
    /// In their order, each with its hash.
    chunks: Vec<(Node, Option<Text>)>,
}

type State = BTreeMap<String, Stored>;

/// What is ingested, how, and from where it starts.
struct Scenario {
    name: &'static str,
    /// Where the program runs.
    dir: PathBuf,
    args: Vec<String>,
    /// The store that a run starts with, if it is not to be a new one.
    start: Option<PathBuf>,
}

/// xorshift64*: the choices of a seed are the same everywhere.
struct Rng(u64);

impl Rng {
    fn new(name: &str) -> Self {
        let seed: u64 = match std::env::var("SILTSTONE_SEED") {
            Ok(seed) => seed.parse().expect("SILTSTONE_SEED is a number"),
            Err(_) => std::process::id().into(),
        };
        say!("{name}: SILTSTONE_SEED={seed}");
        Rng(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }
}

/// Kills of one scenario.
fn kills() -> u32 {
    let all = std::env::var("SILTSTONE_KILLS").map(|n| n.parse().expect("a number")).unwrap_or(40);
    u32::div_ceil(all, 3)
}

fn siltstone(dir: &Path, args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siltstone"));
    command.current_dir(dir).args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn ingest(scenario: &Scenario, store: &Path, durability: &str) -> Command {
    let mut args = vec!["ingest".to_owned(), "--store".to_owned(), store.display().to_string()];
    args.extend(["--durability".to_owned(), durability.to_owned()]);
    args.extend(scenario.args.iter().cloned());
    siltstone(&scenario.dir, &args)
}

/// The store's documents; fails if anything else is in it.
fn state(store: &Path) -> State {
    let kv = LogKv::open_with(store, Options::new().read_only(true).create(false)).unwrap();
    let report = kv.db().check().unwrap();
    assert!(report.is_ok(), "{:?}", report.defects);
    let documents = DocumentStore::new(Arc::new(kv));
    let mut sources = Vec::new();
    documents
        .for_each_source(&mut |id, hash| {
            sources.push((id, hash));
            Ok(())
        })
        .unwrap();
    let mut nodes = 0;
    let mut ref_docs = documents.get_all_ref_doc_info().unwrap();
    let mut state = State::new();
    for (id, hash) in sources {
        let info = ref_docs.remove(&id).unwrap_or_default();
        let chunks = documents.get_nodes(&info.node_ids, Missing::Error).unwrap();
        let document = documents.find_document(&id).unwrap();
        let computed = document.as_ref().map(|document| document.hash().unwrap());
        assert_eq!(computed.as_ref(), Some(&hash), "{id}");
        nodes += 1 + chunks.len() as u64;
        let with_hash = |node: Node| {
            let hash = documents.get_document_hash(&node.id).unwrap();
            (node, hash)
        };
        let chunks = chunks.into_iter().map(with_hash).collect();
        state.insert(id.to_string(), Stored { document, hash, metadata: info.metadata, chunks });
    }
    assert!(ref_docs.is_empty(), "ref docs without a document: {ref_docs:?}");
    assert_eq!(documents.len().unwrap(), nodes, "nodes that belong to no document");
    state
}

fn copy_store(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A store as the scenario starts with.
fn begin(scenario: &Scenario, store: &Path) {
    let _ = fs::remove_dir_all(store);
    if let Some(start) = &scenario.start {
        copy_store(start, store);
    }
}

/// Goal: whatever moment an ingest is killed at, nothing is half there and nothing is lost.
///
/// Method: kill it after a random part of the time that it takes; look at what is there; go on
/// with the same store, killed again, or let it end and compare.
fn kill_at_random_moments(scenario: &Scenario) {
    let mut rng = Rng::new(scenario.name);
    let work = tempfile::tempdir().unwrap();
    let reference = work.path().join("reference");
    begin(scenario, &reference);
    let started = Instant::now();
    assert!(ingest(scenario, &reference, "sync").status().unwrap().success());
    let time = started.elapsed();
    let wanted = state(&reference);
    assert!(wanted.len() > 20, "{} documents", wanted.len());
    let before = scenario.start.as_deref().map(state).unwrap_or_default();

    let store = work.path().join("store");
    begin(scenario, &store);
    let (mut killed, mut midway, mut ends) = (0, 0, 0);
    for attempt in 0.. {
        if killed == kills() {
            break;
        }
        assert!(attempt < 50 * kills(), "{killed} kills only: the runs end too soon");
        let durability = if rng.below(2) == 0 { "sync" } else { "buffered" };
        let micros = u64::try_from(time.as_micros()).unwrap();
        let delay = Duration::from_micros(rng.below(micros + 1));
        let mut child = ingest(scenario, &store, durability).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        let is_done = child.wait().unwrap().success();
        if !is_done {
            killed += 1;
            midway += u32::from(check_whole(&store, &before, &wanted));
        }
        // Mostly go on with what the kill left; now and then see where it ends.
        if is_done || rng.below(3) == 0 {
            assert!(ingest(scenario, &store, durability).status().unwrap().success());
            assert!(state(&store) == wanted, "after kill {killed} the end differs: {store:?}");
            ends += 1;
            begin(scenario, &store);
        }
    }
    assert!(ingest(scenario, &store, "sync").status().unwrap().success());
    assert!(state(&store) == wanted, "at the end");
    say!(
        "{}: {killed} kills, {midway} of them midway, {} runs to the end, {} documents: \
         all equal to an undisturbed run of {time:?}",
        scenario.name,
        ends + 1,
        wanted.len()
    );
}

/// Checks the store after a kill. True if it is neither as before nor as wanted.
fn check_whole(store: &Path, before: &State, wanted: &State) -> bool {
    // Killed before it could make the store.
    if !store.join("MANIFEST").exists() {
        assert!(before.is_empty());
        return false;
    }
    let args = ["check".to_owned(), store.display().to_string()];
    assert!(siltstone(store, &args).status().unwrap().success(), "check fails");
    let found = state(store);
    for (id, document) in &found {
        let versions = [before.get(id), wanted.get(id)];
        assert!(versions.contains(&Some(document)), "{id} is neither old nor new: {document:?}");
    }
    for id in before.keys().filter(|id| wanted.contains_key(*id)) {
        assert!(found.contains_key(id), "{id} is lost");
    }
    found != *before && found != *wanted
}

/// Text that says what it is, so that no two documents are equal.
fn text(rng: &mut Rng, name: &str, version: u32) -> String {
    let lines = 1 + rng.below(120);
    (0..lines)
        .map(|n| format!("{name}, version {version}, line {n}: {}\n", rng.below(1 << 30)))
        .collect()
}

fn generate(dir: &Path, rng: &mut Rng) {
    for n in 0..120 {
        let name = format!("{}/file{n}.txt", n % 7);
        let path = dir.join("tree").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text(rng, &name, 1)).unwrap();
    }
}

fn args(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

#[test]
fn a_new_store_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    generate(dir.path(), &mut Rng::new("tree"));
    kill_at_random_moments(&Scenario {
        name: "new",
        dir: dir.path().to_owned(),
        args: args(&["tree", "--batch", "2", "--chunk-size", "300", "--chunk-overlap", "30"]),
        start: None,
    });
}

#[test]
fn replacing_and_deleting_documents_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut rng = Rng::new("tree");
    generate(dir, &mut rng);
    let sizes = ["--batch", "2", "--chunk-size", "300", "--chunk-overlap", "30"];
    let mut first = args(&["ingest", "tree", "--store", "start"]);
    first.extend(args(&sizes));
    assert!(siltstone(dir, &first).status().unwrap().success());
    // A third changes, a third stays, a third goes; some come.
    for n in 0..140 {
        let name = format!("{}/file{n}.txt", n % 7);
        match n % 3 {
            0 => fs::write(dir.join("tree").join(&name), text(&mut rng, &name, 2)).unwrap(),
            1 if n < 120 => fs::remove_file(dir.join("tree").join(&name)).unwrap(),
            _ => {}
        }
    }
    let mut all = args(&["tree", "--strategy", "upserts-and-delete"]);
    all.extend(args(&sizes));
    kill_at_random_moments(&Scenario {
        name: "changed",
        dir: dir.to_owned(),
        args: all,
        start: Some(dir.join("start")),
    });
}

#[test]
fn the_repository_s_own_sources_survive_kills() {
    kill_at_random_moments(&Scenario {
        name: "sources",
        dir: env!("CARGO_MANIFEST_DIR").into(),
        args: args(&["src", "benches", "Cargo.toml", "--batch", "4"]),
        start: None,
    });
}
