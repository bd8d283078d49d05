//! The way that a packet takes, as the kernel would choose it (`ip route get`).

use std::net::IpAddr;

use libc::{EACCES, EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, ENETUNREACH, ESRCH};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::IfName;

use super::Route;
use crate::Error;

/// A packet whose way is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// Where it goes.
    pub to: IpAddr,
    /// Where it comes from; none: from this namespace, which chooses.
    pub from: Option<IpAddr>,
    /// The index of the link that it comes in by; none: it is this namespace's own.
    pub by: Option<u32>,
}

/// A way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To this namespace itself.
    Here,
    /// Out by a link.
    Out {
        /// Its name.
        link: IfName,
        /// The next hop; none: the destination is on link.
        via: Option<IpAddr>,
        /// The source address that packets get that have none yet.
        source: Option<IpAddr>,
        /// Bytes, where the route or a router said so.
        mtu: Option<u32>,
    },
    /// Nowhere; in the kernel's words.
    Nowhere(&'static str),
}

impl Route {
    /// The way of a packet.
    pub(crate) fn way(&mut self, leaving: &Leaving) -> Result<Way, Error> {
        let action = "look up a route";
        match self.ask(action, RouteNetlinkMessage::GetRoute(question(leaving)), 0)? {
            Ok(answers) => match answers.into_iter().find_map(found) {
                Some(found) => self.named(found),
                None => Ok(Way::Nowhere("no answer")),
            },
            Err(refusal) => match refusal.errno {
                ENETUNREACH | ESRCH => Ok(Way::Nowhere("no route to it")),
                EHOSTUNREACH => Ok(Way::Nowhere("an unreachable route")),
                EACCES => Ok(Way::Nowhere("a prohibit route")),
                EINVAL => Ok(Way::Nowhere("a blackhole route, or a source that cannot come in there")),
                EADDRNOTAVAIL => Ok(Way::Nowhere("no address to send from")),
                _ => Err(Error::Unanswered { action, refusal }),
            },
        }
    }

    fn named(&mut self, found: Found) -> Result<Way, Error> {
        match found.kind {
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast => Ok(Way::Here),
            RouteType::Unreachable => Ok(Way::Nowhere("an unreachable route")),
            RouteType::BlackHole => Ok(Way::Nowhere("a blackhole route")),
            RouteType::Prohibit => Ok(Way::Nowhere("a prohibit route")),
            _ => {
                let named = found.oif.map(|index| self.link_at(index)).transpose()?.flatten();
                let Found { via, source, mtu, .. } = found;
                Ok(named.map_or(Way::Nowhere("no link"), |(link, _)| Way::Out { link, via, source, mtu }))
            }
        }
    }
}

/// A route of the answer.
#[derive(Debug, Default)]
struct Found {
    kind: RouteType,
    oif: Option<u32>,
    via: Option<IpAddr>,
    source: Option<IpAddr>,
    mtu: Option<u32>,
}

fn question(leaving: &Leaving) -> RouteMessage {
    let mut question = RouteMessage::default();
    let (family, length) =
        if leaving.to.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    question.header.address_family = family;
    question.header.destination_prefix_length = length;
    question.attributes.push(RouteAttribute::Destination(leaving.to.into()));
    if let Some(from) = leaving.from {
        question.header.source_prefix_length = length;
        question.attributes.push(RouteAttribute::Source(from.into()));
    }
    if let Some(index) = leaving.by {
        question.attributes.push(RouteAttribute::Iif(index));
    }
    question
}

fn found(message: RouteNetlinkMessage) -> Option<Found> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let mut found = Found { kind: route.header.kind, ..Found::default() };
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.oif = Some(index),
            RouteAttribute::Gateway(hop) => found.via = address(&hop),
            RouteAttribute::PrefSource(source) => found.source = address(&source),
            RouteAttribute::Metrics(metrics) => {
                found.mtu = metrics.iter().find_map(|metric| match metric {
                    netlink_packet_route::route::RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(found)
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// Whatever is answered.
pub(super) fn fuzz(message: RouteNetlinkMessage) {
    let _ = found(message);
}
