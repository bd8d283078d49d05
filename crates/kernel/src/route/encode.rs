//! Steps → rtnetlink messages.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use libc::AF_UNSPEC;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags as KernelFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoIpVlan, InfoKind,
    InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, InfoVrf, IpVlanMode, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::IfName;
use zeugma_plan::{
    AddressFlags, IpvlanMode, Link, LinkChange, LinkKind, MacvlanMode, Master, Move, PortFlags, RouteSpec,
    Sharing, Side, Step,
};

use super::{Flags, Route, rule, shape, vlan};
use crate::{Error, Netns};

/// A message with its flags.
pub(crate) type Request = (RouteNetlinkMessage, Flags);

/// `RTPROT_STATIC` would say that a person made the route; the number marks ours (iproute2 prints it).
pub(super) const OUR_PROTOCOL: RouteProtocol = RouteProtocol::Other(122);

/// The messages of a step. The links that it names must exist, except the one that it creates.
pub(crate) fn requests(
    route: &mut Route,
    container: Option<&Netns>,
    step: &Step,
) -> Result<Vec<Request>, Error> {
    Ok(match step {
        Step::CreateLink(link) => {
            route.forget(&link.name);
            create(route, container, link)?
        }
        Step::SetLink(side, name, change) => vec![set(route, *side, name, change)?],
        Step::MoveLink(to) => vec![moved(route, container, to)?],
        Step::RenameLink(side, from, to) => {
            let mut message = by_index(known(route, *side, from)?);
            message.attributes.push(LinkAttribute::IfName(to.as_str().into()));
            route.forget(from);
            route.forget(to);
            vec![(RouteNetlinkMessage::SetLink(message), 0)]
        }
        Step::DeleteLink(_, name) => {
            route.forget(name);
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::IfName(name.as_str().into()));
            vec![(RouteNetlinkMessage::DelLink(message), 0)]
        }
        Step::SetPortVlans(name, vlans) => vlan::requests(known(route, Side::Host, name)?, vlans),
        Step::AddAddress(side, name, address, flags) => {
            let index = known(route, *side, name)?;
            let message = address_message(index, *address, *flags);
            vec![(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)]
        }
        Step::DeleteAddress(side, name, address) => {
            let index = known(route, *side, name)?;
            let message = address_message(index, *address, AddressFlags::default());
            vec![(RouteNetlinkMessage::DelAddress(message), 0)]
        }
        Step::AddRoute(side, spec) => {
            let index = known(route, *side, &spec.dev)?;
            vec![(
                RouteNetlinkMessage::NewRoute(route_message(index, spec)),
                NLM_F_CREATE | netlink_packet_core::NLM_F_APPEND,
            )]
        }
        Step::DeleteRoute(side, spec) => {
            let index = known(route, *side, &spec.dev)?;
            vec![(RouteNetlinkMessage::DelRoute(doomed(route_message(index, spec), spec)), 0)]
        }
        Step::Shape(..) | Step::Unshape(_) | Step::Redirect(..) | Step::EndRedirect(_) => queue(route, step)?,
        Step::AddRule(_, spec) => vec![rule::added(spec)],
        Step::DeleteRule(_, spec) => vec![rule::deleted(spec)],
        Step::CreateTap(_)
        | Step::AwaitCarrier(..)
        | Step::DeleteUnusedBridge(_)
        | Step::SetSysctl(..)
        | Step::ShareElements(_)
        | Step::CreateElements(_)
        | Step::DeleteElements(_)
        | Step::UnshareElements(_)
        | Step::MendTable(..)
        | Step::DeleteTables
        | Step::RedirectDns(_)
        | Step::EndRedirectDns
        | Step::FlushFlows(_) => Vec::new(),
    })
}

