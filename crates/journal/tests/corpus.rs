//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn records_and_claims_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "journal", zeugma_journal::fuzz_journal);
}
