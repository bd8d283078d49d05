//! The view of a cluster → the overlays of this host. How a peer is reached: peers.rs; who has which block: blocks.rs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};
use zeugma_model::{Backend, Block, Mac, MachineId, Network, NetworkName, Node, OverlayOptions, Vni};

use crate::blocks::{Held, held};
use crate::peers::peers;
use crate::{Desired, Overlay, Tunnel, Underlay, View};

/// Bytes: what every IPv6 link carries (RFC 8200, 5).
const LEAST_V6_MTU: u32 = 1280;
/// Bytes: of a host that says nothing of its wire.
const ETHERNET: u32 = 1500;

/// What this host is to have, and what does not work.
pub fn desired(view: &View<'_>) -> Desired {
    let mut desired = Desired::default();
    let mut taken = BTreeMap::new();
    let mut blocks: BTreeMap<&NetworkName, Vec<&Block>> = BTreeMap::new();
    view.shares.blocks().iter().for_each(|block| blocks.entry(&block.network).or_default().push(block));
    for (name, network) in view.networks {
        let Some(options) = network.overlay() else { continue };
        if network.subnets.is_empty() {
            continue;
        }
        let blocks = blocks.remove(name).unwrap_or_default();
        let mut making = Making { view, network, options, problems: Vec::new() };
        if let Some(overlay) = making.overlay(blocks, &mut taken) {
            desired.overlays.insert(name.clone(), overlay);
        }
        desired.problems.extend(making.problems.into_iter().map(|problem| (name.clone(), problem)));
    }
    desired
}

/// The Ethernet address of a machine's end of a network: the same as long as the machine is installed, so that others
/// need not learn it anew.
pub(crate) fn vtep(machine: MachineId, vni: Vni) -> Mac {
    let digest: [u8; 32] =
        Sha256::new().chain_update(machine.0).chain_update(vni.get().to_be_bytes()).finalize().into();
    let [a, b, c, d, e, f, ..] = digest;
    Mac::local([a, b, c, d, e, f])
}

/// What a device of this host occupies: no other overlay can have the same.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Occupied {
    Vni(Vni, u16),
    Port(u16),
}

/// One network on its way to an overlay.
pub(crate) struct Making<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) network: &'a Network,
    pub(crate) options: &'a OverlayOptions,
    pub(crate) problems: Vec<String>,
}

impl<'a> Making<'a> {
    fn overlay(
        &mut self,
        blocks: Vec<&'a Block>,
        taken: &mut BTreeMap<Occupied, &'a NetworkName>,
    ) -> Option<Overlay> {
        let here = &self.view.here.node;
        let subnets: Vec<IpNetwork> = self.network.subnets.iter().map(|subnet| subnet.subnet).collect();
        if let Some(problem) = self.seals_off(&subnets) {
            self.problems.push(problem);
            return None;
        }
        let Held { mut by_node, problems } = held(blocks.into_iter(), &subnets);
        self.problems.extend(problems);
        let own = by_node.remove(here).unwrap_or_default();
        let Some(me) = self.view.nodes.get(here) else {
            let problem = format!("this node, {here}, is not among the nodes yet: its agent writes it down");
            self.problems.push(problem);
            let mtu = self.mtu(&subnets, false);
            // Nothing of it leaves in clear by another way meanwhile.
            let (tunnel, addresses, hosts, peers) = Default::default();
            return Some(Overlay { subnets, blocks: own, mtu, tunnel, addresses, hosts, peers });
        };
        let reached = peers(self, me, by_node);
        let mtu = self.mtu(&subnets, reached.over_v6);
        let tunnel = self.tunnel(me, mtu, taken);
        let works = tunnel.is_some() || self.options.backend == Backend::HostGw;
        let addresses = own.iter().filter(|_| tunnel.is_some()).map(|block| first(*block)).collect();
        let (peers, hosts) = if works { (reached.peers, reached.hosts) } else { Default::default() };
        Some(Overlay { subnets, blocks: own, mtu, tunnel, addresses, hosts, peers })
    }

    /// Whether hosts would not reach each other any more: what has no peer's route in an overlay is unreachable.
    fn seals_off(&self, subnets: &[IpNetwork]) -> Option<String> {
        let View { here, nodes, .. } = self.view;
        let ours = here.underlay.iter().map(|underlay| (&here.node, underlay.address.ip()));
        let theirs =
            nodes.values().flat_map(|node| node.addresses.iter().map(move |address| (&node.name, *address)));
        ours.chain(theirs).find_map(|(node, address)| {
            let subnet = subnets.iter().find(|subnet| subnet.contains(address))?;
            Some(format!(
                "its subnet {subnet} has {address}, by which node {node} is reached: remove it, and create it again \
                 with another subnet"
            ))
        })
    }

