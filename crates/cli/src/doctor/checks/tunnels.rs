//! Whether packets fit: tunnels into the wire below, containers' packets into tunnels.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, OverlayState};
use zeugma_overlay::overhead;

use super::{Found, problem, warning};
use crate::doctor::observed::{Agent, Observed};

/// Network cards whose checksums of packets inside of VXLAN are wrong in some versions, and what to turn off.
const BAD_OFFLOAD: [(&str, &str); 2] = [
    ("vmxnet3", "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation"),
    ("be2net", "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation"),
];

/// What is sent must fit into what carries it: RFC 7348 has no fragments, and routers drop what is too long.
pub(super) fn mtu(observed: &Observed) -> Vec<Found> {
    let mut found: Vec<Found> =
        observed.overlays.iter().flat_map(|overlay| of_overlay(observed, overlay)).collect();
    let mut bridges: BTreeMap<&IfName, u32> = BTreeMap::new();
    for one in observed.living() {
        let Some(mtu) = one.mtu else { continue };
        if let Some(overlay) = observed.overlays.iter().find(|overlay| overlay.network == one.id.network) {
            if mtu > overlay.mtu {
                let what = format!(
                    "its interface has {mtu} bytes, and {} are what gets through its overlay",
                    overlay.mtu
                );
                found.push(problem(
                    one.shown(),
                    what,
                    "attach it again: the plugin overlay sets the right one",
                ));
            }
        } else if let Some(bridge) = one.bridge.as_ref().filter(|_| one.masquerade) {
            let most = bridges.entry(bridge).or_default();
            *most = mtu.max(*most);
        }
    }
    let Some((uplink, most)) = observed.underlay_mtu() else { return found };
    for (bridge, mtu) in bridges.into_iter().filter(|(_, mtu)| *mtu > most) {
        let what = format!(
            "its containers send up to {mtu} bytes and {uplink} carries {most}: large answers stay away where somebody drops ICMP"
        );
        let of_ours = observed.lists.iter().find(|list| list.is_ours && list.bridge.as_ref() == Some(bridge));
        let remedy = match of_ours {
            Some(list) => format!(
                "create network {0} again: zeugma network rm {0}, zeugma network create --mtu {most} {0}",
                list.network
            ),
            None => format!("set \"mtu\": {most} in the network's list and attach containers again"),
        };
        found.push(warning(bridge, what, remedy));
    }
    found
}

fn of_overlay(observed: &Observed, overlay: &OverlayState) -> Vec<Found> {
    let Some(tunnel) = &overlay.tunnel else { return Vec::new() };
    let Some(link) = observed.links.get(tunnel) else { return Vec::new() };
    let mut found = Vec::new();
    let mtu = link.state.mtu;
    if overlay.mtu > mtu {
        let what = format!("carries {mtu} bytes, and containers of {} send {}", overlay.network, overlay.mtu);
        found.push(problem(tunnel, what, format!("ip link set {tunnel} mtu {}", overlay.mtu)));
    }
    if let Some((uplink, below)) = observed.underlay_mtu() {
        let overhead = overhead(overlay.backend, is_over_v6(observed, overlay));
        if mtu + overhead > below {
            let what = format!(
                "{mtu} bytes and {overhead} of its own do not fit into the {below} of {uplink}: what is larger is lost"
            );
            let remedy = format!(
                "zeugma network create … --opt mtu={}, or raise the MTU of {uplink}",
                below.saturating_sub(overhead)
            );
            found.push(problem(tunnel, what, remedy));
        }
    }
    found
}

