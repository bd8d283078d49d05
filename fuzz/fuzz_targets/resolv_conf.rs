//! Fuzzes `zeugma_ipam::fuzz_resolv_conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_ipam::fuzz_resolv_conf(input));
