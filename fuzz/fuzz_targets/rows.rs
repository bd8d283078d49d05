//! Fuzzes `zeugma_catalogue::fuzz_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_catalogue::fuzz_rows(input));
