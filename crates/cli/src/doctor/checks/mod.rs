//! The checks: pure functions over what was seen.

mod install;
mod kernel;
mod state;
mod tunnels;
mod way;

use super::observed::Observed;
use super::{Finding, Severity};

/// A check and its word.
type Check = (&'static str, fn(&Observed) -> Vec<Found>);

/// All of them, in the order in which they are told.
const CHECKS: &[Check] = &[
    ("unseen", state::unseen),
    ("nftables", kernel::nftables),
    ("features", kernel::features),
    ("forwarding", way::forwarding),
    ("filter", way::filters),
    ("bridged", way::bridged),
    ("firewalld", way::firewalld),
    ("legacy", way::legacy),
    ("rp_filter", way::reverse_path),
    ("port", way::ports),
    ("mtu", tunnels::mtu),
    ("path", tunnels::paths),
    ("offload", tunnels::offload),
    ("overlay", tunnels::overlays),
    ("repair", state::repair),
    ("record", state::records),
    ("lease", state::leases),
    ("leftover", state::leftovers),
    ("list", state::lists),
    ("disk", state::disks),
    ("plugins", install::plugins),
    ("agent", install::agent),
    ("catalogue", install::catalogue),
    ("clock", kernel::clock),
    ("limit", kernel::limits),
];

/// A finding without its check's word.
struct Found {
    severity: Severity,
    object: String,
    problem: String,
    remedy: String,
}

/// What is wrong, problems first.
pub(super) fn findings(observed: &Observed) -> Vec<Finding> {
    let of = |(check, judge): &Check| {
        let with_word = |Found { severity, object, problem, remedy }| Finding {
            severity,
            check,
            object,
            problem,
            remedy,
        };
        judge(observed).into_iter().map(with_word).collect::<Vec<_>>()
    };
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(of).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn problem(object: impl ToString, problem: impl Into<String>, remedy: impl Into<String>) -> Found {
    let (object, problem, remedy) = (object.to_string(), problem.into(), remedy.into());
    Found { severity: Severity::Problem, object, problem, remedy }
}

fn warning(object: impl ToString, what: impl Into<String>, remedy: impl Into<String>) -> Found {
    Found { severity: Severity::Warning, ..problem(object, what, remedy) }
}

/// `1 container`, `2 containers`.
fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;
    use zeugma_journal::{Journal, Record};
    use zeugma_kernel::LinkState;
    use zeugma_model::AttachmentId;

    use super::*;
    use crate::host::{self, Attached, Link};

    /// A container `c` on `net` by `br0` with a published port.
    pub(super) fn attached() -> Attached {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let id = AttachmentId {
            network: "net".parse().unwrap(),
            container: "c".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let record: Record = serde_json::from_value(
            json!({"plugin": "bridge", "phase": "done", "bridge": "br0", "masquerade": true,
            "addresses": ["10.88.0.2/24"], "gateways": ["10.88.0.1"],
            "ports": [{"host_port": 8080, "container_port": 80, "protocol": "tcp", "host_address": "any"}]}),
        )
        .unwrap();
        journal.begin(&id, record).unwrap();
        host::attached(&journal).unwrap().remove(0)
    }

    pub(super) fn link(mtu: u32) -> Link {
        Link { state: LinkState { mtu, ..LinkState::default() }, addresses: Vec::new() }
    }

    /// A host with that container, on which all is well.
    pub(in crate::doctor) fn healthy() -> Observed {
        let mut observed =
            Observed { attached: vec![attached()], is_clock_kept: true, ..Observed::default() };
        observed.uplink = Some("eth0".parse().unwrap());
        for name in ["eth0", "br0"] {
            observed.links.insert(name.parse().unwrap(), link(1500));
            observed.sysctls.insert(format!("net/ipv4/conf/{name}/forwarding"), "1".into());
        }
        observed
    }

    /// What one check says: object, problem and remedy together.
    pub(in crate::doctor) fn told(observed: &Observed, check: &str) -> Vec<String> {
        let of = findings(observed).into_iter().filter(|finding| finding.check == check);
        of.map(|Finding { object, problem, remedy, .. }| format!("{object}: {problem}; {remedy}")).collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_host() {
        assert_eq!(findings(&healthy()), []);
        assert_eq!(super::super::text(&[]), "nothing is wrong\n");
    }

    #[test]
    fn checks_have_names_of_their_own() {
        let mut words: Vec<&str> = CHECKS.iter().map(|(word, _)| *word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), CHECKS.len());
    }
}
