//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn labs_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "lab", zeugma_cli::fuzz_lab);
}
