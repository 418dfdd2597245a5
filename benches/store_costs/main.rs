//! What does one change cost, in stores of 1 k, 10 k and 100 k? For each store the change that
//! LlamaIndex pays for with a rewrite of everything, or of a list that grows.
//!
//! Criterion shows each cost by itself. The table at the end, in the manner of the ratios, is of
//! rounds in which the three sizes take turns, so that a busy machine disturbs all alike; a figure
//! is the median of its rounds. `cargo bench --bench store_costs -- table` leaves criterion out.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "../common/mod.rs"]
mod common;
mod operations;

use std::time::Duration;

use common::settle;
use criterion::{Criterion, SamplingMode};
use operations::{OPERATIONS, Operation, Subject};

const SIZES: [u64; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 60;
/// Changes in a round: few enough that the smallest store stays as large as it is.
const CHANGES: u64 = 20;
/// How much more the change may cost in the largest store than in the smallest.
const GROWTH_MAX: f64 = 1.5;

fn main() {
    // What `cargo bench` passes to every benchmark, and perhaps the one argument of this one.
    let mut criterion = Criterion::default().configure_from_args();
    let with_criterion = !std::env::args().any(|arg| arg == "table");
    let mut rows = Vec::new();
    for operation in OPERATIONS {
        let mut subjects = SIZES.map(|n| Subject::new(operation, n));
        std::thread::scope(|scope| {
            subjects.iter().map(Subject::db).for_each(|db| drop(scope.spawn(|| settle(db))));
        });
        if with_criterion {
            show(&mut criterion, operation, &mut subjects);
        }
        rows.push((operation.name, medians(operation, &mut subjects)));
    }
    println!("| change, in a store of | 1 k | 10 k | 100 k | 100 k / 1 k | target | reached |");
    println!("|---|---|---|---|---|---|---|");
    for (name, [small, middle, large]) in rows {
        let growth = large / small;
        let reached = if growth < GROWTH_MAX { "yes" } else { "no" };
        println!(
            "| {name} | {small:.1} us | {middle:.1} us | {large:.1} us | {growth:.2} x \
             | < {GROWTH_MAX} x | {reached} |"
        );
    }
}

fn show(criterion: &mut Criterion, operation: &Operation, subjects: &mut [Subject; 3]) {
    let mut group = criterion.benchmark_group(operation.name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(400));
    for (n, subject) in SIZES.iter().zip(subjects) {
        group.bench_function(n.to_string(), |b| {
            b.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let count = left.min(CHANGES);
                    took += subject.run(count) / subject.parts();
                    left -= count;
                }
                took
            });
        });
    }
    group.finish();
}

/// Microseconds for one change in a store of each size.
fn medians(operation: &Operation, subjects: &mut [Subject; 3]) -> [f64; 3] {
    let mut times: [Vec<f64>; 3] = Default::default();
    let rounds = if operation.is_whole { 9 } else { ROUNDS };
    for _ in 0..rounds {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let count = if operation.is_whole { 1 } else { CHANGES };
            let took = subject.run(count) / subject.parts();
            times.push(took.as_secs_f64() * 1e6 / count as f64);
        }
    }
    times.map(|mut times| {
        times.sort_unstable_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    })
}
