//! See `siltstone::testing::fuzz::value_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    siltstone_fuzz::limit_allocations();
    siltstone::testing::fuzz::value_bytes(input);
});
