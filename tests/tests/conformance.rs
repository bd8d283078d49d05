//! The black-box suite against our executables, and against the reference's where they are installed:
//! the second run tests the suite itself.

use std::path::Path;

use zeugma_tests::conformance;

fn ensure_conforms(bin_dir: &Path) {
    let report = conformance::run(bin_dir);
    println!("{report}");
    assert!(report.failures().is_empty(), "{report}");
}

#[test]
fn ours_keep_every_promise() {
    ensure_conforms(zeugma_tests::bin_dir());
}

#[test]
fn the_reference_keeps_every_promise_but_its_known_faults() {
    let reference = Path::new("/usr/lib/cni");
    if !reference.join("bridge").exists() {
        eprintln!(
            "SKIPPED: no reference plugins in {} (Debian: containernetworking-plugins)",
            reference.display()
        );
        return;
    }
    ensure_conforms(reference);
}
