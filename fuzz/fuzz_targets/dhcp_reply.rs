//! Fuzzes `zeugma_dhcp::fuzz_dhcp_reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zeugma_dhcp::fuzz_dhcp_reply(input));