fn moved(route: &mut Route, container: Option<&Netns>, link: &Move) -> Result<Request, Error> {
    let Move { from, name, to, new_name } = link;
    let target = namespace(container, *to)?;
    let mut message = by_index(known(route, *from, name)?);
    message.attributes.push(LinkAttribute::NetNsFd(target.as_raw_fd()));
    message.attributes.push(LinkAttribute::IfName(new_name.as_str().into()));
    route.forget(name);
    route.keep(target);
    Ok((RouteNetlinkMessage::SetLink(message), 0))
}

fn queue(route: &mut Route, step: &Step) -> Result<Vec<Request>, Error> {
    shape::requests(step, |link| known(route, Side::Host, link))
}

fn known(route: &mut Route, side: Side, name: &IfName) -> Result<u32, Error> {
    route.index(name)?.ok_or_else(|| Error::NoLink { name: name.clone(), side })
}

fn create(route: &mut Route, container: Option<&Netns>, link: &Link) -> Result<Vec<Request>, Error> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(link.name.as_str().into()));
    message.attributes.extend(link.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(link.mtu.map(LinkAttribute::Mtu));
    if let LinkKind::Veth { .. } | LinkKind::Uplink { .. } = &link.kind {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes.extend(relation(route, container, link)?);
    message.attributes.push(LinkAttribute::LinkInfo(info(route, container, link)?));
    let mut requests = vec![(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)];
    if let Some(alias) = &link.alias {
        requests.push((RouteNetlinkMessage::NewLink(mark(&link.name, alias, is_port(&link.kind))), 0));
        if let LinkKind::Uplink { peer, .. } = &link.kind {
            requests.push((RouteNetlinkMessage::NewLink(mark(peer, alias, None)), 0));
        }
    }
    Ok(requests)
}

/// What the link belongs to: the bridge above it, or the parent below it and the namespace it is for.
fn relation(route: &mut Route, container: Option<&Netns>, link: &Link) -> Result<Vec<LinkAttribute>, Error> {
    Ok(match &link.kind {
        LinkKind::Veth { port: Some((master, _)), .. } | LinkKind::Uplink { master, .. } => {
            vec![LinkAttribute::Controller(known(route, Side::Host, master)?)]
        }
        LinkKind::Child { parent: (from, parent), .. } => {
            let mut attributes = vec![LinkAttribute::Link(known(route, *from, parent)?)];
            if (*from, link.side) == (Side::Host, Side::Container) {
                let netns = container.ok_or(Error::NoContainer)?.file().as_raw_fd();
                attributes.push(LinkAttribute::NetNsFd(netns));
            }
            attributes
        }
        LinkKind::Veth { port: None, .. }
        | LinkKind::Bridge { .. }
        | LinkKind::Dummy
        | LinkKind::Ifb
        | LinkKind::Vrf { .. } => Vec::new(),
    })
}

fn info(route: &mut Route, container: Option<&Netns>, link: &Link) -> Result<Vec<LinkInfo>, Error> {
    Ok(match &link.kind {
        LinkKind::Bridge { vlan_filtering } => bridge_info(vlan_filtering.then_some(true)),
        LinkKind::Veth { peer, peer_mac, .. } => {
            let netns = container.ok_or(Error::NoContainer)?.file().as_raw_fd();
            veth_info(peer_message(peer, &peer_mac.0, link.mtu, Some(netns)))
        }
        LinkKind::Uplink { peer, peer_mac, .. } => {
            route.forget(peer);
            veth_info(peer_message(peer, &peer_mac.0, link.mtu, None))
        }
        LinkKind::Child { sharing, .. } => child_info(*sharing),
        LinkKind::Dummy => vec![LinkInfo::Kind(InfoKind::Dummy)],
        LinkKind::Ifb => vec![LinkInfo::Kind(InfoKind::Ifb)],
        LinkKind::Vrf { table } => {
            vec![LinkInfo::Kind(InfoKind::Vrf), LinkInfo::Data(InfoData::Vrf(vec![InfoVrf::TableId(*table)]))]
        }
    })
}

fn child_info(sharing: Sharing) -> Vec<LinkInfo> {
    match sharing {
        Sharing::Macvlan { mode, broadcast_queue } => {
            let mode = match mode {
                MacvlanMode::Bridge => MacVlanMode::Bridge,
                MacvlanMode::Private => MacVlanMode::Private,
                MacvlanMode::Vepa => MacVlanMode::Vepa,
                MacvlanMode::Passthru => MacVlanMode::Passthrough,
            };
            let queue = broadcast_queue.map(InfoMacVlan::BcQueueLen);
            let data = std::iter::once(InfoMacVlan::Mode(mode)).chain(queue).collect();
            vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(InfoData::MacVlan(data))]
        }
        Sharing::Ipvlan { mode } => {
            let mode = match mode {
                IpvlanMode::L2 => IpVlanMode::L2,
                IpvlanMode::L3 => IpVlanMode::L3,
                IpvlanMode::L3s => IpVlanMode::L3S,
            };
            vec![
                LinkInfo::Kind(InfoKind::IpVlan),
                LinkInfo::Data(InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)])),
            ]
        }
        Sharing::Vlan { id } => {
            vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)]))]
        }
    }
}

