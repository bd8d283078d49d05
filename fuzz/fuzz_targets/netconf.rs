//! Fuzzes `zeugma_protocol::fuzz_netconf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_protocol::fuzz_netconf(input));
