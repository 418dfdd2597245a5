//! The corpus of the fuzz targets, and every input that once broke something, run through the
//! same code on stable Rust.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: panics and reports")]

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use siltstone::testing::fuzz::{self, Outcome, TARGETS, Target};
use siltstone::testing::store::Specimen;

/// Longest input that is committed, in bytes.
const INPUT_LEN_MAX: usize = 4096;

/// Runs `target` on every file of `fuzz/{folder}/{name}`; returns how many were refused and taken.
fn replay(folder: &str, name: &str, target: Target) -> BTreeMap<Outcome, usize> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(name);
    let mut outcomes = BTreeMap::new();
    let Ok(files) = fs::read_dir(&dir) else { return outcomes };
    for file in files {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        assert!(input.len() <= INPUT_LEN_MAX, "{} is too long to be committed", path.display());
        match catch_unwind(|| target(&input)) {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(_) => panic!("{name} fails with {}", path.display()),
        }
    }
    println!("corpus: {folder}/{name}: {outcomes:?}");
    outcomes
}

#[test]
fn corpus_is_borne() {
    for (name, target) in TARGETS {
        let outcomes = replay("corpus", name, *target);
        for outcome in [Outcome::Refused, Outcome::Accepted] {
            let count = outcomes.get(&outcome);
            assert!(count.is_some(), "corpus of {name}: no input is {outcome:?}: {outcomes:?}");
        }
    }
}

#[test]
fn what_was_found_stays_found() {
    let mut inputs = 0;
    for (name, target) in TARGETS {
        inputs += replay("regressions", name, *target).values().sum::<usize>();
    }
    assert!(inputs > 0, "fuzz/regressions is empty");
}

/// A whole store goes through the target that takes stores as bytes, and opens.
#[test]
fn whole_stores_are_accepted_as_bytes() {
    for specimen in [Specimen::closed(), Specimen::killed(), Specimen::sealed()] {
        let input = fuzz::pack(&specimen.files);
        assert_eq!(fuzz::store_bytes(&input), Outcome::Accepted, "{}", specimen.name);
    }
}
