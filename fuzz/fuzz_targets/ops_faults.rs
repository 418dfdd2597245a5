//! Operations with reopens, kills and failing calls, against a model. See `siltstone::testing::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siltstone::testing::fuzz::ops_faults(data));
