//! What is in the way of packets on this host: forwarding, other programs' filters, ports that are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zeugma_kernel::Listener;
use zeugma_model::{Backend, IfName, Protocol};

use super::{Found, counted, problem, warning};
use crate::doctor::observed::{Agent, Observed, Purpose, Taken, Tunnel};
use crate::host::Attached;
use crate::host::filters::{Hook, Passing};

/// Somewhere outside: an address of RFC 5737 and of RFC 3849.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Whether the host routes between a bridge and the rest.
pub(super) fn forwarding(observed: &Observed) -> Vec<Found> {
    let mut found = Vec::new();
    for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
        let uses = |one: &&Attached| {
            !one.gateways.is_empty() && one.addresses.iter().any(|address| address.is_ipv4() == is_v4)
        };
        let users = observed.living().filter(uses).count();
        if users == 0 {
            continue;
        }
        let bridges: BTreeSet<&IfName> =
            observed.living().filter(uses).filter_map(|one| one.bridge.as_ref()).collect();
        let all =
            if is_v4 { "net/ipv4/ip_forward".into() } else { format!("net/{family}/conf/all/forwarding") };
        let whole = observed.number(&all) == Some(0);
        let links = bridges
            .into_iter()
            .chain(observed.uplink.as_ref())
            .map(|link| format!("net/{family}/conf/{link}/forwarding"));
        let off: Vec<String> =
            if whole { vec![all] } else { links.filter(|path| observed.number(path) == Some(0)).collect() };
        for path in off {
            let what = format!(
                "is 0: {} cannot be reached from, and cannot reach, anything beyond the bridge",
                counted(users, "container")
            );
            let remedy = format!(
                "sysctl -w {0}=1, and in /etc/sysctl.d, so that the next boot has it, too",
                dotted(&path)
            );
            found.push(problem(dotted(&path), what, remedy));
        }
    }
    found
}

