//! Parts of a plan → rtnetlink messages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::{IfName, Mac};
use zeugma_overlay::{
    Change, Device, DeviceKind, Forward, PROTOCOL, Plan, Route, RouteKey, address_line, change_line,
    forward_line, link_line, neighbour_line, route_line, unlink_line,
};
use zeugma_plan::AddressFlags;

use crate::route::{RT_TABLE_MAIN, address_message, no_ipv6_of_its_own, route_address};

/// A change that is asked for.
#[derive(Debug)]
pub(super) struct Request {
    /// As a person would ask for it.
    pub(super) line: String,
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
    /// Which refusals say that it was so before.
    pub(super) done_already: &'static [i32],
}

/// What is to be deleted is not there, or went with its device.
const GONE: &[i32] = &[libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL, libc::ENXIO];

/// Indexes by name.
pub(super) type Indexes = BTreeMap<IfName, u32>;

/// What comes first: one for each of the plan's `guard`.
pub(super) fn guards(plan: &Plan) -> Vec<Request> {
    plan.guard.iter().map(|key| added(*key, &Route::Unreachable, 0)).collect()
}

/// What comes before devices are made.
pub(super) fn before_links(plan: &Plan) -> Vec<Request> {
    plan.unlink.iter().map(unlinked).collect()
}

/// A device, down.
pub(super) fn created(name: &IfName, device: &Device) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.as_str().into()), LinkAttribute::Mtu(device.mtu)];
    let info = match device.kind {
        DeviceKind::Vxlan { vni, port, local, mac } => {
            message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
            let local = match local {
                IpAddr::V4(v4) => InfoVxlan::Local(v4),
                IpAddr::V6(v6) => InfoVxlan::Local6(v6),
            };
            let data =
                vec![InfoVxlan::Id(vni.get()), local, InfoVxlan::Port(port), InfoVxlan::Learning(false)];
            vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))]
        }
        DeviceKind::Wireguard => vec![LinkInfo::Kind(InfoKind::Wireguard)],
    };
    message.attributes.push(LinkAttribute::LinkInfo(info));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Request {
        line: link_line(name, device),
        message: RouteNetlinkMessage::NewLink(message),
        flags,
        done_already: &[],
    }
}

/// A new device's mark. Addresses of its own would only make noise.
pub(super) fn marked(name: &IfName, alias: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.as_str().into()), LinkAttribute::IfAlias(alias.into())];
    message.attributes.extend(no_ipv6_of_its_own());
    let line = format!("ip link set {name} alias \"{alias}\" addrgenmode none");
    Request { line, message: RouteNetlinkMessage::NewLink(message), flags: 0, done_already: &[] }
}

pub(super) fn set(name: &IfName, change: &Change) -> Request {
    let mut message = LinkMessage::default();
    let attributes = &mut message.attributes;
    attributes.push(LinkAttribute::IfName(name.as_str().into()));
    attributes.extend(change.alias.clone().map(LinkAttribute::IfAlias));
    attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    if change.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    let line = change_line(name, change);
    Request { line, message: RouteNetlinkMessage::NewLink(message), flags: 0, done_already: &[] }
}

/// What comes when the devices are there, by their indexes. What has no device is left out: of ours it was said before
/// that it is not there, of others' [`wayless`] says it.
pub(super) fn after_links(plan: &Plan, indexes: &Indexes) -> Vec<Request> {
    let index = |link: &IfName| indexes.get(link).copied();
    let mut requests: Vec<Request> = plan.unroute.iter().map(|key| removed(*key)).collect();
    requests
        .extend(plan.unneighbour.iter().filter_map(|(link, address)| unmet(link, index(link)?, *address)));
    requests.extend(plan.unforward.iter().filter_map(|entry| forward(entry, index(&entry.link)?, false)));
    requests.extend(plan.forward.iter().filter_map(|entry| forward(entry, index(&entry.link)?, true)));
    let neighbours = plan.neighbour.iter();
    requests.extend(neighbours.filter_map(|((link, address), mac)| met(link, index(link)?, *address, *mac)));
    requests.extend(plan.address.iter().filter_map(|(link, own)| address("add", link, index(link)?, *own)));
    for (routes, flags) in [(&plan.route, NLM_F_EXCL), (&plan.reroute, NLM_F_REPLACE)] {
        requests.extend(routes.iter().filter_map(|(key, route)| by_link(*key, route, flags, indexes)));
    }
    requests.extend(plan.unaddress.iter().filter_map(|(link, own)| address("del", link, index(link)?, *own)));
    requests.extend(plan.unguard.iter().map(|key| removed(*key)));
    requests
}

/// Routes that no message is made of, as they leave by links that are not there, a line each. Of `ours` that was said
/// before.
pub(super) fn wayless(plan: &Plan, indexes: &Indexes, ours: &BTreeSet<IfName>) -> Vec<String> {
    let routes = [(&plan.route, NLM_F_EXCL), (&plan.reroute, NLM_F_REPLACE)];
    let all = routes.into_iter().flat_map(|(routes, flags)| routes.iter().map(move |one| (one, flags)));
    let told = all.filter_map(|((key, route), flags)| {
        let Route::By { link, .. } = route else { return None };
        let is_silent = !indexes.contains_key(link) && !ours.contains(link);
        is_silent.then(|| format!("{}: there is no link {link} yet", line_of(*key, route, flags)))
    });
    told.collect()
}

