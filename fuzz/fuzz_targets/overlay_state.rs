//! Fuzzes `zeugma_journal::fuzz_overlay_state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_journal::fuzz_overlay_state(input));
