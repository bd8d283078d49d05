//! The corpora of the fuzz entries run in every test run, as they are and damaged.

use fuzz_corpus::replay;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn leases_of_the_corpus() {
    replay(CRATE, "lease", zeugma_ipam::fuzz_lease);
}

#[test]
fn resolv_confs_of_the_corpus() {
    replay(CRATE, "resolv_conf", zeugma_ipam::fuzz_resolv_conf);
}

#[test]
fn configurations_of_the_corpus() {
    replay(CRATE, "ipam", zeugma_ipam::fuzz_ipam);
}
