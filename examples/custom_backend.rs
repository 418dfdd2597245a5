//! A key-value store of one's own below LlamaIndex's stores: an ordered map in memory, and one
//! file to which each batch is appended. It passes the conformance suite, survives a cut anywhere
//! in its last batch, and carries every store of the crate.
//!
//! ```text
//! cargo run --release --features testing --example custom_backend
//! ```
//!
//! The file is `MAGIC`, then a frame for each batch: length of the body (`u64`), checksum of the
//! body (`u32`), body; numbers are little-endian. A body is the operations one after another: a
//! byte for the kind, and its texts, each after its length (`u32`). What a power cut leaves: whole
//! frames up to some point, at least all that were synced, and perhaps a piece of one more, which
//! the next open cuts off. Unlike Siltstone's own log it cannot tell a torn end from damage in the
//! middle: it keeps what comes before either, and says how much it cut.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::{Mutex, RwLock};
use siltstone::kv::{BoxFuture, KvBatch, KvBytes, KvError, KvOp, KvStore, Value, Written, codec};
use siltstone::model::{ChatMessage, LabelledNode, MessageRole, Node, Relation};
use siltstone::stores::{
    AddOptions, ChatQueue, ChatStore, DocumentStore, GraphFilter, GraphStore, IndexStore,
    IndexStruct, MessageStatus, PropertyGraphStore, StoreError, StructKind, StructMethods,
    VectorQuery, VectorStore,
};
use siltstone::testing::kv_contract::{self, Reopen};
use siltstone::{Durability, StorageContext};

const MAGIC: &[u8] = b"ordered1";
/// Length and checksum of a frame.
const HEADER_LEN: usize = 12;

/// The store. Clones share it; only one may be open on a file.
#[derive(Clone)]
struct OrderedKv {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    state: RwLock<State>,
    /// What the open cut off, in bytes.
    cut_len: usize,
}

#[derive(Default)]
struct State {
    collections: BTreeMap<String, BTreeMap<Vec<u8>, Arc<[u8]>>>,
    /// Where the next frame goes.
    file_len: u64,
    /// A write or a sync failed in such a way that nobody knows what the file holds.
    is_broken: bool,
}

impl State {
    /// Applies an operation; true if it is a deletion that found its key.
    fn apply(&mut self, op: KvOp<'_>) -> bool {
        match op {
            KvOp::Put { collection, key, value } => {
                let found = self.collections.entry(collection.to_owned()).or_default();
                found.insert(key.to_vec(), value.into());
                false
            }
            KvOp::Delete { collection, key } => {
                let found = self.collections.get_mut(collection);
                found.is_some_and(|found| found.remove(key).is_some())
            }
            KvOp::Clear { collection } => {
                self.collections.entry(collection.to_owned()).or_default().clear();
                false
            }
        }
    }

    /// Everything as one frame: each collection, then what is in it.
    fn frame(&self) -> Vec<u8> {
        let clears = self.collections.keys().map(|collection| KvOp::Clear { collection });
        let puts = self.collections.iter().flat_map(|(collection, entries)| {
            entries.iter().map(move |(key, value)| KvOp::Put { collection, key, value })
        });
        frame(clears.chain(puts))
    }
}

fn frame<'a>(ops: impl Iterator<Item = KvOp<'a>>) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    for op in ops {
        let (kind, texts): (u8, &[&[u8]]) = match &op {
            KvOp::Put { collection, key, value } => (0, &[collection.as_bytes(), key, value]),
            KvOp::Delete { collection, key } => (1, &[collection.as_bytes(), key]),
            KvOp::Clear { collection } => (2, &[collection.as_bytes()]),
        };
        frame.push(kind);
        for text in texts {
            // A key, a name and a value are below 4 GiB each: the batch has seen to that.
            frame.extend((text.len() as u32).to_le_bytes());
            frame.extend_from_slice(text);
        }
    }
    let (header, body) = frame.split_at_mut(HEADER_LEN);
    header[..8].copy_from_slice(&(body.len() as u64).to_le_bytes());
    header[8..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    frame
}

/// Splits a piece of this length from `bytes`; `None` if they are not that many.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (piece, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(piece)
}

