//! By which addresses other hosts reach this one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::IfName;
use zeugma_overlay::Underlay;

use super::observe::{link_name, link_seen};
use super::socket::Socket;
use crate::Error;
use crate::route::{RT_TABLE_MAIN, address_of, default_route, ip};

/// An address of an interface.
#[derive(Debug, Clone)]
struct Own {
    index: u32,
    address: IpNetwork,
    /// Whether it stays and new connections may leave from it.
    is_lasting: bool,
}

/// The way out of one family.
struct Way {
    metric: u32,
    index: u32,
    source: Option<IpAddr>,
}

pub(super) async fn underlay(socket: &Socket, wanted: Option<&[IpAddr]>) -> Result<Vec<Underlay>, Error> {
    let (links, own) = (links(socket).await?, addresses(socket).await?);
    let named = |own: &Own| {
        let (link, mtu) = links.get(&own.index)?.clone();
        Some(Underlay { address: own.address, link, mtu })
    };
    if let Some(wanted) = wanted {
        let having = |address: &IpAddr| own.iter().find(|own| own.address.ip() == *address).and_then(named);
        let found: Vec<Underlay> = wanted.iter().filter_map(having).collect();
        return match wanted.first() {
            Some(address) if found.is_empty() => Err(Error::NoAddress { address: *address }),
            _ => Ok(found),
        };
    }
    let mut chosen = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let Some(way) = way_out(socket, family).await? else { continue };
        let of_way = own.iter().filter(|own| {
            let is_v6 = family == AddressFamily::Inet6;
            own.index == way.index && own.address.is_ipv6() == is_v6
        });
        let by_source = of_way.clone().find(|own| Some(own.address.ip()) == way.source);
        let found = by_source.or_else(|| of_way.clone().find(|own| own.is_lasting));
        chosen.extend(found.and_then(named));
    }
    Ok(chosen)
}

/// For the fuzzer: an answer as one about addresses and as one about routes.
pub(super) fn fuzz(answer: RouteNetlinkMessage) {
    let _ = (source(&answer), own(answer.clone()), default_route(answer));
}

/// Names and MTUs by index.
async fn links(socket: &Socket) -> Result<BTreeMap<u32, (IfName, u32)>, Error> {
    let answers = socket.list("list links", RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
    let links = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => {
            Some((link.header.index, (link_name(link)?, link_seen(link).mtu)))
        }
        _ => None,
    });
    Ok(links.collect())
}

async fn addresses(socket: &Socket) -> Result<Vec<Own>, Error> {
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = socket.list("list addresses", question).await?;
    Ok(answers.into_iter().filter_map(own).collect())
}

fn own(answer: RouteNetlinkMessage) -> Option<Own> {
    let RouteNetlinkMessage::NewAddress(message) = &answer else { return None };
    let (index, scope) = (message.header.index, message.header.scope);
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.unwrap_or(AddressFlags::empty());
    // `IFA_F_TEMPORARY` is the same bit as `IFA_F_SECONDARY`.
    let passing = AddressFlags::Secondary
        | AddressFlags::Deprecated
        | AddressFlags::Tentative
        | AddressFlags::Dadfailed;
    let is_secondary = message.header.flags.contains(AddressHeaderFlags::Secondary);
    let is_lasting = scope == AddressScope::Universe && !is_secondary && !flags.intersects(passing);
    Some(Own { index, address: address_of(answer, index)?, is_lasting })
}

async fn way_out(socket: &Socket, family: AddressFamily) -> Result<Option<Way>, Error> {
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.table = RT_TABLE_MAIN;
    let answers = socket.list("list routes", RouteNetlinkMessage::GetRoute(question)).await?;
    let ways = answers.into_iter().filter_map(|answer| {
        let source = source(&answer);
        let (metric, index) = default_route(answer)?;
        Some(Way { metric, index, source })
    });
    Ok(ways.min_by_key(|way| way.metric))
}

fn source(answer: &RouteNetlinkMessage) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    })
}
