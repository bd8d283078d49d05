//! The conformance suite for the plugins whose links many kernels lack: here none of their cells is left open.

use zeugma_tests::bin_dir;
use zeugma_tests::conformance::{self, Plugin, Verdict};

fn ensure_conforms(plugin: Plugin) {
    let report = conformance::run_for(bin_dir(), &[plugin]);
    let open = |verdict: &Verdict| matches!(verdict, Verdict::NoKernel | Verdict::Absent);
    assert!(report.failures().is_empty(), "{report}");
    assert!(report.kept() > 0 && !report.cells().any(|cell| open(&cell.verdict)), "{report}");
}

#[test]
fn ipvlan_keeps_every_promise() {
    ensure_conforms(Plugin::Ipvlan);
}

#[test]
fn vlan_keeps_every_promise() {
    ensure_conforms(Plugin::Vlan);
}

#[test]
fn dummy_keeps_every_promise() {
    ensure_conforms(Plugin::Dummy);
}

#[test]
fn vrf_keeps_every_promise() {
    ensure_conforms(Plugin::Vrf);
}
