//! Fuzzes `zeugma_protocol::fuzz_result`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_protocol::fuzz_result(input));
