//! See `siltstone::testing::fuzz::store_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    siltstone::testing::fuzz::store_bytes(input);
});
