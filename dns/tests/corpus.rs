//! The corpora of the fuzz entries run in every test run, as they are and damaged.

fn replay(target: &str, entry: fn(&[u8])) {
    fuzz_corpus::replay(env!("CARGO_MANIFEST_DIR"), target, entry);
}

#[test]
fn messages_of_the_corpus() {
    replay("dns_message", zeugma_dns::fuzz_dns_message);
}

#[test]
fn answers_of_the_corpus() {
    replay("dns_answer", zeugma_dns::fuzz_dns_answer);
}

#[test]
fn resolv_confs_of_the_corpus() {
    replay("host_resolv_conf", zeugma_dns::fuzz_host_resolv_conf);
}
