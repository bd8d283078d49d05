//! Fuzzes `zeugma_dns::fuzz_host_resolv_conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_dns::fuzz_host_resolv_conf(input));