/// How the link behaves as a port, where it is one.
fn is_port(kind: &LinkKind) -> Option<&PortFlags> {
    match kind {
        LinkKind::Veth { port: Some((_, flags)), .. } => Some(flags),
        _ => None,
    }
}

/// The namespace of a side, as a file.
fn namespace(container: Option<&Netns>, side: Side) -> Result<OwnedFd, Error> {
    let container = container.ok_or(Error::NoContainer)?;
    let file = match side {
        Side::Host => container.home(),
        Side::Container => container.file(),
    };
    let copy = file.try_clone();
    Ok(copy.map_err(|source| Error::System { action: "hand over the network namespace", source })?.into())
}

fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// The kernel takes the alias and the settings of a port only when the link is there.
fn mark(name: &IfName, alias: &str, port: Option<&PortFlags>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.as_str().into()));
    message.attributes.push(LinkAttribute::IfAlias(alias.into()));
    message.attributes.extend(port.and_then(port_info));
    message.attributes.extend(port.and_then(|_| no_ipv6_of_its_own()));
    message
}

/// A port of a bridge needs no address. Without its link-local one the kernel spares every ADD a probe and
/// several multicasts, each of which the bridge floods to all of its ports.
pub(crate) fn no_ipv6_of_its_own() -> Option<LinkAttribute> {
    let kernel_has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    kernel_has_ipv6.then(|| LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]))
}

fn bridge_info(vlan_filtering: Option<bool>) -> Vec<LinkInfo> {
    let data = vlan_filtering.map(InfoBridge::VlanFiltering).into_iter().collect();
    vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))]
}

fn veth_info(peer: LinkMessage) -> Vec<LinkInfo> {
    vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))]
}

/// The container's end is born inside its namespace, under its final name.
fn peer_message(name: &IfName, mac: &[u8; 6], mtu: Option<u32>, netns: Option<RawFd>) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(name.as_str().into()));
    peer.attributes.push(LinkAttribute::Address(mac.to_vec()));
    peer.attributes.extend(mtu.map(LinkAttribute::Mtu));
    peer.attributes.extend(netns.map(LinkAttribute::NetNsFd));
    peer
}

fn port_info(port: &PortFlags) -> Option<LinkAttribute> {
    let mut data = Vec::new();
    data.extend(port.hairpin.map(InfoBridgePort::HairpinMode));
    data.extend(port.isolated.map(InfoBridgePort::Isolated));
    (!data.is_empty()).then(|| {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(data)),
        ])
    })
}

