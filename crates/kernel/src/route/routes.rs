//! Questions about routes: those of a link, with all that is needed to move them, and the tables in use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags, RouteProtocol,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_model::IfName;
use zeugma_plan::{Family, RouteSpec};

use super::Route;
use super::encode::{OUR_PROTOCOL, RT_TABLE_MAIN};
use crate::Error;

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteState {
    /// The destination; none for the default route of its family.
    pub dst: Option<IpNetwork>,
    /// The next hop.
    pub gw: Option<IpAddr>,
    /// Whether it is IPv6.
    pub is_ipv6: bool,
    /// The table.
    pub table: u32,
    /// The metric.
    pub priority: Option<u32>,
    /// The MTU along it.
    pub mtu: Option<u32>,
    /// The MSS that is advertised along it.
    pub advmss: Option<u32>,
    /// Its scope as in rtnetlink(7).
    pub scope: u8,
    /// Who made it, as in rtnetlink(7).
    pub protocol: u8,
    /// The source address of packets that have none yet.
    pub source: Option<IpAddr>,
    /// Whether the next hop is on the link whatever other routes say.
    pub onlink: bool,
    /// Whether it leads somewhere: it is neither an address of this namespace's own nor a broadcast.
    pub is_unicast: bool,
    /// Whether it is one next hop of several: the kernel deletes all of them together.
    pub is_multipath: bool,
}

impl RouteState {
    /// Where it leads.
    pub fn destination(&self) -> IpNetwork {
        let family = if self.is_ipv6 { Family::V6 } else { Family::V4 };
        let everywhere = || IpNetwork::new(family.unspecified(), 0);
        self.dst.unwrap_or_else(|| everywhere().expect("0 is a prefix length of both families"))
    }

    /// The route as one that can be added and deleted.
    pub fn spec(&self, dev: &IfName) -> RouteSpec {
        let Self { gw, source, priority, mtu, advmss, onlink, .. } = *self;
        RouteSpec {
            gw,
            source,
            mtu,
            advmss,
            priority,
            table: Some(self.table),
            scope: Some(self.scope),
            protocol: Some(self.protocol),
            onlink,
            ..RouteSpec::new(self.destination(), dev.clone())
        }
    }
}

impl Route {
    pub(crate) fn routes(&mut self, name: &IfName) -> Result<Vec<RouteState>, Error> {
        let Some(index) = self.index(name)? else { return Ok(Vec::new()) };
        let mut question = RouteMessage::default();
        question.attributes.push(RouteAttribute::Oif(index));
        Ok(self.list_routes(question)?.into_iter().flat_map(|answer| routes_of(answer, index)).collect())
    }

    /// The routes of the main table that bear our mark, by the indexes of their links.
    pub(crate) fn our_routes(&mut self) -> Result<Vec<(u32, RouteState)>, Error> {
        self.routes_by(OUR_PROTOCOL)
    }

    /// The routes of the main table that `maker` made, by the indexes of their links.
    pub(super) fn routes_by(&mut self, maker: RouteProtocol) -> Result<Vec<(u32, RouteState)>, Error> {
        let mut question = RouteMessage::default();
        // Kernels before 4.20 do not select by it and send everything.
        question.header.protocol = maker;
        question.header.table = RT_TABLE_MAIN;
        let ours = self.list_routes(question)?.into_iter().filter_map(|answer| {
            let RouteNetlinkMessage::NewRoute(route) = &answer else { return None };
            let index = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })?;
            let is_ours = route.header.protocol == maker;
            let state = routes_of(answer, index).into_iter().next().filter(|_| is_ours)?;
            Some((index, state))
        });
        Ok(ours.collect())
    }

    /// Where the unicast routes of the main table lead; default routes are not among them.
    pub(crate) fn destinations(&mut self) -> Result<Vec<IpNetwork>, Error> {
        let mut question = RouteMessage::default();
        question.header.table = RT_TABLE_MAIN;
        let answers = self.list_routes(question)?.into_iter();
        let main = answers.filter(|answer| table_of(answer) == Some(RT_TABLE_MAIN.into()));
        let states = main.flat_map(|answer| routes_of(answer, 0));
        Ok(states.filter(|state| state.is_unicast).filter_map(|state| state.dst).collect())
    }

    /// The tables that have routes.
    pub(crate) fn tables(&mut self) -> Result<BTreeSet<u32>, Error> {
        let answers = self.list_routes(RouteMessage::default())?;
        Ok(answers.iter().filter_map(table_of).collect())
    }

    fn list_routes(&mut self, question: RouteMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let action = "list routes";
        let answers = self.ask(action, RouteNetlinkMessage::GetRoute(question), NLM_F_DUMP)?;
        answers.map_err(|refusal| Error::Unanswered { action, refusal })
    }
}

fn table_of(message: &RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let long = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    Some(long.unwrap_or(route.header.table.into()))
}

/// A route with several next hops is a route for each of those that leave by the link.
pub(super) fn routes_of(message: RouteNetlinkMessage, index: u32) -> Vec<RouteState> {
    let table = table_of(&message).unwrap_or_default();
    let RouteNetlinkMessage::NewRoute(route) = message else { return Vec::new() };
    let mut state = RouteState {
        dst: None,
        gw: None,
        is_ipv6: route.header.address_family == AddressFamily::Inet6,
        table,
        priority: None,
        mtu: None,
        advmss: None,
        scope: route.header.scope.into(),
        protocol: route.header.protocol.into(),
        source: None,
        onlink: route.header.flags.contains(RouteFlags::Onlink),
        is_unicast: route.header.kind == RouteType::Unicast,
        is_multipath: false,
    };
    let mut leaves_by = None;
    let mut hops = Vec::new();
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let length = route.header.destination_prefix_length;
                state.dst = ip(&address).and_then(|address| IpNetwork::new(address, length).ok());
            }
            RouteAttribute::Gateway(address) => state.gw = ip(&address),
            RouteAttribute::Oif(oif) => leaves_by = Some(oif),
            RouteAttribute::Priority(priority) => state.priority = Some(priority),
            RouteAttribute::PrefSource(address) => state.source = ip(&address),
            RouteAttribute::Metrics(metrics) => (state.mtu, state.advmss) = metrics_of(&metrics),
            RouteAttribute::MultiPath(several) => hops = several,
            _ => {}
        }
    }
    let single = (leaves_by == Some(index)).then(|| state.clone());
    let by_link = hops.into_iter().filter(|hop| hop.interface_index == index).map(|hop| RouteState {
        gw: gateway_of(&hop.attributes),
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
        is_multipath: true,
        ..state.clone()
    });
    single.into_iter().chain(by_link).collect()
}

fn gateway_of(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

/// MTU and MSS.
fn metrics_of(metrics: &[RouteMetric]) -> (Option<u32>, Option<u32>) {
    metrics.iter().fold((None, None), |(mtu, advmss), metric| match metric {
        RouteMetric::Mtu(mtu) => (Some(*mtu), advmss),
        RouteMetric::Advmss(advmss) => (mtu, Some(*advmss)),
        _ => (mtu, advmss),
    })
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
