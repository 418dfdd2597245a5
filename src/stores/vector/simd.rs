//! The loops of the quick distances, compiled for wider registers as well, and reading ahead: the
//! one file of the stores with `unsafe`.
//!
//! A plain build is for every processor of its kind, and so its loops go through the memory at
//! three quarters of the speed at most. Here the same safe loop is compiled a second time for
//! AVX2, and taken where the processor says that it has it. There is no second implementation:
//! each function is [`sum_of`] and nothing else, but for how halves become floats.

use super::distance::{LANES, singles, sum_of};
use super::half::finites;

/// A quick distance, of a row as it is stored and a query.
pub(super) type Distance = fn(&[u8], &[f32]) -> f32;

/// Makes the functions `$name`, that takes what the processor has, and `x86::$name`: the rows are
/// read by `$read`, or by `$read_x86` where the processor has AVX2 and F16C.
macro_rules! distances {
    ($($(#[$doc:meta])* $name:ident: $read:path, $read_x86:path, $term:expr;)*) => {
        $($(#[$doc])*
        pub(super) fn $name(row: &[u8], query: &[f32]) -> f32 {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
                // SAFETY: the only requirement is that the processor has AVX2 and F16C, which it
                // just said.
                return unsafe { x86::$name(row, query) };
            }
            sum_of::<1, _>(row, query, $read, $term)
        })*

        #[cfg(target_arch = "x86_64")]
        mod x86 {
            $(#[target_feature(enable = "avx2,f16c")]
            pub(super) fn $name(row: &[u8], query: &[f32]) -> f32 {
                super::sum_of::<4, _>(row, query, |row| $read_x86(row), $term)
            })*
        }
    };
}

distances! {
    /// The quick dot product.
    dot: singles, super::singles, |a, b| a * b;
    /// The quick square of the distance.
    squared_distance: singles, super::singles, |a, b| (a - b) * (a - b);
    /// The quick dot product with a row of finite halves.
    half_dot: finites, super::f16c_finites, |a, b| a * b;
    /// The quick square of the distance from a row of finite halves.
    half_squared_distance: finites, super::f16c_finites, |a, b| (a - b) * (a - b);
}

/// As [`finites`], by the processor's own instruction.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn f16c_finites(halves: &[[u8; 2]; LANES]) -> [f32; LANES] {
    use std::arch::x86_64::{__m128i, __m256, _mm256_cvtph_ps};
    // SAFETY: both are 32 bytes of integers, of which every pattern is one.
    let [low, high] = unsafe { std::mem::transmute::<[[u8; 2]; LANES], [__m128i; 2]>(*halves) };
    let floats = [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)];
    // SAFETY: both are 16 floats in single precision.
    unsafe { std::mem::transmute::<[__m256; 2], [f32; LANES]>(floats) }
}

/// Asks the memory for some bytes that are going to be read soon, into the second cache: what the
/// first one waits for at once is so little that asking there took twice as long on a Zen 4. A
/// hint: it changes nothing that a program can see, and on processors other than x86-64 it does
/// nothing.
pub(super) fn read_ahead(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let ask = |byte: *const u8| {
            // SAFETY: the instruction reads nothing into the program and cannot fault, whatever
            // the address; this one lies in `bytes`.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(byte.cast()) };
        };
        let (lines, rest) = bytes.as_chunks::<64>();
        lines.iter().for_each(|line| ask(line.as_ptr()));
        [rest.first(), bytes.last()].into_iter().flatten().for_each(|byte| ask(byte));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
