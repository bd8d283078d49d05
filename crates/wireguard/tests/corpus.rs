//! The corpus of the fuzz entry runs in every test run, as it is and damaged.

#[test]
fn requests_and_answers_of_the_corpus() {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), "uapi", zeugma_wireguard::uapi::fuzz_uapi);
}
