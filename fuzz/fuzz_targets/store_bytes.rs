//! A whole store from bytes. See `siltstone::testing::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siltstone::testing::fuzz::store_bytes(data));
