//! Fuzzes `zeugma_dns::fuzz_dns_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_dns::fuzz_dns_answer(input));
