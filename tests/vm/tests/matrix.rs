//! The rows of docs/conformance.md that only this kernel can fill: `cargo xtask conformance --write` reads them from
//! the lines that begin with `MATRIX`.

use std::path::Path;

use zeugma_tests::bin_dir;
use zeugma_tests::conformance::{self, Plugin};

/// The rows of a maker's plugins; how many of them, and what fails.
fn told(maker: &str, bin_dir: &Path) -> (usize, Vec<String>) {
    let rows = conformance::matrix(bin_dir, Plugin::OF_SOME_KERNELS);
    for row in &rows {
        conformance::lines(row).iter().for_each(|line| println!("MATRIX {maker} {line}"));
        conformance::failures(row).iter().for_each(|line| println!("MATRIX {maker} {line}"));
    }
    (rows.len(), rows.iter().flat_map(conformance::failures).collect())
}

#[test]
fn every_verb_of_ours_works_in_every_version() {
    let (count, failed) = told("ours", bin_dir());
    assert_eq!(count, Plugin::OF_SOME_KERNELS.len(), "a plugin is missing, or its links");
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What fails here is the reference's affair; that it was driven at all is ours.
#[test]
fn the_reference_is_driven_through_the_same() {
    let (count, _) = told("reference", Path::new("/reference"));
    assert!(count >= 2, "of the reference only {count} plugins were driven");
}
