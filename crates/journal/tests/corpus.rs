//! The corpora of the fuzz entries run in every test run, as they are and damaged.

#[test]
fn states_of_overlays_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "overlay_state", zeugma_journal::fuzz_overlay_state);
}

#[test]
fn records_and_claims_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "journal", zeugma_journal::fuzz_journal);
}
