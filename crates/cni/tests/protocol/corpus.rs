//! The corpora of the fuzz entries run in every test run, as they are and damaged.

use fuzz_corpus::replay;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn configurations_of_the_corpus() {
    replay(CRATE, "netconf", zeugma_protocol::fuzz_netconf);
}

#[test]
fn results_of_the_corpus() {
    replay(CRATE, "result", zeugma_protocol::fuzz_result);
}
