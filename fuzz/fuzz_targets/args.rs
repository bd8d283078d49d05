//! Fuzzes `zeugma_skel::fuzz_args`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_skel::fuzz_args(input));
