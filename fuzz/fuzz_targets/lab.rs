//! Fuzzes `zeugma_cli::fuzz_lab`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_cli::fuzz_lab(input));
