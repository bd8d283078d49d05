//! What there is of overlays: rtnetlink's answers → [`Observed`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::{IfName, Mac};
use zeugma_overlay::{Forward, LinkSeen, Observed, PROTOCOL, Route, RouteKey, SeenKind};

use super::encode::Indexes;
use super::socket::Socket;
use super::uplinks::{Outward, outward};
use crate::Error;
use crate::route::{RT_TABLE_MAIN, address_of, ip};

/// What there is, with the links' indexes.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) observed: Observed,
    /// Of all links of the namespace: a route may leave by any.
    pub(super) indexes: Indexes,
    pub(super) names: BTreeMap<u32, IfName>,
    /// Links that may lead to routers.
    pub(super) outward: BTreeMap<IfName, Outward>,
    /// Names that ours are to have.
    pub(super) wanted: BTreeSet<IfName>,
}

/// Lists everything.
pub(super) async fn observe(socket: &Socket, wanted: &BTreeSet<IfName>) -> Result<Seen, Error> {
    let mut seen = Seen { wanted: wanted.clone(), ..Seen::default() };
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    for answer in socket.list("list links", RouteNetlinkMessage::GetLink(question)).await? {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            seen.take_link(&link);
        }
    }
    let ours = seen.observed.links.iter().filter(|(_, link)| is_ours(link));
    let ours: Vec<u32> = ours.filter_map(|(name, _)| seen.indexes.get(name).copied()).collect();
    for index in ours {
        on_link(socket, index, &mut seen).await?;
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        routes(socket, family, &mut seen).await?;
    }
    Ok(seen)
}

/// Addresses, neighbours and forwarding entries of a link.
async fn on_link(socket: &Socket, index: u32, seen: &mut Seen) -> Result<(), Error> {
    let mut question = AddressMessage::default();
    question.header.index = index;
    for answer in socket.list("list addresses", RouteNetlinkMessage::GetAddress(question)).await? {
        seen.observed.addresses.extend(seen.address(answer));
    }
    for family in [AddressFamily::Unspec, AddressFamily::Bridge] {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        question.attributes.push(NeighbourAttribute::IfIndex(index));
        for answer in socket.list("list neighbours", RouteNetlinkMessage::GetNeighbour(question)).await? {
            if let RouteNetlinkMessage::NewNeighbour(message) = answer {
                seen.take_neighbour(&message);
            }
        }
    }
    Ok(())
}

async fn routes(socket: &Socket, family: AddressFamily, seen: &mut Seen) -> Result<(), Error> {
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.protocol = RouteProtocol::from(PROTOCOL);
    question.header.table = RT_TABLE_MAIN;
    for answer in socket.list("list routes", RouteNetlinkMessage::GetRoute(question)).await? {
        if let RouteNetlinkMessage::NewRoute(message) = answer {
            seen.observed.routes.extend(seen.route(&message));
        }
    }
    Ok(())
}

/// Whether what is on it may be ours. One of a wanted name without mark may be one that we were stopped at marking.
fn is_ours(link: &LinkSeen) -> bool {
    link.is_ours() || (link.alias.is_empty() && matches!(link.kind, SeenKind::Vxlan { .. }))
}

impl Seen {
    /// Takes a link as it is now, if it matters.
    pub(super) fn take_link(&mut self, link: &LinkMessage) {
        let Some(name) = link_name(link) else { return };
        self.indexes.insert(name.clone(), link.header.index);
        self.names.insert(link.header.index, name.clone());
        match outward(link) {
            Some(outward) => drop(self.outward.insert(name.clone(), outward)),
            None => drop(self.outward.remove(&name)),
        }
        let state = link_seen(link);
        if state.is_ours() || self.wanted.contains(&name) {
            self.observed.links.insert(name, state);
        } else {
            self.observed.links.remove(&name);
        }
    }

    /// Links that are gone: one of the same name has another index.
    pub(super) fn forget(&mut self, links: &BTreeSet<IfName>) {
        for name in links {
            if let Some(index) = self.indexes.remove(name) {
                self.names.remove(&index);
            }
            self.observed.links.remove(name);
            self.outward.remove(name);
        }
    }

    pub(super) fn take_neighbour(&mut self, message: &NeighbourMessage) {
        match self.met(message) {
            Some(Met::Neighbour(key, mac)) => drop(self.observed.neighbours.insert(key, mac)),
            Some(Met::Forward(entry)) => drop(self.observed.forwards.insert(entry)),
            None => {}
        }
    }

    /// An address of a link that matters.
    pub(super) fn address(&self, message: RouteNetlinkMessage) -> Option<(IfName, IpNetwork)> {
        let (RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address)) = message
        else {
            return None;
        };
        let name =
            self.names.get(&address.header.index).filter(|name| self.observed.links.contains_key(*name))?;
        // Link-local ones are the kernel's.
        let found = address_of(RouteNetlinkMessage::NewAddress(address.clone()), address.header.index)?;
        let is_link_local = matches!(found.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        (!is_link_local).then(|| (name.clone(), found))
    }

    /// A lasting neighbour or forwarding entry of a link that matters.
    pub(super) fn met(&self, message: &NeighbourMessage) -> Option<Met> {
        let (link, address, mac) = self.whom(message)?;
        let mac = mac.filter(|_| message.header.state == NeighbourState::Permanent)?;
        Some(match message.header.family {
            AddressFamily::Bridge => Met::Forward(Forward { link, mac, remote: address }),
            _ => Met::Neighbour((link, address), mac),
        })
    }

