//! Questions to rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use libc::{EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, EOPNOTSUPP, ESRCH};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags as KernelFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVrf, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use zeugma_model::{IfName, Mac, VlanId};
use zeugma_plan::{AddressFlags, Family, PortFlags};

use super::Route;
use crate::Error;

/// A link as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Its index in its namespace.
    pub index: u32,
    /// Bytes.
    pub mtu: u32,
    /// Its Ethernet address; none for links that have none.
    pub mac: Option<Mac>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it carries packets: its operational state is up.
    pub carries: bool,
    /// Whether someone set it to receive everything.
    pub promisc: bool,
    /// Whether someone set it to receive all multicast.
    pub allmulti: bool,
    /// Packets in its transmit queue.
    pub tx_queue_len: u32,
    /// Its kind: `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// Its owner mark.
    pub alias: Option<String>,
    /// The index of the bridge it is a port of.
    pub master: Option<u32>,
    /// The index of the link at its other end or below it, in whichever namespace that is: `IFLA_LINK`.
    pub peer: Option<u32>,
    /// The routing table of a VRF; none for other links.
    pub vrf_table: Option<u32>,
    /// Its settings as a bridge port; none when it is none.
    pub port: Option<PortFlags>,
    /// How a bridge treats VLANs; none when it is no bridge, or one that cannot filter by VLAN.
    pub vlans: Option<BridgeVlans>,
}

/// How a bridge treats VLANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeVlans {
    /// Whether it filters.
    pub filtering: bool,
    /// The VLAN of new ports.
    pub default: Option<VlanId>,
}

