//! The corpus of the fuzz entries runs in every test run. A finding is added as one more file.

use std::path::Path;

fn run(corpus: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(corpus);
    let mut files = 0;
    for file in std::fs::read_dir(&folder).expect("the corpus stands in the repository") {
        entry(&std::fs::read(file.expect("a folder lists").path()).expect("a corpus file is readable"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn configurations_of_the_corpus() {
    run("netconf", zeugma_protocol::fuzz_netconf);
}

#[test]
fn results_of_the_corpus() {
    run("result", zeugma_protocol::fuzz_result);
}
