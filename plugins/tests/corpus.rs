//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn configurations_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "plugins", zeugma_plugins::fuzz_plugins);
}
