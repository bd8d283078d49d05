//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn values_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "rows", zeugma_catalogue::fuzz_rows);
}
