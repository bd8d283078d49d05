//! Fuzzes `zeugma_kernel::fuzz_overlay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_kernel::fuzz_overlay(input));
