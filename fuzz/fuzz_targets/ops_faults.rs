//! See `siltstone::testing::fuzz::ops_faults`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    siltstone::testing::fuzz::ops_faults(input);
});
