//! Fuzzes `zeugma_agent::fuzz_peers_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_agent::fuzz_peers_file(input));