/// Whether tunnels' packets are IPv6: this host has nothing else, or a peer has.
fn is_over_v6(observed: &Observed, overlay: &OverlayState) -> bool {
    let uplink = observed.uplink.as_ref().and_then(|uplink| observed.links.get(uplink));
    let addresses = uplink.map_or(&[][..], |link| &link.addresses);
    let has_only_v6 = !addresses.is_empty() && addresses.iter().all(IpNetwork::is_ipv6);
    let Agent::Answers(_, overlays) = &observed.agent else { return has_only_v6 };
    let peers = overlays.iter().filter(|view| view.network == overlay.network).flat_map(|view| &view.peers);
    let mut tunnelled = peers.filter(|peer| peer.path != "direct");
    has_only_v6 || tunnelled.any(|peer| peer.remote.is_some_and(|remote| remote.is_ipv6()))
}

/// What the agent's probes found out on the way to other hosts.
pub(super) fn paths(observed: &Observed) -> Vec<Found> {
    let Agent::Answers(_, overlays) = &observed.agent else { return Vec::new() };
    let mut found = Vec::new();
    for overlay in overlays {
        for peer in &overlay.peers {
            let object = format!("{} to {}", overlay.network, peer.node);
            if let Some(mtu) = peer.mtu.filter(|mtu| *mtu < overlay.mtu) {
                let what =
                    format!("no packet larger than {mtu} bytes arrives, and containers send {}", overlay.mtu);
                found.push(problem(
                    &object,
                    what,
                    format!("set the network's mtu to {mtu}, or mend the path below"),
                ));
            }
            match peer.loss {
                Some(100) if peer.alive != Some(false) => {
                    let what = format!(
                        "the node is there, and none of the last probes was answered by way of {}",
                        peer.path
                    );
                    let remedy = "let the tunnel's UDP port through every firewall between the hosts; zeugma trace shows the way";
                    found.push(problem(&object, what, remedy));
                }
                Some(loss) if (20..100).contains(&loss) => {
                    let what = format!("{loss} % of the probes are lost");
                    found.push(warning(
                        &object,
                        what,
                        "look at the wire below: ping the other host's own address, and its NIC's counters",
                    ));
                }
                _ => {}
            }
        }
    }
    found
}

/// Drivers that are known to compute wrong checksums inside of tunnels.
pub(super) fn offload(observed: &Observed) -> Vec<Found> {
    let (Some(uplink), Some(driver)) = (&observed.uplink, &observed.driver) else { return Vec::new() };
    let has_vxlan = observed
        .overlays
        .iter()
        .filter_map(|overlay| observed.links.get(overlay.tunnel.as_ref()?))
        .any(|link| link.state.kind == "vxlan");
    let bad = BAD_OFFLOAD.iter().find(|(name, _)| has_vxlan && name == driver);
    let told = bad.map(|(_, features)| {
        let what = format!("its driver {driver} computes wrong checksums inside of VXLAN in some versions: TCP hangs and ping works");
        warning(uplink, what, format!("where that is so: ethtool -K {uplink} {features} off"))
    });
    told.into_iter().collect()
}