impl Route {
    /// A link by name; its index is remembered.
    pub(crate) fn link(&mut self, name: &IfName) -> Result<Option<LinkState>, Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.as_str().into()));
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let action = "look up a link";
        let state = match self.ask(action, RouteNetlinkMessage::GetLink(question), 0)? {
            Ok(answers) => answers.into_iter().find_map(link_state),
            Err(refusal) if refusal.errno == ENODEV => None,
            Err(refusal) => return Err(Error::Unanswered { action, refusal }),
        };
        match &state {
            Some(state) => self.indexes.insert(name.clone(), state.index),
            None => self.indexes.remove(name),
        };
        Ok(state)
    }

    /// Whether the kernel knows VRFs. Its module is loaded on the way.
    pub(crate) fn knows_vrfs(&mut self) -> Result<bool, Error> {
        self.knows(InfoKind::Vrf, "ask whether the kernel knows VRFs")
    }

    /// Whether the kernel knows VXLAN. Its module is loaded on the way.
    pub(crate) fn knows_vxlan(&mut self) -> Result<bool, Error> {
        self.knows(InfoKind::Vxlan, "ask whether the kernel knows VXLAN")
    }

    /// Asked by a request without what such a link must have, which a kernel that knows the kind refuses as well, but
    /// for that reason.
    fn knows(&mut self, kind: InfoKind, action: &'static str) -> Result<bool, Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        match self.ask(action, RouteNetlinkMessage::NewLink(question), flags)? {
            Err(refusal) if refusal.errno == EINVAL => Ok(true),
            Err(refusal) if refusal.errno == EOPNOTSUPP => Ok(false),
            Err(refusal) => Err(Error::Unanswered { action, refusal }),
            Ok(_) => Ok(true),
        }
    }

    /// The index of a link, asked for once.
    pub(crate) fn index(&mut self, name: &IfName) -> Result<Option<u32>, Error> {
        match self.indexes.get(name) {
            Some(index) => Ok(Some(*index)),
            None => Ok(self.link(name)?.map(|state| state.index)),
        }
    }

    /// Forgets a link's index: it is about to be made or deleted.
    pub(crate) fn forget(&mut self, name: &IfName) {
        self.indexes.remove(name);
    }

    pub(crate) fn addresses(&mut self, name: &IfName) -> Result<Vec<IpNetwork>, Error> {
        let (index, answers) = self.address_messages(name)?;
        Ok(answers.into_iter().filter_map(|answer| address_of(answer, index)).collect())
    }

    /// The addresses of a link that nobody but their maker takes away, and how each was added: no link-local ones, none
    /// that expire.
    pub(crate) fn lasting_addresses(
        &mut self,
        name: &IfName,
    ) -> Result<Vec<(IpNetwork, AddressFlags)>, Error> {
        let (index, answers) = self.address_messages(name)?;
        let lasting = answers.into_iter().filter_map(|answer| {
            let flags = lasting_flags(&answer)?;
            Some((address_of(answer, index)?, flags))
        });
        Ok(lasting.collect())
    }

    /// The addresses of all links, by the links' indexes.
    pub(crate) fn all_addresses(&mut self) -> Result<Vec<(u32, IpNetwork)>, Error> {
        let action = "list addresses";
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(action, question, NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        let indexed = answers.into_iter().filter_map(|answer| {
            let RouteNetlinkMessage::NewAddress(address) = &answer else { return None };
            let index = address.header.index;
            Some((index, address_of(answer, index)?))
        });
        Ok(indexed.collect())
    }

    /// How many neighbours of a family somebody put there for good.
    pub(crate) fn lasting_neighbours(&mut self, family: Family) -> Result<usize, Error> {
        let action = "list neighbours";
        let mut question = NeighbourMessage::default();
        question.header.family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let answers = self.ask(action, RouteNetlinkMessage::GetNeighbour(question), NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        let is_lasting = |answer: &&RouteNetlinkMessage| matches!(answer, RouteNetlinkMessage::NewNeighbour(one) if one.header.state == NeighbourState::Permanent);
        Ok(answers.iter().filter(is_lasting).count())
    }

    fn address_messages(&mut self, name: &IfName) -> Result<(u32, Vec<RouteNetlinkMessage>), Error> {
        let Some(index) = self.index(name)? else { return Ok((0, Vec::new())) };
        let mut question = AddressMessage::default();
        question.header.index = index;
        let action = "list addresses";
        let answers = self.ask(action, RouteNetlinkMessage::GetAddress(question), NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        Ok((index, answers))
    }

    pub(crate) fn ports_of(&mut self, bridge: &IfName) -> Result<Vec<IfName>, Error> {
        let Some(index) = self.index(bridge)? else { return Ok(Vec::new()) };
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::Controller(index));
        let action = "list the ports of a bridge";
        let answers = self.ask(action, RouteNetlinkMessage::GetLink(question), NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        Ok(answers.into_iter().filter_map(|answer| port_of(answer, index)).collect())
    }

    /// All links of the namespace, by index.
    pub(crate) fn links(&mut self) -> Result<Vec<(IfName, LinkState)>, Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let action = "list links";
        let answers = self.ask(action, RouteNetlinkMessage::GetLink(question), NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        let mut links: Vec<_> = answers.into_iter().filter_map(named_state).collect();
        links.sort_by_key(|(_, state)| state.index);
        Ok(links)
    }

    /// Asks the way to an address far away, in IPv4 first; the link it leaves by has the MTU.
    pub(crate) fn underlay_mtu(&mut self) -> Result<Option<u32>, Error> {
        let far: [IpAddr; 2] =
            [Ipv4Addr::new(192, 88, 99, 1).into(), Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).into()];
        for address in far {
            if let Some(index) = self.way_to(address)?.and_then(|(_, index)| index) {
                return Ok(self.link_at(index)?.map(|(_, state)| state.mtu));
            }
        }
        Ok(None)
    }

    /// The link that the default route leaves by, in IPv4 first; none without a default route.
    pub(crate) fn default_link(&mut self) -> Result<Option<(IfName, LinkState)>, Error> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            if let Some(index) = self.default_route_of(family)? {
                return self.link_at(index);
            }
        }
        Ok(None)
    }

    /// The index that the main table's default route with the least metric leaves by.
    fn default_route_of(&mut self, family: AddressFamily) -> Result<Option<u32>, Error> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.attributes.push(RouteAttribute::Table(RT_TABLE_MAIN));
        let action = "list routes";
        let answers = match self.ask(action, RouteNetlinkMessage::GetRoute(question), NLM_F_DUMP)? {
            Ok(answers) => answers,
            // A table without routes of the family does not exist.
            Err(refusal) if [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&refusal.errno) => {
                return Ok(None);
            }
            Err(refusal) => return Err(Error::Unanswered { action, refusal }),
        };
        Ok(answers.into_iter().filter_map(default_route).min().map(|(_, index)| index))
    }

    pub(super) fn link_at(&mut self, index: u32) -> Result<Option<(IfName, LinkState)>, Error> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        let action = "look up a link";
        let answers = self.ask(action, RouteNetlinkMessage::GetLink(question), 0)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        Ok(answers.into_iter().find_map(named_state))
    }

    /// Whether an address is one of this namespace's own.
    pub(crate) fn is_local(&mut self, address: IpAddr) -> Result<bool, Error> {
        Ok(self.way_to(address)?.is_some_and(|(kind, _)| kind == RouteType::Local))
    }

    fn way_to(&mut self, address: IpAddr) -> Result<Option<(RouteType, Option<u32>)>, Error> {
        let mut question = RouteMessage::default();
        let (family, length, destination) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(v6)),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = length;
        question.attributes.push(RouteAttribute::Destination(destination));
        let action = "look up a route";
        match self.ask(action, RouteNetlinkMessage::GetRoute(question), 0)? {
            Ok(answers) => Ok(answers.into_iter().find_map(way)),
            Err(refusal)
                if [ENETUNREACH, EHOSTUNREACH, ESRCH, EINVAL, EADDRNOTAVAIL, libc::EACCES]
                    .contains(&refusal.errno) =>
            {
                Ok(None)
            }
            Err(refusal) => Err(Error::Unanswered { action, refusal }),
        }
    }
}

fn way(message: RouteNetlinkMessage) -> Option<(RouteType, Option<u32>)> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let oif = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Some((route.header.kind, oif))
}

