//! Vector stores in half precision, against plain ones that are given the rounded embeddings.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::sync::Arc;

use siltstone::kv::{KvStore, LogKv, Map, MemoryKv, Text};
use siltstone::stores::{MetadataFilters, QueryMode, VectorEntry, VectorQuery, VectorStore};

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    /// A number of random sign and size, now and then one that ranks oddly.
    fn float(&mut self) -> f64 {
        let size = 10f64.powi(self.below(9) as i32 - 5);
        match self.below(400) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => 0.0,
            _ => (self.below(2_000_001) as f64 / 1e6 - 1.0) * size,
        }
    }
}

fn entry(rng: &mut Rng, id: u64, dim: u64) -> VectorEntry {
    let mut metadata = Map::new();
    metadata.insert("third", id % 3);
    VectorEntry {
        id: format!("n{id}").into(),
        embedding: (0..dim).map(|_| rng.float()).collect(),
        ref_doc_id: Some(format!("d{}", id % 5).into()),
        metadata: Some(metadata),
    }
}

/// What a half store makes of an embedding: asked of a store that holds nothing else.
fn rounded(entry: &VectorEntry) -> VectorEntry {
    let store = VectorStore::new(Arc::new(MemoryKv::new()));
    store.keep_half_precision().unwrap();
    store.add_entries(std::slice::from_ref(entry)).unwrap();
    VectorEntry { embedding: store.get(entry.id.clone()).unwrap(), ..entry.clone() }
}

fn bits(floats: &[f64]) -> Vec<u64> {
    floats.iter().map(|f| if f.is_nan() { 0 } else { f.to_bits() }).collect()
}

fn same(half: &VectorStore, plain: &VectorStore, rng: &mut Rng, dim: u64) {
    let ids = plain.ids().unwrap();
    assert_eq!(half.ids().unwrap(), ids);
    for id in ids {
        let (a, b) = (half.get(id.clone()).unwrap(), plain.get(id).unwrap());
        assert_eq!(bits(&a), bits(&b));
    }
    for mode in [QueryMode::Default, QueryMode::DotProduct, QueryMode::Euclidean, QueryMode::Mmr] {
        for filter in ["", "third == 1"] {
            let embedding: Vec<f64> = (0..dim)
                .map(|_| rng.float())
                .map(|f| if f.is_finite() { f } else { 0.5 })
                .collect();
            let mut query = VectorQuery::new(embedding, 1 + rng.below(12) as usize);
            query.mode = mode;
            if !filter.is_empty() {
                query.filters = Some(MetadataFilters::parse(filter).unwrap());
            }
            let (a, b) = (half.query(&query).unwrap(), plain.query(&query).unwrap());
            assert_eq!(a.ids, b.ids, "{mode:?} {filter}");
            assert_eq!(bits(&a.similarities), bits(&b.similarities), "{mode:?} {filter}");
        }
    }
}

/// Goal: a half store is a plain one of rounded embeddings, whatever happens to it and whatever the
/// dimension. Method: random changes to both, in memory and in a log that is opened again.
#[test]
fn it_is_a_plain_store_of_rounded_embeddings() {
    for (seed, dim) in [1, 2, 7, 16, 31, 63, 64, 65, 127, 130].into_iter().enumerate() {
        eprintln!("seed {seed}, dimension {dim}");
        let mut rng = Rng(seed as u64 * 7919 + 1);
        let dir = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn KvStore> { Arc::new(LogKv::open(dir.path()).unwrap()) };
        let memory: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
        let mut log = VectorStore::new(open());
        let in_memory = VectorStore::new(memory.clone());
        let plain = VectorStore::new(Arc::new(MemoryKv::new()));
        log.keep_half_precision().unwrap();
        in_memory.keep_half_precision().unwrap();
        for _ in 0..40 {
            match rng.below(10) {
                0..6 => {
                    let count = 1 + rng.below(30);
                    let entries: Vec<_> = (0..count)
                        .map(|_| {
                            let id = rng.below(300);
                            entry(&mut rng, id, dim)
                        })
                        .collect();
                    log.add_entries(&entries).unwrap();
                    in_memory.add_entries(&entries).unwrap();
                    let entries: Vec<_> = entries.iter().map(rounded).collect();
                    plain.add_entries(&entries).unwrap();
                }
                6..8 => {
                    let ids: Vec<Text> =
                        (0..20).map(|_| format!("n{}", rng.below(300)).into()).collect();
                    for store in [&log, &in_memory, &plain] {
                        store.delete_nodes(Some(&ids), None).unwrap();
                    }
                }
                8 => {
                    let id = format!("d{}", rng.below(5));
                    for store in [&log, &in_memory, &plain] {
                        store.delete(id.as_str()).unwrap();
                    }
                }
                _ => {
                    log.persist().unwrap();
                    drop(log);
                    log = VectorStore::new(open());
                    // The precision is the store's own: nobody says it again.
                }
            }
        }
        same(&log, &plain, &mut rng, dim);
        same(&in_memory, &plain, &mut rng, dim);
        same(&VectorStore::new(memory), &plain, &mut rng, dim);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_added() {
    let store = VectorStore::new(Arc::new(MemoryKv::new()));
    store.keep_half_precision().unwrap();
    let of = |id: &str, embedding: &[f64]| VectorEntry {
        id: id.into(),
        embedding: embedding.to_vec(),
        ..VectorEntry::default()
    };
    let error = store.add_entries(&[of("a", &[1.0]), of("b", &[65520.0])]).unwrap_err().to_string();
    assert!(error.contains("number 1 of the embedding of b is 65520"), "{error}");
    assert!(store.is_empty().unwrap());
    store.add_entries(&[of("a", &[65519.0])]).unwrap();
    assert_eq!(store.get("a").unwrap(), [65504.0]);
    // It stays so when it is emptied.
    store.clear().unwrap();
    store.add_entries(&[of("a", &[0.1])]).unwrap();
    assert_eq!(store.get("a").unwrap(), [0.0999755859375]);
    store.keep_half_precision().unwrap();

    let plain = VectorStore::with_namespace(Arc::new(MemoryKv::new()), "plain");
    plain.add_entries(&[of("a", &[0.1])]).unwrap();
    let error = plain.keep_half_precision().unwrap_err().to_string();
    assert!(error.contains("cannot change its precision"), "{error}");
    assert_eq!(plain.get("a").unwrap(), [0.1]);
}

/// Goal: it takes half the room. Method: the longest record of the blocks.
#[test]
fn it_takes_half_the_room() {
    let len = |is_half: bool| {
        let kv = Arc::new(MemoryKv::new());
        let store = VectorStore::new(kv.clone());
        if is_half {
            store.keep_half_precision().unwrap();
        }
        let mut rng = Rng(5);
        let entries: Vec<_> = (0..64)
            .map(|n| {
                let mut entry = entry(&mut rng, n, 384);
                entry.embedding.iter_mut().for_each(|float| *float = f64::from(*float as f32));
                entry
            })
            .collect();
        store.add_entries(&entries).unwrap();
        let mut longest = 0;
        for (key, _) in kv.get_all("vector_store/default/blocks").unwrap() {
            let bytes = kv.get_bytes("vector_store/default/blocks", &key).unwrap().unwrap();
            longest = longest.max(bytes.len());
        }
        longest
    };
    let (half, plain) = (len(true), len(false));
    assert!(plain > 64 * 384 * 4 && half < plain * 51 / 100, "{half} and {plain} bytes");
}
