//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn replies_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "dhcp_reply", zeugma_dhcp::fuzz_dhcp_reply);
}
