//! Links, addresses, routes, sysctls and limits, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{AttachmentId, IfName};
use zeugma_plan::{Link, LinkChange, LinkKind, Master, PortFlags, PortVlans, Shaper, Side, Step, Sysctl};

use super::{Diff, Problem};
use crate::links::{
    BRIDGE_ALIAS, Bridge, GATEWAY_ALIAS, Limited, Port, Routed, VlanGateway, excludes, host_route,
    host_veth_flags, port_vlans, quiet_ipv6,
};
use crate::{Desired, LinkSeen, Observed};

/// Links first, then what needs them.
pub(super) fn compare(diff: &mut Diff, desired: &Desired, observed: &Observed) {
    let (mut made, strangers) = (BTreeSet::new(), strangers(desired, observed));
    for (name, bridge) in &desired.bridges {
        if compare_bridge(diff, (name, bridge), observed, &strangers) {
            made.insert(name);
        }
    }
    for (name, gateway) in &desired.gateways {
        compare_gateway(diff, (name, gateway), observed, &made, &strangers);
    }
    for (name, port) in &desired.links {
        compare_port(diff, name, port, observed, &made);
    }
    for (name, routed) in &desired.routed {
        compare_routed(diff, name, routed, observed);
    }
    for (veth, limited) in &desired.limits {
        compare_limits(diff, veth, limited, observed);
    }
    for path in &desired.switches {
        let is_wrong = observed.sysctls.get(path).is_some_and(|value| value != "1");
        let of_new_bridge = made.iter().any(|name| *path == crate::route_localnet(name, true).path);
        if is_wrong || of_new_bridge {
            let on = Sysctl { path: path.clone(), value: "1".into(), optional: true };
            diff.push(Step::SetSysctl(Side::Host, on));
        }
    }
}

/// Addresses on links that are neither ours nor wanted by anybody: somebody moved them there.
type Strangers<'a> = BTreeMap<IpAddr, &'a IfName>;

fn strangers<'a>(desired: &Desired, observed: &'a Observed) -> Strangers<'a> {
    let is_stranger = |name: &IfName, link: &LinkSeen| {
        link.alias.is_empty() && !desired.bridges.contains_key(name) && !desired.gateways.contains_key(name)
    };
    let strangers = observed.links.iter().filter(|(name, link)| is_stranger(name, link));
    strangers
        .flat_map(|(name, link)| link.addresses.iter().map(move |address| (address.ip(), name)))
        .collect()
}

/// True when the plan makes it anew.
fn compare_bridge(
    diff: &mut Diff,
    (name, bridge): (&IfName, &Bridge),
    observed: &Observed,
    strangers: &Strangers<'_>,
) -> bool {
    let ours = bridge.made.as_ref().filter(|made| made.ours);
    let nothing = LinkSeen::default();
    let (seen, is_new) = match (observed.links.get(name), ours) {
        (Some(seen), _) if seen.kind != "bridge" => {
            let (wanted, there) = ("a bridge".into(), format!("a {}", seen.kind));
            diff.problems.push(Problem::OtherLink { name: name.clone(), wanted, there });
            return false;
        }
        (Some(seen), Some(_)) if seen.alias != BRIDGE_ALIAS => {
            let (wanted, there) = ("the bridge that zeugma made".into(), "one of somebody else".into());
            diff.problems.push(Problem::OtherLink { name: name.clone(), wanted, there });
            return false;
        }
        (Some(seen), _) => (seen, false),
        (None, None) => {
            diff.problems.push(Problem::BridgeGone(name.clone()));
            return false;
        }
        (None, Some(made)) => {
            diff.push(Step::CreateLink(Link {
                side: Side::Host,
                name: name.clone(),
                mtu: Some(made.mtu),
                mac: Some(made.mac),
                alias: Some(BRIDGE_ALIAS.into()),
                kind: LinkKind::Bridge { vlan_filtering: made.vlan_filtering },
            }));
            for sysctl in quiet_ipv6(name) {
                diff.push(Step::SetSysctl(Side::Host, sysctl));
            }
            (&nothing, true)
        }
    };
    let made = bridge.made.as_ref();
    let change = LinkChange {
        up: (!seen.up).then_some(true),
        promisc: (made.is_some_and(|made| made.promisc) && !seen.promisc).then_some(true),
        vlan_filtering: (!is_new && made.is_some_and(|made| made.vlan_filtering) && !seen.vlan_filtering)
            .then_some(true),
        ..LinkChange::default()
    };
    set(diff, name, change);
    compare_addresses(diff, name, &bridge.addresses, seen, strangers);
    is_new
}

