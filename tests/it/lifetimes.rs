//! Compression and expiry under random histories.

#[path = "../common/lifetimes.rs"]
mod world;

#[test]
fn whatever_happens_what_is_there_is_what_must_be() {
    let base: u64 = std::env::var("SILTSTONE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut used = world::Used::default();
    for seed in base..base + 40 {
        match std::panic::catch_unwind(|| world::run(seed)) {
            Ok(run) => {
                used.compressed += run.compressed;
                used.decompressed += run.decompressed;
                used.dictionaries += run.dictionaries;
            }
            Err(e) => {
                let what = e.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("SILTSTONE_SEED={seed}: {what}");
            }
        }
    }
    if cfg!(feature = "compression") {
        assert!(used.compressed > 300 && used.decompressed > 3000, "{used:?}");
        assert!(used.dictionaries > 10, "{used:?}");
    }
}
