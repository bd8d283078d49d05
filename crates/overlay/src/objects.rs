//! Kernel objects of overlays: what tunnels and peers come to, and what there is of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Mac, NetworkName, Vni};

use crate::desired::first;
use crate::{Desired, Overlay, Path, Peer, Tunnel};

/// Who made a route, as in rtnetlink(7): overlays. Attachments have 122, services 123.
pub const PROTOCOL: u8 = 124;
/// The metric of routes to peers.
pub const METRIC: u32 = 100;
/// The metric of routes that say that the rest of a subnet is nowhere.
pub const UNREACHABLE_METRIC: u32 = 1_000_000;
/// How the alias of every device of overlays begins.
pub const ALIAS: &str = "zeugma overlay ";

/// The alias of a network's device.
pub fn alias(network: &NetworkName) -> String {
    format!("{ALIAS}{network}")
}

/// A device as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Says that it is ours.
    pub alias: String,
    /// Bytes.
    pub mtu: u32,
    /// What it is.
    pub kind: DeviceKind,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// VXLAN, learning off.
    Vxlan {
        /// Whose frames.
        vni: Vni,
        /// UDP.
        port: u16,
        /// Where packets leave from.
        local: IpAddr,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// Made by others: `Wireguard` beside, or `zeugma wg`.
    Wireguard,
}

/// A link as it is: one with our alias, or one of a name that a device is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSeen {
    /// Its alias.
    pub alias: String,
    /// What it is.
    pub kind: SeenKind,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenKind {
    /// VXLAN.
    Vxlan {
        /// Its network identifier; none: it takes any.
        vni: Option<u32>,
        /// UDP.
        port: u16,
        /// Where packets leave from.
        local: Option<IpAddr>,
        /// Whether it learns, which it is not to do.
        learning: bool,
    },
    /// WireGuard of the kernel.
    Wireguard,
    /// TUN, as of WireGuard in user space.
    Tun,
    /// Anything else.
    Other,
}

/// An entry of a VXLAN device's forwarding table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The device.
    pub link: IfName,
    /// Frames to this address
    pub mac: Mac,
    /// are sent there.
    pub remote: IpAddr,
}

/// Which route: in the main table there is one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Where to.
    pub destination: IpNetwork,
    /// Among several the least is taken.
    pub metric: u32,
}

/// What a route says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// There is no way.
    Unreachable,
    /// By a link.
    By {
        /// Which.
        link: IfName,
        /// The next hop.
        via: Option<IpAddr>,
        /// Whether the next hop is on the link whatever other routes say.
        onlink: bool,
        /// The source address of packets that have none yet.
        source: Option<IpAddr>,
    },
    /// What we never write.
    Other,
}

/// What there is of ours, and links of the names that ours are to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Links.
    pub links: BTreeMap<IfName, LinkSeen>,
    /// Addresses of our links that last.
    pub addresses: BTreeSet<(IfName, IpNetwork)>,
    /// Permanent forwarding entries of our links.
    pub forwards: BTreeSet<Forward>,
    /// Permanent neighbours on our links.
    pub neighbours: BTreeMap<(IfName, IpAddr), Mac>,
    /// Routes of our protocol.
    pub routes: BTreeMap<RouteKey, Route>,
}

/// What is to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) links: BTreeMap<IfName, Device>,
    pub(crate) addresses: BTreeSet<(IfName, IpNetwork)>,
    pub(crate) forwards: BTreeSet<Forward>,
    pub(crate) neighbours: BTreeMap<(IfName, IpAddr), Mac>,
    pub(crate) routes: BTreeMap<RouteKey, Route>,
}

impl Wanted {
    pub(crate) fn of(desired: &Desired) -> Self {
        let mut wanted = Self::default();
        for (network, overlay) in &desired.overlays {
            let link = overlay.tunnel.as_ref().map(|tunnel| wanted.device(network, tunnel));
            wanted.addresses.extend(
                link.iter().flat_map(|link| overlay.addresses.iter().map(|address| (link.clone(), *address))),
            );
            let unreachable = overlay.subnets.iter().map(|subnet| {
                (RouteKey { destination: *subnet, metric: UNREACHABLE_METRIC }, Route::Unreachable)
            });
            wanted.routes.extend(unreachable);
            for peer in overlay.peers.values() {
                wanted.peer(overlay, link.as_ref(), peer);
            }
        }
        wanted
    }

    fn device(&mut self, network: &NetworkName, tunnel: &Tunnel) -> IfName {
        let alias = alias(network);
        let (link, device) = match tunnel {
            Tunnel::Vxlan { link, vni, port, mac, local, mtu } => {
                let kind = DeviceKind::Vxlan { vni: *vni, port: *port, local: *local, mac: *mac };
                (link, Device { alias, mtu: *mtu, kind })
            }
            Tunnel::Wireguard { link, mtu, .. } => {
                (link, Device { alias, mtu: *mtu, kind: DeviceKind::Wireguard })
            }
        };
        self.links.insert(link.clone(), device);
        link.clone()
    }

    fn peer(&mut self, overlay: &Overlay, link: Option<&IfName>, peer: &Peer) {
        if let (Path::Vxlan { mac, remote }, Some(link)) = (&peer.path, link) {
            self.forwards.insert(Forward { link: link.clone(), mac: *mac, remote: *remote });
        }
        for block in &peer.blocks {
            let source = overlay.addresses.iter().find(|own| own.is_ipv4() == block.is_ipv4());
            let source = source.map(IpNetwork::ip);
            let next_hop = first(*block).ip();
            let route = match (&peer.path, link) {
                (Path::Direct { via, link }, _) => {
                    Route::By { link: link.clone(), via: Some(*via), onlink: false, source }
                }
                (Path::Vxlan { mac, .. }, Some(link)) => {
                    self.neighbours.insert((link.clone(), next_hop), *mac);
                    Route::By { link: link.clone(), via: Some(next_hop), onlink: true, source }
                }
                (Path::Wireguard { .. }, Some(link)) => {
                    Route::By { link: link.clone(), via: None, onlink: false, source }
                }
                (Path::Vxlan { .. } | Path::Wireguard { .. }, None) => continue,
            };
            self.routes.insert(RouteKey { destination: *block, metric: METRIC }, route);
        }
    }

    /// Without what is on links that are not there, or somebody else's.
    pub(crate) fn without(mut self, links: &BTreeSet<IfName>) -> Self {
        self.addresses.retain(|(link, _)| !links.contains(link));
        self.forwards.retain(|forward| !links.contains(&forward.link));
        self.neighbours.retain(|(link, _), _| !links.contains(link));
        self.routes.retain(|_, route| !route.is_by(links));
        self
    }
}

impl Observed {
    /// What is left when these links are gone: the kernel takes away what is on them.
    pub(crate) fn without(&self, links: &BTreeSet<IfName>) -> Self {
        let mut left = self.clone();
        left.links.retain(|link, _| !links.contains(link));
        left.addresses.retain(|(link, _)| !links.contains(link));
        left.forwards.retain(|forward| !links.contains(&forward.link));
        left.neighbours.retain(|(link, _), _| !links.contains(link));
        left.routes.retain(|_, route| !route.is_by(links));
        left
    }
}

impl Route {
    fn is_by(&self, links: &BTreeSet<IfName>) -> bool {
        matches!(self, Self::By { link, .. } if links.contains(link))
    }
}

impl LinkSeen {
    /// Whether it bears our mark.
    pub fn is_ours(&self) -> bool {
        self.alias.starts_with(ALIAS)
    }
}
