//! Vector stores within transactions.

use super::*;
use crate::stores::MetadataFilters;
use crate::stores::test_kv::Counting;

fn node(id: usize, kind: usize) -> Node {
    let mut node = Node::text(format!("n{id:04}"), "text").with_source("a.txt");
    node.metadata.insert("kind", kind as i64);
    node.embedding = Some(vec![1.0 + id as f64, 1.0]);
    node
}

fn of_kind(kind: usize) -> MetadataFilters {
    MetadataFilters::parse(&format!("kind == {kind}")).expect("a filter")
}

/// The ids of the rows of a kind.
fn ids(store: &VectorStore, kind: usize) -> Vec<Text> {
    let query = VectorQuery::new([1.0, 0.0], 10_000).with_filters(of_kind(kind));
    let mut ids = store.query(&query).expect("query").ids;
    ids.sort();
    ids
}

/// Goal: filters within a transaction cost what it changed, however many rows there are. Method:
/// the records that are read are counted, at two sizes of the store.
#[test]
fn filters_within_a_transaction_read_what_it_changed() {
    let reads = [300usize, 3000].map(|rows| {
        let counting = Arc::new(Counting::default());
        let context = StorageContext::from_kv(counting.clone());
        let nodes: Vec<Node> = (0..rows).map(|id| node(id, id.min(3))).collect();
        context.vector_store().expect("a store").add(&nodes).expect("add");
        assert_eq!(ids(&context.vector_store().expect("a store"), 1).len(), 1);
        counting.take();
        let done = context.transaction(|inside| {
            let store = inside.vector_store()?;
            assert_eq!(ids(&store, 1).len(), 1);
            store.add(&[node(rows, 1)])?;
            assert_eq!(ids(&store, 1).len(), 2, "it sees what it added");
            store.delete_nodes(None, Some(&of_kind(1)))?;
            assert_eq!(ids(&store, 1).len(), 0);
            assert_eq!(ids(&store, 2).len(), 1);
            Ok::<(), StoreError>(())
        });
        done.expect("a transaction");
        assert_eq!(ids(&context.vector_store().expect("a store"), 1).len(), 0);
        counting.take()[0]
    });
    let [few, many] = reads;
    assert!(many < few + 100, "{few} reads with 300 rows, {many} with 3,000");
}

/// Goal: what a transaction finds is what is there for it, and a transaction that fails leaves the
/// store outside as it was. Method: random changes; a store that begins with nothing in memory is
/// asked the same.
#[cfg(feature = "testing")]
#[test]
fn filters_within_a_transaction_find_what_is_there() {
    for seed in 0..12u64 {
        eprintln!("seed {seed}");
        let mut rng = Rng::new(seed);
        let context = StorageContext::from_defaults();
        let outside = context.vector_store().expect("a store");
        for round in 0..8 {
            let mut change = |store: &VectorStore| match rng.below(4) {
                0 => {
                    let kind = rng.below(5);
                    store.delete_nodes(None, Some(&of_kind(kind))).expect("delete");
                }
                1 if rng.below(6) == 0 => store.clear().expect("clear"),
                _ => {
                    let nodes: Vec<Node> =
                        (0..rng.below(20)).map(|_| node(rng.below(200), rng.below(5))).collect();
                    store.add(&nodes).expect("add");
                }
            };
            change(&outside);
            if round % 3 != 0 {
                ids(&outside, 0);
            }
            let fails = round % 2 == 0;

            let done = context.transaction(|inside| {
                let store = inside.vector_store()?;
                for _ in 0..4 {
                    let fresh = VectorStore::new(inside.kv().clone());
                    for kind in 0..5 {
                        assert_eq!(ids(&store, kind), ids(&fresh, kind));
                    }
                    change(&store);
                }
                match fails {
                    true => Err(StoreError::InvalidArgument("enough".to_owned())),
                    false => Ok(()),
                }
            });
            assert_eq!(done.is_err(), fails);
            // The same version number as that of the transaction that failed.
            change(&outside);
            let fresh = VectorStore::new(context.kv().clone());
            for kind in 0..5 {
                assert_eq!(ids(&outside, kind), ids(&fresh, kind));
            }
        }
    }
}