    /// Whether one of those that are known is spoken of, whatever is said of it.
    pub(super) fn knows(&self, message: &NeighbourMessage) -> bool {
        let Some((link, address, mac)) = self.whom(message) else { return false };
        match (message.header.family, mac) {
            (AddressFamily::Bridge, Some(mac)) => {
                self.observed.forwards.contains(&Forward { link, mac, remote: address })
            }
            (AddressFamily::Bridge, None) => false,
            _ => self.observed.neighbours.contains_key(&(link, address)),
        }
    }

    fn whom(&self, message: &NeighbourMessage) -> Option<(IfName, IpAddr, Option<Mac>)> {
        let name = self.names.get(&message.header.ifindex);
        let name = name.filter(|name| self.observed.links.contains_key(*name))?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
            _ => None,
        });
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(address) => address_from(address),
            _ => None,
        });
        Some((name.clone(), address?, mac))
    }

    /// A route of ours.
    pub(super) fn route(&self, message: &RouteMessage) -> Option<(RouteKey, Route)> {
        let header = &message.header;
        if header.protocol != RouteProtocol::from(PROTOCOL) || header.table != RT_TABLE_MAIN {
            return None;
        }
        let mut read = Read::default();
        message.attributes.iter().for_each(|attribute| read.take(attribute));
        let destination = IpNetwork::new(read.destination?, header.destination_prefix_length).ok()?;
        let key = RouteKey { destination, metric: read.metric };
        let route = match (header.kind, read.index.and_then(|index| self.names.get(&index))) {
            (RouteType::Unreachable, _) => Route::Unreachable,
            (RouteType::Unicast, Some(link)) if !read.has_more => {
                let onlink = header.flags.contains(RouteFlags::Onlink);
                Route::By { link: link.clone(), via: read.via, onlink, source: read.source }
            }
            _ => Route::Other,
        };
        Some((key, route))
    }
}

/// For the fuzzer: takes whatever an answer says.
pub(super) fn fuzz(answer: RouteNetlinkMessage, seen: &mut Seen) {
    match &answer {
        RouteNetlinkMessage::NewLink(link) => seen.take_link(link),
        RouteNetlinkMessage::NewNeighbour(neighbour) => seen.take_neighbour(neighbour),
        RouteNetlinkMessage::NewRoute(route) => seen.observed.routes.extend(seen.route(route)),
        RouteNetlinkMessage::DelLink(link) => seen.forget(&link_name(link).into_iter().collect()),
        _ => {}
    }
    let address = seen.address(answer);
    seen.observed.addresses.extend(address);
}

/// What a neighbour message tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    Neighbour((IfName, IpAddr), Mac),
    Forward(Forward),
}

/// A route's attributes.
#[derive(Default)]
struct Read {
    destination: Option<IpAddr>,
    metric: u32,
    via: Option<IpAddr>,
    source: Option<IpAddr>,
    index: Option<u32>,
    has_more: bool,
}

impl Read {
    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Destination(address) => self.destination = ip(address),
            RouteAttribute::Priority(metric) => self.metric = *metric,
            RouteAttribute::Gateway(address) => self.via = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => self.via = Some((*v6).into()),
            RouteAttribute::PrefSource(address) => self.source = ip(address),
            RouteAttribute::Oif(index) => self.index = Some(*index),
            RouteAttribute::MultiPath(_) | RouteAttribute::Encap(_) => self.has_more = true,
            _ => {}
        }
    }
}

fn address_from(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some((*v4).into()),
        NeighbourAddress::Inet6(v6) => Some((*v6).into()),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn link_name(link: &LinkMessage) -> Option<IfName> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}

pub(super) fn link_seen(link: &LinkMessage) -> LinkSeen {
    let up = link.header.flags.contains(LinkFlags::Up);
    let mut seen = LinkSeen { alias: String::new(), kind: SeenKind::Other, mac: None, mtu: 0, up };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => seen.alias.clone_from(alias),
            LinkAttribute::Address(bytes) => seen.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => seen.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => seen.kind = kind(infos),
            _ => {}
        }
    }
    seen
}

fn kind(infos: &[LinkInfo]) -> SeenKind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Vxlan) => vxlan(infos),
        Some(InfoKind::Wireguard) => SeenKind::Wireguard,
        Some(InfoKind::Tun) => SeenKind::Tun,
        _ => SeenKind::Other,
    }
}

fn vxlan(infos: &[LinkInfo]) -> SeenKind {
    let (mut vni, mut port, mut local, mut learning) = (None, 0, None, true);
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data.as_slice()),
        _ => None,
    });
    for attribute in data.unwrap_or_default() {
        match attribute {
            InfoVxlan::Id(number) => vni = Some(*number),
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Local(v4) => local = Some((*v4).into()),
            InfoVxlan::Local6(v6) => local = Some((*v6).into()),
            InfoVxlan::Learning(on) => learning = *on,
            // One that takes any identifier has none.
            InfoVxlan::CollectMetadata(true) => vni = None,
            _ => {}
        }
    }
    SeenKind::Vxlan { vni, port, local, learning }
}
