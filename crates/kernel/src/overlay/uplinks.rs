//! Links that routers of this host may be on. A link to containers is none: one of them would become its router.

use std::collections::BTreeSet;

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use zeugma_model::IfName;

use super::observe::Seen;

/// What all links of ours are marked with, whatever made them.
const MARK: &str = "zeugma";

/// How a link may lead out of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outward {
    /// A card, which has no kind, or several as one.
    Card,
    /// A VLAN of the link with this index.
    Vlan(u32),
    /// To containers as well as out: its addresses tell.
    Either,
}

/// None for what never does: bridges, ports of other links, tunnels, and what is ours.
pub(super) fn outward(link: &LinkMessage) -> Option<Outward> {
    let (mut kind, mut below) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Controller(index) if *index != 0 => return None,
            LinkAttribute::IfAlias(alias) if alias.starts_with(MARK) => return None,
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkInfo(infos) => kind = kind_of(infos),
            _ => {}
        }
    }
    match kind {
        None if link.header.flags.contains(LinkFlags::Loopback) => None,
        None | Some(InfoKind::Bond | InfoKind::Team) => Some(Outward::Card),
        Some(InfoKind::Vlan) => Some(below.map_or(Outward::Either, Outward::Vlan)),
        Some(InfoKind::Veth | InfoKind::MacVlan | InfoKind::IpVlan) => Some(Outward::Either),
        Some(_) => None,
    }
}

fn kind_of(infos: &[LinkInfo]) -> Option<&InfoKind> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

/// Those that lead out, by what they are or as other hosts are reached by them.
pub(super) fn uplinks<'a>(seen: &'a Seen, ways: &'a BTreeSet<IfName>) -> impl Iterator<Item = &'a IfName> {
    let is_card = |index| {
        let below = seen.names.get(&index).and_then(|name| seen.outward.get(name));
        below == Some(&Outward::Card)
    };
    let leads_out = move |name: &IfName, outward| match outward {
        Outward::Card => true,
        Outward::Vlan(below) => is_card(below) || ways.contains(name),
        Outward::Either => ways.contains(name),
    };
    let outward = seen.outward.iter();
    outward.filter(move |(name, outward)| leads_out(name, **outward)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link with the index; `index` 1 is lo.
    fn link(index: u32, name: &str, kind: Option<InfoKind>, more: &[LinkAttribute]) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if index == 1 { LinkFlags::Loopback } else { LinkFlags::Up };
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
        message.attributes.extend_from_slice(more);
        message
    }

    #[test]
    fn links_that_lead_out_are_cards_and_what_other_hosts_are_reached_by() {
        use LinkAttribute::{Controller, IfAlias, Link};
        let mut seen = Seen::default();
        for message in [
            link(1, "lo", None, &[]),
            link(2, "card", None, &[]),
            link(3, "in-bond", None, &[Controller(4)]),
            link(4, "bond", Some(InfoKind::Bond), &[]),
            link(5, "on-bond", Some(InfoKind::Vlan), &[Link(4)]),
            link(6, "bridge", Some(InfoKind::Bridge), &[]),
            link(7, "on-bridge", Some(InfoKind::Vlan), &[Link(6)]),
            link(8, "tap", Some(InfoKind::Tun), &[]),
            link(9, "way", Some(InfoKind::Veth), &[Link(2)]),
            link(10, "free", Some(InfoKind::Veth), &[Link(2)]),
            link(11, "ours", Some(InfoKind::Veth), &[IfAlias("zeugma net/c/eth0".into())]),
            link(12, "tunnel", Some(InfoKind::Wireguard), &[]),
        ] {
            seen.take_link(&message);
        }
        let ways = ["way", "bridge", "ours", "tunnel", "in-bond"].map(|name| name.parse().unwrap()).into();
        let found: Vec<&str> = uplinks(&seen, &ways).map(IfName::as_str).collect();
        assert_eq!(found, ["bond", "card", "on-bond", "way"]);
        seen.take_link(&link(2, "card", None, &[Controller(6)]));
        assert_eq!(uplinks(&seen, &ways).count(), 3);
    }
}
