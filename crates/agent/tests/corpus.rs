//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn files_of_peers_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "peers_file", zeugma_agent::fuzz_peers_file);
}
