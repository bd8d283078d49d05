//! Overlays as values: nodes and their blocks in, links, neighbours, forwarding entries, routes and WireGuard peers out.
//!
//! No I/O: what is there is observed and changed by `kernel::overlay`, what nodes tell each other is the catalogue's.
//!
//! Two steps: [`desired()`] makes tunnels and peers of the view, [`plan()`] makes the least changes of them and of what is
//! there. Which kernel objects a tunnel and its peers are: objects.rs. What takes nothing away: [`additions()`].

mod additions;
mod blocks;
mod desired;
mod objects;
mod peers;
mod plan;
mod render;
#[cfg(test)]
mod tests;

pub use additions::additions;
pub use blocks::{Shares, Taken, contains, ends, shares};
pub use desired::{desired, overhead};
pub use objects::{
    ALIAS, Device, DeviceKind, Forward, LinkSeen, METRIC, Observed, PROTOCOL, Route, RouteKey, SeenKind,
    UNREACHABLE_METRIC, alias,
};
pub use plan::{Change, Plan, plan};
pub use render::{
    address_line, change_line, forward_line, link_line, neighbour_line, route_line, unlink_line,
};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Mac, Network, NetworkName, Node, NodeName, PublicKey, Vni};

/// This host, as far as overlays depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Its name.
    pub node: NodeName,
    /// By which addresses the others reach it, at most one of each family.
    pub underlay: Vec<Underlay>,
}

/// An address of this host that packets to other hosts leave from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// The address, with the prefix that is on link.
    pub address: IpNetwork,
    /// The interface that has it.
    pub link: IfName,
    /// Bytes.
    pub mtu: u32,
}

/// All that is known.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// This host.
    pub here: &'a Here,
    /// Networks; those of other drivers than `overlay` are passed over.
    pub networks: &'a BTreeMap<NetworkName, Network>,
    /// Nodes, this one among them.
    pub nodes: &'a BTreeMap<NodeName, Node>,
    /// When they were last written: of two that claim the same the later one is reached, and the one whose name is first
    /// where nobody says when, as in a file of peers.
    pub revisions: &'a BTreeMap<&'a NodeName, u64>,
    /// Who has which addresses.
    pub shares: &'a Shares,
}

/// What this host is to have, by network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The overlays.
    pub overlays: BTreeMap<NetworkName, Overlay>,
    /// What does not work, a line each, with what to do: by network.
    pub problems: Vec<(NetworkName, String)>,
}

/// An overlay on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// All of its addresses, on every host: what has no peer's route is unreachable, never elsewhere.
    pub subnets: Vec<IpNetwork>,
    /// Those of this host.
    pub blocks: Vec<IpNetwork>,
    /// Bytes: of containers' interfaces.
    pub mtu: u32,
    /// The device; none where no peer needs one.
    pub tunnel: Option<Tunnel>,
    /// The host's own addresses on it, a whole address each: the first of each block.
    pub addresses: Vec<IpNetwork>,
    /// What other hosts send from when they need no tunnel to this one: they are told apart from strangers by it.
    pub hosts: BTreeSet<IpAddr>,
    /// The other hosts.
    pub peers: BTreeMap<NodeName, Peer>,
}

/// The device of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnel {
    /// VXLAN, learning off.
    Vxlan {
        /// Its name.
        link: IfName,
        /// Whose frames.
        vni: Vni,
        /// UDP; the same on every host.
        port: u16,
        /// The VTEP's Ethernet address: made of the machine's ID and the VNI.
        mac: Mac,
        /// The address that packets leave from.
        local: IpAddr,
        /// Bytes.
        mtu: u32,
    },
    /// WireGuard, by the kernel or by `zeugma wg`.
    Wireguard {
        /// Its name.
        link: IfName,
        /// UDP, of this host.
        port: u16,
        /// Bytes.
        mtu: u32,
    },
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its addresses of the overlay.
    pub blocks: Vec<IpNetwork>,
    /// How it is reached.
    pub path: Path,
}

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// By the VXLAN device.
    Vxlan {
        /// Its VTEP's Ethernet address.
        mac: Mac,
        /// Where the packets go.
        remote: IpAddr,
    },
    /// By the WireGuard device.
    Wireguard {
        /// Whom its packets are encrypted for.
        key: PublicKey,
        /// The key that it changes to next: known, and not used yet.
        next_key: Option<PublicKey>,
        /// Where the packets go at first; it may roam.
        endpoint: SocketAddr,
    },
    /// As they are.
    Direct {
        /// The next hop.
        via: IpAddr,
        /// The interface to it.
        link: IfName,
    },
}