/// As sysctl(8) has it.
fn dotted(path: &str) -> String {
    path.chars()
        .map(|one| match one {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

/// How many kinds of packets are named.
const SHOWN: usize = 3;

/// What a chain drops, and of which bridges.
#[derive(Default)]
struct Dropped {
    what: BTreeSet<String>,
    bridges: BTreeSet<IfName>,
}

/// Chains of others that drop what containers send or get.
pub(super) fn filters(observed: &Observed) -> Vec<Found> {
    let mut dropped: BTreeMap<String, Dropped> = BTreeMap::new();
    for one in observed.living() {
        for (what, passing) in packets(observed, one) {
            for chain in observed.filters.that_drop(&passing) {
                let of_chain = dropped.entry(chain).or_default();
                of_chain.what.insert(what.clone());
                of_chain.bridges.extend(one.bridge.clone());
            }
        }
    }
    let mut found: Vec<Found> = dropped.into_iter().map(|(chain, what)| in_the_way(&chain, what)).collect();
    found.extend(observed.filters.unread().into_iter().map(|chain| {
        let what = "drops what its rules do not let pass, and these cannot be read without nft";
        warning(chain, what, "install nftables and run this again")
    }));
    found
}

fn in_the_way(chain: &str, dropped: Dropped) -> Found {
    let all = dropped.what.len();
    let mut words: Vec<String> = dropped.what.into_iter().take(SHOWN).collect();
    if all > words.len() {
        words.push(format!("{} more", all - words.len()));
    }
    let bridge = dropped.bridges.first().map_or("BRIDGE", |bridge| bridge.as_str());
    let remedy = match chain {
        "ip filter FORWARD" | "ip6 filter FORWARD" => {
            let program = if chain.starts_with("ip6") { "ip6tables" } else { "iptables" };
            format!(
                "let packets of the bridge pass there: {program} -I FORWARD -i {bridge} -j ACCEPT and -o {bridge} (with Docker \
                 in DOCKER-USER; with ufw: ufw route allow in on {bridge}, and out on {bridge})"
            )
        }
        "ip filter INPUT" | "ip6 filter INPUT" => {
            format!("let them in: with ufw by `ufw allow in on {bridge} to any port 53`")
        }
        _ => format!(
            "let packets of {bridge} pass in that chain: an accept in table inet zeugma does not count for others"
        ),
    };
    problem(chain, format!("drops {}", words.join(", ")), remedy)
}

/// What has to pass, in words and as packets.
fn packets(observed: &Observed, one: &Attached) -> Vec<(String, Passing)> {
    let (Some(bridge), Some(uplink)) = (&one.bridge, &observed.uplink) else { return Vec::new() };
    let mut packets = Vec::new();
    for address in one.addresses.iter().map(|address| address.ip()) {
        let outside = OUTSIDE[usize::from(address.is_ipv6())];
        let forward = |iif: &IfName, oif: &IfName, source, destination| Passing {
            hook: Hook::Forward,
            iif: iif.to_string(),
            oif: oif.to_string(),
            source,
            destination,
            port: Some((Protocol::Tcp, 443)),
            is_translated: false,
        };
        if !one.gateways.is_empty() && one.masquerade {
            let to = forward(bridge, uplink, address, outside);
            packets.push((format!("what containers of {bridge} send to the outside"), to));
        }
        for port in &one.ports {
            let from = forward(uplink, bridge, outside, address);
            let translated = Some((port.protocol, port.container_port.get()));
            let passing = Passing { port: translated, is_translated: true, ..from };
            packets.push((
                format!("what comes for published port {}/{}", port.host_port, port.protocol),
                passing,
            ));
        }
        for gateway in one.asks.iter().filter(|gateway| gateway.is_ipv4() == address.is_ipv4()) {
            let asked = forward(bridge, bridge, address, *gateway);
            let passing =
                Passing { hook: Hook::Input, oif: String::new(), port: Some((Protocol::Udp, 53)), ..asked };
            packets.push((format!("questions for names to {gateway}"), passing));
        }
    }
    packets
}

/// With br_netfilter, filters of IP see frames between two containers of one bridge.
pub(super) fn bridged(observed: &Observed) -> Vec<Found> {
    let mut found = BTreeMap::new();
    for one in observed.living() {
        let Some(bridge) = &one.bridge else { continue };
        for address in one.addresses.iter().map(|address| address.ip()) {
            let file = if address.is_ipv4() { "iptables" } else { "ip6tables" };
            let path = format!("net/bridge/bridge-nf-call-{file}");
            if observed.number(&path) != Some(1) {
                continue;
            }
            let passing = Passing {
                hook: Hook::Forward,
                iif: bridge.to_string(),
                oif: bridge.to_string(),
                source: address,
                destination: address,
                port: Some((Protocol::Tcp, 443)),
                is_translated: false,
            };
            for chain in observed.filters.that_drop(&passing) {
                let what = format!("is 1, and so {chain} drops what containers of {bridge} send one another");
                let remedy =
                    format!("sysctl -w {}=0, or let the bridge's packets pass in that chain", dotted(&path));
                found.entry((path.clone(), chain)).or_insert_with(|| problem(dotted(&path), what, remedy));
            }
        }
    }
    found.into_values().collect()
}

/// Its chains reject what is in no zone that allows it.
pub(super) fn firewalld(observed: &Observed) -> Vec<Found> {
    if !observed.filters.has_table("firewalld") {
        return Vec::new();
    }
    let is_stray = |one: &&Attached| one.zone.is_none() && one.bridge.is_some() && !one.addresses.is_empty();
    let strays: Vec<String> = observed.living().filter(is_stray).map(Attached::shown).collect();
    let strays = strays.iter().map(|stray| {
        let remedy = "put the plugin firewall behind bridge in its network's list and attach it again: it adds \
                      containers to the zone trusted";
        warning(stray, "has an address in no zone of firewalld, which may reject its packets", remedy)
    });
    strays.collect()
}

/// Two sets of rules, and `iptables` shows one.
pub(super) fn legacy(observed: &Observed) -> Vec<Found> {
    let tables = observed.legacy.iter().map(|table| {
        let what = "iptables-legacy made it: its rules count beside those of nftables, and neither nft nor a newer iptables shows them";
        warning(format!("table {table}"), what, "look with iptables-legacy-save; clear it, or move its rules to nftables (iptables-legacy-save | iptables-nft-restore)")
    });
    tables.collect()
}

/// Strict reverse path filtering drops what comes by another way than the answer would take.
pub(super) fn reverse_path(observed: &Observed) -> Vec<Found> {
    let everywhere = observed.number("net/ipv4/conf/all/rp_filter").unwrap_or_default();
    let tunnels = observed.overlays.iter().filter_map(|overlay| overlay.tunnel.as_ref());
    let mut found = Vec::new();
    for link in tunnels {
        let path = format!("net/ipv4/conf/{link}/rp_filter");
        let here = observed.number(&path).unwrap_or_default();
        if here.max(everywhere) == 1 {
            let what = "is strict: packets of other hosts are dropped when the answer would not leave by the tunnel, as during a change of path";
            let name = if here == 1 { &path } else { "net/ipv4/conf/all/rp_filter" };
            found.push(warning(dotted(name), what, format!("sysctl -w {}=2", dotted(&path))));
        }
    }
    found
}

/// Ports that we need, and another program has.
pub(super) fn ports(observed: &Observed) -> Vec<Found> {
    let agent = match &observed.agent {
        Agent::Answers(status, _) => Some(status.pid),
        Agent::Away | Agent::Silent(_) => None,
    };
    let is_agent = |taken: &&Taken| {
        taken.purpose == Purpose::Names
            && (taken.by.name == "zeugma" || taken.by.pid == agent && agent.is_some())
    };
    let is_told = |taken: &&Taken| match &taken.purpose {
        Purpose::Tunnel(_, tunnel) => !is_its_own(observed, tunnel, &taken.by),
        Purpose::Names | Purpose::Published(_) => !is_agent(taken),
    };
    observed.taken.iter().filter(is_told).map(taken).collect()
}

/// Whether who has a tunnel's port is the tunnel. The kernel's own sockets have no process.
fn is_its_own(observed: &Observed, tunnel: &Tunnel, by: &Listener) -> bool {
    let is_ours = by.name == "zeugma" || observed.wireguards.iter().any(|(pid, _)| by.pid == Some(*pid));
    let up = observed.links.get(&tunnel.link).filter(|link| link.state.up);
    let is_kernel_s = match up.map(|link| link.state.kind.as_str()) {
        Some("vxlan") => true,
        Some("wireguard") => by.pid.is_none(),
        // VXLAN devices share a port.
        _ => by.pid.is_none() && tunnel.backend != Backend::Wireguard,
    };
    is_ours || is_kernel_s
}

fn taken(taken: &Taken) -> Found {
    let Taken { protocol, address, by, purpose } = taken;
    let object = format!("{address}/{protocol}");
    match purpose {
        Purpose::Published(whose) => warning(
            object,
            format!(
                "{by} listens there, and {whose} publishes the port: the program gets nothing from outside"
            ),
            "let the program listen at another port, or publish another",
        ),
        Purpose::Names => problem(
            object,
            format!("{by} has it, so that containers get no answers to questions for names"),
            "let that program leave the address alone (dnsmasq: bind-interfaces and except-interface), then zeugma answers within seconds",
        ),
        Purpose::Tunnel(network, tunnel) => problem(
            object,
            format!(
                "{by} has it, so that {} gets nothing: containers of {network} reach nobody on other hosts",
                tunnel.link
            ),
            "let it take another port (`ss -ulpn` and `wg show` name it), or create the network with another: --opt port=…",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{healthy, link, told};
    use super::*;
    use crate::host::filters::tests::filters as forward;

    #[test]
    fn forwarding_that_is_off_is_told_once_for_all_links() {
        let mut observed = healthy();
        observed.sysctls.insert("net/ipv4/conf/br0/forwarding".into(), "0".into());
        assert!(
            told(&observed, "forwarding")[0].starts_with("net.ipv4.conf.br0.forwarding: is 0: 1 container")
        );
        observed.sysctls.insert("net/ipv4/ip_forward".into(), "0".into());
        let told = told(&observed, "forwarding");
        assert!(told.len() == 1 && told[0].contains("sysctl -w net.ipv4.ip_forward=1"), "{told:?}");
    }

    #[test]
    fn a_chain_that_drops_says_what_it_drops() {
        let mut observed = healthy();
        observed.filters = forward(true, &[]);
        let all = told(&observed, "filter");
        assert!(
            all.len() == 1
                && all[0].contains(
                    "what comes for published port 8080/tcp, what containers of br0 send to the outside"
                ),
            "{all:?}"
        );
        assert!(all[0].contains("iptables -I FORWARD -i br0"), "{all:?}");
        observed.sysctls.insert("net/bridge/bridge-nf-call-iptables".into(), "1".into());
        assert!(
            told(&observed, "bridged")[0]
                .contains("ip filter FORWARD drops what containers of br0 send one another")
        );
        let through = json!({"expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "br0"}}, {"accept": null}]});
        observed.filters = forward(true, &[through]);
        assert!(
            told(&observed, "filter")[0].contains("drops what comes for published port"),
            "{:?}",
            told(&observed, "filter")
        );
        assert!(told(&observed, "bridged").is_empty());
    }

    #[test]
    fn a_port_that_another_program_has_is_told_with_its_name() {
        let mut observed = healthy();
        let by = |name: &str| Listener { name: name.into(), pid: Some(7) };
        let at = |purpose, by| Taken {
            protocol: Protocol::Udp,
            address: "10.88.0.1:53".parse().unwrap(),
            by,
            purpose,
        };
        observed.taken = vec![at(Purpose::Names, by("zeugma"))];
        assert!(told(&observed, "port").is_empty());
        observed.taken =
            vec![at(Purpose::Names, by("dnsmasq")), at(Purpose::Published("net/c".into()), by("nginx"))];
        let told = told(&observed, "port");
        assert!(told[0].starts_with("10.88.0.1:53/udp: dnsmasq (process 7) has it"), "{told:?}");
        assert!(told[1].contains("nginx (process 7) listens there, and net/c publishes"), "{told:?}");
    }

    #[test]
    fn a_tunnel_s_port_that_somebody_else_has_is_told() {
        let tunnel = Tunnel { link: "wg-net".parse().unwrap(), backend: Backend::Wireguard, port: 51_820 };
        let mut observed = healthy();
        let mut check = |name: &str, pid, kind: &str, up, is_told| {
            let mut device = link(1420);
            (device.state.kind, device.state.up) = (kind.into(), up);
            observed.links.insert(tunnel.link.clone(), device);
            observed.wireguards = vec![(8, tunnel.link.clone())];
            let purpose = Purpose::Tunnel("net".parse().unwrap(), tunnel.clone());
            let (address, by) = ("0.0.0.0:51820".parse().unwrap(), Listener { name: name.into(), pid });
            observed.taken = vec![Taken { protocol: Protocol::Udp, address, by, purpose }];
            let told = told(&observed, "port");
            assert_eq!(told.len(), usize::from(is_told), "{name} {kind} {up}: {told:?}");
        };
        check("a program", None, "wireguard", true, false);
        check("a program", None, "wireguard", false, true);
        check("a program", None, "tun", true, true);
        check("exe", Some(8), "tun", true, false);
        check("boringtun", Some(7), "tun", true, true);
        check("python3", Some(7), "wireguard", false, true);
        check("python3", Some(7), "vxlan", true, false);
    }

    #[test]
    fn what_iptables_legacy_has_is_told() {
        let mut observed = healthy();
        observed.legacy = vec!["filter".into()];
        assert!(told(&observed, "legacy")[0].starts_with("table filter: iptables-legacy made it"));
    }
}
