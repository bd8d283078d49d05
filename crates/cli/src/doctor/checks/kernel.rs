//! What the kernel lacks or runs out of.

use zeugma_model::Backend;

use super::{Found, problem, warning};
use crate::doctor::observed::{Agent, Observed};

/// Percent.
const NEARLY: u64 = 80;
const FULL: u64 = 95;

/// Without it there are no published ports and no masquerade.
pub(super) fn nftables(observed: &Observed) -> Vec<Found> {
    let why = observed.no_nftables.iter();
    let remedy = "load nf_tables, nf_nat, nft_fib_inet and nft_chain_nat, or take a kernel with CONFIG_NF_TABLES_INET; run as root";
    why.map(|why| problem("nftables", format!("the kernel does not let us use it: {why}"), remedy)).collect()
}

/// What overlays of this host need.
pub(super) fn features(observed: &Observed) -> Vec<Found> {
    let mut found = Vec::new();
    for overlay in &observed.overlays {
        let object = format!("overlay {}", overlay.network);
        let needs_vxlan = matches!(overlay.backend, Backend::Vxlan | Backend::Auto);
        if needs_vxlan && !observed.kernel.vxlan {
            let remedy = "load the module vxlan, or take a kernel with CONFIG_VXLAN";
            found.push(problem(&object, "the kernel has no VXLAN", remedy));
        }
        if overlay.backend.is_encrypted() && !observed.kernel.wireguard && !observed.kernel.tun {
            let remedy = "load the module wireguard or tun: with either it works";
            found.push(problem(&object, "the kernel has neither WireGuard nor /dev/net/tun", remedy));
        }
    }
    found
}

/// Leases and certificates go by the clock.
pub(super) fn clock(observed: &Observed) -> Vec<Found> {
    let is_shared =
        matches!(&observed.agent, Agent::Answers(status, _) if status.catalogue.store.starts_with("etcd"));
    if !is_shared || observed.is_clock_kept {
        return Vec::new();
    }
    let what = "nobody keeps it right: with etcd, certificates are taken for expired, and logs of nodes cannot be compared";
    vec![warning("the clock", what, "start chronyd or systemd-timesyncd (timedatectl set-ntp true)")]
}

/// Tables of the kernel and of processes that are nearly full.
pub(super) fn limits(observed: &Observed) -> Vec<Found> {
    let mut found = Vec::new();
    for fill in &observed.fills {
        let percent = fill.used.saturating_mul(100) / fill.most.max(1);
        let what = format!("{} of {} are used; when it is full, {}", fill.used, fill.most, fill.then);
        if percent >= FULL {
            found.push(problem(fill.object, what, fill.remedy));
        } else if percent >= NEARLY {
            found.push(warning(fill.object, what, fill.remedy));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{healthy, told};
    use crate::doctor::observed::Fill;

    #[test]
    fn what_is_nearly_full_is_a_warning_and_then_a_problem() {
        let mut observed = healthy();
        let fill = |used| Fill {
            object: "conntrack",
            used,
            most: 100,
            then: "flows are dropped",
            remedy: "make it larger",
        };
        observed.fills = vec![fill(79)];
        assert!(told(&observed, "limit").is_empty());
        observed.fills = vec![fill(81), fill(99)];
        assert_eq!(told(&observed, "limit").len(), 2);
        assert_eq!(
            told(&observed, "limit")[0],
            "conntrack: 99 of 100 are used; when it is full, flows are dropped; make it larger"
        );
    }

    #[test]
    fn an_overlay_says_what_the_kernel_lacks_for_it() {
        let mut observed = healthy();
        let overlay = json!({"network": "front", "backend": "wireguard", "subnets": [], "blocks": [], "mtu": 1420,
            "bridge": "br-front", "masquerade": true});
        observed.overlays = vec![serde_json::from_value(overlay).unwrap()];
        assert!(told(&observed, "features")[0].contains("neither WireGuard nor /dev/net/tun"));
        observed.kernel.tun = true;
        assert!(told(&observed, "features").is_empty());
    }
}