fn unlinked(name: &IfName) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.as_str().into()));
    let line = unlink_line(name);
    Request { line, message: RouteNetlinkMessage::DelLink(message), flags: 0, done_already: GONE }
}

fn address(verb: &'static str, link: &IfName, index: u32, address: IpNetwork) -> Option<Request> {
    let line = address_line(verb, link, address);
    let message = address_message(index, address, AddressFlags { nodad: true, no_subnet_route: false });
    Some(match verb {
        "del" => {
            Request { line, message: RouteNetlinkMessage::DelAddress(message), flags: 0, done_already: GONE }
        }
        _ => {
            let flags = NLM_F_CREATE | NLM_F_REPLACE;
            Request { line, message: RouteNetlinkMessage::NewAddress(message), flags, done_already: &[] }
        }
    })
}

fn met(link: &IfName, index: u32, address: IpAddr, mac: Mac) -> Option<Request> {
    let mut message = neighbour(index, address);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    let (line, flags) = (neighbour_line("replace", link, address, Some(mac)), NLM_F_CREATE | NLM_F_REPLACE);
    Some(Request { line, message: RouteNetlinkMessage::NewNeighbour(message), flags, done_already: &[] })
}

fn unmet(link: &IfName, index: u32, address: IpAddr) -> Option<Request> {
    let message = RouteNetlinkMessage::DelNeighbour(neighbour(index, address));
    Some(Request { line: neighbour_line("del", link, address, None), message, flags: 0, done_already: GONE })
}

fn neighbour(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address.is_ipv6());
    message.header.ifindex = index;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    message
}

fn forward(entry: &Forward, index: u32, is_new: bool) -> Option<Request> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Own;
    message.header.state = NeighbourState::Permanent;
    let remote = match entry.remote {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Other(remote)),
    ];
    Some(if is_new {
        let (line, flags) = (forward_line("replace", entry), NLM_F_CREATE | NLM_F_REPLACE);
        Request { line, message: RouteNetlinkMessage::NewNeighbour(message), flags, done_already: &[] }
    } else {
        let line = forward_line("del", entry);
        Request { line, message: RouteNetlinkMessage::DelNeighbour(message), flags: 0, done_already: GONE }
    })
}

/// None where the route's device is not there.
fn by_link(key: RouteKey, route: &Route, flags: u16, indexes: &Indexes) -> Option<Request> {
    let index = match route {
        Route::By { link, .. } => *indexes.get(link)?,
        Route::Unreachable | Route::Other => 0,
    };
    Some(Request {
        flags: NLM_F_CREATE | flags,
        line: line_of(key, route, flags),
        ..added(key, route, index)
    })
}

fn line_of(key: RouteKey, route: &Route, flags: u16) -> String {
    route_line(if flags == NLM_F_REPLACE { "replace" } else { "add" }, key, Some(route))
}

/// Somebody else's route to the same with the same metric is never overwritten.
fn added(key: RouteKey, route: &Route, index: u32) -> Request {
    let message = RouteNetlinkMessage::NewRoute(route_message(key, route, index));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Request { line: route_line("add", key, Some(route)), message, flags, done_already: &[] }
}

fn removed(key: RouteKey) -> Request {
    let mut message = route_message(key, &Route::Other, 0);
    message.header.scope = RouteScope::NoWhere;
    let message = RouteNetlinkMessage::DelRoute(message);
    Request { line: route_line("del", key, None), message, flags: 0, done_already: GONE }
}

fn route_message(key: RouteKey, route: &Route, index: u32) -> RouteMessage {
    let RouteKey { destination, metric } = key;
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(destination.is_ipv6());
    header.destination_prefix_length = destination.prefix();
    header.protocol = RouteProtocol::from(PROTOCOL);
    header.table = RT_TABLE_MAIN;
    header.scope = RouteScope::Universe;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(route_address(destination.network())));
    attributes.push(RouteAttribute::Priority(metric));
    match route {
        Route::Unreachable => header.kind = RouteType::Unreachable,
        Route::By { via, onlink, source, .. } => {
            header.kind = RouteType::Unicast;
            header.flags.set(RouteFlags::Onlink, *onlink);
            if via.is_none() && destination.is_ipv4() {
                header.scope = RouteScope::Link;
            }
            attributes.push(RouteAttribute::Oif(index));
            attributes.extend(via.map(|via| next_hop(via, destination)));
            attributes.extend(source.map(|source| RouteAttribute::PrefSource(route_address(source))));
        }
        Route::Other => header.kind = RouteType::Unspec,
    }
    message
}

/// An IPv6 next hop of an IPv4 route has an attribute of its own.
fn next_hop(via: IpAddr, destination: IpNetwork) -> RouteAttribute {
    match via {
        IpAddr::V6(v6) if destination.is_ipv4() => RouteAttribute::Via(RouteVia::Inet6(v6)),
        _ => RouteAttribute::Gateway(route_address(via)),
    }
}

fn family(is_v6: bool) -> AddressFamily {
    if is_v6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
