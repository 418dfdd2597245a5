//! Distances between embeddings: quick ones in single precision over bytes as they lie in the log,
//! and exact ones in double precision.
//!
//! The quick ones keep 16 sums or more that do not depend on each other, which compilers turn into
//! vector instructions (see `simd.rs`); what limits them is the memory. Their error is bounded (see
//! [`relative_error`]), so they decide which rows cannot be among the best, and the exact ones
//! decide the rest.

/// The least number of sums that are kept at once.
pub(super) const LANES: usize = 16;

/// True if single precision holds `float` bit for bit.
pub(super) fn is_single(float: f64) -> bool {
    f64::from(float as f32).to_bits() == float.to_bits()
}

/// The length of a vector.
pub(super) fn norm(row: &[f32]) -> f64 {
    row.iter().map(|f| f64::from(*f) * f64::from(*f)).sum::<f64>().sqrt()
}

/// A norm for which the quick distances hold what [`relative_error`] says: nothing overflows, and
/// what underflows is too small to count.
pub(super) fn is_ordinary(norm: f32) -> bool {
    (1e-30..1e30).contains(&norm)
}

/// How far a quick dot product of a row and a vector of length 1 is off at most, as a part of the
/// row's norm; the rounding of both to single precision included.
///
/// With `n` floats in [`LANES`] sums, each product goes through at most `n / LANES` additions, five
/// more bring the sums together, and five roundings are left for the products, the two vectors,
/// the norm and the division by it. Half as much again is for what is of second order. Four times
/// as many sums take two additions more to bring together, and save three for every 64 floats.
pub(super) fn relative_error(n: usize) -> f32 {
    let roundings = n.div_ceil(LANES) + 5 + 5;
    roundings as f32 * (f32::EPSILON / 2.0) * 1.5
}

/// Adds up, for each pair of floats, what `term` makes of it, in `WIDE` times [`LANES`] sums. `row`
/// has `SIZE` bytes for each float of `query`, of which `read` makes floats. Requires: `read` makes
/// 0 of zeros.
///
/// The sums are touched by whole arrays only, so that they stay in vector registers: one index
/// that is not known beforehand would put them into memory, at a quarter of the speed.
#[inline(always)]
pub(super) fn sum_of<const WIDE: usize, const SIZE: usize>(
    row: &[u8],
    query: &[f32],
    read: impl Fn(&[[u8; SIZE]; LANES]) -> [f32; LANES],
    term: impl Fn(f32, f32) -> f32,
) -> f32 {
    let row = row.as_chunks::<SIZE>().0;
    // What a row may be filled up with is left out.
    let row = row.get(..query.len()).unwrap_or(row);
    let add = |sums: &mut [f32; LANES], row: &[[u8; SIZE]; LANES], query: &[f32; LANES]| {
        for ((sum, float), query) in sums.iter_mut().zip(read(row)).zip(query) {
            *sum += term(float, *query);
        }
    };
    let ((rows, row), (queries, query)) = (row.as_chunks::<LANES>(), query.as_chunks::<LANES>());
    let (wide_rows, rows) = rows.as_chunks::<WIDE>();
    let (wide_queries, queries) = queries.as_chunks::<WIDE>();
    let mut wide = [[0f32; LANES]; WIDE];
    for (rows, queries) in wide_rows.iter().zip(wide_queries) {
        for ((sums, row), query) in wide.iter_mut().zip(rows).zip(queries) {
            add(sums, row, query);
        }
    }
    let mut sums = wide.into_iter().fold([0f32; LANES], plus);
    for (row, query) in rows.iter().zip(queries) {
        add(&mut sums, row, query);
    }
    if !query.is_empty() {
        // Two zeros count nothing, whatever `term` is.
        let (mut last_row, mut last_query) = ([[0; SIZE]; LANES], [0.0; LANES]);
        last_row.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
        last_query.iter_mut().zip(query).for_each(|(to, from)| *to = *from);
        add(&mut sums, &last_row, &last_query);
    }
    let [a, b, c, d] = sums.as_chunks::<4>().0.iter().copied().fold([0f32; 4], plus);
    (a + c) + (b + d)
}

/// What bytes of a row are in single precision.
#[inline(always)]
pub(super) fn singles(row: &[[u8; 4]; LANES]) -> [f32; LANES] {
    row.map(f32::from_le_bytes)
}

#[inline(always)]
fn plus<const N: usize>(mut sums: [f32; N], others: [f32; N]) -> [f32; N] {
    sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
    sums
}

