//! Fuzzes `zeugma_model::fuzz_names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_model::fuzz_names(input));