fn set(diff: &mut Diff, name: &IfName, change: LinkChange) {
    if change != LinkChange::default() {
        diff.push(Step::SetLink(Side::Host, name.clone(), change));
    }
}

/// Of addresses of ours that exclude one another the one that is there stays, and where none is the first is added.
/// Other people's stay beside them. One that somebody moved to a link of theirs is told and left there.
fn compare_addresses(
    diff: &mut Diff,
    name: &IfName,
    wanted: &[IpNetwork],
    seen: &LinkSeen,
    strangers: &Strangers<'_>,
) {
    let mut there: Vec<IpNetwork> =
        wanted.iter().filter(|address| seen.addresses.contains(address)).copied().collect();
    for address in wanted {
        if there.iter().any(|has| has == address || excludes(*has, *address)) {
            continue;
        }
        if let Some(other) = strangers.get(&address.ip()) {
            let (name, other) = (name.clone(), IfName::clone(other));
            diff.problems.push(Problem::AddressMoved { address: address.ip(), name, other });
            continue;
        }
        diff.push(Step::AddAddress(Side::Host, name.clone(), *address, host_veth_flags()));
        there.push(*address);
    }
}

fn compare_gateway(
    diff: &mut Diff,
    (name, gateway): (&IfName, &VlanGateway),
    observed: &Observed,
    made: &BTreeSet<&IfName>,
    strangers: &Strangers<'_>,
) {
    let port = AttachmentId::gateway_port(name);
    let seen = observed.links.get(name);
    let nothing = LinkSeen::default();
    match seen {
        Some(_) => {
            let wanted = Port {
                alias: GATEWAY_ALIAS.into(),
                bridge: gateway.bridge.clone(),
                flags: PortFlags::default(),
                vlans: Some(port_vlans(&gateway.made.vlans)),
                is_alive: true,
            };
            compare_port(diff, &port, &wanted, observed, made);
        }
        None if !made.contains(&gateway.bridge) && !observed.links.contains_key(&gateway.bridge) => return,
        None => {
            diff.push(Step::CreateLink(Link {
                side: Side::Host,
                name: port.clone(),
                mtu: Some(gateway.made.mtu),
                mac: None,
                alias: Some(GATEWAY_ALIAS.into()),
                kind: LinkKind::Uplink {
                    peer: name.clone(),
                    peer_mac: gateway.made.mac,
                    master: gateway.bridge.clone(),
                },
            }));
            diff.push(Step::SetPortVlans(port, port_vlans(&gateway.made.vlans)));
            for sysctl in quiet_ipv6(name) {
                diff.push(Step::SetSysctl(Side::Host, sysctl));
            }
        }
    }
    let seen = seen.unwrap_or(&nothing);
    set(diff, name, LinkChange { up: (!seen.up).then_some(true), ..LinkChange::default() });
    compare_addresses(diff, name, &gateway.addresses, seen, strangers);
}

/// The link, where it is there and bears the mark.
fn ours<'a>(
    diff: &mut Diff,
    name: &IfName,
    (alias, is_alive): (&str, bool),
    observed: &'a Observed,
) -> Option<&'a LinkSeen> {
    let gone = || Problem::LinkGone { name: name.clone(), alias: alias.to_owned() };
    match observed.links.get(name) {
        Some(seen) if seen.alias == alias => Some(seen),
        Some(seen) => {
            let (wanted, there) = (format!("{alias:?}"), format!("{:?}", seen.alias));
            diff.problems.push(Problem::OtherLink { name: name.clone(), wanted, there });
            None
        }
        None => {
            diff.problems.extend(is_alive.then(gone));
            None
        }
    }
}