    /// The device. `auto` has one even when all peers are on link: one of them may see us behind a router.
    fn tunnel(
        &mut self,
        me: &Node,
        mtu: u32,
        taken: &mut BTreeMap<Occupied, &'a NetworkName>,
    ) -> Option<Tunnel> {
        let name = &self.network.name;
        let (tunnel, occupied) = match self.options.backend {
            Backend::HostGw => return None,
            Backend::Vxlan | Backend::Auto => {
                let Some(vni) = self.options.vni() else {
                    self.problems.push("it has no VXLAN network identifier: give it one, `vni=4096`".into());
                    return None;
                };
                let local = self.local()?.address.ip();
                let port = self.options.port().map_or(0, u16::from);
                let (link, mac) = (name.vxlan(), vtep(me.machine, vni));
                (Tunnel::Vxlan { link, vni, port, mac, local, mtu }, Occupied::Vni(vni, port))
            }
            Backend::Wireguard => {
                let Some(port) = self.options.port().map(u16::from) else {
                    self.problems.push("it has no port for WireGuard: give it one, `port=51821`".into());
                    return None;
                };
                self.local()?;
                (Tunnel::Wireguard { link: name.wireguard(), port, mtu }, Occupied::Port(port))
            }
        };
        if let Some(other) = taken.get(&occupied) {
            let (what, option) = match occupied {
                Occupied::Vni(vni, _) => (format!("VXLAN network identifier {vni}"), "vni"),
                Occupied::Port(port) => (format!("UDP port {port}"), "port"),
            };
            self.problems.push(format!(
                "network {other} has its {what}, too: create one of them with another `{option}`"
            ));
            return None;
        }
        taken.insert(occupied, name);
        Some(tunnel)
    }

    /// The address that tunnels leave from: IPv4 where there is such a one.
    pub(crate) fn local(&mut self) -> Option<&'a Underlay> {
        let local = self.underlay(IpAddr::is_ipv4).or_else(|| self.underlay(IpAddr::is_ipv6));
        if local.is_none() {
            let problem = "this host has no address that others reach it by: give it a default route, or its agent \
                           an address";
            self.problems.push(problem.into());
        }
        local
    }

    /// This host's underlay of a family.
    pub(crate) fn underlay(&self, of_family: impl Fn(&IpAddr) -> bool) -> Option<&'a Underlay> {
        self.view.here.underlay.iter().find(|underlay| of_family(&underlay.address.ip()))
    }

    /// What fits into a packet of the wire, or what is asked for, if that is less.
    fn mtu(&mut self, subnets: &[IpNetwork], over_v6: bool) -> u32 {
        let fits = self.wire().saturating_sub(overhead(self.options.backend, over_v6));
        let mtu = match self.network.mtu {
            Some(mtu) if mtu > fits => {
                self.problems.push(format!(
                    "its MTU of {mtu} does not fit into this host's packets, {fits} does: create it with `mtu={fits}`"
                ));
                fits
            }
            Some(mtu) => mtu,
            None => fits,
        };
        if mtu < LEAST_V6_MTU && subnets.iter().any(IpNetwork::is_ipv6) {
            self.problems.push(format!(
                "its MTU is {mtu}, and IPv6 needs {LEAST_V6_MTU}: raise the MTU of this host's link, or leave IPv6"
            ));
        }
        mtu
    }

    /// Bytes: of the narrowest interface that packets may leave by.
    fn wire(&self) -> u32 {
        let all = self.view.here.underlay.iter();
        match self.options.backend {
            Backend::HostGw | Backend::Wireguard => all.map(|underlay| underlay.mtu).min(),
            Backend::Vxlan | Backend::Auto => {
                let v4 = all.clone().find(|underlay| underlay.address.is_ipv4());
                v4.or_else(|| all.clone().next()).map(|underlay| underlay.mtu)
            }
        }
        .unwrap_or(ETHERNET)
    }
}

/// Bytes: Ethernet, VXLAN, UDP and IP headers around a packet (RFC 7348, 5), or WireGuard's (its header and tag have 32).
pub fn overhead(backend: Backend, over_v6: bool) -> u32 {
    let v6 = if over_v6 { 20 } else { 0 };
    match backend {
        Backend::HostGw => 0,
        Backend::Vxlan | Backend::Auto => 50 + v6,
        Backend::Wireguard => 60 + v6,
    }
}

/// The first address of a block as a whole one: the host's own on the tunnel, and the next hop to the block.
pub(crate) fn first(block: IpNetwork) -> IpNetwork {
    block.network().into()
}
