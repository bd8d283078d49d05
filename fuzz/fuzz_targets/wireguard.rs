//! Fuzzes `zeugma_kernel::fuzz_wireguard`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_kernel::fuzz_wireguard(input));