/// A link that joins a bridge has none of its settings as a port any more.
fn compare_port(diff: &mut Diff, name: &IfName, port: &Port, observed: &Observed, made: &BTreeSet<&IfName>) {
    let Some(seen) = ours(diff, name, (&port.alias, port.is_alive), observed) else { return };
    let is_new = made.contains(&port.bridge);
    let has_bridge = is_new || observed.links.get(&port.bridge).is_some_and(|bridge| bridge.kind == "bridge");
    set(diff, name, LinkChange { up: (!seen.up).then_some(true), ..LinkChange::default() });
    if !has_bridge {
        return;
    }
    let joins = is_new || seen.master.as_ref() != Some(&port.bridge);
    if joins {
        let master = Some(Master::Link(port.bridge.clone()));
        set(diff, name, LinkChange { master, ..LinkChange::default() });
    }
    let there =
        if joins { PortFlags { hairpin: Some(false), isolated: Some(false) } } else { seen.port.clone() };
    let differing =
        |wanted: Option<bool>, there: Option<bool>| wanted.filter(|wanted| there.unwrap_or(false) != *wanted);
    let flags = PortFlags {
        hairpin: differing(port.flags.hairpin, there.hairpin),
        isolated: differing(port.flags.isolated, there.isolated),
    };
    if flags != PortFlags::default() {
        set(diff, name, LinkChange { port: Some(flags), ..LinkChange::default() });
    }
    compare_vlans(diff, name, port.vlans.as_ref(), seen, joins);
}

fn compare_vlans(diff: &mut Diff, name: &IfName, wanted: Option<&PortVlans>, seen: &LinkSeen, joins: bool) {
    let Some(wanted) = wanted else { return };
    if joins || wanted.difference(&seen.vlans).is_some() {
        diff.push(Step::SetPortVlans(name.clone(), wanted.clone()));
    }
}

/// The kernel drops the routes of a link that is set down.
fn compare_routed(diff: &mut Diff, name: &IfName, routed: &Routed, observed: &Observed) {
    let Some(seen) = ours(diff, name, (&routed.alias, routed.is_alive), observed) else { return };
    set(diff, name, LinkChange { up: (!seen.up).then_some(true), ..LinkChange::default() });
    for address in routed.addresses.iter().filter(|address| !seen.addresses.contains(address)) {
        diff.push(Step::AddAddress(Side::Host, name.clone(), *address, host_veth_flags()));
    }
    for route in routed.routes.iter().filter(|route| !seen.routes.contains(route)) {
        diff.push(Step::AddRoute(Side::Host, host_route(route.ip(), name)));
    }
}

fn compare_limits(diff: &mut Diff, veth: &IfName, limited: &Limited, observed: &Observed) {
    // A veth that is gone is told of as a port or as routed to.
    let Some(seen) = observed.links.get(veth) else { return };
    if let Some(wanted) = &limited.ingress {
        compare_limit(diff, veth, wanted, seen);
    }
    let Some((ifb, wanted)) = &limited.egress else { return };
    match observed.links.get(ifb) {
        Some(there) if there.alias != limited.alias => {
            let (wanted, there) = (format!("{:?}", limited.alias), format!("{:?}", there.alias));
            diff.problems.push(Problem::OtherLink { name: ifb.clone(), wanted, there });
            return;
        }
        Some(there) => {
            compare_limit(diff, ifb, wanted, there);
            set(diff, ifb, LinkChange { up: (!there.up).then_some(true), ..LinkChange::default() });
        }
        None => {
            diff.push(Step::CreateLink(Link {
                side: Side::Host,
                name: ifb.clone(),
                mtu: Some(seen.mtu),
                mac: None,
                alias: Some(limited.alias.clone()),
                kind: LinkKind::Ifb,
            }));
            diff.push(Step::Shape(ifb.clone(), wanted.clone()));
            set(diff, ifb, LinkChange { up: Some(true), ..LinkChange::default() });
        }
    }
    if seen.redirected_to.as_ref() != Some(ifb) {
        // What is left of a redirection to an ifb that is gone drops all packets.
        diff.push(Step::EndRedirect(veth.clone()));
        diff.push(Step::Redirect(veth.clone(), ifb.clone()));
    }
}

fn compare_limit(diff: &mut Diff, link: &IfName, wanted: &Shaper, seen: &LinkSeen) {
    match seen.limit {
        Some(there) if there == wanted.state() => return,
        Some(_) => diff.push(Step::Unshape(link.clone())),
        None => {}
    }
    diff.push(Step::Shape(link.clone(), wanted.clone()));
}
