//! The black-box suite against our executables, and against the reference's where they are installed:
//! the second run tests the suite itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use zeugma_tests::conformance::{self, Plugin, Verdict};

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
fn every_plugin_is_there() {
    let missing: Vec<_> =
        Plugin::ALL.iter().filter(|plugin| !zeugma_tests::bin_dir().join(plugin.name()).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
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

/// Says what it speaks, names itself, and does nothing at all.
const LAZY: &str = r#"#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] && echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}'
[ -z "$CNI_COMMAND" ] && echo "$0" >&2
exit 0
"#;

#[test]
fn plugins_that_do_nothing_are_caught() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lazy-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory for the fakes");
    let lazy = dir.join("lazy");
    fs::write(&lazy, LAZY).expect("write the fake");
    fs::set_permissions(&lazy, fs::Permissions::from_mode(0o755)).expect("make it executable");
    for plugin in zeugma_tests::PLUGINS {
        symlink("lazy", dir.join(plugin)).expect("name the fake");
    }
    let report = conformance::run(&dir);
    fs::remove_dir_all(&dir).expect("remove the fakes");
    let kept = report.cells().filter(|cell| cell.verdict == Verdict::Kept).map(|cell| cell.promise);
    let idle = BTreeSet::from([
        "VERSION lists the versions it speaks",
        "without CNI_COMMAND: about line on stderr",
        "DEL of what was never added",
        "GC without attachments succeeds",
        "STATUS: ready, nothing on stdout",
    ]);
    assert_eq!(kept.collect::<BTreeSet<_>>(), idle, "{report}");
}