fn set(route: &mut Route, side: Side, name: &IfName, change: &LinkChange) -> Result<Request, Error> {
    let mut message = LinkMessage::default();
    for (flag, wanted) in [
        (LinkFlags::Up, change.up),
        (LinkFlags::Promisc, change.promisc),
        (LinkFlags::Allmulti, change.allmulti),
    ] {
        let Some(on) = wanted else { continue };
        message.header.change_mask |= flag;
        if on {
            message.header.flags |= flag;
        }
    }
    let attributes = &mut message.attributes;
    attributes.push(LinkAttribute::IfName(name.as_str().into()));
    attributes.extend(change.alias.clone().map(LinkAttribute::IfAlias));
    attributes.extend(match &change.master {
        None => None,
        Some(Master::Nobody) => Some(LinkAttribute::Controller(0)),
        Some(Master::Link(master)) => Some(LinkAttribute::Controller(known(route, side, master)?)),
    });
    attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(change.tx_queue_len.map(LinkAttribute::TxQueueLen));
    attributes.extend(change.port.as_ref().and_then(port_info));
    attributes.extend(change.vlan_filtering.map(|on| LinkAttribute::LinkInfo(bridge_info(Some(on)))));
    Ok((RouteNetlinkMessage::NewLink(message), 0))
}

pub(crate) fn address_message(
    index: u32,
    address: ipnetwork::IpNetwork,
    flags: AddressFlags,
) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix();
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(address.ip()));
    message.attributes.push(AddressAttribute::Address(address.ip()));
    match address {
        ipnetwork::IpNetwork::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            if v4.prefix() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
            }
        }
        ipnetwork::IpNetwork::V6(_) => message.header.family = AddressFamily::Inet6,
    }
    let mut bits = KernelFlags::empty();
    bits.set(KernelFlags::Nodad, flags.nodad && address.is_ipv6());
    bits.set(KernelFlags::Noprefixroute, flags.no_subnet_route);
    if !bits.is_empty() {
        message.header.flags.set(AddressHeaderFlags::Nodad, bits.contains(KernelFlags::Nodad));
        message.attributes.push(AddressAttribute::Flags(bits));
    }
    message
}

pub(super) fn route_message(index: u32, spec: &RouteSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = if spec.dst.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    header.destination_prefix_length = spec.dst.prefix();
    header.protocol = spec.protocol.map_or(OUR_PROTOCOL, RouteProtocol::from);
    header.kind = RouteType::Unicast;
    header.scope = scope(spec);
    header.flags.set(RouteFlags::Onlink, spec.onlink);
    header.table = spec.table.map_or(RT_TABLE_MAIN, |table| u8::try_from(table).unwrap_or(AF_UNSPEC as u8));
    let attributes = &mut message.attributes;
    attributes.extend(spec.table.map(RouteAttribute::Table));
    if spec.dst.prefix() > 0 {
        attributes.push(RouteAttribute::Destination(route_address(spec.dst.network())));
    }
    attributes.extend(spec.gw.map(|gw| RouteAttribute::Gateway(route_address(gw))));
    attributes.push(RouteAttribute::Oif(index));
    attributes.extend(spec.source.map(|source| RouteAttribute::PrefSource(route_address(source))));
    attributes.extend(spec.priority.map(RouteAttribute::Priority));
    let metrics: Vec<RouteMetric> =
        spec.mtu.map(RouteMetric::Mtu).into_iter().chain(spec.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// What is not said of a route to be deleted may be anything.
pub(super) fn doomed(mut message: RouteMessage, spec: &RouteSpec) -> RouteMessage {
    message.header.protocol = spec.protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    message.header.scope = spec.scope.map_or(RouteScope::NoWhere, RouteScope::from);
    message.header.flags = RouteFlags::empty();
    message
}

/// `RT_TABLE_MAIN`.
pub(crate) const RT_TABLE_MAIN: u8 = 254;

/// An IPv4 route without next hop is on link; with one it is universal unless asked otherwise.
fn scope(spec: &RouteSpec) -> RouteScope {
    match spec.scope {
        Some(number) => RouteScope::from(number),
        None if spec.gw.is_none() && spec.dst.is_ipv4() => RouteScope::Link,
        None => RouteScope::Universe,
    }
}

pub(crate) fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}
