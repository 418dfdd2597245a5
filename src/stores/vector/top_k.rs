//! [`TopK`]: which rows may still be among the best, when their scores are known up to an error.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A row that may be among the best.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) row: u32,
    pub(super) block: u64,
    pub(super) slot: u32,
    /// Its score is not higher than that.
    upper: f32,
}

/// Floats in their total order.
#[derive(Clone, Copy, Debug)]
struct Ordered(f32);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Keeps the rows whose score may be among the `k` highest.
///
/// Each comes with a lower and an upper bound of its score. The `k`-th highest of the lower bounds
/// is the floor: `k` rows are at least that good, so whatever stays below it with its upper bound
/// is out. What is kept is thrown out again now and then, so that the memory follows `k` and the
/// number of rows that are alike, not the number of rows.
#[derive(Debug)]
pub(super) struct TopK {
    k: usize,
    /// The highest lower bounds, the least of them on top.
    lows: BinaryHeap<Reverse<Ordered>>,
    floor: f32,
    kept: Vec<Candidate>,
    kept_max: usize,
}

impl TopK {
    /// Requires: `k` is not 0.
    pub(super) fn new(k: usize) -> Self {
        let kept_max = k.saturating_mul(4).saturating_add(64);
        let lows = BinaryHeap::with_capacity(k.saturating_add(1).min(1 << 16));
        let kept = Vec::with_capacity(kept_max.min(1 << 16));
        TopK { k, lows, floor: f32::NEG_INFINITY, kept, kept_max }
    }

    /// Offers the row in `slot` of `block` with a score that is at most `error` off. A score that
    /// is not known is kept for good, and a reason to keep nobody else out.
    pub(super) fn offer(&mut self, row: u32, block: u64, slot: u32, score: f32, error: f32) {
        let (lower, upper) = match (score - error, score + error) {
            (lower, upper) if lower.is_finite() && upper.is_finite() => (lower, upper),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        if upper < self.floor {
            return;
        }
        self.raise(lower);
        self.kept.push(Candidate { row, block, slot, upper });
        if self.kept.len() > self.kept_max {
            self.prune();
        }
    }

    fn raise(&mut self, lower: f32) {
        self.lows.push(Reverse(Ordered(lower)));
        if self.lows.len() > self.k {
            self.lows.pop();
        }
        if let (true, Some(Reverse(least))) = (self.lows.len() == self.k, self.lows.peek()) {
            self.floor = least.0;
        }
    }

    fn prune(&mut self) {
        let floor = self.floor;
        self.kept.retain(|candidate| candidate.upper >= floor);
        // Rows that are alike may all stay: look again when there are twice as many.
        self.kept_max = self.kept_max.max(self.kept.len().saturating_mul(2));
    }

    /// Takes over what another one kept of other rows.
    pub(super) fn merge(&mut self, other: TopK) {
        for Reverse(low) in other.lows {
            self.raise(low.0);
        }
        self.kept.extend(other.kept);
    }

    /// The rows that may be among the best, in no order; at least `k`, if so many were offered.
    pub(super) fn finish(mut self) -> Vec<Candidate> {
        self.prune();
        self.kept
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Goal: nobody who is among the best is lost. Method: random scores, many alike, told with
    /// random errors, in several parts; against a sort of the true ones.
    #[test]
    fn the_best_are_among_those_who_are_kept() {
        for seed in 0..500u64 {
            eprintln!("seed {seed}");
            let mut rng = Rng::new(seed);
            let (k, parts) = (1 + rng.below(12), 1 + rng.below(3));
            let mut tops: Vec<TopK> = (0..parts).map(|_| TopK::new(k)).collect();
            let mut truth = Vec::new();
            for row in 0..rng.below(600) as u32 {
                let score = rng.below(300) as f32 / 100.0;
                let off = (rng.below(201) as f32 / 100.0 - 1.0) * 0.01;
                let told = if rng.percent(2) { f32::NAN } else { score + off };
                tops[rng.below(parts)].offer(row, 0, row, told, 0.0101);
                truth.push((score, row));
            }
            let mut all = TopK::new(k);
            tops.into_iter().for_each(|top| all.merge(top));
            let kept: Vec<u32> = all.finish().iter().map(|candidate| candidate.row).collect();
            truth.sort_by(|a, b| b.0.total_cmp(&a.0));
            let least = truth.get(k - 1).map_or(f32::NEG_INFINITY, |(score, _)| *score);
            for (score, row) in truth {
                assert!(score < least || kept.contains(&row), "row {row} with {score}");
            }
        }
    }

    #[test]
    fn memory_follows_k_and_not_the_rows() {
        let mut top = TopK::new(10);
        for row in 0..100_000 {
            top.offer(row, 0, row, row as f32, 0.5);
        }
        assert!(top.kept.capacity() < 1000, "{}", top.kept.capacity());
        assert!(top.finish().len() < 20);
    }
}
