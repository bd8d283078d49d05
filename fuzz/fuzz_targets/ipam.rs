//! Fuzzes `zeugma_ipam::fuzz_ipam`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_ipam::fuzz_ipam(input));
