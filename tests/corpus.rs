//! Replays the fuzz corpus: what the fuzzer has found worth keeping, and the specimens that it
//! started with. `cargo fuzz run -s none TARGET SCRATCH tests/corpus/TARGET` goes on from here;
//! what it finds goes to the directory SCRATCH.
//!
//! `SILTSTONE_WRITE_CORPUS=1` writes the specimens anew, after a change of the format.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use siltstone::testing::store::Specimen;
use siltstone::testing::{Rng, fuzz};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

fn specimens() -> [Specimen; 3] {
    [Specimen::closed(), Specimen::killed(), Specimen::sealed()]
}

/// Runs `body` on every file of the corpus of `target`.
fn replay(target: &str, body: fn(&[u8])) {
    if std::env::var("SILTSTONE_WRITE_CORPUS").is_ok_and(|v| v == "1") {
        write(target);
    }
    let mut count = 0;
    for entry in fs::read_dir(corpus(target)).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| body(&data)).is_err() {
            panic!("{} fails", path.display());
        }
        count += 1;
    }
    say!("corpus: {target}: {count} inputs");
    assert!(count >= 3, "the corpus of {target} is gone");
}

fn write(target: &str) {
    fs::create_dir_all(corpus(target)).unwrap();
    for (i, specimen) in specimens().iter().enumerate() {
        let mut data = fuzz::pack(&specimen.files);
        if target == "ops_faults" {
            data = vec![0; 300];
            Rng::new(i as u64).fill(&mut data);
        }
        fs::write(corpus(target).join(specimen.name), data).unwrap();
    }
}

#[test]
fn stores_from_bytes() {
    replay("store_bytes", fuzz::store_bytes);
}

#[test]
fn stores_with_right_checksums() {
    replay("store_fixsum", fuzz::store_fixsum);
}

#[test]
fn operations_with_faults() {
    replay("ops_faults", fuzz::ops_faults);
}

/// The same bodies on inputs that no fuzzer is needed for.
#[test]
fn bodies_bear_mutations_and_noise() {
    for specimen in specimens() {
        let data = fuzz::pack(&specimen.files);
        let mut rng = Rng::new(42);
        for _ in 0..3_000 {
            let mut data = data.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(data.len());
                data[at] = [0, 1, 0x7F, 0xFF, data[at] ^ 1, data[at].wrapping_add(8)][rng.below(6)];
            }
            fuzz::store_bytes(&data);
            fuzz::store_fixsum(&data);
        }
    }
    for seed in 0..2_000 {
        let mut data = vec![0; 20 + seed % 200];
        Rng::new(seed as u64).fill(&mut data);
        fuzz::ops_faults(&data);
    }
}
