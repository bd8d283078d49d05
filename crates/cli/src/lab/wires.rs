//! What ip(8) and tc(8) are told, for the links of a lab. Pure.

use std::fmt::Write;

use super::check::STORE;
use super::file::Destination;
use super::topology::{End, Link, Machine, Topology};

/// Room in a queue for what comes at once: more than the largest segment that a virtual link hands over in one piece.
const BURST: &str = "256kb";
/// What waits longer in a queue is dropped.
const LATENCY: &str = "50ms";
/// Addresses by which agents reach what they share (RFC 2544, for labs).
const STORE_NETWORK: &str = "198.18.255";

/// Makes all links; `netns` says where the network namespace of a place is.
pub(super) fn links(topology: &Topology, netns: impl Fn(&str) -> String) -> String {
    let mut script = String::new();
    let mut veth = |mtu: Option<u32>, one: (&str, &str), other: (&str, &str)| {
        let mtu = mtu.map_or_else(String::new, |mtu| format!(" mtu {mtu}"));
        let ((one, at), (other, there)) = ((one.0, netns(one.1)), (other.0, netns(other.1)));
        let line =
            format!("link add name {one}{mtu} netns {at} type veth peer name {other}{mtu} netns {there}");
        script.push_str(&line);
        script.push('\n');
    };
    for link in &topology.links {
        match (&link.switch, link.ends.as_slice()) {
            (Some(switch), ends) => {
                for (number, end) in ends.iter().enumerate() {
                    veth(link.mtu, (end.interface.as_str(), &end.machine), (&port(number), switch));
                }
            }
            (None, [one, other]) => {
                veth(
                    link.mtu,
                    (one.interface.as_str(), &one.machine),
                    (other.interface.as_str(), &other.machine),
                );
            }
            (None, _) => {}
        }
    }
    for (number, machine) in agents(topology).enumerate() {
        if topology.store.is_some() {
            veth(None, (STORE, &machine.name), (&port(number), STORE));
        }
    }
    script
}

fn port(number: usize) -> String {
    format!("p{}", number + 1)
}

fn agents(topology: &Topology) -> impl Iterator<Item = &Machine> {
    topology.machines.iter().filter(|machine| machine.agent.is_some())
}

/// Joins the ports of a switch.
pub(super) fn ports(count: usize) -> String {
    (0..count)
        .map(port)
        .fold(String::new(), |script, port| script + &format!("link set {port} master br0 up\n"))
}

/// How many machines reach the store.
pub(super) fn store_ports(topology: &Topology) -> usize {
    agents(topology).count()
}

/// Where the store is.
pub(super) fn store_address() -> String {
    format!("{STORE_NETWORK}.1")
}

/// Addresses, links up, routes of a machine, in the order in which each needs the one before.
pub(super) fn machine(topology: &Topology, machine: &Machine) -> String {
    let mut script = String::new();
    for (_, End { interface, addresses, .. }) in topology.ends_of(&machine.name) {
        for address in addresses {
            // The lab knows that no other has it, so that it can be used at once.
            let nodad = if address.is_ipv6() { " nodad" } else { "" };
            let _ = writeln!(script, "address add {address} dev {interface}{nodad}");
        }
        let _ = writeln!(script, "link set {interface} up");
    }
    let number = agents(topology).position(|one| one.name == machine.name);
    if let (Some(number), Some(_)) = (number, topology.store) {
        let _ = writeln!(
            script,
            "address add {STORE_NETWORK}.{}/24 dev {STORE}\nlink set {STORE} up",
            number + 2
        );
    }
    for route in &machine.routes {
        let to = match route.to {
            Destination::Prefix(prefix) => prefix.to_string(),
            // In words that have a family: `default` alone is IPv4's.
            Destination::Default if route.via.is_ipv4() => "0.0.0.0/0".into(),
            Destination::Default => "::/0".into(),
        };
        let _ = writeln!(script, "route add {to} via {}", route.via);
    }
    script
}

/// The queue of an interface, as tc(8) is told, when the link is slower than memory.
pub(super) fn queue(link: &Link, end: &End) -> Option<String> {
    let interface = &end.interface;
    let netem =
        |delay: &str, rate: String| format!("qdisc add dev {interface} root netem delay {delay}{rate}\n");
    match (&link.delay, &link.rate) {
        (Some(delay), rate) => Some(netem(delay, rate.iter().map(|rate| format!(" rate {rate}")).collect())),
        (None, Some(rate)) => {
            Some(format!("qdisc add dev {interface} root tbf rate {rate} burst {BURST} latency {LATENCY}\n"))
        }
        (None, None) => None,
    }
}
