//! Fuzzes `zeugma_wireguard::uapi::fuzz_uapi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_wireguard::uapi::fuzz_uapi(input));
