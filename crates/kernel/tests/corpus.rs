//! The corpora of the fuzz entries run in every test run, as they are and damaged.

use fuzz_corpus::replay;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn answers_of_rtnetlink_of_the_corpus() {
    replay(CRATE, "route", zeugma_kernel::fuzz_route);
}

#[cfg(feature = "overlay")]
#[test]
fn answers_about_overlays_of_the_corpus() {
    replay(CRATE, "overlay", zeugma_kernel::fuzz_overlay);
}

#[cfg(feature = "overlay")]
#[test]
fn answers_about_wireguard_of_the_corpus() {
    replay(CRATE, "wireguard", zeugma_kernel::fuzz_wireguard);
}

#[test]
fn answers_of_nfnetlink_of_the_corpus() {
    replay(CRATE, "netfilter", zeugma_kernel::fuzz_netfilter);
}
