//! See `siltstone::testing::fuzz::ops_faults`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    siltstone_fuzz::limit_allocations();
    siltstone::testing::fuzz::ops_faults(input);
});
