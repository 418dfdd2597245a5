//! See `siltstone::testing::fuzz::value_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    siltstone::testing::fuzz::value_bytes(input);
});
