//! Fuzzes `zeugma_plugins::fuzz_plugins`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_plugins::fuzz_plugins(input));