/// The body of the next frame, if it is whole.
fn take_frame<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
    let sum = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
    take(bytes, usize::try_from(len).ok()?).filter(|body| crc32fast::hash(body) == sum)
}

/// The next operation of a body.
fn take_op<'a>(body: &mut &'a [u8]) -> Option<KvOp<'a>> {
    fn text<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(take(body, 4)?.try_into().ok()?);
        take(body, len as usize)
    }
    let [kind] = take(body, 1)? else { return None };
    let collection = std::str::from_utf8(text(body)?).ok()?;
    match kind {
        0 => Some(KvOp::Put { collection, key: text(body)?, value: text(body)? }),
        1 => Some(KvOp::Delete { collection, key: text(body)? }),
        2 => Some(KvOp::Clear { collection }),
        _ => None,
    }
}

impl OrderedKv {
    /// Opens the store in the file `path`, creating it if there is none.
    fn open(path: &Path) -> io::Result<Self> {
        let found = match fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found?,
        };
        let mut state = State::default();
        let mut rest = &found[..];
        let is_ours = take(&mut rest, MAGIC.len()) == Some(MAGIC);
        if !is_ours && !MAGIC.starts_with(&found) {
            return Err(io::Error::other(format!("{} is no ordered store", path.display())));
        }
        let mut whole = rest;
        while let Some(mut body) = take_frame(&mut rest) {
            while let Some(op) = take_op(&mut body) {
                state.apply(op);
            }
            whole = rest;
        }
        let kept = state.frame();
        if !is_ours || found.len() > 2 * (MAGIC.len() + kept.len()) {
            // Mostly of the past, or new: written anew under another name, and durable before it
            // takes the place of the old one. A power cut leaves one of the two.
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&[MAGIC, &kept].concat())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
            state.file_len = (MAGIC.len() + kept.len()) as u64;
        } else {
            state.file_len = (found.len() - whole.len()) as u64;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(state.file_len)?;
        let inner = Inner { file, state: RwLock::new(state), cut_len: whole.len() };
        Ok(OrderedKv { inner: Arc::new(inner) })
    }

    fn apply(&self, batch: &KvBatch, durability: Durability) -> Result<Written, KvError> {
        let mut state = self.inner.state.write();
        if state.is_broken {
            return Err(KvError::custom("an earlier write failed", "open the store again"));
        }
        let frame = frame(batch.ops());
        // One lock for the file and the map: batches are seen in the order in which they are kept.
        if let Err(error) = (&self.inner.file).write_all(&frame) {
            // Nothing after a half frame would ever be read.
            state.is_broken = self.inner.file.set_len(state.file_len).is_err();
            return Err(KvError::custom("cannot append, nothing was written", error));
        }
        state.file_len += frame.len() as u64;
        let deleted = batch.ops().map(|op| u64::from(state.apply(op))).sum();
        drop(state);
        if durability == Durability::Sync {
            self.sync()?;
        }
        Ok(Written { deleted })
    }

    /// Runs `work` on a thread of its own.
    fn elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OrderedKv) -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let shared = Arc::new(Mutex::new((None::<T>, None::<Waker>)));
        let (kv, done) = (self.clone(), Arc::clone(&shared));
        std::thread::spawn(move || {
            let result = work(&kv);
            let mut done = done.lock();
            done.0 = Some(result);
            done.1.take().map(Waker::wake)
        });
        Box::pin(std::future::poll_fn(move |context| {
            let mut shared = shared.lock();
            if let Some(result) = shared.0.take() {
                return Poll::Ready(result);
            }
            shared.1 = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    fn bytes(&self, collection: &str, key: &[u8]) -> Option<Arc<[u8]>> {
        self.inner.state.read().collections.get(collection)?.get(key).cloned()
    }
}

fn decode(collection: &str, key: &[u8], bytes: &[u8]) -> Result<Value, KvError> {
    codec::decode(bytes).map_err(|e| KvError::decode(collection, key, e))
}

impl KvStore for OrderedKv {
    fn get(&self, collection: &str, key: &[u8]) -> Result<Option<Value>, KvError> {
        self.bytes(collection, key).map(|bytes| decode(collection, key, &bytes)).transpose()
    }

    /// Has a default; here the bytes are at hand.
    fn get_bytes(&self, collection: &str, key: &[u8]) -> Result<Option<KvBytes>, KvError> {
        Ok(self.bytes(collection, key).map(KvBytes::from))
    }

    fn contains(&self, collection: &str, key: &[u8]) -> Result<bool, KvError> {
        Ok(self.bytes(collection, key).is_some())
    }

    fn scan(
        &self,
        collection: &str,
        visit: &mut dyn FnMut(&[u8], Value) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        // Not under the lock: `visit` may use the store.
        let found = self.inner.state.read().collections.get(collection).cloned();
        for (key, bytes) in found.unwrap_or_default() {
            visit(&key, decode(collection, &key, &bytes)?)?;
        }
        Ok(())
    }

    fn len(&self, collection: &str) -> Result<u64, KvError> {
        let state = self.inner.state.read();
        Ok(state.collections.get(collection).map_or(0, |found| found.len() as u64))
    }

    fn collections(&self) -> Result<Vec<(String, u64)>, KvError> {
        let state = self.inner.state.read();
        Ok(state
            .collections
            .iter()
            .map(|(name, found)| (name.clone(), found.len() as u64))
            .collect())
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<Written, KvError> {
        self.apply(&batch, durability)
    }

    fn write_async<'a>(
        &'a self,
        batch: KvBatch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<Written, KvError>> {
        self.elsewhere(move |kv| kv.apply(&batch, durability))
    }

    fn sync(&self) -> Result<(), KvError> {
        self.inner.file.sync_data().map_err(|error| {
            // The system may have dropped what it could not write: a later sync proves nothing.
            self.inner.state.write().is_broken = true;
            KvError::custom("cannot sync, what was written lately may not last", error)
        })
    }

    fn sync_async<'a>(&'a self) -> BoxFuture<'a, Result<(), KvError>> {
        self.elsewhere(OrderedKv::sync)
    }
}

/// For the half of the suite that closes the store and opens it again.
struct OnFile {
    path: PathBuf,
    kv: Option<OrderedKv>,
}

impl Reopen for OnFile {
    fn store(&self) -> &dyn KvStore {
        self.kv.as_ref().expect("it is open but within `reopen`")
    }

    fn reopen(&mut self) {
        self.kv = None;
        self.kv = Some(OrderedKv::open(&self.path).expect("a store that can be opened again"));
    }
}

fn conformance(dir: &Path) {
    let number = AtomicUsize::new(0);
    let fresh = || {
        let path = dir.join(format!("suite-{}", number.fetch_add(1, Ordering::Relaxed)));
        OnFile { kv: Some(OrderedKv::open(&path).expect("a new store")), path }
    };
    kv_contract::run(&|| Box::new(fresh().kv.expect("a new store")));
    kv_contract::run_reopened(&|| Box::new(fresh()));
}

/// Cuts the file everywhere in its last batch: what is left is the state before it.
fn cuts(dir: &Path) -> Result<usize, Box<dyn Error>> {
    let (path, cut) = (dir.join("whole"), dir.join("cut"));
    let kv = OrderedKv::open(&path)?;
    kv.put("a", b"k", &Value::from("before"))?;
    let before = fs::read(&path)?.len();
    let mut batch = KvBatch::new();
    batch.put("a", b"k", &Value::from("after"))?;
    batch.put("b", b"k", &Value::from("after"))?;
    kv.write(batch, Durability::Sync)?;
    let bytes = fs::read(&path)?;
    for len in before..bytes.len() {
        fs::write(&cut, &bytes[..len])?;
        let kv = OrderedKv::open(&cut)?;
        assert_eq!(kv.inner.cut_len, len - before, "it says what it cut");
        assert_eq!(kv.get("a", b"k")?, Some(Value::from("before")), "cut to {len} bytes");
        assert_eq!(kv.len("b")?, 0, "cut to {len} bytes");
        kv.put("a", b"more", &Value::from(1))?;
        drop(kv);
        assert_eq!(OrderedKv::open(&cut)?.len("a")?, 2, "it goes on after a cut");
    }
    Ok(bytes.len() - before)
}

fn fill(kv: &Arc<dyn KvStore>) -> Result<(), StoreError> {
    // Both or none, in one batch of the backend.
    StorageContext::from_kv(kv.clone()).transaction(|context| -> Result<(), StoreError> {
        let nodes = ["Basalt is dark.", "Siltstone keeps what settles."].map(|text| {
            let id = text.split(' ').next().unwrap_or_default();
            Node::text(id, text).with_source("stones.txt")
        });
        context.docstore().add_documents(&nodes, &AddOptions::default())?;
        context.graph_store().upsert_triplet("silt", "becomes", "siltstone")
    })?;
    let index = IndexStore::new(kv.clone());
    index.add_index_struct(&IndexStruct::new(StructKind::VectorStore, "stones"))?;
    index.add_node("stones", "Siltstone")?;
    let graph = PropertyGraphStore::new(kv.clone());
    graph.upsert_nodes(&[LabelledNode::entity("silt").with_property("grain", 0.03)])?;
    graph.upsert_relations(&[Relation::new("silt", "BECOMES", "siltstone")])?;
    let mut nodes = Vec::new();
    for (id, embedding) in [("Basalt", [1.0, 0.0]), ("Siltstone", [0.0, 1.0])] {
        let mut node = Node::text(id, "").with_source("stones.txt");
        node.embedding = Some(embedding.to_vec());
        nodes.push(node);
    }
    VectorStore::new(kv.clone()).add(&nodes)?;
    let message = ChatMessage::new(MessageRole::User, "What is siltstone?");
    ChatStore::new(kv.clone()).add_message("talk", &message, None)?;
    ChatQueue::new(kv.clone()).add_message("talk", &message, MessageStatus::Active)?;
    Ok(kv.persist()?)
}

fn show(kv: &Arc<dyn KvStore>) -> Result<(), Box<dyn Error>> {
    let node = DocumentStore::new(kv.clone()).get_document("Siltstone")?;
    println!("document store        {}", node.content_text());
    let index = IndexStore::new(kv.clone()).get_index_struct("stones")?;
    println!("index store           {} node in the index", index.ok_or("no index")?.size()?);
    let edges = GraphStore::new(kv.clone()).get("silt")?;
    println!("graph store           silt {} {}", edges[0].0, edges[0].1);
    let graph = PropertyGraphStore::new(kv.clone());
    let found = graph.get_triplets(&GraphFilter::relations(["BECOMES"]))?;
    println!("property graph store  {} {:?}", found[0].source.id, found[0].source.properties);
    let query = VectorQuery::new([0.2, 0.9], 1);
    println!(
        "vector store          nearest: {}",
        VectorStore::new(kv.clone()).query(&query)?.ids[0]
    );
    let messages = ChatStore::new(kv.clone()).get_messages("talk")?;
    println!("chat store            {}", messages[0].content().ok_or("no text")?);
    let count = ChatQueue::new(kv.clone()).count_messages("talk", None)?;
    println!("chat queue            {count} message");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    conformance(dir.path());
    println!("the conformance suite holds, also when the store is opened again");
    println!("cut at each of the {} bytes of a batch: all of it or nothing", cuts(dir.path())?);

    let path = dir.path().join("stones");
    fill(&(Arc::new(OrderedKv::open(&path)?) as Arc<dyn KvStore>))?;
    let kv: Arc<dyn KvStore> = Arc::new(OrderedKv::open(&path)?);
    show(&kv)?;
    let collections = kv.collections()?;
    let records: u64 = collections.iter().map(|(_, records)| records).sum();
    println!(
        "{records} records in {} collections, {} bytes in one file",
        collections.len(),
        fs::metadata(&path)?.len()
    );
    // The same records in Siltstone's log: any store moves from one backend to the other.
    let log = siltstone::kv::LogKv::open(dir.path().join("log"))?;
    for (name, _) in &collections {
        kv.scan(name, &mut |key, value| log.put(name, key, &value))?;
    }
    log.persist()?;
    let moved = DocumentStore::new(Arc::new(log)).get_document("Basalt")?;
    println!("moved into a log: {}", moved.content_text());
    Ok(())
}