/// What the agent says about overlays, and tunnels that are missing.
pub(super) fn overlays(observed: &Observed) -> Vec<Found> {
    let mut found = Vec::new();
    if let Agent::Answers(_, overlays) = &observed.agent {
        for overlay in overlays {
            let lines = overlay.problems.iter();
            found.extend(lines.map(|line| {
                problem(
                    format!("overlay {}", overlay.network),
                    line,
                    "as it says; zeugma peers shows the rest",
                )
            }));
        }
    }
    for overlay in &observed.overlays {
        let missing = overlay.tunnel.as_ref().filter(|tunnel| !observed.links.contains_key(*tunnel));
        if let Some(tunnel) = missing {
            let what =
                format!("it is missing: containers of {} reach nobody on other hosts", overlay.network);
            found.push(problem(tunnel, what, "start zeugma agent, which makes it again"));
        }
    }
    for (pid, link) in observed.wireguards.iter().filter(|(_, link)| !observed.links.contains_key(link)) {
        let what = format!("its device {link} is gone");
        found.push(problem(
            format!("zeugma wg (process {pid})"),
            what,
            format!("kill {pid}; the agent starts another one"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_api::Status;

    use super::super::tests::{healthy, link, told};
    use super::*;

    fn with_overlay(mtu: u32, tunnel: u32, wire: u32) -> Observed {
        let mut observed = healthy();
        let overlay = json!({"network": "net", "backend": "vxlan", "subnets": [], "blocks": [], "mtu": mtu,
            "bridge": "br0", "tunnel": "vx0", "masquerade": true});
        observed.overlays = vec![serde_json::from_value(overlay).unwrap()];
        let mut device = link(tunnel);
        device.state.kind = "vxlan".into();
        observed.links.insert("vx0".parse().unwrap(), device);
        observed.links.insert("eth0".parse().unwrap(), link(wire));
        observed.kernel.vxlan = true;
        observed
    }

    #[test]
    fn every_layer_has_to_fit_into_the_one_below() {
        assert!(told(&with_overlay(1450, 1450, 1500), "mtu").is_empty());
        let below = told(&with_overlay(1450, 1450, 1450), "mtu");
        assert!(below.len() == 1 && below[0].contains("mtu=1400"), "{below:?}");
        let above = told(&with_overlay(1450, 1400, 1500), "mtu");
        assert!(above.len() == 1 && above[0].starts_with("vx0: carries 1400 bytes"), "{above:?}");
        let mut container = with_overlay(1450, 1450, 1500);
        container.attached[0].mtu = Some(1500);
        assert!(told(&container, "mtu")[0].starts_with("net/c: its interface has 1500"));
    }

    #[test]
    fn tunnels_over_ipv6_have_larger_headers() {
        let addressed = |addresses: &[&str]| {
            let mut observed = with_overlay(1450, 1450, 1500);
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            observed.links.get_mut(&"eth0".parse::<IfName>().unwrap()).unwrap().addresses = addresses;
            told(&observed, "mtu")
        };
        assert!(addressed(&["192.0.2.1/24", "2001:db8::1/64"]).is_empty());
        let over_v6 = addressed(&["2001:db8::1/64", "fe80::1/64"]);
        assert!(over_v6.len() == 1 && over_v6[0].contains("mtu=1430"), "{over_v6:?}");
    }

    #[test]
    fn containers_on_a_bridge_should_not_send_more_than_the_wire_takes() {
        let mut observed = healthy();
        observed.attached[0].mtu = Some(1500);
        assert!(told(&observed, "mtu").is_empty());
        observed.links.insert("eth0".parse().unwrap(), link(1400));
        assert!(told(&observed, "mtu")[0].contains("set \"mtu\": 1400"));
    }

    #[test]
    fn a_tunnel_that_is_gone_is_told_with_its_process() {
        let mut observed = with_overlay(1450, 1450, 1500);
        observed.wireguards = vec![(7, "wg0".parse().unwrap())];
        observed.links.remove(&"vx0".parse::<IfName>().unwrap());
        let told = told(&observed, "overlay");
        assert!(
            told[0].starts_with("vx0: it is missing") && told[1].starts_with("zeugma wg (process 7)"),
            "{told:?}"
        );
    }

    #[test]
    fn probes_that_are_lost_or_do_not_fit_are_told() {
        let mut observed = healthy();
        let status: Status =
            serde_json::from_value(json!({"version": "1", "pid": 1, "generation": 1, "attachments": 0,
            "networks": 0, "repairs": 0}))
            .unwrap();
        let peer = |loss: u8, mtu: u32| {
            json!({"node": "b", "alive": true, "blocks": [], "path": "vxlan", "remote": null,
            "mtu": mtu, "loss": loss})
        };
        let view = json!([{"network": "net", "backend": "vxlan", "mtu": 1450, "blocks": [],
            "peers": [peer(0, 1450), peer(100, 1450), peer(30, 1300)]}]);
        observed.agent = Agent::Answers(Box::new(status), serde_json::from_value(view).unwrap());
        let told = told(&observed, "path");
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[1].contains("set the network's mtu to 1300") && told[2].contains("30 %"), "{told:?}");
    }
}
