//! How the other hosts of an overlay are reached, and which of them cannot be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use zeugma_model::{Backend, MachineId, Node, NodeName, PublicKey};

use crate::desired::{Making, vtep};
use crate::{Path, Peer};

/// The peers of an overlay.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) peers: BTreeMap<NodeName, Peer>,
    /// What they send from without a tunnel.
    pub(crate) hosts: BTreeSet<IpAddr>,
    /// Whether tunnels' packets are IPv6.
    pub(crate) over_v6: bool,
}

/// What only one node can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(IpAddr),
    Machine(MachineId),
    Key(PublicKey),
}

/// The nodes with blocks, each with its path. What two nodes claim belongs to this one, else to the one that was written
/// last: a node that is gone for good is not written any more, and one that took its place is. Else to the one whose
/// name is first.
pub(crate) fn peers(
    making: &mut Making<'_>,
    me: &Node,
    blocks: BTreeMap<&NodeName, Vec<IpNetwork>>,
) -> Reached {
    let backend = making.options.backend;
    let mut claims: BTreeMap<Claim, &NodeName> = BTreeMap::new();
    claims.extend(claims_of(me, backend).into_iter().map(|claim| (claim, &me.name)));
    let local = making.view.here.underlay.iter();
    claims.extend(local.map(|underlay| (Claim::Address(underlay.address.ip()), &me.name)));
    let mut reached = Reached { over_v6: making.underlay(IpAddr::is_ipv4).is_none(), ..Reached::default() };
    let view = making.view;
    let mut nodes: Vec<(&Node, Vec<IpNetwork>)> =
        blocks.into_iter().filter_map(|(name, blocks)| Some((view.nodes.get(name)?, blocks))).collect();
    nodes.sort_by_key(|(node, _)| Reverse(view.revisions.get(&&node.name)));
    for (node, blocks) in nodes {
        let name = &node.name;
        let theirs = claims_of(node, backend);
        if let Some((claim, owner)) = theirs.iter().find_map(|claim| Some((*claim, *claims.get(claim)?))) {
            making.problems.push(rivalry(name, owner, claim));
            continue;
        }
        claims.extend(theirs.into_iter().map(|claim| (claim, name)));
        match path(making, node, &blocks) {
            Ok(path) => {
                reached.over_v6 |= matches!(path, Path::Wireguard { endpoint, .. } if endpoint.is_ipv6());
                if matches!(backend, Backend::HostGw | Backend::Auto) {
                    // Whatever family it is reached by; and it may have us on link where we have a tunnel to it.
                    reached.hosts.extend(&node.addresses);
                }
                reached.peers.insert(name.clone(), Peer { blocks, path });
            }
            Err(problem) => making.problems.push(problem),
        }
    }
    reached
}

fn claims_of(node: &Node, backend: Backend) -> Vec<Claim> {
    let identity = match backend {
        Backend::Vxlan | Backend::Auto => Some(Claim::Machine(node.machine)),
        Backend::Wireguard => node.key.map(Claim::Key),
        Backend::HostGw => None,
    };
    node.addresses.iter().copied().map(Claim::Address).chain(identity).collect()
}

fn rivalry(node: &NodeName, owner: &NodeName, claim: Claim) -> String {
    match claim {
        Claim::Address(address) => format!(
            "nodes {owner} and {node} are both at {address}, where {owner} is reached: remove the one that is gone, \
             `zeugma node rm NAME`, or give {node} another address"
        ),
        Claim::Machine(_) => format!(
            "nodes {owner} and {node} have the same machine ID, as clones have, and {owner} is reached: remove the one \
             that is gone, `zeugma node rm NAME`, or on {node} remove /etc/machine-id, run systemd-machine-id-setup and \
             start its agent again"
        ),
        Claim::Key(key) => format!(
            "nodes {owner} and {node} have the same WireGuard key {key}, as clones have, and {owner} is reached: \
             remove the one that is gone, `zeugma node rm NAME`, or on {node} remove the key's file and start its agent \
             again"
        ),
    }
}

fn path(making: &Making<'_>, node: &Node, blocks: &[IpNetwork]) -> Result<Path, String> {
    match making.options.backend {
        Backend::HostGw => direct(making, node, blocks).ok_or_else(|| no_link(node, blocks)),
        Backend::Auto => match direct(making, node, blocks) {
            Some(path) => Ok(path),
            None => vxlan(making, node),
        },
        Backend::Vxlan => vxlan(making, node),
        Backend::Wireguard => wireguard(making, node),
    }
}

/// By way of an address of the peer that is on link. An IPv6 packet needs an IPv6 next hop, an IPv4 one takes either
/// (RFC 8950).
fn direct(making: &Making<'_>, node: &Node, blocks: &[IpNetwork]) -> Option<Path> {
    let needs_v6 = blocks.iter().any(IpNetwork::is_ipv6);
    let mut vias: Vec<IpAddr> =
        node.addresses.iter().copied().filter(|via| via.is_ipv6() || !needs_v6).collect();
    vias.sort_unstable();
    vias.into_iter().find_map(|via| {
        let underlay = making.view.here.underlay.iter().find(|underlay| underlay.address.contains(via))?;
        Some(Path::Direct { via, link: underlay.link.clone() })
    })
}

fn no_link(node: &Node, blocks: &[IpNetwork]) -> String {
    let family = if blocks.iter().any(IpNetwork::is_ipv6) { "IPv6 " } else { "" };
    format!(
        "node {} is not on link with any {family}address, which host-gw needs: create the network with \
         `backend=auto`, which makes a tunnel to it",
        node.name
    )
}

fn vxlan(making: &Making<'_>, node: &Node) -> Result<Path, String> {
    let is_v4 = making.underlay(IpAddr::is_ipv4).is_some();
    let remote = node.addresses.iter().find(|address| address.is_ipv4() == is_v4);
    let Some((vni, remote)) = making.options.vni().zip(remote.copied()) else {
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        return Err(format!(
            "node {} has no {family} address, as this host's VXLAN has: give it one",
            node.name
        ));
    };
    Ok(Path::Vxlan { mac: vtep(node.machine, vni), remote })
}

fn wireguard(making: &Making<'_>, node: &Node) -> Result<Path, String> {
    let name = &node.name;
    let key = node.key.ok_or_else(|| {
        format!("node {name} has no WireGuard key: its agent is too old or cannot write its key's file, see its log")
    })?;
    let of_both = |of_family: fn(&IpAddr) -> bool| {
        making.underlay(of_family).and(node.addresses.iter().copied().find(of_family))
    };
    let address = of_both(IpAddr::is_ipv4).or_else(|| of_both(IpAddr::is_ipv6));
    let address = address.ok_or_else(|| {
        format!(
            "node {name} has no address of a family that this host has: give either one of the other's family"
        )
    })?;
    let endpoint = SocketAddr::new(address, making.options.port().map_or(0, u16::from));
    Ok(Path::Wireguard { key, next_key: node.next_key, endpoint })
}