/// A default route's metric and the link that it leaves by.
pub(crate) fn default_route(message: RouteNetlinkMessage) -> Option<(u32, u32)> {
    let RouteNetlinkMessage::NewRoute(route) = &message else { return None };
    let is_default = route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast;
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let (_, index) = way(message).filter(|_| is_default)?;
    Some((metric.unwrap_or_default(), index?))
}

/// `RT_TABLE_MAIN`.
const RT_TABLE_MAIN: u32 = 254;

fn named_state(message: RouteNetlinkMessage) -> Option<(IfName, LinkState)> {
    Some((name_of(message.clone())?, link_state(message)?))
}

fn link_state(message: RouteNetlinkMessage) -> Option<LinkState> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let mut state = LinkState {
        index: link.header.index,
        up: link.header.flags.contains(LinkFlags::Up),
        promisc: link.header.flags.contains(LinkFlags::Promisc),
        allmulti: link.header.flags.contains(LinkFlags::Allmulti),
        ..LinkState::default()
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => state.mtu = mtu,
            LinkAttribute::Address(bytes) => state.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac),
            LinkAttribute::OperState(operational) => state.carries = operational == State::Up,
            LinkAttribute::TxQueueLen(length) => state.tx_queue_len = length,
            LinkAttribute::IfAlias(alias) => state.alias = Some(alias),
            LinkAttribute::Controller(index) => state.master = Some(index),
            LinkAttribute::Link(index) => state.peer = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                state.kind = kind_of(&infos);
                state.vlans = vlans_of(&infos);
                state.vrf_table = vrf_table_of(&infos);
                state.port = port_flags_of(&infos);
            }
            _ => {}
        }
    }
    Some(state)
}

fn kind_of(infos: &[LinkInfo]) -> String {
    infos
        .iter()
        .find_map(|info| match info {
            LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        })
        .unwrap_or_default()
}

fn vlans_of(infos: &[LinkInfo]) -> Option<BridgeVlans> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
        _ => None,
    })?;
    let default = data.iter().find_map(|part| match part {
        InfoBridge::VlanDefaultPvid(number) => Some(VlanId::new((*number).into())),
        _ => None,
    })?;
    Some(BridgeVlans { filtering: data.contains(&InfoBridge::VlanFiltering(true)), default })
}

fn vrf_table_of(infos: &[LinkInfo]) -> Option<u32> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vrf(data)) => Some(data),
        _ => None,
    })?;
    data.iter().find_map(|part| match part {
        InfoVrf::TableId(table) => Some(*table),
        _ => None,
    })
}

fn port_flags_of(infos: &[LinkInfo]) -> Option<PortFlags> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => Some(data),
        _ => None,
    })?;
    let mut flags = PortFlags::default();
    for part in data {
        match part {
            InfoBridgePort::HairpinMode(on) => flags.hairpin = Some(*on),
            InfoBridgePort::Isolated(on) => flags.isolated = Some(*on),
            _ => {}
        }
    }
    Some(flags)
}

fn name_of(message: RouteNetlinkMessage) -> Option<IfName> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}

fn port_of(message: RouteNetlinkMessage, bridge: u32) -> Option<IfName> {
    let RouteNetlinkMessage::NewLink(link) = &message else { return None };
    let of_bridge = link.attributes.contains(&LinkAttribute::Controller(bridge));
    if of_bridge { name_of(message) } else { None }
}

/// None for an address that does not last.
fn lasting_flags(message: &RouteNetlinkMessage) -> Option<AddressFlags> {
    let RouteNetlinkMessage::NewAddress(address) = message else { return None };
    let is_global = address.header.scope == AddressScope::Universe;
    let flags = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.filter(|flags| is_global && flags.contains(KernelFlags::Permanent))?;
    Some(AddressFlags {
        nodad: flags.contains(KernelFlags::Nodad),
        no_subnet_route: flags.contains(KernelFlags::Noprefixroute),
    })
}

pub(crate) fn address_of(message: RouteNetlinkMessage, index: u32) -> Option<IpNetwork> {
    let RouteNetlinkMessage::NewAddress(address) = message else { return None };
    if address.header.index != index {
        return None;
    }
    let local = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(*local),
        _ => None,
    });
    let any = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNetwork::new(local.or(any)?, address.header.prefix_len).ok()
}

/// Every question about a link asked of one message: never panics.
pub(super) fn fuzz(message: &RouteNetlinkMessage) {
    let index = match message {
        RouteNetlinkMessage::NewLink(link) => link.header.index,
        RouteNetlinkMessage::NewAddress(address) => address.header.index,
        _ => way(message.clone()).and_then(|(_, index)| index).unwrap_or_default(),
    };
    let _ = default_route(message.clone());
    let _ = (link_state(message.clone()), name_of(message.clone()), port_of(message.clone(), index));
    let _ = (address_of(message.clone(), index), super::routes::routes_of(message.clone(), index));
}