/// How similar two embeddings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// The cosine of the angle between them; NaN if one of them is zero.
    Cosine,
    /// Their dot product.
    Dot,
    /// The distance between them, negative.
    Euclidean,
}

impl Measure {
    /// The exact similarity, as LlamaIndex's `similarity` (`base/embeddings/base.py`) has it.
    pub(super) fn exact(self, row: impl Iterator<Item = f64>, query: &[f64]) -> f64 {
        let (mut dot, mut norm, mut distance, mut query_norm) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in row.zip(query) {
            dot += a * b;
            norm += a * a;
            query_norm += b * b;
            distance += (a - b) * (a - b);
        }
        match self {
            Measure::Cosine => dot / (query_norm.sqrt() * norm.sqrt()),
            Measure::Dot => dot,
            Measure::Euclidean => -distance.sqrt(),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::super::simd::{dot, half_dot, half_squared_distance, squared_distance};
    use super::*;
    use crate::testing::Rng;

    fn bytes(row: &[f32]) -> Vec<u8> {
        row.iter().flat_map(|f| f.to_le_bytes()).collect()
    }

    /// A float of random sign and size.
    fn float(rng: &mut Rng) -> f64 {
        let size = 10f64.powi(rng.below(7) as i32 - 3);
        (rng.below(2_000_001) as f64 / 1e6 - 1.0) * size
    }

    /// Goal: the bound on the error of the quick distances holds. Method: random vectors of all
    /// lengths, of wildly different components, in double precision, against the exact ones.
    #[test]
    fn quick_distances_are_as_near_as_they_say() {
        for seed in 0..3000u64 {
            eprintln!("seed {seed}");
            let mut rng = Rng::new(seed);
            let n = 1 + rng.below(400);
            let row: Vec<f64> = (0..n).map(|_| float(&mut rng)).collect();
            let query: Vec<f64> = (0..n).map(|_| float(&mut rng)).collect();
            let row32: Vec<f32> = row.iter().map(|f| *f as f32).collect();
            let length = |v: &[f64]| v.iter().map(|f| f * f).sum::<f64>().sqrt();
            let (row_norm, query_norm) = (length(&row), length(&query));
            if row_norm < 1e-6 || query_norm < 1e-6 {
                continue;
            }
            let unit: Vec<f32> = query.iter().map(|f| (f / query_norm) as f32).collect();
            let error = f64::from(relative_error(n));
            let quick = f64::from(dot(&bytes(&row32), &unit) / norm(&row32) as f32);
            let exact = Measure::Cosine.exact(row.iter().copied(), &query);
            assert!((quick - exact).abs() <= error, "{quick} and {exact}, {n} floats");
            let quick = f64::from(dot(&bytes(&row32), &unit)) * query_norm;
            let exact = Measure::Dot.exact(row.iter().copied(), &query);
            assert!((quick - exact).abs() <= error * row_norm * query_norm, "{quick}, {exact}");
            let query32: Vec<f32> = query.iter().map(|f| *f as f32).collect();
            let quick = -f64::from(squared_distance(&bytes(&row32), &query32).sqrt());
            let exact = Measure::Euclidean.exact(row.iter().copied(), &query);
            let bound = error * (exact.abs() + row_norm + query_norm);
            assert!((quick - exact).abs() <= bound, "{quick} and {exact}");
        }
    }

    /// The processor's own conversion and ours.
    #[test]
    fn every_half_counts_as_what_it_stands_for() {
        let infinity = 0x7c00;
        for bits in (0..0x8000u16).filter(|bits| *bits < infinity) {
            for half in [bits, bits | 0x8000].map(u16::to_le_bytes) {
                let value = super::super::half::finite(half);
                assert_eq!(half_dot(&half, &[1.0]), value, "{bits:#x}");
                assert_eq!(half_dot(&half.repeat(80), &[1.0; 80]), value * 80.0, "{bits:#x}");
                assert_eq!(half_squared_distance(&half, &[value]), 0.0, "{bits:#x}");
            }
        }
    }

    #[test]
    fn every_float_is_counted_at_every_length() {
        for n in 0..300 {
            let row: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let ones = vec![1.0; n];
            let sum = (0..n).sum::<usize>() as f32;
            assert_eq!(dot(&bytes(&row), &ones), sum);
            let minus: Vec<f32> = (0..n).map(|i| i as f32 - 1.0).collect();
            assert_eq!(squared_distance(&bytes(&row), &minus), n as f32);
            // The form for processors without wide registers, wherever this runs.
            assert_eq!(sum_of::<1, 4>(&bytes(&row), &ones, singles, |a, b| a * b), sum);
        }
    }
}
